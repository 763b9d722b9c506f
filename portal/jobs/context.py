# SPDX-License-Identifier: GPL-3.0-or-later
"""What a procedure holds while it runs: its job, its claim, steps, progress, log, and when to stop."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from django.db.models.functions import Now
from django.utils import timezone

from portal.errors import PortalError
from portal.jobs.errors import ClaimLost, JobCancelled, JobInterrupted
from portal.jobs.models import Job, JobLogLine, JobStep
from portal.jobs.progress import ByteProgress
from portal.jobs.states import JobState, StepState

log = logging.getLogger(__name__)

# Characters of a step's title and of a phase, as their columns have it; names on the Manager may be longer.
MAX_TITLE = 200


class JobContext:
    """One attempt at one job. Safe to read from several threads; write from the procedure's own thread."""

    def __init__(self, job: Job, shutdown: threading.Event) -> None:
        assert job.claim is not None
        self.job = job
        self.claim: uuid.UUID = job.claim
        self.claim_lost = threading.Event()
        self.cancel_requested = threading.Event()
        if job.cancel_requested_at is not None:
            self.cancel_requested.set()
        self._shutdown = shutdown
        self._cleaning = False
        self._confirmed_at = time.monotonic()
        self.progress = ByteProgress(self.check)

    @property
    def params(self) -> dict[str, Any]:
        params: dict[str, Any] = self.job.params
        return params

    @property
    def memory(self) -> dict[str, Any]:
        """What earlier attempts and this one have made outside; change it by `remember`."""
        memory: dict[str, Any] = self.job.resume_state
        return memory

    @property
    def is_resumed(self) -> bool:
        return self.job.attempts_made > 1

    @property
    def giving_up(self) -> bool:
        """True in the one attempt after the last allowed: it only cleans up and ends."""
        return self.job.tries > settings.JOB_MAX_ATTEMPTS

    @property
    def backoff(self) -> float:
        """Seconds before the next attempt after a retryable error."""
        return float(min(60, settings.JOB_BACKOFF * 2 ** max(0, self.job.tries - 1)))

    def check(self) -> None:
        """Raise if this attempt must stop. Cleaning up is only stopped by a lost claim."""
        self._check_claim()
        if self._cleaning:
            return
        if self.cancel_requested.is_set():
            raise JobCancelled
        if self._shutdown.is_set():
            raise JobInterrupted

    def confirmed(self, moment: float) -> None:
        """The claim was seen to be ours at `moment` (time.monotonic() before asking)."""
        self._confirmed_at = max(self._confirmed_at, moment)

    def _check_claim(self) -> None:
        """A process that was stopped for longer than the lease must ask before it believes that it is still alone."""
        if not self.claim_lost.is_set() and time.monotonic() - self._confirmed_at > settings.JOB_LEASE:
            try:
                self.require_claim()
            except (DatabaseError, InterfaceError):
                log.warning("The claim could not be confirmed; going on.", exc_info=True)
        if self.claim_lost.is_set():
            raise ClaimLost

    def require_claim(self) -> None:
        """Raise ClaimLost unless the row says, now, that this attempt is the one."""
        moment = time.monotonic()
        if not self.still_owner():
            self.claim_lost.set()
            raise ClaimLost
        self.confirmed(moment)

    def pause(self, seconds: float) -> None:
        """Wait, but notice cancel, shutdown and a lost claim within half a second."""
        waited = 0.0
        while waited < seconds:
            self.check()
            piece = min(0.5, seconds - waited)
            self.claim_lost.wait(piece)
            waited += piece
        self.check()

    def will_try_again(self, error: BaseException) -> bool:
        """Whether outside things should be left for the next attempt instead of being cleaned up."""
        if isinstance(error, JobInterrupted | ClaimLost):
            return True
        # A database that went away for a moment says nothing about the job's own work.
        retryable = isinstance(error, OperationalError | InterfaceError) or (
            isinstance(error, PortalError) and error.retryable
        )
        return retryable and self.job.tries < settings.JOB_MAX_ATTEMPTS

    @contextmanager
    def cleaning(self) -> Iterator[None]:
        """Inside, cancel and shutdown are not raised: what was begun outside is ended.

        Raises ClaimLost at once if another worker has the job: then it is all the successor's.
        """
        self.require_claim()
        self._cleaning = True
        try:
            yield
        finally:
            self._cleaning = False

    def still_owner(self) -> bool:
        return Job.objects.filter(pk=self.job.pk, claim=self.claim, state=JobState.RUNNING).exists()

    def write(self, **values: Any) -> None:
        """Change columns of the job. Raises ClaimLost if it is no longer ours."""
        moment = time.monotonic()
        if "phase" in values:
            values["phase"] = values["phase"][:MAX_TITLE]
        mine = Job.objects.filter(pk=self.job.pk, claim=self.claim, state=JobState.RUNNING)
        if not mine.update(progress_at=Now(), **values):
            self.claim_lost.set()
            raise ClaimLost
        self.confirmed(moment)
        for name, value in values.items():
            setattr(self.job, name, value)

    def remember(self, **facts: Any) -> None:
        """Merge into resume_state, durably, before or as the outside thing comes to exist. None forgets a fact."""
        memory = {**self.memory, **facts}
        self.write(resume_state={key: value for key, value in memory.items() if value is not None})

    def warn(self, text: str) -> None:
        """A success may have warnings; they stand on the job."""
        log.warning("%s", text)
        if text not in self.job.warnings:
            self.write(warnings=[*self.job.warnings, text], warnings_open=True)
        self.tell(text, level="warning")

    def tell(self, text: str, *, level: str = "info") -> None:
        """A line in the job's log. Never put a secret or a transfer URL into it."""
        log.info("%s", text)
        if self.claim_lost.is_set() or not self.still_owner():
            return  # the log is the successor's too
        JobLogLine.objects.create(job=self.job, level=level, text=text)

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[JobStep]:
        """One named step; a repeated attempt writes the same row again. Set `.detail` on what it yields."""
        self.check()
        step = self._begin(name, title)
        try:
            yield step
        except BaseException as error:
            if isinstance(error, PortalError) and not step.detail:
                step.detail = error.message
            self._end_step(step, self._ending_of_step(error))
            raise
        else:
            if not self._end_step(step, StepState.SUCCEEDED):
                raise ClaimLost

    def _ending_of_step(self, error: BaseException) -> StepState:
        if self.will_try_again(error):
            return StepState.INTERRUPTED
        return StepState.SKIPPED if isinstance(error, JobCancelled) else StepState.FAILED

    def _end_step(self, step: JobStep, state: StepState) -> bool:
        """Write how the step ended, if the job is still ours: the row may be a successor's by now."""
        if self.claim_lost.is_set():
            return False
        step.state, step.finished_at = state, timezone.now()
        with transaction.atomic():
            mine = Job.objects.filter(pk=self.job.pk, claim=self.claim, state=JobState.RUNNING)
            if not mine.update(progress_at=Now()):
                self.claim_lost.set()
                return False
            step.save(update_fields=["state", "detail", "finished_at"])
        return True

    def _begin(self, name: str, title: str) -> JobStep:
        title = title[:MAX_TITLE]
        with transaction.atomic():
            self.write(phase=title)
            step = JobStep.objects.filter(job=self.job, name=name).first()
            if step is None:
                position = JobStep.objects.filter(job=self.job).count()
                step = JobStep(job=self.job, name=name, position=position)
                step.started_at = timezone.now()
            step.title, step.state, step.finished_at = title, StepState.RUNNING, None
            step.started_at = step.started_at or timezone.now()
            step.save()
        self.tell(title)
        return step

    def close_steps(self, state: JobState) -> None:
        """No step of an ended attempt stays `running`. Called with the write that ends the attempt."""
        ending = StepState.INTERRUPTED if state == JobState.INTERRUPTED else StepState.SKIPPED
        JobStep.objects.filter(job=self.job, state=StepState.RUNNING).update(
            state=ending, finished_at=timezone.now()
        )
