# SPDX-License-Identifier: GPL-3.0-or-later
"""Back up one VM by the Incremental Backup API (guide 3.2.5.1.1; reference section 3).

Read `run` from top to bottom: it is the procedure. Everything it makes on the Manager is written into the
job's memory before or as it comes to exist, so that another worker adopts it or ends it.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import ovirtsdk4 as sdk
from django.conf import settings

from backups import services
from backups.errors import BackupIncomplete
from backups.methods import manifest
from backups.methods.disks import read_disks
from backups.methods.leftovers import Leftovers, named
from backups.methods.starting import adopt, clean_up_to_start_anew, start
from backups.models import Repository, RestorePoint
from backups.store.errors import ClaimLost as StoreClaimLost
from backups.store.errors import PointNotFound, StoreError
from backups.store.points import StagedPoint
from backups.store.repository import Repository as Store
from portal.environments.models import VirtualMachine
from portal.errors import PortalError
from portal.jobs import runner
from portal.jobs.context import JobContext
from portal.jobs.errors import ClaimLost
from portal.ovirt import snapshots, vm_backup
from portal.ovirt.connection import Patience, connect
from portal.ovirt.vm_backup import BackupDisk, BackupFailed, BackupState, CheckpointUnusable

log = logging.getLogger(__name__)

# Own checkpoints kept on the Manager: the newest to continue from, and one to fall back on. Each costs the
# guest a little on every write.
KEPT_CHECKPOINTS = 2


def run(context: JobContext) -> None:
    vm = context.job.vm
    assert vm is not None
    repository = Repository.objects.get(uuid=context.params["repository"])
    try:
        try:
            store = repository.open()
            if _finish_published(context, repository, store, vm):
                return
        except StoreError as error:
            if not context.will_try_again(error):
                _end_without_store(context, vm)
            raise
        with connected(context, vm) as connection:
            _back_up(VmBackup(context, vm, repository, store, connection))
    except BaseException as error:
        left = named(context.memory)
        if left and not context.will_try_again(error):
            context.warn(
                f"Not everything could be cleaned up on the Manager: {left} of {vm.name} may be left. "
                "The portal tries again by itself once the Manager answers."
            )
        raise


def connected(context: JobContext, vm: VirtualMachine) -> AbstractContextManager[sdk.Connection]:
    """A connection to the machine's Manager that waits for it while it is restarted."""
    patience = Patience(settings.MANAGER_PATIENCE, context.pause, context.tell)
    return connect(vm.environment.address(), correlation_id=str(context.job.uuid), patience=patience)


def _end_without_store(context: JobContext, vm: VirtualMachine) -> None:
    """The repository is away for good: at least the Manager is left clean. Never hides the first error."""
    known = context.memory.get("backup_id")
    if not known:
        return
    try:
        with connected(context, vm) as connection, context.cleaning():
            leftovers = Leftovers(context, vm, connection)
            leftovers.end_backup(leftovers.started_as(known), context.memory)
            context.remember(backup_id=None, snapshot_id=None, to_checkpoint_id=None, transfers=None)
    except PortalError as error:
        log.warning("Clean-up without the repository: %s", error)


def _back_up(backup: VmBackup) -> None:
    context = backup.context
    try:
        if context.giving_up:
            raise runner.give_up(context)
        made = backup.make()
        with context.step("end", backup.title_of_the_end):
            trusted = backup.end()
        with context.step("publish", "Publishing the restore point") as step:
            point = backup.publish(made, trusted=trusted)
            step.detail = point.reason
    except BaseException as error:
        if not context.will_try_again(error):
            backup.clean_up()
            backup.drop_half_made()
        raise
    # The point is visible: from here on nothing makes the job anything but a success.
    with context.cleaning(), context.step("tidy", "Removing checkpoints that are no longer needed"):
        backup.remove_left_snapshot()
        backup.remove_old_checkpoints()


@dataclass(frozen=True)
class Made:
    """Everything of a backup that has been read: what is left is to end it and to publish the point."""

    state: BackupState
    staged: StagedPoint
    disks: list[BackupDisk]
    results: dict[str, dict[str, Any]]


def _finish_published(context: JobContext, repository: Repository, store: Store, vm: VirtualMachine) -> bool:
    """An earlier attempt may have died between the manifest and the row: then only the row is missing."""
    known = context.memory.get("point")
    if known is None:
        return False
    try:
        stored = store.open_point(vm.environment.uuid, vm.manager_id, known)
    except PointNotFound:
        return False
    _tell_result(context, services.record_point(repository, vm, stored, context.job))
    context.remember(backup_id=None, to_checkpoint_id=None)
    context.tell("The restore point had already been published by an earlier attempt.")
    return True


def _tell_result(context: JobContext, point: RestorePoint) -> None:
    context.write(
        result={
            "point": str(point.uuid),
            "point_url": point.get_absolute_url(),
            "mode": point.mode,
            "reason": point.reason,
            "bytes_read": point.bytes_read,
            "bytes_stored": point.bytes_stored,
            "dirty_bytes": point.dirty_bytes,
        }
    )


