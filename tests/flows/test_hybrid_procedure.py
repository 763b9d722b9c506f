# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole procedure of a hybrid backup, in this process, against a Manager that has none.

Only what differs is put in: the automatic snapshot that the backup's state names, and what becomes of it. The
data path, phases and checkpoints are those of the lab's machine.
"""

from dataclasses import replace

import pytest

from backups.methods import cleanup, disks, incremental, leftovers
from backups.models import RestorePoint
from portal.jobs import runner
from portal.jobs.models import Job
from portal.ovirt import image_transfer, snapshots, vm_backup
from portal.ovirt.image_transfer import TransferFailed
from portal.ovirt.snapshots import SnapshotNotRemoved
from tests.factories import JobFactory
from tests.flows import support

pytestmark = [pytest.mark.flow, pytest.mark.lab]
SNAPSHOT = "5a5a5a5a-0000-4000-8000-000000000001"


class Snapshot:
    """The Manager's automatic snapshot: whether it was left after the merge, and whether it can be removed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = self.stuck = False
        self.removals = 0
        state = vm_backup.backup_state

        def with_snapshot(connection, **which):
            found = state(connection, **which)
            return found and replace(found, snapshot_id=SNAPSHOT)

        monkeypatch.setattr(vm_backup, "backup_state", with_snapshot)
        monkeypatch.setattr(snapshots, "is_left", lambda *_, snapshot_id, **__: self.left)
        monkeypatch.setattr(leftovers.snapshots, "remove_automatic", self.remove)

    def remove(self, *_, snapshot_id: str, **__) -> None:
        assert snapshot_id == SNAPSHOT
        self.removals += 1
        if self.stuck:
            raise SnapshotNotRemoved("The Manager did not merge its automatic snapshot; the snapshot stays.")
        self.left = False


@pytest.fixture
def snapshot(monkeypatch) -> Snapshot:
    return Snapshot(monkeypatch)


def back_up(vm, repository) -> Job:
    """Claimed by this process before any bell is rung for it."""
    job = JobFactory(vm=vm, params={"repository": str(repository.uuid), "full": False})
    runner.execute(job.pk, incremental.run)
    job.refresh_from_db()
    assert job.state == "succeeded", (job.error_message, job.error_detail, support.told(job))
    return job


def test_a_snapshot_that_stays_is_a_warning_and_goes_with_the_next_clean_up(
    lab, environment, repository, snapshot, settings
):
    settings.JOB_MAX_ATTEMPTS = 1
    vm = environment.vms.get(name="web-01")
    before = support.on_manager(environment)
    merged = back_up(vm, repository)
    assert (merged.warnings, snapshot.removals) == ([], 0)
    assert merged.steps.get(name="end").title == "Merging the automatic snapshot"
    stored = repository.open().open_point(environment.uuid, vm.manager_id, merged.result["point"])
    assert stored.manifest["flow"] == "hybrid"

    snapshot.left = True
    removed = back_up(vm, repository)
    assert (removed.warnings, snapshot.removals) == ([], 1)
    assert removed.result["mode"] == "incremental"
    assert cleanup.order_cleanups() == 0

    snapshot.left = snapshot.stuck = True
    warned = back_up(vm, repository)
    (warning,) = warned.warnings
    assert f"automatic snapshot {SNAPSHOT} is still on web-01" in warning
    assert warned.resume_state["snapshot_id"] == SNAPSHOT
    job = JobFactory(vm=vm, kind="vm_cleanup", task=cleanup.CLEANUP_TASK)
    runner.execute(job.pk, cleanup.run)
    job.refresh_from_db()
    assert (job.state, job.error_code) == ("failed", "snapshot_not_removed")
    warned.refresh_from_db()
    assert warned.warnings_open

    snapshot.stuck = False
    again = JobFactory(vm=vm, kind="vm_cleanup", task=cleanup.CLEANUP_TASK)
    runner.execute(again.pk, cleanup.run)
    for each in (again, warned):
        each.refresh_from_db()
    assert again.state == "succeeded"
    assert "snapshot_id" not in warned.resume_state
    assert not warned.warnings_open
    support.assert_manager_is_clean(environment, before)


def test_a_bitmap_that_proves_broken_when_a_disk_is_opened_means_the_older_one_though_the_machine_runs(
    lab, environment, repository, snapshot, monkeypatch
):
    vm = environment.vms.get(name="web-01")
    before = support.on_manager(environment)
    first, second = back_up(vm, repository), back_up(vm, repository)
    broken = str(RestorePoint.objects.get(uuid=second.result["point"]).checkpoint_id)
    opened = image_transfer.open_transfer
    tries = []

    def open_transfer(connection, *, backup_id, **order):
        tries.append(backup_id)
        backup = connection.system_service().vms_service().vm_service(str(vm.manager_id)).backups_service()
        if backup.backup_service(backup_id).get().from_checkpoint_id == broken:
            raise TransferFailed("The Manager did not open the image transfer; it is now finished failure.")
        return opened(connection, backup_id=backup_id, **order)

    monkeypatch.setattr(disks.image_transfer, "open_transfer", open_transfer)
    third = back_up(vm, repository)
    assert (tries[0], len(set(tries))) == (tries[1], 2)
    point = RestorePoint.objects.get(uuid=third.result["point"])
    older = RestorePoint.objects.get(uuid=first.result["point"])
    assert (point.mode, point.from_checkpoint_id) == ("incremental", older.checkpoint_id)
    assert "could not be used" in point.reason
    assert broken not in support.checkpoints_of(environment, vm)
    support.assert_one_moment(lab, point)
    support.assert_manager_is_clean(environment, before)
