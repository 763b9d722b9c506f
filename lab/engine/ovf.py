# SPDX-License-Identifier: GPL-3.0-or-later
"""The OVF that the engine keeps of a VM, in the engine's own dialect.

Shape: ovirt-engine backend/manager/modules/utils …/utils/ovf/{OvfWriter,OvfOvirtWriter,OvfVmWriter}.java. Note that
`ovf:diskId` is the *volume's* id; the disk's id is the first half of `ovf:fileRef` (`<disk>/<volume>`), and
sizes are whole GiB, rounded down."""

import xml.etree.ElementTree as ET
from datetime import datetime

from lab.engine.state import (
    BLANK_TEMPLATE_ID,
    GIB,
    MIB,
    Attachment,
    Disk,
    Network,
    Nic,
    State,
    Vm,
    VnicProfile,
)

OVF = "http://schemas.dmtf.org/ovf/envelope/1/"
RASD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
VSSD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
ENGINE_VERSION = "4.5.6.0"
FORMAT_URLS = {
    # The engine writes them this way round (OvfWriter.getVolumeImageFormat).
    "raw": "http://www.vmware.com/specifications/vmdk.html#sparse",
    "cow": "http://www.gnome.org/~markmc/qcow-image-format.html",
}
DISK_INTERFACES = {
    "virtio": "VirtIO",
    "virtio_scsi": "VirtIO_SCSI",
    "ide": "IDE",
    "sata": "SATA",
    "spapr_vscsi": "SPAPR_VSCSI",
}
NIC_TYPES = {"virtio": "3", "e1000": "2", "rtl8139": "1"}
VM_TYPES = {"desktop": "0", "server": "1", "high_performance": "2"}
BIOS_TYPES = {"i440fx_sea_bios": "1", "q35_sea_bios": "2", "q35_ovmf": "3", "q35_secure_boot": "4"}
CPU, MEMORY, NETWORK, CD, DISK, MONITOR, USB, GRAPHICS = "3", "4", "10", "15", "17", "20", "23", "26"

for _prefix, _uri in (("ovf", OVF), ("rasd", RASD), ("vssd", VSSD), ("xsi", XSI)):
    ET.register_namespace(_prefix, _uri)


def ovf_of(vm: Vm, state: State, now: datetime, *, compat: str, user_id: str) -> str:
    """The VM's configuration as an OVF document."""
    root = ET.Element(f"{{{OVF}}}Envelope", {f"{{{OVF}}}version": ENGINE_VERSION})
    pairs = [(a, state.disks[a.disk_id]) for a in state.attachments_of_vm(vm.id)]
    _references(root, [disk for _, disk in pairs])
    nics = [(nic, *_profile(nic, state)) for nic in state.nics_of_vm(vm.id)]
    _networks(root, [network for _, _, network in nics])
    _disk_section(root, vm, pairs)
    content = _child(root, "Content", {f"{{{OVF}}}id": "out", f"{{{XSI}}}type": "ovf:VirtualSystem_Type"})
    _general(content, vm, state, now, compat, user_id)
    _operating_system(content, vm)
    hardware = _child(content, "Section", {f"{{{XSI}}}type": "ovf:VirtualHardwareSection_Type"})
    _hardware(hardware, vm, pairs, nics)
    _snapshots(content, vm)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>{text}'


def _child(
    parent: ET.Element, tag: str, attributes: dict[str, str] | None = None, text: str = ""
) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes or {})
    element.text = text or None
    return element


def _ovf(**attributes: object) -> dict[str, str]:
    return {f"{{{OVF}}}{name.replace('__', '-')}": _text(value) for name, value in attributes.items()}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _date(moment: datetime) -> str:
    return moment.strftime("%Y/%m/%d %H:%M:%S")


def _profile(nic: Nic, state: State) -> tuple[VnicProfile | None, Network | None]:
    profile = state.vnic_profiles.get(nic.vnic_profile_id or "")
    return profile, state.networks[profile.network_id] if profile else None


def _references(root: ET.Element, disks: list[Disk]) -> None:
    references = _child(root, "References")
    for disk in disks:
        attributes = _ovf(
            href=f"{disk.id}/{disk.image_id}",
            id=disk.image_id,
            size=disk.actual_size,
            description="Active VM",
            disk_storage_type="IMAGE",
            cinder_volume_type="",
        )
        _child(references, "File", attributes)


