# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting restores: the only gate, the same for page, API and command line."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import transaction

from backups import quotas
from backups.models import RestorePoint
from portal.accounts.roles import Capability
from portal.audit import services as audit
from portal.jobs import locks
from portal.jobs import services as jobs
from portal.jobs.models import Job
from portal.jobs.states import JobState
from restores import access, approvals
from restores.errors import PlanBlocked, PlanChanged
from restores.models import Restore
from restores.plans import RestorePlan
from restores.records import restore_of

KIND = "vm_restore"
NEW_VM_TASK = "restores.new_vm"
METHOD = "new_vm"
SWEEP_TASK = "restores.sweep"


def start_restore(
    *,
    actor: Any,
    point: RestorePoint,
    plan: RestorePlan,
    plan_hash: str,
    requested_for: str = "",
    ticket: str = "",
    reason: str = "",
    via: str = Job.Via.PAGE,
) -> Restore:
    """Start exactly what was shown. `plan` is made anew now; a hash that differs means the world changed.

    Where a team asks for it the restore waits for a second person (restores.approvals).
    Raises NotAllowed, PlanBlocked, PlanChanged, QuotaReached.
    """
    access.require_restore(actor, point)
    if plan.blockers:
        raise PlanBlocked(f"The restore cannot be started: {plan.blockers[0]} Nothing was changed.")
    if plan.hash != plan_hash or plan.point != str(point.uuid):
        raise PlanChanged(
            "Something changed since this plan was shown, so nothing was started.",
            hint="Read the new plan and start it again.",
        )
    environment = point.vm.environment
    with transaction.atomic():
        quotas.require_room_for_a_restore(point.vm)
        needed = approvals.needed_for(point)
        waits = {"state": JobState.WAITING, "waiting_for": approvals.waiting_for(needed)} if needed else {}
        job = jobs.create_job(
            kind=KIND,
            task=NEW_VM_TASK,
            title=f"Restore {point.vm_name} as {plan.name}",
            actor=actor,
            locks=[
                locks.shared(point.lock_key),
                locks.exclusive(f"name:{environment.uuid}:{plan.name}"[:120]),
                locks.shared(f"environment:{environment.uuid}", limit=settings.ENVIRONMENT_JOBS),
                locks.shared(f"repository:{point.repository.uuid}"),
            ],
            params={"point": str(point.uuid), "plan": plan.as_json(), "plan_hash": plan.hash},
            environment=environment,
            vm=point.vm,
            subject_label=str(point),
            subject_url=point.get_absolute_url(),
            method=METHOD,
            requested_for=requested_for,
            capability=Capability.RESTORE,
            ticket=ticket,
            reason=reason,
            via=via,
            **waits,
        )
        restore = restore_of(job)
        if needed:
            approvals.ask(restore, needed)
        audit.record(
            "restore.start",
            actor=actor,
            subject=point,
            via=via,
            job=str(job.uuid),
            target=plan.name,
            plan_hash=plan.hash,
            ticket=ticket,
            needs_approval=needed.because if needed else "",
        )
    return restore
