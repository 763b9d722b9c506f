# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks that jobs hold while they run: several keys a job, exclusive, shared, or shared up to a limit.

Every taker first writes the key's LockName row, so two takers of one key run one after the other on
PostgreSQL (row lock) and on SQLite (one writer), and the check below is not a race.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from django.db.models import F

from portal.jobs.models import Job, JobLock, LockName


@dataclass(frozen=True)
class LockRequest:
    """`limit` = how many may share the key at once; None = any number. Ignored for exclusive locks."""

    key: str
    mode: str = JobLock.Mode.EXCLUSIVE
    limit: int | None = None

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "mode": str(self.mode)}


def exclusive(key: str) -> LockRequest:
    return LockRequest(key)


def shared(key: str, *, limit: int | None = None) -> LockRequest:
    return LockRequest(key, JobLock.Mode.SHARED, limit)


class LockHeld(Exception):
    """Somebody else holds what the job needs; `holder` is one of them."""

    def __init__(self, request: LockRequest, holder: Job) -> None:
        super().__init__(request.key)
        self.request = request
        self.holder = holder


def acquire(job: Job) -> None:
    """Take all of the job's locks or raise LockHeld. Must run inside a transaction, which LockHeld rolls back."""
    requests = sorted((LockRequest(**item) for item in job.lock_keys), key=lambda request: request.key)
    for request in requests:
        LockName.objects.get_or_create(key=request.key)
        LockName.objects.filter(key=request.key).update(wanted=F("wanted") + 1)
        others = list(JobLock.objects.filter(key=request.key).exclude(job=job).select_related("job"))
        blocking = [lock for lock in others if JobLock.Mode.EXCLUSIVE in (lock.mode, request.mode)]
        if not blocking and request.limit is not None and len(others) >= request.limit:
            blocking = others
        if blocking:
            raise LockHeld(request, blocking[0].job)
        taken = {lock.slot for lock in others}
        slot = next(number for number in range(len(taken) + 1) if number not in taken)
        JobLock.objects.filter(key=request.key, job=job).delete()
        JobLock.objects.create(key=request.key, slot=slot, mode=request.mode, job=job)


def release(job: Job) -> None:
    JobLock.objects.filter(job=job).delete()
