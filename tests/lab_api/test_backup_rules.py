# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups and checkpoints: refusals in the engine's words, phases, locks, broken bitmaps."""

import os
import signal
import uuid
from typing import Any

import ovirtsdk4 as sdk
import psutil  # type: ignore[import-untyped]
import pytest
from ovirtsdk4 import types

from tests.lab_api.support import Client, Rest, wait_for
from tests.lab_support import RunningLab

pytestmark = pytest.mark.lab
READY, FAILED, SUCCEEDED = types.BackupPhase.READY, types.BackupPhase.FAILED, types.BackupPhase.SUCCEEDED


def refused(client: Client, vm_id: str, code: int, text: str, **values: Any) -> None:
    disks = values.pop("disks", None) or [types.Disk(id=d) for d in client.disk_ids(vm_id)]
    with pytest.raises(sdk.Error) as caught:
        client.vm(vm_id).backups_service().add(types.Backup(disks=disks, **values))
    assert (caught.value.code, caught.value.fault.detail) == (code, text)


def full_cycle(client: Client, vm_id: str, **more: Any) -> Any:
    """A backup that is over, with its checkpoint."""
    backup = client.start_backup(vm_id, **more)
    assert backup.phase == READY
    assert client.end_backup(vm_id, backup.id).phase == SUCCEEDED
    return backup


def forget_checkpoints(client: Client, vm_id: str) -> None:
    service = client.vm(vm_id).checkpoints_service()
    for checkpoint in service.list():
        one = service.checkpoint_service(checkpoint.id)
        one.remove()
        wait_for(lambda one=one: client.is_gone(one), "the checkpoint is gone")  # type: ignore[misc]


def test_refusals_before_a_backup(api_lab: RunningLab, client: Client) -> None:
    vm_id, missing = api_lab.vm("web-01").id, str(uuid.uuid4())
    head = "[Cannot backup VM. "
    text = f"{head}The following disk(s) ID(s) does not exist: {missing}]"
    refused(client, vm_id, 400, text, disks=[types.Disk(id=missing)])
    text = f"{head}Checkpoint ID {missing} doesn't exist.]"
    refused(client, vm_id, 400, text, from_checkpoint_id=missing)
    text = f"{head}The VM backup description shouldn't contain more than 1024 characters.]"
    refused(client, vm_id, 400, text, description="x" * 1025)
    foreign = client.disk_ids(api_lab.vm("db-01").id)[0]
    refused(client, vm_id, 500, "[Internal Engine Error]", disks=[types.Disk(id=foreign)])
    assert client.vm(vm_id).backups_service().list() == []


def test_lun_disk_is_an_internal_error(api_lab: RunningLab, rest: Rest, client: Client) -> None:
    vm_id = api_lab.vm("web-01").id
    disk_id = client.disk_ids(vm_id)[0]
    body = f'<backup><disks><disk id="{disk_id}"><lun_storage/></disk></disks></backup>'
    assert rest.post(f"/vms/{vm_id}/backups", body).status == 500


def test_locked_and_inactive_disks_are_named(api_lab: RunningLab, client: Client) -> None:
    vm_id = api_lab.vm("legacy-01").id
    (disk_id,) = client.disk_ids(vm_id)
    transfer = client.download(disk_id)
    text = "The following disks are locked: legacy-01_disk1. Please try again in a few minutes."
    refused(client, vm_id, 409, f"[Cannot backup VM: {text}]")
    with pytest.raises(sdk.Error, match=r"Cannot run VM: The following disks are locked"):
        client.vm(vm_id).start()
    client.finalize(transfer.id)
    attachment = client.vm(vm_id).disk_attachments_service().attachment_service(disk_id)
    attachment.update(types.DiskAttachment(active=False))
    text = "[Cannot backup VM. The following disks are not active on VM legacy-01: legacy-01_disk1]"
    refused(client, vm_id, 409, text)
    attachment.update(types.DiskAttachment(active=True))


