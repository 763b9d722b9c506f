# SPDX-License-Identifier: GPL-3.0-or-later
"""The outbox: what happened, written with the change itself and numbered after its commit."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from portal.environments.models import VirtualMachine
from portal.events.kinds import VERSION, EventKind
from portal.events.webhook_models import Delivery, DeliveryAttempt, DeliveryState, Webhook

if TYPE_CHECKING:
    from portal.accounts.models import User

__all__ = ["Delivery", "DeliveryAttempt", "DeliveryState", "Event", "EventCounter", "Webhook"]


class EventQuerySet(models.QuerySet["Event"]):
    def visible_to(self, user: User) -> EventQuerySet:
        """Events of VMs that the person may see, and of jobs that the person asked for. A token narrows it."""
        if user.reaches_every_machine:
            return self
        if not user.is_active:
            return self.none()
        found = Q(vm__in=VirtualMachine.objects.visible_to(user))
        if user.counts_beyond_teams:
            found |= Q(requested_by=user)
        return self.filter(found)

    def after(self, sequence: int) -> EventQuerySet:
        """Numbered events behind that one, in order."""
        return self.filter(sequence__gt=sequence).order_by("sequence")


class Event(models.Model):
    """One thing that happened. `sequence` is None until the numbering pass after commit; `data` never changes.

    `job_uuid` binds the events of one job together without a row to protect.
    """

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    sequence = models.BigIntegerField(null=True, unique=True, editable=False)
    kind = models.CharField(max_length=40, choices=EventKind.choices)
    version = models.PositiveSmallIntegerField(default=VERSION)
    at = models.DateTimeField(auto_now_add=True)
    vm = models.ForeignKey(
        "environments.VirtualMachine", null=True, on_delete=models.SET_NULL, related_name="events"
    )
    job_uuid = models.UUIDField(null=True, db_index=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    data = models.JSONField(default=dict)

    objects = EventQuerySet.as_manager()

    class Meta:
        ordering = ["sequence", "id"]
        indexes = [
            models.Index(fields=["id"], name="events_not_numbered", condition=Q(sequence=None)),
            models.Index(fields=["vm", "sequence"], name="events_of_vm"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.sequence or self.uuid}"

    def payload(self) -> dict[str, Any]:
        """As webhooks and the API send it (docs/webhooks.md)."""
        return {
            "id": str(self.uuid),
            "sequence": self.sequence,
            "version": self.version,
            "kind": self.kind,
            "at": self.at.isoformat(),
            **self.data,
        }


class EventCounter(models.Model):
    """One row: the last number given. Writing it serialises those who number, on any database."""

    last = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.last)
