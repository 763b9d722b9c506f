# SPDX-License-Identifier: GPL-3.0-or-later
"""Where restore points are kept, and what each of them is."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q
from django.urls import reverse

from backups.store.errors import PointCorrupt
from backups.store.repository import PointRef
from backups.store.repository import Repository as Store
from backups.store.stored import StoredPoint
from portal.accounts.roles import Capability
from portal.environments.models import VirtualMachine

if TYPE_CHECKING:
    from portal.accounts.models import User


class Repository(models.Model):
    """A folder in the repository format (docs/store-format.md): its own deduplication and trust domain."""

    uuid = models.UUIDField(unique=True, editable=False)
    name = models.CharField(max_length=120, unique=True)
    path = models.CharField(max_length=500, unique=True)
    is_default = models.BooleanField(default=False)
    total_bytes = models.BigIntegerField(null=True, blank=True)
    free_bytes = models.BigIntegerField(null=True, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)
    problem = models.TextField(blank=True)
    problem_code = models.CharField(max_length=60, blank=True)
    trash_days = models.PositiveIntegerField(
        default=14, help_text="How long deleted restore points stay in the trash"
    )
    collected_at = models.DateTimeField(null=True, blank=True)
    collect_problem = models.TextField(blank=True)
    collected_chunks = models.BigIntegerField(null=True, blank=True)
    collected_bytes = models.BigIntegerField(null=True, blank=True)
    verified_at = models.DateTimeField(null=True, blank=True)
    verify_problem = models.TextField(blank=True)
    verified_chunks = models.BigIntegerField(null=True, blank=True)
    bad_chunks = models.BigIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-is_default", "name"]
        verbose_name_plural = "repositories"

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("backups:repository", args=[self.uuid])

    def open(self) -> Store:
        """The store itself, its uuid compared. Raises RepositoryMissing, RepositoryMismatch, …"""
        return Store.open(Path(self.path), expected_uuid=self.uuid)

    @property
    def collect_lock_key(self) -> str:
        return f"collect:{self.uuid}"

    @property
    def verify_lock_key(self) -> str:
        return f"verify:{self.uuid}"


class RepositoryMeasurement(models.Model):
    """How full a repository was. `bytes_used` and `chunks` count its chunks, estimated from a sample if there
    are many; `bytes_free` and `bytes_total` are the file system's, which others may share."""

    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="measurements")
    at = models.DateTimeField()
    bytes_used = models.BigIntegerField()
    bytes_free = models.BigIntegerField()
    bytes_total = models.BigIntegerField()
    points = models.PositiveIntegerField()
    chunks = models.BigIntegerField()

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [models.Index(fields=["repository", "-at"], name="measurements_of_repository")]

    def __str__(self) -> str:
        return f"{self.repository}, {self.at:%Y-%m-%d %H:%M} UTC"


OTHER_MANIFEST = (
    "The manifest.json of this restore point is not the one that was published: it was changed, or all of the "
    "point's files were exchanged. They were left as they are."
)


class RestorePointQuerySet(models.QuerySet["RestorePoint"]):
    def visible_to(self, user: User) -> RestorePointQuerySet:
        """Those of VMs that the person may see."""
        if user.reaches_every_machine:
            return self
        return self.filter(vm__in=VirtualMachine.objects.visible_to(user))

    def kept(self) -> RestorePointQuerySet:
        """Not deleted; rows of deleted points stay as tombstones."""
        return self.filter(deleted_at=None)

    def in_trash(self) -> RestorePointQuerySet:
        """Deleted, and still to be had back."""
        return self.filter(deleted_at__isnull=False, purged_at=None)

    def expirable(self) -> RestorePointQuerySet:
        """Those that retention may delete: neither pinned nor held."""
        return self.kept().filter(pinned_at=None, held_at=None)


