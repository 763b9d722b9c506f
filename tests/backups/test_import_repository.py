# SPDX-License-Identifier: GPL-3.0-or-later
import json
import shutil
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command

from backups import services
from backups.errors import ImportRefused
from backups.importing import import_repository
from backups.models import Repository, RestorePoint, RestorePointDisk
from backups.presenters import time_left
from backups.store.marks import MarksFile
from backups.store.repository import Repository as Store
from portal.audit.models import AuditEntry
from portal.environments.models import Environment, VirtualMachine
from restores.plans import plan_new_vm
from tests.backups.support import disk_of, publish
from tests.factories import EnvironmentFactory, PointFactory, VmFactory
from tests.store.support import ref_of

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A repository of one machine with a plain, a pinned, a held, a verified and a deleted point; nobody has rows of it."""
    store = Store.create(tmp_path_factory.mktemp("template") / "repository", owner="the old portal")
    vm = SimpleNamespace(
        manager_id=uuid.uuid4(), name="web-01", environment=SimpleNamespace(uuid=uuid.uuid4(), name="Old")
    )
    repository = SimpleNamespace(open=lambda: store)
    points = {
        why: publish(repository, vm, reason=why) for why in ("plain", "pin", "hold", "verify", "delete")
    }
    points["pin"].mark("pinned", by="alice", reason="before the upgrade")
    points["hold"].mark("held", by="alice", reason="case 4711")
    points["verify"].mark("verified", by="alice")
    store.trash_point(ref_of(points["delete"]), reason="too old", by="alice")
    return store.path


@pytest.fixture
def path(template, tmp_path):
    return Path(shutil.copytree(template, tmp_path / "repository"))


def by_reason(reason):
    return RestorePoint.objects.get(reason=reason)


def point_folders(path):
    return sorted(path.glob("points/*/*/*"))


def change(folder, **values):
    """A manifest of a stranger: changed, and promised by its marks."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.update(values)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return manifest


def test_everything_comes_back_from_files_alone(path, people):
    report = import_repository(path=path, name="From the old portal")
    assert (report.points, report.made, report.in_trash, report.held, report.pinned) == (5, 5, 1, 1, 1)
    assert report.left_out == {} and report.damaged == 0
    repository = Repository.objects.get()
    assert (repository.name, repository.path, repository.is_default) == (
        "From the old portal",
        str(path),
        True,
    )
    vm = VirtualMachine.objects.get()
    assert (vm.name, vm.status, vm.environment.api_url) == ("web-01", "gone", "")
    assert {vm.environment.name} == report.placeholders
    pinned, held, deleted = by_reason("pin"), by_reason("hold"), by_reason("delete")
    assert (pinned.pinned_by, pinned.pinned_why) == ("alice", "before the upgrade")
    assert (held.held_by, held.held_why) == ("alice", "case 4711")
    assert (deleted.deleted_by, deleted.deleted_why, deleted.purged_at) == ("alice", "too old", None)
    assert by_reason("verify").verified_at is not None
    assert RestorePointDisk.objects.count() == 10
    assert repository.measurements.count() == 1
    assert AuditEntry.objects.get(action="repository.import").data["points"] == 5
    for point in RestorePoint.objects.all():
        assert point.open().manifest["point"] == str(point.uuid)
    services.undelete_point(actor=people.root, point=deleted)
    assert deleted.deleted_at is None


def test_a_second_import_changes_nothing(path):
    import_repository(path=path)

    def rows():
        return [
            list(model.objects.order_by("pk").values())
            for model in (RestorePoint, RestorePointDisk, VirtualMachine, Environment)
        ]

    before = rows()
    report = import_repository(path=path)
    assert (report.points, report.made, report.placeholders) == (5, 0, set())
    assert rows() == before and Repository.objects.count() == 1


def test_what_happened_to_the_files_meanwhile_is_taken_over(path, people):
    import_repository(path=path)
    point = by_reason("pin")
    store = Store.open(path, expected_uuid=None)
    store.mark_point(point.ref, "unpinned", by="another portal")
    store.trash_point(point.ref, reason="there", by="another portal")
    store.undelete_point(by_reason("delete").ref, by="another portal")
    import_repository(path=path)
    point.refresh_from_db()
    assert (point.pinned_at, point.deleted_why, point.deleted_by) == (None, "there", "another portal")
    assert by_reason("delete").deleted_at is None