def _networks(root: ET.Element, networks: list[Network | None]) -> None:
    section = _child(root, "NetworkSection")
    _child(section, "Info", text="List of networks")
    for name in sorted({network.name for network in networks if network}):
        _child(section, "Network", _ovf(name=name))


def _disk_section(root: ET.Element, vm: Vm, pairs: list[tuple[Attachment, Disk]]) -> None:
    section = _child(root, "Section", {f"{{{XSI}}}type": "ovf:DiskSection_Type"})
    _child(section, "Info", text="List of Virtual Disks")
    for attachment, disk in pairs:
        attributes = _ovf(
            diskId=disk.image_id,
            size=disk.provisioned_size // GIB,
            actual_size=disk.actual_size // GIB,
            vm_snapshot_id=vm.snapshot_id,
            parentRef="",
            fileRef=f"{disk.id}/{disk.image_id}",
            format=FORMAT_URLS[disk.format],
            volume__format=disk.format.upper(),
            volume__type="Sparse" if disk.sparse else "Preallocated",
            disk__interface=DISK_INTERFACES[attachment.interface],
            read__only=attachment.read_only,
            shareable=disk.shareable,
            boot=attachment.bootable,
            pass__discard=attachment.pass_discard,
            incremental__backup=disk.backup == "incremental",
            disk__alias=disk.alias,
            disk__description=disk.description,
            wipe__after__delete=disk.wipe_after_delete,
        )
        _child(section, "Disk", attributes)


def _custom_version(vm: Vm) -> dict[str, str]:
    """Only written for a VM that has a level of its own (OvfWriter)."""
    if vm.custom_version is None:
        return {}
    return {"CustomCompatibilityVersion": "{}.{}".format(*vm.custom_version)}


def _general(content: ET.Element, vm: Vm, state: State, now: datetime, compat: str, user_id: str) -> None:
    values = {
        "Name": vm.name,
        "Description": vm.description,
        "Comment": vm.comment,
        "CreationDate": _date(vm.created),
        "ExportDate": _date(now),
        "DeleteProtected": vm.delete_protected,
        "SsoMethod": "guest_agent",
        "IsSmartcardEnabled": False,
        "NumOfIoThreads": 1,
        "TimeZone": "Etc/GMT",
        "default_boot_sequence": 0,
        "Generation": 1,
        "ClusterCompatibilityVersion": compat,
        **_custom_version(vm),
        "VmType": VM_TYPES.get(vm.vm_type, "1"),
        "ResumeBehavior": "AUTO_RESUME",
        "MinAllocatedMem": vm.memory_guaranteed // MIB,
        "IsStateless": vm.stateless,
        "IsRunAndPause": False,
        "AutoStartup": vm.high_availability,
        "Priority": vm.ha_priority,
        "CreatedByUserId": user_id,
        "MigrationSupport": 0,
        "IsBootMenuEnabled": False,
        "IsSpiceFileTransferEnabled": True,
        "IsSpiceCopyPasteEnabled": True,
        "AllowConsoleReconnect": True,
        "ConsoleDisconnectAction": "LOCK_SCREEN",
        "CustomEmulatedMachine": "",
        "BiosType": BIOS_TYPES.get(vm.bios_type, "2"),
        "CustomCpuName": "",
        "PredefinedProperties": "",
        "UserDefinedProperties": "",
        "MaxMemorySizeMb": vm.max_memory // MIB,
        "MultiQueuesEnabled": True,
        "ClusterName": state.clusters[vm.cluster_id].name,
        "TemplateId": vm.template_id,
        "TemplateName": "Blank",
        "IsInitilized": True,
        "Origin": 3,
        "DefaultDisplayType": 2,
        "OriginalTemplateId": vm.original_template_id,
        "OriginalTemplateName": "Blank",
    }
    for tag, value in values.items():
        _child(content, tag, text=_text(value))


def _operating_system(content: ET.Element, vm: Vm) -> None:
    attributes = {**_ovf(id=vm.id, required=False), f"{{{XSI}}}type": "ovf:OperatingSystemSection_Type"}
    section = _child(content, "Section", attributes)
    _child(section, "Info", text="Guest Operating System")
    _child(section, "Description", text=vm.os_type)


