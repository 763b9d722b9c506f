# SPDX-License-Identifier: GPL-3.0-or-later
"""What was done, by whom, to what. Rows are only ever added."""

from __future__ import annotations

import uuid
from typing import Any, Never

from django.conf import settings
from django.db import models

from portal.errors import PortalError


class AuditIsAppendOnly(PortalError):
    """Somebody tried to change or delete audit entries."""


class AuditQuerySet(models.QuerySet["AuditEntry"]):
    def update(self, **kwargs: Any) -> Never:
        raise AuditIsAppendOnly("Audit entries cannot be changed; nothing was changed.")

    def delete(self) -> Never:
        raise AuditIsAppendOnly("Audit entries cannot be deleted; nothing was deleted.")

    def bulk_create(self, objs: Any, *args: Any, **kwargs: Any) -> Any:
        """Only plain insertions: with `update_conflicts` rows would be changed."""
        if args or kwargs.keys() - {"batch_size"} or any(entry.pk is not None for entry in objs):
            raise AuditIsAppendOnly("Audit entries are only ever added; nothing was changed.")
        return super().bulk_create(objs, **kwargs)

    def bulk_update(self, *args: Any, **kwargs: Any) -> Never:
        raise AuditIsAppendOnly("Audit entries cannot be changed; nothing was changed.")


class AuditEntry(models.Model):
    """One entry. Names are copied, so that deleting a person or a VM does not blank history."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    at = models.DateTimeField(auto_now_add=True, db_index=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
    )
    actor_name = models.CharField(max_length=150)
    via = models.CharField(max_length=20)
    action = models.CharField(max_length=60, db_index=True)
    object_type = models.CharField(max_length=60, blank=True)
    object_id = models.CharField(max_length=64, blank=True, db_index=True)
    object_label = models.CharField(max_length=255, blank=True)
    request_id = models.CharField(max_length=36, blank=True)
    address = models.GenericIPAddressField(null=True)
    data = models.JSONField(default=dict)

    objects = AuditQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor_name} {self.action} {self.object_label}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk is not None:
            raise AuditIsAppendOnly("Audit entries cannot be changed; nothing was changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Never:
        raise AuditIsAppendOnly("Audit entries cannot be deleted; nothing was deleted.")
