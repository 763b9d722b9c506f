# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups and checkpoints of one VM: the Incremental Backup API (guide 3.2.5; reference section 3)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ovirtsdk4 as sdk
from ovirtsdk4 import types

from portal.errors import PortalError
from portal.ovirt.connection import Pause, wait_until
from portal.ovirt.enums import text_of
from portal.ovirt.errors import (
    ManagerAnswerUnreadable,
    ManagerBusy,
    ManagerObjectMissing,
    ManagerRefused,
    ManagerTooSlow,
    ManagerUnreachable,
    calling,
)

FINAL = ("succeeded", "failed")
# Events that tell of a backup's bad end (reference 3.12), and how late an event may come after a record is gone.
_FAILURES = {10791, 10792, 10795, 10814}
_EVENT_SECONDS = 15


class CheckpointUnusable(PortalError):
    """The Manager will not start an incremental backup from this checkpoint; a full one can be made."""


class BackupFailed(PortalError):
    """The Manager gave the backup up."""

    retryable = True


class BackupImpossible(PortalError):
    """The Manager will not back this machine up until somebody changes something."""


class MachineChanged(PortalError):
    """The machine is no longer as it was described a moment ago."""

    retryable = True


# Refusals that waiting does not mend (reference 3.2), by a part of their text, and what does.
_LASTING = {
    "Hosted Engine": "The Manager's own machine is kept safe by engine-backup, not by this kind of backup.",
    "are not active": "Activate the disk on the machine, or detach it; then refresh the inventory and try again.",
    "previewing a Snapshot": "Commit or undo the preview of the snapshot, then try again.",
    "Please upgrade the host": "Upgrade the host, or move the machine to a newer one.",
    "not supported by the host": "Move the machine to a host that can, or stop it and try again.",
    "Bitmaps operations are not supported": "Start the machine, or raise its compatibility level to 4.5 or later.",
}


@dataclass(frozen=True)
class BackupState:
    """`to_checkpoint_id` is only there from `ready` on, and never for raw disks alone (trap 2).

    `snapshot_id` is the automatic snapshot of a hybrid backup (reference 3.6), None in the other flows.
    """

    phase: str
    to_checkpoint_id: str | None
    snapshot_id: str | None = None


@dataclass(frozen=True)
class BackupDisk:
    """`mode` = full or incremental, as the Manager chose; only told while the backup is active (trap 3)."""

    disk_id: str
    mode: str
    format: str
    size_bytes: int


@dataclass(frozen=True)
class OpenBackup:
    """A backup that has not ended, with the description that whoever started it gave."""

    backup_id: str
    description: str


@dataclass(frozen=True)
class Checkpoint:
    checkpoint_id: str
    parent_id: str | None
    created_at: dt.datetime | None
    is_usable: bool


def start_backup(
    connection: sdk.Connection,
    *,
    vm_id: str,
    backup_id: str,
    disk_ids: Sequence[str],
    from_checkpoint_id: str | None,
    description: str,
    legacy: bool = False,
) -> str:
    """Start a backup under an id of our choosing, so that a lost answer loses nothing; returns its id.

    Managers before 4.5.0 choose an id themselves: then the answer, or else `description`, which must be unique,
    tells it. `legacy` asks for the flow without a snapshot (reference 3.1). Raises CheckpointUnusable when the
    Manager names the checkpoint as the reason, BackupImpossible, MachineChanged, or else ManagerError.
    """
    backup = types.Backup(
        id=backup_id,
        description=description[:1024],
        from_checkpoint_id=from_checkpoint_id,
        disks=[types.Disk(id=disk_id) for disk_id in disk_ids],
    )
    try:
        with calling("start the backup"):
            made = (
                _vm(connection, vm_id)
                .backups_service()
                .add(backup, query={"legacy": "true"} if legacy else None)
            )
        return str(made.id or backup_id)
    except ManagerRefused as error:
        if from_checkpoint_id and _blames_checkpoint(error):
            raise CheckpointUnusable(
                f"The Manager does not accept the checkpoint {from_checkpoint_id}: "
                f"{error.detail or 'it gave no reason'}"
            ) from error
        # libcurl itself repeats a request whose answer was cut off: the second one is refused because of the first.
        found = find_backup(connection, vm_id=vm_id, backup_id=backup_id, description=description)
        if found is None:
            raise _explained(error) from error
        return found
    except (ManagerUnreachable, ManagerAnswerUnreadable):
        found = find_backup(connection, vm_id=vm_id, backup_id=backup_id, description=description)
        if found is None:
            raise
        return found


