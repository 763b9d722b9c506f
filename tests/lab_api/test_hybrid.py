# SPDX-License-Identifier: GPL-3.0-or-later
"""Hybrid backups (compatibility level 4.7): a snapshot is read while the machine goes on, and merged at the end."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ovirtsdk4 as sdk
import pytest
from ovirt_imageio.client import ImageioClient
from ovirtsdk4 import types

from lab.guests import WRITER_MIB
from tests.judges.images import assert_equal, volume_file
from tests.lab_api.support import Client, Rest, connect, wait_for
from tests.lab_api.test_backup_rules import FAILED, READY, SUCCEEDED, forget_checkpoints, full_cycle
from tests.lab_data.support import read_dirty, save_all
from tests.lab_support import LabControl, RunningLab, start_lab

# A lab of its own and many merges; a short hybrid backup runs in the suite with tests/flows/test_hybrid.py.
pytestmark = [pytest.mark.lab, pytest.mark.slow]
FULL, INCREMENTAL = types.DiskBackupMode.FULL, types.DiskBackupMode.INCREMENTAL
OK = types.DiskStatus.OK
DESCRIPTION = "Auto-generated for Backup VM"
DURING_BACKUP = "The VM is during a backup operation."
UP_AT_START = {"web-01": True, "files-01": False, "mail-01": True}


@pytest.fixture(scope="module")
def hybrid_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    lab = start_lab(tmp_path_factory.mktemp("hybrid-lab"), arguments=["--compat", "4.7"])
    yield lab
    assert lab.stop() == 0
    log = (lab.dir / "lab.log").read_text()
    assert " ERROR lab" not in log, log[log.index(" ERROR lab") :][:3000]


@pytest.fixture(scope="module")
def client(hybrid_lab: RunningLab) -> Iterator[Client]:
    with connect(hybrid_lab) as connection:
        yield Client(connection)


@pytest.fixture
def control(hybrid_lab: RunningLab) -> Iterator[LabControl]:
    yield hybrid_lab.control
    hybrid_lab.control.clear()


@pytest.fixture(autouse=True)
def _leaves_nothing(hybrid_lab: RunningLab, client: Client) -> Iterator[None]:
    """After each test: the power as it was, no snapshot of any machine, one volume a disk, no checkpoint."""
    yield
    for name, up in UP_AT_START.items():
        vm_id = hybrid_lab.vm(name).id
        assert snapshots_of(client, vm_id) == []
        for disk_id in client.disk_ids(vm_id):
            assert len(volumes_of(client, disk_id)) == 1
        client.set_power(vm_id, up=up)
        forget_checkpoints(client, vm_id)


def snapshots_of(client: Client, vm_id: str) -> list[Any]:
    """The regular ones."""
    found = client.vm(vm_id).snapshots_service().list()
    return [each for each in found if each.snapshot_type == types.SnapshotType.REGULAR]


def volumes_of(client: Client, disk_id: str) -> list[Any]:
    service = client.system.disks_service().disk_service(disk_id).disk_snapshots_service()
    return list(service.list(query={"include_active": "true"}))


def service_of(client: Client, vm_id: str, backup_id: str) -> Any:
    return client.vm(vm_id).backups_service().backup_service(backup_id)


def begin(client: Client, vm_id: str) -> Any:
    """A backup as it is right after the POST."""
    disks = [types.Disk(id=disk_id) for disk_id in client.disk_ids(vm_id)]
    return client.vm(vm_id).backups_service().add(types.Backup(disks=disks))


def modes(client: Client, vm_id: str, backup_id: str) -> dict[str, Any]:
    disks = service_of(client, vm_id, backup_id).disks_service().list()
    assert {disk.status for disk in disks} == {OK}
    return {disk.id: disk.backup_mode for disk in disks}


def codes(client: Client, backup_id: str) -> list[int]:
    """The newest first."""
    return [code for code, _ in client.events(backup_id)]


def one_disk(client: Client, vm_id: str) -> str:
    (disk_id,) = client.disk_ids(vm_id)
    return disk_id


def saved(lab: RunningLab, client: Client, disk_id: str, backup_id: str, target: Path) -> None:
    """The whole of a disk in a backup, as a raw file."""
    transfer = client.download(disk_id, backup_id=backup_id)
    with ImageioClient(transfer.transfer_url, cafile=lab.ca_file, secure=True) as image:
        save_all(image, target)
    assert client.finalize(transfer.id).phase == types.ImageTransferPhase.FINISHED_SUCCESS


def applied(lab: RunningLab, client: Client, disk_id: str, backup_id: str, target: Path) -> int:
    """Write what has changed since the backup's checkpoint into a raw file; how many bytes that is."""
    transfer = client.download(disk_id, backup_id=backup_id)
    with ImageioClient(transfer.transfer_url, cafile=lab.ca_file, secure=True) as image:
        changes = read_dirty(image)
    with target.open("r+b") as stream:
        for start, data in changes:
            stream.seek(start)
            stream.write(data)
    assert client.finalize(transfer.id).phase == types.ImageTransferPhase.FINISHED_SUCCESS
    return sum(len(data) for _, data in changes)


