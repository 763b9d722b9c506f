# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from celery import shared_task

from portal.jobs import runner
from restores import approvals, services
from restores import sweep as leftovers
from restores.methods import new_vm


@shared_task(name=services.NEW_VM_TASK)
def restore_new_vm(job_id: int) -> None:
    runner.execute(job_id, new_vm.run)


@shared_task(name="restores.expire_approvals")
def expire_approvals() -> None:
    approvals.expire()


@shared_task(name=services.SWEEP_TASK)
def sweep() -> None:
    leftovers.sweep()
