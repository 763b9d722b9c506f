# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever goes wrong on the Manager in whatever phase of a restore: a right end, and nothing left behind.

`make test` tries a few days, `make soak` all of them.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from ovirtsdk4 import types

from portal.environments.models import Environment
from portal.jobs.models import Job
from tests.flows import support
from tests.flows.bad_restores import PLACES, Day, ends_cleanly
from tests.flows.support import back_up
from tests.worker_support import finished

pytestmark = [pytest.mark.flow, pytest.mark.lab]

# libcurl repeats a request itself when a kept connection ends without an answer: two strikes are one loss.
ANSWERS: dict[str, dict[str, Any]] = {
    "500": {"status": 500, "times": 1},
    "503 of the web server": {"status": 503, "shape": "html", "times": 1},
    "409": {"status": 409, "times": 1},
    "401": {"status": 401, "times": 1},
    "cut": {"how": "cut", "times": 2},
    "lost": {"how": "lost", "times": 2},
    "lost, and repeated by libcurl": {"how": "lost", "times": 1},
    "garbage": {"how": "garbage", "times": 1},
    "truncated": {"how": "truncated", "times": 1},
    "slow": {"how": "slow", "seconds": 2, "times": 1},
}
# What the engine does and how it goes on; `times` of a failing phase are as many as a job gets over.
PHASES: dict[str, dict[str, Any]] = {
    "disk is long in creation": {"of": "disk", "phase": "creation", "seconds": 3, "times": 1},
    "disk fails in creation": {"of": "disk", "phase": "creation", "how": "fail", "times": 1},
    "upload is long in opening": {"of": "transfer", "phase": "initializing", "seconds": 3, "times": 1},
    "upload fails in opening": {"of": "transfer", "phase": "initializing", "how": "fail", "times": 1},
    "upload is stopped by the system": {"of": "transfer", "phase": "transferring", "how": "fail", "times": 1},
    "upload is stopped later": {
        "of": "transfer",
        "phase": "transferring",
        "how": "fail",
        "times": 1,
        "after": 2,
    },
    "upload is long in ending": {"of": "transfer", "phase": "finalizing_success", "seconds": 4, "times": 1},
    "upload does not verify": {"of": "transfer", "phase": "finalizing_success", "how": "fail", "times": 1},
    "machine is long in creation": {"of": "vm", "phase": "creation", "seconds": 3, "times": 1},
    "machine fails in creation": {"of": "vm", "phase": "creation", "how": "fail", "times": 1},
}
KIB, MIB = 1 << 10, 1 << 20
CONNECTIONS: dict[str, dict[str, Any]] = {
    "reset in the first data": {"how": "drop", "direction": "up", "bytes": 200 * KIB, "times": 1},
    "reset in the middle": {"how": "drop", "direction": "up", "bytes": 3 * MIB, "times": 2},
    "reset before an answer": {"how": "drop", "direction": "down", "bytes": 3 * KIB, "times": 1},
    "reset of the checksum's": {"how": "drop", "direction": "down", "bytes": 0, "times": 1, "after": 5},
    "slow": {"how": "slow", "direction": "up", "rate": 4 * MIB},
}


def _answer(place: str, kind: str) -> dict[str, Any]:
    method, path = PLACES[place]
    return {"kind": "answer", "method": method, "path": path, **ANSWERS[kind]}


# --- what passes: the restore gets over it --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ANSWERS)
def test_wrong_answers_are_got_over_in_every_phase(day, kind):
    found = {place: day.goes_well(_answer(place, kind)) for place in PLACES}
    assert {place: wrong for place, wrong in found.items() if wrong} == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", PHASES)
def test_phases_that_stand_still_or_fail_are_got_over(day, name):
    assert day.goes_well({"kind": "phase", **PHASES[name]}) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CONNECTIONS)
def test_broken_connections_are_got_over(day, name):
    assert day.goes_well({"kind": "connection", **CONNECTIONS[name]}) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["refuse", "blackhole", "drop"])
def test_a_port_of_the_host_that_takes_nothing_leads_through_the_proxy(day, environment, how):
    before = support.on_manager(environment)
    with day.control.fault("connection", how=how, service="host", direction="up"):
        job = finished(day.start())
    assert "through the Manager's proxy" in "".join(job.warnings)
    assert day.judge(before, job, warnings=1) == []


def test_a_few_wrong_answers(day):
    """Of those tried at length by `make soak`."""
    chosen = [("opening the upload", "lost"), ("creating the machine", "lost, and repeated by libcurl")]
    found = {pair: day.goes_well(_answer(*pair)) for pair in chosen}
    assert {pair: wrong for pair, wrong in found.items() if wrong} == {}


# --- what happens in the middle of an upload -------------------------------------------------------------------


def _wait_data_moves(environment: Environment, job: Job) -> None:
    support.wait_uploading(job)
    with support.manager(environment) as system:
        upload = system.image_transfers_service().image_transfer_service(_upload_of(job)[1])
        support.wait_until_fast(
            lambda: upload.get().phase == types.ImageTransferPhase.TRANSFERRING,
            job,
            what="the upload is open",
        )


