# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from celery import shared_task

from backups import services
from backups.methods import cleanup, incremental, verify
from portal.jobs import runner


@shared_task(name=services.BACKUP_TASK)
def vm_backup(job_id: int) -> None:
    runner.execute(job_id, incremental.run)


@shared_task(name=services.VERIFY_TASK)
def verify_point(job_id: int) -> None:
    runner.execute(job_id, verify.run)


@shared_task(name=cleanup.CLEANUP_TASK)
def vm_cleanup(job_id: int) -> None:
    runner.execute(job_id, cleanup.run)


@shared_task(name="backups.order_cleanups")
def order_cleanups() -> None:
    """Beat's bell for what ended backups left behind."""
    cleanup.order_cleanups()