@pytest.mark.parametrize("whole_file", [True, False])
def test_a_hold_whose_marks_were_lost_since_is_not_forgotten_by_another_import(path, whole_file):
    import_repository(path=path)
    point = by_reason("hold")
    marks = Store.open(path, expected_uuid=None).folder_of(point.ref) / "marks.jsonl"
    if whole_file:
        marks.unlink()
    else:
        marks.write_bytes(marks.read_bytes().replace(b"4711", b"4712"))
    import_repository(path=path)
    point.refresh_from_db()
    assert (point.held_by, point.held_why) == ("alice", "case 4711") and point.held_at is not None


def test_a_restore_can_be_planned_when_the_manager_is_there_again(path):
    """Added anew the Manager has another uuid here; the points are attached to it by a second import."""
    import_repository(path=path)
    old = Environment.objects.get().uuid
    manager = EnvironmentFactory(name="The Manager")
    known = VmFactory(environment=manager, manager_id=VirtualMachine.objects.get().manager_id, name="web-01")
    report = import_repository(path=path, environments={str(old): manager})
    assert report.environments == {"The Manager"} and report.made == 0
    point = by_reason("verify")
    assert point.vm == known and point.stored_environment == old
    plan = plan_new_vm(point, name="web-01-again")
    assert plan.blockers == ()
    assert [disk.alias for disk in plan.disks] == ["system", "data"]
    assert plan.environment == str(manager.uuid)


def test_a_placeholder_becomes_the_manager_when_its_address_is_known(path):
    import_repository(path=path)
    Environment.objects.update(
        clusters=EnvironmentFactory.clusters, storage_domains=EnvironmentFactory.storage_domains, problem=""
    )
    assert plan_new_vm(by_reason("verify"), name="web-01-again").blockers == ()


@pytest.mark.parametrize(
    "values",
    [
        {"taken_at": "yesterday"},
        {"taken_at": "2026-01-02T03:04:05"},
        {"taken_at": 5},
        {"taken_at": "9999-12-31T23:59:59+00:00"},
        {"mode": "sideways"},
        {"method": "x" * 31},
        {"reason": {"a": 1}},
        {"reason": "\0"},
        {"reason": "\ud800"},
        {"machine": None},
        {"machine": {"name": ["x"], "status": "up"}},
        {"machine": {"name": "a\0b", "status": "up"}},
        {"consistency": {"level": "x" * 21}},
        {"bytes_read": -1},
        {"bytes_stored": 1 << 70},
        {"dirty_bytes": True},
        {"duration_seconds": float("nan")},
        {"duration_seconds": "1"},
        {"checkpoint_id": "../../etc"},
        {"from_checkpoint_id": 7},
        {"disks": {}},
        {"disks": []},
        {"disks": ["x"]},
        {"disks": [disk_of("a", size_bytes=10**30)]},
        {"disks": [disk_of("../../etc/passwd")]},
        {"repository": str(uuid.uuid4())},
        {"point": str(uuid.uuid4())},
        {"environment": "../.."},
        {"indexes": {"../../etc": {"size_bytes": 1, "chunk_size_bytes": 1 << 20, "digest": "0" * 64}}},
        {"files": {"../vm.ovf": {"size": 1, "sha256": "0" * 64}}},
        {"format": 2},
    ],
    # Not the values: some are made anew in each test process, and all must call the tests alike.
    ids=lambda values: "-".join(values),
)
def test_a_hostile_manifest_is_left_out_and_the_others_come_in(path, values):
    victim = point_folders(path)[0]
    change(victim, **values)
    report = import_repository(path=path)
    assert list(report.left_out) == [str(victim.relative_to(path))]
    assert report.points == 4 and RestorePoint.objects.count() == 4
    assert VirtualMachine.objects.count() == 1


