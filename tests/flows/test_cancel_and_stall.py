# SPDX-License-Identifier: GPL-3.0-or-later
"""Cancelled jobs clean up within seconds; a worker that wakes up too late changes nothing; a Manager that is gone."""

import os
import signal
import time
from pathlib import Path

import pytest

from backups import services as backups
from backups.models import RestorePoint
from portal.environments import services as environments
from portal.jobs import services as jobs
from portal.jobs.models import Job
from portal.ovirt import vm_backup
from portal.ovirt.connection import connect
from restores.models import Restore
from tests.flows import support
from tests.flows.support import back_up
from tests.lab_support import start_lab
from tests.worker_support import finished, wait_for

pytestmark = [pytest.mark.flow, pytest.mark.lab]

WITHIN_SECONDS = 10


def _cancelled(actor, job: Job) -> None:
    began = time.monotonic()
    jobs.cancel_job(actor=actor, job=job)
    finished(job, seconds=WITHIN_SECONDS)
    assert job.state == "cancelled", (job.state, job.error_message)
    assert time.monotonic() - began < WITHIN_SECONDS
    assert not job.warnings
    assert not job.locks.exists()
    assert not job.steps.filter(state="running").exists()


def test_cancel_while_a_disk_is_read(lab, environment, repository, workers, people):
    web = environment.vms.get(name="web-01")
    before = support.on_manager(environment)
    with support.slow_image_server(lab):
        job = backups.start_vm_backup(actor=people.bob, vm=web)
        support.wait_reading(job)
        _cancelled(people.bob, job)
    assert not RestorePoint.objects.exists()
    assert support.staged_points(web, repository.path) == []
    now = support.assert_manager_is_clean(environment, before)
    assert now.checkpoints == before.checkpoints

    again = support.succeeded(jobs.retry_job(actor=people.bob, job=job))
    assert again.retry_of == job
    support.assert_one_moment(lab, support.point_of(again))
    support.assert_manager_is_clean(environment, before)


def test_cancel_while_a_disk_is_uploaded(lab, environment, repository, workers, people):
    point = back_up(people.bob, environment.vms.get(name="db-01"))
    before = support.on_manager(environment)
    with support.slow_image_server(lab):
        job = support.start_restore(people.bob, point, "db-01-cancelled")
        support.wait_uploading(job)
        _cancelled(people.bob, job)
    assert support.on_manager(environment) == before

    again = support.succeeded(jobs.retry_job(actor=people.bob, job=job))
    new_id = str(Restore.objects.get(job=again).new_vm_id)
    try:
        support.assert_manager_is_clean(environment, before, new_vm=new_id, new_disks=2)
    finally:
        support.remove_vm(environment, new_id)


def _snapshot(job: Job):
    """Everything of a job that a stalled worker could change."""
    row = Job.objects.filter(pk=job.pk).values().get()
    return row, list(job.steps.values()), list(job.log_lines.values()), list(job.attempts.values())


def test_a_worker_that_wakes_up_too_late_changes_nothing(lab, environment, repository, workers, people):
    web = environment.vms.get(name="web-01")
    before = support.on_manager(environment)
    job = backups.start_vm_backup(actor=people.bob, vm=web)
    support.wait_running(job, "end")
    stalled = support.worker_pid(job)
    with support.frozen([stalled]):
        support.succeeded(job)
        assert job.attempts_made == 2
        assert support.worker_pid(job) != stalled
        then = _snapshot(job)
        on_manager = support.on_manager(environment)
    time.sleep(3)
    assert _snapshot(job) == then
    assert support.on_manager(environment) == on_manager
    support.assert_manager_is_clean(environment, before)
    assert RestorePoint.objects.filter(vm=web).count() == 1
    assert back_up(people.bob, web).mode == "incremental"


def test_a_restore_that_wakes_up_after_it_was_cancelled_makes_nothing(
    lab, environment, repository, workers, people
):
    point = back_up(people.bob, environment.vms.get(name="db-01"))
    before = support.on_manager(environment)
    job = support.start_restore(people.bob, point, "db-01-stalled")
    support.wait_running(job, "disks")
    with support.frozen([support.worker_pid(job)]):
        jobs.cancel_job(actor=people.bob, job=job)
        finished(job)
        assert (job.state, job.attempts_made) == ("cancelled", 2)
        then = _snapshot(job)
        assert support.on_manager(environment) == before
    time.sleep(3)
    assert _snapshot(job) == then
    # A request that was under way may still make something; the late worker takes it away again.
    wait_for(lambda: support.on_manager(environment) == before, what="nothing new is left", seconds=15)