def _explained(error: ManagerRefused) -> PortalError:
    for words, hint in _LASTING.items():
        if words in error.detail:
            return BackupImpossible(error.message, hint=hint)
    if "does not exist" in error.detail and "disk" in error.detail:
        return MachineChanged(
            "A disk was removed from the machine while its backup was being started, so nothing was begun.",
            hint="It is tried again with the disks that are left.",
        )
    return error


def is_busy(error: PortalError) -> bool:
    """Whether the Manager only asked to come back later: something else is going on with the machine."""
    return isinstance(error, ManagerBusy)


def find_backup(connection: sdk.Connection, *, vm_id: str, backup_id: str, description: str) -> str | None:
    """The id of a backup that was ordered under that id or description, whatever became of it; else None."""
    if backup_state(connection, vm_id=vm_id, backup_id=backup_id) is not None:
        return backup_id
    with calling("list the machine's backups"):
        found = _vm(connection, vm_id).backups_service().list()
    return next((str(item.id) for item in found if item.description == description), None)


def _blames_checkpoint(error: ManagerRefused) -> bool:
    """400 naming a checkpoint, or with an empty detail: a failed redefinition answers so (reference 3.9)."""
    return error.http_status == 400 and ("heckpoint" in error.detail or not error.detail.strip())


def backup_state(connection: sdk.Connection, *, vm_id: str, backup_id: str) -> BackupState | None:
    """None if the Manager has no such record: never started, or ended more than 15–30 minutes ago (trap 10)."""
    try:
        with calling("tell the backup's phase"):
            backup = _vm(connection, vm_id).backups_service().backup_service(backup_id).get()
    except ManagerObjectMissing:
        return None
    return BackupState(
        text_of(backup.phase) or "unknown",
        backup.to_checkpoint_id,
        backup.snapshot.id if backup.snapshot else None,
    )


def open_backups(connection: sdk.Connection, *, vm_id: str) -> list[OpenBackup]:
    """Backups of the VM that have not ended, whoever started them."""
    with calling("list the machine's backups"):
        found = _vm(connection, vm_id).backups_service().list()
    return [OpenBackup(item.id, item.description or "") for item in found if text_of(item.phase) not in FINAL]


def wait_ready(
    connection: sdk.Connection, *, vm_id: str, backup_id: str, pause: Pause, timeout_seconds: float
) -> BackupState:
    """Wait for `ready`. Raises BackupFailed (with the Manager's event) or CheckpointUnusable (event 10791)."""

    def look() -> BackupState | None:
        state = backup_state(connection, vm_id=vm_id, backup_id=backup_id)
        if state is None or state.phase in FINAL:
            raise _failure(connection, backup_id)
        return state if state.phase == "ready" else None

    return wait_until(look, what="get the backup ready", pause=pause, timeout_seconds=timeout_seconds)


def _failure(connection: sdk.Connection, backup_id: str) -> PortalError:
    events = backup_events(connection, backup_id)
    if any(code == 10791 for code, _ in events):
        return CheckpointUnusable(
            "The Manager found the changed-block bitmap of the checkpoint broken and dropped all checkpoints of "
            "this machine."
        )
    words = next((text for code, text in events if code == 10792), "it recorded no reason")
    return BackupFailed(
        f"The Manager gave the backup up before it was ready: {words}",
        hint="Look at the Manager's events for this machine, then try again.",
    )


def backup_events(connection: sdk.Connection, backup_id: str) -> list[tuple[int, str]]:
    """(code, text) of events that mention the backup, newest first."""
    with calling("list its events"):
        events = connection.system_service().events_service().list(search=backup_id, max=50)
    return [(event.code or 0, event.description or "") for event in events]


