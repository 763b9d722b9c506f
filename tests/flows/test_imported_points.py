# SPDX-License-Identifier: GPL-3.0-or-later
"""The portal's database is lost: what was backed up is restored from the repository's files alone."""

from pathlib import Path

import pytest
from django.core.management import call_command

from backups.models import Repository, RestorePoint
from portal.environments import services as environments
from portal.jobs.models import Job
from tests.factories import UserFactory
from tests.flows import support
from tests.flows.support import back_up

pytestmark = [pytest.mark.flow, pytest.mark.lab, pytest.mark.slow]


def _lose_the_database(lab):
    """An empty one, in which only the Manager was added anew; it has another uuid there."""
    call_command("flush", interactive=False, verbosity=0)
    assert not Job.objects.exists() and not RestorePoint.objects.exists()
    root = UserFactory(username="root", is_superuser=True)
    found = environments.add_environment(
        actor=root,
        name="The Manager",
        api_url=lab.api,
        username=lab.username,
        password=lab.password,
        ca_pem=Path(lab.ca_file).read_text(),
    )
    return root, found


@pytest.mark.parametrize("name", ["files-01", "db-01"])
def test_an_imported_point_is_restored(lab, environment, repository, workers, people, name, capsys):
    made = [back_up(people.bob, environment.vms.get(name=name)) for _ in range(2)]
    path, known, old = repository.path, [point.uuid for point in made], environment.uuid
    root, today = _lose_the_database(lab)
    call_command("import_repository", path, "--name", "Found", "--environment", f"{old}={today.name}")
    assert "2 restore points of 1 machines, 2 of them new here" in capsys.readouterr().out
    assert Repository.objects.get().uuid == repository.uuid
    point = RestorePoint.objects.get(uuid=known[1])
    assert (point.vm.environment, point.stored_environment) == (today, old)
    before = support.on_manager(today)
    job = support.succeeded(support.start_restore(root, point, f"{name}-found"))
    support.assert_new_machine(lab, before, job)
    assert not job.warnings
    again = back_up(root, point.vm)
    assert again.uuid not in known
