# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from celery import shared_task
from django.conf import settings

from portal.jobs import reaper, services


@shared_task(name="jobs.ring")
def ring() -> None:
    """Beat's bell: take back silent jobs, then ring for whatever is pending."""
    reaper.reap()
    services.ring_pending(older_than_seconds=settings.JOB_RING_AFTER)
