# SPDX-License-Identifier: GPL-3.0-or-later
"""One event if and only if its change is there; numbers without gaps, in the order of commits."""

import threading

import pytest
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError

from portal.events import services
from portal.events.kinds import EventKind
from portal.events.models import Event, EventCounter
from tests.factories import JobFactory, VmFactory


def announce(name: str) -> Event:
    return services.emit(EventKind.JOB_STARTED, data={"name": name})


def numbers() -> list[tuple[int, str]]:
    return [(event.sequence, event.data["name"]) for event in Event.objects.after(0)]


def in_a_thread(work) -> threading.Thread:
    def run():
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.embedded
@pytest.mark.django_db(transaction=True)
def test_events_are_numbered_at_commit_and_not_written_without_one():
    with transaction.atomic():
        announce("first")
        announce("second")
        assert not Event.objects.exclude(sequence=None).exists()
    with pytest.raises(RuntimeError), transaction.atomic():
        announce("rolled back")
        raise RuntimeError
    with transaction.atomic():
        announce("third")
    assert numbers() == [(1, "first"), (2, "second"), (3, "third")]
    assert EventCounter.objects.get().last == 3


@pytest.mark.django_db(transaction=True)
def test_an_event_outside_a_transaction_is_refused():
    with pytest.raises(TransactionManagementError):
        announce("alone")
    assert not Event.objects.exists()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer: nothing commits late")
def test_who_has_read_up_to_a_number_has_missed_nothing_that_commits_late():
    written, go_on = threading.Event(), threading.Event()

    def slow():
        with transaction.atomic():
            announce("written early, committed late")
            written.set()
            assert go_on.wait(60)

    thread = in_a_thread(slow)
    assert written.wait(60)
    with transaction.atomic():
        announce("written late, committed early")
    seen = numbers()
    assert seen == [(1, "written late, committed early")]
    go_on.set()
    thread.join(60)
    later = [event.data["name"] for event in Event.objects.after(seen[-1][0])]
    assert later == ["written early, committed late"]


@pytest.mark.embedded
@pytest.mark.django_db(transaction=True)
def test_many_numberers_at_once_leave_neither_gap_nor_double(monkeypatch):
    monkeypatch.setattr(services, "_BATCH", 7)
    with transaction.atomic():
        Event.objects.bulk_create(
            Event(kind=EventKind.JOB_STARTED, data={"name": str(number)}) for number in range(60)
        )
    barrier = threading.Barrier(4)
    given: list[int] = []

    def number():
        barrier.wait(60)
        given.append(services.number_events())

    for thread in [in_a_thread(number) for _ in range(4)]:
        thread.join(120)
    assert sum(given) == 60
    assert numbers() == [(number + 1, str(number)) for number in range(60)]


@pytest.mark.django_db(transaction=True)
def test_a_numbering_that_failed_after_commit_is_made_up_for(monkeypatch):
    def broken():
        raise OSError("the database went away")

    with monkeypatch.context() as patched:
        patched.setattr(services, "number_events", broken)
        with transaction.atomic():
            announce("kept")
    assert numbers() == []
    assert services.number_events() == 1
    assert services.number_events() == 0
    assert numbers() == [(1, "kept")]


@pytest.mark.django_db
def test_a_person_sees_events_of_own_machines_and_own_jobs(people):
    ours, theirs = VmFactory(), VmFactory()
    ours.teams.add(people.team)
    asked = JobFactory(vm=None, requested_by=people.dave)
    for vm, job in ((ours, None), (theirs, None), (None, asked), (None, None)):
        services.emit(EventKind.JOB_STARTED, vm=vm, job=job, data={})
    assert [event.vm for event in Event.objects.visible_to(people.carol)] == [ours]
    assert [event.job_uuid for event in Event.objects.visible_to(people.dave)] == [asked.uuid]
    assert Event.objects.visible_to(people.root).count() == 4
    people.root.is_active = False
    assert not Event.objects.visible_to(people.root).exists()
