# SPDX-License-Identifier: GPL-3.0-or-later
"""Adding Managers and keeping what is known of their machines fresh."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from portal import addresses
from portal.addresses import NameNotResolved, Policy
from portal.audit import services as audit
from portal.environments import rules
from portal.environments.models import Disk, Environment, VirtualMachine
from portal.environments.people import people_unread, store_people
from portal.errors import NotAllowed, PortalError
from portal.ovirt import inventory
from portal.ovirt.connection import connect
from portal.ovirt.errors import ManagerError
from portal.ovirt.inventory import Inventory, VmFacts
from portal.ovirt.people import PersonFacts, read_people

log = logging.getLogger(__name__)


def add_environment(
    *,
    actor: Any,
    name: str,
    api_url: str,
    username: str,
    password: str,
    ca_pem: str,
    legacy_backups: bool = False,
    via: str = "page",
) -> Environment:
    """Try the connection, then store the Manager and its inventory. Platform admins only.

    Raises NotAllowed, AddressRefused or a ManagerError; nothing is stored then.
    """
    if not actor.is_platform_admin:
        raise NotAllowed("Only a platform admin may add a Manager.")
    _require_right_address(api_url)
    environment = Environment(
        name=name, api_url=api_url, username=username, ca_pem=ca_pem, legacy_backups=legacy_backups
    )
    environment.set_password(password)
    found = _read(environment)
    with transaction.atomic():
        environment.save()
        audit.record("environment.add", actor=actor, subject=environment, via=via, api_url=api_url)
        found.store(environment)
    environment.refresh_from_db()
    return environment


def _require_right_address(api_url: str) -> None:
    """A Manager is often in a private network or on this machine; refused is only what can never be one.

    Raises AddressRefused. A name without an address is left to the connection, which says so.
    """
    policy = Policy(private=True)
    target = addresses.parsed(api_url, policy)
    with suppress(NameNotResolved):
        addresses.resolved(target, policy)


def set_legacy_backups(*, actor: Any, environment: Environment, legacy: bool, via: str = "page") -> None:
    """Whether backups of its machines are asked for without the Manager's automatic snapshot. Platform admins only."""
    if not actor.is_platform_admin:
        raise NotAllowed("Only a platform admin may change how a Manager's machines are backed up.")
    with transaction.atomic():
        changed = Environment.objects.filter(pk=environment.pk, legacy_backups=not legacy).update(
            legacy_backups=legacy
        )
        if changed:
            audit.record(
                "environment.change",
                actor=actor,
                subject=environment,
                via=via,
                before={"legacy_backups": not legacy},
                after={"legacy_backups": legacy},
            )


def refresh_inventory(environment: Environment) -> None:
    """Ask the Manager and store the answer, or store why it could not be had. Raises the ManagerError again."""
    try:
        found = _read(environment)
    except PortalError as error:
        Environment.objects.filter(pk=environment.pk).update(problem=str(error))
        raise
    found.store(environment)


@dataclass(frozen=True)
class _Answer:
    """`people` is why they could not be had, where the Manager did not tell."""

    machines: Inventory
    people: tuple[PersonFacts, ...] | PortalError

    def store(self, environment: Environment) -> None:
        store_inventory(environment, self.machines)
        if isinstance(self.people, PortalError):
            people_unread(environment, self.people)
        else:
            store_people(environment, self.people)
        rules.apply_all(environment)


def _read(environment: Environment) -> _Answer:
    """Without its people where they cannot be had: an account that may not read rights still backs up."""
    people: tuple[PersonFacts, ...] | PortalError
    with connect(environment.address()) as connection:
        machines = inventory.read_inventory(connection)
        try:
            people = read_people(connection)
        except ManagerError as error:
            people = error
    return _Answer(machines, people)


def store_inventory(environment: Environment, found: Inventory) -> None:
    """Make the rows equal to what the Manager listed; VMs that it no longer lists are kept and marked gone."""
    now = timezone.now()
    clusters = {cluster.cluster_id: cluster.name for cluster in found.clusters}
    with transaction.atomic():
        Environment.objects.filter(pk=environment.pk).update(
            product=found.product,
            version=found.version,
            clusters=[asdict(cluster) for cluster in found.clusters],
            storage_domains=[asdict(domain) for domain in found.storage_domains],
            reached_at=now,
            refreshed_at=now,
            problem="",
        )
        for facts in found.vms:
            _store_vm(environment, facts, clusters.get(facts.cluster_id, ""), found.domain_names, now)
        listed = [facts.vm_id for facts in found.vms]
        VirtualMachine.objects.filter(environment=environment, gone_at=None).exclude(
            manager_id__in=listed
        ).update(gone_at=now, status="gone")


def store_machine(environment: Environment, facts: VmFacts) -> VirtualMachine:
    """One machine that the Manager told of, beside what was known of it in general."""
    clusters = {cluster["cluster_id"]: cluster["name"] for cluster in environment.clusters}
    domains = {domain["domain_id"]: domain["name"] for domain in environment.storage_domains}
    cluster_name = clusters.get(facts.cluster_id, "")
    with transaction.atomic():
        return _store_vm(environment, facts, cluster_name, domains, timezone.now())


def _store_vm(
    environment: Environment, facts: VmFacts, cluster_name: str, domain_names: dict[str, str], now: Any
) -> VirtualMachine:
    vm, _ = VirtualMachine.objects.update_or_create(
        environment=environment,
        manager_id=facts.vm_id,
        defaults={
            "name": facts.name,
            "description": facts.description,
            "status": facts.status,
            "cluster_name": cluster_name,
            "compatibility": facts.compatibility,
            "memory_bytes": facts.memory_bytes,
            "cpu_cores": facts.cpu_cores,
            "os_type": facts.os_type,
            "tags": list(facts.tags),
            "seen_at": now,
            "gone_at": None,
        },
    )
    for disk in facts.disks:
        Disk.objects.update_or_create(
            vm=vm,
            manager_id=disk.disk_id,
            defaults={
                "alias": disk.alias,
                "size_bytes": disk.size_bytes,
                "actual_bytes": disk.actual_bytes,
                "format": disk.format,
                "storage_type": disk.storage_type,
                "content_type": disk.content_type,
                "storage_domain_name": domain_names.get(disk.storage_domain_id, ""),
                "interface": disk.interface,
                "bootable": disk.bootable,
                "active": disk.active,
                "shareable": disk.shareable,
                "incremental_enabled": disk.incremental_enabled,
            },
        )
    vm.disks.exclude(manager_id__in=[disk.disk_id for disk in facts.disks]).delete()
    return vm
