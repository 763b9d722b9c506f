# SPDX-License-Identifier: GPL-3.0-or-later
"""Posted XML turned into the engine's requests. Unknown elements are ignored, as the API does."""

import xml.etree.ElementTree as ET

from lab.api.xmlio import choice_of, flag_of, id_of, int_of, text_of, uuid_text
from lab.engine.attachments import AttachmentRequest
from lab.engine.backups import BackupRequest
from lab.engine.disks import DiskRequest
from lab.engine.faults import EngineFault
from lab.engine.nics import NicRequest
from lab.engine.snapshots import SnapshotRequest
from lab.engine.transfers import TransferRequest
from lab.engine.vms import VmRequest

CONTENT_TYPES = (
    "data",
    "iso",
    "ovf_store",
    "memory_dump_volume",
    "memory_metadata_volume",
    "backup_scratch",
    "hosted_engine",
    "hosted_engine_sanlock",
    "hosted_engine_metadata",
    "hosted_engine_configuration",
)
MAX_MEMORY = 64 << 40


def disk_request(element: ET.Element) -> DiskRequest:
    """Raises EngineFault (400)."""
    domain = element.find("storage_domains/storage_domain")
    if domain is None:
        domain = element.find("storage_domain")
    image_id = text_of(element, "image_id")
    return DiskRequest(
        id=id_of(element, "."),
        image_id=uuid_text(image_id) if image_id else None,
        alias=text_of(element, "alias") or text_of(element, "name"),
        description=text_of(element, "description"),
        format=choice_of(element, "format", ("raw", "cow")),
        provisioned_size=int_of(element, "provisioned_size"),
        sparse=flag_of(element, "sparse"),
        backup=choice_of(element, "backup", ("none", "incremental")),
        content_type=choice_of(element, "content_type", CONTENT_TYPES),
        shareable=flag_of(element, "shareable"),
        wipe_after_delete=flag_of(element, "wipe_after_delete"),
        propagate_errors=flag_of(element, "propagate_errors"),
        initial_size=int_of(element, "initial_size"),
        storage_domain_id=id_of(domain, "."),
        storage_domain_name=text_of(domain, "name"),
    )


def attachment_request(element: ET.Element) -> AttachmentRequest:
    """Raises EngineFault (400)."""
    return AttachmentRequest(
        interface=choice_of(element, "interface", ("virtio", "virtio_scsi", "ide", "sata", "spapr_vscsi")),
        bootable=flag_of(element, "bootable"),
        active=flag_of(element, "active"),
        read_only=flag_of(element, "read_only"),
        pass_discard=flag_of(element, "pass_discard"),
    )


def nic_request(element: ET.Element) -> NicRequest:
    """An empty `<vnic_profile/>` means no profile. Raises EngineFault (400)."""
    profile = element.find("vnic_profile")
    profile_id = None if profile is None else (id_of(profile, ".") or "")
    return NicRequest(
        name=text_of(element, "name"),
        mac=text_of(element, "mac/address"),
        interface=choice_of(element, "interface", ("virtio", "e1000", "rtl8139")),
        linked=flag_of(element, "linked"),
        plugged=flag_of(element, "plugged"),
        vnic_profile_id=profile_id,
    )


def vm_request(element: ET.Element) -> VmRequest:
    """Raises EngineFault (400)."""
    memory = int_of(element, "memory")
    if memory is not None and not 0 < memory <= MAX_MEMORY:
        raise EngineFault(400, "[Cannot add VM. Memory size is out of range.]")
    return VmRequest(
        name=text_of(element, "name") or None,
        description=text_of(element, "description"),
        comment=text_of(element, "comment"),
        memory=memory,
        max_memory=int_of(element, "memory_policy/max"),
        memory_guaranteed=int_of(element, "memory_policy/guaranteed"),
        sockets=int_of(element, "cpu/topology/sockets"),
        cores=int_of(element, "cpu/topology/cores"),
        threads=int_of(element, "cpu/topology/threads"),
        os_type=text_of(element, "os/type") or None,
        vm_type=choice_of(element, "type", ("desktop", "server", "high_performance")),
        stateless=flag_of(element, "stateless"),
        delete_protected=flag_of(element, "delete_protected"),
        cluster_id=id_of(element, "cluster"),
        cluster_name=text_of(element, "cluster/name"),
        template_id=id_of(element, "template"),
        template_name=text_of(element, "template/name"),
        custom_version=_custom_version(element),
    )


def snapshot_request(element: ET.Element) -> SnapshotRequest:
    """Memory is saved unless the client says no. Raises EngineFault (400)."""
    persist = flag_of(element, "persist_memorystate")
    wanted = element.find("disk_attachments")
    disks = [] if wanted is None else wanted.findall("disk_attachment/disk")
    return SnapshotRequest(
        description=text_of(element, "description") or None,
        persist_memory=True if persist is None else persist,
        disk_ids=tuple(d for disk in disks if (d := id_of(disk, ".")) is not None) or None,
    )


def _custom_version(element: ET.Element) -> tuple[int, ...] | None:
    """Empty for an element without numbers, which takes the level away (VmMapper). Raises EngineFault (400)."""
    version = element.find("custom_compatibility_version")
    if version is None:
        return None
    major, minor = int_of(version, "major"), int_of(version, "minor")
    if major is None or minor is None:
        return ()
    return (major, minor)


def backup_request(element: ET.Element) -> BackupRequest:
    """Raises EngineFault; a posted LUN disk is an internal error, as in the engine."""
    disks = element.findall("disks/disk")
    if any(disk.find("lun_storage") is not None for disk in disks):
        raise EngineFault(500, "[Internal Engine Error]")
    from_checkpoint = text_of(element, "from_checkpoint_id")
    return BackupRequest(
        id=id_of(element, "."),
        description=text_of(element, "description") or "",
        from_checkpoint_id=uuid_text(from_checkpoint) if from_checkpoint else None,
        disk_ids=tuple(disk_id for disk in disks if (disk_id := id_of(disk, ".")) is not None),
    )


def transfer_request(element: ET.Element) -> TransferRequest:
    """`<image id>` is the old name of the disk. Raises EngineFault (400)."""
    return TransferRequest(
        disk_id=id_of(element, "disk") or id_of(element, "image"),
        snapshot_id=id_of(element, "snapshot"),
        backup_id=id_of(element, "backup"),
        direction=choice_of(element, "direction", ("upload", "download")) or "upload",
        format=choice_of(element, "format", ("raw", "cow")),
        shallow=bool(flag_of(element, "shallow")),
        inactivity_timeout=int_of(element, "inactivity_timeout"),
        timeout_policy=choice_of(element, "timeout_policy", ("legacy", "pause", "cancel")) or "legacy",
        host_id=id_of(element, "host"),
    )
