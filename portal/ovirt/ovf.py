# SPDX-License-Identifier: GPL-3.0-or-later
"""The OVF text of a stored VM, made safe to import beside the living original.

The engine attaches every disk that the OVF lists by its original id, if such a disk exists (reference 6.5):
so disks, files and snapshots are taken out, and the restored disks are attached by their new ids afterwards.
The text comes out of a repository and is hostile input: parsed by defusedxml, bounded in size.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from portal.errors import PortalError

MAX_OVF_BYTES = 16 << 20
_XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_PREFIXES = {
    "ovf": "http://schemas.dmtf.org/ovf/envelope/1/",
    "rasd": "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData",
    "vssd": "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData",
    "xsi": "http://www.w3.org/2001/XMLSchema-instance",
}
# rasd:ResourceType, as ovirt-engine's OvfHardware has them.
_DISK_RESOURCE = "17"
_NIC_RESOURCE = "10"


class OvfUnusable(PortalError):
    """The stored machine description cannot be used."""


def without_disks(ovf: bytes, *, unplug_nics: bool) -> str:
    """The OVF without disks and snapshots, and with its NICs unplugged if asked. Raises OvfUnusable."""
    root = _parse(ovf)
    for parent in list(root.iter()):
        for child in list(parent):
            if _is_disk_part(child):
                parent.remove(child)
    if unplug_nics:
        for item in root.iter():
            if _local(item.tag) == "Item" and _resource_type(item) == _NIC_RESOURCE:
                _set_child(item, "IsPlugged", "false")
    for prefix, uri in _PREFIXES.items():
        ET.register_namespace(prefix, uri)
    try:
        return ET.tostring(root, encoding="unicode", xml_declaration=True)
    except RecursionError as error:
        raise _unusable("it is nested deeper than any real one") from error


def _parse(ovf: bytes) -> ET.Element:
    if len(ovf) > MAX_OVF_BYTES:
        raise _unusable("it is larger than any real one")
    try:
        root: ET.Element = fromstring(ovf)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise _unusable(f"it is not well-formed ({type(error).__name__})") from error
    if _local(root.tag) != "Envelope":
        raise _unusable("it is not an OVF envelope")
    return root


def _is_disk_part(element: ET.Element) -> bool:
    name = _local(element.tag)
    if name == "Item":
        return _resource_type(element) == _DISK_RESOURCE
    if name == "Section":
        return element.get(_XSI_TYPE, "").endswith("SnapshotsSection_Type")
    return name in ("Disk", "File")


def _resource_type(item: ET.Element) -> str:
    return next((child.text or "" for child in item if _local(child.tag) == "ResourceType"), "").strip()


def _set_child(item: ET.Element, name: str, text: str) -> None:
    for child in item:
        if _local(child.tag) == name:
            child.text = text
            return
    ET.SubElement(item, name).text = text


def _local(tag: object) -> str:
    return str(tag).rpartition("}")[2]


def _unusable(why: str) -> OvfUnusable:
    return OvfUnusable(
        f"The machine description stored with this restore point cannot be used: {why}. Nothing was created.",
        hint="Restore the disks alone, or choose another restore point.",
    )
