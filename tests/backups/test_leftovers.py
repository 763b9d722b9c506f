# SPDX-License-Identifier: GPL-3.0-or-later
"""What ended backups left on a Manager: remembered in their rows, and when a clean-up is ordered for it."""

import datetime as dt

import pytest
from django.utils import timezone

from backups.methods import cleanup
from backups.methods.leftovers import description, jobs_with_leftovers, named
from portal.audit.models import AuditEntry
from portal.environments.models import Environment
from portal.jobs.models import Job
from portal.jobs.states import JobState
from tests.factories import JobFactory, VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]
LEFT = {"backup_id": "b-1", "to_checkpoint_id": "c-1", "point": "p-1"}


def ordered() -> list[Job]:
    return list(Job.objects.filter(kind="vm_cleanup").order_by("id"))


@pytest.mark.parametrize(
    ("memory", "words"),
    [
        ({}, ""),
        ({"point": "p-1", "to_checkpoint_id": "c-1"}, ""),
        (LEFT, "backup b-1, checkpoint c-1"),
        ({"snapshot_id": "s-1"}, "snapshot s-1"),
    ],
)
def test_what_is_left_is_named(memory, words):
    assert named(memory) == words


@pytest.mark.parametrize(
    ("state", "memory", "counts"),
    [
        (JobState.FAILED, LEFT, True),
        (JobState.CANCELLED, LEFT, True),
        (JobState.SUCCEEDED, {"snapshot_id": "s-1"}, True),
        (JobState.SUCCEEDED, {"point": "p-1"}, False),
        (JobState.PENDING, LEFT, False),
    ],
)
def test_only_ended_jobs_that_left_something_count(state, memory, counts):
    job = JobFactory(state=state, resume_state=memory)
    assert list(jobs_with_leftovers()) == ([job] if counts else [])


def test_one_clean_up_for_each_machine():
    vm = VmFactory()
    for _ in range(2):
        JobFactory(vm=vm, state=JobState.FAILED, resume_state=LEFT)
    JobFactory(state=JobState.FAILED)
    assert cleanup.order_cleanups() == 1
    (job,) = ordered()
    assert (job.vm, job.task, job.via) == (vm, "backups.vm_cleanup", "schedule")
    assert {"key": vm.lock_key, "mode": "exclusive", "limit": None} in job.lock_keys
    assert AuditEntry.objects.get(action="backup.clean_up").data["job"] == str(job.uuid)
    assert cleanup.order_cleanups() == 0


def test_none_while_the_machine_has_a_job_or_its_manager_a_problem():
    busy, away = VmFactory(), VmFactory()
    for vm in (busy, away):
        JobFactory(vm=vm, state=JobState.FAILED, resume_state=LEFT)
    JobFactory(vm=busy, state=JobState.RUNNING)
    Environment.objects.filter(pk=away.environment.pk).update(problem="Not reached.")
    assert cleanup.order_cleanups() == 0


def test_after_failures_it_is_tried_less_and_less_often(settings):
    settings.LEFTOVERS_EVERY = 100
    vm = VmFactory()
    JobFactory(vm=vm, state=JobState.FAILED, resume_state=LEFT)
    now = timezone.now()

    def failed(seconds_ago: int) -> None:
        JobFactory(
            vm=vm, kind="vm_cleanup", state="failed", finished_at=now - dt.timedelta(seconds=seconds_ago)
        )

    failed(150)
    assert cleanup.order_cleanups() == 0  # 200 seconds after the first failure
    Job.objects.filter(kind="vm_cleanup").update(finished_at=now - dt.timedelta(seconds=250))
    failed(250)
    assert cleanup.order_cleanups() == 0  # 400 after the second
    Job.objects.filter(kind="vm_cleanup").update(finished_at=now - dt.timedelta(seconds=450))
    assert cleanup.order_cleanups() == 1


def test_each_start_has_a_description_of_its_own():
    job = JobFactory()
    assert description(job, "p-1") != description(job, "p-2")
    assert str(job.uuid) in description(job, "p-1")
