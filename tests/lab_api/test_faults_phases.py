# SPDX-License-Identifier: GPL-3.0-or-later
"""Each phase of the engine's work can be held, and can fail as the real engine's does."""

import uuid
from collections.abc import Iterator
from typing import Any

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from tests.lab_api.support import Client, connect, wait_for
from tests.lab_support import ControlRefused, LabControl, RunningLab

pytestmark = pytest.mark.lab
MIB = 1 << 20
Phase = types.BackupPhase
Transfer = types.ImageTransferPhase


@pytest.fixture
def client(fault_lab: RunningLab) -> Iterator[Client]:
    with connect(fault_lab) as connection:
        yield Client(connection)


def backups_of(client: Client, vm_id: str) -> Any:
    return client.vm(vm_id).backups_service()


def begin(client: Client, vm_id: str) -> Any:
    """A backup as it is right after the POST."""
    disks = [types.Disk(id=disk_id) for disk_id in client.disk_ids(vm_id)]
    service = backups_of(client, vm_id)
    return service.backup_service(service.add(types.Backup(disks=disks)).id)


def wait_phase(service: Any, *phases: object) -> None:
    wait_for(lambda: service.get().phase in phases, f"the phase is one of {phases}")


def succeeds(client: Client, vm_id: str) -> None:
    backup = client.start_backup(vm_id)
    assert client.end_backup(vm_id, backup.id).phase == Phase.SUCCEEDED


def test_unknown_phase_is_refused_with_those_there_are(control: LabControl) -> None:
    with pytest.raises(
        ControlRefused, match="A backup has no phase 'STARTIN'; it has CREATING_SCRATCH_DISKS"
    ):
        control.fault("phase", of="backup", phase="STARTIN")
    with pytest.raises(ControlRefused, match="of of the fault phase must be one of backup, "):
        control.fault("phase", of="bakcup", phase="STARTING")


@pytest.mark.parametrize(
    ("vm", "stage", "shown"),
    [
        ("web-01", "CREATING_SCRATCH_DISKS", Phase.INITIALIZING),
        ("web-01", "STARTING", Phase.STARTING),
        ("files-01", "ADDING_BITMAPS", Phase.INITIALIZING),
        ("files-01", "WAITING_FOR_BITMAPS", Phase.INITIALIZING),
    ],
)
def test_backup_is_held_while_it_starts(
    fault_lab: RunningLab, control: LabControl, client: Client, vm: str, stage: str, shown: object
) -> None:
    vm_id = fault_lab.vm(vm).id
    with control.fault("phase", of="backup", phase=stage, which=vm) as fault:
        service = begin(client, vm_id)
        fault.wait_struck()
        assert service.get().phase == shown
        with pytest.raises(sdk.Error, match="backup operation is currently in progress"):
            begin(client, vm_id)
    wait_phase(service, Phase.READY)
    assert client.end_backup(vm_id, service.get().id).phase == Phase.SUCCEEDED


@pytest.mark.parametrize(
    ("vm", "stage", "codes"),
    [
        ("web-01", "CREATING_SCRATCH_DISKS", {10806, 10792}),
        ("web-01", "STARTING", {10792}),
        ("files-01", "ADDING_BITMAPS", {10792}),
        ("files-01", "WAITING_FOR_BITMAPS", {10792}),
        ("web-01", "READY", {10792}),
    ],
)
def test_backup_fails_and_gives_everything_back(
    fault_lab: RunningLab, control: LabControl, client: Client, vm: str, stage: str, codes: set[int]
) -> None:
    vm_id = fault_lab.vm(vm).id
    before = [c.id for c in client.vm(vm_id).checkpoints_service().list()]
    with control.fault("phase", of="backup", phase=stage, how="fail", times=1) as fault:
        service = begin(client, vm_id)
        wait_phase(service, Phase.FAILED)
        assert fault.struck == 1
        errors = {e.code for e in client.system.events_service().list(search=service.get().id)}
        assert codes <= errors
        assert [c.id for c in client.vm(vm_id).checkpoints_service().list()] == before
        succeeds(client, vm_id)


