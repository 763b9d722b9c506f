# SPDX-License-Identifier: GPL-3.0-or-later
"""Every job is announced once when it starts and once when it ends, and nothing secret is told."""

import datetime as dt
import json

import pytest
from django.conf import settings
from django.utils import timezone

from portal.errors import PortalError
from portal.events.kinds import EventKind
from portal.events.models import Event
from portal.jobs import reaper, runner, services
from portal.jobs.errors import JobInterrupted
from portal.jobs.models import Job
from portal.jobs.states import JobState
from tests.factories import JobFactory

pytestmark = pytest.mark.django_db


class Broken(PortalError):
    """For good."""


def kinds(job: Job) -> list[str]:
    return list(Event.objects.filter(job_uuid=job.uuid).order_by("id").values_list("kind", flat=True))


def last(job: Job) -> dict:
    return Event.objects.filter(job_uuid=job.uuid).latest("id").data


@pytest.mark.embedded
def test_a_job_that_succeeds():
    job = JobFactory(
        ticket="INC0012345", requested_for="Erika", reason="She asked.", params={"password": "hunter2"}
    )

    def procedure(context):
        context.write(result={"point": "p-1", "bytes_read": 7, "secret_url": "https://x/ticket"})

    runner.execute(job.pk, procedure)
    assert kinds(job) == [EventKind.JOB_STARTED, EventKind.JOB_SUCCEEDED]
    told = last(job)
    assert told["result"] == {"point": "p-1", "bytes_read": 7, "warnings": []}
    assert told["vm"] == {"id": str(job.vm.uuid), "manager_id": str(job.vm.manager_id), "name": job.vm.name}
    assert told["environment"]["name"] == job.environment.name
    assert told["job"]["id"] == str(job.uuid)
    assert (told["job"]["ticket"], told["job"]["requested_for"]) == ("INC0012345", "Erika")
    assert told["job"]["state"] == "succeeded"
    everything = json.dumps(list(Event.objects.values_list("data", flat=True)))
    assert "hunter2" not in everything
    assert "secret_url" not in everything


def test_an_interrupted_job_starts_only_once():
    job = JobFactory()

    def interrupted(context):
        raise JobInterrupted

    runner.execute(job.pk, interrupted)
    assert kinds(job) == [EventKind.JOB_STARTED]
    runner.execute(job.pk, lambda context: None)
    assert kinds(job) == [EventKind.JOB_STARTED, EventKind.JOB_SUCCEEDED]


def test_a_job_that_fails_tells_why():
    job = JobFactory()

    def broken(context):
        raise Broken("The disk is gone; nothing was changed.", hint="Put it back.")

    runner.execute(job.pk, broken)
    assert kinds(job) == [EventKind.JOB_STARTED, EventKind.JOB_FAILED]
    assert last(job)["problem"] == {
        "code": "broken",
        "message": "The disk is gone; nothing was changed.",
        "hint": "Put it back.",
    }


def test_an_unknown_error_is_told_without_its_text():
    job = JobFactory()

    def broken(context):
        raise RuntimeError("https://host/ticket?password=hunter2")

    runner.execute(job.pk, broken)
    assert last(job)["problem"]["code"] == "unexpected"
    assert "hunter2" not in json.dumps(last(job))


def test_a_cancelled_job_has_failed_with_that_code(people):
    job = JobFactory()
    services.cancel_job(actor=people.root, job=job)
    assert kinds(job) == [EventKind.JOB_FAILED]
    told = last(job)
    assert (told["job"]["state"], told["problem"]["code"]) == ("cancelled", "job_cancelled")
    assert "root" in told["problem"]["message"]


def test_a_job_that_its_workers_died_on_has_failed():
    job = JobFactory(
        state=JobState.RUNNING,
        claim="6f0a3b52-93f5-44f0-8f93-6d3a04a8a1a4",
        heartbeat_at=timezone.now() - dt.timedelta(hours=1),
        attempts_made=settings.JOB_MAX_ATTEMPTS + 5,
    )
    assert reaper.reap() == 1
    assert kinds(job) == [EventKind.JOB_FAILED]
    assert last(job)["problem"]["code"] == "gave_up"


def test_a_job_that_waits_for_a_person_says_so(people):
    job = services.create_job(
        kind="vm_restore",
        task="restores.vm_restore",
        title="Restore",
        actor=people.root,
        state=JobState.WAITING,
        waiting_for="Waits for a second person",
    )
    assert kinds(job) == [EventKind.JOB_WAITING]
    assert last(job)["job"]["waiting_for"] == "Waits for a second person"
