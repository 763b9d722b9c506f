# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks: exclusive, shared, shared up to a limit; whom a job waits for, and who is rung when one is free."""

import pytest

from portal.jobs import locks, runner
from portal.jobs.locks import exclusive, shared
from portal.jobs.models import JobLock
from portal.jobs.states import JobState
from tests.factories import JobFactory
from tests.portal.support import claimed, fresh

pytestmark = pytest.mark.django_db


def job_with(*requests, **fields):
    return JobFactory(lock_keys=[request.as_json() for request in requests], **fields)


@pytest.mark.embedded
@pytest.mark.parametrize(
    ("held", "wanted", "allowed"),
    [
        (exclusive("k"), exclusive("k"), False),
        (exclusive("k"), shared("k"), False),
        (shared("k"), exclusive("k"), False),
        (shared("k"), shared("k"), True),
        (shared("k"), shared("k", limit=1), False),
        (shared("k"), shared("k", limit=2), True),
        (exclusive("k"), exclusive("other"), True),
    ],
)
def test_who_may_hold_a_key_together(held, wanted, allowed):
    assert runner.claim(job_with(held).pk) is not None
    assert (runner.claim(job_with(wanted).pk) is not None) == allowed


@pytest.mark.embedded
def test_a_limit_counts_holders_and_reuses_their_slots():
    jobs = [job_with(shared("environment:1", limit=2)) for _ in range(3)]
    first = runner.claim(jobs[0].pk)
    assert runner.claim(jobs[1].pk) is not None
    assert runner.claim(jobs[2].pk) is None
    locks.release(first)
    assert runner.claim(jobs[2].pk) is not None
    assert sorted(JobLock.objects.values_list("slot", flat=True)) == [0, 1]


def test_of_several_keys_all_are_taken_or_none():
    runner.claim(job_with(exclusive("b")).pk)
    waiting = job_with(exclusive("a"), exclusive("b"), exclusive("c"))
    assert runner.claim(waiting.pk) is None
    assert not JobLock.objects.filter(job=waiting).exists()
    after = fresh(waiting)
    assert (after.state, after.attempts_made, after.claim) == (JobState.PENDING, 0, None)
    assert after.started_at is None
    assert not after.attempts.exists()


def test_a_waiting_job_names_the_job_on_its_own_machine():
    holder = job_with(exclusive("vm:1"), title="Back up web-01")
    runner.claim(holder.pk)
    waiting = job_with(exclusive("vm:1"), vm=holder.vm)
    runner.claim(waiting.pk)
    assert fresh(waiting).waiting_for == "Waits for: Back up web-01"


def test_a_waiting_job_does_not_name_a_machine_of_another_team():
    holder = job_with(shared("environment:1", limit=1), title="Back up their-secret-machine")
    runner.claim(holder.pk)
    waiting = job_with(shared("environment:1", limit=1))
    runner.claim(waiting.pk)
    after = fresh(waiting)
    assert "secret" not in after.waiting_for
    assert "this Manager" in after.waiting_for


@pytest.mark.embedded
def test_the_end_of_a_job_rings_for_those_who_wait_for_its_keys(rings):
    holder = job_with(exclusive("vm:1"))
    waiting, elsewhere = job_with(exclusive("vm:1")), job_with(exclusive("vm:2"), waiting_for="Waits for: x")
    runner.execute(holder.pk, lambda context: runner.claim(waiting.pk))
    assert not JobLock.objects.exists()
    assert [job_id for _, job_id in rings] == [waiting.pk]
    assert elsewhere.pk not in {job_id for _, job_id in rings}
    assert claimed(waiting).job.waiting_for == ""
