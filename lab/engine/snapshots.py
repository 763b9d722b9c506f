# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of VMs: those that a client asks for, and those that a hybrid backup takes for itself.

Source: ovirt-engine bll …/snapshots/{CreateSnapshotForVm,RemoveSnapshot}Command.java. Memory is never saved: asking for
it only marks the snapshot (the lab's guests have none)."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from lab.engine.core import Core, volume_of
from lab.engine.faults import EntityMissing, incomplete, locked_disks, refused
from lab.engine.ovf import ovf_of
from lab.engine.state import Disk, FrozenVolume, Snapshot, Vm
from lab.hypervisor import HypervisorError
from lab.processes import CommandFailed

CREATE = "create Snapshot"
REMOVE = "remove Snapshot"
DURING_BACKUP = "The VM is during a backup operation."
RUNNING_OPERATION = (
    "The VM is performing an operation on a Snapshot. Please wait for the operation to finish, and try again."
)


@dataclass(frozen=True)
class SnapshotRequest:
    """`disk_ids` None = all that can be. `persist_memory` is true when the client does not say."""

    description: str | None
    persist_memory: bool
    disk_ids: tuple[str, ...] | None


class SnapshotCommands:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._creating: set[str] = set()
        """Ids of VMs of which a client's snapshot is being taken."""

    def get(self, vm: Vm, snapshot_id: str) -> Snapshot | None:
        """None for the active one. Raises EntityMissing."""
        if snapshot_id == vm.snapshot_id:
            return None
        snapshot = self._core.state.snapshots.get(snapshot_id)
        if snapshot is None or snapshot.vm_id != vm.id:
            raise EntityMissing(snapshot_id)
        return snapshot

    def add(self, vm: Vm, request: SnapshotRequest) -> Snapshot:
        """Check and begin; `locked` until it is taken. Raises EngineFault."""
        if not request.description:
            raise incomplete("Snapshot", "description")
        disks = self._disks(vm, request.disk_ids)
        if vm.backup_id is not None or vm.hybrid_backup_id is not None:
            raise refused(CREATE, DURING_BACKUP)
        if vm.id in self._creating:
            # The lock of the other creation; it is asked for before the VM's snapshots are looked at.
            raise refused(CREATE, f"Snapshot is currently being created for VM {vm.name}.")
        if vm.snapshot_in_work is not None:
            raise refused(CREATE, RUNNING_OPERATION)
        if vm.status not in ("up", "down", "paused"):
            raise refused(CREATE, "The Virtual Machine should be in Up or Down status.")
        locked = [disk.alias for disk in disks if disk.status == "locked"]
        if locked:
            raise locked_disks(CREATE, locked)
        snapshot = self.record(vm, request.description, disks, persist_memory=request.persist_memory)
        vm.snapshot_in_work = snapshot.id
        self._creating.add(vm.id)
        self._event(vm, snapshot, 45, "Snapshot '{s}' creation for VM '{v}' was initiated by {u}.")
        self._core.spawn(self._add(vm, snapshot, disks), f"snapshot {snapshot.id}")
        return snapshot

    def _disks(self, vm: Vm, wanted: tuple[str, ...] | None) -> list[Disk]:
        """Shareable disks are left out without a word, unless they are named."""
        attached = {
            a.disk_id: self._core.state.disks[a.disk_id] for a in self._core.state.attachments_of_vm(vm.id)
        }
        if wanted is None:
            return [disk for disk in attached.values() if not disk.shareable]
        strangers = [disk_id for disk_id in wanted if disk_id not in attached]
        if strangers:
            # Wording inferred.
            text = f"The following disk(s) are not attached to VM {vm.name}: {', '.join(strangers)}."
            raise refused(CREATE, text, 400)
        shared = [attached[disk_id].alias for disk_id in wanted if attached[disk_id].shareable]
        if shared:
            text = f"Snapshot is not allowed for the following disk(s): {', '.join(sorted(shared))}."
            raise refused(CREATE, text, 400)
        return [attached[disk_id] for disk_id in dict.fromkeys(wanted)]

    def record(
        self, vm: Vm, description: str, disks: list[Disk], *, persist_memory: bool = False
    ) -> Snapshot:
        """The snapshot as the API shows it from now on; nothing has been taken yet."""
        core = self._core
        level = ".".join(str(part) for part in core.level_of(vm))
        user_id = next(iter(core.state.users))
        snapshot = Snapshot(
            id=str(uuid.uuid4()),
            vm_id=vm.id,
            description=description,
            created=core.clock.now(),
            disk_ids=[disk.id for disk in disks],
            ovf=ovf_of(vm, core.state, core.clock.now(), compat=level, user_id=user_id),
            persist_memory=persist_memory and vm.status == "up",
        )
        core.state.snapshots[snapshot.id] = snapshot
        return snapshot

    async def _add(self, vm: Vm, snapshot: Snapshot, disks: list[Disk]) -> None:
        for disk in disks:
            disk.status = "locked"
        try:
            with self._core.jobs.running(f"Creating VM Snapshot {snapshot.description} for VM {vm.name}"):
                await self._core.clock.pause(2)
                await self.at("creation", vm, snapshot)
                await self.take(vm, snapshot, disks)
                await self._core.clock.pause(1)
        except (HypervisorError, CommandFailed):
            self.drop_failed(vm, snapshot)
            return
        finally:
            for disk in disks:
                disk.status = "ok"
            vm.snapshot_in_work = None
            self._creating.discard(vm.id)
        snapshot.status = "ok"
        self._event(vm, snapshot, 68, "Snapshot '{s}' creation for VM '{v}' has been completed.")

    def drop_failed(self, vm: Vm, snapshot: Snapshot) -> None:
        """The engine drops the record and gives its id to the active snapshot, where a client then finds it."""
        self._core.state.snapshots.pop(snapshot.id, None)
        vm.snapshot_id = snapshot.id
        self._event(vm, snapshot, 69, "Failed to complete snapshot '{s}' creation for VM '{v}'.", "error")

    async def at(self, phase: str, vm: Vm, snapshot: Snapshot) -> None:
        """Where a fault may hold a creation or a merge, or end it. Raises HypervisorError."""
        fail = HypervisorError(f"{phase} was made to fail")
        names = (snapshot.id, snapshot.description, vm.id, vm.name, *snapshot.disk_ids)
        await self._core.faults.at("snapshot", phase, fail, *names)

    async def take(
        self, vm: Vm, snapshot: Snapshot, disks: list[Disk], new_bitmap: str | None = None
    ) -> None:
        """New active volumes, at one moment; `new_bitmap` begins in them. Raises HypervisorError, nothing changed."""
        now = self._core.clock.now()
        plans: list[tuple[Disk, FrozenVolume, str]] = []
        for disk in disks:
            frozen = FrozenVolume(disk.image_id, disk.path, disk.format, disk.sparse, snapshot.id, now)
            plans.append((disk, frozen, str(uuid.uuid4())))
        volumes = []
        for disk, _, image_id in plans:
            # Named before it exists; taken back if the hypervisor refuses.
            older = volume_of(disk)
            volumes.append(
                type(older)(
                    disk_id=disk.id,
                    volume_id=image_id,
                    path=disk.path.with_name(image_id),
                    format="cow",
                    virtual_size=disk.provisioned_size,
                    sparse=True,
                    below=older.chain,
                )
            )
        await self._core.hypervisor.take_snapshot(vm.id, volumes, new_bitmap)
        for (disk, frozen, image_id), volume in zip(plans, volumes, strict=True):
            disk.below.append(frozen)
            disk.image_id, disk.path, disk.format, disk.sparse = image_id, volume.path, "cow", True

    def remove(self, vm: Vm, snapshot: Snapshot) -> None:
        """Start the merge. Raises EngineFault."""
        if vm.backup_id is not None or vm.hybrid_backup_id is not None:
            raise refused(REMOVE, DURING_BACKUP)
        if vm.snapshot_in_work is not None:
            raise refused(REMOVE, "Related operation is currently in progress. Please try again later.")
        if vm.status not in ("up", "down"):
            raise refused(REMOVE, "The Virtual Machine should be in Up or Down status.")
        for disk_id in snapshot.disk_ids:
            if self._core.state.open_transfers_of_disk(disk_id):
                alias = self._core.state.disks[disk_id].alias
                raise refused(REMOVE, f"Disk {alias} is being transferred.")
        vm.snapshot_in_work = snapshot.id
        snapshot.status = "locked"
        text = "Snapshot '{s}' deletion for VM '{v}' was initiated by {u}."
        self._event(vm, snapshot, 342, text)
        self._core.spawn(self._remove(vm, snapshot), f"remove snapshot {snapshot.id}")

    async def _remove(self, vm: Vm, snapshot: Snapshot) -> None:
        try:
            with self._core.jobs.running(f"Removing Snapshot {snapshot.description} of VM {vm.name}"):
                await self._core.clock.pause(2)
                await self.merge(vm, snapshot)
        except (HypervisorError, CommandFailed):
            snapshot.status = "ok"
            text = "Failed to delete snapshot '{s}' for VM '{v}'."
            self._event(vm, snapshot, 357, text, "error")
        else:
            self._event(vm, snapshot, 356, "Snapshot '{s}' for VM '{v}' has been deleted.")
        finally:
            vm.snapshot_in_work = None

    async def merge(self, vm: Vm, snapshot: Snapshot) -> None:
        """Merge what was written since the snapshot into its volumes; the snapshot is gone then.

        Raises HypervisorError; disks that are done by then stay so, and the snapshot is still there."""
        await self.at("merge", vm, snapshot)
        for disk_id in snapshot.disk_ids:
            disk = self._core.state.disks.get(disk_id)
            if disk is not None:
                await self._merge(vm, disk, snapshot.id)
        self._core.state.snapshots.pop(snapshot.id, None)

    async def _merge(self, vm: Vm, disk: Disk, snapshot_id: str) -> None:
        at = next((n for n, layer in enumerate(disk.below) if layer.snapshot_id == snapshot_id), None)
        if at is None:
            return
        before = volume_of(disk)
        undo = self._without(disk, at)
        try:
            await self._core.hypervisor.merge_snapshot(vm.id, before, at, volume_of(disk))
        except BaseException:
            undo()
            raise

    def _without(self, disk: Disk, at: int) -> Callable[[], None]:
        """Let the disk be as after the merge of the volume above `at` into that one; returns what takes it back."""
        was = (disk.image_id, disk.path, disk.format, disk.sparse, list(disk.below))
        layer = disk.below[at]
        if at + 1 == len(disk.below):
            disk.below.pop()
            disk.image_id, disk.path, disk.format, disk.sparse = (
                layer.image_id,
                layer.path,
                layer.format,
                layer.sparse,
            )
        else:
            upper = disk.below[at + 1]
            merged = FrozenVolume(
                layer.image_id, layer.path, layer.format, layer.sparse, upper.snapshot_id, upper.created
            )
            disk.below[at : at + 2] = [merged]

        def undo() -> None:
            disk.image_id, disk.path, disk.format, disk.sparse, disk.below = was

        return undo

    def _event(self, vm: Vm, snapshot: Snapshot, code: int, text: str, severity: str = "normal") -> None:
        words = text.replace("{s}", snapshot.description).replace("{v}", vm.name)
        self._core.events.add(code, words.replace("{u}", self._core.events.user_name), severity, vm_id=vm.id)
