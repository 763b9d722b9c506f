# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing: by whom, by which name, with which ticket, and what comes back."""

import datetime as dt
import uuid

import pytest
from django.test import Client
from django.utils import timezone

from backups.models import RestorePoint
from portal.audit.models import AuditEntry
from portal.environments.models import VirtualMachine
from portal.jobs.models import Job
from portal.jobs.states import JobState
from restores.models import Restore
from tests.api.support import Api, api_of, queries_of
from tests.backups.conftest import point, vm
from tests.factories import EnvironmentFactory, JobFactory, PointFactory, VmFactory

__all__ = ["point", "vm"]
pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

ORDER = {"requested_for": "Zoë in accounting", "ticket": "INC0012345", "reason": "Her disk was wiped"}


@pytest.fixture
def bob(people):
    """Operator of the team."""
    return api_of(people.bob)


@pytest.mark.parametrize("name", ["uuid", "names", "manager_id", "environment_uuid"])
def test_a_backup_of_a_machine_by_any_of_its_names(bob, world, repository, name):
    vm = world.vm
    Job.objects.filter(vm=vm).update(state=JobState.SUCCEEDED)
    given = {
        "uuid": str(vm.uuid),
        "names": {"environment": "Manager", "name": "shop"},
        "manager_id": {"environment": "Manager", "manager_id": str(vm.manager_id)},
        "environment_uuid": {"environment": str(vm.environment.uuid), "name": "shop"},
    }[name]
    answer = bob.post("backups", {"vm": given, "full": True, "repository": "Test repository", **ORDER})
    assert answer.status_code == 202, answer.text
    job = Job.objects.latest("id")
    assert answer["Location"] == answer.json()["url"] == f"/api/v1/jobs/{job.uuid}"
    assert (job.vm, job.via, job.params["full"]) == (vm, "api", True)
    assert {key: getattr(job, key) for key in ORDER} == ORDER
    entry = AuditEntry.objects.get(action="backup.start")
    assert (entry.via, entry.ticket, entry.data["requested_for"]) == (
        "api",
        ORDER["ticket"],
        ORDER["requested_for"],
    )
    for found in (
        bob.get(answer["Location"]).json(),
        bob.get("backups", {"ticket": "INC0012345"}).json()["results"][0],
    ):
        assert found.items() >= ORDER.items()


def test_a_name_that_two_machines_have(bob, world, repository):
    twin = world.machine("shop", environment=EnvironmentFactory(name="Second"))
    VmFactory(name="shop")  # of another team, and therefore not there
    answer = bob.post("backups", {"vm": {"name": "shop"}})
    assert (answer.status_code, answer.json()["code"]) == (409, "ambiguous_name")
    assert {item["uuid"] for item in answer.json()["candidates"]} == {str(world.vm.uuid), str(twin.uuid)}
    VirtualMachine.objects.filter(pk=world.vm.pk).update(gone_at=timezone.now())
    assert bob.post("backups", {"vm": {"name": "shop"}}).json()["vm"]["uuid"] == str(twin.uuid)


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "shop",
        7,
        [],
        {},
        {"name": ""},
        {"name": "a", "manager_id": str(uuid.uuid4())},
        {"nmae": "a"},
    ],
)
def test_what_names_no_machine(bob, world, given):
    answer = bob.post("backups", {"vm": given})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert answer.json()["errors"][0]["pointer"].startswith("/vm")


def test_others_machines_are_told_from_unknown_ones_by_nothing(people, world, repository):
    api, plain = api_of(people.dave), []
    Job.objects.filter(vm=world.vm).update(state=JobState.FAILED)
    for vm_id, point_id, job_id, name in (
        (world.vm.uuid, world.point.uuid, world.job.uuid, "shop"),
        (*[uuid.uuid4() for _ in range(3)], "no such machine"),
    ):
        answers = [
            api.post("backups", {"vm": str(vm_id)}),
            api.post("backups", {"vm": {"environment": "Manager", "name": name}}),
            api.post("restores/plan", {"point": str(point_id)}),
            api.post("restores/plan", {"vm": {"name": name}, "point": "latest"}),
            api.post("restores", {"point": str(point_id), "plan_hash": "0"}),
            *[api.post(f"points/{point_id}/{verb}", {"reason": "x"}) for verb in POINT_ACTIONS],
            api.post(f"jobs/{job_id}/cancel"),
            api.post(f"jobs/{job_id}/retry"),
        ]
        for answer in answers:
            assert answer.status_code == 404
        plain.append([{**answer.json(), "reference": ""} for answer in answers])
    assert plain[0] == plain[1]
    assert len({str(body) for body in plain[0]}) == 1


