# SPDX-License-Identifier: GPL-3.0-or-later
"""What was restored from what, and whether equality was proven."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q

from portal.environments.models import VirtualMachine

if TYPE_CHECKING:
    from portal.accounts.models import User


class RestoreQuerySet(models.QuerySet["Restore"]):
    def visible_to(self, user: User) -> RestoreQuerySet:
        """Those from VMs that the person may see, and those asked for by the person."""
        if user.reaches_every_machine:
            return self
        if not user.is_active:
            return self.none()
        found = Q(point__vm__in=VirtualMachine.objects.visible_to(user))
        if user.counts_beyond_teams:
            found |= Q(job__requested_by=user)
        return self.filter(found)


class Restore(models.Model):
    """One restore. `plan` is exactly what the person agreed to."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    job = models.OneToOneField("jobs.Job", on_delete=models.CASCADE, related_name="restore")
    point = models.ForeignKey("backups.RestorePoint", on_delete=models.PROTECT, related_name="restores")
    method = models.CharField(max_length=30)
    target_name = models.CharField(max_length=255)
    plan = models.JSONField(default=dict)
    plan_hash = models.CharField(max_length=64)
    new_vm_id = models.UUIDField(null=True, blank=True)
    proven_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RestoreQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.point} as {self.target_name}"
