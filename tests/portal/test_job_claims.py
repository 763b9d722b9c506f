# SPDX-License-Identifier: GPL-3.0-or-later
"""Claim tokens: who has a job, and what a worker that lost it can still do (nothing)."""

import threading
import uuid

import pytest
from django.db import connection

from portal.jobs import locks, runner
from portal.jobs.errors import ClaimLost
from portal.jobs.models import Job, JobAttempt, JobLock, JobLogLine
from portal.jobs.states import ACTIVE, FINISHED, MOVES, JobState, sources_of
from tests.factories import JobFactory
from tests.portal.support import claimed, fresh

pytestmark = pytest.mark.django_db


@pytest.mark.embedded
def test_only_the_first_of_two_claims_gets_the_job():
    job = JobFactory()
    first = runner.claim(job.pk)
    assert first is not None
    assert first.state == JobState.RUNNING
    assert first.claim is not None
    assert runner.claim(job.pk) is None
    assert fresh(job).claim == first.claim
    assert JobAttempt.objects.filter(job=job).count() == 1


@pytest.mark.embedded
@pytest.mark.parametrize("state", [state for state in JobState if state != JobState.PENDING])
def test_only_pending_jobs_can_be_claimed(state):
    job = JobFactory(state=state)
    assert runner.claim(job.pk) is None
    assert fresh(job).state == state


def test_a_job_that_is_not_there_cannot_be_claimed():
    assert runner.claim(10**9) is None


@pytest.mark.embedded
def test_no_move_leads_out_of_an_ended_state():
    assert frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}) == FINISHED
    assert frozenset(JobState) == ACTIVE | FINISHED
    for target in JobState:
        assert not FINISHED & {JobState(source) for source in sources_of(target)}
    assert sources_of(JobState.RUNNING) == ["pending"]
    assert set(MOVES[JobState.INTERRUPTED]) == {JobState.PENDING, JobState.FAILED}


def _lose(context) -> uuid.UUID:
    """Another worker takes the job over behind the back of this one; returns its token."""
    token = uuid.uuid4()
    Job.objects.filter(pk=context.job.pk).update(claim=token, phase="the successor's")
    return token


@pytest.mark.embedded
@pytest.mark.parametrize(
    "act",
    [
        lambda context: context.remember(backup_id="stale"),
        lambda context: context.write(phase="stale"),
        lambda context: context.step("stale", "Stale").__enter__(),
        lambda context: context.warn("stale"),
        lambda context: context.require_claim(),
        lambda context: context.cleaning().__enter__(),
    ],
    ids=["remember", "write", "step", "warn", "require_claim", "cleaning"],
)
def test_a_worker_that_lost_its_claim_can_change_nothing(act):
    context = claimed()
    token = _lose(context)
    with pytest.raises(ClaimLost):
        act(context)
    job = fresh(context.job)
    assert (job.claim, job.phase, job.resume_state, job.warnings) == (token, "the successor's", {}, [])
    assert not job.steps.exists()
    assert not JobLogLine.objects.filter(job=job).exists()
    with pytest.raises(ClaimLost):
        context.check()


def test_a_worker_that_lost_its_claim_writes_no_log_line():
    context = claimed()
    _lose(context)
    context.tell("I believe that I am still at work")
    assert not JobLogLine.objects.filter(job=context.job).exists()


def test_a_worker_that_lost_its_claim_inside_a_step_cannot_end_the_step():
    context = claimed()
    with pytest.raises(ClaimLost), context.step("read", "Reading"):
        _lose(context)
    assert context.job.steps.get().state == "running"


@pytest.mark.embedded
@pytest.mark.parametrize("error", [None, ValueError("bad")], ids=["success", "error"])
def test_a_worker_that_lost_its_claim_cannot_end_the_job(error):
    job = JobFactory()
    seen = []

    def procedure(context):
        with context.step("read", "Reading"):
            pass
        JobLock.objects.create(key="vm:x", slot=0, mode="exclusive", job=context.job)
        seen.append(_lose(context))
        if error:
            raise error

    runner.execute(job.pk, procedure)
    after = fresh(job)
    assert (after.state, after.claim, after.error_code) == (JobState.RUNNING, seen[0], "")
    assert after.finished_at is None
    assert JobLock.objects.filter(job=job).exists()


def test_a_process_stopped_for_longer_than_the_lease_asks_before_it_goes_on(settings):
    context = claimed()
    context.check()
    _lose(context)
    context.check()  # confirmed a moment ago
    context._confirmed_at -= settings.JOB_LEASE + 1
    with pytest.raises(ClaimLost):
        context.check()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_claims_at_the_same_moment_one_wins_the_lock():
    key = locks.exclusive("vm:contested").as_json()
    for _ in range(5):
        jobs = [JobFactory(lock_keys=[key]) for _ in range(2)]
        results = _claim_at_once([job.pk for job in jobs])
        assert sorted(found is not None for found in results) == [False, True]
        states = sorted(fresh(job).state for job in jobs)
        assert states == ["pending", "running"]
        assert JobLock.objects.filter(key="vm:contested").count() == 1
        JobLock.objects.all().delete()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_many_claims_of_one_job_at_the_same_moment_one_wins():
    job = JobFactory()
    results = _claim_at_once([job.pk] * 4)
    assert sum(found is not None for found in results) == 1
    assert fresh(job).attempts_made == 1


def _claim_at_once(job_ids):
    results, together = [], threading.Barrier(len(job_ids))

    def claim(job_id):
        try:
            together.wait(10)
            results.append(runner.claim(job_id))
        finally:
            connection.close()

    threads = [threading.Thread(target=claim, args=(job_id,)) for job_id in job_ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(results) == len(job_ids)
    return results
