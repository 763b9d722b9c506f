# SPDX-License-Identifier: GPL-3.0-or-later
"""Who wants to be told, and what became of telling them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.urls import reverse
from django.utils import timezone

from portal import secrets
from portal.accounts.roles import Role
from portal.addresses import Policy

if TYPE_CHECKING:
    from portal.accounts.models import User

# So long the secret before the last one still signs as well, so that a receiver can change it at leisure.
OLD_SECRET_SIGNS = dt.timedelta(hours=24)


class WebhookQuerySet(models.QuerySet["Webhook"]):
    def managed_by(self, user: User) -> WebhookQuerySet:
        """Those of teams whose admin the person is; platform admins manage all. For others there are none."""
        if user.is_platform_admin:
            return self
        if not user.is_active:
            return self.none()
        return self.filter(team__memberships__user=user, team__memberships__role=Role.ADMIN)


class Webhook(models.Model):
    """An address that events are sent to: those of one team's machines, or without a team all of them.

    `seen_sequence` is the last event that was looked at for it. `busy_token` is held by the one process that sends
    to it now, until `busy_until`; after failures nothing is sent before `quiet_until`.
    """

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=120)
    team = models.ForeignKey(
        "accounts.Team", null=True, blank=True, on_delete=models.CASCADE, related_name="webhooks"
    )
    url = models.CharField(max_length=500)
    kinds = models.JSONField(default=list)
    enabled = models.BooleanField(default=True)
    allow_private = models.BooleanField(default=False)
    allow_http = models.BooleanField(default=False)
    secret_token = models.TextField(editable=False)
    old_secret_token = models.TextField(editable=False, blank=True)
    secret_changed_at = models.DateTimeField(auto_now_add=True)
    seen_sequence = models.BigIntegerField(default=0)
    busy_token = models.UUIDField(null=True, editable=False)
    busy_until = models.DateTimeField(null=True, editable=False)
    failures_in_a_row = models.PositiveIntegerField(default=0)
    quiet_until = models.DateTimeField(null=True, blank=True)
    last_delivered_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by_name = models.CharField(max_length=150)

    objects = WebhookQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("events:webhook", args=[self.uuid])

    @property
    def policy(self) -> Policy:
        return Policy(private=self.allow_private, http=self.allow_http)

    def set_secret(self, secret: str) -> None:
        """The secret until now goes on signing for OLD_SECRET_SIGNS."""
        self.old_secret_token = self.secret_token
        self.secret_token = secrets.encrypt(secret, settings.CREDENTIAL_KEYS)
        self.secret_changed_at = timezone.now()

    def signing_secrets(self) -> list[str]:
        """The newest first. Raises CredentialUnreadable."""
        tokens = [self.secret_token]
        if self.old_secret_token and timezone.now() < self.secret_changed_at + OLD_SECRET_SIGNS:
            tokens.append(self.old_secret_token)
        return [secrets.decrypt(token, settings.CREDENTIAL_KEYS) for token in tokens]


class DeliveryState(models.TextChoices):
    PENDING = "pending", "To be sent"
    DELIVERED = "delivered", "Delivered"
    FAILED = "failed", "Given up"
    DROPPED = "dropped", "Not sent"


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def given_up(self) -> DeliveryQuerySet:
        """Events that somebody has to see to; a test that failed has told already."""
        return self.filter(state=DeliveryState.FAILED, event__isnull=False)

    def due(self, webhook: Webhook) -> DeliveryQuerySet:
        """Those to be sent now, tests first, then by sequence; one waits for an earlier one of the same job."""
        earlier = Delivery.objects.filter(
            webhook=webhook, state=DeliveryState.PENDING, job_uuid=OuterRef("job_uuid"), pk__lt=OuterRef("pk")
        )
        pending = self.filter(webhook=webhook, state=DeliveryState.PENDING, next_at__lte=timezone.now())
        return pending.exclude(Exists(earlier)).order_by(F("event").asc(nulls_first=True), "pk")


class Delivery(models.Model):
    """One event for one webhook; without an event it is a test. Its uuid stays the same however often it is sent."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    event = models.ForeignKey("events.Event", null=True, on_delete=models.CASCADE, related_name="deliveries")
    job_uuid = models.UUIDField(null=True)
    state = models.CharField(max_length=20, choices=DeliveryState.choices, default=DeliveryState.PENDING)
    attempts_made = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField(default=timezone.now)
    give_up_at = models.DateTimeField()
    problem = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["webhook", "event"], name="event_once_for_a_webhook")]
        indexes = [
            models.Index(fields=["webhook", "-id"], name="deliveries_of_webhook"),
            models.Index(
                fields=["webhook", "job_uuid", "id"],
                name="deliveries_to_be_sent",
                condition=Q(state=DeliveryState.PENDING),
            ),
            models.Index(
                fields=["webhook"], name="deliveries_given_up", condition=Q(state=DeliveryState.FAILED)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} for {self.webhook}"

    def get_absolute_url(self) -> str:
        return reverse("events:delivery", args=[self.webhook.uuid, self.uuid])

    @property
    def kind(self) -> str:
        return self.event.kind if self.event else "ping"

    def payload(self) -> dict[str, Any]:
        """What is sent: the event, or a test that says so."""
        if self.event is not None:
            return self.event.payload()
        return {
            "id": str(self.uuid),
            "sequence": None,
            "version": 1,
            "kind": "ping",
            "at": self.created_at.isoformat(),
            "webhook": {"id": str(self.webhook.uuid), "name": self.webhook.name},
        }


class DeliveryAttempt(models.Model):
    """One request. Without `seconds` its process died before it heard the answer."""

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    at = models.DateTimeField(auto_now_add=True)
    seconds = models.FloatField(null=True)
    status = models.PositiveIntegerField(null=True)
    answer = models.TextField(blank=True)
    problem = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.delivery}"