POINT_ACTIONS = ("verify", "pin", "unpin", "hold", "release", "delete", "undelete")
NEEDS = {
    "backups": "backup",
    "restores/plan": "restore",
    "restores": "restore",
    "points/{point}/verify": "backup",
    "points/{point}/pin": "backup",
    "points/{point}/unpin": "backup",
    "points/{point}/hold": "admin",
    "points/{point}/release": "admin",
    "points/{point}/delete": "admin",
    "points/{point}/undelete": "admin",
    "jobs/{job}/cancel": "backup",
    "jobs/{job}/retry": "backup",
}
BODIES = {
    "backups": {"vm": {"name": "shop"}},
    "restores/plan": {"vm": {"name": "shop"}, "point": "latest"},
    "restores": {"vm": {"name": "shop"}, "point": "latest", "plan_hash": "0"},
}


@pytest.mark.parametrize("address", NEEDS)
def test_every_write_needs_its_scope_and_role(people, world, repository, address):
    path = address.format(point=world.point.uuid, job=world.job.uuid)
    body = BODIES.get(address, {"reason": "x"})
    before = list(Job.objects.values_list("pk", "state")), list(RestorePoint.objects.values())
    others = {"read", "backup", "restore", "admin"} - {NEEDS[address]}
    lacking = api_of(people.alice, *others).post(path, body)
    assert (lacking.status_code, lacking.json()["code"]) == (403, "scope_missing")
    viewer = api_of(people.carol).post(path, body)
    assert (viewer.status_code, viewer.json()["code"]) == (403, "not_allowed")
    assert Api().post(path, body).status_code == 401
    assert (list(Job.objects.values_list("pk", "state")), list(RestorePoint.objects.values())) == before


