# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks plugged into a running machine and out of it."""

from collections.abc import Iterator
from typing import Any

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from tests.lab_api.support import Client, wait_for
from tests.lab_support import RunningLab

pytestmark = pytest.mark.lab
MIB = 1 << 20
VIRTIO = types.DiskInterface.VIRTIO


@pytest.fixture
def vm_id(api_lab: RunningLab, client: Client) -> Iterator[str]:
    """web-01, up; what a test plugs into it is taken away."""
    vm_id = api_lab.vm("web-01").id
    before = client.disk_ids(vm_id)
    yield vm_id
    for disk_id in set(client.disk_ids(vm_id)) - set(before):
        attachments(client, vm_id).attachment_service(disk_id).remove()
    for disk in client.system.disks_service().list(search="name=plug-*"):
        service = client.system.disks_service().disk_service(disk.id)
        service.remove()
        wait_for(lambda service=service: client.is_gone(service), "the disk is gone")


def attachments(client: Client, vm_id: str) -> Any:
    return client.vm(vm_id).disk_attachments_service()


def attach(client: Client, vm_id: str, disk_id: str, **values: Any) -> Any:
    values = {"interface": VIRTIO, "active": True, "bootable": False, **values}
    return attachments(client, vm_id).add(types.DiskAttachment(disk=types.Disk(id=disk_id), **values))


def test_a_plugged_disk_is_part_of_the_machine_until_it_is_detached(client: Client, vm_id: str) -> None:
    disk_id = client.add_disk(4 * MIB, "plug-a")
    assert attach(client, vm_id, disk_id).active is True
    with pytest.raises(sdk.Error, match="plugged to non-Down VMs"):
        client.download(disk_id)
    backup = client.start_backup(vm_id, [disk_id])
    assert backup.phase == types.BackupPhase.READY
    client.finalize(client.download(disk_id, backup_id=backup.id).id)
    assert client.end_backup(vm_id, backup.id).phase == types.BackupPhase.SUCCEEDED
    attachments(client, vm_id).attachment_service(disk_id).remove()
    done = client.finalize(client.download(disk_id).id)
    assert done.phase == types.ImageTransferPhase.FINISHED_SUCCESS


def test_a_disk_made_on_a_running_machine_is_plugged_when_it_is_there(client: Client, vm_id: str) -> None:
    disk = types.Disk(
        name="plug-b",
        format=types.DiskFormat.COW,
        provisioned_size=4 * MIB,
        storage_domains=[types.StorageDomain(name="data-01")],
    )
    made = attachments(client, vm_id).add(
        types.DiskAttachment(disk=disk, interface=VIRTIO, active=True, bootable=False)
    )
    service = attachments(client, vm_id).attachment_service(made.id)
    wait_for(lambda: service.get().active, "the disk is plugged")
    client.wait_disk(made.id)


def test_active_unplugs_and_plugs(client: Client, vm_id: str) -> None:
    disk_id = client.add_disk(4 * MIB, "plug-c")
    attach(client, vm_id, disk_id, active=False)
    service = attachments(client, vm_id).attachment_service(disk_id)
    for active in (True, False, True):
        assert service.update(types.DiskAttachment(active=active)).active is active
    codes = [code for code, text in client.events("plug-c") if code in (2000, 2002)]
    assert codes == [2000, 2002, 2000]


def test_a_running_machine_takes_no_ide_disk(client: Client, vm_id: str) -> None:
    disk_id = client.add_disk(4 * MIB, "plug-d")
    with pytest.raises(sdk.Error, match="ide is not supported") as caught:
        attach(client, vm_id, disk_id, interface=types.DiskInterface.IDE)
    assert caught.value.code == 409
    assert disk_id not in client.disk_ids(vm_id)
    assert attach(client, vm_id, disk_id, interface=types.DiskInterface.IDE, active=False).active is False


def test_the_guests_own_disk_can_be_pulled_and_comes_back(api_lab: RunningLab, client: Client) -> None:
    """The machine runs without it, starts without it, and its guest writes on when it starts with it again."""
    vm = api_lab.vm("mail-01")
    disk_id = next(a.disk.id for a in attachments(client, vm.id).list() if a.bootable)
    service = attachments(client, vm.id).attachment_service(disk_id)
    assert service.update(types.DiskAttachment(active=False)).active is False
    assert client.vm(vm.id).get().status == types.VmStatus.UP
    for active in (False, True):
        service.update(types.DiskAttachment(active=active))
        client.set_power(vm.id, up=False)
        client.set_power(vm.id, up=True)
    journal = api_lab.dir / "journals" / "mail-01.jsonl"
    size = journal.stat().st_size
    wait_for(lambda: journal.stat().st_size > size, "the guest writes")
