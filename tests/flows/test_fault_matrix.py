# SPDX-License-Identifier: GPL-3.0-or-later
"""Every fault of the lab in every phase of a backup, of a running and of a stopped machine; run by `make soak`."""

import datetime as dt
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import timezone
from ovirtsdk4 import types

from backups import services as backups
from backups.methods import cleanup
from backups.models import Repository
from portal.jobs import services as jobs
from portal.jobs.models import Job
from tests.flows import support
from tests.flows.bad_days import BadDay
from tests.lab_support import LabFault, RunningLab, start_lab
from tests.worker_support import finished, wait_for

pytestmark = [pytest.mark.flow, pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(600)]

RUNNING, STOPPED = "web-01", "files-01"
BOTH = pytest.mark.parametrize("name", [RUNNING, STOPPED])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    """Its own, since some of its days end badly. Image data goes through the layer that can break connections."""
    running = start_lab(tmp_path_factory.mktemp("faulty"))
    running.control.act("watch_connections")
    yield running
    running.stop()


@pytest.fixture
def day(lab, environment, repository, workers, people, name):
    made = BadDay(lab, environment, repository, people.bob, environment.vms.get(name=name))
    yield made
    lab.control.clear()


# --- answers of the API -------------------------------------------------------------------------------------

CALLS = [
    ("GET", "/vms/*"),
    ("GET", "/vms/*/checkpoints"),
    ("POST", "/vms/*/backups"),
    ("GET", "/vms/*/backups/*"),
    ("GET", "/vms/*/backups/*/disks"),
    ("POST", "/imagetransfers"),
    ("GET", "/imagetransfers/*"),
    ("POST", "/imagetransfers/*/finalize"),
    ("POST", "/vms/*/backups/*/finalize"),
    ("GET", "/events"),
    ("POST", "/ovirt-engine/sso/oauth/token"),
]
ANSWERS = [
    {"status": 500},
    {"status": 503, "shape": "html"},
    {"status": 401},
    {"how": "cut"},
    {"how": "lost"},
    {"how": "slow", "seconds": 2},
    {"how": "truncated"},
    {"how": "garbage"},
]


@BOTH
@pytest.mark.parametrize(("method", "path"), CALLS, ids=lambda value: value.replace("/", "-").strip("-"))
def test_one_wrong_answer_to_each_call_is_overcome(day, method, path):
    for answer in ANSWERS:
        fault = day.lab.control.fault("answer", method=method, path=path, times=1, **answer)
        if "oauth" in path and answer.get("status") in (500, 401):
            continue
        job = day.backup(fault)
        assert job.result["mode"] == "incremental", (answer, support.told(job))
        assert not job.warnings, (answer, job.warnings)
    day.is_over()


@BOTH
@pytest.mark.parametrize("path", ["/vms/*/backups", "/imagetransfers"])
def test_a_busy_manager_is_asked_again(day, path):
    job = day.backup(day.lab.control.fault("answer", method="POST", path=path, status=409, times=2))
    assert (job.result["mode"], job.attempts_made) == ("incremental", 1)
    day.is_over()


@BOTH
def test_a_manager_that_stays_busy_is_told_of(day):
    detail = "[Cannot backup VM. The VM is performing an operation on a Snapshot.]"
    fault = day.lab.control.fault("answer", method="POST", path="/vms/*/backups", status=409, detail=detail)
    job = day.backup(fault, ends="failed")
    assert job.error_code == "machine_busy"
    assert "performing an operation on a Snapshot" in job.error_message
    assert job.error_hint
    assert not job.warnings
    day.is_over()


# --- phases of the engine -----------------------------------------------------------------------------------

LIVE = ("CREATING_SCRATCH_DISKS", "STARTING")
COLD = ("ADDING_BITMAPS", "WAITING_FOR_BITMAPS")
STARTING = [*((RUNNING, phase) for phase in LIVE), *((STOPPED, phase) for phase in COLD)]
PHASES = [*STARTING, *((name, phase) for name in (RUNNING, STOPPED) for phase in ("READY", "FINALIZING"))]
TRANSFER = [
    (name, phase)
    for name in (RUNNING, STOPPED)
    for phase in ("initializing", "transferring", "finalizing_success")
]


