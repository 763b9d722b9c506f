# SPDX-License-Identifier: GPL-3.0-or-later
"""Sending events to webhooks: who gets what, one after the other for each webhook, again after failures.

The row is the truth here too. A delivery is marked delivered after its answer was heard; whoever dies in between
leaves it to be sent again under the same id. One process at a time sends to a webhook (a lease with a token).
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import random
import time
import uuid

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from portal import wording
from portal.errors import PortalError
from portal.events import posting, signing
from portal.events.models import Delivery, DeliveryAttempt, DeliveryState, Event, EventCounter, Webhook
from portal.events.posting import Answer

log = logging.getLogger(__name__)

# Events looked at in one transaction, and deliveries sent in one run, so that no webhook keeps others waiting.
_BATCH = 200
RUN = 50
_LONGEST_DELAY = 3 * 3600
_LONGEST_QUIET = 300
# Beyond the time of one request, for writing down what came of it.
_LEASE_MARGIN = 30


def fan_out(webhook: Webhook) -> int:
    """Order deliveries of the events that came since the last look. Returns how many events were looked at."""
    looked = 0
    while batch := _fan_out_batch(webhook):
        looked += batch
    return looked


def _fan_out_batch(webhook: Webhook) -> int:
    events = list(Event.objects.after(webhook.seen_sequence)[:_BATCH])
    if not events:
        return 0
    numbers = [event.sequence for event in events]
    matching = Event.objects.filter(sequence__in=numbers, kind__in=webhook.kinds)
    if webhook.team_id is not None:
        matching = matching.filter(vm__teams=webhook.team_id)
    wanted = set(matching.values_list("pk", flat=True))
    last = numbers[-1]
    assert last is not None  # only numbered events are `after` anything
    with transaction.atomic():
        # Whoever else looks at the same events finds the mark moved on, and orders nothing.
        mine = Webhook.objects.filter(pk=webhook.pk, enabled=True, seen_sequence=webhook.seen_sequence)
        if not mine.update(seen_sequence=last):
            return 0
        Delivery.objects.bulk_create(_ordered(webhook, event) for event in events if event.pk in wanted)
    webhook.seen_sequence = last
    return len(events)


def _ordered(webhook: Webhook, event: Event) -> Delivery:
    return Delivery(webhook=webhook, event=event, job_uuid=event.job_uuid, give_up_at=give_up_time())


def give_up_time() -> dt.datetime:
    return timezone.now() + dt.timedelta(seconds=settings.WEBHOOK_GIVE_UP)


def newest_sequence() -> int:
    return EventCounter.objects.filter(pk=1).values_list("last", flat=True).first() or 0


def webhooks_with_work() -> list[int]:
    """Ids of webhooks that something is to be sent to now and nobody is sending to."""
    now = timezone.now()
    free = Q(busy_until=None) | Q(busy_until__lt=now)
    quiet = Q(quiet_until__gt=now)
    waiting = Q(deliveries__state=DeliveryState.PENDING, deliveries__next_at__lte=now)
    found = Webhook.objects.filter(free, waiting, enabled=True).exclude(quiet)
    return list(found.values_list("pk", flat=True).distinct())


def deliver(webhook_id: int) -> int:
    """Send what is due to one webhook, until there is nothing or one fails. Returns how many were delivered."""
    token = uuid.uuid4()
    if not _take(webhook_id, token):
        return 0
    delivered = 0
    try:
        while delivered < RUN:
            webhook = Webhook.objects.get(pk=webhook_id)
            delivery = Delivery.objects.due(webhook).select_related("event").first()
            if delivery is None or not webhook.enabled or not _hold(webhook_id, token):
                break
            delivery.webhook = webhook
            if not _send(delivery):
                break
            delivered += 1
    finally:
        Webhook.objects.filter(pk=webhook_id, busy_token=token).update(busy_token=None, busy_until=None)
    return delivered


def _lease_end() -> dt.datetime:
    return timezone.now() + dt.timedelta(seconds=settings.WEBHOOK_TIMEOUT + _LEASE_MARGIN)


def _take(webhook_id: int, token: uuid.UUID) -> bool:
    free = Q(busy_until=None) | Q(busy_until__lt=timezone.now())
    return bool(
        Webhook.objects.filter(free, pk=webhook_id, enabled=True).update(
            busy_token=token, busy_until=_lease_end()
        )
    )


def _hold(webhook_id: int, token: uuid.UUID) -> bool:
    return bool(Webhook.objects.filter(pk=webhook_id, busy_token=token).update(busy_until=_lease_end()))


def _send(delivery: Delivery) -> bool:
    """One attempt, written down before and after. True if it was delivered."""
    Delivery.objects.filter(pk=delivery.pk).update(attempts_made=F("attempts_made") + 1)
    delivery.attempts_made += 1
    attempt = DeliveryAttempt.objects.create(delivery=delivery, number=delivery.attempts_made)
    began = time.monotonic()
    answer: Answer | None = None
    try:
        answer = _post(delivery)
        problem = _complaint(answer)
    except PortalError as error:
        problem = str(error)
    attempt.seconds = answer.seconds if answer else time.monotonic() - began
    attempt.status, attempt.answer = (answer.status, answer.text) if answer else (None, "")
    attempt.problem = problem
    with transaction.atomic():
        attempt.save(update_fields=["seconds", "status", "answer", "problem"])
        if problem:
            _not_delivered(delivery, problem)
        else:
            _delivered(delivery)
    return not problem


def _post(delivery: Delivery) -> Answer:
    webhook = delivery.webhook
    body = json.dumps(delivery.payload(), separators=(",", ":")).encode()
    timestamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "ovirt-backup-portal",
        "X-Portal-Event": delivery.kind,
        "X-Portal-Delivery": str(delivery.uuid),
        "X-Portal-Sequence": str(delivery.event.sequence if delivery.event else 0),
        "X-Portal-Timestamp": timestamp,
        "X-Portal-Signature": signing.signatures(webhook.signing_secrets(), timestamp, body),
    }
    return posting.post(
        webhook.url,
        body,
        headers,
        policy=webhook.policy,
        timeout_seconds=settings.WEBHOOK_TIMEOUT,
        ca_file=settings.WEBHOOK_CA_FILE,
    )


def _complaint(answer: Answer) -> str:
    if 200 <= answer.status < 300:
        return ""
    if 300 <= answer.status < 400:
        return f"The answer was a redirect ({answer.status}), which is not followed: enter the final address."
    return f"The answer was {answer.status} instead of 200 to 299."


def _delivered(delivery: Delivery) -> None:
    now = timezone.now()
    Delivery.objects.filter(pk=delivery.pk).update(state=DeliveryState.DELIVERED, problem="", ended_at=now)
    Webhook.objects.filter(pk=delivery.webhook_id).update(
        failures_in_a_row=0, quiet_until=None, last_delivered_at=now
    )


def _not_delivered(delivery: Delivery, problem: str) -> None:
    """Again later, or given up when its time is over; the webhook is left alone for a moment."""
    now = timezone.now()
    pending = Delivery.objects.filter(pk=delivery.pk, state=DeliveryState.PENDING)
    again = now + dt.timedelta(seconds=delay_before(delivery.attempts_made + 1))
    if again >= delivery.give_up_at:
        text = problem
        if delivery.attempts_made > 1:
            over = wording.duration((now - delivery.created_at).total_seconds())
            text = f"Given up after {delivery.attempts_made} attempts in {over}. The last one: {problem}"
        pending.update(state=DeliveryState.FAILED, problem=text, ended_at=now)
        log.warning("Webhook %s: %s", delivery.webhook, text)
    else:
        pending.update(next_at=again, problem=problem)
    failures = delivery.webhook.failures_in_a_row + 1
    quiet = dt.timedelta(seconds=min(_LONGEST_QUIET, 2 ** min(failures, 10)))
    Webhook.objects.filter(pk=delivery.webhook_id).update(failures_in_a_row=failures, quiet_until=now + quiet)


def delay_before(attempt: int) -> float:
    """Seconds before the attempt of that number (from 2 on): doubled each time, a fifth more or less by chance."""
    planned = min(_LONGEST_DELAY, settings.WEBHOOK_RETRY * 2 ** (attempt - 2))
    return float(planned * random.uniform(0.8, 1.2))  # noqa: S311  spreads load, guards nothing


def forget_old() -> None:
    """Remove events and ended deliveries that are past their time."""
    now = timezone.now()
    ended = Delivery.objects.exclude(state=DeliveryState.PENDING)
    ended.filter(ended_at__lt=now - dt.timedelta(days=settings.DELIVERY_DAYS)).delete()
    old = now - dt.timedelta(days=settings.EVENT_DAYS)
    Event.objects.filter(at__lt=old).exclude(sequence=None).exclude(
        deliveries__state=DeliveryState.PENDING
    ).delete()
