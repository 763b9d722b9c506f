# SPDX-License-Identifier: GPL-3.0-or-later
"""What the next backup of a machine will be, told from the portal's own rows."""

import datetime as dt

import pytest
from django.utils import timezone

from backups.bases import next_backup
from backups.models import RestorePoint
from portal.environments.models import Disk
from tests.factories import DiskFactory, PointDiskFactory, PointFactory, RepositoryFactory, VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


@pytest.fixture
def repository():
    return RepositoryFactory(is_default=True)


@pytest.fixture
def vm():
    return VmFactory(name="web-01")


def point_of(repository, vm, *disks: Disk, hours_ago: int = 2, **changes) -> RestorePoint:
    """A point that holds these disks as they are now."""
    taken_at = timezone.now() - dt.timedelta(hours=hours_ago)
    point = PointFactory(repository=repository, vm=vm, taken_at=taken_at, **changes)
    for disk in disks:
        PointDiskFactory(
            point=point, manager_id=disk.manager_id, size_bytes=disk.size_bytes, format=disk.format
        )
    return point


def test_the_first_backup_is_full(repository, vm):
    disk = DiskFactory(vm=vm)
    following = next_backup(vm)
    assert (following.mode, following.base, following.problem) == ("full", None, "")
    assert "first backup" in following.reason
    (told,) = following.disks
    assert (told.alias, told.manager_id, told.mode) == (disk.alias, str(disk.manager_id), "full")
    assert told.reason == following.reason


def test_after_it_incremental_since_the_newest_point(repository, vm):
    disk = DiskFactory(vm=vm)
    point_of(repository, vm, disk, hours_ago=30)
    newest = point_of(repository, vm, disk)
    following = next_backup(vm)
    assert (following.mode, following.base) == ("incremental", newest)
    assert following.reason.startswith("Incremental since the restore point of")
    assert [told.reason for told in following.disks] == [following.reason]


@pytest.mark.parametrize("reason", ["raw", "resized", "new", "was raw"])
def test_one_disk_may_be_full_beside_an_incremental_one(repository, vm, reason):
    first = DiskFactory(vm=vm, alias="a")
    other = DiskFactory(
        vm=vm, alias="b", bootable=False, format="raw" if reason in ("raw", "was raw") else "cow"
    )
    point_of(repository, vm, *([first] if reason == "new" else [first, other]))
    if reason == "resized":
        Disk.objects.filter(pk=other.pk).update(size_bytes=other.size_bytes * 2)
    if reason == "was raw":
        Disk.objects.filter(pk=other.pk).update(format="cow")
    following = next_backup(vm)
    assert following.mode == "mixed"
    assert [(told.alias, told.mode) for told in following.disks] == [("a", "incremental"), ("b", "full")]
    words = {"raw": "raw disks", "resized": "its size has changed"}.get(reason, "not in that checkpoint")
    assert words in following.disks[1].reason


def test_full_if_none_of_its_disks_is_in_the_checkpoint(repository, vm):
    point_of(repository, vm, DiskFactory())
    DiskFactory(vm=vm)
    following = next_backup(vm)
    assert following.mode == "full"
    assert following.reason.startswith("Full, because nothing of it can start from the checkpoint of ")


def test_a_disk_that_is_left_out_does_not_count(repository, vm):
    disk = DiskFactory(vm=vm, alias="a")
    DiskFactory(vm=vm, alias="b", bootable=False, storage_type="lun")
    point_of(repository, vm, disk)
    following = next_backup(vm)
    assert following.mode == "incremental"
    assert following.disks[1].mode == "excluded"
    assert following.disks[1].reason.startswith("Left out, because")


def test_deleted_points_and_other_repositories_are_no_base(repository, vm):
    disk = DiskFactory(vm=vm)
    point_of(repository, vm, disk, deleted_at=timezone.now())
    elsewhere = RepositoryFactory()
    point = point_of(elsewhere, vm, disk)
    assert next_backup(vm).mode == "full"
    assert next_backup(vm, elsewhere).base == point
    assert next_backup(vm, elsewhere, full=True).reason == "Full, because it was asked for."


@pytest.mark.parametrize(
    ("status", "compatibility", "problem"),
    [("down", "4.4", "only backs up running machines"), ("up", "4.4", ""), ("down", "4.5", "")],
)
def test_a_stopped_machine_at_level_four_four_cannot_be_backed_up(repository, status, compatibility, problem):
    vm = VmFactory(status=status, compatibility=compatibility)
    DiskFactory(vm=vm)
    following = next_backup(vm)
    assert bool(following.problem) == bool(problem)
    assert problem in following.problem
    assert following.mode == "full"


def test_what_stands_in_the_way_is_told(db, vm):
    DiskFactory(vm=vm)
    assert "no repository" in next_backup(vm).problem
    RepositoryFactory(is_default=True)
    assert "No disk" in next_backup(VmFactory()).problem
    assert "no longer lists" in next_backup(VmFactory(gone_at=timezone.now())).problem


def test_it_takes_few_queries_however_many_points_there_are(repository, vm, django_assert_max_num_queries):
    disks = [DiskFactory(vm=vm, bootable=False) for _ in range(4)]
    for hours in range(1, 8):
        point_of(repository, vm, *disks, hours_ago=hours)
    with django_assert_max_num_queries(4):
        next_backup(vm)
