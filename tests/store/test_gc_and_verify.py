# SPDX-License-Identifier: GPL-3.0-or-later
import os
import time
from pathlib import Path

import pytest

from backups.store import ChunkWriter, gc, verify
from backups.store.errors import IndexCorrupt, RepositoryBusy, RepositoryMissing
from backups.store.gc import collect
from backups.store.verify import points_using, verify_point, verify_repository
from tests.store.support import (
    DISK,
    ENVIRONMENT,
    MIB,
    VM,
    casync_extract,
    chunk_files,
    content_of,
    make_old,
    publish_point,
    ref_of,
    store_disk,
)

POINT = "11111111-2222-4333-8444-555555555555"
HOUR = 3600
DAYS = 5 * 24 * 3600


def age_all(repository, seconds=DAYS):
    for path in chunk_files(repository):
        make_old(path, seconds)


def delete_for_good(repository, point):
    trashed = repository.trash_point(ref_of(point), reason="test", by="test")
    make_old(repository.folder_of(trashed) / "marks.jsonl", DAYS)
    repository.purge_trash(older_than_seconds=HOUR)


def test_only_unused_old_chunks_go(repository, tmp_path):
    data = content_of(6 * MIB)
    kept = publish_point(repository, data)
    gone = publish_point(repository, data[: 3 * MIB] + content_of(2 * MIB, seed=7))
    delete_for_good(repository, gone)
    assert len(chunk_files(repository)) == 8
    assert collect(repository, older_than_seconds=HOUR).chunks_removed == 0
    age_all(repository)
    result = collect(repository, older_than_seconds=HOUR)
    assert result.chunks_removed == 2 and result.bytes_freed > 0 and result.indexes == 1
    assert casync_extract(repository, kept.index_path(DISK), tmp_path / "o.raw") == data
    assert verify_point(kept).good


def test_trash_and_unfinished_points_keep_their_chunks(repository):
    in_trash = publish_point(repository, content_of(2 * MIB, seed=1))
    trashed = repository.trash_point(ref_of(in_trash), reason="x", by="x")
    staged = repository.stage_point(ENVIRONMENT, VM, POINT)
    index = staged.disk_index(DISK, 4 * MIB, MIB)
    with ChunkWriter(repository.chunks) as writer:
        writer.add(index, 2, memoryview(content_of(MIB, seed=2)))
    age_all(repository)
    result = collect(repository, older_than_seconds=HOUR)
    assert result.chunks_removed == 0 and len(chunk_files(repository)) == 3
    repository.undelete_point(trashed, by="x")
    assert verify_point(repository.open_ref(ref_of(in_trash))).good


def test_the_base_of_a_running_job_can_be_protected(repository, tmp_path):
    point = publish_point(repository, content_of(2 * MIB))
    base = tmp_path / "base.caibx"
    base.write_bytes(point.index_path(DISK).read_bytes())
    delete_for_good(repository, point)
    age_all(repository)
    assert collect(repository, older_than_seconds=HOUR, protected_index_paths=[base]).chunks_removed == 0
    assert collect(repository, older_than_seconds=HOUR).chunks_removed == 2


def test_a_chunk_used_again_between_the_two_looks_stays(repository, monkeypatch):
    """A backup stamps the chunk after the collection has decided that it is old, and before it is moved."""
    index = repository.stage_point(ENVIRONMENT, VM, POINT).disk_index(DISK, MIB, MIB)
    data = memoryview(content_of(MIB))
    with ChunkWriter(repository.chunks) as writer:
        writer.add(index, 0, data)
    chunk_id = index.get(0)
    index.clear(0)
    age_all(repository)
    real = Path.rename
    met = []

    def rename(self, target):
        if self.suffix == ".cacnk" and target.parent.name.startswith("gc-"):
            met.append(repository.chunks.reuse(chunk_id, now=time.time()))
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    assert collect(repository, older_than_seconds=HOUR).chunks_removed == 0
    assert met == [True] and repository.chunks.read(chunk_id, MIB) == bytes(data)


