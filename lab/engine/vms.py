# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs: create, start, stop, remove."""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from lab.engine.core import Core, volume_of
from lab.engine.disks import DiskCommands
from lab.engine.faults import EngineFault, incomplete, locked_disks, not_found_by, refused
from lab.engine.state import COMPAT_LEVELS, GIB, Disk, Vm
from lab.hypervisor import HypervisorError
from lab.processes import CommandFailed

RUNNING = ("up", "paused", "powering_up", "wait_for_launch", "powering_down", "reboot_in_progress")
DURING_BACKUP = "The VM is during a backup operation."
WATCH_SECONDS = 5.0


@dataclass(frozen=True)
class VmRequest:
    """What a client says about a VM; None = not said. Memory in bytes.

    `custom_version` is major and minor; empty takes the VM's own compatibility level away."""

    name: str | None = None
    description: str | None = None
    comment: str | None = None
    memory: int | None = None
    max_memory: int | None = None
    memory_guaranteed: int | None = None
    sockets: int | None = None
    cores: int | None = None
    threads: int | None = None
    os_type: str | None = None
    vm_type: str | None = None
    stateless: bool | None = None
    delete_protected: bool | None = None
    cluster_id: str | None = None
    cluster_name: str | None = None
    template_id: str | None = None
    template_name: str | None = None
    custom_version: tuple[int, ...] | None = None

    def apply(self, vm: Vm) -> None:
        """Set on `vm` whatever was said, name and cluster apart."""
        for field in (
            "description",
            "comment",
            "memory",
            "max_memory",
            "memory_guaranteed",
            "sockets",
            "cores",
            "threads",
            "os_type",
            "vm_type",
            "stateless",
            "delete_protected",
        ):
            value = getattr(self, field)
            if value is not None:
                setattr(vm, field, value)
        self._apply_version(vm)
        vm.max_memory = max(vm.max_memory, vm.memory)
        vm.memory_guaranteed = min(vm.memory_guaranteed, vm.memory)

    def _apply_version(self, vm: Vm) -> None:
        """A level can be changed while the VM is down (VmBase: editable in status Down); else it waits for that as
        the configuration of the next run."""
        if self.custom_version is None:
            return
        version = next((level for level in COMPAT_LEVELS if level == self.custom_version), None)
        if vm.status == "down":
            vm.custom_version = version
        elif version != vm.custom_version:
            vm.next_version = (version,)


