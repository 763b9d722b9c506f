# SPDX-License-Identifier: GPL-3.0-or-later
"""A published restore point of two small disks in a real repository, without a Manager."""

import uuid
from typing import Any

from backups.models import Repository
from backups.store import ChunkWriter, StoredPoint
from portal.environments.models import VirtualMachine
from tests.store.support import MIB, content_of

OVF = b'<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1/"/>'


def disk_of(alias: str, *, bootable: bool = False, **changes: Any) -> dict[str, Any]:
    """What a manifest says of one disk."""
    return {
        "disk_id": str(uuid.uuid4()),
        "alias": alias,
        "size_bytes": 2 * MIB,
        "actual_bytes": MIB,
        "format": "cow",
        "sparse": True,
        "storage_type": "image",
        "content_type": "data",
        "storage_domain_id": "s1",
        "interface": "virtio_scsi",
        "bootable": bootable,
        "active": True,
        "shareable": False,
        "read_only": False,
        "incremental_enabled": True,
        "wipe_after_delete": False,
        "mode": "full",
        "reason": "Full, because this is the first backup.",
        "bytes_read": MIB,
        "bytes_stored": MIB // 2,
        "dirty_bytes": None,
        "chunks_new": 2,
        **changes,
    }


def manifest_of(vm: VirtualMachine, disks: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """The caller's part of a manifest, as backups.methods.manifest.build makes it."""
    return {
        "kind": "restore-point",
        "environment_name": vm.environment.name,
        "machine": {"id": str(vm.manager_id), "name": vm.name, "status": "up", "cluster_id": "c1"},
        "taken_at": "2026-01-02T03:04:05+00:00",
        "method": "incremental",
        "mode": "full",
        "reason": "Full, because this is the first backup.",
        "checkpoint_id": str(uuid.uuid4()),
        "from_checkpoint_id": None,
        "consistency": {"level": "crash", "evidence": "No agent."},
        "disks": disks,
        "excluded_disks": [{"disk_id": str(uuid.uuid4()), "alias": "lun", "reason": "it is a lun disk"}],
        "nics": [{"name": "nic1", "mac": "56:6f:00:00:00:01"}],
        "bytes_read": sum(disk["bytes_read"] for disk in disks),
        "bytes_stored": sum(disk["bytes_stored"] for disk in disks),
        "dirty_bytes": None,
        "duration_seconds": 1.5,
        **changes,
    }


def publish(repository: Repository, vm: VirtualMachine, **changes: Any) -> StoredPoint:
    """`changes` are keys of the manifest."""
    store = repository.open()
    disks = changes.pop("disks", None) or [disk_of("system", bootable=True), disk_of("data")]
    staged = store.stage_point(vm.environment.uuid, vm.manager_id, uuid.uuid4())
    with ChunkWriter(store.chunks) as writer:
        for seed, disk in enumerate(disks):
            index = staged.disk_index(disk["disk_id"], disk["size_bytes"], MIB)
            content = content_of(disk["size_bytes"], seed=seed)
            for number in index.missing():
                writer.add(index, number, memoryview(content)[number * MIB : (number + 1) * MIB])
    staged.write_text("vm.ovf", OVF)
    return staged.publish(manifest_of(vm, disks, **changes), still_owner=lambda: True)