def test_a_chunk_taken_away_is_simply_stored_again(repository):
    data = memoryview(content_of(MIB))
    first = publish_point(repository, bytes(data))
    delete_for_good(repository, first)
    age_all(repository)
    staged = repository.stage_point(ENVIRONMENT, VM, POINT)
    index = staged.disk_index(DISK, MIB, MIB)
    with ChunkWriter(repository.chunks) as writer:
        assert collect(repository, older_than_seconds=HOUR).chunks_removed == 1
        writer.add(index, 0, data)
    assert writer.chunks_new == 1 and repository.chunks.read(index.get(0), MIB) == data


def test_a_backup_that_runs_along_loses_nothing(repository, tmp_path):
    """Old unused chunks, a collection and a backup that uses half of them, in every order of steps."""
    data = content_of(16 * MIB)
    delete_for_good(repository, publish_point(repository, data))
    age_all(repository)
    staged = repository.stage_point(ENVIRONMENT, VM, POINT)
    index = staged.disk_index(DISK, len(data), MIB)
    with ChunkWriter(repository.chunks) as writer:
        for number in range(16):
            writer.add(index, number, memoryview(data)[number * MIB : (number + 1) * MIB])
            if number % 4 == 0:
                collect(repository, older_than_seconds=HOUR)
    point = staged.publish({}, still_owner=lambda: True)
    collect(repository, older_than_seconds=HOUR)
    assert casync_extract(repository, point.index_path(DISK), tmp_path / "o.raw") == data


def test_a_damaged_index_stops_the_collection_before_anything_is_removed(repository):
    point = publish_point(repository, content_of(2 * MIB))
    delete_for_good(repository, publish_point(repository, content_of(MIB, seed=5)))
    age_all(repository)
    path = point.index_path(DISK)
    raw = bytearray(path.read_bytes())
    raw[10] ^= 255
    path.write_bytes(raw)
    before = chunk_files(repository)
    with pytest.raises(IndexCorrupt):
        collect(repository, older_than_seconds=HOUR)
    assert chunk_files(repository) == before
    assert not (repository.path / "gc.lease").exists()


def test_an_unmounted_repository_is_not_swept(repository, monkeypatch):
    publish_point(repository, content_of(MIB))
    age_all(repository)
    real = gc.needed_ids

    def mark(*args, **kwargs):
        (repository.path / "repository.json").rename(repository.path / "hidden")
        return real(*args, **kwargs)

    monkeypatch.setattr(gc, "needed_ids", mark)
    with pytest.raises(RepositoryMissing):
        collect(repository, older_than_seconds=HOUR)
    assert len(chunk_files(repository)) == 1


def test_a_point_that_moves_while_we_look_is_not_missed(repository, monkeypatch):
    point = publish_point(repository, content_of(MIB))
    trashed = repository.trash_point(ref_of(point), reason="x", by="x")
    age_all(repository)
    real = type(repository).all_point_folders

    def folders(self, *, trashed=False):
        refs = list(real(self, trashed=trashed))
        if trashed and refs:
            # It leaves the trash after it was listed and before it is read.
            home = self.folder_of(refs[0])
            home.rename(self.point_dir(ENVIRONMENT, VM, refs[0].point_uuid))
        return iter(refs)

    monkeypatch.setattr(type(repository), "all_point_folders", folders)
    assert trashed.trashed
    result = collect(repository, older_than_seconds=HOUR)
    assert result.chunks_removed == 0 and len(chunk_files(repository)) == 1


def test_many_passes_give_the_same_answer(repository):
    data = content_of(8 * MIB)
    kept = publish_point(repository, data)
    delete_for_good(repository, publish_point(repository, content_of(5 * MIB, seed=8)))
    age_all(repository)
    result = collect(repository, older_than_seconds=HOUR, ids_in_memory=2)
    assert (result.chunks_removed, result.chunks_used) == (5, 8)
    assert verify_point(kept).good


