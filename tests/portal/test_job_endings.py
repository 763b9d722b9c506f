# SPDX-License-Identifier: GPL-3.0-or-later
"""How attempts end, and what the row then says: success, errors of each kind, interruption."""

import datetime as dt
import threading

import pytest
from django.db import OperationalError
from django.utils import timezone

from portal.errors import PortalError
from portal.jobs import runner
from portal.jobs.errors import JobCancelled, JobInterrupted
from portal.jobs.models import Job, JobLock
from portal.jobs.states import JobState, StepState
from tests.factories import JobFactory
from tests.portal.support import claimed, fresh

pytestmark = pytest.mark.django_db

SECRET = "https://host:54322/images/5f0ac2d4-ticket?password=hunter2"


class Hiccup(PortalError):
    """Passes by itself."""

    retryable = True


def failing_with(error):
    def procedure(context):
        context.remember(backup_id="b-1")
        with context.step("read", "Reading"):
            raise error

    return procedure


@pytest.mark.embedded
def test_a_job_that_ends_well_has_succeeded_and_holds_nothing(rings):
    job = JobFactory(lock_keys=[{"key": "vm:1", "mode": "exclusive", "limit": None}])

    def procedure(context):
        context.progress.plan(100)
        with context.step("read", "Reading") as step:
            context.progress.advance(100)
            step.detail = "All of it."

    runner.execute(job.pk, procedure)
    after = fresh(job)
    assert (after.state, after.claim, after.phase, after.error_code) == (JobState.SUCCEEDED, None, "", "")
    assert (after.bytes_done, after.bytes_per_second) == (100, None)
    assert after.started_at <= after.finished_at
    assert not JobLock.objects.exists()
    step, attempt = after.steps.get(), after.attempts.get()
    assert (step.state, step.detail) == (StepState.SUCCEEDED, "All of it.")
    assert (attempt.ending, attempt.number) == ("succeeded", 1)
    assert attempt.ended_at is not None
    assert list(after.log_lines.values_list("text", flat=True)) == ["Reading"]
    runner.execute(job.pk, failing_with(AssertionError("ran twice")))
    assert fresh(job).attempts_made == 1


@pytest.mark.embedded
def test_an_error_that_may_pass_keeps_what_was_made_and_waits_before_the_next_attempt(rings, settings):
    settings.JOB_BACKOFF = 30
    job = JobFactory(lock_keys=[{"key": "vm:1", "mode": "exclusive", "limit": None}])
    runner.execute(job.pk, failing_with(Hiccup("The Manager was away.")))
    after = fresh(job)
    assert (after.state, after.claim, after.attempts_made) == (JobState.PENDING, None, 1)
    assert after.resume_state == {"backup_id": "b-1"}
    assert after.error_code == ""
    assert after.finished_at is None
    assert after.rung_at - timezone.now() > dt.timedelta(seconds=20)
    assert after.steps.get().state == StepState.INTERRUPTED
    assert after.attempts.get().ending == "hiccup: The Manager was away."
    assert not JobLock.objects.exists()
    assert rings == []


@pytest.mark.embedded
def test_the_next_attempt_knows_what_the_last_one_made(rings):
    job = JobFactory()
    runner.execute(job.pk, failing_with(Hiccup("The Manager was away.")))
    seen = {}

    def procedure(context):
        seen.update(memory=dict(context.memory), resumed=context.is_resumed)
        context.remember(backup_id=None)
        with context.step("read", "Reading"):
            pass

    runner.execute(job.pk, procedure)
    assert seen == {"memory": {"backup_id": "b-1"}, "resumed": True}
    after = fresh(job)
    assert (after.state, after.resume_state) == (JobState.SUCCEEDED, {})
    assert after.steps.get().state == StepState.SUCCEEDED
    assert [attempt.number for attempt in after.attempts.all()] == [1, 2]


def test_the_wait_between_attempts_doubles_up_to_a_minute(settings):
    settings.JOB_BACKOFF = 4
    context = claimed()
    waits = []
    for attempt in range(1, 7):
        context.job.attempts_made = attempt
        waits.append(context.backoff)
    assert waits == [4, 8, 16, 32, 60, 60]


def test_an_error_that_may_pass_fails_the_job_at_the_last_attempt(settings, rings):
    settings.JOB_MAX_ATTEMPTS = 2
    job = JobFactory()
    runner.execute(job.pk, failing_with(Hiccup("Away.")))
    runner.execute(job.pk, failing_with(Hiccup("Still away.", hint="Look at the network.")))
    after = fresh(job)
    assert (after.state, after.error_code, after.error_message) == (JobState.FAILED, "hiccup", "Still away.")
    assert after.error_hint == "Look at the network."
    assert after.error_retryable
    assert after.steps.get().state == StepState.FAILED


@pytest.mark.embedded
def test_a_known_error_fails_the_job_with_its_code_words_and_hint(rings):
    job = JobFactory()
    error = PortalError("The disk is gone.", hint="Refresh.", code="disk_gone")
    runner.execute(job.pk, failing_with(error))
    after = fresh(job)
    assert (after.state, after.error_code) == (JobState.FAILED, "disk_gone")
    assert (after.error_message, after.error_hint) == ("The disk is gone.", "Refresh.")
    assert (after.error_reference, after.error_detail, after.error_retryable) == ("", "", False)
    step = after.steps.get()
    assert (step.state, step.detail) == (StepState.FAILED, "The disk is gone.")
    assert after.attempts.get().ending == "disk_gone: The disk is gone."