def test_open_backup_holds_its_vm(api_lab: RunningLab, client: Client, rest: Rest) -> None:
    vm_id = api_lab.vm("web-01").id
    wanted = str(uuid.uuid4())
    backup = client.start_backup(vm_id, id=wanted, description="mine")
    try:
        assert (backup.id, backup.description, backup.vm.id) == (wanted, "mine", vm_id)
        assert backup.host.id == client.system.hosts_service().list()[0].id
        assert backup.creation_date.tzinfo is not None
        text = "The VM backup operation is currently in progress. Please try again later."
        refused(client, vm_id, 409, f"[Cannot backup VM. {text}]")
        for action in ("stop", "shutdown"):
            with pytest.raises(sdk.Error, match="The VM is during a backup operation"):
                getattr(client.vm(vm_id), action)()
        (disk,) = client.vm(vm_id).backups_service().backup_service(backup.id).disks_service().list()
        assert (disk.href, disk.status, disk.backup_mode) == (
            None,
            types.DiskStatus.LOCKED,
            types.DiskBackupMode.FULL,
        )
        scratch = client.system.disks_service().list(search="content_type=backup_scratch")
        assert [d.name for d in scratch] == [f"VM web-01 backup {wanted} scratch disk for web-01_disk1"]
        elsewhere = rest.get(f"/vms/{uuid.uuid4()}/backups/{wanted}")
        assert elsewhere.status == 200
    finally:
        client.end_backup(vm_id, backup.id)
    refused(
        client,
        vm_id,
        400,
        f"[Cannot backup VM. The specified VM backup ID {wanted} already exists.]",
        id=wanted,
    )
    (disk,) = client.vm(vm_id).backups_service().backup_service(backup.id).disks_service().list()
    assert (disk.status, disk.backup_mode) == (types.DiskStatus.OK, None)
    codes = [code for code, _ in client.events(wanted)]
    assert codes == [10793, 10794, 10805, 10799, 10790]
    with pytest.raises(
        sdk.Error, match=f"VM 'web-01' backup '{wanted}' is already in 'SUCCEEDED' phase"
    ) as again:
        client.vm(vm_id).backups_service().backup_service(wanted).finalize()
    assert again.value.code == 400


def test_finalize_waits_for_the_transfers(api_lab: RunningLab, client: Client) -> None:
    vm_id = api_lab.vm("files-01").id
    backup = client.start_backup(vm_id)
    transfer = client.download(client.disk_ids(vm_id)[0], backup_id=backup.id)
    service = client.vm(vm_id).backups_service().backup_service(backup.id)
    with pytest.raises(sdk.Error) as caught:
        service.finalize()
    text = "[Cannot stop VM backup. There is an active image transfer for VM backup]"
    assert (caught.value.code, caught.value.fault.detail) == (409, text)
    with pytest.raises(sdk.Error, match="The VM is during a backup operation"):
        client.vm(vm_id).start()
    client.finalize(transfer.id)
    # The status is `ok` although the backup is still open.
    disk = client.system.disks_service().disk_service(client.disk_ids(vm_id)[0]).get()
    assert (disk.status, service.get().phase) == (types.DiskStatus.OK, READY)
    client.end_backup(vm_id, backup.id)
    forget_checkpoints(client, vm_id)


def test_premature_finalize_fails_the_backup_and_leaves_no_checkpoint(
    api_lab: RunningLab, client: Client
) -> None:
    vm_id = api_lab.vm("mail-01").id
    known = {c.id for c in client.vm(vm_id).checkpoints_service().list()}
    backups = client.vm(vm_id).backups_service()
    backup = backups.add(types.Backup(disks=[types.Disk(id=d) for d in client.disk_ids(vm_id)]))
    assert backup.phase == types.BackupPhase.INITIALIZING
    service = backups.backup_service(backup.id)
    with pytest.raises(sdk.Error, match="premature backup stop was initiated") as caught:
        service.finalize()
    assert caught.value.code == 400
    wait_for(lambda: service.get().phase == FAILED, "the backup has failed")
    assert {c.id for c in client.vm(vm_id).checkpoints_service().list()} == known
    assert client.events(backup.id)[0][0] == 10792
    full_cycle(client, vm_id)
    forget_checkpoints(client, vm_id)


def test_mixed_backup_tells_the_mode_of_each_disk(api_lab: RunningLab, client: Client) -> None:
    vm_id = api_lab.vm("mail-01").id
    first = full_cycle(client, vm_id)
    backup = client.start_backup(vm_id, since=first.to_checkpoint_id)
    members = client.vm(vm_id).backups_service().backup_service(backup.id).disks_service().list()
    modes = {d.name: (d.format, d.backup_mode) for d in members}
    assert modes == {
        "mail-01_disk1": (types.DiskFormat.COW, types.DiskBackupMode.INCREMENTAL),
        "mail-01_archive": (types.DiskFormat.RAW, types.DiskBackupMode.FULL),
    }
    client.end_backup(vm_id, backup.id)
    checkpoints = client.vm(vm_id).checkpoints_service()
    root, leaf = checkpoints.list()
    assert (root.parent_id, leaf.parent_id) == (None, root.id)
    assert (root.state, root.creation_date.tzinfo is not None) == (types.CheckpointState.CREATED, True)
    (member,) = checkpoints.checkpoint_service(leaf.id).disks_service().list()
    assert member.name == "mail-01_disk1"
    third = full_cycle(client, vm_id)
    checkpoints.checkpoint_service(leaf.id).remove()
    wait_for(lambda: client.is_gone(checkpoints.checkpoint_service(leaf.id)), "the checkpoint is gone")
    assert [(c.id, c.parent_id) for c in checkpoints.list()] == [
        (root.id, None),
        (third.to_checkpoint_id, root.id),
    ]
    assert client.events(leaf.id)[0][0] == 10797
    forget_checkpoints(client, vm_id)