class RestorePoint(models.Model):
    """One VM at one moment, complete in itself. A row is only ever made from a published manifest."""

    class Mode(models.TextChoices):
        FULL = "full", "Full"
        INCREMENTAL = "incremental", "Incremental"
        MIXED = "mixed", "Mixed"

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    repository = models.ForeignKey(Repository, on_delete=models.PROTECT, related_name="points")
    vm = models.ForeignKey(VirtualMachine, on_delete=models.PROTECT, related_name="points")
    job = models.ForeignKey(
        "jobs.Job", null=True, blank=True, on_delete=models.SET_NULL, related_name="points"
    )
    taken_at = models.DateTimeField(db_index=True)
    method = models.CharField(max_length=30)
    mode = models.CharField(max_length=20, choices=Mode.choices)
    reason = models.TextField(blank=True)
    vm_name = models.CharField(max_length=255)
    vm_was_up = models.BooleanField()
    consistency = models.CharField(max_length=20)
    consistency_evidence = models.TextField(blank=True)
    # Disks that the machine had and this point has not: {"disk_id", "alias", "reason"}, as in the manifest.
    excluded_disks = models.JSONField(default=list)
    checkpoint_id = models.UUIDField(null=True, blank=True)
    from_checkpoint_id = models.UUIDField(null=True, blank=True)
    size_bytes = models.BigIntegerField()
    bytes_read = models.BigIntegerField()
    bytes_stored = models.BigIntegerField()
    dirty_bytes = models.BigIntegerField(null=True, blank=True)
    duration_seconds = models.FloatField()
    manifest_sha256 = models.CharField(max_length=64)
    # Bytes of its chunks that are not zeros; None for points of before this was counted (backups/quotas.py).
    referenced_bytes = models.BigIntegerField(null=True, blank=True)
    # Uuids of the teams that the machine belonged to then; empty for imported points, where nobody knows.
    teams_then = models.JSONField(default=list)
    # The environment whose uuid the point's folder bears, if the Manager was added anew since it was made.
    stored_environment = models.UUIDField(null=True, blank=True)
    verified_at = models.DateTimeField(null=True, blank=True)
    verify_problem = models.TextField(blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)
    deleted_by = models.CharField(max_length=150, blank=True)
    deleted_why = models.TextField(blank=True)
    purged_at = models.DateTimeField(null=True, blank=True)
    pinned_at = models.DateTimeField(null=True, blank=True)
    pinned_by = models.CharField(max_length=150, blank=True)
    pinned_why = models.TextField(blank=True)
    held_at = models.DateTimeField(null=True, blank=True)
    held_by = models.CharField(max_length=150, blank=True)
    held_why = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RestorePointQuerySet.as_manager()

    class Meta:
        ordering = ["-taken_at", "-id"]
        indexes = [
            models.Index(fields=["vm", "-taken_at"], name="points_of_vm"),
            models.Index(fields=["repository", "-taken_at", "-id"], name="points_of_repository"),
        ]

    def __str__(self) -> str:
        return f"{self.vm_name}, {self.taken_at:%Y-%m-%d %H:%M} UTC"

    def get_absolute_url(self) -> str:
        return reverse("backups:point", args=[self.uuid])

    @property
    def lock_key(self) -> str:
        return f"point:{self.uuid}"

    @property
    def audited_vm(self) -> VirtualMachine:
        return self.vm

    @property
    def ref(self) -> PointRef:
        """Where its files are, if the row is right about the trash."""
        vm = self.vm
        environment = self.stored_environment or vm.environment.uuid
        return PointRef(str(environment), str(vm.manager_id), str(self.uuid), self.deleted_at is not None)

    def open(self) -> StoredPoint:
        """The point's files, as they were when the row was made. Raises StoreError."""
        return self.unchanged(self.repository.open().open_ref(self.ref))

    def unchanged(self, stored: StoredPoint) -> StoredPoint:
        """`stored`, if its manifest is the one that this row was made from.

        Files that were exchanged together (manifest, indexes and marks) agree with each other; only the row knows
        that they are others. Raises PointCorrupt.
        """
        if stored.manifest_sha256 != self.manifest_sha256:
            raise PointCorrupt(
                OTHER_MANIFEST, hint="Put the files back from a copy, or choose another restore point."
            )
        return stored

    def allows(self, user: User, capability: Capability) -> bool:
        return self.vm.allows(user, capability)


class RestorePointDisk(models.Model):
    point = models.ForeignKey(RestorePoint, on_delete=models.CASCADE, related_name="disks")
    manager_id = models.UUIDField()
    alias = models.CharField(max_length=255)
    position = models.PositiveIntegerField(default=0)
    size_bytes = models.BigIntegerField()
    format = models.CharField(max_length=10)
    bootable = models.BooleanField(default=False)
    mode = models.CharField(max_length=20, choices=RestorePoint.Mode.choices)
    reason = models.TextField(blank=True)
    bytes_read = models.BigIntegerField()
    bytes_stored = models.BigIntegerField()
    dirty_bytes = models.BigIntegerField(null=True, blank=True)
    chunk_size = models.BigIntegerField()
    index_file = models.CharField(max_length=200)
    digest = models.CharField(max_length=64)

    class Meta:
        ordering = ["position", "id"]
        constraints = [models.UniqueConstraint(fields=["point", "manager_id"], name="disk_once_in_a_point")]

    def __str__(self) -> str:
        return self.alias


def default_repository() -> Repository | None:
    return Repository.objects.filter(Q(is_default=True)).first() or Repository.objects.first()
