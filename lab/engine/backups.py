# SPDX-License-Identifier: GPL-3.0-or-later
"""VM backups by the incremental backup API, live, cold, or hybrid, as the compatibility level has it.

Source: ovirt-engine bll …/storage/backup/{StartVmBackup,StopVmBackup}Command.java. The hypervisor does the work with
real scratch images and bitmaps; this module keeps the phases, locks, records and events around it."""

import asyncio
import logging
import uuid
from dataclasses import dataclass

from lab.engine.checkpoints import CheckpointCommands
from lab.engine.clock import Poller
from lab.engine.core import Core, volume_of
from lab.engine.faults import EngineFault, incomplete, locked_disks, refused
from lab.engine.hybrid import LEVEL as HYBRID_LEVEL
from lab.engine.hybrid import HybridFlow
from lab.engine.scratch import ScratchDisks, backup_event
from lab.engine.snapshots import SnapshotCommands
from lab.engine.state import Backup, BackupDisk, Checkpoint, Disk, Vm
from lab.hypervisor import BitmapBroken, HypervisorError, LiveBackupDisk
from lab.processes import CommandFailed

log = logging.getLogger(__name__)

ACTION = "backup VM"
IN_PROGRESS = "The VM backup operation is currently in progress. Please try again later."
SUCCEEDED_MINUTES = 15
FAILED_MINUTES = 30
MAX_DESCRIPTION = 1024
# Configuration values IsIncrementalBackupSupported and IsBackupSingleCheckpointSupported (0000_config.sql).
INCREMENTAL_LEVEL = (4, 5)
SINGLE_CHECKPOINT_LEVEL = (4, 6)
# The event that comes before 10792: CreateScratchDiskCommand and StopVmBackupCommand, getAuditLogTypeValue().
FAILED_IN = {"CREATING_SCRATCH_DISKS": 10806, "FINALIZING": 10795}


@dataclass(frozen=True)
class BackupRequest:
    """`disk_ids` as posted; `require_consistency` is accepted: the lab's guests have no agent to refuse a freeze.

    `legacy`: no snapshot, whatever the compatibility level."""

    id: str | None
    description: str
    from_checkpoint_id: str | None
    disk_ids: tuple[str, ...]
    legacy: bool = False