def test_a_backup_that_an_ended_job_left_open_is_ended_by_the_next(
    lab, environment, repository, workers, people
):
    """And the checkpoint of that unfinished backup is never started from."""
    vm = environment.vms.get(name="files-01")
    base = back_up(people.bob, vm)
    before = support.on_manager(environment)
    dead = Job.objects.create(
        kind="vm_backup",
        task="backups.vm_backup",
        title="Died",
        state="failed",
        vm=vm,
        environment=environment,
    )
    left = str(dead.uuid)
    with connect(environment.address()) as connection:
        vm_backup.start_backup(
            connection,
            vm_id=str(vm.manager_id),
            backup_id=left,
            disk_ids=[str(disk.manager_id) for disk in vm.disks.all()],
            from_checkpoint_id=str(base.checkpoint_id),
            description=f"Backup portal, job {dead.uuid}",
        )
        unfinished = vm_backup.wait_ready(
            connection, vm_id=str(vm.manager_id), backup_id=left, pause=time.sleep, timeout_seconds=20
        ).to_checkpoint_id
    point = back_up(people.bob, vm)
    assert point.from_checkpoint_id == base.checkpoint_id
    now = support.assert_manager_is_clean(environment, before)
    assert unfinished not in now.checkpoints[str(vm.manager_id)]
    support.assert_equals_volumes(lab, point)


def test_a_manager_that_goes_away_is_told_with_what_is_left(
    tmp_path, transactional_db, repository, workers, people
):
    lab = start_lab(tmp_path / "lab")
    try:
        environment = environments.add_environment(
            actor=people.root,
            name="Short-lived",
            api_url=lab.api,
            username=lab.username,
            password=lab.password,
            ca_pem=Path(lab.ca_file).read_text(),
        )
        vm = environment.vms.get(name="web-01")
        with support.slow_image_server(lab):
            job = backups.start_vm_backup(actor=people.root, vm=vm)
            support.wait_reading(job)
            os.kill(lab.process.pid, signal.SIGKILL)
            lab.process.wait()
    finally:
        lab.process.kill()
        lab.process.wait()
    finished(job)
    assert (job.state, job.error_code) == ("failed", "manager_unreachable")
    assert job.attempts_made == 4
    assert "could not be reached" in job.error_message
    assert job.error_hint
    (warning,) = job.warnings
    assert job.resume_state["backup_id"] in warning
    ended = [attempt.ended_at for attempt in job.attempts.all() if attempt.ended_at]
    started = [attempt.started_at for attempt in job.attempts.all()]
    waits = [(b - a).total_seconds() for a, b in zip(ended, started[1:], strict=False)]
    assert waits[0] >= 1
    assert waits[-1] >= 4
    assert not RestorePoint.objects.filter(vm=vm).exists()


def test_a_machine_that_is_stopped_while_it_is_read_is_backed_up_anew(
    lab, environment, repository, workers, people
):
    """The live backup's data is dropped, its checkpoint never used; the next attempt is a cold backup."""
    mail = environment.vms.get(name="mail-01")
    before = support.on_manager(environment)
    job = backups.start_vm_backup(actor=people.bob, vm=mail)
    support.wait_reading(job)
    pids = [
        pid
        for pid in support.children_of(lab, "qemu-storage-daemon")
        if support.has_open(pid, support.volume(lab, str(mail.disks.first().manager_id)))
    ]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    try:
        support.succeeded(job)
        assert job.attempts_made >= 2
        point = support.point_of(job)
        assert (point.mode, point.consistency) == ("full", "offline")
        wait_for(lambda: not support.on_manager(environment).locked, what="disks are free", seconds=5)
        support.assert_equals_volumes(lab, point)
        assert support.checkpoints_of(environment, mail)[-1] == str(point.checkpoint_id)
    finally:
        support.note_power_cut(lab, mail)
        support.set_power(environment, mail, up=True)
    support.assert_manager_is_clean(environment, before)
