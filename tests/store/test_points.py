# SPDX-License-Identifier: GPL-3.0-or-later
import hashlib
import json
import os
import subprocess
import sys
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backups.store import Repository
from backups.store import points as points_module
from backups.store.errors import (
    ClaimLost,
    PointCorrupt,
    PointExists,
    PointIncomplete,
    PointNotFound,
    RepositoryBusy,
    RepositoryFull,
    RepositoryMismatch,
    RepositoryMissing,
    RepositoryUnsupported,
    StoreError,
)
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
OTHER = "99999999-2222-4333-8444-555555555555"


def by_hand(repository, index, out, *, path="/usr/bin:/bin"):
    argv = [sys.executable, "-I", str(repository.path / "restore.py"), str(index), str(out)]
    return subprocess.run(argv, capture_output=True, text=True, env={"PATH": path})


def test_a_new_repository_says_what_it_is(repository):
    told = json.loads((repository.path / "repository.json").read_text())
    assert told["uuid"] == str(repository.uuid) and told["requires"] == [] and told["encryption"] == "none"
    assert "casync extract" in (repository.path / "README.txt").read_text()
    total, free = repository.space()
    assert total >= free > 0
    assert Repository.open(repository.path, expected_uuid=repository.uuid).uuid == repository.uuid


def test_a_folder_with_anything_in_it_is_refused(tmp_path):
    (tmp_path / "precious").write_text("x")
    with pytest.raises(StoreError, match="not empty"):
        Repository.create(tmp_path, owner="tests")
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


def test_the_root_of_a_new_file_system_is_empty_enough(tmp_path):
    (tmp_path / "lost+found").mkdir()
    assert Repository.create(tmp_path, owner="tests").path == tmp_path


def test_an_unmounted_share_is_refused_and_not_filled(repository, tmp_path):
    empty = tmp_path / "mount-point"
    empty.mkdir()
    for path in (empty, tmp_path / "nowhere"):
        with pytest.raises(RepositoryMissing):
            Repository.open(path, expected_uuid=repository.uuid)
    repository.path.rename(tmp_path / "away")
    repository.path.mkdir()
    with pytest.raises(RepositoryMissing):
        repository.stage_point(ENVIRONMENT, VM, POINT)
    assert list(repository.path.iterdir()) == [] == list(empty.iterdir())


def test_another_repository_is_refused(repository, tmp_path):
    other = Repository.create(tmp_path / "other", owner="tests")
    with pytest.raises(RepositoryMismatch):
        Repository.open(repository.path, expected_uuid=other.uuid)


@pytest.mark.parametrize(
    "change",
    [
        {"requires": ["erasure-coding"]},
        {"format": 2},
        {"encryption": "aes"},
        {"uuid": "x"},
        {"requires": None},
    ],
)
def test_what_is_not_understood_is_refused(repository, change):
    path = repository.path / "repository.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(RepositoryUnsupported):
        repository.check()


@pytest.mark.parametrize(
    "name", ["../../etc", "a/b", "", "..", "points", POINT.replace("-", ""), POINT + "\n"]
)
def test_only_uuids_name_things(repository, name):
    with pytest.raises(StoreError):
        repository.point_dir(ENVIRONMENT, VM, name)
    with pytest.raises(StoreError):
        repository.stage_point(ENVIRONMENT, name, POINT)
    with pytest.raises(StoreError):
        repository.stage_point(ENVIRONMENT, VM, POINT).disk_index(name, MIB, MIB)


def test_casync_and_the_script_give_the_disk_back(repository, tmp_path):
    data = content_of(7 * MIB + 70_000, zero_from=MIB + 5, zero_to=4 * MIB)
    point = publish_point(repository, data)
    assert casync_extract(repository, point.index_path(DISK), tmp_path / "casync.raw") == data
    done = by_hand(repository, point.index_path(DISK), tmp_path / "hand.raw")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "hand.raw").read_bytes() == data


def test_the_script_tells_of_damage(repository, tmp_path):
    point = publish_point(repository, content_of(3 * MIB))
    victim = chunk_files(repository)[1]
    good = victim.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    for bad in (bytes(flipped), good[:100], None):
        victim.unlink(missing_ok=True) if bad is None else victim.write_bytes(bad)
        done = by_hand(repository, point.index_path(DISK), tmp_path / "hand.raw")
        assert done.returncode == 1 and victim.name[:64] in done.stderr
    assert by_hand(repository, repository.path / "README.txt", tmp_path / "x").returncode == 1


