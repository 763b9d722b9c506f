# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong with repositories: full, away, cut short, deleted under a running job."""

import errno
import os
import shutil
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from backups import services, upkeep
from backups.methods import collect, disks, verify, verify_repository
from backups.models import RestorePoint
from backups.store import points as store_points
from backups.store.errors import IndexCorrupt, RepositoryFull, RepositoryMissing
from portal.jobs import runner
from portal.jobs.models import Job
from portal.jobs.states import JobState
from portal.ovirt.vm_backup import BackupDisk
from tests.backups.support import publish
from tests.store.support import chunk_files

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def away(repository, tmp_path):
    """The repository's share is not mounted: its folder is empty."""
    path = repository.open().path
    path.rename(tmp_path / "share")
    path.mkdir()
    yield path
    assert list(path.iterdir()) == [], "an empty mount point is never filled"


def test_a_repository_that_is_full_when_a_point_is_published_has_no_half_point(repository, vm, monkeypatch):
    monkeypatch.setattr(store_points, "write_file", full)
    with pytest.raises(RepositoryFull):
        publish(repository, vm)
    assert list(repository.open().points()) == []
    monkeypatch.undo()
    publish(repository, vm)
    assert len(list(repository.open().points())) == 1


def test_a_hold_that_cannot_be_written_is_not_on_the_row_either(people, point, monkeypatch):
    monkeypatch.setattr("backups.store.lines.write_all", full)
    with pytest.raises(RepositoryFull):
        services.hold_point(actor=people.alice, point=point, reason="case 4711")
    point.refresh_from_db()
    assert point.held_at is None
    monkeypatch.undo()
    services.hold_point(actor=people.alice, point=point, reason="case 4711")
    assert point.held_at is not None


@pytest.mark.parametrize(
    ("order", "procedure"),
    [(services.start_collection, collect.run), (services.verify_repository, verify_repository.run)],
)
def test_a_repository_that_is_away_is_tried_again_and_then_told(
    people, point, repository, away, settings, order, procedure
):
    job = order(actor=people.root, repository=repository)
    for _ in range(settings.JOB_MAX_ATTEMPTS):
        runner.execute(job.pk, procedure)
        Job.objects.filter(pk=job.pk).update(rung_at=None)
    job.refresh_from_db()
    repository.refresh_from_db()
    assert (job.state, job.error_code, job.attempts_made) == (
        JobState.FAILED,
        "repository_missing",
        settings.JOB_MAX_ATTEMPTS,
    )
    assert "mounted" in job.error_hint
    point.refresh_from_db()
    assert point.verify_problem == "" and point.purged_at is None


def test_nothing_is_said_of_points_of_a_repository_that_is_away(people, point, repository, away):
    for verb in (services.pin_point, services.hold_point, services.delete_restore_point):
        with pytest.raises(RepositoryMissing):
            verb(actor=people.alice, point=point, reason="x")
    assert upkeep.measure(repository) is None
    point.refresh_from_db()
    assert (point.pinned_at, point.held_at, point.deleted_at) == (None, None, None)


def test_an_index_cut_short_while_it_is_read_is_an_error_and_nothing_worse(point):
    stored = point.open()
    disk_id = stored.disk_ids[0]
    with stored.index(disk_id) as index:
        os.truncate(stored.index_path(disk_id), 104)
        with pytest.raises(IndexCorrupt, match="cut short"):
            list(index)
        with pytest.raises(IndexCorrupt, match="cut short"):
            index.chunk_id(1)


def test_a_point_with_an_index_cut_short_is_named_by_verify_and_stops_collection(people, point, repository):
    os.truncate(next(repository.open().path.glob("points/*/*/*/*.caibx")), 104)
    job = services.verify_restore_point(actor=people.bob, point=point)
    runner.execute(job.pk, verify.run)
    job.refresh_from_db()
    assert job.state == JobState.FAILED and ".caibx" in job.error_message
    job = services.start_collection(actor=people.root, repository=repository)
    runner.execute(job.pk, collect.run)
    job.refresh_from_db()
    assert job.state == JobState.FAILED and len(chunk_files(repository.open())) == 4


# --- the base of an incremental -----------------------------------------------------------------------------


class Backup(SimpleNamespace):
    """As much of a running backup as choosing its base's index needs."""

    @classmethod
    def continuing(cls, point):
        warnings: list[str] = []
        memory = {"base_point": str(point.uuid), "reason": "Incremental since then."}
        context = SimpleNamespace(memory=memory, warn=warnings.append)
        return cls(
            context=context, store=point.repository.open(), vm=point.vm, vm_id=str(point.vm.manager_id)
        )


def base_index(backup, point, base):
    row = point.disks.first()
    disk = BackupDisk(str(row.manager_id), "incremental", "cow", row.size_bytes)
    with ExitStack() as stack:
        index, reason = disks._base_index(backup, disk, base, stack)
        return (None if index is None else index.digest_hex()), reason


def test_a_base_that_goes_to_the_trash_is_gone_on_with(point):
    backup = Backup.continuing(point)
    opened = disks._open_base(backup)
    backup.store.trash_point(point.ref, reason="by another portal", by="somebody")
    expected = (point.disks.first().digest, "Incremental since then.")
    assert base_index(backup, point, opened) == expected
    assert base_index(backup, point, disks._open_base(backup)) == expected


def test_a_base_that_is_gone_for_good_means_reading_in_full(point):
    backup = Backup.continuing(point)
    shutil.rmtree(backup.store.folder_of(point.ref))
    index, reason = base_index(backup, point, disks._open_base(backup))
    assert index is None and "could not be opened" in reason


def test_a_base_whose_ids_were_exchanged_is_not_copied_from(point):
    """Two chunks in each other's place: the file is well formed, and both chunks are there."""
    path = point.open().index_path(str(point.disks.first().manager_id))
    raw = bytearray(path.read_bytes())
    raw[72:104], raw[112:144] = raw[112:144], raw[72:104]
    path.write_bytes(raw)
    backup = Backup.continuing(point)
    index, reason = base_index(backup, point, disks._open_base(backup))
    assert index is None and "could not be read" in reason


def test_a_purge_leaves_the_base_of_a_running_job(people, point, repository):
    services.delete_restore_point(actor=people.alice, point=point, reason="old")
    point.refresh_from_db()
    store = repository.open()
    os.utime(store.folder_of(point.ref) / "marks.jsonl", (0, 0))
    Job.objects.create(kind="vm_backup", vm=point.vm, resume_state={"base_point": str(point.uuid)})
    job = services.start_collection(actor=people.root, repository=repository)
    runner.execute(job.pk, collect.run)
    assert store.has_point(point.ref)
    assert RestorePoint.objects.get().purged_at is None
