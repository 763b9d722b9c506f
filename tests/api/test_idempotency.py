# SPDX-License-Identifier: GPL-3.0-or-later
"""The same key: the same answer, and done once."""

import datetime as dt
import threading

import pytest
from django.db import connection
from django.utils import timezone

from portal.accounts.roles import Role
from portal.api import idempotency
from portal.api.models import KeptAnswer
from portal.jobs.models import Job
from portal.jobs.states import JobState
from tests.api.support import api_of
from tests.backups.conftest import point, vm
from tests.factories import MembershipFactory, TeamFactory

__all__ = ["point", "vm"]
pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

KEY = "0c7f9f0e-5f0b-4d0a-9f41-0b0f1a2b3c4d"


def _backup(api, vm, key=KEY, **more):
    return api.post("backups", {"vm": str(vm.uuid), **more}, idempotency_key=key)


def test_the_same_request_again_gives_the_same_answer(alice, vm, repository):
    first = _backup(alice, vm, ticket="INC-1")
    job = Job.objects.get()
    Job.objects.update(state=JobState.SUCCEEDED, phase="over")
    again = _backup(alice, vm, ticket="INC-1")
    assert (first.status_code, first.content, first["Location"]) == (
        again.status_code,
        again.content,
        again["Location"],
    )
    assert "Idempotency-Replayed" not in first.headers
    assert again["Idempotency-Replayed"] == "true"
    assert Job.objects.get() == job
    assert alice.get(again["Location"]).json()["state"] == "succeeded"


def test_the_order_of_fields_does_not_matter(alice, vm, repository):
    alice.send("POST", "backups", f'{{"vm": "{vm.uuid}", "full": true}}', idempotency_key=KEY)
    again = alice.send("POST", "backups", f'{{"full": true, "vm": "{vm.uuid}"}}', idempotency_key=KEY)
    assert again["Idempotency-Replayed"] == "true"


def test_another_request_with_the_same_key_is_refused(alice, vm, repository):
    first = _backup(alice, vm)
    Job.objects.update(state=JobState.SUCCEEDED)
    for answer in (
        _backup(alice, vm, full=True),
        alice.post(f"jobs/{first.json()['uuid']}/cancel", idempotency_key=KEY),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")
    assert Job.objects.count() == 1


def test_without_a_key_or_with_another_one_it_is_done_again(alice, vm, repository):
    for key in (KEY, "another"):
        assert _backup(alice, vm, key).status_code == 202
        Job.objects.update(state=JobState.SUCCEEDED)
    assert alice.post("backups", {"vm": str(vm.uuid)}).status_code == 202
    assert Job.objects.count() == 3
    assert KeptAnswer.objects.count() == 2


def test_keys_are_each_persons_own(people, vm, repository):
    _backup(api_of(people.alice), vm)
    Job.objects.update(state=JobState.SUCCEEDED)
    assert "Idempotency-Replayed" not in _backup(api_of(people.bob), vm).headers
    assert Job.objects.count() == 2


def test_a_token_with_other_limits_does_not_read_the_kept_answer(people, vm, repository):
    second = TeamFactory()
    MembershipFactory(team=second, user=people.alice, role=Role.ADMIN)
    _backup(api_of(people.alice), vm)
    tied = _backup(api_of(people.alice, team=second), vm)
    assert (tied.status_code, tied.json()["code"]) == (409, "idempotency_key_reused")


def test_a_refusal_is_not_kept(alice, vm, repository):
    other = Job.objects.create(kind="vm_backup", task="x", title="x", vm=vm)
    assert _backup(alice, vm).json()["code"] == "backup_already_running"
    assert not KeptAnswer.objects.exists()
    other.delete()
    assert _backup(alice, vm).status_code == 202


@pytest.mark.parametrize("key", ["", " ", "é", "a" * 256, "tab\there"])
def test_keys_that_are_none(alice, vm, repository, key):
    answer = _backup(alice, vm, key)
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")
    assert not Job.objects.exists()


def test_every_kind_of_write_takes_a_key(alice, point):
    wish = {"point": str(point.uuid), "name": "again"}
    plan = alice.post("restores/plan", wish).json()
    verify = alice.post(f"points/{point.uuid}/verify", idempotency_key="verify")
    for path, body in (
        ("restores", {**wish, "plan_hash": plan["plan_hash"]}),
        (f"points/{point.uuid}/pin", {}),
        (f"points/{point.uuid}/hold", {"reason": "Case 7"}),
        (f"jobs/{verify.json()['uuid']}/cancel", {}),
        (f"jobs/{verify.json()['uuid']}/retry", {}),
    ):
        first, again = (alice.post(path, body, idempotency_key=path) for _ in range(2))
        assert first.status_code in (200, 202), first.text
        assert again["Idempotency-Replayed"] == "true"
        assert again.content == first.content
    assert Job.objects.count() == 3


def test_answers_are_forgotten_after_a_week(alice, vm, repository):
    _backup(alice, vm)
    assert idempotency.sweep() == 0
    KeptAnswer.objects.update(created_at=timezone.now() - dt.timedelta(days=8))
    assert idempotency.sweep() == 1
    assert not KeptAnswer.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_is_done_and_all_get_its_answer(people, vm, repository, monkeypatch):
    monkeypatch.setattr("portal.jobs.services.ring", lambda *_: None)
    api, answers = api_of(people.alice), []
    together = threading.Barrier(4)

    def ask():
        try:
            together.wait(30)
            answers.append(_backup(api, vm))
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [answer.status_code for answer in answers] == [202] * 4
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 3
    assert Job.objects.count() == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_who_waits_too_long_for_the_first_is_told_to_come_again(people, vm, repository, monkeypatch):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite lets one transaction write at a time, keys or not.")
    monkeypatch.setattr("portal.jobs.services.ring", lambda *_: None)
    monkeypatch.setattr(idempotency, "_PATIENCE", 1)
    api, inside, second_told = api_of(people.alice), threading.Event(), threading.Event()
    real = idempotency._take

    def slow(*args):
        taken = real(*args)
        if not inside.is_set():
            inside.set()
            second_told.wait(60)
        return taken

    monkeypatch.setattr(idempotency, "_take", slow)
    answers = []

    def ask():
        try:
            answers.append(_backup(api, vm))
        finally:
            connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    assert inside.wait(60)
    told = _backup(api, vm)
    second_told.set()
    thread.join(60)
    assert (told.status_code, told.json()["code"], told["Retry-After"]) == (409, "idempotency_key_busy", "1")
    assert [answer.status_code for answer in answers] == [202]
    assert _backup(api, vm).content == answers[0].content
