# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demo does and measures: full, incremental, restore, a killed worker. Every figure is of this run."""

from __future__ import annotations

import os
import signal
import time
import uuid
from typing import Any

from backups import services as backups
from backups.models import RestorePoint
from portal.accounts.models import User
from portal.demo import audit_proof, proofs, ticketing
from portal.demo.stage import DemoFailed, Stage
from portal.jobs.models import Job
from portal.jobs.states import JobState, StepState
from portal.ovirt import image_transfer, vm_backup
from portal.ovirt.connection import connect
from restores import services as restores
from restores.models import Restore
from restores.plans import plan_new_vm, suggested_name

WAIT_SECONDS = 180


def tell_the_story(stage: Stage, say: Any) -> dict[str, Any]:
    """Returns the figures; the caller judges them."""
    admin = User.objects.get(username="admin")
    vm = stage.vm(0)
    say(f"Full backup of {vm.name}, whose guest keeps writing …")
    full_job = finished(backups.start_vm_backup(actor=admin, vm=vm, via="command"))
    full = point_of(full_job)
    say(f"  {full.reason} {full.bytes_read:,} bytes read, {full.bytes_stored:,} stored.")
    time.sleep(2)  # the guest writes something new
    say("Incremental backup of the same machine …")
    incremental_job = finished(backups.start_vm_backup(actor=admin, vm=vm, via="command"))
    incremental = point_of(incremental_job)
    say(
        f"  {incremental.reason} {incremental.bytes_read:,} bytes read of {incremental.dirty_bytes or 0:,} dirty."
    )
    say("Restore as a new machine …")
    restore_job, restore = _restore(admin, incremental)
    equal = proofs.restored_disks_equal(restore)
    owned = proofs.is_owned(restore, User.objects.get(username="oscar"))
    extracted = proofs.casync_extracts_equal(incremental)
    moment = proofs.is_one_moment(stage, incremental) and proofs.is_one_moment(stage, full)
    say("A ticket restores the machine by the API, ordered twice, closed by a webhook …")
    stage.token = ticketing.service_token(admin)
    by_ticket = ticketing.restore_by_ticket(stage, admin, vm.name)
    say("Killing the worker in the middle of another full backup …")
    resumed = _survives_a_kill(admin, stage)
    say("Asking every route as everybody …")
    rights = proofs.rights()
    say("Verifying the audit history, and a copy of it that lost its last entries …")
    return {
        "full": {
            "bytes_read": full.bytes_read,
            "bytes_stored": full.bytes_stored,
            "seconds": seconds(full_job),
        },
        "incremental": {
            "dirty_bytes": incremental.dirty_bytes,
            "bytes_read": incremental.bytes_read,
            "bytes_stored": incremental.bytes_stored,
            "seconds": seconds(incremental_job),
        },
        "point_in_time": moment,
        "restore": {"seconds": seconds(restore_job), "identical": equal},
        "owner_has_the_restored": owned,
        "casync_identical": extracted,
        "resumed_after_kill": resumed,
        "audit": audit_proof.figures(),
        "api_restore": by_ticket,
        "rights": rights,
    }


def is_right(figures: dict[str, Any]) -> bool:
    """Whether every line of the check holds."""
    incremental = figures["incremental"]
    dirty = incremental["dirty_bytes"]
    return bool(
        figures["full"]["bytes_read"] > 0
        and dirty
        and 0 < incremental["bytes_read"] <= 2 * dirty
        and figures["point_in_time"]
        and figures["restore"]["identical"]
        and figures["owner_has_the_restored"]
        and figures["casync_identical"]
        and figures["resumed_after_kill"]
        and figures["audit"]["entries"] > 0
        and figures["audit"]["chain_ok"]
        and figures["audit"]["cut_tail_found"]
        and all(figures["api_restore"].values())
        and figures["rights"]["cells_checked"] > figures["rights"]["routes"] > 0
    )


def finished(job: Job, *, expected: str = JobState.SUCCEEDED) -> Job:
    """Wait for the job's end. Raises DemoFailed with the job's own words if it ends otherwise."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        job.refresh_from_db()
        if job.is_finished:
            break
        time.sleep(0.1)
    if job.state != expected:
        raise DemoFailed(f"{job.title} is {job.state}: {job.error_message} {job.error_detail}")
    return job


def point_of(job: Job) -> RestorePoint:
    return RestorePoint.objects.get(uuid=job.result["point"])


def seconds(job: Job) -> float:
    assert job.started_at is not None
    assert job.finished_at is not None
    return round((job.finished_at - job.started_at).total_seconds(), 2)


def _restore(admin: User, point: RestorePoint) -> tuple[Job, Restore]:
    plan = plan_new_vm(point, name=suggested_name(point))
    restore = restores.start_restore(actor=admin, point=point, plan=plan, plan_hash=plan.hash, via="command")
    job = finished(restore.job)
    restore.refresh_from_db()
    return job, restore


def _survives_a_kill(admin: User, stage: Stage) -> bool:
    """kill -9 the worker while it reads a disk; another one must finish the job and leave nothing behind."""
    vm = stage.vm(0)
    job = backups.start_vm_backup(actor=admin, vm=vm, full=True, via="command")
    deadline = time.monotonic() + 60
    while not job.steps.filter(name__startswith="disk-", state=StepState.RUNNING).exists():
        job.refresh_from_db()
        if job.is_finished or time.monotonic() > deadline:
            raise DemoFailed("The backup ended before its worker could be killed.")
        time.sleep(0.02)
    worker = job.attempts.latest("number").worker
    os.kill(int(worker.rpartition(":")[2]), signal.SIGKILL)
    finished(job)
    return job.attempts_made >= 2 and is_clean(stage, str(vm.manager_id))


def is_clean(stage: Stage, vm_id: str) -> bool:
    """No open backup and no open transfer of the VM is left on the Manager."""
    with connect(stage.environment.address(), correlation_id=str(uuid.uuid4())) as connection:
        service = connection.system_service().vms_service().vm_service(vm_id)
        phases = [backup.phase.value for backup in service.backups_service().list()]
        disks = [item.id for item in service.disk_attachments_service().list()]
        strays = image_transfer.open_transfers_of(connection, disks, direction="download")
    return not strays and all(phase in vm_backup.FINAL for phase in phases)
