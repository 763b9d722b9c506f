# SPDX-License-Identifier: GPL-3.0-or-later
"""The history of very many jobs: what the database does for each filter, read from its own plans."""

import datetime as dt
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pytest
from django.db.models import QuerySet
from django.test import Client
from django.utils import timezone

from backups.models import Repository, RestorePoint
from portal.accounts.models import User
from portal.accounts.roles import Role
from portal.environments.models import VirtualMachine
from portal.history import calendar, filters
from portal.history.filters import BY_TIME, HistoryFilter, narrowed
from portal.jobs.models import Job, JobQuerySet
from portal.paging import COUNTED, PAGE_SIZE, Order
from tests import many_rows
from tests.factories import (
    EnvironmentFactory,
    JobFactory,
    MembershipFactory,
    PointFactory,
    TeamFactory,
    UserFactory,
    VmFactory,
)

# Made slowly on a busy machine; the plans themselves are quick.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(1800)]

BIG = {"jobs_job", "backups_restorepoint"}
MACHINES, OF_THE_TEAM = 200, 10


@dataclass(frozen=True)
class World:
    """`offered`: a value for each filter that the page offers."""

    root: User
    team_admin: User
    offered: dict[str, Any]

    @property
    def people(self) -> list[User]:
        return [self.root, self.team_admin]

    def rows(self, person: User, *names: str) -> JobQuerySet:
        """Of the history, narrowed by the filters of these names."""
        return narrowed(filters.history_of(person), {name: self.offered[name] for name in names})


@pytest.fixture(params=[20_000, pytest.param(200_000, marks=pytest.mark.slow)])
def world(request, transactional_db) -> World:
    team, environment = TeamFactory(), EnvironmentFactory()
    machines = VmFactory.build_batch(MACHINES, environment=environment)
    VirtualMachine.objects.bulk_create(machines)
    team.vms.add(*machines[:OF_THE_TEAM])
    many_rows.jobs(JobFactory(vm=machines[0]), [vm.pk for vm in machines], request.param)
    many_rows.points(PointFactory(vm=machines[0]), [vm.pk for vm in machines], request.param)
    today = timezone.localdate()
    offered = {
        "kind": "restore",
        "result": "failed",
        "q": machines[0].name[:-1],
        "who": "person10",
        "whom": "owner0",
        "ticket": "INC400",
        "team": team,
        "environment": environment,
        "method": "snapshot_attach",
        "mode": "full",
        "since": today - dt.timedelta(days=100),
        "until": today - dt.timedelta(days=90),
        "vm": machines[3].uuid,
    }
    team_admin = MembershipFactory(team=team, role=Role.ADMIN).user
    return World(UserFactory(is_superuser=True), team_admin, offered)


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes_of(part)


def plan_of(rows: QuerySet[Any], **options: bool) -> list[dict[str, Any]]:
    """The nodes of the plan by which PostgreSQL answers."""
    return list(nodes_of(json.loads(rows.explain(format="json", **options))[0]["Plan"]))


def read_in_full(plan: list[dict[str, Any]]) -> list[str]:
    return [
        node["Relation Name"]
        for node in plan
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in BIG
    ]


def looked_at(plan: list[dict[str, Any]]) -> int:
    """Rows of the big tables that were taken up, whether they were wanted or not."""
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in plan
        if node.get("Relation Name") in BIG
    )


def in_order(rows: JobQuerySet) -> JobQuerySet:
    return rows.order_by(*BY_TIME.sorting())


def page_after(rows: QuerySet[Any], row: Any, order: Order = BY_TIME) -> QuerySet[Any]:
    return rows.filter(order.beyond([getattr(row, name) for name in order.fields]))[: PAGE_SIZE + 1]


def test_no_filter_reads_a_whole_table(world):
    """Alone and in pairs: the first page, the one after it, how many there are; and the calendar."""
    assert set(HistoryFilter.base_fields) == set(world.offered), "each filter of the page is looked at here"
    sets = [names for size in range(3) for names in combinations(world.offered, size)]
    newest = in_order(Job.objects.in_history()).first()
    wrong = []
    for person in world.people:
        found = {names: in_order(world.rows(person, *names)) for names in sets}
        for result in filters.RESULTS:
            found["result", result] = in_order(narrowed(filters.history_of(person), {"result": result}))
        for names, rows in found.items():
            parts = (rows[: PAGE_SIZE + 1], page_after(rows, newest), rows[: COUNTED + 1])
            wrong += [(str(person), names) for part in parts if read_in_full(plan_of(part))]
        last = timezone.localdate().replace(day=1)
        for names in ((), ("team",), ("vm",), ("q",), ("environment",)):
            days = calendar.days_of(world.rows(person, *names), last)
            wrong += [(str(person), "calendar", names)] if read_in_full(plan_of(days)) else []
    assert wrong == []


def test_a_deep_page_takes_no_longer_for_being_deep(world):
    """Rows that the database takes up on the way to it: at most those among which the page's rows are scattered."""
    everything = Job.objects.in_history().count()
    for names in ((), ("kind",), ("result",), ("mode",), ("environment",)):
        rows = in_order(world.rows(world.root, *names))
        number = rows.count()
        assert number > 4 * PAGE_SIZE, f"too few rows for a deep page: {names}"
        deep = plan_of(page_after(rows, rows[number * 9 // 10]), analyze=True)
        assert looked_at(deep) <= 1.5 * (PAGE_SIZE + 1) * everything / number, names
    order = Order(("taken_at", "id"))
    points = RestorePoint.objects.kept().filter(repository=Repository.objects.get())
    points = points.order_by(*order.sorting())
    plan = plan_of(page_after(points, points[points.count() * 9 // 10], order), analyze=True)
    assert read_in_full(plan) == []
    assert looked_at(plan) <= PAGE_SIZE + 5


@pytest.mark.slow
def test_how_long_the_pages_take(world):
    """Nothing is demanded of seconds; `-s` shows them, best of three, for docs/performance.md."""
    team, vm = world.offered["team"].uuid, world.offered["vm"]
    rows = in_order(Job.objects.in_history())
    deep = BY_TIME.cursor(rows[rows.count() * 9 // 10])
    pages = {
        "list": "/history/",
        "list, 90 % deep": f"/history/?cursor={deep}",
        "list, failed": "/history/?result=failed",
        "list, one person's restores": "/history/?kind=restore&who=person100",
        "list, part of a name": f"/history/?q={world.offered['q']}",
        "list, ten days": f"/history/?since={world.offered['since']}&until={world.offered['until']}",
        "calendar": "/history/calendar/",
        "calendar of a team": f"/history/calendar/?team={team}",
        "calendar of a machine": f"/history/calendar/?vm={vm}",
        "coverage": "/history/coverage/",
        "CSV of everything": "/history/history.csv",
    }
    for person in world.people:
        client = Client()
        client.force_login(person)
        for name, address in pages.items():
            seconds = []
            for _ in range(1 if "CSV" in name else 3):
                began = time.perf_counter()
                response = client.get(address)
                size = len(response.getvalue())
                seconds.append(time.perf_counter() - began)
            assert response.status_code == 200 and size, name
            print(f"{person} {name}: {min(seconds) * 1000:.0f} ms, {size} bytes")
