# SPDX-License-Identifier: GPL-3.0-or-later
"""Webhooks and their deliveries in the words of their pages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.db.models import Count, Exists, OuterRef, Q

from portal.events.kinds import EventKind
from portal.events.models import Delivery, DeliveryAttempt, DeliveryState, Webhook
from portal.events.webhook_models import OLD_SECRET_SIGNS, WebhookQuerySet

LIST_COLUMNS: list[dict[str, Any]] = [
    {"label": "Webhook"},
    {"label": "State"},
    {"label": "Machines"},
    {"label": "Sent to", "minor": True},
    {"label": "Last delivered"},
]
DELIVERY_COLUMNS: list[dict[str, Any]] = [
    {"label": "Event"},
    {"label": "State"},
    {"label": "Number", "num": True, "minor": True},
    {"label": "Ticket", "minor": True},
    {"label": "About"},
    {"label": "Attempts", "num": True},
    {"label": "Ordered"},
]
# Status of components/_badge.html and the word on it.
_BADGES = {
    DeliveryState.PENDING: ("pending", "To be sent"),
    DeliveryState.DELIVERED: ("succeeded", "Delivered"),
    DeliveryState.FAILED: ("failed", "Given up"),
    DeliveryState.DROPPED: ("skipped", "Not sent"),
}


@dataclass(frozen=True)
class State:
    """As components/_badge.html wants it, with a sentence."""

    status: str
    label: str
    sentence: str


def with_given_up(webhooks: WebhookQuerySet) -> WebhookQuerySet:
    """With `given_up`: deliveries that somebody has to see to."""
    given_up = Q(deliveries__state=DeliveryState.FAILED, deliveries__event__isnull=False)
    return webhooks.select_related("team").annotate(given_up=Count("deliveries", filter=given_up))


def needing_somebody(webhooks: WebhookQuerySet) -> WebhookQuerySet:
    """Those that are on and have given up something."""
    given_up = Delivery.objects.given_up().filter(webhook=OuterRef("pk"))
    return with_given_up(webhooks.filter(Exists(given_up), enabled=True))


def state(webhook: Any) -> State:
    """Of a webhook that was read `with_given_up`."""
    if not webhook.enabled:
        return State("down", "Off", "Nothing is sent, and what happens meanwhile is not sent later.")
    if webhook.given_up:
        one = webhook.given_up == 1
        some = "1 event was" if one else f"{webhook.given_up:,} events were"
        text = f"{some} given up: send {'it' if one else 'them'} again, or leave {'it' if one else 'them'}."
        return State("failed", "Needs you", text)
    if webhook.failures_in_a_row:
        return State("stale", "Refused", "The last request was not taken; it is sent again by itself.")
    if webhook.last_delivered_at is None:
        return State("unknown", "Not tried yet", "Nothing has been sent yet. Send a test.")
    return State("active", "Fine", "The last request was taken.")


def machines(webhook: Webhook) -> str:
    return webhook.team.name if webhook.team else "All machines"


def list_rows(webhooks: Iterable[Webhook]) -> list[dict[str, Any]]:
    rows = []
    for webhook in webhooks:
        now = state(webhook)
        cells = [
            {"value": webhook.name},
            {"value": now.status, "kind": "badge", "label": now.label},
            {"value": machines(webhook)},
            {"value": urlsplit(webhook.url).netloc},
            {"value": webhook.last_delivered_at, "kind": "ago"},
        ]
        rows.append({"href": webhook.get_absolute_url(), "cells": cells})
    return rows


def facts(webhook: Webhook) -> list[dict[str, Any]]:
    leave = [
        word
        for word, given in (("private networks", webhook.allow_private), ("http", webhook.allow_http))
        if given
    ]
    labels = dict(EventKind.choices)
    told = [str(labels[kind]) for kind in webhook.kinds if kind in labels]
    return [
        {"label": "Address", "value": webhook.url, "kind": "id"},
        {"label": "Machines", "value": machines(webhook)},
        {"label": "Events", "value": "; ".join(told) or "None: tests only"},
        {"label": "Allowed too", "value": " and ".join(leave), "kind": "optional"},
        {"label": "Last delivered", "value": webhook.last_delivered_at, "kind": "ago"},
        {
            "label": "Secret made",
            "value": webhook.secret_changed_at,
            "kind": "ago",
            "note": _old_secret(webhook),
        },
        {"label": "Added by", "value": webhook.created_by_name},
    ]


def _old_secret(webhook: Webhook) -> str:
    hours = int(OLD_SECRET_SIGNS.total_seconds() // 3600)
    return f"For {hours} hours after that the old one signed as well." if webhook.old_secret_token else ""


def delivery_rows(deliveries: Iterable[Delivery], webhook: Webhook) -> list[dict[str, Any]]:
    rows = []
    for delivery in deliveries:
        delivery.webhook = webhook
        status, label = _BADGES[DeliveryState(delivery.state)]
        data = delivery.event.data if delivery.event else {}
        cells = [
            {"value": kind_label(delivery)},
            {"value": status, "kind": "badge", "label": label},
            {"value": delivery.event.sequence if delivery.event else "", "kind": "optional"},
            {"value": (data.get("job") or {}).get("ticket", ""), "kind": "optional"},
            {"value": (data.get("vm") or {}).get("name", ""), "kind": "optional"},
            {"value": delivery.attempts_made},
            {"value": delivery.created_at, "kind": "ago"},
        ]
        rows.append({"href": delivery.get_absolute_url(), "cells": cells})
    return rows


def kind_label(delivery: Delivery) -> str:
    return EventKind(delivery.kind).label if delivery.event else "A test"


def delivery_state(delivery: Delivery) -> State:
    status, label = _BADGES[DeliveryState(delivery.state)]
    sentence = delivery.problem
    if delivery.state == DeliveryState.DELIVERED:
        sentence = "The receiver took it."
    elif delivery.state == DeliveryState.PENDING and not sentence:
        sentence = "It is sent within seconds."
    return State(status, label, sentence)


def delivery_facts(delivery: Delivery) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"label": "Ordered", "value": delivery.created_at, "kind": "ago"},
        {"label": "Attempts", "value": delivery.attempts_made},
    ]
    if delivery.event:
        rows.append({"label": "Number", "value": delivery.event.sequence})
    if delivery.ended_at:
        rows.append({"label": "Ended", "value": delivery.ended_at, "kind": "ago"})
    elif delivery.attempts_made:
        rows.append({"label": "Next attempt", "value": delivery.next_at, "kind": "moment"})
        rows.append({"label": "Given up after", "value": delivery.give_up_at, "kind": "moment"})
    rows.append({"label": "Id, in X-Portal-Delivery", "value": str(delivery.uuid), "kind": "id"})
    return rows


def attempt_badge(attempt: DeliveryAttempt) -> tuple[str, str]:
    """Status of the badge and its word."""
    if attempt.seconds is None:
        return "unknown", "Not heard"
    if attempt.status is None:
        return "failed", "No answer"
    return ("failed" if attempt.problem else "succeeded"), str(attempt.status)