class BackupFailed(Exception):
    """The backup ends here; `code` is the event that tells of it."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


class BackupCommands:
    def __init__(self, core: Core, checkpoints: CheckpointCommands, snapshots: SnapshotCommands) -> None:
        self._core = core
        self._hybrid = HybridFlow(core, snapshots)
        self._checkpoints = checkpoints
        self._scratch = ScratchDisks(core)
        self._without_power: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, vm: Vm, request: BackupRequest) -> Backup:
        """Check and begin; the phases follow by polling. Raises EngineFault."""
        hybrid = self._core.level_of(vm) >= HYBRID_LEVEL and not request.legacy
        disks = self._validate(vm, request, hybrid=hybrid)
        now = self._core.clock.now()
        backup = Backup(
            id=request.id or str(uuid.uuid4()),
            vm_id=vm.id,
            live=vm.status == "up" and not hybrid,
            hybrid=hybrid,
            description=request.description,
            from_checkpoint_id=request.from_checkpoint_id,
            disks=[BackupDisk(disk.id, self._mode(disk, request.from_checkpoint_id)) for disk in disks],
            created=now,
            modified=now,
            host_id=vm.host_id or self._core.host.id,
        )
        if self._incremental(vm) and any(disk.format == "cow" for disk in disks):
            backup.planned_checkpoint_id = str(uuid.uuid4())
        self._core.state.backups[backup.id] = backup
        if hybrid:
            vm.hybrid_backup_id = backup.id
        else:
            vm.backup_id = backup.id
            for disk in disks:
                disk.status = "locked"
        self._event(backup, 10790, "Backup {b} for VM {v} started (User: {u}).")
        task = self._core.spawn(self._run(vm, backup), f"backup {backup.id}")
        self._tasks[backup.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(backup.id, None))
        return backup

    def _validate(self, vm: Vm, request: BackupRequest, *, hybrid: bool) -> list[Disk]:
        """The disks that take part; checks in the engine's order."""
        if vm.backup_id is not None:
            raise refused(ACTION, IN_PROGRESS)
        if vm.removing_checkpoint is not None:
            raise refused(ACTION, "The VM is during a checkpoint removal operation.")
        if not request.disk_ids:
            raise incomplete("Backup", "disks")
        disks = self._disks(vm, request)
        if request.from_checkpoint_id is not None:
            self._check_level(vm)
            self._check_from(request.from_checkpoint_id)
        if vm.status not in ("up", "down"):
            raise refused(ACTION, "The Virtual Machine should be in Up or Down status.")
        if vm.status == "down":
            self._check_level(vm)
        if vm.hybrid_backup_id is not None:
            raise refused(ACTION, "The VM is during a backup operation.")
        if hybrid and vm.snapshot_in_work is not None:
            # The lock of the other command; its wording for a backup is inferred.
            raise refused(ACTION, f"Snapshot is currently being created for VM {vm.name}.")
        if len(request.description) > MAX_DESCRIPTION:
            text = "The VM backup description shouldn't contain more than 1024 characters."
            raise refused(ACTION, text, 400)
        if request.id in self._core.state.backups:
            raise refused(ACTION, f"The specified VM backup ID {request.id} already exists.", 400)
        return disks

    def _disks(self, vm: Vm, request: BackupRequest) -> list[Disk]:
        """Shareable disks are left out without a word, as the engine does."""
        known = self._core.state.disks
        unknown = [disk_id for disk_id in request.disk_ids if disk_id not in known]
        if unknown:
            text = f"The following disk(s) ID(s) does not exist: {', '.join(unknown)}"
            raise refused(ACTION, text, 400)
        disks = [known[disk_id] for disk_id in dict.fromkeys(request.disk_ids)]
        attachments = {a.disk_id: a for a in self._core.state.attachments_of_vm(vm.id)}
        if any(disk.id not in attachments for disk in disks):
            raise EngineFault(500, "[Internal Engine Error]")
        locked = [disk.alias for disk in disks if disk.status == "locked"]
        if locked:
            raise locked_disks(ACTION, locked)
        inactive = sorted(disk.alias for disk in disks if not attachments[disk.id].active)
        if inactive:
            text = f"The following disks are not active on VM {vm.name}: {', '.join(inactive)}"
            raise refused(ACTION, text)
        return [disk for disk in disks if not disk.shareable]

    def _incremental(self, vm: Vm) -> bool:
        return self._core.level_of(vm) >= INCREMENTAL_LEVEL

    def _check_level(self, vm: Vm) -> None:
        """Incremental and cold backups need a level that has bitmaps. StartVmBackupCommand asks in both cases for
        incremental backups first, so that its texts for mixed sets and for bitmaps are out of reach unless
        engine-config turns incremental backups on for level 4.4."""
        if not self._incremental(vm):
            raise refused(ACTION, "Incremental backup is not supported.", 400)

    def _check_from(self, checkpoint_id: str) -> None:
        # That the checkpoint belongs to this VM is not checked, as in the engine.
        checkpoint = self._core.state.checkpoints.get(checkpoint_id)
        if checkpoint is None:
            raise refused(ACTION, f"Checkpoint ID {checkpoint_id} doesn't exist.", 400)
        if checkpoint.state == "invalid":
            raise refused(ACTION, f"Checkpoint ID {checkpoint_id} is invalid and should be removed.", 400)

    def _mode(self, disk: Disk, from_checkpoint_id: str | None) -> str:
        if from_checkpoint_id is None or disk.format != "cow":
            return "full"
        members = self._core.state.checkpoints[from_checkpoint_id].disk_ids
        return "incremental" if disk.id in members else "full"

    async def _run(self, vm: Vm, backup: Backup) -> None:
        poller = self._core.clock.poller()
        job = self._core.jobs.begin(f"Backing up VM {vm.name}")
        try:
            begin = self._begin_live if backup.live else self._begin_cold
            await (self._begin_hybrid if backup.hybrid else begin)(vm, backup, poller)
            self._ready(backup)
            while not backup.stop_requested:
                await poller.wait()
                self._check_power(backup)
                if not backup.stop_requested:
                    await self._at(vm, backup)
            await self._at(vm, backup)
            if backup.hybrid:
                await self._end_hybrid(vm, backup, poller)
            await self._end(backup, keep_checkpoint=True)
            self._close(vm, backup, "SUCCEEDED")
            self._event(backup, 10793, "Backup {b} for VM {v} completed successfully (User: {u}).")
            self._core.jobs.end(job, succeeded=True)
        except Exception as error:  # whatever went wrong, the command must give its locks back
            if not isinstance(error, BackupFailed):
                log.exception("backup %s failed", backup.id)
            await self._fail(vm, backup, error.code if isinstance(error, BackupFailed) else 10792)
            self._core.jobs.end(job, succeeded=False)

    async def _begin_live(self, vm: Vm, backup: Backup, poller: Poller) -> None:
        self._stage(backup, "CREATING_SCRATCH_DISKS")
        for member in backup.disks:
            disk = self._core.state.disks[member.disk_id]
            domain = self._core.state.storage_domains[disk.storage_domain_id]
            if self._core.faults.fills(domain.id, domain.name):
                raise BackupFailed(10806)
            self._scratch.add(vm, backup, disk)
        await self._at(vm, backup)
        await self._next(backup, poller)
        self._scratch.done(backup)
        self._stage(backup, "STARTING")
        await self._at(vm, backup)
        await self._next(backup, poller)
        disks = [self._live_disk(backup, member) for member in backup.disks]
        scratch = self._scratch.make_directory(backup)
        try:
            await self._redefine_chain(vm)
            await self._core.hypervisor.begin_live_backup(
                vm.id, backup.id, disks, backup.planned_checkpoint_id, scratch
            )
        except BitmapBroken:
            # The engine gives up every checkpoint of the VM when one cannot be redefined.
            await self._checkpoints.drop_all(vm)
            raise BackupFailed(10791) from None
        await self._next(backup, poller)

    async def _redefine_chain(self, vm: Vm) -> None:
        """At level 4.5 every checkpoint of the VM is defined again on the host, also for a full backup; from 4.6 on
        only that which the backup starts from (RedefineVmCheckpointCommand). That a checkpoint which the host still
        knows would not be looked at again is left out. Raises BitmapBroken."""
        if not INCREMENTAL_LEVEL <= self._core.level_of(vm) < SINGLE_CHECKPOINT_LEVEL:
            return
        attached = {a.disk_id for a in self._core.state.attachments_of_vm(vm.id) if a.active}
        for checkpoint in self._core.state.checkpoints_of_vm(vm.id):
            for disk_id in attached.intersection(checkpoint.disk_ids):
                volume = volume_of(self._core.state.disks[disk_id])
                if not await self._core.hypervisor.has_good_bitmap(volume, checkpoint.id):
                    raise BitmapBroken(disk_id, checkpoint.id, "it cannot be defined again")

    def _live_disk(self, backup: Backup, member: BackupDisk) -> LiveBackupDisk:
        disk = self._core.state.disks[member.disk_id]
        incremental = member.mode == "incremental"
        return LiveBackupDisk(
            volume=volume_of(disk),
            from_bitmap=backup.from_checkpoint_id if incremental else None,
            add_bitmap=disk.format == "cow",
            scratch_room=self._core.faults.room("scratch_full", disk.id, disk.alias),
        )

    async def _begin_cold(self, vm: Vm, backup: Backup, poller: Poller) -> None:
        self._stage(backup, "ADDING_BITMAPS")
        await self._at(vm, backup)
        await self._next(backup, poller)
        for disk in self._bitmap_disks(backup):
            assert backup.planned_checkpoint_id is not None
            await self._core.hypervisor.add_cold_bitmap(volume_of(disk), backup.planned_checkpoint_id)
        self._stage(backup, "WAITING_FOR_BITMAPS")
        await self._at(vm, backup)
        await self._next(backup, poller)

    async def _begin_hybrid(self, vm: Vm, backup: Backup, poller: Poller) -> None:
        self._stage(backup, "STARTING")
        await self._at(vm, backup)
        await self._next(backup, poller)
        disks = [self._core.state.disks[member.disk_id] for member in backup.disks]
        backup.with_bitmap = [disk.id for disk in disks if disk.format == "cow"]
        try:
            await self._hybrid.take(vm, backup, disks)
        except (HypervisorError, CommandFailed) as error:
            log.warning("backup %s has no snapshot: %s", backup.id, error)
            raise BackupFailed(10792) from error
        await self._next(backup, poller)

    async def _end_hybrid(self, vm: Vm, backup: Backup, poller: Poller) -> None:
        self._stage(backup, "REMOVING_SNAPSHOT")
        await self._at(vm, backup)
        await poller.wait()
        await self._hybrid.merge(vm, backup)
        self._event(backup, 10796, "Backup {b} for VM {v} stopped (User: {u}).")

    async def _next(self, backup: Backup, poller: Poller) -> None:
        """Wait for the next poll of a backup that is still starting."""
        await poller.wait()
        self._check_power(backup)
        if backup.stop_requested:
            raise BackupFailed(10792)

    async def _at(self, vm: Vm, backup: Backup) -> None:
        """Where a fault may hold the backup in its stage, or end it there."""
        fail = BackupFailed(FAILED_IN.get(backup.stage, 10792))
        disk_ids = (member.disk_id for member in backup.disks)
        await self._core.faults.at("backup", backup.stage, fail, backup.id, vm.id, vm.name, *disk_ids)

    def _check_power(self, backup: Backup) -> None:
        if backup.id in self._without_power:
            raise BackupFailed(10792)

    def _bitmap_disks(self, backup: Backup) -> list[Disk]:
        if backup.hybrid:
            # The active volumes are all qcow2 now; raw ones below them are in no checkpoint.
            return [self._core.state.disks[disk_id] for disk_id in backup.with_bitmap]
        disks = [self._core.state.disks[member.disk_id] for member in backup.disks]
        return [disk for disk in disks if disk.format == "cow"]

    def _ready(self, backup: Backup) -> None:
        if backup.planned_checkpoint_id is not None:
            existing = self._core.state.checkpoints_of_vm(backup.vm_id)
            checkpoint = Checkpoint(
                id=backup.planned_checkpoint_id,
                vm_id=backup.vm_id,
                parent_id=existing[-1].id if existing else None,
                created=self._core.clock.now(),
                description=backup.description,
                disk_ids=[disk.id for disk in self._bitmap_disks(backup)],
            )
            self._core.state.checkpoints[checkpoint.id] = checkpoint
            backup.to_checkpoint_id = checkpoint.id
        self._stage(backup, "READY")

    def finalize(self, vm: Vm, backup: Backup) -> None:
        """Ask for the end. Raises EngineFault, also for a backup that is not ready, which then fails."""
        action = "stop VM backup"
        if any(not transfer.over for transfer in self._core.state.transfers_of_backup(backup.id)):
            raise refused(action, "There is an active image transfer for VM backup")
        if backup.stage in ("FINALIZING", "REMOVING_SNAPSHOT", "SUCCEEDED", "FAILED"):
            text = (
                f"VM '{vm.name}' backup '{backup.id}' is already in '{backup.stage}' phase, "
                "no need to stop the backup again"
            )
            raise refused(action, text, 400)
        stage = backup.stage
        backup.stop_requested = True
        if stage != "READY":
            text = f"Backup '{backup.id}' is in '{stage}' phase, premature backup stop was initiated."
            raise refused(action, text, 400)
        self._stage(backup, "FINALIZING")
        self._event(backup, 10794, "Backup {b} for VM {v} finalized (User: {u}).")

    async def _end(self, backup: Backup, *, keep_checkpoint: bool) -> None:
        """Take down what the flow set up on the host."""
        if backup.live:
            await self._core.hypervisor.end_live_backup(backup.id, drop_checkpoint=not keep_checkpoint)
            self._scratch.delete_files(backup)
        elif not keep_checkpoint and backup.planned_checkpoint_id is not None:
            for disk in self._bitmap_disks(backup):
                await self._core.hypervisor.remove_bitmap(volume_of(disk), backup.planned_checkpoint_id)

    async def _fail(self, vm: Vm, backup: Backup, code: int) -> None:
        if code == 10806:
            alias = self._core.state.disks[backup.disks[0].disk_id].alias
            text = f"Failed to create scratch disk for VM {{v}} disk {alias} to use in backup {{b}} (User: {{u}})."
            self._event(backup, code, text, "error")
        elif code == 10795:
            self._event(backup, code, "Backup {b} for VM {v} failed to finalize (User: {u}).", "error")
        try:
            if backup.hybrid:
                await self._hybrid.merge(vm, backup)
            await self._end(backup, keep_checkpoint=False)
        except (HypervisorError, CommandFailed, OSError):
            self._event(backup, 10795, "Backup {b} for VM {v} failed to finalize (User: {u}).", "error")
        if backup.to_checkpoint_id is not None:
            self._core.state.checkpoints.pop(backup.to_checkpoint_id, None)
            backup.to_checkpoint_id = None
        self._without_power.discard(backup.id)
        self._close(vm, backup, "FAILED")
        if code == 10791:
            text = "Incremental backup {b} for VM {v} failed. Full backup is now needed (User: {u})."
        else:
            code, text = 10792, "Backup {b} for VM {v} failed (User: {u})."
        self._event(backup, code, text, "error")

    def _close(self, vm: Vm, backup: Backup, stage: str) -> None:
        self._scratch.forget(backup)
        for member in backup.disks:
            member.mode = None
            disk = self._core.state.disks.get(member.disk_id)
            if disk is not None and disk.status == "locked":
                disk.status = "ok"
        if backup.hybrid:
            vm.hybrid_backup_id = None
        else:
            vm.backup_id = None
        self._stage(backup, stage)

    async def power_lost(self, vm: Vm) -> None:
        """The VM's process ends, so its live backup has nothing left to read. That it then fails by itself at the
        next poll is inferred."""
        backup = self._core.state.backups.get(vm.backup_id or "")
        if backup is None or not backup.live or backup.over:
            return
        self._without_power.add(backup.id)
        if self._core.hypervisor.is_running(vm.id):
            await self._core.hypervisor.end_live_backup(backup.id, drop_checkpoint=True)

    def orphan_all(self) -> list[str]:
        """Open backups lose their commands, as in a restart that loses them; returns their ids.

        Only the record is changed (DbEntityCleanupManager, failUnmonitoredBackups): the job on the host goes on, and
        that the disks stay locked is inferred. The lock on the VM was in the engine's memory."""
        orphans = [backup for backup in self._core.state.backups.values() if not backup.over]
        for backup in orphans:
            if task := self._tasks.get(backup.id):
                task.cancel()
            vm = self._core.state.vms[backup.vm_id]
            vm.backup_id = vm.hybrid_backup_id = None
            text = "Backup {b} for VM {v} was marked as failed since it is no longer monitored, "
            self._event(backup, 10814, text + "cleanup may be required.", "error")
            self._stage(backup, "FAILED")
        return [backup.id for backup in orphans]

    def _stage(self, backup: Backup, stage: str) -> None:
        backup.stage = stage
        backup.modified = self._core.clock.now()

    def _event(self, backup: Backup, code: int, text: str, severity: str = "normal") -> None:
        backup_event(self._core, backup, code, text, severity)

    def forget_old(self) -> None:
        """Records of finished backups go after 15 minutes, of failed ones after 30."""
        for backup in list(self._core.state.backups.values()):
            minutes = SUCCEEDED_MINUTES if backup.stage == "SUCCEEDED" else FAILED_MINUTES
            old = backup.over and self._core.clock.older_than(backup.modified, minutes)
            if old or (backup.over and self._core.faults.forgets("backup", backup.id)):
                del self._core.state.backups[backup.id]
