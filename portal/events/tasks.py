# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from celery import shared_task

from portal.events import services


@shared_task(name="events.number")
def number() -> None:
    """Beat's second look: events whose numbering after commit did not happen."""
    services.number_events()
