# SPDX-License-Identifier: GPL-3.0-or-later
"""The automatic snapshots of hybrid backups that the Manager left behind (reference 3.6, trap 27)."""

from __future__ import annotations

from typing import Any

import ovirtsdk4 as sdk

from portal.errors import PortalError
from portal.ovirt.connection import Pause, wait_until
from portal.ovirt.enums import text_of
from portal.ovirt.errors import ManagerBusy, ManagerObjectMissing, calling

# What the engine calls the snapshots that it takes for hybrid backups.
AUTOMATIC = "Auto-generated for Backup VM"
# How often a snapshot whose removal was accepted may be seen at rest before the removal counts as given up.
_LOOKS = 10


class SnapshotNotRemoved(PortalError):
    """The Manager gave the removal of a snapshot up."""

    retryable = True


def is_left(connection: sdk.Connection, *, vm_id: str, snapshot_id: str) -> bool:
    """Whether that automatic snapshot is still there. A failed one's id may have become the active layer's
    (reference 2.5), which is not it."""
    snapshot = _get(connection, vm_id, snapshot_id)
    return (
        snapshot is not None
        and text_of(snapshot.snapshot_type) == "regular"
        and (snapshot.description or "").startswith(AUTOMATIC)
    )


def remove_automatic(
    connection: sdk.Connection,
    *,
    vm_id: str,
    snapshot_id: str,
    pause: Pause,
    busy_seconds: float,
    merge_seconds: float,
) -> None:
    """Merge the snapshot away and wait until it is gone. Nothing but an automatic one is ever removed; safe to repeat.

    `busy_seconds` is how long the machine may be busy with something else before. Raises SnapshotNotRemoved or
    ManagerError.
    """

    def ask() -> bool | None:
        """False if there is nothing to remove."""
        if not is_left(connection, vm_id=vm_id, snapshot_id=snapshot_id):
            return False
        try:
            with calling("remove the automatic snapshot"):
                _service(connection, vm_id, snapshot_id).remove()
        except ManagerObjectMissing:
            return False
        except ManagerBusy:
            return None
        return True

    looks_at_rest, merging = 0, False

    def look() -> bool | None:
        nonlocal looks_at_rest, merging
        snapshot = _get(connection, vm_id, snapshot_id)
        if snapshot is None or text_of(snapshot.snapshot_type) != "regular":
            return True
        locked = text_of(snapshot.snapshot_status) == "locked"
        looks_at_rest += not locked
        if looks_at_rest and (merging or looks_at_rest > _LOOKS):
            raise SnapshotNotRemoved(
                "The Manager did not merge its automatic snapshot; the snapshot stays.",
                hint="Look at the Manager's events for the machine; the snapshot can be removed there by hand.",
            )
        merging = merging or locked
        return None

    if wait_until(ask, what="remove the automatic snapshot", pause=pause, timeout_seconds=busy_seconds):
        wait_until(look, what="merge the automatic snapshot", pause=pause, timeout_seconds=merge_seconds)


def _get(connection: sdk.Connection, vm_id: str, snapshot_id: str) -> Any:
    try:
        with calling("tell about the snapshot"):
            return _service(connection, vm_id, snapshot_id).get()
    except ManagerObjectMissing:
        return None


def _service(connection: sdk.Connection, vm_id: str, snapshot_id: str) -> Any:
    return (
        connection.system_service()
        .vms_service()
        .vm_service(vm_id)
        .snapshots_service()
        .snapshot_service(snapshot_id)
    )
