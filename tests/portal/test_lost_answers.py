# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders whose answer was lost, and Managers that choose ids themselves; without a Manager."""

import datetime as dt

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from portal.ovirt import new_vm, vm_backup
from portal.ovirt.errors import ManagerBusy, ManagerUnreachable
from portal.ovirt.vm_backup import BackupImpossible, CheckpointUnusable, MachineChanged

pytestmark = pytest.mark.embedded
OURS, THEIRS = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def refusal(code: int, detail: str) -> sdk.Error:
    error = sdk.Error("refused")
    error.code, error.fault = code, types.Fault(detail=f"[{detail}]", reason="Operation Failed")
    return error


class Manager:
    """Answers for one VM's backups. `chooses` is the id that it makes of any order; `answer` what it says to one."""

    def __init__(
        self, *, chooses: str | None = None, answer: sdk.Error | None = None, does: bool = True
    ) -> None:
        self.chooses, self.answer, self.does = chooses, answer, does
        self.held: dict[str, types.Backup] = {}
        self.events: list[types.Event] = []
        self.queries: list[dict | None] = []

    def system_service(self):
        return self

    vms_service = backups_service = events_service = system_service

    def vm_service(self, vm_id):
        return self

    def backup_service(self, backup_id):
        return One(self.held.get(backup_id))

    def add(self, backup, query=None):
        self.queries.append(query)
        backup.id = self.chooses or backup.id
        if self.does:
            self.held[backup.id] = backup
        if self.answer is not None:
            raise self.answer
        return backup

    def list(self, **search):
        return self.events if search else list(self.held.values())


class One:
    def __init__(self, backup) -> None:
        self.backup = backup

    def get(self):
        if self.backup is None:
            error = sdk.NotFoundError("gone")
            error.code = 404
            raise error
        return self.backup


def start(manager: Manager, **changes) -> str:
    order = {
        "vm_id": "v",
        "backup_id": OURS,
        "disk_ids": ["d"],
        "from_checkpoint_id": None,
        "description": "Backup portal, job j, point p",
        **changes,
    }
    return vm_backup.start_backup(manager, **order)


def test_the_id_of_our_choosing_is_kept_and_legacy_is_asked_for_only_if_wanted():
    manager = Manager()
    assert start(manager) == OURS
    assert start(manager, backup_id=THEIRS, legacy=True) == THEIRS
    assert manager.queries == [None, {"legacy": "true"}]


def test_a_manager_before_4_5_chooses_the_id_and_its_answer_tells_it():
    assert start(Manager(chooses=THEIRS)) == THEIRS


@pytest.mark.parametrize("chooses", [None, THEIRS], ids=["ours", "the Manager's"])
@pytest.mark.parametrize(
    "answer",
    [
        sdk.TimeoutError("28"),
        sdk.Error("Failed to read response: [(<pycurl.Curl object at 0x7f00>, 52, 'Empty reply')]"),
        sdk.Error("The response content type '' isn't the expected XML"),
        refusal(400, f"Cannot backup VM. The specified VM backup ID {OURS} already exists."),
        refusal(409, "Cannot backup VM. The VM is during a backup operation."),
    ],
    ids=["timeout", "cut", "not XML", "repeated: id taken", "repeated: busy"],
)
def test_after_a_lost_answer_the_backup_is_found(chooses, answer):
    manager = Manager(chooses=chooses, answer=answer)
    manager.held["old"] = types.Backup(id="old", description="Backup portal, job j, point another")
    assert start(manager) == (chooses or OURS)


def test_what_was_not_carried_out_is_not_found():
    with pytest.raises(ManagerUnreachable):
        start(Manager(answer=sdk.TimeoutError("28"), does=False))
    with pytest.raises(ManagerBusy):
        start(
            Manager(answer=refusal(409, "Cannot backup VM. The VM is during a backup operation."), does=False)
        )


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (refusal(409, "Cannot backup VM. Backup of Hosted Engine VM is not supported"), BackupImpossible, "engine-backup"),
        (refusal(409, "Cannot backup VM. VM is previewing a Snapshot."), BackupImpossible, "preview"),
        (refusal(409, "The following disks are not active on VM x: a"), BackupImpossible, "Activate"),
        (refusal(409, "Cannot backup VM. Bitmaps operations are not supported."), BackupImpossible, "4.5"),
        (refusal(400, "The following disk(s) ID(s) does not exist: d"), MachineChanged, "tried again"),
        (refusal(409, "The following disks are locked: a. Please try again in a few minutes."), ManagerBusy, ""),
    ],
)  # fmt: skip
def test_a_refusal_says_whether_waiting_helps_and_what_does(answer, kind, words):
    with pytest.raises(kind) as caught:
        start(Manager(answer=answer, does=False))
    assert words in caught.value.hint
    assert caught.value.retryable == (kind is not BackupImpossible)


def test_a_checkpoint_that_is_blamed_is_told_as_such():
    answer = refusal(400, "Cannot backup VM. Checkpoint ID c doesn't exist.")
    with pytest.raises(CheckpointUnusable, match="doesn't exist"):
        start(Manager(answer=answer, does=False), from_checkpoint_id="c")


@pytest.mark.parametrize(
    ("codes", "well"),
    [([10793, 10794, 10790], True), ([10792, 10790], False), ([10795, 10793], False), ([10814], False)],
)
def test_a_backup_whose_record_is_gone_is_judged_by_its_events(codes, well):
    """As before engine 4.4.7, where the record vanishes with the end; trap 10."""
    manager = Manager()
    manager.events = [types.Event(code=code, description=f"Backup {OURS} …") for code in codes]
    assert vm_backup.ended_well(manager, backup_id=OURS, pause=lambda seconds: None) is well


def test_an_event_that_comes_a_moment_late_is_waited_for_but_a_missing_one_is_no_success():
    manager = Manager()
    waits: list[float] = []

    def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            manager.events = [types.Event(code=10793, description=f"Backup {OURS} …")]

    assert vm_backup.ended_well(manager, backup_id=OURS, pause=pause)
    assert len(waits) == 3
    manager.events = [types.Event(code=10794, description="", time=dt.datetime.now(dt.UTC))]
    assert not vm_backup.ended_well(manager, backup_id=OURS, pause=lambda seconds: None)


@pytest.mark.parametrize(
    ("looks", "well"),
    [
        (["ok"], True),
        (["locked", "locked", "ok"], True),
        ([None], False),
        (["locked", None], False),
        (["illegal"], False),
        (["locked", "illegal"], False),
    ],
)
def test_an_upload_without_a_record_is_judged_by_its_disk_once_that_is_not_locked(monkeypatch, looks, well):
    left = list(looks)
    monkeypatch.setattr(new_vm, "disk_status", lambda *_: left.pop(0))
    assert new_vm.keeps_disk(None, OURS, pause=lambda seconds: None, timeout_seconds=60) is well
    assert left == []
