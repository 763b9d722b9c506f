# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading: who sees what, pages, filters, entity tags, waiting, and what does not exist."""

import datetime as dt
import uuid

import pytest
from django.utils import timezone

from portal.api import waiting
from portal.environments.models import VirtualMachine
from portal.jobs.models import Job
from portal.jobs.states import JobState
from restores.models import Restore
from tests.api.support import Api, api_of, queries_of
from tests.factories import (
    EnvironmentFactory,
    JobFactory,
    MembershipFactory,
    PointFactory,
    TeamFactory,
    VmFactory,
)

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

LISTS = ["environments", "vms", "points", "jobs", "restores", "teams"]


def _addresses(world) -> list[str]:
    return [
        f"environments/{world.environment.uuid}",
        f"vms/{world.vm.uuid}",
        f"vms/{world.vm.uuid}/points/latest",
        f"points/{world.point.uuid}",
        f"jobs/{world.job.uuid}",
        f"restores/{world.restore.uuid}",
        f"teams/{world.team.uuid}",
    ]


@pytest.mark.parametrize("path", LISTS)
def test_lists_hold_what_the_tokens_owner_may_see(people, world, path):
    other = VmFactory()
    point = PointFactory(vm=other, job=JobFactory(vm=other))
    job = JobFactory(vm=other, kind="vm_restore")
    Restore.objects.create(job=job, point=point, method="new_vm", target_name="y", plan_hash="0")
    mine = api_of(people.carol, "read").get(path).json()["results"]
    assert mine
    assert len(api_of(people.root).get(path).json()["results"]) > len(mine)
    theirs = api_of(people.dave).get(path).json()["results"]
    assert [row["name"] for row in theirs] == (["Elsewhere"] if path == "teams" else [])


def test_objects_of_others_are_told_from_unknown_ones_by_nothing(people, world):
    """Also by name, and whatever the scopes."""
    stranger = api_of(people.dave)
    for path in _addresses(world):
        known = stranger.get(path)
        unknown = stranger.get(path.replace(path.split("/")[1], str(uuid.uuid4())))
        bodies = [answer.json() for answer in (known, unknown)]
        for body in bodies:
            assert body.pop("reference")
        assert known.status_code == unknown.status_code == 404
        assert bodies[0] == bodies[1]
        assert set(known.headers) == set(unknown.headers)
        assert api_of(people.carol, "read").get(path).status_code == 200


def test_a_detail_says_what_the_list_says_and_more(alice, world):
    kinds = ("environments", "vms", "points", "points", "jobs", "restores", "teams")
    for path, kind in zip(_addresses(world), kinds, strict=True):
        detail = alice.get(path).json()
        rows = {row["uuid"]: row for row in alice.get(kind).json()["results"]}
        assert rows[detail["uuid"]].items() <= detail.items()
        assert detail["url"] == f"/api/v1/{kind}/{detail['uuid']}"
    assert [step["name"] for step in alice.get(f"jobs/{world.job.uuid}").json()["steps"]] == ["read"]
    assert alice.get(f"points/{world.point.uuid}").json()["disks"][0]["digest"] == world.point_disk.digest
    assert alice.get(f"vms/{world.vm.uuid}").json()["protection"]["status"] == "protected"


def test_a_team_names_its_people(alice, world, people):
    team = alice.get(f"teams/{world.team.uuid}").json()
    assert {(row["username"], row["role"]) for row in team["members"]} == {
        ("alice", "admin"),
        ("bob", "operator"),
        ("carol", "viewer"),
    }
    tied = api_of(people.alice, "read", team=people.team)
    MembershipFactory(team=TeamFactory(), user=people.alice)
    assert len(alice.get("teams").json()["results"]) == 2
    assert [row["uuid"] for row in tied.get("teams").json()["results"]] == [team["uuid"]]


def test_repositories_are_for_platform_admins(people, world, alice, root):
    path = f"repositories/{world.repository.uuid}"
    assert root.get(path).json()["path"] == world.repository.path
    assert root.get("repositories", {"name": world.repository.name}).json()["results"] == [
        root.get(path).json()
    ]
    for api in (alice, api_of(people.root, "read", "backup", "restore")):
        assert api.get(path).status_code == 404
        assert api.get("repositories").json()["results"] == []


def test_an_ended_job_says_why_and_what_came_of_it(alice, world):
    failed = alice.get(f"jobs/{world.restore.job.uuid}").json()
    assert failed["error"]["code"] == "storage_full"
    made = alice.get(f"jobs/{world.point.job.uuid}").json()
    assert made["error"] is None
    assert made["points"] == [f"/api/v1/points/{world.point.uuid}"]