def same_by_changes(lab: RunningLab, client: Client, vm_id: str, backup_id: str, older: Path) -> int:
    """The older content and the changes of an incremental backup are the disk as that backup has it."""
    disk_id, rebuilt, whole = one_disk(client, vm_id), older.with_name("rebuilt"), older.with_name("whole")
    subprocess.run(["cp", "--sparse=always", str(older), str(rebuilt)], check=True)
    changed = applied(lab, client, disk_id, backup_id, rebuilt)
    saved(lab, client, disk_id, backup_id, whole)
    assert_equal(rebuilt, whole, ("raw", "raw"))
    shutil.move(whole, older)
    return changed


@pytest.mark.parametrize("name", ["web-01", "files-01"])
def test_from_the_beginning_to_the_end(
    hybrid_lab: RunningLab, control: LabControl, client: Client, name: str
) -> None:
    vm_id = hybrid_lab.vm(name).id
    disk_id = one_disk(client, vm_id)
    disk = client.system.disks_service().disk_service(disk_id)
    image_id = disk.get().image_id
    with control.fault("phase", of="backup", phase="STARTING", which=name) as fault:
        backup = begin(client, vm_id)
        service = service_of(client, vm_id, backup.id)
        fault.wait_struck()
        shown = service.get()
        assert (shown.phase, shown.to_checkpoint_id, shown.snapshot) == (
            types.BackupPhase.STARTING,
            None,
            None,
        )
    wait_for(lambda: service.get().phase == READY, "the backup is ready")
    shown = service.get()
    (snapshot,) = snapshots_of(client, vm_id)
    assert (snapshot.id, snapshot.description) == (shown.snapshot.id, DESCRIPTION)
    assert snapshot.snapshot_status == types.SnapshotStatus.OK
    assert not snapshot.persist_memorystate
    assert modes(client, vm_id, backup.id) == {disk_id: FULL} and disk.get().status == OK
    frozen, active = volumes_of(client, disk_id)
    assert (frozen.id, frozen.snapshot.id) == (image_id, snapshot.id)
    assert (active.id, active.parent.id) == (disk.get().image_id, image_id)
    checkpoint = shown.to_checkpoint_id
    assert [c.id for c in client.vm(vm_id).checkpoints_service().list()] == [checkpoint]
    assert client.end_backup(vm_id, backup.id).phase == SUCCEEDED
    assert disk.get().image_id == image_id
    assert codes(client, backup.id) == [10793, 10796, 10794, 10790]
    backup = client.start_backup(vm_id, since=checkpoint)
    assert modes(client, vm_id, backup.id) == {disk_id: INCREMENTAL}
    client.end_backup(vm_id, backup.id)
    assert service_of(client, vm_id, backup.id).disks_service().list()[0].backup_mode is None


