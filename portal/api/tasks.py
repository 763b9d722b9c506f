# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from celery import shared_task

from portal.api import idempotency


@shared_task(name="api.forget_answers")
def forget_answers() -> None:
    idempotency.sweep()
