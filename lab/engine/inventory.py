# SPDX-License-Identifier: GPL-3.0-or-later
"""The world a lab starts with: one data center, one cluster, one host, two file domains, networks, and the guests."""

import asyncio
import uuid
from collections.abc import Sequence
from pathlib import Path

from lab.engine.core import Core
from lab.engine.nics import NicCommands
from lab.engine.people import grant
from lab.engine.principals import (
    EVERYONE_GROUP_ID,
    PREDEFINED_ROLES,
    SUPER_USER_ROLE_ID,
    SYSTEM_ID,
    USER_PROFILE_EDITOR_ROLE_ID,
    Group,
    User,
)
from lab.engine.state import (
    GIB,
    ROOT_TAG_ID,
    Attachment,
    Cluster,
    DataCenter,
    Disk,
    Host,
    Network,
    Nic,
    State,
    StorageDomain,
    Tag,
    Vm,
    VnicProfile,
)
from lab.guests import GuestDisk, GuestMachine, GuestSpec, build_guest_disk, guest_machines, guest_spec

DOMAIN_CAPACITY = 512 * GIB
BUILDERS = 2


# Who has which role on which machine; office is a group.
PEOPLE_OF = {
    "web-01": (("oscar", "UserVmManager"), ("nadia", "UserRole")),
    "db-01": (("nadia", "UserVmManager"),),
    "files-01": (("nadia", "UserVmManager"), ("office", "UserVmManager")),
    "mail-01": (("office", "UserRole"),),
}


def new_id() -> str:
    return str(uuid.uuid4())


def build_state(directory: Path, compat: tuple[int, int], user: User) -> State:
    """Everything but the VMs."""
    state = State()
    center = DataCenter(new_id(), "Default", "The default Data Center")
    cluster = Cluster(new_id(), "Default", center.id, compat, "The default server cluster")
    host = Host(new_id(), "host-01", "host-01.lab.example", cluster.id, new_id(), 64 * GIB)
    state.data_centers[center.id] = center
    state.clusters[cluster.id] = cluster
    state.hosts[host.id] = host
    people_of(state, user)
    state.tags[ROOT_TAG_ID] = Tag(ROOT_TAG_ID, "root", "root", None)
    for number, name in enumerate(("data-01", "data-02"), 1):
        domain_id = new_id()
        path = directory / "storage" / domain_id
        path.mkdir(parents=True)
        state.storage_domains[domain_id] = StorageDomain(
            id=domain_id,
            name=name,
            data_center_id=center.id,
            directory=path,
            address="storage.lab.example",
            path=f"/exports/{name}",
            capacity=DOMAIN_CAPACITY,
            master=number == 1,
            description=f"Data domain {number}",
        )
    for name, vlan, text in (("ovirtmgmt", None, "Management Network"), ("office", 20, "Office network")):
        network = Network(new_id(), name, center.id, text, vlan)
        profile = VnicProfile(new_id(), name, network.id)
        state.networks[network.id] = network
        state.vnic_profiles[profile.id] = profile
    return state


def people_of(state: State, account: User) -> None:
    """The directory `account` belongs to, and who of it is in the engine: petra and the auditors are not yet."""
    office = Group(new_id(), "office", account.domain)
    state.directory_groups = [office, Group(new_id(), "auditors", account.domain)]
    named = (("oscar", "Oscar", "Olsen"), ("nadia", "Nadia", "Novak"), ("petra", "Petra", "Peeters"))
    users = [
        User(
            id=new_id(),
            user_name=f"{login}@{account.domain}",
            principal=login,
            domain=account.domain,
            first_name=first,
            last_name=last,
            email=f"{login}@lab.example",
            group_ids=(office.id,) if login != "oscar" else (),
        )
        for login, first, last in named
    ]
    state.directory_users = [account, *users]
    state.users = {user.id: user for user in (account, *users[:2])}
    everyone = Group(EVERYONE_GROUP_ID, "Everyone", "")
    state.groups = {group.id: group for group in (everyone, office)}
    state.roles = {role.id: role for role in PREDEFINED_ROLES}
    grant(state, SUPER_USER_ROLE_ID, account.id, "system", SYSTEM_ID)
    grant(state, USER_PROFILE_EDITOR_ROLE_ID, EVERYONE_GROUP_ID, "system", SYSTEM_ID)


