# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints: records in the engine, bitmaps of the same id in the qcow2 volumes."""

from lab.engine.core import Core, volume_of
from lab.engine.faults import EntityMissing, locked_disks, refused
from lab.engine.state import Checkpoint, Vm
from lab.hypervisor import HypervisorError
from lab.processes import CommandFailed


class CheckpointCommands:
    def __init__(self, core: Core) -> None:
        self._core = core

    def get(self, checkpoint_id: str) -> Checkpoint:
        """By its own id alone; the VM in a path is not compared. Raises EntityMissing."""
        try:
            return self._core.state.checkpoints[checkpoint_id]
        except KeyError:
            raise EntityMissing(checkpoint_id) from None

    def remove(self, vm: Vm, checkpoint: Checkpoint) -> None:
        """Start the removal. Raises EngineFault."""
        action = "remove checkpoint"
        if vm.backup_id is not None or vm.hybrid_backup_id is not None:
            raise refused(action, "The VM is during a backup operation.")
        if vm.removing_checkpoint is not None:
            # The text of the lock of another removal.
            raise refused(action, "The VM is during a checkpoint removal operation.")
        disks = [self._core.state.disks[d] for d in checkpoint.disk_ids if d in self._core.state.disks]
        locked = [disk.alias for disk in disks if disk.status == "locked"]
        if locked:
            raise locked_disks(action, locked)
        if vm.status not in ("up", "paused", "down"):
            raise refused(action, "The Virtual Machine should be in Up or Down status.")
        vm.removing_checkpoint = checkpoint.id
        self._core.spawn(self._remove(vm, checkpoint), f"remove checkpoint {checkpoint.id}")

    async def _remove(self, vm: Vm, checkpoint: Checkpoint) -> None:
        was_down = vm.status == "down"
        if was_down:
            checkpoint.state = "invalid"
        name, user = vm.name, self._core.events.user_name
        try:
            with self._core.jobs.running(f"Removing checkpoint {checkpoint.id} of VM {name}"):
                await self._core.clock.pause(1)
                fail = HypervisorError("removal was made to fail")
                await self._core.faults.at("checkpoint", "removal", fail, checkpoint.id, vm.id, name)
                await self._remove_bitmaps(checkpoint)
        except (HypervisorError, CommandFailed):
            text = f"Failed to delete checkpoint {checkpoint.id} for VM {name} (User: {user})."
            self._core.events.add(10798, text, "error", vm_id=vm.id)
            return
        finally:
            vm.removing_checkpoint = None
        self._forget(checkpoint)
        text = f"Checkpoint {checkpoint.id} for VM {name} deleted (User: {user})."
        self._core.events.add(10797, text, vm_id=vm.id)

    async def _remove_bitmaps(self, checkpoint: Checkpoint) -> None:
        for disk_id in checkpoint.disk_ids:
            disk = self._core.state.disks.get(disk_id)
            if disk is not None:
                await self._core.hypervisor.remove_bitmap(volume_of(disk), checkpoint.id)

    def _forget(self, checkpoint: Checkpoint) -> None:
        for child in self._core.state.checkpoints_of_vm(checkpoint.vm_id):
            if child.parent_id == checkpoint.id:
                child.parent_id = checkpoint.parent_id
        self._core.state.checkpoints.pop(checkpoint.id, None)

    async def drop_all(self, vm: Vm) -> None:
        """Every checkpoint of the VM, after one of them proved broken; bitmaps that resist stay behind."""
        for checkpoint in self._core.state.checkpoints_of_vm(vm.id):
            try:
                await self._remove_bitmaps(checkpoint)
            except (HypervisorError, CommandFailed):
                pass
            self._forget(checkpoint)
