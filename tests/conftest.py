# SPDX-License-Identifier: GPL-3.0-or-later
"""People, a lab, a repository and workers for every test that wants them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.db import connection

from backups import services as backups
from backups.models import Repository
from portal.accounts.models import Team, User
from portal.accounts.roles import Role
from portal.environments import services as environments
from portal.environments.models import Environment
from tests import flushing
from tests.factories import MembershipFactory, TeamFactory, UserFactory
from tests.lab_support import RunningLab, start_lab
from tests.worker_support import Workers


@dataclass(frozen=True)
class People:
    """alice is admin of the team, bob its operator, carol its viewer; dave is of another team; root is platform admin."""

    team: Team
    alice: User
    bob: User
    carol: User
    dave: User
    root: User


@pytest.fixture(scope="session", autouse=True)
def patient_flush() -> Iterator[None]:
    with flushing.repeated_after_a_deadlock():
        yield


@pytest.fixture
def people(db: None) -> People:
    team, other = TeamFactory(name="Web shop"), TeamFactory(name="Elsewhere")
    users = {name: UserFactory(username=name) for name in ("alice", "bob", "carol", "dave")}
    roles = {"alice": Role.ADMIN, "bob": Role.OPERATOR, "carol": Role.VIEWER}
    for name, role in roles.items():
        MembershipFactory(team=team, user=users[name], role=role)
    MembershipFactory(team=other, user=users["dave"], role=Role.ADMIN)
    return People(team=team, root=UserFactory(username="root", is_superuser=True), **users)


@pytest.fixture
def repository(db: None, tmp_path: Path) -> Repository:
    """A real, empty repository; the default one."""
    return backups.create_repository(actor=None, name="Test repository", path=tmp_path / "repository")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    """One lab for the whole session; tests leave it as they found it or use machines of their own."""
    running = start_lab(tmp_path_factory.mktemp("lab"))
    yield running
    running.stop()


@pytest.fixture
def environment(transactional_db: None, lab: RunningLab, people: People) -> Environment:
    """The lab as an environment, its machines in the team of alice, bob and carol."""
    found = environments.add_environment(
        actor=people.root,
        name="Lab",
        api_url=lab.api,
        username=lab.username,
        password=lab.password,
        ca_pem=Path(lab.ca_file).read_text(),
    )
    for vm in found.vms.all():
        vm.teams.add(people.team)
    return found


@pytest.fixture(scope="session")
def worker_pool(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Two real worker processes and beat on the test database, kept for the whole session."""
    workers = Workers.start(connection.settings_dict, tmp_path_factory.mktemp("workers"))
    yield workers
    workers.stop()


@pytest.fixture
def workers(transactional_db: None, worker_pool: Workers) -> Workers:
    """Workers for a test that commits; every killed one has been started again."""
    worker_pool.mend()
    return worker_pool