@pytest.mark.parametrize("path", LISTS)
def test_pages_follow_one_another_without_gap_or_repetition(root, world, path):
    world.grow(5)
    taken = timezone.now() - dt.timedelta(days=1)
    for _ in range(5):  # the same moment, so that only the id orders them
        PointFactory(vm=world.vm, taken_at=taken)
        VmFactory(name="twin")
    whole = [row["uuid"] for row in root.get(path, {"limit": 200}).json()["results"]]
    found, address = [], f"/api/v1/{path}?limit=2"
    while address:
        page = root.get(address).json()
        assert len(page["results"]) <= 2
        found += [row["uuid"] for row in page["results"]]
        address = page["next"]
    assert found == whole
    assert len(set(whole)) == len(whole)


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "cursor", ["garbage", "W10", "WyJvbGRlciIsWzFdXQ", "WyJvbGRlciIsWyJcdTAwMDAiLDFdXQ", "x" * 999]
)
def test_a_made_up_cursor_is_refused_or_leads_to_a_page(root, world, path, cursor):
    answer = root.get(path, {"cursor": cursor})
    assert answer.status_code in (200, 400)
    if answer.status_code == 400:
        assert answer.json()["code"] == "bad_cursor"


@pytest.mark.parametrize("path", LISTS)
def test_lists_ask_the_database_as_often_for_many_rows_as_for_few(people, world, path):
    for person in (people.alice, people.root):
        api, counted = api_of(person), []
        for rows in (2, 10):
            world.grow(rows)
            api.get(path)
            counted.append(queries_of(api, path))
            assert len(api.get(path).json()["results"]) > 2
        assert counted[0] == counted[1] <= 8


def test_details_ask_the_database_as_often_for_much_as_for_little(alice, world):
    counted = []
    alice.get("vms")  # the first use of a token is written down
    for rows in (1, 10):
        world.grow(rows)
        for path in _addresses(world):
            counted.append((path, queries_of(alice, path)))
    assert len(set(counted)) == len(_addresses(world))


def test_filters_of_machines(alice, world):
    second = EnvironmentFactory(name="Second")
    twin = world.machine("shop", environment=second)
    gone = world.machine("left", gone_at=timezone.now())

    def found(**parameters):
        return {row["uuid"] for row in alice.get("vms", parameters).json()["results"]}

    first, both = str(world.vm.uuid), {str(world.vm.uuid), str(twin.uuid)}
    assert found() == found(q="sho") == found(name="shop") == both
    assert found(environment="Second", name="shop") == found(environment=str(second.uuid)) == {str(twin.uuid)}
    assert found(manager_id=str(world.vm.manager_id)) == {first}
    assert found(gone="true") == both | {str(gone.uuid)}
    assert found(name="nothing") == set()


def test_filters_of_jobs(alice, world, people):
    job = JobFactory(
        vm=world.vm, ticket="INC-7", requested_for="Zoë", reason="Disk was wiped", requested_by_name="bob"
    )

    def found(**parameters):
        return [row["uuid"] for row in alice.get("jobs", parameters).json()["results"]]

    for parameters in (
        {"ticket": "INC-7"},
        {"requested_for": "Zoë"},
        {"reason": "wiped"},
        {"requested_by": "bob"},
        {"state": "pending"},
        {"state": "active", "ticket": "INC-7"},
        {"kind": "vm_backup", "requested_by": "bob", "vm": str(world.vm.uuid)},
        {"created_after": (timezone.now() - dt.timedelta(hours=1)).isoformat(), "ticket": "INC-7"},
    ):
        assert found(**parameters) == [str(job.uuid)], parameters
    assert found(ticket="INC-7", created_before=(timezone.now() - dt.timedelta(hours=1)).isoformat()) == []
    assert found(state="succeeded", ticket="INC-7") == []


def test_filters_of_points(alice, world):
    old = PointFactory(vm=world.vm, taken_at=timezone.now() - dt.timedelta(days=9), mode="incremental")
    dead = PointFactory(vm=world.vm, deleted_at=timezone.now(), deleted_by="rule", deleted_why="Old")

    def found(**parameters):
        return [row["uuid"] for row in alice.get("points", parameters).json()["results"]]

    week = (timezone.now() - dt.timedelta(days=7)).isoformat()
    assert found() == [str(world.point.uuid), str(old.uuid)]
    assert found(taken_before=week) == found(mode="incremental") == [str(old.uuid)]
    assert found(taken_after=week, vm=str(world.vm.uuid), environment="Manager") == [str(world.point.uuid)]
    assert found(deleted="true") == [str(dead.uuid)]
    assert alice.get(f"points/{dead.uuid}").json()["deleted"]["by"] == "rule"


