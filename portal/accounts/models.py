# SPDX-License-Identifier: GPL-3.0-or-later
"""People, teams, and who belongs where."""

from __future__ import annotations

import uuid
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.urls import reverse
from django.utils.functional import cached_property

from portal.accounts.limits import Limits
from portal.accounts.roles import Capability, Role, roles_with


class User(AbstractUser):
    """A person, or a service account. `is_superuser` is the platform admin of the rights in roles.py.

    `limits` are those of the token by which this request came in; None for a person at a page.
    """

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    is_service = models.BooleanField(
        "service account",
        default=False,
        help_text="A program: it has no password, cannot sign in, and is known by its tokens alone.",
    )
    admin_by_group = models.BooleanField(
        default=False,
        editable=False,
        help_text="Platform admin as long as a group elsewhere says so (groups.py).",
    )
    limits: Limits | None = None

    @property
    def is_platform_admin(self) -> bool:
        """May do what only platform admins may: Managers, repositories, people, settings."""
        admin_here = self.limits is None or (self.limits.admin and self.limits.team_id is None)
        return self.is_active and self.is_superuser and admin_here

    @property
    def reaches_every_machine(self) -> bool:
        """Sees all machines without a role on any: a platform admin, unless a token ties them to one team."""
        tied = self.limits is not None and self.limits.team_id is not None
        return self.is_active and self.is_superuser and not tied

    def keeps(self, capability: Capability) -> bool:
        """Whether this request's token, if any, leaves the capability. Says nothing about roles."""
        return self.limits is None or capability in self.limits.capabilities

    @property
    def team_filter(self) -> dict[str, Any]:
        """Narrows machines to the teams that count in this request: `{"teams__memberships__user": …}`."""
        tied = {"teams": self.limits.team_id} if self.limits and self.limits.team_id is not None else {}
        return {"teams__memberships__user": self, **tied}

    @cached_property
    def is_here_for_machines_alone(self) -> bool:
        """In no team and no admin: knows single machines at most, and gets pages of one's own for them."""
        return not self.is_superuser and not self.memberships.exists()

    @property
    def counts_beyond_teams(self) -> bool:
        """Grants on single machines and one's own jobs count too: not for a token tied to one team."""
        return self.limits is None or self.limits.team_id is None

    def audited_teams(self) -> list[UUID]:
        """Whose auditors read what is recorded about this person."""
        return list(Team.objects.filter(memberships__user=self).values_list("uuid", flat=True))

    @property
    def display_name(self) -> str:
        return self.get_full_name() or self.username


class TeamQuerySet(models.QuerySet["Team"]):
    def visible_to(self, user: User) -> TeamQuerySet:
        """Those that the person is in; platform admins see all. A token of one team shows that one."""
        if user.reaches_every_machine:
            return self
        if not user.is_active:
            return self.none()
        found = self.filter(memberships__user=user)
        return found if user.counts_beyond_teams else found.filter(pk=user.limits.team_id)  # type: ignore[union-attr]


class Team(models.Model):
    class Approval(models.TextChoices):
        """Which restores of the team's machines wait for a second person."""

        NEVER = "never", "None"
        CROSSING = "crossing", "Those from a time when the machine was another team's"
        EVERY = "every", "Every restore"

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=120, unique=True)
    approval = models.CharField(max_length=20, choices=Approval.choices, default=Approval.NEVER)
    # None: as much as there is room for (backups/quotas.py says what is counted).
    quota_points = models.PositiveIntegerField(null=True, blank=True)
    quota_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    quota_restores = models.PositiveIntegerField(null=True, blank=True)
    members: models.ManyToManyField[User, Membership] = models.ManyToManyField(
        User, through="Membership", related_name="teams"
    )

    objects = TeamQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("teams:team", args=[self.uuid])

    def allows(self, user: User, capability: Capability) -> bool:
        """Whether the person holds a role with `capability` in this team; platform admins hold all."""
        if user.is_platform_admin:
            return True
        if not user.keeps(capability) or not Team.objects.visible_to(user).filter(pk=self.pk).exists():
            return False
        return self.memberships.filter(user=user, role__in=roles_with(capability)).exists()

    def audited_teams(self) -> list[UUID]:
        return [self.uuid]


class Membership(models.Model):
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    # What counts: the stronger of the two below.
    role = models.CharField(max_length=20, choices=Role.choices, default=Role.VIEWER)
    by_hand = models.CharField(max_length=20, choices=Role.choices, blank=True, editable=False)
    by_group = models.CharField(max_length=20, choices=Role.choices, blank=True, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "user"], name="one_role_in_a_team")]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.team}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """A role that is saved was given by hand; groups.py writes past this."""
        self.by_hand = self.role
        if kwargs.get("update_fields") is not None:
            kwargs["update_fields"] = {*kwargs["update_fields"], "by_hand"}
        super().save(*args, **kwargs)


class AttemptCounter(models.Model):
    """Wrong attempts to sign in since the window began (attempts.py). `key` is a digest, so that no list of typed
    names lies around: people type passwords there."""

    key = models.CharField(max_length=64, primary_key=True)
    count = models.PositiveIntegerField(default=0)
    until = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.count} until {self.until:%H:%M:%S}"


class GroupRule(models.Model):
    """Who is in this group of another system has this role in this team, or is platform admin (no team)."""

    class Source(models.TextChoices):
        OIDC = "oidc", "OpenID Connect"
        LDAP = "ldap", "LDAP"

    source = models.CharField("known from", max_length=10, choices=Source.choices)
    group = models.CharField(max_length=255)
    team = models.ForeignKey(
        Team, null=True, blank=True, on_delete=models.CASCADE, related_name="group_rules"
    )
    role = models.CharField(max_length=20, choices=Role.choices, blank=True)

    class Meta:
        ordering = ["source", "group", "team__name"]
        constraints = [
            models.UniqueConstraint(fields=["source", "group", "team"], name="one_rule_for_group_and_team"),
            models.UniqueConstraint(
                fields=["source", "group"],
                condition=models.Q(team__isnull=True),
                name="one_rule_for_group_of_admins",
            ),
            models.CheckConstraint(
                condition=models.Q(team__isnull=False) ^ models.Q(role=""), name="rule_gives_role_or_admin"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_source_display()}: {self.group} → {self.gives}"

    @property
    def gives(self) -> str:
        return f"{self.get_role_display()} of {self.team}" if self.team else "platform admin"


class KnownGroups(models.Model):
    """The groups that another system named at a person's last sign-in through it."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="known_groups")
    source = models.CharField(max_length=10, choices=GroupRule.Source.choices)
    names = models.JSONField(default=list)
    seen_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "source"], name="groups_once_for_each_source")]

    def __str__(self) -> str:
        return f"{self.user}: {len(self.names)} groups"
