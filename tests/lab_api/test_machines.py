# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs, disks, attachments, NICs, tags, and VMs made from an OVF."""

import xml.etree.ElementTree as ET
from typing import Any

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from tests.lab_api.support import Client, Rest, wait_for
from tests.lab_support import RunningLab

pytestmark = pytest.mark.lab
MIB = 1 << 20


def ovf_of(client: Client, vm_id: str) -> str:
    return str(client.vm(vm_id).get(all_content=True).initialization.configuration.data)


def vm_from_ovf(client: Client, ovf: str, name: str | None, *, regenerate: bool = True, **more: Any) -> Any:
    configuration = types.Configuration(type=types.ConfigurationType.OVF, data=ovf)
    return client.system.vms_service().add(
        types.Vm(
            name=name,
            cluster=types.Cluster(name="Default"),
            initialization=types.Initialization(configuration=configuration, regenerate_ids=regenerate),
            **more,
        )
    )


def without_disks(ovf: str) -> str:
    root = ET.fromstring(ovf)
    for section in root.findall("Section"):
        for disk in section.findall("Disk"):
            section.remove(disk)
    return ET.tostring(root, encoding="unicode")


def remove_vm(client: Client, vm_id: str, **how: Any) -> None:
    service = client.vm(vm_id)
    service.remove(**how)
    wait_for(lambda: client.is_gone(service), "the VM is gone")


def last_events(client: Client, vm_id: str) -> list[int]:
    return [e.code for e in client.system.events_service().list(search=f"vm.id={vm_id}")]


def test_blank_vm_from_nothing_to_nothing(client: Client) -> None:
    vms = client.system.vms_service()
    vm = vms.add(
        types.Vm(
            name="blank",
            cluster=types.Cluster(name="Default"),
            template=types.Template(name="Blank"),
            memory=512 * MIB,
        )
    )
    assert (vm.status, vm.memory) == (types.VmStatus.DOWN, 512 * MIB)
    with pytest.raises(sdk.Error, match="VM with the same name already exists"):
        vms.add(
            types.Vm(
                name="blank", cluster=types.Cluster(name="Default"), template=types.Template(name="Blank")
            )
        )
    attachments = client.vm(vm.id).disk_attachments_service()
    domains = [types.StorageDomain(name="data-02")]
    attachment = attachments.add(
        types.DiskAttachment(
            disk=types.Disk(
                name="first", format=types.DiskFormat.COW, provisioned_size=8 * MIB, storage_domains=domains
            ),
            interface=types.DiskInterface.VIRTIO,
            bootable=True,
            active=True,
        )
    )
    client.wait_disk(attachment.disk.id)
    client.set_power(vm.id, up=True)
    assert client.vm(vm.id).get().host.id == client.system.hosts_service().list()[0].id
    with pytest.raises(sdk.Error, match=r"\[Cannot run VM\. VM is running\.\]"):
        client.vm(vm.id).start()
    with pytest.raises(sdk.Error, match=r"\[Cannot remove VM\. VM is running\.\]"):
        client.vm(vm.id).remove()
    client.vm(vm.id).stop()
    wait_for(lambda: client.vm(vm.id).get().status == types.VmStatus.DOWN, "the VM is down")
    renamed = client.vm(vm.id).update(types.Vm(name="renamed", description="x"))
    assert (renamed.name, renamed.description) == ("renamed", "x")
    remove_vm(client, vm.id)
    assert client.is_gone(client.system.disks_service().disk_service(attachment.disk.id))


def test_disk_combinations_that_the_engine_refuses(client: Client) -> None:
    refused = [
        (types.DiskFormat.COW, False, None, 409, "COW Preallocated backup-None"),
        (types.DiskFormat.RAW, True, types.DiskBackup.INCREMENTAL, 400, "not supported for RAW format"),
    ]
    for form, sparse, backup, code, text in refused:
        with pytest.raises(sdk.Error, match=text) as caught:
            client.add_disk(MIB, format=form, sparse=sparse, backup=backup)
        assert caught.value.code == code
    with pytest.raises(sdk.Error, match="Entity not found"):
        client.system.disks_service().add(
            types.Disk(
                name="x",
                format=types.DiskFormat.RAW,
                provisioned_size=MIB,
                storage_domains=[types.StorageDomain(name="nowhere")],
            )
        )


