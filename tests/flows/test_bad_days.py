# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup's bad days, a representative set; the whole matrix is in test_fault_matrix.py."""

import shutil

import pytest

from backups import services as backups
from backups.methods import cleanup
from backups.models import RestorePoint
from portal.jobs import services as jobs
from portal.jobs.models import Job
from portal.ovirt import vm_backup
from portal.ovirt.connection import Patience, connect
from tests.flows import support
from tests.flows.support import back_up
from tests.worker_support import finished

pytestmark = [pytest.mark.flow, pytest.mark.lab]


def test_a_broken_checkpoint_means_the_next_older_one_and_at_last_full(
    lab, environment, repository, workers, people
):
    """A stopped machine: the Manager notices only when the disk is opened (trap 7)."""
    vm = environment.vms.get(name="files-01")
    before = support.on_manager(environment)
    full, second = back_up(people.bob, vm), back_up(people.bob, vm)
    lab.control.act("break_bitmap", vm=vm.name, how="missing", checkpoint=str(second.checkpoint_id))
    third = back_up(people.bob, vm)
    assert (third.mode, third.from_checkpoint_id) == ("incremental", full.checkpoint_id)
    assert "could not be used (The Manager could not open the list of changed blocks" in third.reason
    assert third.disks.get().reason == third.reason
    assert support.job_of(third).attempts_made == 1
    support.assert_equals_volumes(lab, third)
    kept = {str(full.checkpoint_id), str(third.checkpoint_id)}
    assert set(support.checkpoints_of(environment, vm)) & {str(second.checkpoint_id), *kept} == kept

    for point in (full, third):
        lab.control.act("break_bitmap", vm=vm.name, how="in_use", checkpoint=str(point.checkpoint_id))
    fourth = back_up(people.bob, vm)
    assert (fourth.mode, fourth.from_checkpoint_id) == ("full", None)
    assert fourth.reason.count("could not be used") == 2
    support.assert_equals_volumes(lab, fourth)
    assert back_up(people.bob, vm).mode == "incremental"
    support.assert_manager_is_clean(environment, before)


def test_lost_answers_and_sessions_cost_nothing_but_time(lab, environment, repository, workers, people):
    """Orders that were carried out although their answer was lost are found again, in the same attempt."""
    vm = environment.vms.get(name="files-01")
    before = support.on_manager(environment)
    back_up(people.bob, vm)
    with (
        lab.control.fault("answer", method="POST", path="/vms/*/backups", how="lost", times=2),
        lab.control.fault("answer", method="POST", path="/imagetransfers", how="lost", times=2),
        lab.control.fault("answer", method="GET", path="/vms/*/backups/*", status=503, times=2) as away,
    ):
        job = backups.start_vm_backup(actor=people.bob, vm=vm)
        away.wait_struck(2)
        lab.control.act("end_sessions")
        point = support.point_of(support.succeeded(job))
    assert (point.mode, job.attempts_made) == ("incremental", 1)
    assert "The Manager does not answer; waiting for it." in support.told(job)
    support.assert_equals_volumes(lab, point)
    support.assert_manager_is_clean(environment, before)


def test_a_locked_disk_is_waited_for(lab, environment, repository, workers, people):
    vm = environment.vms.get(name="files-01")
    disk = str(vm.disks.get().manager_id)
    lab.control.act("lock_disk", disk=disk, status="locked")
    job = backups.start_vm_backup(actor=people.bob, vm=vm)
    support.wait_told(job, "Waiting for it")
    lab.control.act("unlock_disk", disk=disk)
    support.succeeded(job)
    assert job.attempts_made == 1
    assert "locked" in support.told(job)


