# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from celery import shared_task

from portal.audit import sealing


@shared_task(name="audit.seal")
def seal() -> None:
    """Beat's bell: what was not sealed right after its commit."""
    sealing.seal_all()