def test_disk_can_be_made_changed_extended_and_removed(client: Client, rest: Rest) -> None:
    chosen = "7a1b5a2e-0000-4000-8000-0000000000aa"
    disk_id = client.add_disk(
        4 * MIB, "mine", id=chosen, sparse=False, backup=types.DiskBackup.INCREMENTAL, description="d"
    )
    assert disk_id == chosen
    with pytest.raises(sdk.Error, match="The selected disk ID"):
        client.add_disk(MIB, id=chosen)
    service = client.system.disks_service().disk_service(disk_id)
    changed = service.update(types.Disk(alias="other", provisioned_size=8 * MIB))
    assert (changed.name, changed.provisioned_size, changed.description) == ("other", 8 * MIB, "d")
    with pytest.raises(sdk.Error):
        service.update(types.Disk(provisioned_size=MIB))
    service.remove()
    wait_for(lambda: client.is_gone(service), "the disk is gone")
    body = (
        "<disk><name>now</name><format>raw</format><provisioned_size>1048576</provisioned_size>"
        "<storage_domains><storage_domain><name>data-01</name></storage_domain></storage_domains></disk>"
    )
    answer = rest.call("POST", "/disks", body, {"X-Ovirt-Expect": "201-created"})
    assert (answer.status, answer.text("status")) == (201, "ok")
    later = rest.post("/disks", body)
    assert (later.status, later.text("status")) == (202, "locked")
    href = next(x.get("href") for x in later.xml.findall("link") if x.get("rel") == "creation_status")
    path = str(href).removeprefix("/ovirt-engine/api")
    wait_for(lambda: rest.get(path).text("status") == "complete", "the disk has been created")
    for made in (answer, later):
        assert rest.delete(f"/disks/{made.xml.get('id')}").status == 200


def test_attachments_of_existing_disks(api_lab: RunningLab, client: Client) -> None:
    vm = client.vm(api_lab.vm("legacy-01").id)
    attachments = vm.disk_attachments_service()
    disk_id = client.add_disk(MIB, "extra")

    def attachment(**more: Any) -> types.DiskAttachment:
        values = {"interface": types.DiskInterface.VIRTIO, "bootable": False, "active": True, **more}
        return types.DiskAttachment(disk=types.Disk(id=disk_id), **values)

    with pytest.raises(sdk.Error, match="can only have one bootable disk"):
        attachments.add(attachment(bootable=True))
    made = attachments.add(attachment())
    assert made.id == disk_id
    with pytest.raises(sdk.Error, match="already attached to VM"):
        attachments.add(attachment())
    other = client.vm(api_lab.vm("files-01").id).disk_attachments_service()
    with pytest.raises(sdk.Error, match="not shareable and already attached"):
        other.add(attachment())
    service = attachments.attachment_service(disk_id)
    assert service.update(types.DiskAttachment(active=False)).active is False
    service.remove()
    assert client.is_gone(service)
    assert client.system.disks_service().disk_service(disk_id).get().status == types.DiskStatus.OK
    attachments.add(attachment())
    service.remove(detach_only=False)
    disk = client.system.disks_service().disk_service(disk_id)
    wait_for(lambda: client.is_gone(disk), "the disk is gone too")


def test_nics_have_pool_macs_and_profiles(api_lab: RunningLab, client: Client) -> None:
    nics = client.vm(api_lab.vm("files-01").id).nics_service()
    profile = client.system.vnic_profiles_service().list(search="name=office")[0]
    nic = nics.add(types.Nic(name="nic9", vnic_profile=types.VnicProfile(id=profile.id), plugged=False))
    assert nic.mac.address.startswith("56:6f:")
    assert nic.plugged is False
    taken = next(n.mac.address for n in nics.list() if n.id != nic.id)
    with pytest.raises(sdk.Error, match="already in use"):
        nics.nic_service(nic.id).update(types.Nic(mac=types.Mac(address=taken)))
    changed = nics.nic_service(nic.id).update(
        types.Nic(plugged=True, mac=types.Mac(address="00:1A:4A:00:00:01"), vnic_profile=types.VnicProfile())
    )
    assert (changed.plugged, changed.mac.address, changed.vnic_profile) == (True, "00:1a:4a:00:00:01", None)
    nics.nic_service(nic.id).remove()
    assert client.is_gone(nics.nic_service(nic.id))


