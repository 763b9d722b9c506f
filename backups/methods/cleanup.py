# SPDX-License-Identifier: GPL-3.0-or-later
"""Ending what earlier backups of one VM left on the Manager, when no backup of it runs (order: `order_cleanups`)."""

from __future__ import annotations

import datetime as dt

from django.conf import settings
from django.utils import timezone

from backups.methods.incremental import connected
from backups.methods.leftovers import Leftovers, jobs_with_leftovers
from portal.environments.models import VirtualMachine
from portal.jobs import locks
from portal.jobs import services as jobs
from portal.jobs.context import JobContext
from portal.jobs.models import Job

CLEANUP_TASK = "backups.vm_cleanup"
# After the n-th failure in a row the next try comes no sooner than 2**n times the usual time, at most so often.
_MOST_DOUBLINGS = 8


def run(context: JobContext) -> None:
    """Raises the first PortalError of what could not be ended; the rest was tried."""
    vm = context.job.vm
    assert vm is not None
    with connected(context, vm) as connection, context.step("tidy", "Ending what earlier backups left"):
        left = Leftovers(context, vm, connection)
        problems = left.end_recorded()
        left.end_orphans()
        if problems:
            raise problems[0]


def order_cleanups() -> int:
    """A clean-up job for each machine whose ended backups left something on its Manager; returns how many.

    Called by beat. Machines that are busy with another job are left alone: a backup cleans up first anyway.
    """
    vms = VirtualMachine.objects.filter(pk__in=jobs_with_leftovers().values("vm"), environment__problem="")
    return sum(_order(vm) for vm in vms.select_related("environment") if _is_due(vm))


def _is_due(vm: VirtualMachine) -> bool:
    if vm.jobs.active().exists():
        return False
    before = vm.jobs.filter(kind="vm_cleanup").order_by("-id").values_list("state", "finished_at")
    failures: list[dt.datetime] = []
    for state, finished_at in before[: _MOST_DOUBLINGS + 1]:
        if state != "failed" or finished_at is None:
            break
        failures.append(finished_at)
    if not failures:
        return True
    wait = dt.timedelta(seconds=settings.LEFTOVERS_EVERY) * 2 ** min(len(failures), _MOST_DOUBLINGS)
    return timezone.now() - failures[0] >= wait


def _order(vm: VirtualMachine) -> bool:
    jobs.order_job(
        "backup.clean_up",
        actor=None,
        via=Job.Via.SCHEDULE,
        about=vm,
        kind="vm_cleanup",
        task=CLEANUP_TASK,
        title=f"Clean up after backups of {vm.name}",
        locks=[
            locks.exclusive(vm.lock_key),
            locks.shared(f"environment:{vm.environment.uuid}", limit=settings.ENVIRONMENT_JOBS),
        ],
        **jobs.about_vm(vm),
    )
    return True
