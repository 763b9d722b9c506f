# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's own modules: no task fails, and a second run finds nothing to change."""

from pathlib import Path

import pytest
from ovirtsdk4 import types

from tests.judges.ansible import Ansible
from tests.judges.images import assert_equal, file_checksum, volume_file
from tests.lab_api.support import Client
from tests.lab_support import RunningLab

pytestmark = [pytest.mark.lab, pytest.mark.judges]
judge = pytest.mark.judge
GIB = 1 << 30


@pytest.fixture
def ansible(lab: RunningLab, tmp_path: Path) -> Ansible:
    return Ansible(lab, tmp_path)


@judge("ovirt_vm_info", "ovirt_disk_info", "ovirt_event_info")
def test_information_is_what_the_manager_holds(lab: RunningLab, client: Client, ansible: Ansible) -> None:
    events = client.system.events_service()
    for number in range(3):
        severity = types.LogSeverity.NORMAL
        events.add(types.Event(origin="Judge", custom_id=1, severity=severity, description=f"Line {number}"))
    played = ansible.play("info")
    assert played.changed == 0
    found = played.results
    down = {vm["id"] for vm in found["machines by pattern"]["ovirt_vms"]}
    assert down == {vm.id for vm in lab.vms if vm.status == "down"}
    for vm in found["machines by pattern"]["ovirt_vms"]:
        assert "Envelope" in vm["initialization"]["configuration"]["data"]
    (vm,) = found["machine with what belongs to it"]["ovirt_vms"]
    assert vm["cluster"]["data_center"]["name"] == "Default"
    assert vm["current_cd"]["id"] == "00000000-0000-0000-0000-000000000000"
    assert {a["disk"]["id"] for a in vm["disk_attachments"]} == set(client.disk_ids(vm["id"]))
    assert all(a["disk"]["provisioned_size"] > 0 for a in vm["disk_attachments"])
    assert {nic["vnic_profile"]["name"] for nic in vm["nics"]} >= {"ovirtmgmt"}
    assert len(found["two machines at most"]["ovirt_vms"]) == 2
    disks = {disk["id"] for disk in found["disks of a machine"]["ovirt_disks"]}
    assert disks == set(client.disk_ids(lab.vm("db-01").id))
    told = [event["description"] for event in found["newest events"]["ovirt_events"]]
    assert told == ["Line 2", "Line 1", "Line 0"]


@judge("ovirt_disk")
def test_disks_are_created_uploaded_downloaded_and_removed(
    lab: RunningLab, client: Client, ansible: Ansible, tmp_path: Path
) -> None:
    (source_id,) = client.disk_ids(lab.vm("files-01").id)
    image, image_format = volume_file(lab, client, source_id)
    copy = tmp_path / "copy.qcow2"
    values = {"image": str(image), "copy": str(copy)}
    first = ansible.play("disk", **values)
    # The module tells of no change when all it did was to download.
    assert (first.changed, first.ok) == (2, 3)
    again = ansible.play("disk", **values)
    assert (again.changed, again.ok) == (0, 3)
    empty, uploaded = (
        client.system.disks_service().list(search=f"name={name}")
        for name in ("judged-empty", "judged-uploaded")
    )
    assert [(d.provisioned_size, d.format) for d in empty] == [(3 * GIB, types.DiskFormat.COW)]
    (disk,) = uploaded
    volume, volume_format = volume_file(lab, client, disk.id)
    assert volume_format == "raw"
    assert_equal(image, volume, (image_format, volume_format))
    assert_equal(image, copy, (image_format, "qcow2"))
    assert file_checksum(copy) == file_checksum(image)
    assert ansible.play("disk_absent").changed == 1
    assert ansible.play("disk_absent").changed == 0
    assert client.system.disks_service().list(search="name=judged-*") == []


@judge("ovirt_vm")
def test_a_machine_runs_and_is_stopped(lab: RunningLab, client: Client, ansible: Ansible) -> None:
    vm = lab.vm("files-01")
    for state, status in (("running", types.VmStatus.UP), ("stopped", types.VmStatus.DOWN)):
        assert ansible.play(f"vm_{state}", vm=vm.name).changed == 1
        assert client.vm(vm.id).get().status == status
        assert ansible.play(f"vm_{state}", vm=vm.name).changed == 0
        assert client.vm(vm.id).get().status == status


@judge("ovirt_vm", "ovirt_nic", "ovirt_disk")
def test_a_machine_is_made_with_disks_and_network_and_removed(client: Client, ansible: Ansible) -> None:
    first = ansible.play("vm_new")
    assert (first.changed, first.ok) == (5, 5)
    assert ansible.play("vm_new").changed == 0
    (vm,) = client.system.vms_service().list(
        search="name=judged", follow="disk_attachments.disk,nics.vnic_profile"
    )
    assert (vm.status, vm.memory, vm.cpu.topology.cores) == (types.VmStatus.UP, 256 << 20, 2)
    assert vm.comment == "Made by a judge"
    assert {(nic.name, nic.vnic_profile.name) for nic in vm.nics} == {
        ("nic1", "ovirtmgmt"),
        ("nic2", "office"),
    }
    disks = {(a.disk.name, a.disk.provisioned_size, a.bootable, a.active) for a in vm.disk_attachments}
    assert disks == {("judged-root", GIB, True, True), ("judged-more", GIB, False, True)}
    assert ansible.play("vm_gone").changed == 1
    assert ansible.play("vm_gone").changed == 0
    assert client.system.disks_service().list(search="name=judged-*") == []


@judge("ovirt_tag")
def test_a_tag_is_made_assigned_and_removed(lab: RunningLab, client: Client, ansible: Ansible) -> None:
    assert ansible.play("tag").changed == 1
    assert ansible.play("tag").changed == 0
    vms = client.system.vms_service()
    assert {vm.name for vm in vms.list(search="tag=judged")} == {"web-01", "files-01"}
    assert [host.name for host in client.system.hosts_service().list(search="tag=judged")] == ["host-01"]
    tags = client.system.tags_service().list()
    assert [t.description for t in tags if t.name == "judged"] == ["Looked at by a judge"]
    assert ansible.play("tag_absent").changed == 2
    assert "judged" not in {tag.name for tag in client.system.tags_service().list()}
    assert vms.list(search="tag=judged") == []


@judge("ovirt_event")
def test_an_event_is_told_once(lab: RunningLab, client: Client, ansible: Ansible) -> None:
    values = {"text": "A judge was here 7f3e", "vm_id": lab.vm("web-01").id}
    assert ansible.play("event", **values).changed == 1
    assert ansible.play("event", **values).changed == 0
    (event,) = client.system.events_service().list(search=values["text"])
    assert (event.description, event.origin, event.custom_id) == (values["text"], "Judge", 4712)
    assert (event.severity, event.vm.id) == (types.LogSeverity.WARNING, values["vm_id"])
