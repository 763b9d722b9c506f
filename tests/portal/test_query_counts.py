# SPDX-License-Identifier: GPL-3.0-or-later
"""Twenty more rows, the same number of queries."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from portal.environments.models import ManagerIdentity
from portal.jobs.states import JobState
from restores.models import Restore
from tests.factories import (
    DiskFactory,
    EnvironmentFactory,
    JobFactory,
    MeasurementFactory,
    PersonFactory,
    PointDiskFactory,
    PointFactory,
    RepositoryFactory,
    UserFactory,
    VmFactory,
)

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


class World:
    """One machine with everything on it, in an environment of many; `grow` adds to all of it."""

    def __init__(self, team):
        self.team, self.grown = team, 0
        self.environment, self.repository = EnvironmentFactory(), RepositoryFactory()
        self.vm = self._machine()
        self.point = PointFactory(vm=self.vm, repository=self.repository, job=JobFactory(vm=self.vm))
        self.job = JobFactory(vm=self.vm, state=JobState.RUNNING)

    def _machine(self):
        vm = VmFactory(environment=self.environment)
        person = PersonFactory(vm=vm)
        identity = {"environment": self.environment, "principal": person.principal}
        ManagerIdentity.objects.create(user=UserFactory(), **identity)
        vm.teams.add(self.team)
        DiskFactory.create_batch(2, vm=vm)
        return vm

    def grow(self, rows: int) -> None:
        states = list(JobState)
        for number in range(self.grown, self.grown + rows):
            EnvironmentFactory(problem="It did not answer.") if number % 2 else EnvironmentFactory()
            vm = self._machine()
            PointFactory(vm=vm, repository=self.repository)
            for owner in (vm, self.vm):
                state = states[number % len(states)]
                JobFactory(vm=owner, state=state, started_at=timezone.now(), finished_at=timezone.now())
                JobFactory(vm=owner, state=JobState.RUNNING)
                JobFactory(vm=owner, state=JobState.SUCCEEDED, warnings=["Left."], warnings_open=True)
            PointFactory(vm=self.vm, repository=self.repository)
            PointDiskFactory(point=self.point)
            PointFactory(vm=self.vm, repository=self.repository, deleted_at=timezone.now())
            MeasurementFactory(repository=self.repository)
            MeasurementFactory()
            for kind in ("collect_garbage", "repository_verify"):
                params = {"repository": str(self.repository.uuid)}
                JobFactory(vm=None, kind=kind, state=states[number % len(states)], params=params)
            DiskFactory(vm=self.vm)
            self.job.steps.create(position=number, name=f"s{number}", title="Reading")
            self.job.attempts.create(number=number + 1, claim=self.job.uuid, worker="w:1")
            self.job.log_lines.create(text="a line")
            restoring = JobFactory(vm=self.vm, kind="vm_restore")
            Restore.objects.create(job=restoring, point=self.point, method="new_vm", target_name="x")
        self.grown += rows


@pytest.fixture
def world(people) -> World:
    return World(people.team)


PAGES = {
    "overview": lambda world: "/",
    "machines": lambda world: "/machines/",
    "machines_found": lambda world: "/machines/?q=vm&sort=-protection&status=protected",
    "machines_csv": lambda world: "/machines/?format=csv",
    "machine": lambda world: world.vm.get_absolute_url(),
    "search": lambda world: "/search/?q=vm",
    "mine": lambda world: "/mine/",
    "my_restores": lambda world: "/mine/restores/",
    "managers": lambda world: "/managers/",
    "manager": lambda world: reverse("environments:environment", args=[world.environment.uuid]),
    "owners": lambda world: reverse("environments:environment_people", args=[world.environment.uuid]),
    "point": lambda world: world.point.get_absolute_url(),
    "repositories": lambda world: "/repositories/",
    "repository": lambda world: world.repository.get_absolute_url(),
    "repository_points": lambda world: f"{world.repository.get_absolute_url()}points/?q=vm",
    "repository_trash": lambda world: f"{world.repository.get_absolute_url()}trash/",
    "restore": lambda world: reverse("restores:restore", args=[world.point.uuid]),
    "jobs": lambda world: "/jobs/",
    "jobs_warned": lambda world: "/jobs/?state=warned",
    "job": lambda world: world.job.get_absolute_url(),
    "job_progress": lambda world: reverse("jobs:job_progress", args=[world.job.uuid]),
    "running": lambda world: "/jobs/running/",
    "history": lambda world: "/history/",
    "history_found": lambda world: f"/history/?q=vm&result=failed&team={world.team.uuid}",
    "history_of_a_machine": lambda world: f"/history/?vm={world.vm.uuid}",
    "calendar": lambda world: "/history/calendar/",
    "calendar_of_a_team": lambda world: f"/history/calendar/?team={world.team.uuid}",
    "coverage": lambda world: "/history/coverage/",
    "machines_of_a_team": lambda world: f"/machines/?team={world.team.uuid}",
}

FOR_PLATFORM_ADMINS = (
    "managers",
    "manager",
    "owners",
    "repositories",
    "repository",
    "repository_points",
    "repository_trash",
)


def test_pages_ask_the_database_as_often_for_many_rows_as_for_few(people, world):
    clients = {name: Client() for name in ("root", "alice")}
    for name, client in clients.items():
        client.force_login(getattr(people, name))

    def count():
        found = {}
        for page, address in PAGES.items():
            for name, client in clients.items():
                if name == "alice" and page in FOR_PLATFORM_ADMINS:
                    continue
                with CaptureQueriesContext(
                    connection,
                ) as queries:
                    assert client.get(address(world)).status_code == 200, page
                found[page, name] = len(queries)
        return found

    world.grow(10)
    count()
    few = count()
    world.grow(20)
    many = count()
    assert many == few
    assert max(many.values()) <= 30
