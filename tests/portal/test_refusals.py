# SPDX-License-Identifier: GPL-3.0-or-later
"""Refusals are recorded in one place, for pages and the API, and a flood of them is not."""

import uuid

import pytest
from django.core.cache import cache
from django.test import Client

from portal.audit import refusals
from portal.audit.models import AuditEntry
from portal.trail.access import visible_to
from tests.factories import PointFactory, VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


@pytest.fixture(autouse=True)
def nothing_counted():
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def point(people):
    found = PointFactory(vm=VmFactory(name="web-01"))
    found.vm.teams.add(people.team)
    return found


def client_of(person) -> Client:
    client = Client()
    client.force_login(person)
    return client


def refused() -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(action="refused").order_by("id"))


def test_what_ones_role_does_not_allow(people, point):
    assert client_of(people.carol).post(f"/points/{point.uuid}/pin/").status_code == 403
    (entry,) = refused()
    assert (entry.actor_name, entry.object_id, entry.vm) == ("carol", str(point.uuid), point.vm.uuid)
    assert entry.data == {
        "status": 403,
        "method": "POST",
        "route": "backups:pin",
        "path": f"/points/{point.uuid}/pin/",
    }
    assert entry.address == "127.0.0.1"


def test_what_is_somebody_elses_looks_missing_and_is_recorded_for_its_team(people, point):
    assert client_of(people.dave).get(point.vm.get_absolute_url()).status_code == 404
    (entry,) = refused()
    assert (entry.actor_name, entry.object_label, entry.data["status"]) == ("dave", "web-01", 404)
    assert entry in visible_to(people.alice)
    assert entry not in visible_to(people.dave)


def test_pages_of_platform_admins_are_recorded_without_an_object(people):
    assert client_of(people.alice).get("/managers/").status_code == 404
    (entry,) = refused()
    assert (entry.actor_name, entry.object_type) == ("alice", "")


def test_what_does_not_exist_is_no_refusal(people):
    client = client_of(people.alice)
    assert client.get(f"/machines/{uuid.uuid4()}/").status_code == 404
    assert client.get("/no/such/page/").status_code == 404
    assert Client().get("/no/such/page/").status_code == 404
    assert refused() == []


def test_a_missing_csrf_token_is_recorded(people, point):
    client = Client(enforce_csrf_checks=True)
    client.force_login(people.bob)
    assert client.post(f"/points/{point.uuid}/pin/").status_code == 403
    assert [entry.actor_name for entry in refused()] == ["bob"]


def test_a_wrong_token_is_recorded_with_its_address(db):
    answer = Client().get("/api/v1/vms", headers={"Authorization": "Bearer obp_wrong"})
    assert answer.status_code == 401
    (entry,) = refused()
    assert (entry.actor_name, entry.via, entry.address) == ("portal", "api", "127.0.0.1")


def test_the_same_again_is_counted_and_told_by_the_next_entry(people, point):
    client = client_of(people.carol)
    for _ in range(5):
        client.post(f"/points/{point.uuid}/pin/")
    assert len(refused()) == 1
    client.post(f"/points/{point.uuid}/hold/")
    assert [entry.data.get("unrecorded_before") for entry in refused()] == [None, 4]


def test_one_person_cannot_fill_the_history(people, point, monkeypatch):
    monkeypatch.setattr(refusals, "PER_WINDOW", 3)
    monkeypatch.setattr(refusals, "_window", lambda: 1)
    client = client_of(people.dave)
    others = VmFactory.create_batch(6)
    for vm in others:
        assert client.get(vm.get_absolute_url()).status_code == 404
    assert len(refused()) == 3
    client_of(people.carol).post(f"/points/{point.uuid}/pin/")
    assert len(refused()) == 4, "others are counted by themselves"
    monkeypatch.setattr(refusals, "_window", lambda: 2)
    client.get(point.vm.get_absolute_url())
    assert refused()[-1].data["unrecorded_before"] == 3


def test_without_the_cache_every_refusal_is_recorded(people, point, monkeypatch):
    def away(*_: object, **__: object):
        raise ConnectionError

    monkeypatch.setattr(refusals.shared, "add", away)
    client = client_of(people.carol)
    for _ in range(2):
        assert client.post(f"/points/{point.uuid}/pin/").status_code == 403
    assert len(refused()) == 2


def test_a_refusal_that_cannot_be_recorded_is_still_a_refusal(people, point, monkeypatch):
    from django.db import DatabaseError

    def fail(*_: object, **__: object):
        raise DatabaseError

    monkeypatch.setattr(refusals.audit, "record", fail)
    assert client_of(people.carol).post(f"/points/{point.uuid}/pin/").status_code == 403


def test_downloads_are_recorded(people, point):
    from tests.factories import JobFactory

    job = JobFactory(vm=point.vm)
    client = client_of(people.carol)
    client.get(f"{job.get_absolute_url()}log/")
    client.get("/machines/?format=csv&q=web")
    found = AuditEntry.objects.filter(action="download").order_by("id")
    assert [(entry.data["what"], entry.object_id) for entry in found] == [
        ("log of a job", str(job.uuid)),
        ("list of machines", ""),
    ]
    assert found[1].data["filters"] == {"format": "csv", "q": "web"}
