# SPDX-License-Identifier: GPL-3.0-or-later
"""What the portal announces. A kind's meaning and its payload never change; a change is a new version."""

from __future__ import annotations

from django.db import models

# Of the payload's schema, described in docs/webhooks.md.
VERSION = 1


class EventKind(models.TextChoices):
    JOB_STARTED = "job.started", "A job started"
    JOB_WAITING = "job.waiting", "A job waits for a person"
    JOB_SUCCEEDED = "job.succeeded", "A job succeeded"
    JOB_FAILED = "job.failed", "A job failed or was cancelled"
    POINT_CREATED = "restore_point.created", "A restore point was made"
