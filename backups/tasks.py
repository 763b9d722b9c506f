# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from celery import shared_task

from backups import anchoring, repositories, services, upkeep
from backups.methods import add_repository, cleanup, collect, incremental, verify, verify_repository
from portal.jobs import runner


@shared_task(name=services.BACKUP_TASK)
def vm_backup(job_id: int) -> None:
    runner.execute(job_id, incremental.run)
    upkeep.measure_after(job_id)


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


@shared_task(name=upkeep.COLLECT_TASK)
def collect_garbage(job_id: int) -> None:
    runner.execute(job_id, collect.run)


@shared_task(name=upkeep.VERIFY_REPOSITORY_TASK)
def repository_verify(job_id: int) -> None:
    runner.execute(job_id, verify_repository.run)


@shared_task(name="backups.look_after_repositories")
def look_after_repositories() -> None:
    """Beat's hourly round."""
    upkeep.look_after_all()


@shared_task(name="backups.look_after_audit")
def look_after_audit() -> None:
    """Beat's hourly round for the audit history."""
    anchoring.look_after()


@shared_task(name=anchoring.VERIFY_TASK)
def verify_audit(job_id: int) -> None:
    runner.execute(job_id, anchoring.run)


@shared_task(name=repositories.ADD_TASK)
def add_repository_job(job_id: int) -> None:
    runner.execute(job_id, add_repository.run)