def test_a_point_is_visible_only_when_published(repository):
    staged = repository.stage_point(ENVIRONMENT, VM, POINT)
    store_disk(repository, staged, content_of(2 * MIB))
    staged.write_text("vm.ovf", b"<Envelope/>")
    assert list(repository.points()) == []
    with pytest.raises(PointNotFound):
        repository.open_point(ENVIRONMENT, VM, POINT)
    point = staged.publish({"name": "Müller", "format": 99}, still_owner=lambda: True)
    (ref,) = repository.points(ENVIRONMENT, VM)
    assert (ref.environment_uuid, ref.vm_id, ref.point_uuid) == (ENVIRONMENT, VM, POINT)
    assert list(repository.points(vm_id=OTHER)) == []
    opened = repository.open_ref(ref)
    assert opened.manifest == point.manifest
    assert opened.manifest["name"] == "Müller" and opened.manifest["format"] == 1
    assert opened.manifest["repository"] == str(repository.uuid)
    assert opened.read_file("vm.ovf") == b"<Envelope/>"
    assert set(opened.manifest["files"]) == {"vm.ovf", f"{DISK}.caibx"}
    with opened.index(DISK) as index:
        assert opened.manifest["indexes"][DISK] == {
            "size_bytes": 2 * MIB,
            "chunk_size_bytes": MIB,
            "digest": index.digest_hex(),
        }
    left = sorted(p.name for p in opened.folder.iterdir())
    assert left == sorted(["vm.ovf", f"{DISK}.caibx", "manifest.json", "marks.jsonl"])


def test_a_vm_without_disks_has_points_too(repository):
    staged = repository.stage_point(ENVIRONMENT, VM, POINT)
    assert staged.publish({}, still_owner=lambda: True).disk_ids == []


def test_a_published_point_is_never_changed_or_abandoned(repository):
    staged = repository.stage_point(ENVIRONMENT, VM, POINT)
    rival = repository.stage_point(ENVIRONMENT, VM, POINT)
    store_disk(repository, staged, content_of(MIB))
    point = staged.publish({"who": "first"}, still_owner=lambda: True)
    before = (point.folder / "manifest.json").read_bytes()
    with pytest.raises(PointExists):
        repository.stage_point(ENVIRONMENT, VM, POINT)
    with pytest.raises(PointExists):
        rival.publish({"who": "second"}, still_owner=lambda: True)
    for touch in (
        rival.abandon,
        lambda: rival.write_text("vm.ovf", b"of another moment"),
        lambda: rival.disk_index(DISK, MIB, MIB),
    ):
        with pytest.raises(PointExists):
            touch()
    assert (point.folder / "manifest.json").read_bytes() == before
    assert repository.open_point(ENVIRONMENT, VM, POINT).index(DISK).size_bytes == MIB


def test_gaps_are_not_published(repository):
    staged = repository.stage_point(ENVIRONMENT, VM, POINT)
    index = staged.disk_index(DISK, 2 * MIB, MIB)
    index.set(0, hashlib.sha256(b"x").digest())
    with pytest.raises(PointIncomplete):
        staged.publish({}, still_owner=lambda: True)
    staged.close()
    with pytest.raises(PointIncomplete):
        repository.stage_point(ENVIRONMENT, VM, POINT).publish({}, still_owner=lambda: True)
    assert list(repository.points()) == []


def test_a_disk_of_an_earlier_attempt_is_never_published_unasked(repository):
    staged = repository.stage_point(ENVIRONMENT, VM, POINT)
    store_disk(repository, staged, content_of(MIB), disk=OTHER, source="backup-1")
    store_disk(repository, staged, content_of(MIB), source="backup-1")
    asked = iter([True, False])
    with pytest.raises(ClaimLost):
        staged.publish({}, still_owner=lambda: next(asked))
    again = repository.stage_point(ENVIRONMENT, VM, POINT)
    store_disk(repository, again, content_of(MIB, seed=2), source="backup-2")
    with pytest.raises(PointIncomplete):
        again.publish({}, still_owner=lambda: True)
    again.drop_disk(OTHER)
    assert again.publish({}, still_owner=lambda: True).disk_ids == [DISK]


def test_a_successor_publishes_disks_that_were_finished_before_it(repository):
    staged = repository.stage_point(ENVIRONMENT, VM, POINT)
    store_disk(repository, staged, content_of(2 * MIB + 5), disk=OTHER, source="backup-1")
    staged.close()
    again = repository.stage_point(ENVIRONMENT, VM, POINT)
    store_disk(repository, again, content_of(MIB, seed=2), source="backup-1")
    point = again.publish({}, still_owner=lambda: True)
    assert sorted(point.disk_ids) == sorted([DISK, OTHER])
    assert point.index(OTHER).size_bytes == 2 * MIB + 5
    assert not list(point.folder.glob("*.source")) and not list(point.folder.glob("*.partial"))


