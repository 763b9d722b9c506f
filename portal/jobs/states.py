# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job may be, and what may follow what. One table; everything that moves a job asks it."""

from __future__ import annotations

from django.db import models


class JobState(models.TextChoices):
    PENDING = "pending", "Pending"
    RUNNING = "running", "Running"
    WAITING = "waiting", "Waiting for you"
    INTERRUPTED = "interrupted", "Interrupted"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


S = JobState
MOVES: dict[JobState, frozenset[JobState]] = {
    S.PENDING: frozenset({S.RUNNING, S.CANCELLED, S.FAILED}),
    S.RUNNING: frozenset({S.WAITING, S.INTERRUPTED, S.SUCCEEDED, S.FAILED, S.CANCELLED}),
    S.WAITING: frozenset({S.PENDING, S.CANCELLED, S.FAILED}),
    S.INTERRUPTED: frozenset({S.PENDING, S.FAILED}),
    S.SUCCEEDED: frozenset(),
    S.FAILED: frozenset(),
    S.CANCELLED: frozenset(),
}
FINISHED = frozenset(state for state, following in MOVES.items() if not following)
ACTIVE = frozenset(MOVES) - FINISHED


def sources_of(target: JobState) -> list[str]:
    """The states from which `target` may be reached."""
    return [state.value for state, following in MOVES.items() if target in following]


class StepState(models.TextChoices):
    PENDING = "pending", "Pending"
    RUNNING = "running", "Running"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    SKIPPED = "skipped", "Skipped"
    INTERRUPTED = "interrupted", "Interrupted"
