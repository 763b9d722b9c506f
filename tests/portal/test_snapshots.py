# SPDX-License-Identifier: GPL-3.0-or-later
"""The automatic snapshot that a hybrid backup leaves behind: only that one is ever removed."""

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from portal.ovirt import snapshots
from portal.ovirt.errors import ManagerTooSlow
from portal.ovirt.snapshots import SnapshotNotRemoved

pytestmark = pytest.mark.embedded
AUTOMATIC = snapshots.AUTOMATIC


def error(kind, code: int, detail: str = "") -> sdk.Error:
    made = kind("refused")
    made.code, made.fault = code, types.Fault(detail=f"[{detail}]", reason="Operation Failed")
    return made


class Manager:
    """One VM with one snapshot. `busy` is how often its removal is refused; `after` what each later look shows."""

    def __init__(self, *after: str, description=AUTOMATIC, kind="regular", busy=0) -> None:
        self.after = list(after)
        self.description, self.kind, self.busy = description, kind, busy
        self.removals = 0

    def system_service(self):
        return self

    vms_service = snapshots_service = system_service

    def vm_service(self, name):
        return self

    snapshot_service = vm_service

    def get(self):
        status = "ok"
        if self.removals:
            status = self.after.pop(0) if len(self.after) > 1 else self.after[0]
        if status == "gone":
            raise error(sdk.NotFoundError, 404)
        return types.Snapshot(
            id="s",
            description=self.description,
            snapshot_status=types.SnapshotStatus(status),
            snapshot_type=types.SnapshotType(self.kind),
        )

    def remove(self):
        if self.busy:
            self.busy -= 1
            raise error(sdk.Error, 409, "The VM is performing an operation on a Snapshot.")
        self.removals += 1


def remove(manager: Manager, *, busy_seconds: float = 60) -> list[float]:
    waits: list[float] = []
    snapshots.remove_automatic(
        manager, vm_id="v", snapshot_id="s", pause=waits.append, busy_seconds=busy_seconds, merge_seconds=60
    )
    return waits


def test_it_is_merged_and_waited_for():
    manager = Manager("locked", "locked", "gone", busy=2)
    assert remove(manager)
    assert manager.removals == 1


@pytest.mark.parametrize(
    "other", [{"description": "before the upgrade"}, {"kind": "active", "description": "Active VM"}]
)
def test_nothing_else_is_ever_removed(other):
    """A snapshot whose creation failed leaves its id to the active layer (reference 2.5)."""
    manager = Manager("ok", **other)
    assert not snapshots.is_left(manager, vm_id="v", snapshot_id="s")
    remove(manager)
    assert manager.removals == 0


@pytest.mark.parametrize("after", [("locked", "ok"), ("ok",)], ids=["after a try", "at once"])
def test_a_merge_that_the_manager_gives_up_is_told(after):
    manager = Manager(*after)
    with pytest.raises(SnapshotNotRemoved, match="the snapshot stays"):
        remove(manager)
    assert manager.removals == 1


def test_a_machine_that_stays_busy_is_not_waited_for_without_end():
    with pytest.raises(ManagerTooSlow):
        remove(Manager("gone", busy=10**9), busy_seconds=5)
