# SPDX-License-Identifier: GPL-3.0-or-later
"""All that must be captured of a VM at backup time because it cannot be got later (design, data path)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ovirtsdk4 as sdk
from ovirtsdk4 import types, writer

from portal.ovirt.errors import ManagerAnswerUnreadable, calling
from portal.ovirt.inventory import DiskFacts, VmFacts, disk_facts, vm_facts


@dataclass(frozen=True)
class NicFacts:
    nic_id: str
    name: str
    mac: str
    interface: str
    plugged: bool
    linked: bool
    profile_id: str
    profile_name: str
    network_name: str


@dataclass(frozen=True)
class VmConfig:
    """`ovf` and `vm_xml` are stored as files; the rest goes into the manifest."""

    facts: VmFacts
    ovf: bytes
    vm_xml: bytes
    cluster_name: str
    nics: tuple[NicFacts, ...]
    permissions: tuple[dict[str, str], ...]
    affinity_labels: tuple[str, ...]
    quota_id: str
    agent_reported: bool
    manager_version: str
    manager_time: str


def read_vm(connection: sdk.Connection, vm_id: str) -> VmConfig:
    """The VM now, with its OVF. Raises ManagerObjectMissing, ManagerAnswerUnreadable, ManagerError."""
    system = connection.system_service()
    service = system.vms_service().vm_service(vm_id)
    with calling("describe the machine"):
        vm = service.get(all_content=True)
        attachments = service.disk_attachments_service().list(follow="disk")
        tags = service.tags_service().list()
        nics = service.nics_service().list()
        permissions = service.permissions_service().list()
        labels = service.affinity_labels_service().list()
        cluster = connection.follow_link(vm.cluster) if vm.cluster else None
        api = system.get()
    version = f"{cluster.version.major}.{cluster.version.minor}" if cluster and cluster.version else ""
    vm.disk_attachments, vm.tags = attachments, tags
    return VmConfig(
        facts=vm_facts(vm, {cluster.id: version} if cluster else {}),
        ovf=_ovf(vm),
        vm_xml=_as_xml(vm),
        cluster_name=cluster.name if cluster else "",
        nics=_nics(system, nics),
        permissions=tuple(_permission(item) for item in permissions),
        affinity_labels=tuple(label.name for label in labels if label.name),
        quota_id=vm.quota.id if vm.quota and vm.quota.id else "",
        agent_reported=bool(vm.guest_operating_system or vm.fqdn),
        manager_version=api.product_info.version.full_version or "" if api.product_info else "",
        manager_time=api.time.isoformat() if api.time else "",
    )


def read_disks(connection: sdk.Connection, vm_id: str) -> list[DiskFacts]:
    with calling("list the machine's disks"):
        service = connection.system_service().vms_service().vm_service(vm_id)
        return [disk_facts(item) for item in service.disk_attachments_service().list(follow="disk")]


def _ovf(vm: Any) -> bytes:
    configuration = vm.initialization.configuration if vm.initialization else None
    if configuration is None or not configuration.data:
        raise ManagerAnswerUnreadable(
            "The Manager described the machine without its OVF, so nothing was backed up.",
            hint="Give the portal's account the right to see the machine's full configuration.",
        )
    return str(configuration.data).encode()


def _as_xml(vm: types.Vm) -> bytes:
    """The API's own representation, without the OVF (stored beside it) and the followed collections."""
    initialization, vm.initialization = vm.initialization, None
    attachments, vm.disk_attachments = vm.disk_attachments, None
    try:
        return writer.Writer.write(vm, indent=True).encode()
    finally:
        vm.initialization, vm.disk_attachments = initialization, attachments


def _nics(system: Any, nics: list[Any]) -> tuple[NicFacts, ...]:
    names: dict[str, tuple[str, str]] = {}
    if any(nic.vnic_profile for nic in nics):
        with calling("list the networks"):
            networks = {item.id: item.name for item in system.networks_service().list()}
            for profile in system.vnic_profiles_service().list():
                network = networks.get(profile.network.id, "") if profile.network else ""
                names[profile.id] = (profile.name or "", network)
    found = []
    for nic in nics:
        profile_id = nic.vnic_profile.id if nic.vnic_profile else ""
        profile_name, network_name = names.get(profile_id, ("", ""))
        found.append(
            NicFacts(
                nic_id=nic.id,
                name=nic.name or "",
                mac=(nic.mac.address or "") if nic.mac else "",
                interface=getattr(nic.interface, "value", "") or "",
                plugged=bool(nic.plugged),
                linked=nic.linked is not False,
                profile_id=profile_id,
                profile_name=profile_name,
                network_name=network_name,
            )
        )
    return tuple(found)


def _permission(item: Any) -> dict[str, str]:
    fact = {"role_id": item.role.id if item.role else ""}
    if item.user:
        fact["user_id"] = item.user.id
    if item.group:
        fact["group_id"] = item.group.id
    return fact