def test_two_collections_do_not_run_at_once_and_a_dead_one_does_not_block_for_ever(repository):
    lease = repository.path / "gc.lease"
    lease.write_text('{"token": "somebody"}')
    with pytest.raises(RepositoryBusy):
        collect(repository, older_than_seconds=HOUR)
    assert lease.exists()
    make_old(lease, 2 * HOUR)
    collect(repository, older_than_seconds=HOUR)
    assert not lease.exists()


def test_an_age_below_the_repositorys_own_is_refused(repository):
    with pytest.raises(ValueError, match="younger"):
        collect(repository, older_than_seconds=HOUR - 1)


def test_what_a_killed_collection_moved_away_comes_back(repository):
    point = publish_point(repository, content_of(2 * MIB))
    aside = repository.path / "tmp" / "gc-0123"
    aside.mkdir()
    victim = chunk_files(repository)[0]
    victim.rename(aside / victim.name)
    assert not verify_point(point).good
    collect(repository, older_than_seconds=HOUR)
    assert verify_point(point).good and not aside.exists()


def test_temporary_files_of_a_dead_writer_go_when_they_are_old(repository):
    dead = repository.path / "tmp" / "dead"
    young = repository.path / "tmp" / "young"
    for folder in (dead, young):
        folder.mkdir()
        (folder / "chunk").write_bytes(b"x")
    make_old(dead, DAYS)
    collect(repository, older_than_seconds=HOUR)
    assert not dead.exists() and young.exists()


def test_verify_names_bad_chunks_and_the_next_backup_heals_them(repository):
    data = content_of(6 * MIB)
    point = publish_point(repository, data, point=POINT)
    other = publish_point(repository, data[: 2 * MIB])
    told: list[int] = []
    assert verify_point(point, told.append).good and sum(told) == 6 * MIB
    with point.index(DISK) as index:
        rotten, lost = index.chunk_id(1), index.chunk_id(4)
    raw = bytearray(repository.chunks.path(rotten).read_bytes())
    raw[-9] ^= 16
    repository.chunks.path(rotten).write_bytes(raw)
    repository.chunks.path(lost).unlink()
    result = verify_point(point)
    assert result.bad == sorted([rotten.hex(), lost.hex()]) and not result.good
    assert result.chunks == 6 and result.bytes == 4 * MIB
    assert [p.name[:64] for p in (repository.path / "quarantine").iterdir()] == [rotten.hex()]
    whole = verify_repository(repository)
    assert whole.bad == result.bad and whole.broken_points == {}
    assert {r.point_uuid for r in whole.hurt[rotten.hex()]} == {POINT, other.folder.name}
    assert [r.point_uuid for r in whole.hurt[lost.hex()]] == [POINT]
    assert set(points_using(repository, {lost})) == {lost.hex()}
    publish_point(repository, data)
    assert verify_point(point).good and verify_repository(repository).bad == []


def test_verify_tells_of_changed_files_and_of_points_that_cannot_be_read(repository):
    point = publish_point(repository, content_of(MIB), point=POINT)
    (point.folder / "vm.ovf").write_bytes(b"<envelope/>")
    assert verify_point(point).damaged_files == ["vm.ovf"]
    os.truncate(point.index_path(DISK), 50)
    result = verify_repository(repository)
    assert [ref.point_uuid for ref in result.broken_points] == [POINT]


def test_verify_can_be_stopped(repository):
    point = publish_point(repository, content_of(20 * MIB))

    class Stop(Exception):
        pass

    def stop(_):
        raise Stop

    with pytest.raises(Stop):
        verify_point(point, stop)
    assert verify.THREADS >= 1 and verify_point(point).good


def test_a_job_going_on_keeps_what_it_had_from_collection(repository):
    data = content_of(4 * MIB)
    staged = repository.stage_point(ENVIRONMENT, VM, POINT)
    store_disk(repository, staged, data[: 4 * MIB], source="b")
    staged.close()
    age_all(repository)
    collect(repository, older_than_seconds=HOUR)
    again = repository.stage_point(ENVIRONMENT, VM, POINT)
    assert again.disk_index(DISK, len(data), MIB, source="b").complete
