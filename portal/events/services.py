# SPDX-License-Identifier: GPL-3.0-or-later
"""Announcing what happened, and numbering it in the order of commits.

An event is written in the transaction of its change, so there is one if and only if the change is there. Its number
is given in a transaction of its own afterwards, one numberer at a time: whoever has read up to number N has seen
everything up to N, also what was written early and committed late.
"""

from __future__ import annotations

import logging
from typing import Any

from django.db import transaction
from django.db.models import F
from django.db.transaction import TransactionManagementError
from kombu.exceptions import OperationalError

from portal.environments.models import VirtualMachine
from portal.events.kinds import EventKind
from portal.events.models import Event, EventCounter, Webhook

log = logging.getLogger(__name__)

# Events numbered in one transaction, so that no write transaction is long.
_BATCH = 200


def emit(
    kind: EventKind, *, vm: VirtualMachine | None = None, job: Any = None, data: dict[str, Any]
) -> Event:
    """Write one event with the change that it tells of; numbered and handed on after commit.

    `job` is the Job it belongs to, `data` the rest of the payload: JSON, free of secrets. Raises
    TransactionManagementError outside a transaction, where the change and its event could part.
    """
    if not transaction.get_connection().in_atomic_block:
        raise TransactionManagementError("An event is written in the transaction of the change it tells of.")
    event = Event.objects.create(
        kind=kind,
        vm=vm,
        job_uuid=job.uuid if job is not None else None,
        requested_by_id=job.requested_by_id if job is not None else None,
        data=data,
    )
    # What fails here is made up for by beat.
    transaction.on_commit(hand_on, robust=True)
    return event


def hand_on() -> None:
    """Number what is committed, and tell the worker of webhooks to look, if there is any webhook."""
    number_events()
    if Webhook.objects.filter(enabled=True).exists():
        ring()


def ring() -> None:
    """A lost or refused ring is harmless: beat rings too."""
    from celery import current_app

    try:
        current_app.send_task("events.hand_on", expires=60)
    except (OperationalError, OSError) as error:
        log.warning("The broker did not take a ring for events: %s", error)


def number_events() -> int:
    """Give the next numbers to all committed events that have none, in the order they were written. Returns how many.

    Safe to run at any time by any number of processes.
    """
    numbered = 0
    while batch := _number_batch():
        numbered += batch
    return numbered


def _number_batch() -> int:
    if not Event.objects.filter(sequence=None).exists():
        return 0
    EventCounter.objects.get_or_create(pk=1)
    with transaction.atomic():
        # The write comes first: whoever else numbers waits here, and then looks at what is left.
        EventCounter.objects.filter(pk=1).update(last=F("last"))
        last = EventCounter.objects.values_list("last", flat=True).get(pk=1)
        events = list(Event.objects.filter(sequence=None).order_by("id").only("pk")[:_BATCH])
        for number, event in enumerate(events, last + 1):
            event.sequence = number
        Event.objects.bulk_update(events, ["sequence"])
        EventCounter.objects.filter(pk=1).update(last=last + len(events))
    return len(events)