def test_a_session_writes_with_its_csrf_token_only(people, world, repository):
    client = Client(enforce_csrf_checks=True)
    client.force_login(people.alice)
    path = f"/api/v1/jobs/{world.job.uuid}/cancel"
    answer = client.post(path, "{}", content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    world.job.refresh_from_db()
    assert world.job.cancel_requested_at is None
    client.get("/settings/")
    token = client.cookies["csrftoken"].value
    assert (
        client.post(path, "{}", content_type="application/json", headers={"x-csrftoken": token}).status_code
        == 200
    )


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        ("{", "application/json", 400, "parse_error"),
        ('{"vm": NaN}', "application/json", 400, "parse_error"),
        ("[]", "application/json", 422, "invalid_input"),
        ("null", "application/json", 422, "invalid_input"),
        ("vm=shop", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        ("<vm/>", "text/xml", 415, "unsupported_media_type"),
        ('{"vm": "\\u0000"}', "application/json", 422, "invalid_input"),
        ('{"vm": {"name": "\\ud800"}}', "application/json", 422, "invalid_input"),
        ('{"vm": {"name": "shop"}, "ful": true}', "application/json", 422, "invalid_input"),
        ('{"vm": {"name": "shop"}, "ticket": "' + "x" * 101 + '"}', "application/json", 422, "invalid_input"),
        ("\udcff", "application/json", 400, "parse_error"),
    ],
)
def test_bodies_that_are_none(bob, world, body, kind, status, code):
    raw = body.encode("utf-8", "surrogateescape")
    answer = bob.client.generic("POST", "/api/v1/backups", raw, content_type=kind, headers=bob.headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_bodies_without_measure(bob, world):
    deep = bob.send("POST", "backups", "[" * 100_000)
    assert (deep.status_code, deep.json()["code"]) == (400, "parse_error")
    nested = bob.send("POST", "backups", '{"vm": ' + "[" * 500 + "]" * 500 + "}")
    assert (nested.status_code, nested.json()["code"]) == (422, "invalid_input")
    large = bob.send("POST", "backups", '{"reason": "' + "x" * (1 << 20) + '"}')
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
    number = bob.send("POST", "backups", '{"vm": ' + "9" * 5000 + "}")
    assert number.status_code in (400, 422)


def test_a_running_backup_is_not_doubled(bob, world, repository):
    assert bob.post("backups", {"vm": str(world.vm.uuid)}).json()["code"] == "backup_already_running"


def test_a_restore_is_planned_and_then_started_by_its_hash(bob, point):
    wish = {
        "vm": {"environment": point.vm.environment.name, "name": point.vm.name},
        "point": "latest",
        **ORDER,
    }
    answer = bob.post("restores/plan", wish)
    assert answer.status_code == 200, answer.text
    plan = answer.json()
    assert (plan["blockers"], plan["point"], plan["name"]) == (
        [],
        str(point.uuid),
        f"{point.vm.name}-restored",
    )
    assert not Job.objects.exists()
    assert bob.post("restores", {**wish, "plan_hash": "0"}).json()["code"] == "plan_changed"
    assert (
        bob.post("restores", {**wish, "macs": "original", "plan_hash": plan["plan_hash"]}).status_code == 409
    )
    assert not Job.objects.exists()
    started = bob.post("restores", {**wish, "plan_hash": plan["plan_hash"]})
    assert started.status_code == 202, started.text
    restore = Restore.objects.get()
    assert started["Location"] == f"/api/v1/jobs/{restore.job.uuid}" == started.json()["job"]["url"]
    assert (restore.plan_hash, restore.job.via, restore.job.ticket) == (
        plan["plan_hash"],
        "api",
        ORDER["ticket"],
    )
    assert bob.get(started.json()["url"]).json() == started.json()
    rows = bob.get("restores", {"ticket": ORDER["ticket"], "state": "active"}).json()["results"]
    assert [row["uuid"] for row in rows] == [str(restore.uuid)]
    assert bob.get("restores", {"requested_for": "nobody"}).json()["results"] == []


def test_a_plan_with_a_blocker_says_so_and_starts_nothing(bob, point):
    wish = {"point": str(point.uuid), "name": point.vm.name}
    plan = bob.post("restores/plan", wish).json()
    assert "exists already" in plan["blockers"][0]
    refused = bob.post("restores", {**wish, "plan_hash": plan["plan_hash"]})
    assert (refused.status_code, refused.json()["code"]) == (409, "plan_blocked")


def test_a_point_by_a_moment(bob, point):
    old = PointFactory(
        vm=point.vm, repository=point.repository, taken_at=timezone.now() - dt.timedelta(days=900)
    )
    vm = str(point.vm.uuid)
    moment = (old.taken_at + dt.timedelta(seconds=1)).isoformat()
    assert bob.post("restores/plan", {"vm": vm, "point": f"before:{moment}"}).json()["point"] == str(old.uuid)
    for wish in ({"point": "latest"}, {"vm": vm, "point": "newest"}, {"point": "x"}):
        assert bob.post("restores/plan", wish).json()["errors"][0]["pointer"] == "/point"


def test_restores_cost_the_same_number_of_queries_however_many(alice, world):
    alice.get("restores")  # the first use of a token is written down
    counted = []
    for rows in (2, 10):
        world.grow(rows)
        counted.append(queries_of(alice, "restores"))
        assert len(alice.get("restores").json()["results"]) > 2
    assert counted[0] == counted[1] <= 8


def test_what_is_done_to_a_point(alice, point):
    path = f"points/{point.uuid}"

    def do(verb: str, **said: str):
        answer = alice.post(f"{path}/{verb}", {"ticket": "CHG-1", **said})
        assert answer.status_code == 200, answer.text
        assert AuditEntry.objects.latest("id").ticket == "CHG-1"
        return answer.json()

    assert do("pin", reason="Keep")["pinned"]["why"] == "Keep"
    assert do("unpin")["pinned"] is None
    assert alice.post(f"{path}/hold").json()["code"] == "reason_needed"
    assert do("hold", reason="Case 7")["held"]["by"] == "alice"
    assert alice.post(f"{path}/delete", {"reason": "x"}).json()["code"] == "point_held"
    assert do("release", reason="Closed")["held"] is None
    assert do("delete", reason="Not needed")["deleted"]["why"] == "Not needed"
    assert alice.get("points").json()["results"] == []
    assert do("undelete")["deleted"] is None
    verify = alice.post(f"{path}/verify", ORDER)
    assert verify.status_code == 202
    job = Job.objects.get(kind="point_verify")
    assert verify["Location"] == f"/api/v1/jobs/{job.uuid}"
    assert {key: getattr(job, key) for key in ORDER} == ORDER


def test_jobs_are_cancelled_and_repeated(bob, world):
    running = bob.post(f"jobs/{world.job.uuid}/cancel", {"ticket": "CHG-2"})
    assert running.status_code == 200
    assert running.json()["cancel_requested_at"] is not None
    assert AuditEntry.objects.get(action="job.cancel").ticket == "CHG-2"
    pending = JobFactory(vm=world.vm, state=JobState.PENDING)
    assert bob.post(f"jobs/{pending.uuid}/cancel").json()["state"] == "cancelled"
    assert bob.post(f"jobs/{pending.uuid}/cancel").json()["code"] == "job_not_cancellable"
    again = bob.post(f"jobs/{pending.uuid}/retry")
    assert again.status_code == 202
    assert again.json()["retry_of"] == f"/api/v1/jobs/{pending.uuid}"
    assert bob.post(f"jobs/{pending.uuid}/retry").json()["code"] == "job_not_retryable"


def test_jobs_of_the_portal_itself_are_steered_by_platform_admins_with_the_scope(people, world):
    job = JobFactory(vm=None, kind="collect_garbage")
    assert api_of(people.root, "backup", "restore").post(f"jobs/{job.uuid}/cancel").status_code == 403
    assert api_of(people.root, "admin").post(f"jobs/{job.uuid}/cancel").status_code == 200


def test_writes_have_a_limit_of_their_own(bob, world, settings):
    settings.API_WRITES = 1
    assert bob.post(f"jobs/{world.job.uuid}/cancel")["RateLimit-Policy"] == '"writes";q=1;w=60'
    refused = bob.post(f"jobs/{world.job.uuid}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
    assert bob.get("jobs").status_code == 200
