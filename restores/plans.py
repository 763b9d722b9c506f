# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore to a new VM will do, said before it is done: a value with a hash.

Made from what the portal knows (no page waits for a Manager); the job checks again on the Manager itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from backups.models import RestorePoint
from backups.store.errors import StoreError
from portal import wording
from portal.environments.models import VirtualMachine
from portal.ovirt.new_vm import MAX_VM_NAME
from restores.people import PlannedPerson, PlannedRight, people_of, rights_of, teams_of

# Names that ovirt-engine accepts for a VM (inferred from its I18N_NAME_PATTERN: no spaces at the ends, no quotes).
_NAME = re.compile(r"[\w.+\-][\w.+\- ]*", re.UNICODE)


# Storage where a thin disk is a volume that has to be made large enough before data is written (reference 4.6).
BLOCK_STORAGE = ("iscsi", "fcp")


@dataclass(frozen=True)
class PlannedDisk:
    """One disk to be made anew. `digest` proves equality afterwards (docs/store-format.md)."""

    disk_id: str
    alias: str
    size_bytes: int
    format: str
    sparse: bool
    bootable: bool
    digest: str


@dataclass(frozen=True)
class RestorePlan:
    """`people`, `teams` and `rights` are whose rights the new machine will have, on the Manager and here; none without
    `same_people`. `blockers` and `notes` are sentences; with a blocker nothing can be started."""

    point: str
    environment: str
    name: str
    cluster_id: str
    cluster_name: str
    storage_domain_id: str
    storage_domain_name: str
    storage_kind: str
    network_plugged: bool
    new_macs: bool
    disks: tuple[PlannedDisk, ...]
    nics: tuple[str, ...]
    excluded_disks: tuple[str, ...]
    same_people: bool
    people: tuple[PlannedPerson, ...]
    teams: tuple[str, ...]
    rights: tuple[PlannedRight, ...]
    blockers: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def hash(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def total_bytes(self) -> int:
        return sum(disk.size_bytes for disk in self.disks)

    def as_json(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data


def suggested_name(point: RestorePoint) -> str:
    """A free name, derived from the VM's."""
    base = re.sub(r"[^\w.+\-]", "-", point.vm_name)[: MAX_VM_NAME - 16] or "restored"
    taken = set(
        VirtualMachine.objects.present()
        .filter(environment=point.vm.environment, name__startswith=f"{base}-restored")
        .values_list("name", flat=True)
    )
    names = [f"{base}-restored", *(f"{base}-restored-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


def plan_new_vm(
    point: RestorePoint,
    *,
    name: str,
    cluster_id: str = "",
    storage_domain_id: str = "",
    network_plugged: bool = False,
    new_macs: bool = True,
    same_people: bool = True,
) -> RestorePlan:
    """The plan for this point with these wishes. Empty ids mean: as before, else the first that fits."""
    environment = point.vm.environment
    blockers: list[str] = []
    notes: list[str] = []
    document = _manifest(point, blockers)
    name = name.strip()
    blockers += _name_problems(point, name)
    cluster = _pick_cluster(environment.clusters, cluster_id, document)
    domain = _pick_domain(environment.storage_domains, storage_domain_id, cluster, document)
    if cluster is None:
        blockers.append(
            "The Manager has no cluster that the machine could be created in. Refresh the inventory."
        )
    if domain is None:
        blockers.append("No active data storage domain is known in that cluster's data center.")
    disks = _planned_disks(document)
    available = domain.get("available_bytes") if domain else None
    if domain and available is not None:
        whole = sum(disk.size_bytes for disk in disks if takes_its_whole_size(disk, domain["kind"]))
        if whole > available:
            blockers.append(
                f"The storage domain has {wording.size(available)} free; disks that take their whole size need "
                f"{wording.size(whole)}. Choose another storage domain."
            )
        elif sum(disk.size_bytes for disk in disks) > available:
            notes.append(
                "The disks' full virtual size is more than the storage domain has free; thin disks will fit only "
                "if their data does."
            )
    if domain and domain["kind"] in BLOCK_STORAGE and any(disk.format == "raw" for disk in disks):
        notes.append("Raw disks take their whole size on block storage.")
    if not new_macs and VirtualMachine.objects.present().filter(pk=point.vm.pk).exists():
        blockers.append("The MAC addresses are still used by the original machine. Choose new ones.")
    if network_plugged and not new_macs:
        notes.append("The network will be plugged with the original MAC addresses.")
    if point.verify_problem:
        blockers.append(f"The last verification of this restore point found damage: {point.verify_problem}")
    return RestorePlan(
        point=str(point.uuid),
        environment=str(environment.uuid),
        name=name,
        cluster_id=cluster["cluster_id"] if cluster else "",
        cluster_name=cluster["name"] if cluster else "",
        storage_domain_id=domain["domain_id"] if domain else "",
        storage_domain_name=domain["name"] if domain else "",
        storage_kind=domain["kind"] if domain else "",
        network_plugged=network_plugged,
        new_macs=new_macs,
        disks=disks,
        nics=tuple(nic["name"] for nic in document.get("nics", ())),
        excluded_disks=tuple(disk["alias"] for disk in document.get("excluded_disks", ())),
        same_people=same_people,
        people=people_of(point.vm) if same_people else (),
        teams=teams_of(point.vm) if same_people else (),
        rights=rights_of(point.vm) if same_people else (),
        blockers=tuple(blockers),
        notes=tuple(notes),
    )


def takes_its_whole_size(disk: PlannedDisk, storage_kind: str) -> bool:
    """Preallocated, as every raw disk on block storage is."""
    return not disk.sparse or (disk.format == "raw" and storage_kind in BLOCK_STORAGE)


def _manifest(point: RestorePoint, blockers: list[str]) -> dict[str, Any]:
    if point.deleted_at is not None:
        blockers.append("This restore point was deleted.")
        return {}
    try:
        document = point.open().manifest
        _require_shape(document)
    except StoreError as error:
        blockers.append(str(error))
        return {}
    except (KeyError, TypeError, AttributeError) as error:
        blockers.append(
            f"The manifest of this restore point does not describe the machine ({type(error).__name__})."
        )
        return {}
    return document


def _require_shape(document: dict[str, Any]) -> None:
    """The store checks what it relies on itself; the rest of a manifest may be anything, and is looked at here.

    Raises KeyError, TypeError or AttributeError.
    """
    _planned_disks({"indexes": document["indexes"], "disks": document["disks"]})
    [disk.get("storage_domain_id") for disk in document["disks"]]
    [nic["name"] for nic in document["nics"]]
    [disk["alias"] for disk in document["excluded_disks"]]
    document["machine"].get("cluster_id")


def _name_problems(point: RestorePoint, name: str) -> list[str]:
    if not name:
        return ["The new machine needs a name."]
    if len(name) > MAX_VM_NAME:
        return [f"The name is longer than {MAX_VM_NAME} characters."]
    if not _NAME.fullmatch(name):
        return ["The name may hold letters, digits, spaces and . _ + - only."]
    if VirtualMachine.objects.present().filter(environment=point.vm.environment, name=name).exists():
        return [f"A machine called {name} exists already. Choose another name."]
    return []


def _pick_cluster(
    clusters: list[dict[str, Any]], wanted: str, document: dict[str, Any]
) -> dict[str, Any] | None:
    if wanted:
        return next((item for item in clusters if item["cluster_id"] == wanted), None)
    before = document.get("machine", {}).get("cluster_id")
    return next(
        (item for item in clusters if item["cluster_id"] == before), clusters[0] if clusters else None
    )


def _pick_domain(
    domains: list[dict[str, Any]],
    wanted: str,
    cluster: dict[str, Any] | None,
    document: dict[str, Any],
) -> dict[str, Any] | None:
    """As before if possible; never a backup storage domain, whose disks cannot be run (reference 7.1)."""
    usable = usable_domains(domains, cluster)
    if wanted:
        return next((item for item in usable if item["domain_id"] == wanted), None)
    before = {disk.get("storage_domain_id") for disk in document.get("disks", ())}
    return next((item for item in usable if item["domain_id"] in before), usable[0] if usable else None)


def usable_domains(domains: list[dict[str, Any]], cluster: dict[str, Any] | None) -> list[dict[str, Any]]:
    if cluster is None:
        return []
    return [
        item
        for item in domains
        if item["data_center_id"] == cluster["data_center_id"]
        and item["status"] == "active"
        and not item["is_backup"]
    ]


def _planned_disks(document: dict[str, Any]) -> tuple[PlannedDisk, ...]:
    return tuple(
        _planned(disk, document["indexes"][disk["disk_id"]]["digest"]) for disk in document.get("disks", ())
    )


def _planned(disk: dict[str, Any], digest: str) -> PlannedDisk:
    return PlannedDisk(
        disk_id=disk["disk_id"],
        alias=disk["alias"],
        size_bytes=disk["size_bytes"],
        format=disk["format"],
        sparse=disk["sparse"],
        bootable=disk["bootable"],
        digest=digest,
    )