class VmCommands:
    def __init__(self, core: Core, disks: DiskCommands) -> None:
        self._core = core
        self._disks = disks
        self.on_power_loss: list[Callable[[Vm], Awaitable[None]]] = []
        """Called with a VM that is about to lose its process, or has lost it."""

    async def at(self, phase: str, vm: Vm) -> None:
        """Where a fault may hold what is done with a VM, or end it: a creation with an internal error, which takes the
        VM away again (inferred). Raises EngineFault."""
        try:
            fail = EngineFault(500, "[Internal Engine Error]")
            await self._core.faults.at("vm", phase, fail, vm.id, vm.name)
        except EngineFault:
            if phase == "creation":
                self._forget(vm)
            raise

    def cluster_of(self, request: VmRequest) -> str:
        """The id of the named cluster. Raises EngineFault."""
        clusters = self._core.state.clusters
        if request.cluster_id is not None:
            if request.cluster_id not in clusters:
                raise not_found_by("Cluster", f"id={request.cluster_id}")
            return request.cluster_id
        if request.cluster_name is None:
            raise incomplete("Vm", "cluster.id|name")
        for cluster in clusters.values():
            if cluster.name == request.cluster_name:
                return cluster.id
        raise not_found_by("Cluster", f"name={request.cluster_name}")

    def name_taken(self, name: str) -> bool:
        return any(vm.name == name for vm in self._core.state.vms.values())

    async def add_blank(self, request: VmRequest) -> Vm:
        """A VM from the Blank template. Raises EngineFault."""
        cluster_id = self.cluster_of(request)
        if not request.name:
            raise incomplete("Vm", "name")
        if request.template_id is None and request.template_name is None:
            raise incomplete("Vm", "template.id|name")
        if self.name_taken(request.name):
            raise refused("add VM", "VM with the same name already exists.")
        self._check_version("add VM", request)
        vm = Vm(
            id=str(uuid.uuid4()),
            name=request.name,
            cluster_id=cluster_id,
            created=self._core.clock.now(),
            snapshot_id=str(uuid.uuid4()),
            memory=request.memory or GIB,
        )
        request.apply(vm)
        self._core.state.vms[vm.id] = vm
        await self.at("creation", vm)
        self._core.events.add(34, f"VM {vm.name} was created by {self._core.events.user_name}.", vm_id=vm.id)
        return vm

    def update(self, vm: Vm, request: VmRequest) -> None:
        """Raises EngineFault."""
        if request.name and request.name != vm.name and self.name_taken(request.name):
            raise refused("edit VM", "VM with the same name already exists.")
        self._check_version("edit VM", request)
        vm.name = request.name or vm.name
        request.apply(vm)
        self._core.events.add(
            35, f"VM {vm.name} configuration was updated by {self._core.events.user_name}.", vm_id=vm.id
        )

    @staticmethod
    def _check_version(action: str, request: VmRequest) -> None:
        """The level must be one of the engine's (CommonVmPoolCommand and others: SupportedClusterLevels); the wording
        is inferred."""
        if request.custom_version and request.custom_version not in COMPAT_LEVELS:
            level = ".".join(str(part) for part in request.custom_version)
            raise refused(action, f"Custom compatibility version {level} is not supported.", 400)

    def active_disks(self, vm: Vm) -> list[Disk]:
        state = self._core.state
        return [state.disks[a.disk_id] for a in state.attachments_of_vm(vm.id) if a.active]

    def start(self, vm: Vm) -> None:
        """Start booting. Raises EngineFault; the VM is `up` some polls later."""
        if vm.status in RUNNING:
            raise refused("run VM", "VM is running.")
        if vm.backup_id is not None:
            raise refused("run VM", DURING_BACKUP)
        if vm.status != "down":
            raise EngineFault(409, "[Cannot run VM: VM is locked. Please try again in a few minutes.]")
        self._check_disks(vm, "run VM")
        vm.status = "wait_for_launch"
        self._core.spawn(self._start(vm), f"start VM {vm.name}")

    def _check_disks(self, vm: Vm, action: str) -> None:
        disks = self.active_disks(vm)
        locked = [
            d.alias for d in disks if d.status == "locked" or self._core.state.open_transfers_of_disk(d.id)
        ]
        if locked:
            raise locked_disks(action, locked)
        illegal = sorted(d.alias for d in disks if d.status == "illegal")
        if illegal:
            text = f"The following attached disks are in ILLEGAL status: {', '.join(illegal)}"
            raise refused(action, f"{text} - please remove them and try again.")

    async def _start(self, vm: Vm) -> None:
        host = self._core.host
        with self._core.jobs.running(f"Launching VM {vm.name}"):
            await self._core.clock.pause(1)
            if not await self.launch(vm):
                return
            vm.status = "powering_up"
            await self._core.clock.pause(2)
            vm.status = "up"
        user = self._core.events.user_name
        text = f"VM {vm.name} was started by {user} (Host: {host.name})."
        self._core.events.add(153, text, vm_id=vm.id, host_id=host.id)
        self._core.events.add(32, f"VM {vm.name} started on Host {host.name}", vm_id=vm.id, host_id=host.id)

    async def launch(self, vm: Vm) -> bool:
        """Start the processes of the VM; False, with an event and the VM down, if they refuse."""
        volumes = [volume_of(disk) for disk in self.active_disks(vm)]
        # A guest whose disk is not plugged has nothing to write to.
        here = vm.guest is not None and any(v.disk_id == vm.guest.writer_disk_id for v in volumes)
        try:
            await self.at("start", vm)
            await self._core.hypervisor.start_vm(vm.id, volumes, vm.guest if here else None)
        except (HypervisorError, CommandFailed, EngineFault) as error:
            vm.status = "down"
            text = f"VM {vm.name} is down with error. Exit message: {error}."
            self._core.events.add(119, text, "error", vm_id=vm.id)
            return False
        vm.host_id = self._core.host.id
        vm.start_time = self._core.clock.now()
        vm.current_disc = vm.disc
        return True

    def stop(self, vm: Vm, *, shutdown: bool, force: bool) -> None:
        """Power off, or ask the guest to shut down. Raises EngineFault."""
        action = "shutdown VM" if shutdown else "stop VM"
        if vm.status not in RUNNING:
            raise refused(action, "VM is not running.")
        if vm.backup_id is not None and not force:
            raise refused(action, DURING_BACKUP)
        vm.status = "powering_down"
        self._core.spawn(self._stop(vm, shutdown=shutdown), f"{action} {vm.name}")

    async def _stop(self, vm: Vm, *, shutdown: bool) -> None:
        host, user = self._core.host.name, self._core.events.user_name
        if shutdown:
            text = f"VM shutdown initiated by {user} on VM {vm.name} (Host: {host})."
            self._core.events.add(73, text, vm_id=vm.id)
        with self._core.jobs.running(f"{'Shutting down' if shutdown else 'Powering off'} VM {vm.name}"):
            await self._core.clock.pause(1)
            await self._lost_power(vm)
            await self._core.hypervisor.stop_vm(vm.id)
        self._is_down(vm)
        if not shutdown:
            self._core.events.add(33, f"VM {vm.name} powered off by {user} (Host: {host}).", vm_id=vm.id)
        message = "User shut down from within the guest" if shutdown else "Admin shut down from the engine"
        self._core.events.add(61, f"VM {vm.name} is down. Exit message: {message}", vm_id=vm.id)

    async def _lost_power(self, vm: Vm) -> None:
        for callback in self.on_power_loss:
            await callback(vm)

    def _is_down(self, vm: Vm) -> None:
        vm.status, vm.host_id, vm.stop_time = "down", None, self._core.clock.now()
        vm.current_disc = None
        if vm.next_version is not None:
            (vm.custom_version,), vm.next_version = vm.next_version, None

    async def watch(self) -> None:
        """Notice VMs whose process has died, for ever."""
        while True:
            await self._core.clock.pause(WATCH_SECONDS)
            for vm in list(self._core.state.vms.values()):
                if vm.status == "up" and not self._core.hypervisor.is_running(vm.id):
                    await self._lost_power(vm)
                    await self._core.hypervisor.stop_vm(vm.id, unclean=True)
                    self._is_down(vm)
                    text = (
                        f"VM {vm.name} is down with error. Exit message: Lost connection with qemu process."
                    )
                    self._core.events.add(119, text, "error", vm_id=vm.id)
                elif vm.status == "up" and self._core.hypervisor.is_paused(vm.id):
                    vm.status = "paused"
                    text = f"VM {vm.name} has been paused due to no Storage space error."
                    self._core.events.add(138, text, "error", vm_id=vm.id)

    def remove(self, vm: Vm, *, detach_only: bool) -> None:
        """Start the removal of a VM, with its disks unless `detach_only`. Raises EngineFault."""
        if vm.backup_id is not None or vm.hybrid_backup_id is not None:
            raise refused("remove VM", DURING_BACKUP)
        if vm.status in RUNNING:
            raise refused("remove VM", "VM is running.")
        if vm.status != "down":
            raise EngineFault(409, "[Cannot remove VM: VM is locked. Please try again in a few minutes.]")
        if vm.delete_protected:
            text = "Delete protection is enabled. In order to delete, disable Delete protection first."
            raise refused("remove VM", text)
        attached = [self._core.state.disks[a.disk_id] for a in self._core.state.attachments_of_vm(vm.id)]
        busy = [
            d.alias for d in attached if d.status == "locked" or self._core.state.open_transfers_of_disk(d.id)
        ]
        if busy:
            raise locked_disks("remove VM", busy)
        doomed = [] if detach_only else [disk for disk in attached if not disk.shareable]
        vm.status = "image_locked"
        for disk in doomed:
            disk.status = "locked"
        self._core.spawn(self._remove(vm, doomed), f"remove VM {vm.name}")

    async def _remove(self, vm: Vm, doomed: list[Disk]) -> None:
        with self._core.jobs.running(f"Removing VM {vm.name} from system"):
            await self._core.clock.pause(1)
            for disk in doomed:
                await self._disks.destroy(disk)
        self._forget(vm)
        self._core.events.add(113, f"VM {vm.name} was successfully removed.", vm_id=vm.id)

    def _forget(self, vm: Vm) -> None:
        state = self._core.state
        state.attachments = [a for a in state.attachments if a.vm_id != vm.id]
        for nic in state.nics_of_vm(vm.id):
            del state.nics[nic.id]
        for checkpoint in state.checkpoints_of_vm(vm.id):
            del state.checkpoints[checkpoint.id]
        for snapshot in state.snapshots_of_vm(vm.id):
            del state.snapshots[snapshot.id]
        state.forget_permissions_on(vm.id)
        del state.vms[vm.id]