@pytest.mark.parametrize(("name", "phase"), STARTING)
def test_a_start_that_fails_is_tried_again(day, phase):
    job = day.backup(day.lab.control.fault("phase", of="backup", phase=phase, how="fail", times=1))
    assert job.attempts_made == 2
    assert job.result["mode"] == "incremental"
    day.is_over()


@pytest.mark.parametrize(("name", "phase"), STARTING)
def test_a_start_that_always_fails_is_told_of(day, phase):
    job = day.backup(day.lab.control.fault("phase", of="backup", phase=phase, how="fail"), ends="failed")
    assert job.error_code == "backup_failed"
    assert "failed" in job.error_message
    assert job.error_hint
    assert not job.warnings
    day.is_over()


@BOTH
def test_a_backup_that_fails_while_it_is_read_is_made_anew(day):
    job = day.backup(day.lab.control.fault("phase", of="backup", phase="READY", how="fail", times=1))
    assert job.result["mode"] == "incremental"
    day.is_over()


@BOTH
def test_a_backup_that_fails_at_its_end_is_kept_without_its_checkpoint(day):
    job = day.backup(day.lab.control.fault("phase", of="backup", phase="FINALIZING", how="fail", times=1))
    assert support.point_of(job).checkpoint_id is None
    (warning,) = job.warnings
    assert "ended the backup as failed" in warning
    day.is_over()


@pytest.mark.parametrize(("name", "phase"), PHASES)
def test_cancelled_in_each_phase(day, phase):
    held = day.lab.control.fault("phase", of="backup", phase=phase, how="hold", seconds=20)

    def cancel(job: Job) -> None:
        held.wait_struck()
        jobs.cancel_job(actor=day.actor, job=job)
        # The engine answers nothing new while it is held; what is asked of it is done when it goes on.
        time.sleep(1)
        held.remove()

    day.backup(held, happens=cancel, ends="cancelled")
    day.is_over()


@pytest.mark.parametrize(("name", "phase"), [*PHASES, *TRANSFER])
def test_each_phase_may_take_long(day, phase):
    of = "transfer" if phase.islower() else "backup"
    job = day.backup(day.lab.control.fault("phase", of=of, phase=phase, how="hold", seconds=4, times=1))
    assert (job.result["mode"], job.attempts_made) == ("incremental", 1)
    day.is_over()


@pytest.mark.parametrize(("name", "phase"), TRANSFER)
def test_a_transfer_that_fails_is_opened_anew(day, phase):
    job = day.backup(day.lab.control.fault("phase", of="transfer", phase=phase, how="fail", times=1))
    assert job.result["mode"] == "incremental"
    day.is_over()


# --- image data ---------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("after_bytes", [0, 20_000, 3 << 20])
def test_connections_that_are_cut(day, after_bytes):
    job = day.backup(day.lab.control.fault("connection", how="drop", bytes=after_bytes, times=2))
    assert job.result["mode"] == "incremental"
    day.is_over()


@BOTH
@pytest.mark.parametrize("how", ["refuse", "blackhole"])
def test_a_closed_port_means_the_proxy(day, how):
    job = day.backup(day.lab.control.fault("connection", how=how, service="host"))
    (warning,) = job.warnings
    assert "data went through the Manager's proxy" in warning
    day.is_over()


@BOTH
def test_both_ports_closed_are_told_of(day):
    job = day.backup(day.lab.control.fault("connection", how="refuse", service="both"), ends="failed")
    assert job.error_code == "transfer_broken"
    day.is_over()


@BOTH
@pytest.mark.parametrize("how", ["expired", "gone"])
def test_a_ticket_that_ends_too_early(day, how):
    stalled = _in_the_middle(day)

    def expire(job: Job) -> None:
        stalled.wait_struck()
        job.refresh_from_db()
        (transfer,) = job.resume_state["transfers"].values()
        day.lab.control.act("expire_ticket", transfer=transfer, how=how)
        stalled.remove()

    day.backup(stalled, happens=expire, full=True)
    day.is_over()


def _in_the_middle(day: BadDay) -> LabFault:
    """Image data stands still after some of it has come."""
    return day.lab.control.fault("connection", how="stall", bytes=256 << 10)


