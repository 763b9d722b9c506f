# SPDX-License-Identifier: GPL-3.0-or-later
"""A job that succeeded with something left over says so until somebody has seen to it."""

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from portal.audit.models import AuditEntry
from portal.errors import NotAllowed
from portal.jobs import presenters, services
from portal.jobs.models import Job
from portal.jobs.states import JobState
from tests.factories import DiskFactory, JobFactory, PointFactory, VmFactory
from tests.portal.support import claimed, fresh

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

LEFT = "An old checkpoint was left on the Manager: it did not answer."


@pytest.fixture
def vm(people):
    vm = VmFactory(name="shop")
    vm.teams.add(people.team)
    DiskFactory(vm=vm)
    PointFactory(vm=vm)
    return vm


@pytest.fixture
def job(vm) -> Job:
    now = timezone.now()
    return JobFactory(
        vm=vm,
        state=JobState.SUCCEEDED,
        started_at=now,
        finished_at=now,
        warnings=[LEFT, "The host could not be reached directly."],
        warnings_open=True,
    )


def text_of(person, address: str) -> str:
    client = Client()
    client.force_login(person)
    return client.get(address).content.decode()


def test_a_warning_of_a_running_job_is_open(rings):
    context = claimed()
    context.warn(LEFT)
    job = fresh(context.job)
    assert (job.warnings, job.warnings_open) == ([LEFT], True)
    assert not Job.objects.with_open_warnings().exists(), "not before the job has ended"


def test_it_stands_on_the_overview_the_machine_the_job_and_in_the_list(people, vm, job):
    for address in ("/", vm.get_absolute_url(), job.get_absolute_url()):
        assert LEFT in text_of(people.bob, address), address
    assert "See to it" in text_of(people.bob, "/")
    assert "Succeeded with 2 warnings" in text_of(people.bob, job.get_absolute_url())
    for address in ("/jobs/", "/jobs/?state=warned"):
        assert "Succeeded with 2 warnings" in text_of(people.bob, address), address


def test_once_seen_to_it_is_gone_but_from_the_job_which_says_who_saw_to_it(people, vm, job):
    client = Client()
    client.force_login(people.bob)
    assert client.post(reverse("jobs:seen_to", args=[job.uuid])).url == job.get_absolute_url()
    for address in ("/", vm.get_absolute_url()):
        assert LEFT not in text_of(people.bob, address), address
    assert "Succeeded with" not in text_of(people.bob, "/jobs/?state=warned")
    page = text_of(people.carol, job.get_absolute_url())
    assert LEFT in page
    assert "Seen to by <bdi>bob</bdi>" in page
    entry = AuditEntry.objects.get(action="job.warnings_seen")
    assert (entry.actor_name, entry.object_id) == ("bob", str(job.uuid))
    assert entry.data["warnings"] == job.warnings


def test_seeing_to_it_twice_keeps_who_was_first(people, job):
    services.see_to_warnings(actor=people.bob, job=job)
    again = services.see_to_warnings(actor=people.alice, job=job)
    assert again.warnings_seen_by == "bob"
    assert AuditEntry.objects.filter(action="job.warnings_seen").count() == 1


def test_a_viewer_sees_it_but_cannot_see_to_it(people, job):
    assert "An operator of the machine looks into it." in text_of(people.carol, job.get_absolute_url())
    with pytest.raises(NotAllowed):
        services.see_to_warnings(actor=people.carol, job=job)
    assert fresh(job).warnings_open


def test_nobody_else_hears_of_it(people, job):
    assert LEFT not in text_of(people.dave, "/")


def test_many_warned_jobs_leave_room_for_the_rest(people, vm, job):
    for _ in range(6):
        JobFactory(vm=vm, state=JobState.SUCCEEDED, warnings=[LEFT], warnings_open=True)
    page = text_of(people.bob, "/")
    assert page.count(LEFT) == 3
    assert "4 more jobs with warnings" in page


@pytest.mark.parametrize(
    ("state", "warnings", "is_open", "expected"),
    [
        (JobState.SUCCEEDED, [], False, ("succeeded", "")),
        (JobState.SUCCEEDED, ["x"], True, ("warned", "Succeeded with 1 warning")),
        (JobState.SUCCEEDED, ["x", "y"], False, ("succeeded", "Succeeded with 2 warnings")),
        (JobState.FAILED, ["x"], True, ("failed", "")),
    ],
)
def test_the_badge_counts_the_warnings_of_a_success(state, warnings, is_open, expected):
    badge = presenters.badge(Job(state=state, warnings=warnings, warnings_open=is_open))
    assert (badge.status, badge.label) == expected


def test_what_the_portal_cleaned_up_itself_needs_nobody(people, vm, job):
    backup, snapshot = "5c0f4b2e-0000-4000-8000-000000000001", "5c0f4b2e-0000-4000-8000-000000000002"
    Job.objects.filter(pk=job.pk).update(
        warnings=[f"backup {backup} may be left.", f"The snapshot {snapshot} is still on shop."]
    )
    assert not services.settle_warnings(fresh(job), gone=[backup])
    assert fresh(job).warnings_open, "the snapshot is still there"
    assert services.settle_warnings(fresh(job), gone=[backup, snapshot])
    assert "Seen to by <bdi>the portal</bdi>" in text_of(people.carol, job.get_absolute_url())
    assert AuditEntry.objects.filter(action="job.warnings_settled").count() == 1
    assert not services.settle_warnings(fresh(job), gone=[backup, snapshot]), "only once"


def test_all_that_are_shown_are_seen_to_at_once_but_not_those_of_others(people, vm, job):
    more = JobFactory(vm=vm, state=JobState.FAILED, warnings=[LEFT], warnings_open=True)
    foreign = JobFactory(state=JobState.SUCCEEDED, warnings=[LEFT], warnings_open=True)
    assert str(more.uuid) in text_of(people.bob, "/jobs/?state=warned")
    every = {"job": [str(item.uuid) for item in (job, more, foreign)]}
    for person, left_open in ((people.carol, [True, True, True]), (people.bob, [False, False, True])):
        client = Client()
        client.force_login(person)
        assert client.post(reverse("jobs:seen_to_all"), every).status_code == 302
        assert [fresh(item).warnings_open for item in (job, more, foreign)] == left_open
    assert client.post(reverse("jobs:seen_to_all"), {"job": ["nonsense"]}).status_code == 404
