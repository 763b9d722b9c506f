# SPDX-License-Identifier: GPL-3.0-or-later
"""A client that speaks as the API's clients do, and rows for it to find."""

import json
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from portal.accounts.models import Team, User
from portal.api import tokens
from portal.api.scopes import Scope
from portal.jobs.states import JobState
from restores.models import Restore
from tests.factories import (
    DiskFactory,
    EnvironmentFactory,
    JobFactory,
    MembershipFactory,
    PointDiskFactory,
    PointFactory,
    RepositoryFactory,
    TeamFactory,
    VmFactory,
)


class Api:
    """`get("vms")`, `post("backups", {...})`: a Bearer token, JSON both ways, the answer as Django's response."""

    def __init__(self, text: str = "", **defaults: Any) -> None:
        self.client = Client(raise_request_exception=False, **defaults)
        self.headers = {"authorization": f"Bearer {text}"} if text else {}

    def get(self, path: str, data: dict[str, Any] | None = None, **headers: str) -> Any:
        return self.client.get(_address(path), data, headers={**self.headers, **_named(headers)})

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.send("POST", path, json.dumps(body if body is not None else {}), **headers)

    def delete(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.send("DELETE", path, json.dumps(body if body is not None else {}), **headers)

    def send(self, method: str, path: str, body: str, kind: str = "application/json", **headers: str) -> Any:
        named = {**self.headers, **_named(headers)}
        return self.client.generic(method, _address(path), body, content_type=kind, headers=named)


def _address(path: str) -> str:
    return path if path.startswith("/") else f"/api/v1/{path}"


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def token_of(person: User, *scopes: str, **more: Any) -> str:
    """The text of a new token; for everything unless scopes are named."""
    _, text = tokens.create_token(
        actor=more.pop("actor", person), owner=person, name="test", scopes=scopes or Scope.values, **more
    )
    return text


def api_of(person: User, *scopes: str, **more: Any) -> Api:
    return Api(token_of(person, *scopes, **more))


class World:
    """One machine of the team with everything on it; `grow` adds to all of it."""

    def __init__(self, team: Team) -> None:
        self.team = team
        self.environment, self.repository = EnvironmentFactory(name="Manager"), RepositoryFactory()
        self.vm = self.machine("shop")
        made_by = JobFactory(vm=self.vm, state=JobState.SUCCEEDED, finished_at=timezone.now())
        self.point = PointFactory(vm=self.vm, repository=self.repository, job=made_by)
        self.point_disk = PointDiskFactory(point=self.point)
        self.job = JobFactory(vm=self.vm, state=JobState.RUNNING, started_at=timezone.now())
        self.job.steps.create(position=0, name="read", title="Reading")
        self.restore = self.restored()
        self.grown = 0

    def machine(self, name: str, **more: Any) -> Any:
        vm = VmFactory(name=name, environment=more.pop("environment", self.environment), **more)
        vm.teams.add(self.team)
        DiskFactory(vm=vm)
        return vm

    def restored(self) -> Restore:
        job = JobFactory(vm=self.vm, kind="vm_restore", state=JobState.FAILED, error_code="storage_full")
        return Restore.objects.create(
            job=job, point=self.point, method="new_vm", target_name="x", plan_hash="0"
        )

    def grow(self, rows: int) -> None:
        for number in range(self.grown, self.grown + rows):
            vm = self.machine(f"more-{number}", environment=EnvironmentFactory())
            for owner in (vm, self.vm):
                point = PointFactory(vm=owner, repository=RepositoryFactory(), job=JobFactory(vm=owner))
                PointDiskFactory(point=point)
                JobFactory(vm=owner, state=JobState.FAILED, error_code="x", retry_of=self.job)
            self.job.steps.create(position=number + 1, name=f"s{number}", title="Reading")
            PointDiskFactory(point=self.point)
            DiskFactory(vm=self.vm)
            self.restored()
            MembershipFactory(team=self.team)
            MembershipFactory(team=TeamFactory(), user=self.team.members.get(username="alice"))
        self.grown += rows


def queries_of(api: Api, path: str) -> int:
    """How often the answer asks the database; the embedded default's cache, which is in there too, does not count."""
    with CaptureQueriesContext(connection) as queries:
        assert api.get(path).status_code == 200
    asked = [query["sql"] for query in queries.captured_queries]
    return sum("portal_cache" not in sql and "SAVEPOINT" not in sql for sql in asked)
