# SPDX-License-Identifier: GPL-3.0-or-later
"""Ending what an unfinished backup has open on the Manager: transfers, the backup, its snapshot, its checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import ovirtsdk4 as sdk
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import Q

from backups.models import RestorePoint
from portal.environments.models import VirtualMachine
from portal.errors import PortalError
from portal.jobs import services as jobs
from portal.jobs.context import JobContext
from portal.jobs.models import Job, JobQuerySet
from portal.jobs.states import FINISHED
from portal.ovirt import image_transfer, snapshots, vm_backup, vm_config

_DESCRIPTION = re.compile(r"Backup portal, job ([0-9a-f-]{36})(?:, point [0-9a-f-]{36})?")
# What a backup job remembers of things on the Manager, for as long as they are there.
_LEFT = {"backup_id": "backup", "snapshot_id": "snapshot", "to_checkpoint_id": "checkpoint"}


def description(job: Job, point_id: str) -> str:
    """What stands on each backup on the Manager: whose it is, and different for each one started."""
    return f"Backup portal, job {job.uuid}, point {point_id}"


def named(memory: Mapping[str, Any]) -> str:
    """What a job has left on the Manager, like `backup 1234…, snapshot 5678…`, or an empty text."""
    if not any(memory.get(key) for key in ("backup_id", "snapshot_id")):
        return ""
    return ", ".join(f"{word} {memory[key]}" for key, word in _LEFT.items() if memory.get(key))


def jobs_with_leftovers() -> JobQuerySet:
    """Ended backups that left something on a Manager: it stands in their memory until it is gone."""
    left = Q(resume_state__has_key="backup_id") | Q(resume_state__has_key="snapshot_id")
    return Job.objects.finished().filter(left, kind="vm_backup")


class Leftovers:
    """Whatever was begun for backups of one VM. All of it is safe to repeat; raises PortalError."""

    def __init__(self, context: JobContext, vm: VirtualMachine, connection: sdk.Connection) -> None:
        self._context = context
        self._vm = vm
        self._vm_id = str(vm.manager_id)
        self._connection = connection

    def started_as(self, known: str) -> str:
        """The id of this job's backup on the Manager, which may have chosen one itself while the answer was lost."""
        found = vm_backup.find_backup(
            self._connection,
            vm_id=self._vm_id,
            backup_id=known,
            description=description(self._context.job, self._context.memory["point"]),
        )
        if found is None or found == known:
            return known
        self._context.remember(backup_id=found)
        return found

    def end_orphans(self) -> None:
        """Backups that ended jobs of this portal left open block the machine; they are ended first (trap 9).

        So is one of this very job whose order was only carried out after its answer was given up.
        """
        for orphan in vm_backup.open_backups(self._connection, vm_id=self._vm_id):
            found = _DESCRIPTION.fullmatch(orphan.description)
            job = self._ended_job(found.group(1)) if found else None
            if job is not None:
                self._context.tell(f"Ending backup {orphan.backup_id}, which an earlier job left open.")
                self.end_backup(orphan.backup_id, job.resume_state)

    def end_recorded(self) -> list[PortalError]:
        """What ended jobs could not clean up; forgotten by them when it is gone. Returns what went wrong."""
        problems = []
        for job in jobs_with_leftovers().filter(vm=self._vm).order_by("id"):
            try:
                self.end_remembered(job.resume_state)
            except PortalError as error:
                self._context.tell(
                    f"{named(job.resume_state)} of an earlier job is still left: {error.message}",
                    level="warning",
                )
                problems.append(error)
                continue
            self._context.tell(f"Cleaned up after an earlier job: {named(job.resume_state)}.")
            gone = [str(job.resume_state[key]) for key in _LEFT if job.resume_state.get(key)]
            memory = {key: value for key, value in job.resume_state.items() if key not in _LEFT}
            Job.objects.filter(pk=job.pk, state__in=FINISHED).update(resume_state=memory)
            jobs.settle_warnings(job, gone=gone)
        return problems

    def end_remembered(self, memory: Mapping[str, Any]) -> None:
        if memory.get("backup_id"):
            self.end_backup(memory["backup_id"], memory)
        elif memory.get("snapshot_id"):
            self.remove_snapshot(memory["snapshot_id"])

    def end_backup(self, backup_id: str, memory: Mapping[str, Any]) -> None:
        """End a backup whose data is not kept; its checkpoint goes too, so that nothing ever starts from it.

        `memory` is that of the job which began it.
        """
        if memory.get("backup_id") != backup_id:
            memory = {}
        self._end_transfers(set((memory.get("transfers") or {}).values()) | self._strays_of(backup_id))
        state = vm_backup.backup_state(self._connection, vm_id=self._vm_id, backup_id=backup_id)
        snapshot_id = (state.snapshot_id if state else None) or memory.get("snapshot_id")
        ending = vm_backup.end_backup(
            self._connection,
            vm_id=self._vm_id,
            backup_id=backup_id,
            pause=self._context.pause,
            timeout_seconds=settings.MANAGER_MERGE_TIMEOUT if snapshot_id else settings.MANAGER_PHASE_TIMEOUT,
        )
        last = vm_backup.backup_state(self._connection, vm_id=self._vm_id, backup_id=backup_id) or state
        snapshot_id = (last.snapshot_id if last else None) or snapshot_id
        if snapshot_id:
            self.remove_snapshot(snapshot_id)
        new = (last.to_checkpoint_id if last else None) or memory.get("to_checkpoint_id")
        # A checkpoint that a restore point stands on is not this backup's to remove, whatever a job remembers.
        if new and ending != "failed" and not RestorePoint.objects.filter(checkpoint_id=new).exists():
            self.remove_checkpoint(new)

    def remove_snapshot(self, snapshot_id: str) -> None:
        """The automatic snapshot, if the Manager has left it (trap 27)."""
        snapshots.remove_automatic(
            self._connection,
            vm_id=self._vm_id,
            snapshot_id=snapshot_id,
            pause=self._context.pause,
            busy_seconds=settings.MANAGER_BUSY_TIMEOUT,
            merge_seconds=settings.MANAGER_MERGE_TIMEOUT,
        )

    def remove_checkpoint(self, checkpoint_id: str) -> None:
        vm_backup.remove_checkpoint(
            self._connection,
            vm_id=self._vm_id,
            checkpoint_id=checkpoint_id,
            pause=self._context.pause,
            timeout_seconds=settings.MANAGER_PHASE_TIMEOUT,
        )

    def end_strays(self, backup_id: str) -> None:
        """Transfers of an open backup that nobody remembers; it cannot end before they have."""
        self._end_transfers(self._strays_of(backup_id))

    def _strays_of(self, backup_id: str) -> set[str]:
        """Open downloads of the machine's disks, but only while this backup is open: then they can only be its own."""
        state = vm_backup.backup_state(self._connection, vm_id=self._vm_id, backup_id=backup_id)
        if state is None or state.phase in vm_backup.FINAL:
            return set()
        disk_ids = [disk.disk_id for disk in vm_config.read_disks(self._connection, self._vm_id)]
        return set(image_transfer.open_transfers_of(self._connection, disk_ids, direction="download"))

    def _end_transfers(self, transfer_ids: set[str]) -> None:
        """Those that a job remembers, and those whose id died with a worker."""
        for transfer_id in sorted(transfer_ids):
            image_transfer.end_transfer(
                self._connection,
                transfer_id,
                pause=self._context.pause,
                timeout_seconds=settings.MANAGER_PHASE_TIMEOUT,
            )

    def _ended_job(self, job_id: str) -> Job | None:
        """That job, if it is one on this VM that has ended, or this very one; others' backups are never touched."""
        try:
            job = Job.objects.filter(vm=self._vm, uuid=job_id).first()
        except ValidationError:
            return None
        if job is not None and job.pk == self._context.job.pk:
            return self._context.job
        return job if job is not None and job.is_finished else None
