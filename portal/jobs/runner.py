# SPDX-License-Identifier: GPL-3.0-or-later
"""Claim a job's row, beat its heart, run its procedure, record how it ended.

The claim token stands in the WHERE of every write, so a stalled worker that wakes up after its job was
taken over can change nothing any more.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import F
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from portal import logs
from portal.errors import PortalError
from portal.jobs import announce, clock, locks, services
from portal.jobs.context import JobContext
from portal.jobs.errors import ClaimLost, GaveUp, JobCancelled, JobInterrupted
from portal.jobs.models import Job, JobAttempt
from portal.jobs.states import JobState, sources_of

log = logging.getLogger(__name__)
shutdown = threading.Event()

# What a job waits for when somebody else's holds the lock, by the first word of the lock's key.
WAITS_FOR = {
    "environment": "Waits for a free place: enough other jobs are running on this Manager",
    "name": "Waits for another job that makes a machine of this name",
    "repository": "Waits for another job on the repository",
}
Procedure = Callable[[JobContext], None]


def execute(job_id: int, procedure: Procedure) -> None:
    """Run one attempt, if the row can be claimed; a second delivery of the same ring does nothing."""
    if shutdown.is_set():
        return  # a claim would only cost the job one of its attempts; beat rings again
    job = claim(job_id)
    if job is None:
        return
    token = logs.job_id.set(str(job.uuid))
    context = JobContext(job, shutdown)
    try:
        with _heart(context):
            _attempt(context, procedure)
    finally:
        logs.job_id.reset(token)


def claim(job_id: int) -> Job | None:
    """pending → running with a fresh claim token and all locks, in one transaction; None if it cannot be had."""
    token = uuid.uuid4()
    try:
        with transaction.atomic():
            taken = Job.objects.filter(pk=job_id, state__in=sources_of(JobState.RUNNING)).update(
                state=JobState.RUNNING,
                claim=token,
                heartbeat_at=Now(),
                progress_at=Now(),
                started_at=Coalesce(F("started_at"), Now()),
                attempts_made=F("attempts_made") + 1,
                waiting_for="",
                bytes_done=0,
                bytes_total=None,
                bytes_per_second=None,
            )
            if not taken:
                return None
            job = Job.objects.select_related("vm", "environment", "requested_by").get(pk=job_id)
            locks.acquire(job)
            JobAttempt.objects.create(
                job=job, number=job.attempts_made, claim=token, worker=f"{socket.gethostname()}:{os.getpid()}"
            )
            if job.attempts_made == 1:
                announce.started(job)
    except locks.LockHeld as held:
        Job.objects.filter(pk=job_id, state=JobState.PENDING).update(
            waiting_for=_waits_for(job, held)[:300], rung_at=Now()
        )
        return None
    return job


def _waits_for(job: Job, held: locks.LockHeld) -> str:
    """Whom the job waits for; another machine is not named, since not everybody who sees this job may see that one."""
    if held.holder.vm_id is not None and held.holder.vm_id == job.vm_id:
        return f"Waits for: {held.holder.title}"
    return WAITS_FOR.get(held.request.key.partition(":")[0], "Waits for another job to end")


def _attempt(context: JobContext, procedure: Procedure) -> None:
    try:
        procedure(context)
    except ClaimLost:
        log.warning("This job was taken over by another worker; nothing more is written here.")
    except JobInterrupted:
        _finish(context, JobState.INTERRUPTED, ending="the worker was stopped", stopped=True)
    except JobCancelled:
        _finish(context, JobState.CANCELLED, ending="cancelled")
    except PortalError as error:
        if context.will_try_again(error):
            _finish(
                context, JobState.INTERRUPTED, ending=f"{error.code}: {error.message}", delay=context.backoff
            )
        else:
            _finish(context, JobState.FAILED, error=error, ending=f"{error.code}: {error.message}")
    except Exception as error:
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()  # a broken one could not record the ending either
        log.exception("An unexpected error ended this attempt.")
        ending = f"unexpected {type(error).__name__}"
        if context.will_try_again(error):
            _finish(context, JobState.INTERRUPTED, ending=ending, delay=context.backoff)
        else:
            _finish(context, JobState.FAILED, error=error, ending=ending)
    else:
        _finish(context, JobState.SUCCEEDED, ending="succeeded")


def _finish(
    context: JobContext,
    state: JobState,
    *,
    ending: str,
    error: Exception | None = None,
    delay: float = 0.0,
    stopped: bool = False,
) -> None:
    """`delay` seconds until the next attempt; `stopped` = in good order, which does not count as a try."""
    reading = context.progress.read()
    values: dict[str, Any] = {"state": state, "claim": None, "phase": "", **_error_values(error)}
    if state == JobState.INTERRUPTED:
        values["times_stopped"] = F("times_stopped") + int(stopped)
        values["rung_at"] = clock.database_now() + dt.timedelta(seconds=delay)
    else:
        values |= {"finished_at": Now(), "bytes_done": reading.bytes_done, "bytes_per_second": None}
    with transaction.atomic():
        written = Job.objects.filter(
            pk=context.job.pk, claim=context.claim, state__in=sources_of(state)
        ).update(**values)
        if not written:
            log.warning("This job was taken over while it ended; its successor decides.")
            return
        context.close_steps(state)
        JobAttempt.objects.filter(job=context.job, claim=context.claim).update(
            ended_at=timezone.now(), ending=ending[:300]
        )
        locks.release(context.job)
        if state == JobState.INTERRUPTED:
            Job.objects.filter(pk=context.job.pk, state=JobState.INTERRUPTED).update(state=JobState.PENDING)
        else:
            announce.ended(context.job.pk)
    if state == JobState.INTERRUPTED and not delay:
        services.ring(context.job.pk, context.job.task)
    services.ring_after_release([item["key"] for item in context.job.lock_keys])


def _error_values(error: Exception | None) -> dict[str, Any]:
    if error is None:
        return {"error_code": "", "error_message": "", "error_hint": "", "error_detail": ""}
    if isinstance(error, PortalError):
        return {
            "error_code": error.code,
            "error_message": error.message,
            "error_hint": error.hint,
            "error_retryable": error.retryable,
        }
    reference = uuid.uuid4().hex[:12]
    log.error("Reference %s", reference)
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return {
        "error_code": "unexpected",
        "error_message": "The portal met an error that it does not know; the job was ended and cleaned up.",
        "error_hint": f"Try again; if it fails again, give reference {reference} to your administrator.",
        "error_reference": reference,
        # Types and places only: the text of an unknown error may hold anything, secrets too.
        "error_detail": "\n".join(
            [type(error).__name__, *(f"{frame.name}:{frame.lineno}" for frame in frames)]
        ),
    }


@contextmanager
def _heart(context: JobContext) -> Iterator[None]:
    stopped = threading.Event()
    thread = threading.Thread(
        target=_beat, args=(context, stopped), name=f"heart-{context.job.pk}", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(timeout=30)


def _beat(context: JobContext, stopped: threading.Event) -> None:
    """Once a second: progress; every JOB_HEARTBEAT seconds: the heartbeat. Also learns of cancel and lost claims."""
    last_beat = last_done = -1.0
    ticks = 0
    try:
        while not stopped.wait(1.0):
            ticks += 1
            moment = time.monotonic()
            reading = context.progress.read()
            values: dict[str, Any] = {}
            if reading.bytes_done != last_done or reading.bytes_total is not None:
                values = {
                    "bytes_done": reading.bytes_done,
                    "bytes_total": reading.bytes_total,
                    "bytes_per_second": reading.bytes_per_second,
                }
                if reading.bytes_done != last_done:
                    values["progress_at"] = Now()
            if last_beat < 0 or ticks - last_beat >= settings.JOB_HEARTBEAT:
                values["heartbeat_at"] = Now()
            try:
                alive = Job.objects.filter(pk=context.job.pk, claim=context.claim, state=JobState.RUNNING)
                row = alive.values_list("cancel_requested_at", flat=True).first()
                still_ours = alive.update(**values) if values else alive.exists()
            except (DatabaseError, InterfaceError):
                log.warning("The heartbeat could not be written; trying again.", exc_info=True)
                connection.close()
                continue
            if not still_ours:
                context.claim_lost.set()
                return
            context.confirmed(moment)
            if "heartbeat_at" in values:
                last_beat = ticks
            last_done = reading.bytes_done
            if row is not None:
                context.cancel_requested.set()
    finally:
        connection.close()


def give_up(context: JobContext) -> GaveUp:
    """What a procedure raises after cleaning up, when too many workers died on its job."""
    return GaveUp(
        f"{context.job.tries - 1} workers died while they worked on this job; it was ended and cleaned up.",
        hint="Look at the workers' logs (memory, restarts), then try again.",
    )