def test_an_account_that_may_not_end_transfers_is_told_and_the_rest_is_ended_later(
    lab, environment, repository, workers, people
):
    """Rights on single machines let an account start transfers but not end them (trap 25)."""
    vm = environment.vms.get(name="files-01")
    before = support.on_manager(environment)
    with lab.control.fault("forbidden", permit="CREATE_DISK", on="system"):
        job = finished(backups.start_vm_backup(actor=people.bob, vm=vm))
    assert (job.state, job.error_code) == ("failed", "manager_forbids")
    assert "may start transfers, but not end them" in job.error_message
    assert "create disks on the whole system" in job.error_hint
    (warning,) = job.warnings
    assert f"backup {job.resume_state['backup_id']}" in warning
    assert support.on_manager(environment).open_backups == {job.resume_state["backup_id"]}

    assert cleanup.order_cleanups() == 1
    support.succeeded(Job.objects.get(kind="vm_cleanup", vm=vm))
    job.refresh_from_db()
    assert "backup_id" not in job.resume_state
    assert (job.warnings_open, job.warnings_seen_by) == (False, "the portal")
    assert cleanup.order_cleanups() == 0
    now = support.assert_manager_is_clean(environment, before)
    assert now.checkpoints[str(vm.manager_id)] == before.checkpoints[str(vm.manager_id)]
    assert not RestorePoint.objects.filter(vm=vm).exists()
    assert back_up(people.bob, vm).mode == "full"


def test_two_jobs_on_one_machine_come_one_after_the_other(lab, environment, repository, workers, people):
    vm = environment.vms.get(name="files-01")
    back_up(people.bob, vm)
    failed = Job.objects.create(
        kind="vm_backup",
        task=backups.BACKUP_TASK,
        title="Failed before",
        state="failed",
        vm=vm,
        environment=environment,
        params={"repository": str(repository.uuid), "full": False},
        lock_keys=[{"key": vm.lock_key, "mode": "exclusive", "limit": None}],
    )
    both = [backups.start_vm_backup(actor=people.bob, vm=vm), jobs.retry_job(actor=people.bob, job=failed)]
    points = [support.point_of(support.succeeded(job)) for job in both]
    points.sort(key=lambda point: point.taken_at)
    assert points[1].from_checkpoint_id == points[0].checkpoint_id
    first, second = (support.job_of(point) for point in points)
    assert first.finished_at <= second.steps.get(name="start").started_at


def test_the_base_of_a_running_backup_stays_and_if_its_files_go_all_the_same_nothing_is_lost(
    lab, environment, repository, workers, people
):
    vm = environment.vms.get(name="files-01")
    base = back_up(people.bob, vm)
    with lab.control.fault("phase", of="backup", phase="ADDING_BITMAPS", how="hold", which=vm.name) as held:
        job = backups.start_vm_backup(actor=people.bob, vm=vm)
        held.wait_struck()
        with pytest.raises(backups.PointInUse, match="continues from it"):
            backups.delete_restore_point(actor=people.alice, point=base, reason="retention")
        # In the trash it would still be gone on with (tests/backups/test_bad_days.py).
        shutil.rmtree(repository.open().folder_of(base.ref))
    point = support.point_of(support.succeeded(job))
    assert point.mode == "full"
    assert "could not be opened" in point.disks.get().reason
    support.assert_equals_volumes(lab, point)


def test_a_manager_that_is_away_is_asked_again_until_patience_ends(lab, environment):
    told: list[str] = []
    waits: list[float] = []
    patience = Patience(60, waits.append, told.append)
    with connect(environment.address(), patience=patience) as connection:
        vm_id = str(environment.vms.get(name="files-01").manager_id)
        with lab.control.fault("answer", method="GET", path="/vms/*/checkpoints", status=503, times=3):
            found = vm_backup.checkpoints(connection, vm_id=vm_id)
        assert (len(waits), told) == (3, ["The Manager does not answer; waiting for it."])
        assert found == vm_backup.checkpoints(connection, vm_id=vm_id)
    with (
        lab.control.fault("answer", method="POST", path="/ovirt-engine/sso/oauth/token", status=503, times=2),
        connect(environment.address(), patience=patience),
    ):
        assert len(waits) == 5
