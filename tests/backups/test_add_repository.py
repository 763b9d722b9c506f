# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository is added by a job, in a folder that the worker reaches."""

from pathlib import Path, PurePosixPath

import pytest

from backups import repositories
from backups.errors import RepositoryKnown
from backups.methods import add_repository
from backups.models import Repository, RestorePoint
from backups.store.errors import StoreError
from backups.store.repository import Repository as Store
from portal.audit.models import AuditEntry
from portal.jobs.models import JobLock
from tests.portal.conftest import rings  # noqa: F401  no broker is asked
from tests.portal.support import claimed, fresh

pytestmark = pytest.mark.django_db


@pytest.fixture
def order(people, rings):  # noqa: F811
    def order_it(path, **changes):
        given = {"name": "Vault", "trash_days": 30, "default": False, **changes}
        return repositories.order_repository(actor=people.root, path=PurePosixPath(path), **given)

    return order_it


def test_it_is_made_noted_and_measured(order, tmp_path):
    context = claimed(order(tmp_path / "vault"))
    add_repository.run(context)
    made = Repository.objects.get()
    assert made.open().uuid == made.uuid
    assert (made.name, made.trash_days, made.is_default) == ("Vault", 30, True)
    assert made.checked_at is not None
    assert made.measurements.count() == 1
    assert fresh(context.job).subject_url == made.get_absolute_url()


def test_a_second_one_is_the_default_only_if_asked(order, repository, tmp_path):
    add_repository.run(claimed(order(tmp_path / "one", name="One")))
    assert Repository.objects.get(is_default=True) == repository
    JobLock.objects.all().delete()  # the first job has ended
    add_repository.run(claimed(order(tmp_path / "two", name="Two", default=True)))
    assert Repository.objects.get(is_default=True).name == "Two"
    assert AuditEntry.objects.filter(action="repository.default").count() == 1


def test_a_folder_with_something_in_it_is_left_alone(order, tmp_path):
    (tmp_path / "precious").write_text("keep")
    with pytest.raises(StoreError, match="not empty"):
        add_repository.run(claimed(order(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    assert not Repository.objects.exists()


def test_the_next_attempt_adopts_what_a_dead_one_made(order, tmp_path):
    folder = tmp_path / "vault"
    folder.mkdir()
    context = claimed(order(folder))
    context.remember(was_empty=True)
    store = Store.create(folder, owner="root")
    add_repository.run(context)
    assert Repository.objects.get().uuid == store.uuid
    add_repository.run(context)
    assert Repository.objects.count() == 1


def test_a_name_that_was_taken_meanwhile_makes_nothing(order, repository, tmp_path):
    context = claimed(order(tmp_path / "vault", name=repository.name))
    with pytest.raises(RepositoryKnown):
        add_repository.run(context)
    assert not (tmp_path / "vault").exists()


def test_one_that_lies_there_is_taken_up_with_its_points(order, point):
    """As after the loss of the portal's database; what is no point is named and left out."""
    folder = point.repository.path
    point.refresh_from_db()
    uuid, vm = point.uuid, point.vm
    stray = Path(folder) / "points" / str(vm.environment.uuid) / str(vm.manager_id) / "not-a-point"
    stray.mkdir()
    RestorePoint.objects.all().delete()
    Repository.objects.all().delete()
    context = claimed(order(folder, existing=True, name="Found again"))
    add_repository.run(context)
    made = Repository.objects.get()
    assert (made.name, made.trash_days) == ("Found again", 30)
    taken_up = RestorePoint.objects.get()
    assert (taken_up.uuid, taken_up.vm, taken_up.repository) == (uuid, vm, made)
    assert [disk["alias"] for disk in taken_up.excluded_disks] == ["lun"]
    job = fresh(context.job)
    assert (job.result["points"], job.result["left_out"]) == (1, 1)
    assert "not-a-point was left out" in job.warnings[0]
    assert job.subject_url == made.get_absolute_url()


def test_a_folder_without_a_repository_is_not_taken_up(order, tmp_path):
    with pytest.raises(StoreError):
        add_repository.run(claimed(order(tmp_path, existing=True)))
    assert not Repository.objects.exists()
    assert list(tmp_path.iterdir()) == []