def test_tags_come_and_go(api_lab: RunningLab, client: Client) -> None:
    tags = client.system.tags_service()
    tag = tags.add(types.Tag(name="gold"))
    of_vm = client.vm(api_lab.vm("web-01").id).tags_service()
    assert of_vm.add(types.Tag(name="gold")).id == tag.id
    assert "web-01" in [v.name for v in client.system.vms_service().list(search="tag=gold")]
    of_vm.tag_service(tag.id).remove()
    assert "gold" not in [t.name for t in of_vm.list()]
    tags.tag_service(tag.id).remove()
    with pytest.raises(sdk.Error, match="Entity not found"):
        of_vm.add(types.Tag(name="gold"))


def test_active_snapshot_carries_the_configuration(api_lab: RunningLab, client: Client) -> None:
    vm = client.vm(api_lab.vm("db-01").id)
    (snapshot,) = vm.snapshots_service().list(all_content=True)
    assert snapshot.snapshot_type == types.SnapshotType.ACTIVE
    assert "db-01_data" in snapshot.initialization.configuration.data
    disks = vm.snapshots_service().snapshot_service(snapshot.id).disks_service().list()
    assert {d.snapshot.id for d in disks} == {snapshot.id}


def test_vm_from_ovf_with_new_ids_has_new_macs_and_no_foreign_disks(
    api_lab: RunningLab, client: Client
) -> None:
    source = api_lab.vm("mail-01")
    ovf = ovf_of(client, source.id)
    vm = vm_from_ovf(client, without_disks(ovf), "restored", description="from elsewhere")
    original = client.vm(source.id).get(follow="nics")
    restored = client.vm(vm.id).get(follow="nics")
    assert (restored.status, restored.description) == (types.VmStatus.DOWN, "from elsewhere")
    assert (restored.memory, restored.cpu.topology.sockets) == (
        original.memory,
        original.cpu.topology.sockets,
    )
    assert [n.name for n in restored.nics] == [n.name for n in original.nics]
    assert not {n.mac.address for n in restored.nics} & {n.mac.address for n in original.nics}
    assert {n.vnic_profile.id for n in restored.nics} == {n.vnic_profile.id for n in original.nics}
    assert client.disk_ids(vm.id) == []
    # Without disks there is nothing to tell about them.
    assert 174 not in last_events(client, vm.id)
    remove_vm(client, vm.id)


def test_vm_from_ovf_takes_its_old_disks_if_they_float(api_lab: RunningLab, client: Client) -> None:
    source = api_lab.vm("files-01")
    ovf = ovf_of(client, source.id)
    (disk_id,) = client.disk_ids(source.id)
    busy = vm_from_ovf(client, ovf, "too-early")
    assert client.disk_ids(busy.id) == []
    assert last_events(client, busy.id)[0] == 175
    remove_vm(client, busy.id)
    attachments = client.vm(source.id).disk_attachments_service()
    attachments.attachment_service(disk_id).remove()
    try:
        vm = vm_from_ovf(client, ovf, "heir")
        assert last_events(client, vm.id)[0] == 174
        (taken,) = client.vm(vm.id).disk_attachments_service().list()
        assert (taken.id, taken.bootable, taken.interface) == (disk_id, True, types.DiskInterface.VIRTIO_SCSI)
        remove_vm(client, vm.id, detach_only=True)
    finally:
        attachments.add(
            types.DiskAttachment(
                disk=types.Disk(id=disk_id),
                interface=types.DiskInterface.VIRTIO_SCSI,
                bootable=True,
                active=True,
            )
        )


def test_vm_from_ovf_refusals(api_lab: RunningLab, client: Client) -> None:
    ovf = ovf_of(client, api_lab.vm("web-01").id)
    cases = [
        (ovf, "other", False, 409, "VM ID already exists in the system. Please remove the VM \\(web-01\\)"),
        (ovf, "db-01", True, 409, "VM Name already exists in the Data Center"),
        ("<a/>", "x", True, 400, "OVF"),
        ("garbage", "x", True, 400, "OVF"),
    ]
    for text, name, regenerate, code, message in cases:
        with pytest.raises(sdk.Error, match=message) as caught:
            vm_from_ovf(client, text, name, regenerate=regenerate)
        assert caught.value.code == code
