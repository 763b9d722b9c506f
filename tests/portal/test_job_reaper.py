# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs of dead workers: taken back a bounded number of times; and the bell that is rung again."""

import datetime as dt

import pytest
from django.utils import timezone

from backups.methods import incremental
from portal.jobs import clock, reaper, runner, services, tasks
from portal.jobs.errors import GaveUp
from portal.jobs.models import Job, JobLock
from portal.jobs.states import JobState, StepState
from tests.factories import JobFactory
from tests.portal.support import claimed, fresh

pytestmark = pytest.mark.django_db


def silence(job, *, seconds=3600):
    Job.objects.filter(pk=job.pk).update(heartbeat_at=clock.database_now() - dt.timedelta(seconds=seconds))


def silent_job(*, attempts=1, **fields):
    job = JobFactory(lock_keys=[{"key": "vm:1", "mode": "exclusive", "limit": None}], **fields)
    Job.objects.filter(pk=job.pk).update(attempts_made=attempts - 1)
    context = claimed(job)
    context._begin("read", "Reading")  # a killed process leaves no step
    context.remember(backup_id="b-1", disk_ids={"a": "b"})
    silence(job)
    return context


@pytest.mark.embedded
def test_a_silent_job_is_taken_back_and_rung_for(rings):
    context = silent_job()
    assert reaper.reap() == 1
    job = fresh(context.job)
    assert (job.state, job.claim, job.phase) == (JobState.PENDING, None, "")
    assert job.resume_state["backup_id"] == "b-1"
    assert job.attempts.get().ending == "the worker fell silent"
    assert job.steps.get().state == StepState.INTERRUPTED
    assert not JobLock.objects.exists()
    assert rings == [(job.task, job.pk)]
    assert runner.claim(job.pk).attempts_made == 2


@pytest.mark.embedded
def test_a_job_whose_heart_beats_is_left_alone(rings, settings):
    context = claimed()
    silence(context.job, seconds=settings.JOB_LEASE - 2)
    assert reaper.reap() == 0
    assert fresh(context.job).claim == context.claim
    assert rings == []


@pytest.mark.parametrize("state", [state for state in JobState if state != JobState.RUNNING])
def test_only_running_jobs_are_taken_back(state, rings):
    job = JobFactory(state=state, heartbeat_at=timezone.now() - dt.timedelta(days=1))
    assert reaper.reap() == 0
    assert fresh(job).state == state


def test_the_attempt_after_the_last_only_cleans_up(settings):
    settings.JOB_MAX_ATTEMPTS = 3
    assert not silent_job(attempts=3).giving_up
    context = claimed(JobFactory(attempts_made=3))
    assert context.giving_up
    error = runner.give_up(context)
    assert isinstance(error, GaveUp)
    assert not error.retryable
    assert "3 workers died" in error.message


def test_a_backup_that_gives_up_cleans_up_starts_nothing_and_fails(settings, rings):
    settings.JOB_MAX_ATTEMPTS = 1
    job = JobFactory(attempts_made=1)
    calls = []

    class Backup:
        def __init__(self, context):
            self.context = context

        def clean_up(self):
            calls.append("clean_up")

        def __getattr__(self, name):
            return lambda *_: calls.append(name)

    runner.execute(job.pk, lambda context: incremental._back_up(Backup(context)))
    after = fresh(job)
    assert (after.state, after.error_code) == (JobState.FAILED, "gave_up")
    assert calls == ["clean_up", "drop_half_made"]


@pytest.mark.embedded
def test_a_job_whose_cleaning_attempts_die_too_fails_and_names_what_may_be_left(rings, settings):
    context = silent_job(attempts=settings.JOB_MAX_ATTEMPTS + 2)
    assert reaper.reap() == 1
    job = fresh(context.job)
    assert (job.state, job.error_code, job.claim) == (JobState.FAILED, "gave_up", None)
    assert "backup_id b-1" in job.error_message
    assert job.finished_at is not None
    assert job.error_hint
    assert not JobLock.objects.exists()
    assert rings == []


def test_attempts_of_a_job_that_kills_its_workers_are_bounded(rings, settings):
    job = JobFactory()
    for _ in range(20):
        if runner.claim(job.pk) is None:
            break
        silence(job)
        reaper.reap()
    after = fresh(job)
    assert after.state == JobState.FAILED
    assert after.attempts_made == settings.JOB_MAX_ATTEMPTS + 2


@pytest.mark.embedded
def test_pending_jobs_are_rung_for_again_after_a_while(rings):
    now = clock.database_now()
    old = JobFactory(rung_at=now - dt.timedelta(seconds=60))
    JobFactory(rung_at=now)
    JobFactory(rung_at=now + dt.timedelta(seconds=60))
    never_rung = JobFactory()
    Job.objects.filter(pk=never_rung.pk).update(created_at=now - dt.timedelta(seconds=60))
    JobFactory(state=JobState.WAITING, rung_at=now - dt.timedelta(seconds=60))
    assert services.ring_pending(older_than_seconds=10) == 2
    assert {job_id for _, job_id in rings} == {old.pk, never_rung.pk}
    assert services.ring_pending(older_than_seconds=10) == 0


def test_a_broker_that_refuses_leaves_the_job_pending(monkeypatch):
    from celery import current_app

    def refuse(*_, **__):
        raise ConnectionRefusedError("no broker")

    monkeypatch.setattr(current_app, "send_task", refuse)
    job = JobFactory()
    services.ring(job.pk, job.task)
    assert fresh(job).state == JobState.PENDING


def test_beats_bell_takes_back_and_rings(rings, settings):
    context = silent_job()
    pending = JobFactory(rung_at=clock.database_now() - dt.timedelta(seconds=60))
    tasks.ring()
    assert {job_id for _, job_id in rings} == {context.job.pk, pending.pk}
