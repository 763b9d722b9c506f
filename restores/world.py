# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the world is still the one that a restore was planned for: asked by its job before it makes anything.

Between a plan and its job there may be hours of waiting; a repeated job brings the plan of the first.
"""

from __future__ import annotations

import ovirtsdk4 as sdk

from backups.store.chunks import zero_chunk_id
from backups.store.points import StoredPoint
from portal import wording
from portal.ovirt import inventory
from portal.ovirt.new_vm import NewDisk
from restores.errors import PlanBlocked, PlanChanged, StorageFull
from restores.models import Restore
from restores.plans import plan_new_vm

# Of the plan; the rest are wishes, which cannot change, and words.
DECISIONS = {
    "cluster_id": "the cluster",
    "storage_domain_id": "the storage domain",
    "storage_kind": "the storage domain's kind",
    "disks": "the restore point's disks",
    "nics": "the restore point's network cards",
}


def require_plan(restore: Restore) -> None:
    """Raises PlanBlocked or PlanChanged if the same wishes would not lead to the same plan today."""
    agreed = restore.plan
    now = plan_new_vm(
        restore.point,
        name=agreed["name"],
        cluster_id=agreed["cluster_id"],
        storage_domain_id=agreed["storage_domain_id"],
        network_plugged=agreed["network_plugged"],
        new_macs=agreed["new_macs"],
        same_people=agreed.get("same_people", False),
    )
    if now.blockers:
        raise PlanBlocked(
            f"The restore is no longer possible as it was planned: {now.blockers[0]} Nothing was made or changed.",
            hint="Open the restore point, read the new plan and start it.",
        )
    planned = now.as_json()
    changed = [words for key, words in DECISIONS.items() if planned[key] != agreed[key]]
    if changed:
        raise PlanChanged(
            f"Since this restore was planned, {changed[0]} changed. Nothing was made or changed.",
            hint="Open the restore point, read the new plan and start it.",
        )


def require_storage(connection: sdk.Connection, restore: Restore, needed_bytes: int) -> None:
    """On the Manager itself: the storage domain is there, active and has room. Raises PlanBlocked, StorageFull."""
    name, wanted = restore.plan["storage_domain_name"], restore.plan["storage_domain_id"]
    domain = next((item for item in inventory.storage_domains(connection) if item.domain_id == wanted), None)
    if domain is None or domain.status != "active":
        state = f"is {domain.status}" if domain else "is not on the Manager any more"
        raise PlanBlocked(
            f"The storage domain {name} {state}. Nothing was made or changed.",
            hint="Activate it, or open the restore point and choose another. If it is there and active, the portal's "
            "account on the Manager has lost the right to see it (docs/operations.md lists what it needs).",
        )
    if domain.available_bytes is not None and needed_bytes > domain.available_bytes:
        raise StorageFull(
            f"The storage domain {name} has {wording.size(domain.available_bytes)} free, but the restored disks "
            f"need {wording.size(needed_bytes)}. Nothing was made or changed.",
            hint="Free space on it, or open the restore point and choose another.",
        )


def data_bytes(stored: StoredPoint, source_id: str) -> int:
    """Bytes of the chunks of a stored disk that are not zero: what a thin disk will take, without its tables."""
    with stored.index(source_id) as index:
        zero = zero_chunk_id(index.chunk_size)
        data = sum(index.chunk_size for chunk_id in index if chunk_id != zero)
        return min(data, index.size_bytes)


def needed_bytes(stored: StoredPoint, disks: dict[str, NewDisk]) -> int:
    """What the disks will take at least; by the stored disk's id."""
    return sum(
        data_bytes(stored, source_id) if disk.sparse else disk.size_bytes for source_id, disk in disks.items()
    )