def test_a_finished_disk_that_lost_a_chunk_is_not_published(repository):
    staged = repository.stage_point(ENVIRONMENT, VM, POINT)
    store_disk(repository, staged, content_of(2 * MIB), source="backup-1")
    staged.close()
    chunk_files(repository)[0].unlink()
    again = repository.stage_point(ENVIRONMENT, VM, POINT)
    with pytest.raises(PointIncomplete):
        again.publish({}, still_owner=lambda: True)
    assert list(repository.points()) == []


def test_a_worker_that_lost_its_claim_publishes_nothing_and_its_successor_goes_on(repository):
    data = content_of(3 * MIB)
    staged = repository.stage_point(ENVIRONMENT, VM, POINT)
    store_disk(repository, staged, data, source="backup-1")
    for answers in ([False], [True, False]):
        asked = iter(answers)
        with pytest.raises(ClaimLost):
            staged.publish({}, still_owner=lambda: next(asked))
    assert list(repository.points()) == []
    again = repository.stage_point(ENVIRONMENT, VM, POINT)
    index = again.disk_index(DISK, len(data), MIB, source="backup-1")
    assert index.complete
    assert again.publish({}, still_owner=lambda: True).disk_ids == [DISK]


def test_abandoning_removes_only_the_point(repository):
    publish_point(repository, content_of(MIB), point=OTHER)
    staged = repository.stage_point(ENVIRONMENT, VM, POINT)
    store_disk(repository, staged, content_of(2 * MIB, seed=2))
    staged.abandon()
    assert [ref.point_uuid for ref in repository.points()] == [OTHER]
    assert not staged.folder.exists() and len(chunk_files(repository)) == 3


def test_a_full_file_system_at_publishing_leaves_the_point_invisible(repository, monkeypatch):
    staged = repository.stage_point(ENVIRONMENT, VM, POINT)
    store_disk(repository, staged, content_of(MIB))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(points_module, "write_file", full)
    with pytest.raises(RepositoryFull):
        staged.publish({}, still_owner=lambda: True)
    monkeypatch.undo()
    assert list(repository.points()) == []
    again = repository.stage_point(ENVIRONMENT, VM, POINT)
    assert again.disk_index(DISK, MIB, MIB).complete
    again.publish({}, still_owner=lambda: True)
    assert len(list(repository.points())) == 1


def test_files_of_other_names_are_not_written(repository):
    staged = repository.stage_point(ENVIRONMENT, VM, POINT)
    for name in ("../vm.ovf", "manifest.json", "a/b.xml", "disk.caibx", ".hidden.txt", "marks.jsonl"):
        with pytest.raises(StoreError):
            staged.write_text(name, b"x")


def test_marks_are_appended_and_survive_a_torn_line(repository):
    point = publish_point(repository, content_of(MIB))
    point.mark("pinned", by="alice", reason="audit")
    with (point.folder / "marks.jsonl").open("ab") as file:
        file.write(b'{"kind": "torn')
    point.mark("verified", bad=[])
    marks = point.marks()
    assert [mark["kind"] for mark in marks] == ["published", "pinned", "verified"]
    assert marks[1]["by"] == "alice" and marks[1]["at"].endswith("+00:00")
    assert point.damaged_marks() == 1 and point.standing().hold_uncertain
    assert repository.open_ref(ref_of(point)).manifest == point.manifest


def test_trash_hides_a_point_and_gives_it_back(repository):
    point = publish_point(repository, content_of(MIB), point=POINT)
    trashed = repository.trash_point(ref_of(point), reason="retention: keep last 3", by="policy")
    assert trashed.trashed and list(repository.points()) == []
    assert list(repository.points(trashed=True)) == [trashed]
    with pytest.raises(PointNotFound):
        repository.trash_point(ref_of(point), reason="again", by="bob")
    assert repository.open_ref(trashed).marks()[-1]["reason"] == "retention: keep last 3"
    back = repository.undelete_point(trashed, by="alice")
    assert repository.open_ref(back).manifest == point.manifest
    assert [mark["kind"] for mark in repository.open_ref(back).marks()] == [
        "published",
        "trashed",
        "undeleted",
    ]


def test_trash_is_emptied_only_after_the_grace_period(repository):
    point = publish_point(repository, content_of(MIB), point=POINT)
    trashed = repository.trash_point(ref_of(point), reason="x", by="bob")
    assert repository.purge_trash(older_than_seconds=3600) == []
    make_old(repository.folder_of(trashed) / "marks.jsonl", 7200)
    assert repository.purge_trash(older_than_seconds=3600) == [trashed]
    with pytest.raises(PointNotFound):
        repository.undelete_point(trashed, by="bob")


