# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks, attachments and disk snapshots as XML."""

import xml.etree.ElementTree as ET

from lab.api.xmlio import add, entity, group, links, reference
from lab.engine.state import Attachment, Backup, BackupDisk, Disk, FrozenVolume, State, allocated


def disk_element(
    disk: Disk, state: State, *, all_content: bool = False, volume: FrozenVolume | None = None
) -> ET.Element:
    """With `volume` as a snapshot of the disk has it."""
    element = entity("disk", disk.id, f"disks/{disk.id}")
    _fill(element, disk, volume)
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


def _fill(element: ET.Element, disk: Disk, volume: FrozenVolume | None = None) -> None:
    shown = volume or disk
    actual = allocated(shown.path)
    whole = sum(allocated(layer.path) for layer in disk.below) + disk.actual_size
    for tag, value in (
        ("name", disk.alias),
        ("alias", disk.alias),
        ("description", disk.description),
        ("actual_size", actual),
        ("backup", disk.backup),
        ("content_type", disk.content_type),
        ("format", shown.format),
        ("image_id", shown.image_id),
        ("provisioned_size", disk.provisioned_size),
        ("qcow_version", "qcow2_v3" if shown.format == "cow" else None),
        ("shareable", disk.shareable),
        ("sparse", shown.sparse),
        ("status", disk.status),
        ("storage_type", "image"),
        ("total_size", whole),
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


def active_volume_element(disk: Disk, snapshot_id: str | None) -> ET.Element:
    """The active volume of a disk as a disk snapshot; its id is the volume's."""
    parent = disk.below[-1].image_id if disk.below else None
    return _volume_element(disk, None, disk.image_id, snapshot_id, parent)


def frozen_volume_element(disk: Disk, at: int) -> ET.Element:
    layer = disk.below[at]
    parent = disk.below[at - 1].image_id if at else None
    return _volume_element(disk, layer, layer.image_id, layer.snapshot_id, parent)


def _volume_element(
    disk: Disk, volume: FrozenVolume | None, image_id: str, snapshot_id: str | None, parent: str | None
) -> ET.Element:
    element = entity("disk_snapshot", image_id, f"disks/{disk.id}/disksnapshots/{image_id}")
    _fill(element, disk, volume)
    reference(element, "disk", "disks", disk.id)
    if snapshot_id is not None:
        ET.SubElement(element, "snapshot", {"id": snapshot_id})
    if parent is not None:
        reference(element, "parent", f"disks/{disk.id}/disksnapshots", parent)
    reference(element, "storage_domain", "storagedomains", disk.storage_domain_id)
    return element
