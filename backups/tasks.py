# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from celery import shared_task

from backups import services
from backups.methods import incremental, verify
from portal.jobs import runner


@shared_task(name=services.BACKUP_TASK)
def vm_backup(job_id: int) -> None:
    runner.execute(job_id, incremental.run)


@shared_task(name=services.VERIFY_TASK)
def verify_point(job_id: int) -> None:
    runner.execute(job_id, verify.run)
