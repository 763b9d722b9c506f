# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks, attachments and disk snapshots as XML."""

import xml.etree.ElementTree as ET

from lab.api.xmlio import add, entity, group, links, reference
from lab.engine.state import Attachment, Backup, BackupDisk, Disk, State


def disk_element(disk: Disk, state: State, *, all_content: bool = False) -> ET.Element:
    element = entity("disk", disk.id, f"disks/{disk.id}")
    _fill(element, disk)
    add(element, "propagate_errors", disk.propagate_errors)
    add(element, "wipe_after_delete", disk.wipe_after_delete)
    reference(element, "disk_profile", "diskprofiles", disk.storage_domain_id)
    domains = group(element, "storage_domains")
    reference(domains, "storage_domain", "storagedomains", disk.storage_domain_id)
    if all_content:
        vms = group(element, "vms")
        for attachment in state.attachments_of_disk(disk.id):
            reference(vms, "vm", "vms", attachment.vm_id)
    links(element, f"disks/{disk.id}", "permissions", "disksnapshots", "statistics")
    return element


def _fill(element: ET.Element, disk: Disk) -> None:
    actual = disk.actual_size
    for tag, value in (
        ("name", disk.alias),
        ("alias", disk.alias),
        ("description", disk.description),
        ("actual_size", actual),
        ("backup", disk.backup),
        ("content_type", disk.content_type),
        ("format", disk.format),
        ("image_id", disk.image_id),
        ("provisioned_size", disk.provisioned_size),
        ("qcow_version", "qcow2_v3" if disk.format == "cow" else None),
        ("shareable", disk.shareable),
        ("sparse", disk.sparse),
        ("status", disk.status),
        ("storage_type", "image"),
        ("total_size", actual),
    ):
        add(element, tag, value)


def backup_disk_element(disk: Disk, member: BackupDisk, backup: Backup) -> ET.Element:
    """A disk in the list of a backup: no `href`, and `backup_mode` while the backup is open."""
    element = ET.Element("disk", {"id": disk.id})
    _fill(element, disk)
    total = element.find("total_size")
    if total is not None:
        total.text = "0"
    add(element, "backup_mode", member.mode)
    return element


def plain_disk_element(disk: Disk) -> ET.Element:
    """A disk in the list of a checkpoint."""
    element = ET.Element("disk", {"id": disk.id})
    _fill(element, disk)
    return element


def attachment_element(attachment: Attachment) -> ET.Element:
    path = f"vms/{attachment.vm_id}/diskattachments/{attachment.disk_id}"
    element = entity("disk_attachment", attachment.disk_id, path)
    for tag in ("active", "bootable", "interface", "logical_name", "pass_discard", "read_only"):
        add(element, tag, getattr(attachment, tag))
    add(element, "uses_scsi_reservation", False)
    reference(element, "disk", "disks", attachment.disk_id)
    reference(element, "vm", "vms", attachment.vm_id)
    return element


def disk_snapshot_element(disk: Disk, snapshot_id: str | None) -> ET.Element:
    """The active volume of a disk; its id is the volume's."""
    element = entity("disk_snapshot", disk.image_id, f"disks/{disk.id}/disksnapshots/{disk.image_id}")
    _fill(element, disk)
    reference(element, "disk", "disks", disk.id)
    if snapshot_id is not None:
        ET.SubElement(element, "snapshot", {"id": snapshot_id})
    reference(element, "storage_domain", "storagedomains", disk.storage_domain_id)
    return element
