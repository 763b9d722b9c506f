# SPDX-License-Identifier: GPL-3.0-or-later
"""Ending what an unfinished backup has open on the Manager: transfers, the backup, its checkpoint."""

from __future__ import annotations

import ovirtsdk4 as sdk
from django.conf import settings
from django.core.exceptions import ValidationError

from portal.environments.models import VirtualMachine
from portal.jobs.context import JobContext
from portal.jobs.models import Job
from portal.ovirt import image_transfer, vm_backup, vm_config

# Stands on each backup on the Manager, followed by the job's uuid.
DESCRIPTION = "Backup portal, job "


class Leftovers:
    """Whatever was begun for backups of one VM. All of it is safe to repeat; raises PortalError."""

    def __init__(self, context: JobContext, vm: VirtualMachine, connection: sdk.Connection) -> None:
        self._context = context
        self._vm = vm
        self._vm_id = str(vm.manager_id)
        self._connection = connection

    def end_orphans(self) -> None:
        """Backups that ended jobs of this portal left open block the machine; they are ended first (trap 9)."""
        for orphan in vm_backup.open_backups(self._connection, vm_id=self._vm_id):
            job_id = orphan.description.removeprefix(DESCRIPTION)
            if job_id != orphan.description and self._has_ended(job_id):
                self._context.tell(f"Ending backup {orphan.backup_id}, which an earlier job left open.")
                self.end_backup(orphan.backup_id)

    def end_backup(self, backup_id: str) -> None:
        """End a backup whose data is not kept; its checkpoint goes too, so that nothing ever starts from it."""
        self._end_transfers(self._strays_of(backup_id))
        state = vm_backup.backup_state(self._connection, vm_id=self._vm_id, backup_id=backup_id)
        ending = vm_backup.end_backup(
            self._connection,
            vm_id=self._vm_id,
            backup_id=backup_id,
            pause=self._context.pause,
            timeout_seconds=settings.MANAGER_PHASE_TIMEOUT,
        )
        last = vm_backup.backup_state(self._connection, vm_id=self._vm_id, backup_id=backup_id) or state
        new = last.to_checkpoint_id if last else None
        if backup_id == self._context.memory.get("backup_id"):
            new = new or self._context.memory.get("to_checkpoint_id")
        if new and ending != "failed":
            self.remove_checkpoint(new)

    def remove_checkpoint(self, checkpoint_id: str) -> None:
        vm_backup.remove_checkpoint(
            self._connection,
            vm_id=self._vm_id,
            checkpoint_id=checkpoint_id,
            pause=self._context.pause,
            timeout_seconds=settings.MANAGER_PHASE_TIMEOUT,
        )

    def _strays_of(self, backup_id: str) -> set[str]:
        """Open downloads of the machine's disks, but only while this backup is open: then they can only be its own."""
        state = vm_backup.backup_state(self._connection, vm_id=self._vm_id, backup_id=backup_id)
        if state is None or state.phase in vm_backup.FINAL:
            return set()
        disk_ids = [disk.disk_id for disk in vm_config.read_disks(self._connection, self._vm_id)]
        return set(image_transfer.open_transfers_of(self._connection, disk_ids, direction="download"))

    def _end_transfers(self, strays: set[str]) -> None:
        """Those we remember, and those whose id died with a worker."""
        known = set((self._context.memory.get("transfers") or {}).values())
        for transfer_id in sorted(known | strays):
            image_transfer.end_transfer(
                self._connection,
                transfer_id,
                pause=self._context.pause,
                timeout_seconds=settings.MANAGER_PHASE_TIMEOUT,
            )

    def _has_ended(self, job_id: str) -> bool:
        """Whether that is a job on this VM that has ended; others' backups are never touched."""
        try:
            return Job.objects.finished().filter(vm=self._vm, uuid=job_id).exists()
        except ValidationError:
            return False
