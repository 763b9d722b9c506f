# SPDX-License-Identifier: GPL-3.0-or-later
import threading

import pytest

from portal.jobs import progress
from portal.jobs.models import Job
from portal.jobs.progress import ByteProgress
from portal.jobs.states import JobState

pytestmark = pytest.mark.embedded


@pytest.fixture
def clock(monkeypatch):
    """Time that only the test moves."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_rate_is_told_only_once_it_was_measured(clock):
    bar = ByteProgress(lambda: None)
    bar.plan(1000)
    assert bar.read().bytes_per_second is None
    clock[0] += 1.0
    bar.advance(100)
    assert bar.read().bytes_per_second is None
    clock[0] += 1.0
    bar.advance(100)
    assert bar.read().bytes_per_second == pytest.approx(100)


def test_without_a_plan_there_is_no_total_and_no_rate(clock):
    bar = ByteProgress(lambda: None)
    bar.advance(10)
    clock[0] += 100
    reading = bar.read()
    assert (reading.bytes_done, reading.bytes_total, reading.bytes_per_second) == (10, None, None)


def test_bytes_of_an_earlier_attempt_count_as_done_but_not_for_the_rate(clock):
    bar = ByteProgress(lambda: None)
    bar.plan(1000, done_before=800)
    clock[0] += 2
    bar.advance(20)
    reading = bar.read()
    assert (reading.bytes_done, reading.bytes_per_second) == (820, pytest.approx(10))


def test_the_rate_is_smooth_and_a_new_bar_measures_anew(clock):
    bar = ByteProgress(lambda: None)
    bar.plan(10_000)
    for _ in range(5):
        clock[0] += 1
        bar.advance(100)
        bar.read()
    clock[0] += 1
    bar.advance(1000)
    assert 100 < bar.read().bytes_per_second < 300
    bar.plan(500)
    assert bar.read().bytes_per_second is None


def test_many_threads_count_every_byte_and_nobody_sees_fewer_than_before():
    bar = ByteProgress(lambda: None)
    bar.plan(40_000)
    seen, stop = [], threading.Event()

    def watch():
        while not stop.is_set():
            seen.append(bar.read().bytes_done)

    watcher = threading.Thread(target=watch)
    movers = [threading.Thread(target=lambda: [bar.advance(1) for _ in range(5000)]) for _ in range(8)]
    for thread in (watcher, *movers):
        thread.start()
    for thread in movers:
        thread.join()
    stop.set()
    watcher.join()
    assert bar.read().bytes_done == 40_000
    assert seen == sorted(seen)


def test_a_reason_to_stop_reaches_whoever_moves_bytes():
    def stop():
        raise InterruptedError

    bar = ByteProgress(stop)
    with pytest.raises(InterruptedError):
        bar.advance(1)
    assert bar.read().bytes_done == 0


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"bytes_total": 100, "bytes_done": 40, "bytes_per_second": 10.0}, 6.0),
        ({"bytes_total": 100, "bytes_done": 140, "bytes_per_second": 10.0}, 0.0),
        ({"bytes_total": 100, "bytes_done": 40, "bytes_per_second": None}, None),
        ({"bytes_total": None, "bytes_done": 40, "bytes_per_second": 10.0}, None),
        ({"bytes_total": 100, "bytes_done": 40, "bytes_per_second": 10.0, "state": JobState.PENDING}, None),
    ],
)
def test_time_left_is_known_only_with_a_total_and_a_rate_while_running(fields, left):
    assert Job(**{"state": JobState.RUNNING, **fields}).seconds_left == left
