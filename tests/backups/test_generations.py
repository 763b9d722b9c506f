# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between generations of the Manager: level 4.4, hybrid backups, backups without snapshots."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from backups.errors import NothingToBackUp
from backups.methods import incremental, starting
from backups.methods.incremental import VmBackup
from backups.methods.leftovers import Leftovers, description
from portal.environments.models import Environment
from portal.errors import PortalError
from portal.ovirt import vm_backup
from portal.ovirt.snapshots import SnapshotNotRemoved
from portal.ovirt.vm_backup import BackupFailed, BackupImpossible, CheckpointUnusable
from tests.factories import DiskFactory, JobFactory, RepositoryFactory, VmFactory
from tests.portal.support import claimed, fresh

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


def backup_of(vm, *, memory=None, **params) -> VmBackup:
    context = claimed(JobFactory(vm=vm, params=params))
    context.remember(**(memory or {}))
    return VmBackup(context, vm, RepositoryFactory(), None, None)


def described(status: str, compatibility: str, *, disks: int = 1):
    """As much of a machine's description as a refusal looks at."""
    disk = SimpleNamespace(disk_id="d", storage_type="image", shareable=False, active=True)
    facts = SimpleNamespace(status=status, compatibility=compatibility, disks=(disk,) * disks)
    return SimpleNamespace(facts=facts)


@pytest.mark.parametrize(
    ("status", "compatibility", "refused"),
    [("down", "4.4", True), ("up", "4.4", False), ("down", "4.5", False), ("down", "", False)],
)
def test_level_four_four_only_backs_up_running_machines(status, compatibility, refused):
    backup = backup_of(VmFactory())
    if not refused:
        starting._refuse_impossible(backup, described(status, compatibility))
        return
    with pytest.raises(BackupImpossible, match="the Manager only backs up running machines") as caught:
        starting._refuse_impossible(backup, described(status, compatibility))
    assert "Start the machine" in caught.value.hint
    assert not caught.value.retryable


@pytest.mark.parametrize(("known", "words"), [(2, "2 disks on it before"), (0, "Direct LUN")])
def test_a_machine_without_disks_is_not_backed_up(known, words):
    vm = VmFactory()
    for _ in range(known):
        DiskFactory(vm=vm, bootable=False)
    with pytest.raises(NothingToBackUp) as caught:
        starting._refuse_impossible(backup_of(vm), described("up", "4.6", disks=0))
    assert words in caught.value.hint


@pytest.mark.parametrize(
    ("of_manager", "of_job", "wanted"),
    [
        (False, {}, False),
        (True, {}, True),
        (True, {"legacy": False}, False),
        (False, {"legacy": True}, True),
    ],
)
def test_the_flow_without_a_snapshot_is_chosen_by_manager_or_job(of_manager, of_job, wanted):
    vm = VmFactory()
    Environment.objects.filter(pk=vm.environment.pk).update(legacy_backups=of_manager)
    vm.environment.refresh_from_db()
    assert backup_of(vm, **of_job).without_snapshot is wanted


@pytest.mark.parametrize(
    ("memory", "live", "title"),
    [
        ({"flow": "live"}, True, "Ending the backup on the Manager"),
        ({"flow": "cold"}, False, "Ending the backup on the Manager"),
        ({"flow": "hybrid", "snapshot_id": "s"}, False, "Merging the automatic snapshot"),
    ],
)
def test_each_flow_is_told_apart(memory, live, title):
    backup = backup_of(VmFactory(), memory=memory)
    assert (backup.is_live, backup.title_of_the_end) == (live, title)


class Left:
    """The Manager's automatic snapshot, and what comes of removing it."""

    def __init__(self, monkeypatch, *, left: bool, error: PortalError | None = None) -> None:
        self.error = error
        self.removed: list[str] = []
        monkeypatch.setattr(incremental.snapshots, "is_left", lambda *_, **__: left)

    def remove_snapshot(self, snapshot_id: str) -> None:
        if self.error:
            raise self.error
        self.removed.append(snapshot_id)


@pytest.mark.parametrize("left", [True, False])
def test_a_snapshot_that_was_left_is_removed_and_forgotten(monkeypatch, left):
    backup = backup_of(VmFactory(), memory={"snapshot_id": "s-1"})
    backup.leftovers = Left(monkeypatch, left=left)
    backup.remove_left_snapshot()
    assert backup.leftovers.removed == (["s-1"] if left else [])
    assert "snapshot_id" not in fresh(backup.context.job).resume_state
    assert not fresh(backup.context.job).warnings


def test_one_that_cannot_be_removed_is_a_warning_and_is_remembered(monkeypatch):
    backup = backup_of(VmFactory(name="web-01"), memory={"snapshot_id": "s-1"})
    backup.leftovers = Left(monkeypatch, left=True, error=SnapshotNotRemoved("It stays."))
    backup.remove_left_snapshot()
    job = fresh(backup.context.job)
    assert job.resume_state["snapshot_id"] == "s-1"
    (warning,) = job.warnings
    assert "automatic snapshot s-1 is still on web-01: It stays." in warning
    assert "The restore point is whole" in warning


def test_a_broken_checkpoint_is_remembered_before_anything_else(monkeypatch):
    backup = backup_of(VmFactory(), memory={"from_checkpoint_id": "c-2", "broken": {"c-3": "Worse."}})
    removed = []
    monkeypatch.setattr(incremental, "clean_up_to_start_anew", lambda _: removed.append("backup"))
    backup.leftovers = SimpleNamespace(remove_checkpoint=removed.append)
    backup._set_aside_checkpoint(CheckpointUnusable("Bad."))
    assert fresh(backup.context.job).resume_state["broken"] == {"c-3": "Worse.", "c-2": "Bad."}
    assert removed == ["backup", "c-2"]


def test_a_full_backup_has_no_checkpoint_to_blame():
    with pytest.raises(BackupFailed, match="Bad"):
        backup_of(VmFactory())._set_aside_checkpoint(CheckpointUnusable("Bad."))


@pytest.mark.parametrize("with_store", [True, False])
def test_a_backup_to_which_the_manager_gave_an_id_of_its_own_is_ended_too(monkeypatch, with_store):
    """Managers before 4.5.0, when the answer that told the id was lost and the job ends right then."""
    backup = backup_of(VmFactory(), memory={"backup_id": "ours", "point": "p-1"})
    wanted = description(backup.context.job, "p-1")
    monkeypatch.setattr(
        vm_backup, "find_backup", lambda *_, description, **__: "theirs" if description == wanted else None
    )
    ended = []
    monkeypatch.setattr(
        Leftovers, "end_backup", lambda _, backup_id, memory: ended.append((backup_id, memory["backup_id"]))
    )
    if with_store:
        monkeypatch.setattr(backup, "_is_published", lambda: False)
        monkeypatch.setattr(backup, "staged", lambda: SimpleNamespace(abandon=lambda: None))
        backup.clean_up()
    else:
        monkeypatch.setattr(incremental, "connected", lambda *_: nullcontext())
        incremental._end_without_store(backup.context, backup.vm)
    assert ended == [("theirs", "theirs")]
    assert "backup_id" not in fresh(backup.context.job).resume_state