class GuestBuilder:
    """Makes VMs with real disks of the guests' definitions. Each VM keeps all its disks on one domain."""

    def __init__(self, core: Core, nics: NicCommands, profile: str) -> None:
        self._core = core
        self._nics = nics
        self._profile = profile
        self._slots = asyncio.Semaphore(BUILDERS)

    async def build(self) -> list[tuple[Vm, GuestMachine]]:
        """All machines, still down. Raises CommandFailed."""
        machines = guest_machines(self._profile)
        vms = await asyncio.gather(*(self._machine(machine, i) for i, machine in enumerate(machines)))
        for vm, machine in zip(vms, machines, strict=True):
            self._core.state.vms[vm.id] = vm
            self._tag(vm, machine)
            self._network(vm, machine)
            self._people(vm)
        return list(zip(vms, machines, strict=True))

    async def _machine(self, machine: GuestMachine, number: int) -> Vm:
        state = self._core.state
        vm = Vm(
            id=new_id(),
            name=machine.name,
            cluster_id=next(iter(state.clusters)),
            created=self._core.clock.now(),
            snapshot_id=new_id(),
            memory=machine.memory,
            max_memory=4 * machine.memory,
            memory_guaranteed=machine.memory,
            sockets=machine.cpus,
            description=machine.description,
        )
        domain = list(state.storage_domains.values())[number % 2]
        for planned in machine.disks:
            disk_id, image_id = new_id(), new_id()
            path = domain.directory / disk_id / image_id
            async with self._slots:
                built = await build_guest_disk(
                    planned.kind, path, self._core.processes, profile=self._profile
                )
            disk = Disk(
                id=disk_id,
                alias=planned.alias,
                format=built.format,
                provisioned_size=built.virtual_size,
                sparse=built.sparse,
                storage_domain_id=domain.id,
                image_id=image_id,
                path=path,
                created=self._core.clock.now(),
                description=planned.description,
                backup="incremental" if built.format == "cow" else "none",
            )
            state.disks[disk.id] = disk
            state.attachments.append(Attachment(vm.id, disk.id, "virtio_scsi", planned.bootable, True))
            if planned.writer:
                vm.guest = self._guest(vm, machine, disk.id, built)
        return vm

    def _guest(self, vm: Vm, machine: GuestMachine, disk_id: str, built: GuestDisk) -> GuestSpec | None:
        journal = self._core.directory / "journals" / f"{machine.name}.jsonl"
        journal.parent.mkdir(exist_ok=True)
        return guest_spec(machine, disk_id, built, journal)

    def _tag(self, vm: Vm, machine: GuestMachine) -> None:
        tags = self._core.state.tags
        for name in machine.tags:
            tag = next((t for t in tags.values() if t.name == name), None)
            if tag is None:
                tag = Tag(new_id(), name)
                tags[tag.id] = tag
            vm.tag_ids.add(tag.id)

    def _people(self, vm: Vm) -> None:
        state = self._core.state
        users = {user.principal: user.id for user in state.users.values()}
        groups = {group.name: group.id for group in state.groups.values()}
        roles = {role.name: role.id for role in state.roles.values()}
        for name, role in PEOPLE_OF.get(vm.name, ()):
            principal_id = users.get(name) or groups[name]
            grant(state, roles[role], principal_id, "vm", vm.id)

    def _network(self, vm: Vm, machine: GuestMachine) -> None:
        """One NIC on the management network; office machines have a second one."""
        state = self._core.state
        profiles: Sequence[VnicProfile] = list(state.vnic_profiles.values())
        wanted = profiles if "office" in machine.tags else profiles[:1]
        for number, profile in enumerate(wanted, 1):
            nic = Nic(new_id(), vm.id, f"nic{number}", self._nics.next_mac(), profile.id)
            state.nics[nic.id] = nic
