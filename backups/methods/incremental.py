# SPDX-License-Identifier: GPL-3.0-or-later
"""Back up one VM by the Incremental Backup API (guide 3.2.5.1.1; reference section 3).

Read `run` from top to bottom: it is the procedure. Everything it makes on the Manager is written into the
job's memory before or as it comes to exist, so that another worker adopts it or ends it.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from dataclasses import dataclass
from typing import Any

import ovirtsdk4 as sdk
from django.conf import settings
from django.utils import timezone

from backups import services
from backups.bases import BaseChoice, choose_base, own_points
from backups.errors import BackupIncomplete
from backups.methods import manifest
from backups.methods.disks import read_disks
from backups.methods.leftovers import DESCRIPTION, Leftovers
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
from portal.ovirt import vm_backup, vm_config
from portal.ovirt.connection import connect
from portal.ovirt.vm_backup import BackupDisk, BackupState, CheckpointUnusable

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
        with connect(vm.environment.address(), correlation_id=str(context.job.uuid)) as connection:
            _back_up(VmBackup(context, vm, repository, store, connection))
    except BaseException as error:
        left = context.memory.get("backup_id")
        if left and not context.will_try_again(error):
            context.warn(
                f"Not everything could be cleaned up on the Manager: look for backup {left} of {vm.name}."
            )
        raise


def _end_without_store(context: JobContext, vm: VirtualMachine) -> None:
    """The repository is away for good: at least the Manager is left clean. Never hides the first error."""
    known = context.memory.get("backup_id")
    if not known:
        return
    try:
        with (
            connect(vm.environment.address(), correlation_id=str(context.job.uuid)) as connection,
            context.cleaning(),
        ):
            Leftovers(context, vm, connection).end_backup(known)
            context.remember(backup_id=None, to_checkpoint_id=None, transfers=None)
    except PortalError as error:
        log.warning("Clean-up without the repository: %s", error)


def _back_up(backup: VmBackup) -> None:
    context = backup.context
    try:
        if context.giving_up:
            raise runner.give_up(context)
        try:
            made = backup.make()
        except CheckpointUnusable as error:
            # Known too late to start otherwise: a cold backup meets the broken bitmap only when it is read.
            made = backup.make_in_full(error)
        with context.step("end", "Ending the backup on the Manager"):
            trusted = backup.end()
        with context.step("publish", "Publishing the restore point") as step:
            point = backup.publish(made, trusted=trusted)
            step.detail = point.reason
    except BaseException as error:
        if not context.will_try_again(error):
            backup.clean_up()
        raise
    # The point is visible: from here on nothing makes the job anything but a success.
    with context.cleaning(), context.step("tidy", "Removing checkpoints that are no longer needed"):
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

        Raises CheckpointUnusable if the checkpoint proves broken only while its blocks are asked for.
        """
        with self.context.step("start", "Starting the backup on the Manager"):
            state = self.adopt() or self.start()
        return self._read(state)

    def make_in_full(self, error: CheckpointUnusable) -> Made:
        """Once more, without the checkpoint, which is removed."""
        self.context.tell(error.message, level="warning")
        broken = self.context.memory["from_checkpoint_id"]
        base = RestorePoint.objects.get(uuid=self.context.memory["base_point"])
        self._clean_up_to_start_anew()
        try:
            self.leftovers.remove_checkpoint(broken)
        except PortalError as problem:
            self.context.warn(f"The broken checkpoint {broken} was left on the Manager: {problem.message}")
        with self.context.step("start", "Starting the backup on the Manager, in full"):
            state = self._start(BaseChoice(None, _unusable_reason(base, error)))
        return self._read(state)

    def _read(self, state: BackupState) -> Made:
        with self.context.step("configuration", "Reading the machine's configuration"):
            staged = self._staged()
            disks = self.list_disks()
        return Made(state, staged, disks, read_disks(self, staged, disks, is_open=state.phase == "ready"))

    def adopt(self) -> BackupState | None:
        """The backup of an earlier attempt, if it is still there to be read (trap 9)."""
        known = self.context.memory.get("backup_id")
        if known is None:
            return None
        state = vm_backup.backup_state(self.connection, vm_id=self.vm_id, backup_id=known)
        done_before = state is not None and state.phase in ("finalizing", "succeeded")
        if done_before and self.context.memory.get("all_disks_stored"):
            assert state is not None
            return BackupState(state.phase, self.context.memory.get("to_checkpoint_id"))
        if state is not None and state.phase in ("initializing", "starting", "ready"):
            self.context.tell("Going on with the backup that an earlier attempt started.")
            try:
                return self._wait_ready(known)
            except CheckpointUnusable as error:
                self.context.tell(error.message, level="warning")
        if self.context.memory.get("all_disks_stored"):
            return BackupState("gone", self.context.memory.get("to_checkpoint_id"))
        self.context.tell("The backup of an earlier attempt is no longer open on the Manager; starting anew.")
        self._clean_up_to_start_anew()
        return None

    def _clean_up_to_start_anew(self) -> None:
        """Raises BackupIncomplete, which may pass, if the earlier backup could not be ended: its id is kept."""
        self.clean_up()
        if self.context.memory.get("backup_id"):
            raise BackupIncomplete(
                "An earlier backup of this job could not be ended on the Manager, so no new one was started.",
                hint="Look at the Manager's events for this machine.",
            )

    def start(self) -> BackupState:
        """Start from the best own checkpoint; if the Manager does not accept it, in full, in the same job."""
        self.leftovers.end_orphans()
        choice = self._choose()
        try:
            return self._start(choice)
        except CheckpointUnusable as error:
            self._staged().abandon()
            assert choice.point is not None
            self.context.tell(error.message, level="warning")
            return self._start(BaseChoice(None, _unusable_reason(choice.point, error)))

    def _choose(self) -> BaseChoice:
        points = own_points(self.vm, self.repository)
        usable = {
            item.checkpoint_id
            for item in vm_backup.checkpoints(self.connection, vm_id=self.vm_id)
            if item.is_usable
        }
        return choose_base(
            points,
            usable,
            compatibility=self.vm.compatibility,
            full_asked=bool(self.context.params.get("full")),
        )

    def _start(self, choice: BaseChoice) -> BackupState:
        """Ids are chosen and remembered before the call, so that a lost answer or worker loses nothing."""
        config = vm_config.read_vm(self.connection, self.vm_id)
        backup_id = str(uuid.uuid4())
        base = choice.point
        wanted = [disk.disk_id for disk in config.facts.disks if not manifest.excluded_because(disk)]
        from_checkpoint = str(base.checkpoint_id) if base else None
        self.context.remember(
            backup_id=backup_id,
            point=str(uuid.uuid4()),
            base_point=str(base.uuid) if base else None,
            from_checkpoint_id=from_checkpoint,
            to_checkpoint_id=None,
            reason=choice.reason,
            disks=None,
            done=None,
            transfers=None,
            planned=None,
            ready_at=None,
            freeze_failed=None,
            all_disks_stored=None,
            began_at=timezone.now().isoformat(),
            config=manifest.configuration(config),
        )
        staged = self._staged()
        staged.write_text("vm.ovf", config.ovf)
        staged.write_text("vm.xml", config.vm_xml)
        vm_backup.start_backup(
            self.connection,
            vm_id=self.vm_id,
            backup_id=backup_id,
            disk_ids=wanted,
            from_checkpoint_id=from_checkpoint,
            description=f"{DESCRIPTION}{self.context.job.uuid}",
        )
        self.context.tell(choice.reason)
        return self._wait_ready(backup_id)

    def _wait_ready(self, backup_id: str) -> BackupState:
        state = vm_backup.wait_ready(
            self.connection,
            vm_id=self.vm_id,
            backup_id=backup_id,
            pause=self.context.pause,
            timeout_seconds=settings.MANAGER_PHASE_TIMEOUT,
        )
        # By the Manager's clock, as its events are.
        began = dt.datetime.fromisoformat(
            self.context.memory["config"]["manager"]["time"] or self.context.memory["began_at"]
        )
        self.context.remember(
            to_checkpoint_id=state.to_checkpoint_id,
            freeze_failed=vm_backup.freeze_failed(self.connection, vm_id=self.vm_id, since=began) or None,
            ready_at=self.context.memory.get("ready_at") or timezone.now().isoformat(),
        )
        return state

    @property
    def machine_was_up(self) -> bool:
        """When the backup was started: live and cold backups fail in different ways."""
        return bool(self.context.memory["config"]["machine"]["status"] != "down")

    # --- reading ----------------------------------------------------------------------------------

    def _staged(self) -> StagedPoint:
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
            self.context.warn(f"The Manager left the disk {alias} out of the backup without a reason.")
        if not disks:
            raise BackupIncomplete("The Manager took no disk into the backup; no restore point was made.")
        order = {disk["disk_id"]: position for position, disk in enumerate(config["disks"])}
        disks.sort(key=lambda disk: order[disk.disk_id])
        self.context.remember(disks=[vars(disk) for disk in disks], config=config)
        return disks

    # --- ending -----------------------------------------------------------------------------------

    def end(self) -> bool:
        """Finalize and wait. True if the Manager kept the backup's checkpoint trustworthy."""
        self.context.remember(all_disks_stored=True)
        ending = vm_backup.end_backup(
            self.connection,
            vm_id=self.vm_id,
            backup_id=self.context.memory["backup_id"],
            pause=self.context.pause,
            timeout_seconds=settings.MANAGER_PHASE_TIMEOUT,
        )
        if ending == "gone" and not vm_backup.ended_well(
            self.connection, backup_id=self.context.memory["backup_id"]
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

    def remove_old_checkpoints(self) -> None:
        """Keep the newest two of ours; others' checkpoints are never touched. A failure is only a warning."""
        ours = {
            str(item)
            for item in RestorePoint.objects.filter(vm=self.vm)
            .exclude(checkpoint_id=None)
            .values_list("checkpoint_id", flat=True)
        }
        try:
            present = vm_backup.checkpoints(self.connection, vm_id=self.vm_id)
            own = [item.checkpoint_id for item in present if item.checkpoint_id in ours]
            for checkpoint_id in own[:-KEPT_CHECKPOINTS]:
                self.leftovers.remove_checkpoint(checkpoint_id)
        except PortalError as error:
            self.context.warn(f"An old checkpoint was left on the Manager: {error.message}")

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
                self.leftovers.end_backup(known)
                self.context.remember(
                    backup_id=None, to_checkpoint_id=None, transfers=None, all_disks_stored=None
                )
                self._staged().abandon()
            except ClaimLost:
                raise
            except Exception as error:
                log.warning("Clean-up: %s", error, exc_info=not isinstance(error, PortalError))
                if isinstance(error, PortalError):
                    self.context.tell(f"Cleaning up failed: {error.message}", level="warning")

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


def _unusable_reason(base: RestorePoint, error: CheckpointUnusable) -> str:
    return f"Full, because the checkpoint of {base.taken_at:%-d %B, %H:%M} UTC could not be used. {error.message}"
