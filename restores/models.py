# SPDX-License-Identifier: GPL-3.0-or-later
"""What was restored from what, and whether equality was proven."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q
from django.urls import reverse

from portal.accounts.models import Team
from portal.accounts.roles import Capability, roles_with
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


class ApprovalQuerySet(models.QuerySet["Approval"]):
    def visible_to(self, user: User) -> ApprovalQuerySet:
        """Of restores that the person may see, and those that the person may decide."""
        if user.reaches_every_machine:
            return self
        restores = Restore.objects.visible_to(user).values("pk")
        return self.filter(Q(restore__in=restores) | Q(pk__in=self.decidable_by(user).values("pk")))

    def decidable_by(self, user: User) -> ApprovalQuerySet:
        """Those that a second person must decide and this person could be: never one's own order."""
        others = self.exclude(restore__job__requested_by=user)
        if user.is_platform_admin:
            return others
        if not user.is_active or not user.keeps(Capability.APPROVE):
            return self.none()
        teams = Team.objects.visible_to(user).filter(
            memberships__user=user, memberships__role__in=roles_with(Capability.APPROVE)
        )
        return others.filter(teams__in=teams.values("pk")).distinct()

    def undecided(self) -> ApprovalQuerySet:
        return self.filter(decided_at=None)


class Approval(models.Model):
    """A second person's consent to one restore: why it is needed, by when, who decided what, and why."""

    class Decision(models.TextChoices):
        APPROVED = "approved", "Approved"
        REFUSED = "refused", "Refused"
        EXPIRED = "expired", "Expired"

    restore = models.OneToOneField("restores.Restore", on_delete=models.CASCADE, related_name="approval")
    # Whose admins may decide.
    teams = models.ManyToManyField("accounts.Team", related_name="+")
    because = models.TextField()
    asked_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)
    decision = models.CharField(max_length=20, choices=Decision.choices, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.CharField(max_length=150, blank=True)
    decided_why = models.TextField(blank=True)

    objects = ApprovalQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"Approval of {self.restore}"

    def get_absolute_url(self) -> str:
        return reverse("restores:approval", args=[self.restore.uuid])


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