def _hardware(
    section: ET.Element,
    vm: Vm,
    pairs: list[tuple[Attachment, Disk]],
    nics: list[tuple[Nic, VnicProfile | None, Network | None]],
) -> None:
    cpus = vm.sockets * vm.cores * vm.threads
    _child(section, "Info", text=f"{cpus} CPU, {vm.memory // MIB} Memory")
    system = _child(section, "System")
    _child(system, f"{{{VSSD}}}VirtualSystemType", text=f"ENGINE {ENGINE_VERSION}")
    _item(
        section,
        Caption=f"{cpus} virtual cpu",
        Description="Number of virtual CPU",
        InstanceId=1,
        ResourceType=CPU,
        num_of_sockets=vm.sockets,
        cpu_per_socket=vm.cores,
        threads_per_cpu=vm.threads,
        max_num_of_vcpus=16 * cpus,
        VirtualQuantity=cpus,
    )
    _item(
        section,
        Caption=f"{vm.memory // MIB} MB of memory",
        Description="Memory Size",
        InstanceId=2,
        ResourceType=MEMORY,
        AllocationUnits="MegaBytes",
        VirtualQuantity=vm.memory // MIB,
    )
    for number, (attachment, disk) in enumerate(pairs):
        _drive(section, attachment, disk, number)
    for number, (nic, profile, network) in enumerate(nics):
        _interface(section, nic, profile, network, number)
    _item(section, Caption="USB Controller", InstanceId=3, ResourceType=USB, UsbPolicy="DISABLED")
    cd = _item(section, Caption="CDROM", InstanceId="00000000-0000-0000-0000-0000000000cd", ResourceType=CD)
    _device(cd, "disk", "cdrom", plugged=True, read_only=True, alias="")


def _item(section: ET.Element, **values: object) -> ET.Element:
    item = _child(section, "Item")
    for name, value in values.items():
        _child(item, f"{{{RASD}}}{name}", text=_text(value))
    return item


def _device(item: ET.Element, kind: str, device: str, *, plugged: bool, read_only: bool, alias: str) -> None:
    _child(item, "Type", text=kind)
    _child(item, "Device", text=device)
    _child(item, f"{{{RASD}}}Address")
    _child(item, "BootOrder", text="0")
    _child(item, "IsPlugged", text=_text(plugged))
    _child(item, "IsReadOnly", text=_text(read_only))
    _child(item, "Alias", text=alias)


def _drive(section: ET.Element, attachment: Attachment, disk: Disk, number: int) -> None:
    item = _item(
        section,
        Caption=disk.alias,
        InstanceId=disk.image_id,
        ResourceType=DISK,
        HostResource=f"{disk.id}/{disk.image_id}",
        Parent=BLANK_TEMPLATE_ID,
        Template=BLANK_TEMPLATE_ID,
        ApplicationList="",
        StorageId=disk.storage_domain_id,
        CreationDate=_date(disk.created),
        LastModified=_date(disk.created),
        last_modified_date=_date(disk.created),
    )
    alias = f"ua-{disk.id}"
    _device(item, "disk", "disk", plugged=attachment.active, read_only=attachment.read_only, alias=alias)


def _interface(
    section: ET.Element, nic: Nic, profile: VnicProfile | None, network: Network | None, number: int
) -> None:
    item = _item(
        section,
        Caption=f"Ethernet adapter on {network.name if network else '[No Network]'}",
        InstanceId=nic.id,
        ResourceType=NETWORK,
        OtherResourceType=profile.name if profile else "",
        ResourceSubType=NIC_TYPES.get(nic.interface, "3"),
        Connection=network.name if network else "",
        Linked=nic.linked,
        Name=nic.name,
        ElementName=nic.name,
        MACAddress=nic.mac,
        speed=10000,
    )
    _device(item, "interface", "bridge", plugged=nic.plugged, read_only=False, alias=f"ua-{nic.id}")


def _snapshots(content: ET.Element, vm: Vm) -> None:
    section = _child(content, "Section", {f"{{{XSI}}}type": "ovf:SnapshotsSection_Type"})
    snapshot = _child(section, "Snapshot", _ovf(id=vm.snapshot_id))
    _child(snapshot, "Type", text="ACTIVE")
    _child(snapshot, "Description", text="Active VM")
    _child(snapshot, "CreationDate", text=_date(vm.created))
