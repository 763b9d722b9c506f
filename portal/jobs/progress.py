# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a job is, counted by many threads, told to the database by one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

# Seconds over which the rate is smoothed, and how long it must have been measured before it is told.
_SMOOTHING = 8.0
_SETTLE = 1.5


@dataclass(frozen=True)
class Reading:
    bytes_done: int
    bytes_total: int | None
    bytes_per_second: float | None


class ByteProgress:
    """Counts bytes of allocated or dirty data, of one disk at a time; the job's phase says which.

    `advance` raises what `check` raises: cancel, shutdown, lost claim.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._lock = threading.Lock()
        self._done = 0
        self._total: int | None = None
        self._rate: float | None = None
        self._began = 0.0
        self._sampled_at = 0.0
        self._sampled_done = 0

    def plan(self, bytes_total: int, *, done_before: int = 0) -> None:
        """A new bar: `bytes_total` to move, of which an earlier attempt moved `done_before`."""
        self._check()
        with self._lock:
            self._total, self._done, self._rate = bytes_total, done_before, None
            self._began = self._sampled_at = time.monotonic()
            self._sampled_done = done_before

    def advance(self, bytes_moved: int) -> None:
        self._check()
        with self._lock:
            self._done += bytes_moved

    def read(self) -> Reading:
        """The current state; also takes a sample for the rate. Called about once a second."""
        now = time.monotonic()
        with self._lock:
            elapsed = now - self._sampled_at
            if self._total is not None and elapsed >= 0.5:
                sample = (self._done - self._sampled_done) / elapsed
                weight = min(1.0, elapsed / _SMOOTHING)
                self._rate = sample if self._rate is None else self._rate + weight * (sample - self._rate)
                self._sampled_at, self._sampled_done = now, self._done
            settled = self._total is not None and now - self._began >= _SETTLE
            return Reading(self._done, self._total, self._rate if settled else None)