def test_a_raw_disk_is_always_full_and_raw_again_at_the_end(hybrid_lab: RunningLab, client: Client) -> None:
    vm_id = hybrid_lab.vm("mail-01").id
    disks = {d.id: client.system.disks_service().disk_service(d.id) for d in client_disks(client, vm_id)}
    formats = {disk_id: disk.get().format for disk_id, disk in disks.items()}
    cow = [disk_id for disk_id, form in formats.items() if form == types.DiskFormat.COW]
    (raw,) = formats.keys() - set(cow)
    first = client.start_backup(vm_id)
    assert modes(client, vm_id, first.id) == dict.fromkeys(disks, FULL)
    assert {disk.get().format for disk in disks.values()} == {types.DiskFormat.COW}
    client.end_backup(vm_id, first.id)
    checkpoint = client.vm(vm_id).checkpoints_service().checkpoint_service(first.to_checkpoint_id)
    assert [disk.id for disk in checkpoint.disks_service().list()] == cow
    second = client.start_backup(vm_id, since=first.to_checkpoint_id)
    assert modes(client, vm_id, second.id) == {cow[0]: INCREMENTAL, raw: FULL}
    client.end_backup(vm_id, second.id)
    assert {disk_id: disk.get().format for disk_id, disk in disks.items()} == formats
    # A raw disk alone leaves no checkpoint.
    third = client.start_backup(vm_id, [raw])
    assert (third.phase, third.to_checkpoint_id) == (READY, None)
    assert client.end_backup(vm_id, third.id).phase == SUCCEEDED


def client_disks(client: Client, vm_id: str) -> list[Any]:
    return [attachment.disk for attachment in client.vm(vm_id).disk_attachments_service().list()]


def test_what_is_read_of_a_stopped_machine_is_its_disk(
    hybrid_lab: RunningLab, client: Client, tmp_path: Path
) -> None:
    vm_id = hybrid_lab.vm("files-01").id
    disk_id = one_disk(client, vm_id)
    path, form = volume_file(hybrid_lab, client, disk_id)
    backup = client.start_backup(vm_id)
    saved(hybrid_lab, client, disk_id, backup.id, tmp_path / "whole")
    client.end_backup(vm_id, backup.id)
    assert_equal(tmp_path / "whole", path, ("raw", form))


def test_changes_of_a_running_machine_are_all_and_only_its_changes(
    hybrid_lab: RunningLab, client: Client, tmp_path: Path
) -> None:
    vm_id = hybrid_lab.vm("web-01").id
    backup = client.start_backup(vm_id)
    saved(hybrid_lab, client, one_disk(client, vm_id), backup.id, tmp_path / "older")
    client.end_backup(vm_id, backup.id)
    backup = client.start_backup(vm_id, since=backup.to_checkpoint_id)
    changed = same_by_changes(hybrid_lab, client, vm_id, backup.id, tmp_path / "older")
    # Nothing but the area that the guest's program writes to.
    assert 0 < changed <= WRITER_MIB << 20
    client.end_backup(vm_id, backup.id)


def test_legacy_is_the_flow_without_a_snapshot(hybrid_lab: RunningLab, client: Client) -> None:
    vm_id = hybrid_lab.vm("web-01").id
    disk_id = one_disk(client, vm_id)
    disk = client.system.disks_service().disk_service(disk_id)
    backup = client.start_backup(vm_id, query={"legacy": "true"})
    assert (backup.snapshot, snapshots_of(client, vm_id)) == (None, [])
    assert disk.get().status == types.DiskStatus.LOCKED
    client.end_backup(vm_id, backup.id)
    assert 10805 in codes(client, backup.id) and 10796 not in codes(client, backup.id)
    # Both kinds go on from each other's checkpoints; without a value the word counts as false.
    since = backup.to_checkpoint_id
    backup = client.start_backup(vm_id, since=since, query={"legacy": ""})
    assert backup.snapshot is not None
    assert modes(client, vm_id, backup.id) == {disk_id: INCREMENTAL}
    client.end_backup(vm_id, backup.id)


def refusal(do: Any) -> tuple[int, str]:
    with pytest.raises(sdk.Error) as caught:
        do()
    return caught.value.code, caught.value.fault.detail


