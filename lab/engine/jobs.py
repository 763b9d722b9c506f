# SPDX-License-Identifier: GPL-3.0-or-later
"""`/jobs`: what the engine tells about its running commands."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from lab.engine.clock import Clock
from lab.engine.events import correlation_id

SUCCEEDED_MINUTES = 10
FAILED_MINUTES = 60


@dataclass(eq=False)
class Step:
    id: str
    number: int
    description: str
    type: str
    started: datetime
    status: str = "started"
    ended: datetime | None = None


@dataclass(eq=False)
class Job:
    id: str
    description: str
    started: datetime
    updated: datetime
    correlation_id: str | None
    status: str = "started"
    ended: datetime | None = None
    steps: list[Step] = field(default_factory=list)


class JobBook:
    """Keeps jobs; finished ones go after 10 minutes, failed ones after 60."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._jobs: dict[str, Job] = {}

    def begin(self, description: str) -> Job:
        now = self._clock.now()
        job = Job(str(uuid.uuid4()), description, now, now, correlation_id.get())
        job.steps.append(Step(str(uuid.uuid4()), 0, "Validating", "validating", now, "finished", now))
        job.steps.append(Step(str(uuid.uuid4()), 1, "Executing", "executing", now))
        self._jobs[job.id] = job
        return job

    def end(self, job: Job, *, succeeded: bool) -> None:
        if job.ended is not None:
            return
        now = self._clock.now()
        status = "finished" if succeeded else "failed"
        job.status, job.ended, job.updated = status, now, now
        for step in job.steps:
            if step.ended is None:
                step.status, step.ended = status, now

    @contextmanager
    def running(self, description: str) -> Iterator[Job]:
        """A job for the length of the block; failed if the block raises."""
        job = self.begin(description)
        try:
            yield job
        except BaseException:
            self.end(job, succeeded=False)
            raise
        self.end(job, succeeded=True)

    def newest_first(self) -> list[Job]:
        self._forget_old()
        return list(self._jobs.values())[::-1]

    def get(self, job_id: str) -> Job | None:
        self._forget_old()
        return self._jobs.get(job_id)

    def _forget_old(self) -> None:
        for job in list(self._jobs.values()):
            minutes = SUCCEEDED_MINUTES if job.status == "finished" else FAILED_MINUTES
            if self._clock.older_than(job.ended, minutes):
                del self._jobs[job.id]
