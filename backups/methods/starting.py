# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting a backup on the Manager, or going on with the one that an earlier attempt started."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils import timezone

from backups.bases import BaseChoice, choose_base, cold_problem, own_points
from backups.errors import BackupIncomplete, MachineBusy, NothingToBackUp
from backups.methods import manifest
from backups.methods.leftovers import description
from portal.errors import PortalError
from portal.ovirt import vm_backup, vm_config
from portal.ovirt.vm_backup import BackupImpossible, BackupState
from portal.ovirt.vm_config import VmConfig

if TYPE_CHECKING:
    from backups.methods.incremental import VmBackup

# Seconds between two tries while the Manager is busy with the machine.
_ASK_AGAIN = 3.0


def adopt(backup: VmBackup) -> BackupState | None:
    """The backup of an earlier attempt, if it is still there to be read (trap 9).

    Raises CheckpointUnusable if the Manager has found its checkpoint broken meanwhile.
    """
    memory = backup.context.memory
    known = memory.get("backup_id")
    if known is None:
        return None
    known = backup.leftovers.started_as(known)
    state = vm_backup.backup_state(backup.connection, vm_id=backup.vm_id, backup_id=known)
    if memory.get("all_disks_stored") and (state is None or state.phase in ("finalizing", "succeeded")):
        return BackupState(
            state.phase if state else "gone", memory.get("to_checkpoint_id"), memory.get("snapshot_id")
        )
    if state is not None and state.phase in ("initializing", "starting", "ready"):
        backup.context.tell("Going on with the backup that an earlier attempt started.")
        return _wait_ready(backup, known)
    if memory.get("all_disks_stored"):
        return BackupState("gone", memory.get("to_checkpoint_id"), memory.get("snapshot_id"))
    backup.context.tell("The backup of an earlier attempt is no longer open on the Manager; starting anew.")
    clean_up_to_start_anew(backup)
    return None


def clean_up_to_start_anew(backup: VmBackup) -> None:
    """Raises BackupIncomplete, which may pass, if the earlier backup could not be ended: its id is kept."""
    backup.clean_up()
    if backup.context.memory.get("backup_id"):
        raise BackupIncomplete(
            "An earlier backup of this job could not be ended on the Manager, so no new one was started.",
            hint="Look at the Manager's events for this machine.",
        )


def start(backup: VmBackup) -> BackupState:
    """Start from the best own checkpoint, or in full; a Manager that is busy with the machine is waited for.

    Raises CheckpointUnusable, MachineBusy, BackupImpossible, NothingToBackUp, MachineChanged or ManagerError.
    """
    context = backup.context
    deadline = time.monotonic() + settings.MANAGER_BUSY_TIMEOUT
    told = ""
    for problem in backup.leftovers.end_recorded():
        context.warn(f"Something of an earlier backup is still left on the Manager: {problem.message}")
    while True:
        backup.leftovers.end_orphans()
        config = vm_config.read_vm(backup.connection, backup.vm_id)
        _refuse_impossible(backup, config)
        try:
            return _order(backup, config, _choose(backup, config.facts.compatibility))
        except PortalError as error:
            if not vm_backup.is_busy(error):
                raise
            backup.staged().abandon()
            if time.monotonic() > deadline:
                raise _busy(backup, error) from error
            if error.message != told:
                context.tell(f"{error.message} Waiting for it.")
                told = error.message
        context.pause(_ASK_AGAIN)