def freeze_failed(connection: sdk.Connection, *, vm_id: str, since: dt.datetime) -> bool:
    """Whether the Manager recorded since then that the guest could not be frozen (event 10764)."""
    with calling("list its events"):
        events = (
            connection.system_service().events_service().list(search=f"type=10764 and vm.id={vm_id}", max=5)
        )
    return any(event.time is not None and event.time >= since for event in events)


def ended_well(connection: sdk.Connection, *, backup_id: str, pause: Pause) -> bool:
    """Whether the Manager's events say that the backup completed, when its record is no longer kept (trap 10).

    Managers before 4.4.7 drop the record at once, and may write the event a moment later.
    """

    def look() -> bool | None:
        codes = {code for code, _ in backup_events(connection, backup_id)}
        if codes & _FAILURES:
            return False
        return True if 10793 in codes else None

    try:
        return wait_until(look, what="tell how the backup ended", pause=pause, timeout_seconds=_EVENT_SECONDS)
    except ManagerTooSlow:
        return False


def backup_disks(connection: sdk.Connection, *, vm_id: str, backup_id: str) -> list[BackupDisk]:
    """What the Manager really took up (trap 4) and how each disk can be read. Only while `ready`."""
    with calling("list the disks of the backup"):
        disks = _vm(connection, vm_id).backups_service().backup_service(backup_id).disks_service().list()
    return [
        BackupDisk(
            disk_id=disk.id,
            mode=text_of(disk.backup_mode) or "full",
            format=text_of(disk.format),
            size_bytes=disk.provisioned_size or 0,
        )
        for disk in disks
    ]


def end_backup(
    connection: sdk.Connection, *, vm_id: str, backup_id: str, pause: Pause, timeout_seconds: float
) -> str:
    """Finalize, whatever state it is in, and wait. Returns `succeeded`, `failed`, or `gone`.

    All of its transfers must have ended before (trap 8). Safe to repeat.
    """

    def look() -> str | None:
        state = backup_state(connection, vm_id=vm_id, backup_id=backup_id)
        if state is None:
            return "gone"
        if state.phase in FINAL:
            return state.phase
        if state.phase in ("initializing", "starting", "ready"):
            # Before `ready` the Manager answers 400 and gives the backup up, which ends it too (reference 3.7).
            _finalize(connection, vm_id, backup_id)
        return None

    return wait_until(look, what="end the backup", pause=pause, timeout_seconds=timeout_seconds)


def _finalize(connection: sdk.Connection, vm_id: str, backup_id: str) -> None:
    """Asked again while an earlier answer was lost, the Manager says 400/409; the phase decides, not the answer."""
    try:
        with calling("end the backup"):
            _vm(connection, vm_id).backups_service().backup_service(backup_id).finalize()
    except (ManagerRefused, ManagerObjectMissing):
        return


def checkpoints(connection: sdk.Connection, *, vm_id: str) -> list[Checkpoint]:
    """Root to leaf."""
    with calling("list the checkpoints"):
        found = _vm(connection, vm_id).checkpoints_service().list()
    return [
        Checkpoint(item.id, item.parent_id, item.creation_date, text_of(item.state) != "invalid")
        for item in found
    ]


def remove_checkpoint(
    connection: sdk.Connection, *, vm_id: str, checkpoint_id: str, pause: Pause, timeout_seconds: float
) -> None:
    """Remove and wait until it is gone. Safe to repeat."""
    service = _vm(connection, vm_id).checkpoints_service().checkpoint_service(checkpoint_id)
    try:
        with calling("remove the checkpoint"):
            service.remove()
    except ManagerObjectMissing:
        return

    def look() -> bool | None:
        try:
            with calling("tell about the checkpoint"):
                service.get()
        except ManagerObjectMissing:
            return True
        return None

    wait_until(look, what="remove the checkpoint", pause=pause, timeout_seconds=timeout_seconds)


def _vm(connection: sdk.Connection, vm_id: str) -> Any:
    return connection.system_service().vms_service().vm_service(vm_id)
