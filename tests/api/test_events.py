# SPDX-License-Identifier: GPL-3.0-or-later
"""Events by number: what one may see, nothing twice, nothing left out, and waiting for the next one."""

import threading

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from portal.events import services
from portal.events.kinds import EventKind
from portal.events.models import Event
from portal.jobs import services as jobs
from tests.api.support import api_of
from tests.factories import JobFactory, VmFactory


def told(vm=None, job=None, **data) -> Event:
    event = services.emit(EventKind.JOB_FAILED, vm=vm, job=job, data=data)
    services.number_events()
    event.refresh_from_db()
    return event


@pytest.mark.django_db
def test_events_are_read_on_from_a_number(people, alice, world):
    events = [told(world.vm, problem={"code": "x", "message": "", "hint": ""}) for _ in range(5)]
    found = alice.get("events").json()
    assert found["results"] == [event.payload() for event in events]
    assert (found["last"], found["oldest"]) == (events[-1].sequence, events[0].sequence)
    assert found["newest"] == events[-1].sequence
    first = alice.get("events", {"limit": 2}).json()
    rest = alice.get("events", {"after": first["last"]}).json()
    assert first["results"] + rest["results"] == found["results"]
    nothing = alice.get("events", {"after": rest["last"]}).json()
    assert (nothing["results"], nothing["last"]) == ([], rest["last"])


@pytest.mark.django_db
def test_events_of_other_teams_do_not_exist_for_a_token(people, world):
    own, other = told(world.vm), told(VmFactory())
    asked = told(job=JobFactory(vm=None, requested_by=people.bob))

    def seen(api) -> list[int]:
        return [event["sequence"] for event in api.get("events").json()["results"]]

    assert seen(api_of(people.root)) == [own.sequence, other.sequence, asked.sequence]
    assert seen(api_of(people.bob)) == [own.sequence, asked.sequence]
    assert seen(api_of(people.bob, team=people.team)) == [own.sequence]
    assert seen(api_of(people.root, "read")) == [own.sequence, other.sequence, asked.sequence]
    assert seen(api_of(people.dave)) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    "wrong",
    [
        {"after": "-1"},
        {"after": "x"},
        {"after": str(1 << 70)},
        {"limit": "0"},
        {"wait": "31"},
        {"since": "1"},
    ],
)
def test_nonsense_is_refused(alice, wrong):
    answer = alice.get("events", wrong)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


@pytest.mark.django_db
def test_as_many_queries_for_many_events_as_for_few(alice, world):
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert alice.get("events").status_code == 200
        return len(queries)

    told(world.vm)
    count()
    few = count()
    for _ in range(20):
        told(VmFactory())
        told(world.vm)
    assert count() == few


@pytest.mark.django_db(transaction=True)
def test_one_waits_for_the_next_event(people, world, monkeypatch):
    monkeypatch.setattr(jobs, "ring", lambda *_: None)
    api = api_of(people.alice)
    first = api.get("events").json()["last"]
    answers = []

    def wait():
        try:
            answers.append(api.get("events", {"after": first, "wait": 30}).json())
        finally:
            connection.close()

    thread = threading.Thread(target=wait)
    thread.start()
    with transaction.atomic():
        jobs.cancel_job(actor=people.alice, job=JobFactory(vm=world.vm))
    thread.join(60)
    [found] = answers
    assert [event["kind"] for event in found["results"]] == ["job.failed"]
    assert found["last"] > first