def test_finalizing_is_held_and_fails(fault_lab: RunningLab, control: LabControl, client: Client) -> None:
    vm_id = fault_lab.vm("web-01").id
    backup = client.start_backup(vm_id)
    service = backups_of(client, vm_id).backup_service(backup.id)
    with control.fault("phase", of="backup", phase="FINALIZING", which=backup.id) as fault:
        service.finalize()
        fault.wait_struck()
        assert service.get().phase == Phase.FINALIZING
    wait_phase(service, Phase.SUCCEEDED)
    backup = client.start_backup(vm_id)
    with control.fault("phase", of="backup", phase="FINALIZING", how="fail"):
        assert client.end_backup(vm_id, backup.id).phase == Phase.FAILED
    assert {10795, 10792} <= {code for code, _ in client.events(backup.id)}
    kept = [c.id for c in client.vm(vm_id).checkpoints_service().list()]
    assert backup.to_checkpoint_id not in kept
    succeeds(client, vm_id)


def test_transfer_is_held_in_each_phase(control: LabControl, client: Client) -> None:
    disk_id = client.add_disk(MIB, "held")
    transfers = client.system.image_transfers_service()
    with control.fault("phase", of="transfer", phase="initializing", which="held") as fault:
        transfer = transfers.add(
            types.ImageTransfer(disk=types.Disk(id=disk_id), format=types.DiskFormat.RAW)
        )
        fault.wait_struck()
        shown = client.transfer(transfer.id).get()
        assert (shown.phase, shown.transfer_url) == (Transfer.INITIALIZING, None)
    client.wait_transfer(transfer.id, lambda t: t.phase == Transfer.TRANSFERRING)
    client.transfer(transfer.id).pause()
    with control.fault("phase", of="transfer", phase="resuming") as fault:
        client.transfer(transfer.id).resume()
        fault.wait_struck()
        assert client.transfer(transfer.id).get().phase == Transfer.RESUMING
    client.wait_transfer(transfer.id, lambda t: t.phase == Transfer.TRANSFERRING)
    with control.fault("phase", of="transfer", phase="finalizing_success") as fault:
        client.transfer(transfer.id).finalize()
        fault.wait_struck()
        assert client.transfer(transfer.id).get().phase == Transfer.FINALIZING_SUCCESS
    client.wait_transfer(transfer.id, lambda t: t.phase == Transfer.FINISHED_SUCCESS)
    client.system.disks_service().disk_service(disk_id).remove()


@pytest.mark.parametrize(
    ("upload", "phase", "ends", "code"),
    [
        (False, "initializing", Transfer.FINISHED_FAILURE, 1068),
        (True, "initializing", Transfer.PAUSED_SYSTEM, 1068),
        (False, "transferring", Transfer.FINISHED_FAILURE, 1064),
        (True, "transferring", Transfer.PAUSED_SYSTEM, 1064),
        (False, "finalizing_success", Transfer.FINISHED_FAILURE, 1034),
        (True, "finalizing_success", Transfer.FINISHED_FAILURE, 1034),
    ],
)
def test_transfer_fails(
    control: LabControl, client: Client, upload: bool, phase: str, ends: object, code: int
) -> None:
    disk_id = client.add_disk(MIB, f"fails-{uuid.uuid4().hex[:6]}")
    start = client.upload if upload else client.download
    with control.fault("phase", of="transfer", phase=phase, how="fail", which=disk_id, times=1):
        transfer = start(disk_id)
        if phase == "finalizing_success":
            client.transfer(transfer.id).finalize()
        client.wait_transfer(transfer.id, lambda t: t.phase == ends)
    assert code in [event.code for event in client.system.events_service().list(max=30)]
    if upload and phase == "finalizing_success":
        assert client.is_gone(client.system.disks_service().disk_service(disk_id))
        return
    if upload:
        client.finalize(transfer.id)
    assert client.finalize(client.download(disk_id).id).phase == Transfer.FINISHED_SUCCESS
    client.system.disks_service().disk_service(disk_id).remove()


