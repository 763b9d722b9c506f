# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads an OVF in the engine's dialect; namespaces are told apart by local names only, with or without the final `/`."""

import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from lab.engine.ovf import BIOS_TYPES, DISK_INTERFACES, NETWORK, NIC_TYPES, VM_TYPES
from lab.engine.ovf import DISK as DISK_ITEM
from lab.engine.state import COMPAT_LEVELS, MIB
from lab.xmlsafe import BadXml, parse


class BadOvf(ValueError):
    """The text is not an OVF that describes a VM."""


@dataclass(frozen=True)
class OvfDisk:
    disk_id: str
    alias: str
    interface: str
    bootable: bool
    read_only: bool
    active: bool


@dataclass(frozen=True)
class OvfNic:
    id: str
    name: str
    mac: str | None
    interface: str
    linked: bool
    plugged: bool
    profile: str
    network: str


@dataclass(frozen=True)
class OvfVm:
    """Memory in bytes."""

    id: str
    name: str
    description: str
    comment: str
    memory: int
    max_memory: int
    memory_guaranteed: int
    sockets: int
    cores: int
    threads: int
    os_type: str
    vm_type: str
    bios_type: str
    custom_version: tuple[int, int] | None
    stateless: bool
    delete_protected: bool
    disks: tuple[OvfDisk, ...]
    nics: tuple[OvfNic, ...]


def read_ovf(text: str) -> OvfVm:
    """Raises BadOvf."""
    try:
        root = parse(text.encode())
        content = _required(root, "Content")
        return _read(root, content)
    except (BadXml, ValueError, KeyError) as error:
        raise BadOvf(str(error)) from error


def _read(root: ET.Element, content: ET.Element) -> OvfVm:
    os_section = _section(content, "OperatingSystemSection_Type")
    items = _all(_section(content, "VirtualHardwareSection_Type"), "Item")
    plugged = {_text(i, "InstanceId"): _flag(i, "IsPlugged", True) for i in items if _kind(i) == DISK_ITEM}
    cpu = next(item for item in items if _kind(item) == "3")
    memory = next(item for item in items if _kind(item) == "4")
    memory_bytes = int(_text(memory, "VirtualQuantity")) * MIB
    return OvfVm(
        id=str(uuid.UUID(_attribute(os_section, "id"))),
        name=_text(content, "Name"),
        description=_text(content, "Description"),
        comment=_text(content, "Comment"),
        memory=memory_bytes,
        max_memory=int(_text(content, "MaxMemorySizeMb") or 0) * MIB or 4 * memory_bytes,
        memory_guaranteed=int(_text(content, "MinAllocatedMem") or 0) * MIB or memory_bytes,
        sockets=int(_text(cpu, "num_of_sockets") or 1),
        cores=int(_text(cpu, "cpu_per_socket") or 1),
        threads=int(_text(cpu, "threads_per_cpu") or 1),
        os_type=_text(os_section, "Description") or "other",
        vm_type=_name_of(VM_TYPES, _text(content, "VmType"), "server"),
        bios_type=_name_of(BIOS_TYPES, _text(content, "BiosType"), "q35_sea_bios"),
        custom_version=_level(_text(content, "CustomCompatibilityVersion")),
        stateless=_flag(content, "IsStateless", False),
        delete_protected=_flag(content, "DeleteProtected", False),
        disks=tuple(_disks(root, plugged)),
        nics=tuple(_nic(item) for item in items if _kind(item) == NETWORK),
    )


def _level(text: str) -> tuple[int, int] | None:
    """None also for a level that the engine does not have (inferred)."""
    return next((level for level in COMPAT_LEVELS if "{}.{}".format(*level) == text), None)


def _disks(root: ET.Element, plugged: dict[str, bool]) -> list[OvfDisk]:
    """One entry for each disk; a disk with snapshots has several volumes under one id."""
    found: dict[str, OvfDisk] = {}
    for section in _all(root, "Section"):
        for disk in _all(section, "Disk"):
            disk_id = str(uuid.UUID(_attribute(disk, "fileRef").split("/")[0]))
            found[disk_id] = OvfDisk(
                disk_id=disk_id,
                alias=_attribute(disk, "disk-alias", disk_id),
                interface=_name_of(DISK_INTERFACES, _attribute(disk, "disk-interface", ""), "virtio"),
                bootable=_attribute(disk, "boot", "false").lower() == "true",
                read_only=_attribute(disk, "read-only", "false").lower() == "true",
                active=plugged.get(_attribute(disk, "diskId", ""), True),
            )
    return list(found.values())


def _nic(item: ET.Element) -> OvfNic:
    return OvfNic(
        id=str(uuid.UUID(_text(item, "InstanceId"))),
        name=_text(item, "Name") or _text(item, "ElementName"),
        mac=_text(item, "MACAddress").lower() or None,
        interface=_name_of(NIC_TYPES, _text(item, "ResourceSubType"), "virtio"),
        linked=_flag(item, "Linked", True),
        plugged=_flag(item, "IsPlugged", True),
        profile=_text(item, "OtherResourceType"),
        network=_text(item, "Connection"),
    )


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _all(parent: ET.Element, tag: str) -> list[ET.Element]:
    return [child for child in parent if _local(child.tag) == tag]


def _required(parent: ET.Element, tag: str) -> ET.Element:
    found = _all(parent, tag)
    if not found:
        raise BadOvf(f"no <{tag}>")
    return found[0]


def _section(content: ET.Element, kind: str) -> ET.Element:
    for section in _all(content, "Section"):
        if _attribute(section, "type", "").endswith(kind):
            return section
    raise BadOvf(f"no section {kind}")


def _attribute(element: ET.Element, name: str, default: str | None = None) -> str:
    for key, value in element.attrib.items():
        if _local(key) == name:
            return value
    if default is None:
        raise BadOvf(f"<{_local(element.tag)}> without {name}")
    return default


def _text(parent: ET.Element, tag: str) -> str:
    found = _all(parent, tag)
    return (found[0].text or "").strip() if found else ""


def _flag(parent: ET.Element, tag: str, default: bool) -> bool:
    text = _text(parent, tag).lower()
    return text == "true" if text else default


def _kind(item: ET.Element) -> str:
    return _text(item, "ResourceType")


def _name_of(names: dict[str, str], value: str, default: str) -> str:
    return next((name for name, known in names.items() if known == value), default)
