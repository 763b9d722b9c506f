# SPDX-License-Identifier: GPL-3.0-or-later
"""Examples of the SDK that change machines and disks, and one that waits for events."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from ovirtsdk4 import types

from tests.judges.images import volume_file
from tests.lab_api.support import Client, wait_for
from tests.lab_support import RunningLab
from tests.sdk_examples import Examples

pytestmark = [pytest.mark.lab, pytest.mark.judges]
judge = pytest.mark.judge
GIB = 1 << 30


@contextmanager
def one_new_disk(client: Client) -> Iterator[list[types.Disk]]:
    """The disk that comes to exist inside the block; taken away at its end."""
    disks = client.system.disks_service()
    before = {disk.id for disk in disks.list()}
    found: list[types.Disk] = []
    yield found
    found += [disk for disk in disks.list() if disk.id not in before]
    assert len(found) == 1


def remove_disk(client: Client, disk_id: str) -> None:
    service = client.system.disks_service().disk_service(disk_id)
    service.remove()
    wait_for(lambda: client.is_gone(service), "the disk is gone")


@judge("add_floating_disk.py")
def test_a_floating_disk_is_made(lab: RunningLab, client: Client, examples: Examples) -> None:
    with one_new_disk(client) as made:
        examples.run_as_if("add_floating_disk.py", {"mydisk": "judged", "mydata": "data-02"})
    (disk,) = made
    assert (disk.name, disk.description) == ("judged", "My disk")
    assert (disk.format, disk.status) == (types.DiskFormat.COW, types.DiskStatus.OK)
    assert disk.provisioned_size == 10 * GIB
    path, form = volume_file(lab, client, disk.id)
    assert (path.is_file(), form) == (True, "qcow2")
    domain = client.system.storage_domains_service().storage_domain_service(disk.storage_domains[0].id).get()
    assert domain.name == "data-02"
    assert all(disk.id not in client.disk_ids(vm.id) for vm in lab.vms)
    remove_disk(client, disk.id)


@judge("add_vm_disk.py")
@pytest.mark.parametrize("name", ["files-01", "web-01"])
def test_a_disk_is_made_on_a_machine(lab: RunningLab, client: Client, examples: Examples, name: str) -> None:
    """On a stopped one, and on a running one, which gets it as soon as it is there."""
    vm = lab.vm(name)
    with one_new_disk(client) as made:
        literals = {"name=myvm": f"name={name}", "mydisk": "judged", "mydata": "data-01"}
        examples.run_as_if("add_vm_disk.py", literals)
    (disk,) = made
    assert (disk.name, disk.provisioned_size) == ("judged", 10 * GIB)
    service = client.vm(vm.id).disk_attachments_service().attachment_service(disk.id)
    wait_for(lambda: service.get().active, "the disk is plugged")
    attachment = service.get()
    assert (attachment.interface, attachment.bootable) == (types.DiskInterface.VIRTIO, False)
    service.remove()
    wait_for(lambda: client.is_gone(service), "the disk is detached")
    remove_disk(client, disk.id)


@judge("extend_disk.py")
def test_a_disk_is_made_and_extended(lab: RunningLab, client: Client, examples: Examples) -> None:
    with one_new_disk(client) as made:
        literals = {"name=myvm": "name=files-01", "mydisk": "judged", "bs-scsi-012": "data-01"}
        examples.run_as_if("extend_disk.py", literals)
    (disk,) = made
    path, _ = volume_file(lab, client, disk.id)
    info = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", str(path)]))
    assert disk.provisioned_size == info["virtual-size"] == 12 * GIB
    client.vm(lab.vm("files-01").id).disk_attachments_service().attachment_service(disk.id).remove()
    remove_disk(client, disk.id)


@judge("add_disks.py", "delete_disks.py")
def test_many_disks_are_made_and_removed_by_their_description(client: Client, examples: Examples) -> None:
    domain = ("-c", "lab", "--sd-name", "data-02")
    examples.run("add_disks.py", *domain, "--size", "1g", "--format", "qcow2", "--sparse", "--count", "5")
    disks = client.system.disks_service()
    made = [disk for disk in disks.list() if disk.description == "Created by add_disks.py"]
    assert sorted(disk.name for disk in made) == [f"disk-{number}" for number in range(5)]
    assert {(disk.provisioned_size, disk.status) for disk in made} == {(GIB, types.DiskStatus.OK)}
    examples.run("delete_disks.py", *domain)
    for disk in made:
        wait_for(lambda disk=disk: client.is_gone(disks.disk_service(disk.id)), "the disk is gone")


@judge("deactivate_disk_attachment.py")
def test_a_disk_is_unplugged_from_a_running_machine(
    lab: RunningLab, client: Client, examples: Examples
) -> None:
    vm = lab.vm("web-01")
    disk_id = client.add_disk(1 << 20, "judged")
    attachments = client.vm(vm.id).disk_attachments_service()
    attachments.add(
        types.DiskAttachment(
            disk=types.Disk(id=disk_id), interface=types.DiskInterface.VIRTIO, active=True, bootable=False
        )
    )
    service = attachments.attachment_service(disk_id)
    assert service.get().active is True
    literals = {"name=myvm": "name=web-01", "name=mydisk": "name=judged"}
    examples.run_as_if("deactivate_disk_attachment.py", literals)
    assert service.get().active is False
    assert client.vm(vm.id).get().status == types.VmStatus.UP
    service.remove()
    remove_disk(client, disk_id)


@judge("stop_vm.py", "start_vm.py")
def test_a_machine_is_stopped_and_started(lab: RunningLab, client: Client, examples: Examples) -> None:
    vm = lab.vm("mail-01")
    assert client.vm(vm.id).get().status == types.VmStatus.UP
    examples.run_as_if("stop_vm.py", {"name=myvm": "name=mail-01"})
    stopped = client.vm(vm.id).get()
    assert (stopped.status, stopped.host) == (types.VmStatus.DOWN, None)
    examples.run_as_if("start_vm.py", {"name=myvm": "name=mail-01"})
    started = client.vm(vm.id).get()
    assert started.status == types.VmStatus.UP
    assert started.host is not None
    codes = [code for code, _ in client.events("vm.name=mail-01")]
    # VM_STARTED 32 and VM_STOPPED 33 are newest first.
    assert codes.index(32) < codes.index(33)


@judge("poll_events.py")
def test_an_event_is_seen_while_waiting_for_events(client: Client, examples: Examples) -> None:
    """The script polls for ever by design; it is ended after it has seen the event."""
    with examples.running_as_if("poll_events.py") as polling:
        assert polling.stdout is not None
        newest = int(client.system.events_service().list(max=1)[0].id)
        assert 0 < int(polling.stdout.readline().partition(" - ")[0]) <= newest
        event = client.system.events_service().add(
            types.Event(
                origin="Judge",
                custom_id=4711,
                severity=types.LogSeverity.NORMAL,
                description="Something happened meanwhile",
            )
        )
        printed = iter(polling.stdout.readline, "")
        assert f"{event.id} - Something happened meanwhile\n" in printed