def test_points_by_latest_and_before(alice, world):
    old = PointFactory(vm=world.vm, taken_at=timezone.now() - dt.timedelta(days=9))
    PointFactory(vm=world.vm, taken_at=timezone.now(), deleted_at=timezone.now())
    PointFactory(taken_at=timezone.now())
    week = (timezone.now() - dt.timedelta(days=7)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def get(which):
        return alice.get(f"vms/{world.vm.uuid}/points/{which}")

    assert get("latest").json()["uuid"] == str(world.point.uuid)
    assert get(f"before:{week}").json()["uuid"] == str(old.uuid)
    assert get(str(old.uuid)).json()["uuid"] == str(old.uuid)
    assert get("before:1999-01-01T00:00:00+01:00").status_code == 404
    for nonsense in (
        "newest",
        "before:",
        "before:yesterday",
        "before:2026-01-01T00:00:00",
        "before:2026-99-99T0:0Z",
    ):
        answer = get(nonsense)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


def test_an_unchanged_answer_is_not_sent_again(alice, world):
    for path in (*LISTS, *_addresses(world)):
        first = alice.get(path)
        again = alice.get(path, if_none_match=first["ETag"])
        assert (again.status_code, again.content) == (304, b"")
        assert again["ETag"] == first["ETag"]
        assert "RateLimit" in again.headers
        assert "no-cache" in first["Cache-Control"]
        assert "private" in first["Cache-Control"]
        assert "Authorization" in first["Vary"]
    VirtualMachine.objects.update(name="another")
    assert alice.get(f"vms/{world.vm.uuid}", if_none_match='"0", "1"').status_code == 200


def _ending_after(monkeypatch, looks: int, change) -> list[float]:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == looks:
            change()

    monkeypatch.setattr(waiting.time, "sleep", sleep)
    return slept


def test_wait_answers_when_the_job_has_ended(alice, world, monkeypatch):
    change = Job.objects.filter(pk=world.job.pk).update
    slept = _ending_after(monkeypatch, 3, lambda: change(state=JobState.SUCCEEDED))
    answer = alice.get(f"jobs/{world.job.uuid}", {"wait": 30})
    assert answer.json()["state"] == "succeeded"
    assert len(slept) == 3
    assert alice.get(f"jobs/{world.job.uuid}", {"wait": 30}).json()["state"] == "succeeded"
    assert len(slept) == 3


def test_wait_with_a_tag_answers_at_any_change(alice, world, monkeypatch):
    path = f"jobs/{world.job.uuid}"
    change = Job.objects.filter(pk=world.job.pk).update
    slept = _ending_after(monkeypatch, 2, lambda: change(phase="Reading disk 2 of 3"))
    answer = alice.get(path, {"wait": 30}, if_none_match=alice.get(path)["ETag"])
    assert (answer.status_code, answer.json()["phase"]) == (200, "Reading disk 2 of 3")
    assert len(slept) == 2


def test_wait_ends_with_its_time(alice, world):
    path = f"jobs/{world.job.uuid}"
    tag = alice.get(path)["ETag"]
    assert alice.get(path, {"wait": 1}, if_none_match=tag).status_code == 304
    assert alice.get(path, {"wait": 31}).status_code == 422


def test_who_loses_the_right_to_see_while_waiting_sees_nothing(alice, world, people, monkeypatch):
    _ending_after(monkeypatch, 1, lambda: people.alice.memberships.all().delete())
    assert alice.get(f"jobs/{world.job.uuid}", {"wait": 30}).status_code == 404


def test_too_many_that_wait_are_answered_at_once(alice, world, settings, monkeypatch):
    slept = _ending_after(monkeypatch, 1, lambda: None)
    settings.API_WAITERS = 0
    answer = alice.get(f"jobs/{world.job.uuid}", {"wait": 30})
    assert (answer.status_code, answer.json()["state"]) == (200, "running")
    assert answer["Retry-After"] == "5"
    assert slept == []
    assert waiting._waiting == 0


def test_a_request_without_a_token_is_refused(db):
    answer = Api().get("vms")
    assert (answer.status_code, answer.json()["code"]) == (401, "authentication_required")
    assert answer["WWW-Authenticate"].startswith("Bearer")