def test_what_is_refused_while_it_is_open(hybrid_lab: RunningLab, client: Client) -> None:
    vm_id = hybrid_lab.vm("files-01").id
    vm, disk_id = client.vm(vm_id), one_disk(client, vm_id)
    first = full_cycle(client, vm_id)
    backup = client.start_backup(vm_id)
    (snapshot,) = snapshots_of(client, vm_id)
    taken = vm.snapshots_service().snapshot_service(snapshot.id)
    checkpoint = vm.checkpoints_service().checkpoint_service(first.to_checkpoint_id)
    new = types.Snapshot(description="mine", persist_memorystate=False)
    for action, do in {
        "backup VM": lambda: begin(client, vm_id),
        "remove VM": vm.remove,
        "create Snapshot": lambda: vm.snapshots_service().add(new),
        "remove Snapshot": taken.remove,
        "remove checkpoint": checkpoint.remove,
    }.items():
        assert refusal(do) == (409, f"[Cannot {action}. {DURING_BACKUP}]")
    disk = client.system.disks_service().disk_service(disk_id)
    attachment = vm.disk_attachments_service().attachment_service(disk_id)
    for action, do in {
        "edit": lambda: disk.update(types.Disk(description="mine")),
        "edit ": lambda: attachment.update(types.DiskAttachment(bootable=False)),
        "remove": disk.remove,
        "detach": lambda: attachment.remove(detach_only=True),
        "transfer": lambda: client.download(disk_id),
    }.items():
        text = f"[Cannot {action.strip()} Virtual Disk: Disk is locked. Please try again later.]"
        assert refusal(do) == (409, text)
    assert disk.get().status == OK
    client.end_backup(vm_id, backup.id)
    assert disk.update(types.Disk(description="mine")).description == "mine"


def test_a_machine_is_started_and_shut_down_meanwhile(
    hybrid_lab: RunningLab, client: Client, tmp_path: Path
) -> None:
    vm_id = hybrid_lab.vm("web-01").id
    backup = client.start_backup(vm_id)
    saved(hybrid_lab, client, one_disk(client, vm_id), backup.id, tmp_path / "older")
    client.set_power(vm_id, up=False)
    assert client.end_backup(vm_id, backup.id).phase == SUCCEEDED
    backup = client.start_backup(vm_id, since=backup.to_checkpoint_id)
    assert same_by_changes(hybrid_lab, client, vm_id, backup.id, tmp_path / "older") > 0
    client.set_power(vm_id, up=True)
    assert client.end_backup(vm_id, backup.id).phase == SUCCEEDED
    backup = client.start_backup(vm_id, since=backup.to_checkpoint_id)
    assert same_by_changes(hybrid_lab, client, vm_id, backup.id, tmp_path / "older") > 0
    client.end_backup(vm_id, backup.id)


def assert_bitmap_is_refused(client: Client, vm_id: str, backup: Any) -> None:
    """The backup is `ready` all the same; the transfer is what fails."""
    assert backup.phase == READY
    assert modes(client, vm_id, backup.id) == {one_disk(client, vm_id): INCREMENTAL}
    newest = int(client.system.events_service().list(max=1)[0].id)
    transfer = client.download(one_disk(client, vm_id), backup_id=backup.id)
    over = client.wait_transfer(transfer.id, lambda t: "finished" in t.phase.value)
    assert over.phase == types.ImageTransferPhase.FINISHED_FAILURE
    news = [event.code for event in client.system.events_service().list(max=20) if int(event.id) > newest]
    assert 1068 in news


def test_a_broken_bitmap_shows_at_the_transfer_alone(
    hybrid_lab: RunningLab, control: LabControl, client: Client
) -> None:
    vm_id = hybrid_lab.vm("files-01").id
    first = full_cycle(client, vm_id)
    control.act("break_bitmap", vm="files-01", how="missing", checkpoint=first.to_checkpoint_id)
    backup = client.start_backup(vm_id, since=first.to_checkpoint_id)
    assert_bitmap_is_refused(client, vm_id, backup)
    assert client.end_backup(vm_id, backup.id).phase == SUCCEEDED


