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
from portal.ovirt.errors import ManagerObjectMissing, ManagerRefused, calling

FINAL = ("succeeded", "failed")


class CheckpointUnusable(PortalError):
    """The Manager will not start an incremental backup from this checkpoint; a full one can be made."""


class BackupFailed(PortalError):
    """The Manager gave the backup up."""

    retryable = True


@dataclass(frozen=True)
class BackupState:
    """`to_checkpoint_id` is only there from `ready` on, and never for raw disks alone (trap 2)."""

    phase: str
    to_checkpoint_id: str | None


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
) -> None:
    """Start a backup under an id of our choosing, so that a lost answer loses nothing.

    Raises CheckpointUnusable when the Manager names the checkpoint as the reason, else ManagerError.
    """
    backup = types.Backup(
        id=backup_id,
        description=description[:1024],
        from_checkpoint_id=from_checkpoint_id,
        disks=[types.Disk(id=disk_id) for disk_id in disk_ids],
    )
    try:
        with calling("start the backup"):
            _vm(connection, vm_id).backups_service().add(backup)
    except ManagerRefused as error:
        if from_checkpoint_id and _blames_checkpoint(error):
            raise CheckpointUnusable(
                f"The Manager does not accept the checkpoint {from_checkpoint_id}: "
                f"{error.detail or 'it gave no reason'}"
            ) from error
        raise


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
    return BackupState(text_of(backup.phase) or "unknown", backup.to_checkpoint_id)


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


def ended_well(connection: sdk.Connection, *, backup_id: str) -> bool:
    """Whether the Manager's events say that the backup completed, when its record is no longer kept."""
    return any(code == 10793 for code, _ in backup_events(connection, backup_id))


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