class VmBackup:
    """One backup of one VM: what is known of it, and the steps of the procedure."""

    def __init__(
        self,
        context: JobContext,
        vm: VirtualMachine,
        repository: Repository,
        store: Store,
        connection: sdk.Connection,
    ) -> None:
        self.context = context
        self.vm = vm
        self.vm_id = str(vm.manager_id)
        self.repository = repository
        self.store = store
        self.connection = connection
        self.leftovers = Leftovers(context, vm, connection)

    # --- starting ---------------------------------------------------------------------------------

    def make(self) -> Made:
        """Start a backup, or go on with the one of an earlier attempt, and read its disks.

        A checkpoint that proves broken is given up and the next older own one is taken, at last none: all in this
        job. Broken bitmaps show when the backup is started (live) or when a disk is opened (reference 3.9).
        """
        while True:
            try:
                with self.context.step("start", "Starting the backup on the Manager") as step:
                    state = adopt(self) or start(self)
                    step.detail = self.context.memory["reason"]
                return self._read(state)
            except CheckpointUnusable as error:
                self._set_aside_checkpoint(error)

    def _set_aside_checkpoint(self, error: CheckpointUnusable) -> None:
        """Never to be started from again: remembered first, then removed from the Manager."""
        context = self.context
        broken = context.memory.get("from_checkpoint_id")
        if broken is None:
            raise BackupFailed(error.message, hint=error.hint) from error
        context.tell(error.message, level="warning")
        context.remember(broken={**context.memory.get("broken", {}), broken: error.message})
        clean_up_to_start_anew(self)
        try:
            self.leftovers.remove_checkpoint(broken)
        except PortalError as problem:
            context.warn(f"The broken checkpoint {broken} was left on the Manager: {problem.message}")

    @property
    def without_snapshot(self) -> bool:
        """Whether the Manager is asked for the flow without an automatic snapshot, where it has both."""
        asked = self.context.params.get("legacy")
        return self.vm.environment.legacy_backups if asked is None else bool(asked)

    @property
    def is_live(self) -> bool:
        """Read from the running machine itself; cold and hybrid backups are read from images and fail in other ways."""
        return bool(self.context.memory.get("flow") == "live")

    # --- reading ----------------------------------------------------------------------------------

    def _read(self, state: BackupState) -> Made:
        with self.context.step("configuration", "Reading the machine's configuration"):
            staged = self.staged()
            disks = self.list_disks()
        return Made(state, staged, disks, read_disks(self, staged, disks, is_open=state.phase == "ready"))

    def staged(self) -> StagedPoint:
        return self.store.stage_point(self.vm.environment.uuid, self.vm_id, self.context.memory["point"])

    def list_disks(self) -> list[BackupDisk]:
        """Once, while the backup is ready: the modes are gone later (trap 3). Missing disks are told (trap 4)."""
        remembered = self.context.memory.get("disks")
        if remembered is not None:
            return [BackupDisk(**item) for item in remembered]
        found = vm_backup.backup_disks(
            self.connection, vm_id=self.vm_id, backup_id=self.context.memory["backup_id"]
        )
        config = self.context.memory["config"]
        sizes = {disk["disk_id"]: disk for disk in config["disks"]}
        disks = []
        for disk in found:
            if disk.disk_id not in sizes:
                raise BackupIncomplete(
                    "The Manager put a disk into the backup that the machine did not have a moment ago; "
                    "no restore point was made.",
                    hint="Try again.",
                )
            size = disk.size_bytes or sizes[disk.disk_id]["size_bytes"]
            disks.append(
                BackupDisk(disk.disk_id, disk.mode, disk.format or sizes[disk.disk_id]["format"], size)
            )
        dropped = manifest.note_dropped(config, {disk.disk_id for disk in disks})
        for alias in dropped:
            self.context.warn(
                f"The Manager left the disk {alias} of {self.vm.name} out of the backup without a reason, so it is not "
                "in the restore point. Look at the disk on the Manager, then back up again."
            )
        if not disks:
            raise BackupIncomplete("The Manager took no disk into the backup; no restore point was made.")
        order = {disk["disk_id"]: position for position, disk in enumerate(config["disks"])}
        disks.sort(key=lambda disk: order[disk.disk_id])
        self.context.remember(disks=[vars(disk) for disk in disks], config=config)
        return disks

    # --- ending -----------------------------------------------------------------------------------

    @property
    def title_of_the_end(self) -> str:
        """A merge copies back what the guest wrote meanwhile, so it may take long."""
        return (
            "Merging the automatic snapshot"
            if self.context.memory.get("snapshot_id")
            else "Ending the backup on the Manager"
        )

    def end(self) -> bool:
        """Finalize and wait. True if the Manager kept the backup's checkpoint trustworthy."""
        hybrid = self.context.memory.get("snapshot_id")
        self.context.remember(all_disks_stored=True)
        self.leftovers.end_strays(self.context.memory["backup_id"])
        ending = vm_backup.end_backup(
            self.connection,
            vm_id=self.vm_id,
            backup_id=self.context.memory["backup_id"],
            pause=self.context.pause,
            timeout_seconds=settings.MANAGER_MERGE_TIMEOUT if hybrid else settings.MANAGER_PHASE_TIMEOUT,
        )
        if ending == "gone" and not vm_backup.ended_well(
            self.connection, backup_id=self.context.memory["backup_id"], pause=self.context.pause
        ):
            ending = "failed"  # the record is no longer kept, and no event says that it went well (trap 10)
        if ending == "failed":
            self.context.warn(
                "All data was stored, but the Manager ended the backup as failed: the next backup will be full."
            )
        return ending != "failed"

    def publish(self, made: Made, *, trusted: bool) -> RestorePoint:
        """Manifest last, then the row. Only now does the new checkpoint count as ours (trap 2)."""
        checkpoint_id = made.state.to_checkpoint_id if trusted else None
        document = manifest.build(
            self.context, self.vm, made.disks, made.results, checkpoint_id=checkpoint_id
        )
        try:
            stored = made.staged.publish(document, still_owner=self.context.still_owner)
        except StoreClaimLost as error:
            self.context.claim_lost.set()  # nothing is cleaned up either: it is the successor's now
            raise ClaimLost from error
        point = services.record_point(self.repository, self.vm, stored, self.context.job)
        _tell_result(self.context, point)
        # From here on the backup and its checkpoint are good: nothing of them may be cleaned up any more.
        self.context.remember(backup_id=None, to_checkpoint_id=None)
        return point

    def remove_left_snapshot(self) -> None:
        """The Manager ends a hybrid backup well even if it could not merge its snapshot (trap 27): then it is done here.

        What cannot be done now stays in the job's memory, and the clean-up of leftovers tries again.
        """
        snapshot_id = self.context.memory.get("snapshot_id")
        if snapshot_id is None:
            return
        try:
            if snapshots.is_left(self.connection, vm_id=self.vm_id, snapshot_id=snapshot_id):
                self.context.tell(f"The Manager has left its automatic snapshot {snapshot_id}; removing it.")
                self.leftovers.remove_snapshot(snapshot_id)
        except PortalError as error:
            self.context.warn(
                f"The Manager's automatic snapshot {snapshot_id} is still on {self.vm.name}: {error.message} "
                "The restore point is whole. The portal tries again by itself to remove the snapshot."
            )
        else:
            self.context.remember(snapshot_id=None)

    def remove_old_checkpoints(self) -> None:
        """Keep the newest two of ours; others' checkpoints are never touched. A failure is only a warning."""
        ours = {
            str(item)
            for item in RestorePoint.objects.filter(vm=self.vm)
            .exclude(checkpoint_id=None)
            .values_list("checkpoint_id", flat=True)
        }
        what = "An old checkpoint"
        try:
            present = vm_backup.checkpoints(self.connection, vm_id=self.vm_id)
            own = [item.checkpoint_id for item in present if item.checkpoint_id in ours]
            for checkpoint_id in own[:-KEPT_CHECKPOINTS]:
                what = f"The old checkpoint {checkpoint_id}"
                self.leftovers.remove_checkpoint(checkpoint_id)
        except PortalError as error:
            self.context.warn(
                f"{what} of {self.vm.name} was left on {self.vm.environment.name}: {error.message} "
                "The next backup of the machine tries again to remove it."
            )

    # --- giving up --------------------------------------------------------------------------------

    def clean_up(self) -> None:
        """Leave nothing on the Manager and nothing half-made in the store. Never hides the first error.

        What could not be ended stays in the job's memory, and `run` names it.
        """
        known = self.context.memory.get("backup_id")
        if not known or self._is_published():
            return
        with self.context.cleaning():
            try:
                self.leftovers.end_backup(self.leftovers.started_as(known), self.context.memory)
                self.context.remember(
                    backup_id=None,
                    snapshot_id=None,
                    to_checkpoint_id=None,
                    transfers=None,
                    all_disks_stored=None,
                )
                self.staged().abandon()
            except ClaimLost:
                raise
            except Exception as error:
                log.warning("Clean-up: %s", error, exc_info=not isinstance(error, PortalError))
                if isinstance(error, PortalError):
                    self.context.tell(f"Cleaning up failed: {error.message}", level="warning")

    def drop_half_made(self) -> None:
        """When the job is over although the Manager could not be cleaned up: nobody goes on with what is stored."""
        if not self.context.memory.get("backup_id") or self._is_published():
            return
        try:
            self.staged().abandon()
        except StoreError as error:
            log.warning("Clean-up: %s", error)

    def _is_published(self) -> bool:
        """A published point keeps its checkpoint, whatever happens to the job afterwards."""
        try:
            self.store.open_point(self.vm.environment.uuid, self.vm_id, self.context.memory["point"])
        except PointNotFound:
            return False
        except StoreError:
            # The repository is away; nothing can have been published before all disks were stored.
            return bool(self.context.memory.get("all_disks_stored"))
        return True
