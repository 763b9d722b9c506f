# SPDX-License-Identifier: GPL-3.0-or-later
"""What jobs tell the world, in words that a ticketing system can use. Called in the transaction of the move.

A job that starts is announced once, however many workers try it, and ends in exactly one `job.succeeded` or
`job.failed`; a cancelled one is `job.failed` with the state `cancelled`, for nobody gets what was asked for.
"""

from __future__ import annotations

from typing import Any

from portal.environments.models import VirtualMachine
from portal.events import services as events
from portal.events.kinds import EventKind
from portal.jobs.models import Job
from portal.jobs.states import FINISHED, JobState

# What of a job's result is told. Anything else may hold more than it should.
_RESULT_KEYS = ("point", "vm_id", "vm_name", "identical", "bytes_read", "bytes_stored")
_MAX_TEXT = 2000


def started(job: Job) -> None:
    """The first worker has taken it."""
    events.emit(EventKind.JOB_STARTED, vm=job.vm, job=job, data=facts(job))


def waiting(job_id: int) -> None:
    """It waits for a person."""
    job = _job(job_id)
    events.emit(EventKind.JOB_WAITING, vm=job.vm, job=job, data=facts(job))


def ended(job_id: int) -> None:
    """It has succeeded, failed or been cancelled: the row says which."""
    job = _job(job_id)
    assert job.state in FINISHED
    succeeded = job.state == JobState.SUCCEEDED
    kind = EventKind.JOB_SUCCEEDED if succeeded else EventKind.JOB_FAILED
    told = {"result": _result(job)} if succeeded else {"problem": _problem(job)}
    events.emit(kind, vm=job.vm, job=job, data={**facts(job), **told})


def _job(job_id: int) -> Job:
    return Job.objects.select_related("vm", "environment").get(pk=job_id)


def facts(job: Job) -> dict[str, Any]:
    """`environment`, `vm` and `job` as every event of a job has them."""
    return {
        "environment": {"id": str(job.environment.uuid), "name": job.environment.name}
        if job.environment
        else None,
        "vm": vm_facts(job.vm) if job.vm else None,
        "job": {
            "id": str(job.uuid),
            "kind": job.kind,
            "title": job.title,
            "state": job.state,
            "waiting_for": job.waiting_for,
            "requested_by": job.requested_by_name,
            "requested_for": job.requested_for,
            "via": job.via,
            "ticket": job.ticket,
            "reason": job.reason[:_MAX_TEXT],
            "url": job.get_absolute_url(),
        },
    }


def vm_facts(vm: VirtualMachine) -> dict[str, str]:
    return {"id": str(vm.uuid), "manager_id": str(vm.manager_id), "name": vm.name}


def _result(job: Job) -> dict[str, Any]:
    told = {key: job.result[key] for key in _RESULT_KEYS if key in job.result}
    return {**told, "warnings": list(job.warnings)}


def _problem(job: Job) -> dict[str, str]:
    if job.state == JobState.CANCELLED:
        who = job.cancel_requested_by or "the portal"
        return {"code": "job_cancelled", "message": f"The job was cancelled by {who}.", "hint": ""}
    return {
        "code": job.error_code,
        "message": job.error_message[:_MAX_TEXT],
        "hint": job.error_hint[:_MAX_TEXT],
    }