def test_names_that_only_look_hostile_come_in_as_they_are(path, capsys):
    name = "</td><script>\u202e\x1b[31m" + "n" * 300
    for folder in point_folders(path):
        change(folder, machine={"name": name, "status": "up"}, environment_name="\x1b]0;owned\x07")
    call_command("import_repository", str(path))
    assert VirtualMachine.objects.get().name == name[:255]
    assert Environment.objects.get().name == "Unknown Manager"
    out = capsys.readouterr().out
    assert "\x1b" not in out and "4 damaged" in out


def test_links_garbage_and_unfinished_points_are_named(path, tmp_path, capsys):
    first, second, third, _ = point_folders(path)
    secret = tmp_path / "secret"
    secret.write_text("root:x:0:0")
    (first / "vm.ovf").unlink()
    (first / "vm.ovf").symlink_to(secret)
    shutil.move(second, tmp_path / second.name)
    second.symlink_to(tmp_path / second.name)
    (third / "manifest.json").write_bytes(b" " * ((16 << 20) + 1))
    (path / "points" / "..hidden").mkdir()
    begun = first.parent / str(uuid.uuid4())
    begun.mkdir()
    (path / "points" / str(uuid.uuid4())).write_text("a file")
    report = import_repository(path=path)
    assert report.points == 2
    assert len(report.left_out) == 6
    assert report.left_out["points/..hidden"].startswith("Nothing in a repository")
    assert report.left_out[str(begun.relative_to(path))] == "It was never finished."
    assert "link" in report.left_out[str(second.relative_to(path))]
    call_command("import_repository", str(path))
    assert capsys.readouterr().out.count("Left out: ") == 6


def test_damage_that_was_known_or_shows_at_once_stands_on_the_point(path):
    store = Store.open(path, expected_uuid=None)
    first, second, *_ = store.points()
    store.mark_point(first, "damaged", by="bob", problem="3 chunks: damaged or missing.")
    text = (store.folder_of(second) / "manifest.json").read_text()
    (store.folder_of(second) / "manifest.json").write_text(text.replace('"up"', '"UP"'))
    assert import_repository(path=path).damaged == 2
    assert RestorePoint.objects.get(uuid=first.point_uuid).verify_problem.startswith("3 chunks")
    assert "changed after" in RestorePoint.objects.get(uuid=second.point_uuid).verify_problem


def test_marks_of_impossible_times_break_no_page(path):
    store = Store.open(path, expected_uuid=None)
    (ref,) = store.points(trashed=True)
    with MarksFile(store.folder_of(ref)) as marks:
        marks.append("trashed", at="9999-12-31T00:00:00+00:00", by="alice", reason="too old")
    import_repository(path=path)
    point = by_reason("delete")
    assert time_left(point, 3650).startswith("For ")
    assert point.deleted_at.year < 9999


def test_a_copy_beside_the_original_is_refused_and_a_moved_one_is_found(path, tmp_path):
    import_repository(path=path)
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    with pytest.raises(ImportRefused, match="a copy of it"):
        import_repository(path=copy)
    shutil.rmtree(path)
    assert import_repository(path=copy).made == 0
    assert Repository.objects.get().path == str(copy)


def test_a_point_known_elsewhere_is_left_out(path, vm_of_another_repository):
    stolen = vm_of_another_repository
    report = import_repository(path=path)
    assert report.points == 4
    assert "is known in repository" in report.left_out[stolen]


@pytest.fixture
def vm_of_another_repository(path):
    folder = point_folders(path)[0]
    PointFactory(uuid=folder.name)
    return str(folder.relative_to(path))


def test_the_command_names_what_it_does_not_know(path, tmp_path):
    with pytest.raises(CommandError, match="There is no repository"):
        call_command("import_repository", str(tmp_path))
    with pytest.raises(CommandError, match="no Manager called"):
        call_command("import_repository", str(path), "--environment", f"{uuid.uuid4()}=nobody")
    EnvironmentFactory(name="A")
    with pytest.raises(CommandError, match="not the uuid"):
        call_command("import_repository", str(path), "--environment", "x=A")
    assert not RestorePoint.objects.exists()
