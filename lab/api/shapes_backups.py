# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups, checkpoints and image transfers as XML."""

import xml.etree.ElementTree as ET

from lab.api.xmlio import actions, add, entity, links, reference
from lab.engine.state import Backup, Checkpoint, Transfer

API_PHASES = {
    "INITIALIZING": "initializing",
    "CREATING_SCRATCH_DISKS": "initializing",
    "ADDING_BITMAPS": "initializing",
    "WAITING_FOR_BITMAPS": "initializing",
    "STARTING": "starting",
    "READY": "ready",
    "FINALIZING": "finalizing",
    "REMOVING_SNAPSHOT": "finalizing",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
}


def backup_element(backup: Backup) -> ET.Element:
    path = f"vms/{backup.vm_id}/backups/{backup.id}"
    element = entity("backup", backup.id, path)
    add(element, "description", backup.description)
    add(element, "phase", API_PHASES[backup.stage])
    add(element, "creation_date", backup.created)
    add(element, "modification_date", backup.modified)
    add(element, "from_checkpoint_id", backup.from_checkpoint_id)
    add(element, "to_checkpoint_id", backup.to_checkpoint_id)
    reference(element, "host", "hosts", backup.host_id)
    if backup.snapshot_id is not None:
        ET.SubElement(element, "snapshot", {"id": backup.snapshot_id})
    reference(element, "vm", "vms", backup.vm_id)
    links(element, path, "disks")
    actions(element, path, "finalize")
    return element


def checkpoint_element(checkpoint: Checkpoint) -> ET.Element:
    path = f"vms/{checkpoint.vm_id}/checkpoints/{checkpoint.id}"
    element = entity("checkpoint", checkpoint.id, path)
    add(element, "description", checkpoint.description)
    add(element, "creation_date", checkpoint.created)
    add(element, "parent_id", checkpoint.parent_id)
    add(element, "state", checkpoint.state)
    reference(element, "vm", "vms", checkpoint.vm_id)
    links(element, path, "disks")
    return element


def transfer_element(transfer: Transfer) -> ET.Element:
    """The disk comes back as `image`; neither disk, backup nor snapshot do (reference: ImageTransferMapper)."""
    path = f"imagetransfers/{transfer.id}"
    element = entity("image_transfer", transfer.id, path)
    for tag in ("phase", "direction", "format", "active", "inactivity_timeout", "timeout_policy", "shallow"):
        add(element, tag, getattr(transfer, tag))
    for tag in ("transferred", "transfer_url", "proxy_url"):
        add(element, tag, getattr(transfer, tag))
    reference(element, "host", "hosts", transfer.host_id)
    ET.SubElement(element, "image", {"id": transfer.disk_id})
    actions(element, path, "cancel", "extend", "finalize", "pause", "resume")
    return element