@BOTH
def test_an_image_server_that_is_restarted(day):
    stalled = _in_the_middle(day)

    def restart(job: Job) -> None:
        stalled.wait_struck()
        day.lab.control.act("restart_imageio", service="host")
        stalled.remove()

    day.backup(stalled, happens=restart, full=True)
    day.is_over()


# --- the Manager --------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("seconds", [1, 6])
def test_the_manager_is_restarted_during_a_backup(day, seconds):
    """One second is waited for; six are more than the patience of one attempt in these tests."""

    def restart(job: Job) -> None:
        support.wait_remembered(job, "backup_id")
        day.lab.control.act("restart_manager", seconds=seconds)

    job = day.backup(happens=restart)
    assert job.result["mode"] == "incremental"
    day.is_over()


@BOTH
@pytest.mark.parametrize("of", ["backup", "transfer"])
def test_records_that_are_gone_as_soon_as_their_work_is_over(day, of):
    """As before engine 4.4.7: the end is told by events, for downloads by the disk."""
    job = day.backup(day.lab.control.fault("forget", of=of))
    assert (job.result["mode"], job.attempts_made, job.warnings) == ("incremental", 1, [])
    assert support.point_of(job).checkpoint_id is not None
    day.is_over()


@BOTH
def test_a_failed_end_without_a_record_is_no_success(day):
    job = day.backup(
        day.lab.control.fault("forget", of="backup"),
        day.lab.control.fault("phase", of="backup", phase="FINALIZING", how="fail", times=1),
    )
    assert support.point_of(job).checkpoint_id is None
    (warning,) = job.warnings
    assert "ended the backup as failed" in warning
    day.is_over()


@BOTH
def test_an_account_that_sees_no_disks_is_told_of(day):
    """Missing rights show as empty lists, not as refusals: an empty backup would be worse than none."""
    job = day.backup(day.lab.control.fault("hidden", path="/vms/*/diskattachments"), ends="failed")
    assert job.error_code == "nothing_to_back_up"
    assert "lost a right" in job.error_hint
    day.is_over()


@BOTH
@pytest.mark.parametrize("path", ["/vms/*/checkpoints", "/events"])
def test_other_lists_that_are_empty_do_no_harm(day, path):
    job = day.backup(day.lab.control.fault("hidden", path=path))
    assert job.result["mode"] == ("full" if "checkpoints" in path else "incremental")
    day.is_over()


@BOTH
@pytest.mark.parametrize("permit", ["BACKUP_DISK", "EDIT_DISK_PROPERTIES", "CREATE_DISK"])
def test_each_missing_permit_is_told_of(day, permit):
    on = {"on": "system"} if permit == "CREATE_DISK" else {}
    job = day.backup(day.lab.control.fault("forbidden", permit=permit, **on), ends="failed")
    assert job.error_code == "manager_forbids"
    assert "right" in job.error_hint or "role" in job.error_hint
    if job.resume_state.get("backup_id"):
        assert job.resume_state["backup_id"] in job.warnings[0]
        assert cleanup.order_cleanups() == 1
        support.succeeded(Job.objects.get(kind="vm_cleanup", vm=day.vm))
    day.is_over()


@BOTH
@pytest.mark.parametrize("seconds", [-86_400, 86_400])
def test_a_manager_whose_clock_is_wrong(day, seconds):
    job = day.backup(day.lab.control.fault("clock", seconds=seconds))
    assert (job.result["mode"], job.warnings) == ("incremental", [])
    assert abs(support.point_of(job).taken_at - timezone.now()) < dt.timedelta(minutes=10)
    day.is_over()


@pytest.mark.parametrize("name", [RUNNING])
def test_no_room_for_scratch_disks_is_told_of(day):
    job = day.backup(day.lab.control.fault("domain_full"), ends="failed")
    assert job.error_code == "backup_failed"
    day.is_over()


# --- disks, bitmaps, power ----------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("how", ["missing", "in_use"])
def test_a_broken_bitmap(day, how):
    day.lab.control.act("break_bitmap", vm=day.vm.name, how=how)
    job = day.backup()
    point = support.point_of(job)
    assert (point.mode, job.attempts_made) == ("full", 1)
    assert "could not be used" in point.reason
    day.is_over()


