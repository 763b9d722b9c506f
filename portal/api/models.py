# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens, and the answers that are kept for repeated writes."""

from __future__ import annotations

import ipaddress
import uuid
from typing import TYPE_CHECKING
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from portal.accounts.limits import Limits
from portal.api.scopes import Scope, limits_of

if TYPE_CHECKING:
    from portal.accounts.models import User


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def live(self) -> ApiTokenQuerySet:
        """Neither revoked nor expired."""
        now = timezone.now()
        return self.filter(revoked_at=None).filter(Q(expires_at=None) | Q(expires_at__gt=now))

    def steerable_by(self, user: User) -> ApiTokenQuerySet:
        """One's own; for a platform admin those of service accounts too. Nobody acts with another person's."""
        mine = Q(user=user)
        return self.filter(mine | Q(user__is_service=True) if user.is_platform_admin else mine)


class ApiToken(models.Model):
    """`obp_<prefix>_<secret>`, of which only the prefix and SHA-256 of the secret are kept.

    A fast hash is right here: the secret is 256 random bits, so there is nothing to guess that a slow one would
    make dearer, and every request pays for it. Revoked ones stay, for the history.
    """

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=120, help_text="What uses it, so that it is known again later.")
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    secret_sha256 = models.CharField(max_length=64, editable=False)
    scopes = models.JSONField(default=list)
    # A token of a team that is removed goes with it: without its team it would reach more than before.
    team = models.ForeignKey(
        "accounts.Team", null=True, blank=True, on_delete=models.CASCADE, related_name="api_tokens"
    )
    networks = models.JSONField(default=list)
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by_name = models.CharField(max_length=150)
    last_used_at = models.DateTimeField(null=True, blank=True)
    last_used_from = models.GenericIPAddressField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by_name = models.CharField(max_length=150, blank=True)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("tokens:token", args=[self.uuid])

    def audited_teams(self) -> list[UUID]:
        """Whose auditors read what is recorded about the token: those of its owner."""
        return self.user.audited_teams()

    @property
    def limits(self) -> Limits:
        return limits_of(self.scopes, team_id=self.team_id)

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()

    @property
    def state(self) -> str:
        """live, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.is_expired else "live"

    @property
    def scope_names(self) -> list[str]:
        return [str(Scope(scope).label) for scope in Scope if scope in self.scopes]

    def admits(self, address: str) -> bool:
        """Whether it may be used from there: from anywhere without networks."""
        if not self.networks:
            return True
        try:
            seen = ipaddress.ip_address(address)
        except ValueError:
            return False
        seen = getattr(seen, "ipv4_mapped", None) or seen
        return any(seen in ipaddress.ip_network(network) for network in self.networks)


class KeptAnswer(models.Model):
    """The answer to a write with an Idempotency-Key, written in the transaction of the change itself.

    `fingerprint` is of the request: a key that comes again with another one is refused.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveIntegerField(default=0)
    headers = models.JSONField(default=dict)
    body = models.TextField(default="null")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="one_answer_for_a_key")]

    def __str__(self) -> str:
        return f"{self.status} for {self.key}"
