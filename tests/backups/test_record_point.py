# SPDX-License-Identifier: GPL-3.0-or-later
import datetime as dt
import hashlib

import pytest

from backups import services
from backups.models import Repository, RestorePoint, RestorePointDisk
from backups.store.errors import StoreError
from portal.events.kinds import EventKind
from portal.events.models import Event
from tests.backups.support import disk_of, publish
from tests.factories import JobFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


def test_the_rows_of_a_point_say_what_its_manifest_says(repository, vm):
    job = JobFactory(vm=vm)
    stored = publish(repository, vm)
    point = services.record_point(repository, vm, stored, job)
    manifest = stored.manifest
    assert (str(point.uuid), point.vm, point.job) == (manifest["point"], vm, job)
    assert point.taken_at == dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    assert (point.mode, point.consistency, point.vm_was_up) == ("full", "crash", True)
    assert (point.size_bytes, point.bytes_read) == (4 << 20, 2 << 20)
    raw = (stored.folder / "manifest.json").read_bytes()
    assert point.manifest_sha256 == hashlib.sha256(raw).hexdigest()
    disks = list(point.disks.all())
    assert [disk.alias for disk in disks] == ["system", "data"]
    for disk in disks:
        index = manifest["indexes"][str(disk.manager_id)]
        assert (disk.digest, disk.chunk_size) == (index["digest"], index["chunk_size_bytes"])
        assert (stored.folder / disk.index_file).exists()


def test_recording_it_again_changes_nothing(repository, vm):
    stored = publish(repository, vm)
    first = services.record_point(repository, vm, stored, JobFactory(vm=vm))
    RestorePoint.objects.update(verify_problem="found meanwhile")
    again = services.record_point(repository, vm, stored, None)
    assert again.pk == first.pk
    told = Event.objects.get()
    assert (told.kind, told.vm) == (EventKind.POINT_CREATED, vm)
    assert told.data["restore_point"]["id"] == str(first.uuid)
    assert told.data["vm"]["name"] == vm.name
    assert (RestorePoint.objects.count(), RestorePointDisk.objects.count()) == (1, 2)
    assert (again.verify_problem, again.job) == ("found meanwhile", first.job)


def test_a_machine_that_was_down_and_a_mixed_backup(repository, vm):
    disks = [disk_of("a", mode="incremental", dirty_bytes=7), disk_of("b", format="raw")]
    machine = {"id": str(vm.manager_id), "name": "n" * 300, "status": "down", "cluster_id": "c1"}
    stored = publish(repository, vm, disks=disks, mode="mixed", machine=machine, dirty_bytes=7)
    point = services.record_point(repository, vm, stored, None)
    assert (point.mode, point.vm_was_up, point.dirty_bytes, len(point.vm_name)) == ("mixed", False, 7, 255)
    assert [(disk.mode, disk.dirty_bytes) for disk in point.disks.all()] == [
        ("incremental", 7),
        ("full", None),
    ]


def test_another_repository_in_its_place_is_noticed(repository, tmp_path):
    other = services.create_repository(actor=None, name="other", path=tmp_path / "other")
    assert (repository.is_default, other.is_default) == (True, False)
    Repository.objects.filter(pk=repository.pk).update(path=str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    repository.refresh_from_db()
    with pytest.raises(StoreError):
        repository.open()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    Repository.objects.filter(pk=repository.pk).update(path=other.path + "/.")
    repository.refresh_from_db()
    with pytest.raises(StoreError, match="not"):
        repository.open()
