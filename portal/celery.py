# SPDX-License-Identifier: GPL-3.0-or-later
"""The Celery application: it only rings bells; the rows in the database are the truth (ADR 0001)."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import worker_shutting_down
from kombu.transport import TRANSPORT_ALIASES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

TRANSPORT_ALIASES["folder"] = "portal.broker:Transport"
app = Celery("portal")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(
    [
        "portal.audit",
        "portal.jobs",
        "portal.events",
        "portal.environments",
        "backups",
        "restores",
        "portal.api",
    ]
)


@app.on_after_finalize.connect
def _schedule(sender: Celery, **_: Any) -> None:
    from django.conf import settings

    sender.conf.beat_schedule = {
        "ring-jobs": {
            "task": "jobs.ring",
            "schedule": float(settings.JOB_RING_AFTER),
            "options": {"expires": settings.JOB_RING_AFTER * 3},
        },
        "hand-events-on": {
            "task": "events.hand_on",
            "schedule": float(settings.JOB_RING_AFTER),
            "options": {"expires": settings.JOB_RING_AFTER * 3},
        },
        "seal-audit-entries": {
            "task": "audit.seal",
            "schedule": float(settings.AUDIT_SEAL_EVERY),
            "options": {"expires": settings.AUDIT_SEAL_EVERY},
        },
        "forget-old-events": {
            "task": "events.forget",
            "schedule": 24 * 3600.0,
            "options": {"expires": 24 * 3600},
        },
        "clean-up-after-backups": {
            "task": "backups.order_cleanups",
            "schedule": float(settings.LEFTOVERS_EVERY),
            "options": {"expires": settings.LEFTOVERS_EVERY * 2},
        },
        "expire-approvals": {
            "task": "restores.expire_approvals",
            "schedule": float(settings.APPROVALS_EVERY),
            "options": {"expires": settings.APPROVALS_EVERY * 3},
        },
        "refresh-inventories": {
            "task": "environments.refresh_all",
            "schedule": float(settings.INVENTORY_EVERY),
            "options": {"expires": settings.INVENTORY_EVERY * 2},
        },
        "look-after-repositories": {
            "task": "backups.look_after_repositories",
            "schedule": float(settings.REPOSITORY_EVERY),
            "options": {"expires": settings.REPOSITORY_EVERY},
        },
        "look-after-audit": {
            "task": "backups.look_after_audit",
            "schedule": float(min(settings.REPOSITORY_EVERY, settings.AUDIT_ANCHOR_EVERY)),
            "options": {"expires": settings.REPOSITORY_EVERY},
        },
        "forget-answers": {
            "task": "api.forget_answers",
            "schedule": 3600.0,
            "options": {"expires": 3600},
        },
        "sweep-restores": {
            "task": "restores.sweep",
            "schedule": float(settings.LEFTOVERS_EVERY),
            "options": {"expires": settings.LEFTOVERS_EVERY},
        },
    }


@worker_shutting_down.connect
def _stop_jobs(**_: Any) -> None:
    """SIGTERM: running jobs stop at their next chunk and are taken up by another worker."""
    from portal.jobs import runner

    runner.shutdown.set()