def test_shareable_disk_is_left_out_in_silence(api_lab: RunningLab, client: Client) -> None:
    vm_id = api_lab.vm("legacy-01").id
    shared = client.add_disk(1 << 20, "shared", format=types.DiskFormat.RAW, shareable=True)
    attachments = client.vm(vm_id).disk_attachments_service()
    attachments.add(
        types.DiskAttachment(
            disk=types.Disk(id=shared), interface=types.DiskInterface.VIRTIO, bootable=False, active=True
        )
    )
    backup = client.start_backup(vm_id)
    members = client.vm(vm_id).backups_service().backup_service(backup.id).disks_service().list()
    assert [d.name for d in members] == ["legacy-01_disk1"]
    assert backup.to_checkpoint_id is None
    client.end_backup(vm_id, backup.id)
    attachments.attachment_service(shared).remove(detach_only=False)


def test_checkpoint_is_not_removed_during_a_backup(api_lab: RunningLab, client: Client) -> None:
    vm_id = api_lab.vm("files-01").id
    first = full_cycle(client, vm_id)
    backup = client.start_backup(vm_id, since=first.to_checkpoint_id)
    service = client.vm(vm_id).checkpoints_service().checkpoint_service(first.to_checkpoint_id)
    with pytest.raises(sdk.Error) as caught:
        service.remove()
    text = "[Cannot remove checkpoint. The VM is during a backup operation.]"
    assert (caught.value.code, caught.value.fault.detail) == (409, text)
    client.end_backup(vm_id, backup.id)
    forget_checkpoints(client, vm_id)


def kill_vm(api_lab: RunningLab, client: Client, vm_id: str) -> None:
    """SIGKILL the VM's process, as a crash of qemu would be, and wait until the Manager has noticed."""
    disk_id = client.disk_ids(vm_id)[0]
    for process in psutil.Process(api_lab.process.pid).children(recursive=True):
        if "qemu" in process.name() and any(disk_id in file.path for file in process.open_files()):
            os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: client.vm(vm_id).get().status == types.VmStatus.DOWN, "the VM is known to be down")


def test_bitmaps_broken_by_a_crash_end_the_chain(api_lab: RunningLab, client: Client) -> None:
    vm_id = api_lab.vm("db-01").id
    first = full_cycle(client, vm_id)
    full_cycle(client, vm_id, since=first.to_checkpoint_id)
    kill_vm(api_lab, client, vm_id)
    client.set_power(vm_id, up=True)
    backup = client.start_backup(vm_id, since=first.to_checkpoint_id)
    assert backup.phase == FAILED
    codes = client.events(backup.id)
    assert codes[0][0] == 10791
    assert "Full backup is now needed" in codes[0][1]
    assert client.vm(vm_id).checkpoints_service().list() == []
    full_cycle(client, vm_id)
    forget_checkpoints(client, vm_id)


def test_crash_in_the_middle_of_a_live_backup_fails_it(api_lab: RunningLab, client: Client) -> None:
    vm_id = api_lab.vm("db-01").id
    backup = client.start_backup(vm_id)
    kill_vm(api_lab, client, vm_id)
    service = client.vm(vm_id).backups_service().backup_service(backup.id)
    wait_for(lambda: service.get().phase == FAILED, "the backup has failed")
    assert client.vm(vm_id).checkpoints_service().list() == []
    assert client.system.disks_service().list(search="content_type=backup_scratch") == []
    client.set_power(vm_id, up=True)
    full_cycle(client, vm_id)
    forget_checkpoints(client, vm_id)


def test_broken_bitmap_of_a_stopped_vm_shows_in_the_transfer(api_lab: RunningLab, client: Client) -> None:
    vm_id = api_lab.vm("mail-01").id
    first = full_cycle(client, vm_id)
    kill_vm(api_lab, client, vm_id)
    backup = client.start_backup(vm_id, since=first.to_checkpoint_id)
    assert backup.phase == READY
    members = client.vm(vm_id).backups_service().backup_service(backup.id).disks_service().list()
    disk_id = next(d.id for d in members if d.backup_mode == types.DiskBackupMode.INCREMENTAL)
    transfer = client.download(disk_id, backup_id=backup.id)
    over = client.wait_transfer(transfer.id, lambda t: "finished" in t.phase.value)
    assert over.phase == types.ImageTransferPhase.FINISHED_FAILURE
    assert "1068" in {str(e.code) for e in client.system.events_service().list(max=10)}
    client.end_backup(vm_id, backup.id)
    forget_checkpoints(client, vm_id)
    client.set_power(vm_id, up=True)


def test_forced_power_off_ends_the_backup(api_lab: RunningLab, client: Client, rest: Rest) -> None:
    vm_id = api_lab.vm("web-01").id
    backup = client.start_backup(vm_id)
    body = "<action><force>true</force></action>"
    assert rest.post(f"/vms/{vm_id}/stop", body).status == 200
    service = client.vm(vm_id).backups_service().backup_service(backup.id)
    wait_for(lambda: service.get().phase == FAILED, "the backup has failed")
    wait_for(lambda: client.vm(vm_id).get().status == types.VmStatus.DOWN, "the VM is down")
    client.set_power(vm_id, up=True)
