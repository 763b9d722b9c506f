# SPDX-License-Identifier: GPL-3.0-or-later
import threading

import pytest

from backups.transfer.workers import Crew, Tally
from tests.transfer.imageio import Told, wait_for


class Cancelled(Exception):
    pass


class FakeConnection:
    """Its clones come into being only when `answer` is set, as those to a server that stands still do."""

    def __init__(self, answer: threading.Event) -> None:
        self.answer = answer
        self.clones: list[FakeConnection] = []
        self.waiting = 0
        self.closed = threading.Event()
        self.aborted = threading.Event()

    def clone(self) -> "FakeConnection":
        self.waiting += 1
        self.answer.wait()
        made = FakeConnection(self.answer)
        self.clones.append(made)
        return made

    def abort(self) -> None:
        self.aborted.set()

    def close(self) -> None:
        self.closed.set()


def test_a_cancel_does_not_wait_for_connections_that_are_being_made():
    answer = threading.Event()
    first = FakeConnection(answer)
    prepared = []

    def prepare(connection):
        prepared.append(connection)
        return lambda job: connection.aborted.wait()

    told = Told(raise_after=0, error=Cancelled())
    crew = Crew(first, threads=3, jobs=iter(range(100)), prepare=prepare)
    with pytest.raises(Cancelled):
        crew.run(told, Tally())
    assert first.closed.is_set()
    assert first.waiting == 2
    answer.set()
    # The late ones hang up without having been used.
    wait_for(lambda: len(first.clones) == 2 and all(each.closed.is_set() for each in first.clones))
    assert prepared == [first]


def test_without_an_error_every_thread_is_waited_for():
    answer = threading.Event()
    first = FakeConnection(answer)
    handled = []

    def prepare(connection):
        def handle(job):
            handled.append(job)
            if connection is first:
                answer.set()

        return handle

    Crew(first, threads=3, jobs=iter(range(50)), prepare=prepare).run(Told(), Tally())
    assert sorted(handled) == list(range(50))
    assert first.closed.is_set()
    assert [each.closed.is_set() for each in first.clones] == [True, True]