def test_creation_and_removal_of_a_disk(control: LabControl, client: Client) -> None:
    disks = client.system.disks_service()
    domain = [types.StorageDomain(name="data-01")]
    wanted = types.Disk(
        name="slow", provisioned_size=MIB, format=types.DiskFormat.COW, storage_domains=domain
    )
    with control.fault("phase", of="disk", phase="creation", which="slow") as fault:
        disk = disks.disk_service(disks.add(wanted).id)
        fault.wait_struck()
        assert disk.get().status == types.DiskStatus.LOCKED
    wait_for(lambda: disk.get().status == types.DiskStatus.OK, "the disk is ok")
    with control.fault("phase", of="disk", phase="removal", how="fail"):
        disk.remove()
        wait_for(lambda: disk.get().status == types.DiskStatus.ILLEGAL, "the removal failed")
    disk.remove()
    wait_for(lambda: client.is_gone(disk), "the disk is removed")
    with control.fault("phase", of="disk", phase="creation", how="fail"):
        disk = disks.disk_service(disks.add(wanted).id)
        wait_for(lambda: client.is_gone(disk), "the creation failed")
    assert {2015, 2022} <= {event.code for event in client.system.events_service().list(max=30)}


def test_creation_and_start_of_a_vm(fault_lab: RunningLab, control: LabControl, client: Client) -> None:
    vms = client.system.vms_service()
    wanted = types.Vm(
        name="made", cluster=types.Cluster(name="Default"), template=types.Template(name="Blank")
    )
    wanted.cluster.name = client.system.clusters_service().list()[0].name
    fails = control.fault("phase", of="vm", phase="creation", how="fail", which="made")
    with fails, pytest.raises(sdk.Error, match="Internal Engine Error"):
        vms.add(wanted)
    assert vms.list(search="name=made") == []
    with control.fault("phase", of="vm", phase="creation", seconds=0.1) as fault:
        made = vms.add(wanted)
        assert fault.struck == 1
    vms.vm_service(made.id).remove()
    service = vms.vm_service(fault_lab.vm("legacy-01").id)
    with control.fault("phase", of="vm", phase="start", how="fail"):
        service.start()
        wait_for(lambda: service.get().status == types.VmStatus.DOWN, "the start failed")
    with control.fault("phase", of="vm", phase="start") as fault:
        service.start()
        fault.wait_struck()
        assert service.get().status == types.VmStatus.WAIT_FOR_LAUNCH
    wait_for(lambda: service.get().status == types.VmStatus.UP, "the VM is up")
    client.set_power(service.get().id, False)


def test_removal_of_a_checkpoint(fault_lab: RunningLab, control: LabControl, client: Client) -> None:
    vm_id = fault_lab.vm("files-01").id
    backup = client.start_backup(vm_id)
    client.end_backup(vm_id, backup.id)
    checkpoints = client.vm(vm_id).checkpoints_service()
    checkpoint = checkpoints.checkpoint_service(backup.to_checkpoint_id)
    with control.fault("phase", of="checkpoint", phase="removal", how="fail"):
        checkpoint.remove()
        wait_for(lambda: 10798 in [code for code, _ in client.events(backup.to_checkpoint_id)], "it failed")
        assert checkpoint.get().state == types.CheckpointState.INVALID
    with control.fault("phase", of="checkpoint", phase="removal") as fault:
        checkpoint.remove()
        fault.wait_struck()
        assert not client.is_gone(checkpoint)
    wait_for(lambda: client.is_gone(checkpoint), "the checkpoint is removed")