@pytest.mark.embedded
def test_an_unknown_error_gets_a_reference_and_shows_no_text_of_its_own(rings, caplog):
    job = JobFactory()
    runner.execute(job.pk, failing_with(ValueError(SECRET)))
    after = fresh(job)
    assert (after.state, after.error_code) == (JobState.FAILED, "unexpected")
    assert after.error_reference in after.error_hint
    assert len(after.error_reference) == 12
    assert any(after.error_reference in record.getMessage() for record in caplog.records)
    assert after.error_detail.startswith("ValueError\n")
    assert "procedure:" in after.error_detail
    rows = [after, after.steps.get(), after.attempts.get(), *after.log_lines.all()]
    for row in rows:
        assert "hunter2" not in str(vars(row))


def test_a_database_that_went_away_for_a_moment_does_not_fail_the_job(rings):
    job = JobFactory()
    runner.execute(job.pk, failing_with(OperationalError("server closed the connection")))
    after = fresh(job)
    assert (after.state, after.resume_state) == (JobState.PENDING, {"backup_id": "b-1"})


@pytest.mark.embedded
def test_a_worker_that_is_told_to_stop_leaves_its_job_to_another(rings):
    job = JobFactory()

    def procedure(context):
        context.remember(backup_id="b-1")
        with context.step("read", "Reading"):
            runner.shutdown.set()
            context.progress.advance(1)

    runner.execute(job.pk, procedure)
    after = fresh(job)
    assert (after.state, after.claim, after.resume_state) == (JobState.PENDING, None, {"backup_id": "b-1"})
    assert after.attempts.get().ending == "the worker was stopped"
    assert after.steps.get().state == StepState.INTERRUPTED
    assert rings == [(job.task, job.pk)]


def test_workers_stopped_in_good_order_do_not_use_up_the_tries(rings, settings):
    settings.JOB_MAX_ATTEMPTS = 2
    job = JobFactory()
    for _ in range(4):
        runner.execute(job.pk, _stop_the_worker)
        runner.shutdown.clear()
    job.refresh_from_db()
    assert (job.state, job.attempts_made, job.tries) == (JobState.PENDING, 4, 0)
    seen = []
    runner.execute(job.pk, lambda context: seen.append(context.giving_up))
    assert seen == [False]


def _stop_the_worker(context):
    runner.shutdown.set()
    context.check()


def test_a_worker_that_is_stopping_takes_no_further_job(rings):
    job = JobFactory()
    runner.shutdown.set()
    runner.execute(job.pk, failing_with(AssertionError("ran")))
    after = fresh(job)
    assert (after.state, after.attempts_made) == (JobState.PENDING, 0)


def test_waiting_notices_a_stop_within_half_a_second():
    context = claimed()
    context._shutdown = threading.Event()
    threading.Timer(0.1, context._shutdown.set).start()
    began = timezone.now()
    with pytest.raises(JobInterrupted):
        context.pause(30)
    assert timezone.now() - began < dt.timedelta(seconds=2)


def test_cleaning_up_is_not_stopped_by_a_stop_or_a_cancel():
    context = claimed()
    context._shutdown.set()
    context.cancel_requested.set()
    with context.cleaning():
        context.check()
        context.progress.advance(1)
    with pytest.raises(JobCancelled):
        context.check()


def test_names_longer_than_the_columns_do_not_fail_a_job(rings):
    job = JobFactory()
    long = "d" * 255

    def procedure(context):
        with context.step("read", f"Reading {long} (disk 1 of 2)"):
            context.write(phase=f"Proving that {long} is equal")

    runner.execute(job.pk, procedure)
    after = fresh(job)
    assert after.state == JobState.SUCCEEDED
    assert len(after.steps.get().title) == 200


def test_warnings_stand_once_on_a_job_that_succeeds(rings):
    job = JobFactory()

    def procedure(context):
        context.warn("An old checkpoint was left.")
        context.warn("An old checkpoint was left.")

    runner.execute(job.pk, procedure)
    after = fresh(job)
    assert (after.state, after.warnings) == (JobState.SUCCEEDED, ["An old checkpoint was left."])
    assert set(after.log_lines.values_list("level", flat=True)) == {"warning"}


def test_log_lines_carry_the_jobs_id_while_it_runs(rings):
    from portal import logs

    job = JobFactory()
    seen = []
    runner.execute(job.pk, lambda context: seen.append(logs.job_id.get()))
    assert seen == [str(job.uuid)]
    assert logs.job_id.get() == ""


@pytest.mark.django_db(transaction=True)
def test_the_heart_tells_bytes_and_learns_of_a_cancel(rings, settings):
    settings.JOB_HEARTBEAT = 1
    job = JobFactory()
    seen = {}

    def procedure(context):
        context.progress.plan(1000)
        context.progress.advance(250)
        context.pause(1.3)
        row = fresh(job)
        seen.update(done=row.bytes_done, total=row.bytes_total, beat=row.heartbeat_at > row.started_at)
        Job.objects.filter(pk=job.pk).update(cancel_requested_at=timezone.now())
        context.pause(10)

    runner.execute(job.pk, procedure)
    assert seen == {"done": 250, "total": 1000, "beat": True}
    after = fresh(job)
    assert (after.state, after.bytes_done) == (JobState.CANCELLED, 250)
    assert after.attempts.get().ending == "cancelled"