def _busy(backup: VmBackup, error: PortalError) -> MachineBusy:
    # Nothing was started, so there is nothing to clean up either.
    backup.context.remember(backup_id=None)
    minutes = max(1, settings.MANAGER_BUSY_TIMEOUT // 60)
    return MachineBusy(
        f"No backup was started, because the Manager has been busy with the machine for {minutes} "
        f"minute{'s' if minutes > 1 else ''}. {error.message}",
        hint="Look on the Manager which task, other backup or image transfer holds the machine or its disks.",
    )


def _refuse_impossible(backup: VmBackup, config: VmConfig) -> None:
    problem = cold_problem(config.facts.compatibility, config.facts.status)
    if problem:
        raise BackupImpossible(
            f"{problem} Nothing was started.",
            hint="Start the machine, or raise the compatibility level of its cluster to 4.5 or later; "
            "a stopped machine can also be cloned or exported on the Manager.",
        )
    if not _wanted(config):
        known = backup.vm.disks.count()
        raise NothingToBackUp(
            "The Manager lists no disk of this machine that can be backed up, so nothing was started.",
            hint=f"The portal has seen {known} disk{'s' if known != 1 else ''} on it before: look whether the "
            "portal's account has lost a right on them."
            if known
            else "Direct LUN, shareable and inactive disks are left out by the Manager.",
        )


def _wanted(config: VmConfig) -> list[str]:
    return [disk.disk_id for disk in config.facts.disks if not manifest.excluded_because(disk)]


def _choose(backup: VmBackup, compatibility: str) -> BaseChoice:
    usable = {
        item.checkpoint_id
        for item in vm_backup.checkpoints(backup.connection, vm_id=backup.vm_id)
        if item.is_usable
    }
    return choose_base(
        own_points(backup.vm, backup.repository),
        usable,
        compatibility=compatibility,
        full_asked=bool(backup.context.params.get("full")),
        broken=backup.context.memory.get("broken"),
    )


def _order(backup: VmBackup, config: VmConfig, choice: BaseChoice) -> BackupState:
    """Ids are chosen and remembered before the call, so that a lost answer or worker loses nothing."""
    context = backup.context
    backup_id, point_id = str(uuid.uuid4()), str(uuid.uuid4())
    base = choice.point
    from_checkpoint = str(base.checkpoint_id) if base else None
    context.remember(
        backup_id=backup_id,
        point=point_id,
        base_point=str(base.uuid) if base else None,
        from_checkpoint_id=from_checkpoint,
        to_checkpoint_id=None,
        snapshot_id=None,
        flow=None,
        reason=choice.reason,
        disks=None,
        done=None,
        transfers=None,
        planned=None,
        stored=None,
        ready_at=None,
        freeze_failed=None,
        all_disks_stored=None,
        began_at=timezone.now().isoformat(),
        config=manifest.configuration(config),
    )
    staged = backup.staged()
    staged.write_text("vm.ovf", config.ovf)
    staged.write_text("vm.xml", config.vm_xml)
    started = vm_backup.start_backup(
        backup.connection,
        vm_id=backup.vm_id,
        backup_id=backup_id,
        disk_ids=_wanted(config),
        from_checkpoint_id=from_checkpoint,
        description=description(context.job, point_id),
        legacy=backup.without_snapshot,
    )
    if started != backup_id:
        context.remember(backup_id=started)
    context.tell(choice.reason)
    return _wait_ready(backup, started)


def _wait_ready(backup: VmBackup, backup_id: str) -> BackupState:
    context = backup.context
    state = vm_backup.wait_ready(
        backup.connection,
        vm_id=backup.vm_id,
        backup_id=backup_id,
        pause=context.pause,
        timeout_seconds=settings.MANAGER_PHASE_TIMEOUT,
    )
    config = context.memory["config"]
    # By the Manager's clock, as its events are.
    began = dt.datetime.fromisoformat(config["manager"]["time"] or context.memory["began_at"])
    cold = config["machine"]["status"] == "down"
    context.remember(
        to_checkpoint_id=state.to_checkpoint_id,
        snapshot_id=state.snapshot_id,
        flow="hybrid" if state.snapshot_id else "cold" if cold else "live",
        freeze_failed=vm_backup.freeze_failed(backup.connection, vm_id=backup.vm_id, since=began) or None,
        ready_at=context.memory.get("ready_at") or timezone.now().isoformat(),
    )
    return state