def _upload_of(job: Job) -> tuple[str, str]:
    """(disk, transfer) of the upload under way."""
    ((disk_id, transfer_id),) = Job.objects.get(pk=job.pk).resume_state["transfers"].items()
    return disk_id, transfer_id


def _ticket_expires(day: Day, job: Job) -> None:
    day.control.act("expire_ticket", transfer=_upload_of(job)[1], how="expired")


def _ticket_is_gone(day: Day, job: Job) -> None:
    day.control.act("expire_ticket", transfer=_upload_of(job)[1], how="gone")


def _image_server_restarts(day: Day, job: Job) -> None:
    day.control.act("restart_imageio", service="host")


def _manager_restarts(day: Day, job: Job) -> None:
    day.control.act("restart_manager", seconds=3)


def _sessions_end(day: Day, job: Job) -> None:
    day.control.act("end_sessions")


def _disk_is_deleted(day: Day, job: Job) -> None:
    day.control.act("delete_disk", disk=_upload_of(job)[0])


def _disk_is_illegal(day: Day, job: Job) -> None:
    day.control.act("lock_disk", disk=_upload_of(job)[0], status="illegal")


MIDDLES = [
    _ticket_expires,
    _ticket_is_gone,
    _image_server_restarts,
    _manager_restarts,
    _sessions_end,
    _disk_is_deleted,
    _disk_is_illegal,
]


@pytest.mark.slow
@pytest.mark.parametrize("happens", MIDDLES)
def test_what_happens_in_the_middle_of_an_upload_is_got_over(
    day, environment, happens: Callable[[Day, Job], None]
):
    before = support.on_manager(environment)
    with ExitStack() as slow:
        slow.enter_context(day.control.fault("connection", how="slow", direction="up", rate=2 * MIB))
        job = day.start()
        _wait_data_moves(environment, job)
        happens(day, job)
    finished(
        job, seconds=240
    )  # an image server that is told to forget a ticket may hold a request for a minute
    assert day.judge(before, job) == []


@pytest.mark.slow
def test_a_disk_that_is_locked_for_a_while_is_waited_for(day, environment):
    before = support.on_manager(environment)
    with day.control.fault("phase", of="vm", phase="creation"):
        job = day.start()
        support.wait_running(job, "machine")
        (disk_id,) = Job.objects.get(pk=job.pk).resume_state["disk_ids"].values()
        day.control.act("lock_disk", disk=disk_id, status="locked")
    support.wait_running(job, "attach")
    day.control.act("unlock_disk", disk=disk_id)
    finished(job)
    assert day.judge(before, job) == []


@pytest.mark.parametrize(
    ("action", "fields"),
    [("lock_disk", {"status": "illegal"}), pytest.param("delete_disk", {}, marks=pytest.mark.slow)],
)
def test_a_disk_that_was_proven_and_then_lost_is_written_again(day, environment, action, fields):
    """The next attempt makes the disk anew, which is empty then."""
    before = support.on_manager(environment)
    with day.control.fault("phase", of="vm", phase="creation"):
        job = day.start()
        support.wait_running(job, "machine")
        (disk_id,) = Job.objects.get(pk=job.pk).resume_state["disk_ids"].values()
        day.control.act(action, disk=disk_id, **fields)
        support.kill_worker(job)
        support.wait_told(job, "writing it again")
    finished(job)
    assert day.judge(before, job) == []


# --- what does not pass: a clear end, the Manager as it was, and the next one works ------------------------------

FOREVER: dict[str, tuple[dict[str, Any], str]] = {
    **{
        f"no right: {place}": (
            {"kind": "answer", "method": PLACES[place][0], "path": PLACES[place][1], "status": 403},
            "manager_forbids",
        )
        for place in ("creating the disk", "opening the upload", "creating the machine", "attaching")
    },
    "the disk cannot be created": (
        {"kind": "phase", "of": "disk", "phase": "creation", "how": "fail"},
        "disk_unusable",
    ),
    "no upload can be opened": (
        {"kind": "phase", "of": "transfer", "phase": "initializing", "how": "fail"},
        "transfer_failed manager_too_slow",
    ),
    "no upload verifies": (
        {"kind": "phase", "of": "transfer", "phase": "finalizing_success", "how": "fail"},
        "transfer_failed",
    ),
    "the machine cannot be created": (
        {"kind": "phase", "of": "vm", "phase": "creation", "how": "fail"},
        "machine_gone manager_unreachable",
    ),
    "every connection is reset": (
        {"kind": "connection", "how": "drop", "service": "both", "direction": "up", "bytes": 2 * MIB},
        "transfer_broken",
    ),
    "the storage is full": ({"kind": "domain_full"}, "storage_full"),
    "no port is open": ({"kind": "connection", "how": "refuse", "service": "both"}, "transfer_broken"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FOREVER)
def test_what_does_not_pass_ends_the_restore_cleanly(day, environment, name):
    ends_cleanly(day, environment, *FOREVER[name])


@pytest.mark.slow
def test_storage_that_fills_up_ends_the_restore_cleanly(day, environment):
    """A thin disk's; a raw one has its whole size from the start."""
    thin = Day(day.lab, back_up(day.actor, environment.vms.get(name="files-01")), day.actor)
    ends_cleanly(thin, environment, {"kind": "disk_full", "bytes": 4 * MIB}, "transfer_broken disk_full")