def test_a_machine_that_is_killed_meanwhile_needs_a_full_backup(
    hybrid_lab: RunningLab, control: LabControl, client: Client, tmp_path: Path
) -> None:
    """What is read is the snapshot, which the crash does not touch; the new bitmap was in the guest's hands."""
    vm_id = hybrid_lab.vm("web-01").id
    backup = client.start_backup(vm_id)
    control.act("power_off", vm="web-01")
    wait_for(lambda: client.vm(vm_id).get().status == types.VmStatus.DOWN, "the VM is known to be down")
    assert service_of(client, vm_id, backup.id).get().phase == READY
    saved(hybrid_lab, client, one_disk(client, vm_id), backup.id, tmp_path / "older")
    assert client.end_backup(vm_id, backup.id).phase == SUCCEEDED
    broken = client.start_backup(vm_id, since=backup.to_checkpoint_id)
    assert_bitmap_is_refused(client, vm_id, broken)
    client.end_backup(vm_id, broken.id)
    client.set_power(vm_id, up=True)
    full_cycle(client, vm_id, since=full_cycle(client, vm_id).to_checkpoint_id)


def test_a_merge_that_fails_leaves_the_snapshot_and_the_backup_succeeds(
    hybrid_lab: RunningLab, control: LabControl, client: Client, tmp_path: Path
) -> None:
    vm_id = hybrid_lab.vm("web-01").id
    first = client.start_backup(vm_id)
    saved(hybrid_lab, client, one_disk(client, vm_id), first.id, tmp_path / "older")
    client.end_backup(vm_id, first.id)
    backup = client.start_backup(vm_id, since=first.to_checkpoint_id)
    with control.fault("phase", of="snapshot", phase="merge", how="fail", which="web-01", times=1):
        assert client.end_backup(vm_id, backup.id).phase == SUCCEEDED
    warning = next(e for e in client.system.events_service().list(max=20) if e.code == 10813)
    assert warning.severity == types.LogSeverity.WARNING
    assert "'web-01'. The snapshot may be removed manually" in warning.description
    (left,) = snapshots_of(client, vm_id)
    assert (left.id, left.snapshot_status) == (backup.snapshot.id, types.SnapshotStatus.OK)
    # Checkpoints go on over it, the older one too, and over its removal.
    backup = client.start_backup(vm_id, since=first.to_checkpoint_id)
    assert same_by_changes(hybrid_lab, client, vm_id, backup.id, tmp_path / "older") > 0
    client.end_backup(vm_id, backup.id)
    service = client.vm(vm_id).snapshots_service().snapshot_service(left.id)
    service.remove()
    wait_for(lambda: client.is_gone(service), "the snapshot is gone")
    backup = client.start_backup(vm_id, since=backup.to_checkpoint_id)
    assert same_by_changes(hybrid_lab, client, vm_id, backup.id, tmp_path / "older") > 0
    client.end_backup(vm_id, backup.id)


@pytest.mark.parametrize("name", ["web-01", "files-01"])
def test_a_snapshot_that_is_not_taken_fails_the_backup(
    hybrid_lab: RunningLab, control: LabControl, client: Client, name: str
) -> None:
    vm_id = hybrid_lab.vm(name).id
    with control.fault("phase", of="snapshot", phase="creation", how="fail", which=name, times=1):
        backup = client.start_backup(vm_id)
    assert (backup.phase, backup.snapshot, backup.to_checkpoint_id) == (FAILED, None, None)
    assert 10792 in codes(client, backup.id)
    assert (snapshots_of(client, vm_id), client.vm(vm_id).checkpoints_service().list()) == ([], [])
    full_cycle(client, vm_id)


def test_the_merge_shows_as_finalizing(hybrid_lab: RunningLab, control: LabControl, client: Client) -> None:
    rest, vm_id = Rest(hybrid_lab), hybrid_lab.vm("web-01").id
    backup = client.start_backup(vm_id)
    service = service_of(client, vm_id, backup.id)
    with control.fault("phase", of="backup", phase="REMOVING_SNAPSHOT", which=backup.id) as fault:
        service.finalize()
        fault.wait_struck()
        assert rest.get(f"/vms/{vm_id}/backups/{backup.id}").text("phase") == "finalizing"
        code, text = refusal(service.finalize)
        assert code == 400 and "is already in 'REMOVING_SNAPSHOT' phase" in text
        assert len(snapshots_of(client, vm_id)) == 1
    wait_for(lambda: service.get().phase == SUCCEEDED, "the backup is over")