def test_nothing_is_undeleted_while_garbage_is_collected(repository):
    point = publish_point(repository, content_of(MIB), point=POINT)
    trashed = repository.trash_point(ref_of(point), reason="x", by="bob")
    (repository.path / "gc.lease").write_text("{}")
    with pytest.raises(RepositoryBusy):
        repository.undelete_point(trashed, by="bob")
    make_old(repository.path / "gc.lease", 7200)
    assert not repository.undelete_point(trashed, by="bob").trashed


def manifest_with(point, changes):
    """Rewrite the manifest as an attacker with access to the share could."""
    content = json.loads((point.folder / "manifest.json").read_text())
    (point.folder / "manifest.json").write_text(json.dumps({**content, **changes}))


FILE = {"size": 11, "sha256": "0" * 64}
INDEX = {"size_bytes": MIB, "chunk_size_bytes": MIB, "digest": "0" * 64}


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {"../../../etc/passwd": FILE}},
        {"files": {"/etc/passwd": FILE}},
        {"files": {"manifest.json": FILE}},
        {"files": []},
        {"files": {"vm.ovf": {"size": -1, "sha256": "0" * 64}}},
        {"files": {"vm.ovf": {"size": True, "sha256": "0" * 64}}},
        {"files": {"vm.ovf": {"size": 11, "sha256": "zz"}}},
        {"files": {"absent.xml": FILE}},
        {"indexes": {"../x": INDEX}},
        {"indexes": {OTHER: INDEX}},
        {"indexes": {DISK: {**INDEX, "chunk_size_bytes": 1}}},
        {"indexes": None},
        {"point": OTHER},
        {"vm": OTHER},
    ],
)
def test_hostile_manifests_are_refused(repository, changes):
    point = publish_point(repository, content_of(MIB), point=POINT)
    manifest_with(point, changes)
    with pytest.raises(PointCorrupt):
        repository.open_point(ENVIRONMENT, VM, POINT)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=300) | st.just(b"[" * 100_000) | st.just(b"[]") | st.just(b'"x"'))
def test_junk_instead_of_a_manifest_is_refused(repository, raw):
    folder = repository.point_dir(ENVIRONMENT, VM, POINT)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_bytes(raw)
    with pytest.raises((PointCorrupt, RepositoryUnsupported)):
        repository.open_point(ENVIRONMENT, VM, POINT)


def test_a_newer_manifest_is_not_guessed_at(repository):
    point = publish_point(repository, content_of(MIB), point=POINT)
    manifest_with(point, {"format": 2})
    with pytest.raises(RepositoryUnsupported):
        repository.open_point(ENVIRONMENT, VM, POINT)


def test_files_that_were_changed_are_told(repository):
    point = publish_point(repository, content_of(MIB), point=POINT)
    (point.folder / "vm.ovf").write_bytes(b"<Envelope\\>")
    opened = repository.open_point(ENVIRONMENT, VM, POINT)
    with pytest.raises(PointCorrupt):
        opened.read_file("vm.ovf")
    assert opened.damaged_files() == ["vm.ovf"]
    with pytest.raises(PointCorrupt):
        opened.index(OTHER)
    (point.folder / "vm.ovf").write_bytes(b"longer than it was")
    with pytest.raises(PointCorrupt):
        repository.open_point(ENVIRONMENT, VM, POINT)
    (point.folder / "vm.ovf").unlink()
    with pytest.raises(PointCorrupt):
        repository.open_point(ENVIRONMENT, VM, POINT)


def test_other_things_among_the_points_are_passed_over(repository):
    publish_point(repository, content_of(MIB), point=POINT)
    (repository.path / "points" / "notes.txt").write_text("x")
    (repository.path / "points" / ENVIRONMENT / OTHER).write_text("a file where a folder would be")
    (repository.path / "points" / ENVIRONMENT / VM / "Restore point").mkdir()
    assert [ref.point_uuid for ref in repository.points()] == [POINT]


def test_several_points_share_chunks_and_each_is_complete(repository, tmp_path):
    data = bytearray(content_of(5 * MIB))
    first = publish_point(repository, bytes(data))
    stored = len(chunk_files(repository))
    data[3 * MIB] ^= 1
    second = publish_point(repository, bytes(data), point=str(uuid.uuid4()))
    assert len(chunk_files(repository)) == stored + 1
    for name in os.listdir(first.folder):
        (first.folder / name).unlink()
    assert casync_extract(repository, second.index_path(DISK), tmp_path / "o.raw") == bytes(data)
