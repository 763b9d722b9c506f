# SPDX-License-Identifier: GPL-3.0-or-later
"""Several threads, one connection each, working off one stream of jobs; the caller's thread tells of progress."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from backups.transfer.connection import Connection
from backups.transfer.endpoint import Progress

TELL_EVERY_SECONDS = 0.25
Job = TypeVar("Job")


class Tally:
    """What the threads have done so far, in bytes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._untold = 0
        self.moved = 0

    def add(self, *, done: int = 0, moved: int = 0) -> None:
        """`done` of what was planned is done; `moved` went over the wire."""
        with self._lock:
            self._untold += done
            self.moved += moved

    def take(self) -> int:
        """Bytes done since the last call."""
        with self._lock:
            untold, self._untold = self._untold, 0
            return untold


class Crew(Generic[Job]):
    """Runs every job once, on any of its threads; the first error stops all of them.

    `prepare(connection)` is called in each thread and returns what handles one job there. All connections that
    have asked for anything, `first` too, are closed when `run` returns or raises. A thread that is still waiting
    for its connection then is left alone: it hangs up, without a request, when the server answers or its time is up.
    """

    def __init__(
        self,
        first: Connection,
        *,
        threads: int,
        jobs: Iterator[Job],
        prepare: Callable[[Connection], Callable[[Job], None]],
    ) -> None:
        self._first = first
        self._count = max(1, threads)
        self._jobs = jobs
        self._prepare = prepare
        self._next = threading.Lock()
        self._state = threading.Condition()
        # Numbers of the threads that have not ended, and of those among them that have no connection yet.
        self._running: set[int] = set()
        self._connecting: set[int] = set()
        self._error: BaseException | None = None
        self._connections: list[Connection] = [first]

    def run(self, progress: Progress, tally: Tally) -> None:
        """Raises the first error of a thread, or what `progress` raised, unchanged."""
        threads = [
            threading.Thread(target=self._work, args=(number,), name=f"transfer-{number}", daemon=True)
            for number in range(self._count)
        ]
        try:
            for number, thread in enumerate(threads):
                self._start(number, thread)
            self._tell(progress, tally)
        except BaseException as error:
            self._fail(error)
        finally:
            with self._state:
                self._state.wait_for(self._is_over)
            self._first.close()
        if self._error is not None:
            raise self._error
        progress.advance(tally.take())

    def _start(self, number: int, thread: threading.Thread) -> None:
        with self._state:
            self._running.add(number)
        try:
            thread.start()
        except BaseException:
            with self._state:
                self._running.discard(number)
            raise

    def _is_over(self) -> bool:
        return not self._running if self._error is None else self._running <= self._connecting

    def _tell(self, progress: Progress, tally: Tally) -> None:
        while True:
            with self._state:
                if self._running and self._error is None:
                    self._state.wait(TELL_EVERY_SECONDS)
                if not self._running or self._error is not None:
                    return
            progress.advance(tally.take())

    def _work(self, number: int) -> None:
        connection: Connection | None = None
        try:
            connection = self._connect(number)
            if self._error is not None:
                return
            handle = self._prepare(connection)
            while (job := self._next_job()) is not None:
                handle(job)
        except BaseException as error:
            self._fail(error)
        finally:
            if connection is not None:
                connection.close()
            with self._state:
                self._running.discard(number)
                self._state.notify_all()

    def _connect(self, number: int) -> Connection:
        if number == 0:
            return self._first
        with self._state:
            self._connecting.add(number)
            self._state.notify_all()
        try:
            connection = self._first.clone()
            with self._state:
                self._connections.append(connection)
            return connection
        finally:
            with self._state:
                self._connecting.discard(number)

    def _next_job(self) -> Job | None:
        with self._next:
            if self._error is not None:
                return None
            return next(self._jobs, None)

    def _fail(self, error: BaseException) -> None:
        with self._state:
            if self._error is None:
                self._error = error
            # What the others meet from now on is only the consequence.
            connections = list(self._connections)
            self._state.notify_all()
        for connection in connections:
            connection.abort()
