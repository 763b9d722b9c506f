# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 at the worst moments: another worker ends the job rightly, and nothing is left on the Manager."""

import os
import signal

import pytest

from backups import services as backups
from backups.models import RestorePoint
from portal.jobs.models import Job
from restores.models import Restore
from tests.flows import support
from tests.flows.support import back_up
from tests.worker_support import finished, wait_for

pytestmark = [pytest.mark.flow, pytest.mark.lab]


def _assert_taken_up(job: Job) -> None:
    support.succeeded(job)
    *dead, last = job.attempts.values_list("ending", flat=True)
    # A kill of another job's worker may have hit this one's second attempt.
    assert 1 <= len(dead) <= 2
    assert {*dead, last} == {"the worker fell silent", "succeeded"}
    assert last == "succeeded"
    assert not job.steps.exclude(state="succeeded").exists()
    assert not job.locks.exists()


@pytest.mark.embedded
def test_while_a_disk_is_read_and_while_one_is_uploaded(lab, environment, repository, workers, people):
    files, web = (environment.vms.get(name=name) for name in ("files-01", "web-01"))
    point = back_up(people.bob, files)
    before = support.on_manager(environment)
    with support.slow_image_server(lab):
        backup = backups.start_vm_backup(actor=people.bob, vm=web)
        support.wait_reading(backup)
        support.kill_worker(backup)
        restore = support.start_restore(people.bob, point, "files-01-after-a-kill")
        support.wait_uploading(restore)
        support.kill_worker(restore)
    _assert_taken_up(backup)
    _assert_taken_up(restore)
    support.assert_one_moment(lab, support.point_of(backup))
    assert RestorePoint.objects.filter(vm=web).count() == 1
    assert support.staged_points(web, repository.path) == []
    support.assert_new_machine(lab, before, restore)


def test_before_a_backup_is_ready_and_in_the_second_disk_of_an_incremental(
    lab, environment, repository, workers, people
):
    web, db = (environment.vms.get(name=name) for name in ("web-01", "db-01"))
    base = back_up(people.bob, db)
    support.guest_wrote(lab, db, 10)
    before = support.on_manager(environment)
    starting = backups.start_vm_backup(actor=people.bob, vm=web)
    with support.manager(environment) as system:
        opened = system.vms_service().vm_service(str(web.manager_id)).backups_service()
        known = {item.id for item in opened.list()}
        support.wait_until_fast(
            lambda: {item.id for item in opened.list()} - known, starting, what="a backup on the Manager"
        )
    support.kill_worker(starting)
    incremental = backups.start_vm_backup(actor=people.bob, vm=db)
    second = db.disks.get(bootable=False)
    support.wait_running(incremental, f"disk-{second.manager_id}")
    support.kill_worker(incremental)
    _assert_taken_up(starting)
    _assert_taken_up(incremental)
    point = support.point_of(incremental)
    assert (point.mode, point.from_checkpoint_id) == ("incremental", base.checkpoint_id)
    assert point.bytes_read <= 2 * (point.dirty_bytes or 0)
    support.assert_one_moment(lab, point)
    support.assert_one_moment(lab, support.point_of(starting))
    now = support.assert_manager_is_clean(environment, before)
    assert len(now.checkpoints[str(web.manager_id)]) == len(before.checkpoints[str(web.manager_id)]) + 1


def test_while_disks_are_created_and_while_the_machine_is_created(
    lab, environment, repository, workers, people
):
    point = back_up(people.bob, environment.vms.get(name="db-01"))
    before = support.on_manager(environment)
    creating = support.start_restore(people.bob, point, "db-01-killed-early")
    support.wait_running(creating, "disks")
    support.kill_worker(creating)
    other = support.start_restore(people.bob, point, "db-01-killed-late")
    support.wait_running(other, "machine")
    support.kill_worker(other)
    _assert_taken_up(creating)
    _assert_taken_up(other)
    ids = [str(Restore.objects.get(job=job).new_vm_id) for job in (creating, other)]
    assert support.on_manager(environment).vms - before.vms == set(ids)
    support.remove_vm(environment, ids[1])
    support.assert_new_machine(lab, before, creating)


def test_sigterm_interrupts_and_another_worker_goes_on(lab, environment, repository, workers, people):
    web = environment.vms.get(name="web-01")
    before = support.on_manager(environment)
    with support.slow_image_server(lab):
        job = backups.start_vm_backup(actor=people.bob, vm=web)
        support.wait_reading(job)
        os.kill(support.worker_pid(job), signal.SIGTERM)
        wait_for(lambda: job.attempts.get(number=1).ended_at, what="the attempt is interrupted", seconds=5)
    support.succeeded(job)
    assert list(job.attempts.values_list("ending", flat=True)) == ["the worker was stopped", "succeeded"]
    support.assert_one_moment(lab, support.point_of(job))
    support.assert_manager_is_clean(environment, before)


def test_after_too_many_deaths_the_job_is_cleaned_up_and_fails(
    lab, environment, repository, workers, people, settings
):
    web = environment.vms.get(name="web-01")
    before = support.on_manager(environment)
    with support.slow_image_server(lab):
        job = backups.start_vm_backup(actor=people.bob, vm=web)
        support.wait_reading(job)
        support.kill_worker(job)
        Job.objects.filter(pk=job.pk).update(attempts_made=settings.JOB_MAX_ATTEMPTS)
    finished(job)
    assert (job.state, job.error_code) == ("failed", "gave_up")
    assert job.error_hint
    assert not job.warnings
    assert not RestorePoint.objects.filter(vm=web).exists()
    assert support.staged_points(web, repository.path) == []
    now = support.assert_manager_is_clean(environment, before)
    assert now.checkpoints == before.checkpoints
    job = support.succeeded(backups.start_vm_backup(actor=people.bob, vm=web))
    assert support.point_of(job).mode == "full"


def test_death_between_manifest_and_row(lab, environment, repository, workers, people):
    vm = environment.vms.get(name="files-01")
    point = back_up(people.bob, vm)
    job = support.job_of(point)
    before = support.on_manager(environment)
    point.delete()
    Job.objects.filter(pk=job.pk).update(state="pending", finished_at=None, result={}, rung_at=None)
    support.succeeded(job)
    again = support.point_of(job)
    assert (again.uuid, again.manifest_sha256) == (point.uuid, point.manifest_sha256)
    assert again.disks.count() == 1
    assert support.on_manager(environment) == before
    assert back_up(people.bob, vm).mode == "incremental"
