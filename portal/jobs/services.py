# SPDX-License-Identifier: GPL-3.0-or-later
"""Making, ringing, cancelling and repeating jobs. The same for page, API, schedule and command line."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import F, Model
from django.db.models.functions import Now
from kombu.exceptions import OperationalError

from portal.audit import services as audit
from portal.environments.models import VirtualMachine
from portal.errors import NotAllowed, PortalError
from portal.jobs import announce, clock
from portal.jobs.errors import JobNotCancellable, JobNotRetryable
from portal.jobs.locks import LockRequest
from portal.jobs.models import Job
from portal.jobs.states import ACTIVE, JobState

log = logging.getLogger(__name__)


def create_job(
    *,
    kind: str,
    task: str,
    title: str,
    actor: Any,
    locks: Sequence[LockRequest] = (),
    params: dict[str, Any] | None = None,
    **fields: Any,
) -> Job:
    """A pending job, rung for after commit. `fields` are further columns of Job (vm, environment, ticket …)."""
    person = actor if getattr(actor, "is_authenticated", False) else None
    if "subject_label" in fields:
        fields["subject_label"] = fields["subject_label"][:255]
    if fields.get("vm") is not None:
        fields.setdefault("vm_name", fields["vm"].name)
    job = Job.objects.create(
        kind=kind,
        task=task,
        title=title[:300],
        requested_by=person,
        requested_by_name=person.get_username() if person else "portal",
        lock_keys=[request.as_json() for request in locks],
        params=params or {},
        **fields,
    )
    if job.state == JobState.WAITING:
        announce.waiting(job.pk)
    transaction.on_commit(partial(ring, job.pk, task))
    return job


def order_job(
    action: str,
    *,
    actor: Any,
    via: str,
    about: Model | None = None,
    noted: dict[str, Any] | None = None,
    **fields: Any,
) -> Job:
    """A pending job and its entry in the history, or neither. `fields` as `create_job` takes them.

    The entry is on `about` and names the job and what is `noted`.
    """
    with transaction.atomic():
        job = create_job(actor=actor, via=via, **fields)
        audit.record(action, actor=actor, subject=about, via=via, job=str(job.uuid), **(noted or {}))
    return job


def about_vm(vm: VirtualMachine) -> dict[str, Any]:
    """The columns of a job that is about a machine as a whole."""
    return {
        "environment": vm.environment,
        "vm": vm,
        "subject_label": vm.name,
        "subject_url": vm.get_absolute_url(),
    }


def ring(job_id: int, task: str) -> None:
    """Tell some worker to look at the row. A lost or refused ring is harmless: beat rings again."""
    from celery import current_app

    Job.objects.filter(pk=job_id, state=JobState.PENDING).update(rung_at=Now())
    try:
        current_app.send_task(task, args=[job_id], expires=3600)
    except (OperationalError, OSError) as error:
        log.warning("The broker did not take a ring for job %s: %s", job_id, error)


def _ring_if_pending(job_id: int, task: str) -> None:
    if Job.objects.filter(pk=job_id, state=JobState.PENDING).exists():
        ring(job_id, task)


def go_on(job: Job) -> bool:
    """A person has let a waiting job go on. False if it no longer waits."""
    with transaction.atomic():
        moved = Job.objects.filter(pk=job.pk, state=JobState.WAITING).update(
            state=JobState.PENDING, waiting_for="", waiting_url=""
        )
        if moved:
            transaction.on_commit(partial(_ring_if_pending, job.pk, job.task))
    return bool(moved)


def end_waiting(job: Job, problem: PortalError) -> bool:
    """End a waiting job that never ran, because of `problem`. False if it no longer waits."""
    with transaction.atomic():
        ended = Job.objects.filter(pk=job.pk, state=JobState.WAITING, attempts_made=0).update(
            state=JobState.FAILED,
            finished_at=Now(),
            waiting_for="",
            waiting_url="",
            error_code=problem.code,
            error_message=problem.message,
            error_hint=problem.hint,
        )
        if ended:
            announce.ended(job.pk)
    return bool(ended)


def ring_after_release(keys: Sequence[str]) -> None:
    """Jobs that may have waited for these keys can try now."""
    waiting = Job.objects.filter(state=JobState.PENDING).exclude(waiting_for="")
    for job in waiting.only("pk", "task", "lock_keys"):
        if any(item["key"] in keys for item in job.lock_keys):
            ring(job.pk, job.task)


def cancel_job(*, actor: Any, job: Job, via: str = "page") -> Job:
    """Ends a job that never ran at once; asks a running one to clean up and end, within seconds.

    Raises NotAllowed, or JobNotCancellable if it has already ended.
    """
    _require_steering(actor, job)
    with transaction.atomic():
        ended = Job.objects.filter(
            pk=job.pk, state__in=[JobState.PENDING, JobState.WAITING], attempts_made=0
        ).update(
            state=JobState.CANCELLED,
            cancel_requested_at=Now(),
            cancel_requested_by=actor.get_username(),
            finished_at=Now(),
            waiting_for="",
        )
        asked = ended or Job.objects.filter(pk=job.pk, state__in=ACTIVE).update(
            cancel_requested_at=Now(), cancel_requested_by=actor.get_username()
        )
        if not asked:
            raise JobNotCancellable(
                "This job has already ended, so there is nothing to cancel.", hint="Reload the page."
            )
        # What an earlier attempt made outside is cleaned up by a worker: now, not when a person or a delay ends.
        Job.objects.filter(pk=job.pk, state=JobState.WAITING).update(state=JobState.PENDING, waiting_for="")
        transaction.on_commit(partial(_ring_if_pending, job.pk, job.task))
        if ended:
            announce.ended(job.pk)
        audit.record("job.cancel", actor=actor, subject=job, via=via)
    job.refresh_from_db()
    return job


def retry_job(*, actor: Any, job: Job, via: str = "page") -> Job:
    """A new job with the same order. Raises NotAllowed, or JobNotRetryable unless it failed or was cancelled."""
    _require_steering(actor, job)
    if job.state not in (JobState.FAILED, JobState.CANCELLED):
        raise JobNotRetryable("Only a failed or cancelled job can be tried again; nothing was started.")
    if job.retries.filter(state__in=ACTIVE).exists():
        raise JobNotRetryable("This job is already being tried again; nothing more was started.")
    with transaction.atomic():
        again = create_job(
            kind=job.kind,
            task=job.task,
            title=job.title,
            actor=actor,
            locks=[LockRequest(**item) for item in job.lock_keys],
            params=job.params,
            environment=job.environment,
            vm=job.vm,
            subject_label=job.subject_label,
            subject_url=job.subject_url,
            requested_for=job.requested_for,
            capability=job.capability,
            method=job.method,
            reason=job.reason,
            ticket=job.ticket,
            via=via,
            retry_of=job,
        )
        audit.record("job.retry", actor=actor, subject=again, via=via, retry_of=str(job.uuid))
    return again


def see_to_warnings(*, actor: Any, job: Job, via: str = "page") -> Job:
    """Note that a person has dealt with what an ended job left or warned of. Raises NotAllowed. Safe to repeat."""
    _require_steering(actor, job)
    with transaction.atomic():
        noted = (
            Job.objects.with_open_warnings()
            .filter(pk=job.pk)
            .update(warnings_open=False, warnings_seen_at=Now(), warnings_seen_by=actor.get_username())
        )
        if noted:
            audit.record("job.warnings_seen", actor=actor, subject=job, via=via, warnings=job.warnings)
    job.refresh_from_db()
    return job


def settle_warnings(job: Job, *, gone: Collection[str]) -> bool:
    """The portal itself has dealt with what an ended job left: `gone` are the ids of it.

    True if no warning is about anything else, so that nobody needs to look any more.
    """
    if not job.warnings or not all(any(name in text for name in gone) for text in job.warnings):
        return False
    with transaction.atomic():
        settled = (
            Job.objects.with_open_warnings()
            .filter(pk=job.pk)
            .update(warnings_open=False, warnings_seen_at=Now(), warnings_seen_by="the portal")
        )
        if settled:
            audit.record("job.warnings_settled", actor=None, subject=job, via="schedule", gone=sorted(gone))
    return bool(settled)


def _require_steering(actor: Any, job: Job) -> None:
    if not job.may_be_steered_by(actor):
        raise NotAllowed(
            "Your role does not allow to steer this job; it stays as it was.",
            hint="Ask an operator or admin of the machine's team.",
        )


def ring_pending(*, older_than_seconds: int) -> int:
    """Ring again for every pending row that nobody has taken. Returns how many."""
    limit = clock.database_now() - dt.timedelta(seconds=older_than_seconds)
    rows = Job.objects.filter(state=JobState.PENDING).filter(rung_at__lt=limit) | Job.objects.filter(
        state=JobState.PENDING, rung_at=None, created_at__lt=limit
    )
    count = 0
    for job in rows.only("pk", "task").order_by(F("rung_at").asc(nulls_first=True))[:200]:
        ring(job.pk, job.task)
        count += 1
    return count