@pytest.mark.parametrize("name", [STOPPED])
def test_the_newest_bitmap_broken_means_the_older_one(day):
    """A bitmap left in use is never alone: all of the image are."""
    second = support.back_up(day.actor, day.vm)
    day.lab.control.act("break_bitmap", vm=day.vm.name, how="missing", checkpoint=str(second.checkpoint_id))
    point = support.point_of(day.backup())
    assert point.mode == "incremental"
    assert point.from_checkpoint_id != second.checkpoint_id
    day.is_over()


@BOTH
def test_a_disk_that_stays_locked_is_told_of(day):
    disk = str(day.vm.disks.get().manager_id)
    day.lab.control.act("lock_disk", disk=disk, status="locked")
    try:
        job = day.backup(ends="failed")
    finally:
        day.lab.control.act("unlock_disk", disk=disk)
    assert job.error_code == "machine_busy"
    assert "locked" in job.error_message
    day.is_over()


@pytest.mark.parametrize("name", [STOPPED])
def test_a_disk_that_is_deleted_before_the_backup_starts(day):
    """The machine was described with it; the next attempt takes the disks that are left."""
    with support.manager(day.environment) as system:
        attachments = system.vms_service().vm_service(str(day.vm.manager_id)).disk_attachments_service()
        domain = types.StorageDomain(id=day.environment.storage_domains[0]["domain_id"])
        spare = attachments.add(
            types.DiskAttachment(
                disk=types.Disk(
                    name="short-lived",
                    format=types.DiskFormat.COW,
                    provisioned_size=64 << 20,
                    storage_domains=[domain],
                ),
                interface=types.DiskInterface.VIRTIO_SCSI,
                bootable=False,
                active=True,
            )
        )
        disk = system.disks_service().disk_service(spare.id)
        wait_for(lambda: disk.get().status.value == "ok", what="the spare disk")
    # Between the description and the order: the checkpoints are asked for there.
    slow = day.lab.control.fault(
        "answer", method="GET", path="/vms/*/checkpoints", how="slow", seconds=3, times=1
    )

    def delete(job: Job) -> None:
        slow.wait_struck()
        day.lab.control.act("delete_disk", disk=spare.id)

    job = day.backup(slow, happens=delete)
    assert job.attempts_made == 2
    assert support.point_of(job).disks.count() == 1
    day.is_over()


@pytest.mark.parametrize("name", [RUNNING])
@pytest.mark.parametrize("phase", [*LIVE, "READY", "FINALIZING"])
def test_a_power_cut_in_each_phase(day, phase):
    """What was read is dropped; the next attempt backs the stopped machine up, whose bitmaps are in use for ever."""
    held = day.lab.control.fault("phase", of="backup", phase=phase, how="hold", seconds=20)

    def cut(job: Job) -> None:
        held.wait_struck()
        day.lab.control.act("power_off", vm=day.vm.name)
        held.remove()

    try:
        job = day.backup(held, happens=cut, seconds=280)
        support.wait_status(day.environment, day.vm, "down")
        point = support.point_of(job)
        if phase in LIVE:
            assert (point.mode, point.consistency) == ("full", "offline")
    finally:
        support.note_power_cut(day.lab, day.vm)
        support.set_power(day.environment, day.vm, up=True)
    day.is_over()


# --- the repository -----------------------------------------------------------------------------------------


@pytest.fixture
def small_repository(tmp_path: Path, db: None) -> Iterator[Repository]:
    """On a file system of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=60m", "small", str(folder)], capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("mounting a small file system needs root")
    try:
        yield backups.create_repository(actor=None, name="Small", path=folder / "repository")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@BOTH
def test_a_full_repository_is_told_of_and_goes_on_when_there_is_room(day, small_repository):
    filler = Path(small_repository.path).parent / "filler"
    free = os.statvfs(filler.parent).f_bavail * os.statvfs(filler.parent).f_frsize
    filler.write_bytes(bytes(free - (2 << 20)))
    job = finished(backups.start_vm_backup(actor=day.actor, vm=day.vm, repository=small_repository))
    assert (job.state, job.error_code) == ("failed", "repository_full")
    assert "Free space" in job.error_hint
    assert not job.warnings
    support.assert_manager_is_clean(day.environment, day.before)
    filler.unlink()
    assert support.back_up(day.actor, day.vm, repository=small_repository).mode == "full"
    day.is_over()
