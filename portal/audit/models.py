# SPDX-License-Identifier: GPL-3.0-or-later
"""What was done, by whom, to what, and the chain of seals over it. Rows are only ever added (docs/audit.md).

The classes here refuse changes made through Django; triggers in the database refuse all others (guards.py).
"""

from __future__ import annotations

import uuid
from typing import Any, Never

from django.conf import settings
from django.db import models

from portal.audit import canonical
from portal.errors import PortalError


class AuditIsAppendOnly(PortalError):
    """Somebody tried to change or delete audit entries."""


class AppendOnlyQuerySet(models.QuerySet[Any]):
    def update(self, **kwargs: Any) -> Never:
        raise AuditIsAppendOnly("Audit entries cannot be changed; nothing was changed.")

    def delete(self) -> Never:
        raise AuditIsAppendOnly("Audit entries cannot be deleted; nothing was deleted.")

    def bulk_create(self, objs: Any, *args: Any, **kwargs: Any) -> Any:
        """Only plain insertions: with `update_conflicts` rows would be changed."""
        if args or kwargs.keys() - {"batch_size"} or any(getattr(row, "id", None) for row in objs):
            raise AuditIsAppendOnly("Audit entries are only ever added; nothing was changed.")
        return super().bulk_create(objs, **kwargs)

    def bulk_update(self, *args: Any, **kwargs: Any) -> Never:
        raise AuditIsAppendOnly("Audit entries cannot be changed; nothing was changed.")


class AppendOnly(models.Model):
    """A row that is written once."""

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding or getattr(self, "id", None):
            raise AuditIsAppendOnly("Audit entries cannot be changed; nothing was changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Never:
        raise AuditIsAppendOnly("Audit entries cannot be deleted; nothing was deleted.")


class AuditEntry(AppendOnly):
    """One entry. Names are copied, so that deleting a person or a VM does not blank history.

    `vm` and `teams` (uuids) are those it was about at that time: they say who may read it. `version` is that of
    the canonical form by which it is sealed.
    """

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
    version = models.PositiveSmallIntegerField(default=canonical.VERSION)
    vm = models.UUIDField(null=True)
    teams = models.JSONField(default=list)
    ticket = models.CharField(max_length=100, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["actor_name", "-id"], name="entries_of_actor"),
            models.Index(fields=["action", "-id"], name="entries_of_action"),
            models.Index(fields=["vm", "-id"], name="entries_of_vm"),
            models.Index(fields=["ticket", "-id"], name="entries_of_ticket"),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor_name} {self.action} {self.object_label}"


class AuditEntryTeam(AppendOnly):
    """`AuditEntry.teams` once more, to look entries up by; the verifier compares the two."""

    entry = models.ForeignKey(AuditEntry, on_delete=models.PROTECT, related_name="team_links")
    team = models.UUIDField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "entry"], name="team_once_on_an_entry")]

    def __str__(self) -> str:
        return f"{self.entry_id} of team {self.team}"


class AuditUnsealed(models.Model):
    """Entries that wait for their seal: made with the entry, gone with its seal. Finding them reads no history."""

    entry = models.OneToOneField(
        AuditEntry, primary_key=True, on_delete=models.PROTECT, related_name="unsealed"
    )

    def __str__(self) -> str:
        return f"Entry {self.entry_id} waits for its seal"


class AuditSeal(AppendOnly):
    """Link `sequence` of the chain: 1, 2, 3 … without gaps, in the order of sealing. Hashes are SHA-256 in hex."""

    sequence = models.BigIntegerField(primary_key=True)
    entry = models.OneToOneField(AuditEntry, on_delete=models.PROTECT, related_name="seal")
    digest = models.CharField(max_length=64)
    previous = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        ordering = ["sequence"]

    def __str__(self) -> str:
        return f"{self.sequence} {self.hash}"


class AuditAnchor(AppendOnly):
    """A note that the head of the chain was written to a place outside this database. The place has the proof."""

    at = models.DateTimeField()
    place = models.CharField(max_length=64)
    place_name = models.CharField(max_length=255)
    sequence = models.BigIntegerField()
    hash = models.CharField(max_length=64)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["place", "-id"], name="anchors_of_place")]

    def __str__(self) -> str:
        return f"{self.sequence} {self.hash} in {self.place_name}"


class AuditVerification(AppendOnly):
    """One look at the whole chain: how many entries, the head then, the first problem in words if there was one."""

    at = models.DateTimeField()
    entries = models.BigIntegerField()
    hash = models.CharField(max_length=64, blank=True)
    anchors = models.PositiveIntegerField()
    seconds = models.FloatField()
    problem = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} UTC: {self.problem or 'whole'}"
