# SPDX-License-Identifier: GPL-3.0-or-later
import pytest

from portal.audit.models import AuditEntry
from portal.errors import NotAllowed
from portal.jobs import runner, services
from portal.jobs.errors import JobNotCancellable, JobNotRetryable
from portal.jobs.states import FINISHED, JobState, StepState
from tests.factories import JobFactory, VmFactory
from tests.portal.support import claimed, fresh

pytestmark = pytest.mark.django_db


@pytest.fixture
def vm(people):
    vm = VmFactory()
    vm.teams.add(people.team)
    return vm


@pytest.mark.embedded
def test_a_job_that_never_ran_is_cancelled_at_once(people, vm):
    job = JobFactory(vm=vm, waiting_for="Waits for: something")
    services.cancel_job(actor=people.bob, job=job)
    after = fresh(job)
    assert (after.state, after.cancel_requested_by, after.waiting_for) == (JobState.CANCELLED, "bob", "")
    assert after.finished_at is not None
    assert runner.claim(job.pk) is None
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor_name, entry.object_id) == ("job.cancel", "bob", str(job.uuid))


@pytest.mark.embedded
def test_a_running_job_is_asked_and_cleans_up_before_it_ends(people, vm, rings):
    job = JobFactory(vm=vm)
    cleaned = []

    def procedure(context):
        with context.step("read", "Reading"):
            services.cancel_job(actor=people.bob, job=job)
            assert fresh(job).state == JobState.RUNNING
            context.cancel_requested.set()  # as the heart learns of it
            try:
                context.progress.advance(1)
            finally:
                with context.cleaning():
                    cleaned.append(True)

    runner.execute(job.pk, procedure)
    after = fresh(job)
    assert (after.state, after.error_code, cleaned) == (JobState.CANCELLED, "", [True])
    assert after.steps.get().state == StepState.SKIPPED


@pytest.mark.embedded
@pytest.mark.parametrize("state", [JobState.PENDING, JobState.WAITING])
@pytest.mark.django_db(transaction=True)
def test_a_job_between_two_attempts_is_rung_for_so_that_a_worker_cleans_up(people, vm, rings, state):
    job = JobFactory(vm=vm, state=state, attempts_made=1, resume_state={"backup_id": "b-1"})
    services.cancel_job(actor=people.bob, job=job)
    after = fresh(job)
    assert after.state == JobState.PENDING
    assert rings == [(job.task, job.pk)]
    runner.execute(job.pk, lambda context: context.check())
    assert fresh(job).state == JobState.CANCELLED


@pytest.mark.parametrize("state", sorted(FINISHED))
def test_an_ended_job_cannot_be_cancelled(people, vm, state):
    job = JobFactory(vm=vm, state=state)
    with pytest.raises(JobNotCancellable):
        services.cancel_job(actor=people.alice, job=job)
    after = fresh(job)
    assert (after.state, after.cancel_requested_at) == (state, None)
    assert not AuditEntry.objects.exists()


@pytest.mark.embedded
@pytest.mark.parametrize("name", ["carol", "dave"])
def test_viewers_and_strangers_can_neither_cancel_nor_repeat(people, vm, name):
    person = getattr(people, name)
    running, failed = claimed(JobFactory(vm=vm)).job, JobFactory(vm=vm, state=JobState.FAILED)
    with pytest.raises(NotAllowed):
        services.cancel_job(actor=person, job=running)
    with pytest.raises(NotAllowed):
        services.retry_job(actor=person, job=failed)
    assert fresh(running).cancel_requested_at is None
    assert not failed.retries.exists()


def test_jobs_without_a_machine_are_steered_by_platform_admins_only(people):
    job = JobFactory(vm=None, requested_by=people.alice)
    with pytest.raises(NotAllowed):
        services.cancel_job(actor=people.alice, job=job)
    services.cancel_job(actor=people.root, job=job)
    assert fresh(job).state == JobState.CANCELLED


@pytest.mark.embedded
@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
@pytest.mark.django_db(transaction=True)
def test_an_ended_job_is_repeated_with_the_same_order(people, vm, rings, state):
    locks = [{"key": "vm:1", "mode": "exclusive", "limit": None}]
    job = JobFactory(
        vm=vm,
        state=state,
        params={"full": True},
        lock_keys=locks,
        ticket="CHG-1",
        resume_state={"backup_id": "old"},
        attempts_made=4,
        requested_by=people.alice,
    )
    again = services.retry_job(actor=people.bob, job=job)
    assert again.pk != job.pk
    assert (again.state, again.params, again.lock_keys) == (JobState.PENDING, {"full": True}, locks)
    assert (again.ticket, again.vm, again.retry_of) == ("CHG-1", vm, job)
    assert (again.resume_state, again.attempts_made, again.requested_by_name) == ({}, 0, "bob")
    assert rings == [(job.task, again.pk)]
    assert AuditEntry.objects.get(action="job.retry").data["retry_of"] == str(job.uuid)


@pytest.mark.parametrize("state", sorted(set(JobState) - {JobState.FAILED, JobState.CANCELLED}))
def test_other_jobs_cannot_be_repeated(people, vm, state):
    job = JobFactory(vm=vm, state=state)
    with pytest.raises(JobNotRetryable):
        services.retry_job(actor=people.root, job=job)
    assert not job.retries.exists()


def test_a_job_is_only_rung_for_once_its_row_is_committed(
    people, vm, rings, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks() as callbacks:
        job = services.create_job(
            kind="x", task="x.run", title="t" * 400, actor=people.bob, subject_label="s" * 400
        )
        assert rings == []
    assert len(callbacks) == 1
    callbacks[0]()
    assert rings == [("x.run", job.pk)]
    assert (len(job.title), len(job.subject_label), job.requested_by_name) == (300, 255, "bob")
