# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from celery import current_app, shared_task

from portal.events import delivering, services
from portal.events.models import Webhook


@shared_task(name="events.hand_on")
def hand_on() -> None:
    """Number what is new, order its deliveries, and ring for each webhook that something is to be sent to."""
    services.number_events()
    for webhook in Webhook.objects.filter(enabled=True):
        delivering.fan_out(webhook)
    for webhook_id in delivering.webhooks_with_work():
        current_app.send_task("events.deliver", args=[webhook_id], expires=60)


@shared_task(name="events.deliver")
def deliver(webhook_id: int) -> None:
    """One webhook's turn; if it took all of its turn, another one is rung for."""
    if delivering.deliver(webhook_id) == delivering.RUN:
        current_app.send_task("events.deliver", args=[webhook_id], expires=60)


@shared_task(name="events.forget")
def forget() -> None:
    delivering.forget_old()
