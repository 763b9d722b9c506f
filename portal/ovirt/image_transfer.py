# SPDX-License-Identifier: GPL-3.0-or-later
"""Image transfers: asking the Manager for a ticket to read or write a disk (reference section 4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import ovirtsdk4 as sdk
from ovirtsdk4 import types

from portal.errors import PortalError
from portal.ovirt.connection import Pause, wait_until
from portal.ovirt.enums import text_of
from portal.ovirt.errors import (
    ManagerAnswerUnreadable,
    ManagerBusy,
    ManagerForbids,
    ManagerObjectMissing,
    ManagerUnreachable,
    calling,
)

# Seconds of silence after which the Manager ends a transfer by its policy. Never 0, and far above the default
# of 60, which kills slow consumers (trap 15).
INACTIVITY_TIMEOUT = 600
_ENDED = ("finished_success", "finished_failure", "finished_cleanup")
_GONE = "gone"
# How long the Manager's lock on a disk may outlive the transfer that had it (trap 29).
_LOCK_SECONDS = 60
_RESUMES = 2


class TransferFailed(PortalError):
    """The Manager did not open, or did not properly end, an image transfer."""

    retryable = True


@dataclass(frozen=True)
class OpenTransfer:
    """A transfer in phase `transferring`. The urls carry the ticket: never log them."""

    transfer_id: str
    transfer_url: str = field(repr=False)
    proxy_url: str | None = field(repr=False)


def open_transfer(
    connection: sdk.Connection,
    *,
    disk_id: str,
    direction: str,
    on_created: Callable[[str], None],
    pause: Pause,
    timeout_seconds: float,
    backup_id: str | None = None,
) -> OpenTransfer:
    """Create a raw transfer and wait until data may flow. `on_created` gets the id at once, to be recorded.

    Policy `cancel` for downloads, `pause` for uploads: cancelling an upload would delete the disk (trap 11).
    Raises TransferFailed or ManagerError.
    """
    upload = direction == "upload"
    order = types.ImageTransfer(
        disk=types.Disk(id=disk_id),
        direction=types.ImageTransferDirection(direction),
        format=types.DiskFormat.RAW,
        backup=types.Backup(id=backup_id) if backup_id else None,
        inactivity_timeout=INACTIVITY_TIMEOUT,
        timeout_policy=types.ImageTransferTimeoutPolicy.PAUSE
        if upload
        else types.ImageTransferTimeoutPolicy.CANCEL,
    )

    others = set(open_transfers_of(connection, [disk_id], direction=direction))
    began = time.monotonic()

    def made_after_all() -> str | None:
        """The one that a request whose answer was lost has made: the disk had no other before."""
        found = new_ones()
        end_surplus(found[1:])
        return found[0] if found else None

    def new_ones() -> list[str]:
        return sorted(set(open_transfers_of(connection, [disk_id], direction=direction)) - others)

    def end_surplus(transfer_ids: list[str]) -> None:
        """libcurl itself repeats a request that was cut off, without a word: there may be two, of which nobody would
        read one, and a backup cannot end before its last transfer has."""
        for transfer_id in transfer_ids:
            end_transfer(connection, transfer_id, pause=pause, timeout_seconds=timeout_seconds)

    def create() -> str | None:
        try:
            with calling("open an image transfer"):
                return str(_service(connection).add(order).id)
        except ManagerBusy:
            # Either the lock of an earlier transfer, which goes last (trap 29), or a lost answer's own transfer.
            found = made_after_all()
            if found is None and time.monotonic() - began > _LOCK_SECONDS:
                raise
            return found
        except (ManagerUnreachable, ManagerAnswerUnreadable):
            found = made_after_all()
            if found is None:
                raise
            return found

    transfer_id = wait_until(
        create, what="open an image transfer", pause=pause, timeout_seconds=timeout_seconds
    )
    on_created(transfer_id)
    end_surplus([found for found in new_ones() if found != transfer_id])
    return wait_transferring(connection, transfer_id, pause=pause, timeout_seconds=timeout_seconds)


def wait_transferring(
    connection: sdk.Connection, transfer_id: str, *, pause: Pause, timeout_seconds: float
) -> OpenTransfer:
    """Wait for `transferring`; a paused upload is resumed, unless it is paused again and again: one whose ticket
    is gone never goes on. Raises TransferFailed."""
    resumed = 0

    def look() -> OpenTransfer | None:
        nonlocal resumed
        transfer = _get(connection, transfer_id)
        phase = text_of(transfer.phase) if transfer else _GONE
        if phase == "transferring" and transfer.transfer_url:
            return OpenTransfer(transfer_id, transfer.transfer_url, transfer.proxy_url)
        if phase in ("paused_system", "paused_user") and resumed < _RESUMES:
            resumed += 1
            _act(connection, transfer_id, "resume")
        elif phase not in ("initializing", "resuming", "transferring", "unknown"):
            raise TransferFailed(
                f"The Manager did not open the image transfer; it is now {phase.replace('_', ' ')}.",
                hint="Look at the Manager's events for the disk (host, storage, bitmap), then try again.",
            )
        return None

    return wait_until(look, what="open the image transfer", pause=pause, timeout_seconds=timeout_seconds)


def end_transfer(
    connection: sdk.Connection, transfer_id: str, *, pause: Pause, timeout_seconds: float
) -> str:
    """Finalize and wait for the end; safe to repeat. Returns the last phase, or `gone`.

    Every connection to imageio must be closed before (trap 18). Finalizing, never cancelling: a cancelled
    upload takes the disk with it.
    """
    return _ask_to_end(
        connection,
        transfer_id,
        action="finalize",
        too_early=("initializing", "resuming"),
        pause=pause,
        timeout_seconds=timeout_seconds,
    )


def cancel_upload(
    connection: sdk.Connection, transfer_id: str, *, pause: Pause, timeout_seconds: float
) -> str:
    """Cancel an upload **into a disk that this job made**: the Manager deletes that disk. Safe to repeat."""
    return _ask_to_end(
        connection,
        transfer_id,
        action="cancel",
        too_early=(),
        pause=pause,
        timeout_seconds=timeout_seconds,
    )


def _ask_to_end(
    connection: sdk.Connection,
    transfer_id: str,
    *,
    action: str,
    too_early: Collection[str],
    pause: Pause,
    timeout_seconds: float,
) -> str:
    """Send the action once, in a phase that takes it, and wait for the end, which may have come by itself."""
    asked = False

    def look() -> str | None:
        nonlocal asked
        transfer = _get(connection, transfer_id)
        phase = text_of(transfer.phase) if transfer else _GONE
        if phase == _GONE or phase in _ENDED[:2]:
            return phase
        if not asked and phase not in too_early:
            asked = True
            _act(connection, transfer_id, action)
        return None

    return wait_until(look, what=f"{action} the image transfer", pause=pause, timeout_seconds=timeout_seconds)


def open_transfers_of(connection: sdk.Connection, disk_ids: Collection[str], *, direction: str) -> list[str]:
    """Ids of transfers of these disks that have not ended: those whose id was lost with a worker.

    Only such as this module orders, by their inactivity timeout: not those of another backup program.
    """
    with calling("list the image transfers"):
        found = _service(connection).list()
    return [
        item.id
        for item in found
        if item.image is not None
        and item.image.id in disk_ids
        and text_of(item.direction) == direction
        and text_of(item.phase) not in _ENDED
        and item.inactivity_timeout == INACTIVITY_TIMEOUT
    ]


def ended_well(connection: sdk.Connection, *, disk_id: str) -> bool:
    """How a transfer ended whose record is gone, told by its disk (reference 4.3): `illegal` or gone is badly."""
    try:
        with calling("tell about the disk"):
            disk = connection.system_service().disks_service().disk_service(disk_id).get()
    except ManagerObjectMissing:
        return False
    return text_of(disk.status) != "illegal"


def _get(connection: sdk.Connection, transfer_id: str) -> Any:
    try:
        with calling("tell about an image transfer"):
            return _service(connection).image_transfer_service(transfer_id).get()
    except ManagerObjectMissing:
        return None


def _act(connection: sdk.Connection, transfer_id: str, action: str) -> None:
    """The Manager answers 200 to any action, even on a dead transfer (trap 12): the phase decides."""
    try:
        with calling(f"{action} the image transfer"):
            getattr(_service(connection).image_transfer_service(transfer_id), action)()
    except ManagerForbids as error:
        raise ManagerForbids(
            f"The Manager did not {action} the image transfer: the portal's account may start transfers, "
            "but not end them.",
            detail=error.detail,
            http_status=error.http_status,
            hint="Give the account a role with the right to create disks on the whole system (a role on single "
            f"machines does not do, trap 25). Transfers end by themselves after {INACTIVITY_TIMEOUT // 60} minutes.",
        ) from error


def _service(connection: sdk.Connection) -> Any:
    return connection.system_service().image_transfers_service()
