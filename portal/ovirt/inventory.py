# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Manager has: virtual machines with their disks, clusters, storage domains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ovirtsdk4 as sdk

from portal.ovirt.enums import text_of
from portal.ovirt.errors import ManagerAnswerUnreadable, calling

_PAGE = 200
_OF_MACHINES = "disk_attachments.disk,tags"


@dataclass(frozen=True)
class DiskFacts:
    """A disk as attached to a VM. Sizes in bytes; `format` is cow or raw."""

    disk_id: str
    alias: str
    size_bytes: int
    actual_bytes: int
    format: str
    sparse: bool
    storage_type: str
    content_type: str
    storage_domain_id: str
    interface: str
    bootable: bool
    active: bool
    shareable: bool
    read_only: bool
    incremental_enabled: bool
    wipe_after_delete: bool
    logical_name: str = ""
    description: str = ""


@dataclass(frozen=True)
class VmFacts:
    vm_id: str
    name: str
    description: str
    status: str
    cluster_id: str
    compatibility: str
    memory_bytes: int
    cpu_cores: int
    os_type: str
    tags: tuple[str, ...]
    disks: tuple[DiskFacts, ...]


@dataclass(frozen=True)
class ClusterFacts:
    cluster_id: str
    name: str
    version: str
    data_center_id: str


@dataclass(frozen=True)
class StorageDomainFacts:
    """A data domain attached to a data center; sizes in bytes, None when the Manager does not say."""

    domain_id: str
    name: str
    kind: str
    status: str
    data_center_id: str
    available_bytes: int | None
    used_bytes: int | None
    is_backup: bool


@dataclass(frozen=True)
class Inventory:
    product: str
    version: str
    vms: tuple[VmFacts, ...]
    clusters: tuple[ClusterFacts, ...]
    storage_domains: tuple[StorageDomainFacts, ...]
    domain_names: dict[str, str] = field(default_factory=dict)


def read_inventory(connection: sdk.Connection) -> Inventory:
    """Everything the pages show of a Manager, in a handful of requests. Raises ManagerError."""
    system = connection.system_service()
    with calling("list what it has"):
        api = system.get()
        clusters = tuple(_cluster(item) for item in system.clusters_service().list())
        domains = _storage_domains(system)
        versions = {cluster.cluster_id: cluster.version for cluster in clusters}
        vms = tuple(vm_facts(item, versions) for item in all_vms(system, follow=_OF_MACHINES))
    product = api.product_info
    return Inventory(
        product=(product.name or "") if product else "",
        version=(product.version.full_version or "") if product and product.version else "",
        vms=vms,
        clusters=clusters,
        storage_domains=domains,
        domain_names={domain.domain_id: domain.name for domain in domains},
    )


def all_vms(system: Any, *, follow: str) -> list[Any]:
    """Page by page: `max` alone would cut a long list silently (reference 1.4)."""
    service = system.vms_service()
    found: list[Any] = []
    page = 1
    while True:
        batch = service.list(search=f"sortby name asc page {page}", max=_PAGE, follow=follow)
        found += batch
        if len(batch) < _PAGE:
            return found
        page += 1


def read_machine(connection: sdk.Connection, clusters: list[dict[str, Any]], vm_id: str) -> VmFacts:
    """One machine; `clusters` as an Inventory's, as dictionaries. Raises ManagerError."""
    versions = {cluster["cluster_id"]: cluster["version"] for cluster in clusters}
    with calling("tell about a machine"):
        service = connection.system_service().vms_service().vm_service(vm_id)
        return vm_facts(service.get(follow=_OF_MACHINES), versions)


def _cluster(item: Any) -> ClusterFacts:
    version = f"{item.version.major}.{item.version.minor}" if item.version else ""
    center = item.data_center.id if item.data_center else ""
    return ClusterFacts(item.id, item.name, version, center)


def storage_domains(connection: sdk.Connection) -> tuple[StorageDomainFacts, ...]:
    """All attached data domains. Raises ManagerError."""
    with calling("list its storage domains"):
        return _storage_domains(connection.system_service())


def _storage_domains(system: Any) -> tuple[StorageDomainFacts, ...]:
    """Through the data centers: only there an attached domain has a status (reference 2.7)."""
    found = []
    centers = system.data_centers_service()
    for center in centers.list():
        for item in centers.data_center_service(center.id).storage_domains_service().list():
            if item.type != sdk.types.StorageDomainType.DATA:
                continue
            found.append(
                StorageDomainFacts(
                    domain_id=item.id,
                    name=item.name,
                    kind=text_of(item.storage.type) if item.storage else "",
                    status=text_of(item.status),
                    data_center_id=center.id,
                    available_bytes=item.available,
                    used_bytes=item.used,
                    is_backup=bool(item.backup),
                )
            )
    return tuple(found)


def vm_facts(vm: Any, cluster_versions: dict[str, str]) -> VmFacts:
    """Raises ManagerAnswerUnreadable when the essential parts are missing."""
    if not vm.id or not vm.name:
        raise ManagerAnswerUnreadable("The Manager listed a virtual machine without an id or a name.")
    cluster_id = vm.cluster.id if vm.cluster else ""
    custom = vm.custom_compatibility_version
    topology = vm.cpu.topology if vm.cpu else None
    cores = (topology.cores or 1) * (topology.sockets or 1) * (topology.threads or 1) if topology else 0
    return VmFacts(
        vm_id=vm.id,
        name=vm.name,
        description=vm.description or "",
        status=text_of(vm.status) or "unknown",
        cluster_id=cluster_id,
        compatibility=f"{custom.major}.{custom.minor}" if custom else cluster_versions.get(cluster_id, ""),
        memory_bytes=vm.memory or 0,
        cpu_cores=cores,
        os_type=(vm.os.type or "") if vm.os else "",
        tags=tuple(tag.name for tag in vm.tags or () if tag.name),
        disks=tuple(disk_facts(item) for item in vm.disk_attachments or ()),
    )


def disk_facts(attachment: Any) -> DiskFacts:
    """From a disk attachment whose disk was followed."""
    disk = attachment.disk
    if disk is None or not disk.id:
        raise ManagerAnswerUnreadable("The Manager listed a disk attachment without its disk.")
    domains = disk.storage_domains or []
    return DiskFacts(
        disk_id=disk.id,
        alias=disk.alias or disk.name or disk.id,
        size_bytes=disk.provisioned_size or 0,
        actual_bytes=disk.total_size or disk.actual_size or 0,
        format=text_of(disk.format),
        sparse=bool(disk.sparse),
        storage_type=text_of(disk.storage_type),
        content_type=text_of(disk.content_type),
        storage_domain_id=domains[0].id if domains else "",
        interface=text_of(attachment.interface),
        bootable=bool(attachment.bootable),
        active=attachment.active is not False,
        shareable=bool(disk.shareable),
        read_only=bool(attachment.read_only),
        incremental_enabled=text_of(disk.backup) == "incremental",
        wipe_after_delete=bool(disk.wipe_after_delete),
        logical_name=attachment.logical_name or "",
        description=disk.description or "",
    )


def excluded_because(*, storage_type: str, shareable: bool, active: bool) -> str:
    """Why the Manager leaves a disk out of backups, or an empty string (reference 3.2: silently dropped disks)."""
    if storage_type != "image":
        return f"it is a {storage_type} disk, which the Manager cannot back up"
    if shareable:
        return "it is shareable, which the Manager leaves out of backups"
    if not active:
        return "it is not active on the machine"
    return ""
