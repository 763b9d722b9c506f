# SPDX-License-Identifier: GPL-3.0-or-later
"""The hybrid flow of a backup (compatibility level 4.7 and above): a snapshot instead of scratch disks.

Source: ovirt-engine bll …/storage/backup/HybridBackupCommand.java. The snapshot's volumes are read while the VM goes on
in new ones, in which the new checkpoint's bitmap begins; at the end they are merged."""

from lab.engine.core import Core
from lab.engine.snapshots import SnapshotCommands
from lab.engine.state import Backup, Disk, Vm
from lab.hypervisor import HypervisorError
from lab.processes import CommandFailed

DESCRIPTION = "Auto-generated for Backup VM"
LEVEL = (4, 7)


class HybridFlow:
    def __init__(self, core: Core, snapshots: SnapshotCommands) -> None:
        self._core = core
        self._snapshots = snapshots

    async def take(self, vm: Vm, backup: Backup, disks: list[Disk]) -> None:
        """Raises HypervisorError or CommandFailed; nothing is left then."""
        snapshot = self._snapshots.record(vm, DESCRIPTION, disks)
        backup.snapshot_id = vm.snapshot_in_work = snapshot.id
        try:
            await self._snapshots.at("creation", vm, snapshot)
            await self._snapshots.take(vm, snapshot, disks, backup.planned_checkpoint_id)
        except (HypervisorError, CommandFailed):
            self._snapshots.drop_failed(vm, snapshot)
            backup.snapshot_id = None
            raise
        finally:
            vm.snapshot_in_work = None
        snapshot.status = "ok"

    async def merge(self, vm: Vm, backup: Backup) -> bool:
        """False if the snapshot is still there; that does not make the backup a failed one."""
        snapshot = self._core.state.snapshots.get(backup.snapshot_id or "")
        if snapshot is None:
            return True
        snapshot.status, vm.snapshot_in_work = "locked", snapshot.id
        try:
            await self._snapshots.merge(vm, snapshot)
        except (HypervisorError, CommandFailed):
            snapshot.status = "ok"
            text = (
                "Possible failure while removing a snapshot that was generated automatically during backup of VM "
                f"'{vm.name}'. The snapshot may be removed manually"
            )
            self._core.events.add(10813, text, "warning", vm_id=vm.id)
            return False
        finally:
            vm.snapshot_in_work = None
        return True
