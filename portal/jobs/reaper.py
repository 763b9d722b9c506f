# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes back the jobs of dead workers, a bounded number of times."""

from __future__ import annotations

import datetime as dt
import logging

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from portal.jobs import announce, clock, locks, services
from portal.jobs.models import Job, JobAttempt, JobStep
from portal.jobs.states import JobState, StepState

log = logging.getLogger(__name__)

# One attempt more than the last allowed, which only cleans up, and one more if that one dies too.
_CLEANING_ATTEMPTS = 2


def reap() -> int:
    """running + silent for longer than the lease → interrupted → pending, or failed at the end. Returns how many."""
    limit = clock.database_now() - dt.timedelta(seconds=settings.JOB_LEASE)
    silent = Job.objects.filter(state=JobState.RUNNING, heartbeat_at__lt=limit)
    return sum(_take_back(job, limit) for job in silent)


def _take_back(job: Job, limit: dt.datetime) -> bool:
    claim = job.claim
    assert claim is not None  # every running row has one
    given_up = job.tries >= settings.JOB_MAX_ATTEMPTS + _CLEANING_ATTEMPTS
    with transaction.atomic():
        row = Job.objects.filter(pk=job.pk, state=JobState.RUNNING, claim=claim, heartbeat_at__lt=limit)
        if not row.update(state=JobState.INTERRUPTED, claim=None, phase="", bytes_per_second=None):
            return False
        JobAttempt.objects.filter(job=job, claim=claim).update(
            ended_at=timezone.now(), ending="the worker fell silent"
        )
        JobStep.objects.filter(job=job, state=StepState.RUNNING).update(state=StepState.INTERRUPTED)
        locks.release(job)
        interrupted = Job.objects.filter(pk=job.pk, state=JobState.INTERRUPTED)
        if given_up:
            interrupted.update(
                state=JobState.FAILED,
                finished_at=timezone.now(),
                error_code="gave_up",
                error_message=f"Workers stopped {job.attempts_made} times while they worked on this job. "
                f"What it had begun on the Manager may still be there: {_leftovers(job)}.",
                error_hint="Look at the workers' logs, clean up on the Manager, then try again.",
            )
            announce.ended(job.pk)
        else:
            interrupted.update(state=JobState.PENDING)
    log.warning("Job %s was taken back from a silent worker.", job.uuid)
    if not given_up:
        services.ring(job.pk, job.task)
    return True


def _leftovers(job: Job) -> str:
    """Ids on the Manager that procedures remember under these names: one, or several by what they belong to."""
    named = []
    for key in ("backup_id", "snapshot_id", "to_checkpoint_id", "vm_id", "transfers", "disk_ids"):
        value = job.resume_state.get(key)
        for one in value.values() if isinstance(value, dict) else [value] if value else []:
            named.append(f"{key} {one}")
    return ", ".join(named) or "nothing is recorded"
