# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores that cannot even clean up, repositories that go away, and collections beside running backups."""

from pathlib import Path

import pytest
from ovirtsdk4 import types

from backups import services as backups
from backups import upkeep
from backups.store import gc
from backups.store.verify import verify_repository
from portal.audit.models import AuditEntry
from portal.jobs.models import Job
from restores.errors import PlanBlocked
from restores.sweep import sweep
from tests.flows import support
from tests.flows.support import back_up
from tests.worker_support import finished

pytestmark = [pytest.mark.flow, pytest.mark.lab]


@pytest.fixture
def unfaulted(lab):
    yield lab.control
    lab.control.clear()


def _cannot_clean_up(control, actor, point, name: str, *, at: str) -> Job:
    """A restore that is refused by the Manager at `at` and may delete nothing afterwards."""
    with (
        control.fault("answer", method="POST", path=at, status=403),
        control.fault("answer", method="DELETE", path="/**", status=403),
    ):
        job = finished(support.start_restore(actor, point, name))
    assert (job.state, job.error_code) == ("failed", "manager_forbids")
    return job


def test_what_a_restore_could_not_remove_is_removed_later(
    unfaulted, environment, repository, workers, people
):
    point = back_up(people.bob, environment.vms.get(name="legacy-01"))
    before = support.on_manager(environment)
    job = _cannot_clean_up(unfaulted, people.bob, point, "legacy-01-left", at="/vms")
    (disk_id,) = job.resume_state["disk_ids"].values()
    (warning,) = job.warnings
    assert disk_id in warning
    assert support.on_manager(environment).disks - before.disks == {disk_id}

    with unfaulted.fault("answer", method="DELETE", path="/disks/*", status=403):
        assert sweep() == 0
    job.refresh_from_db()
    assert job.warnings == [warning]
    assert sweep() == 1
    job.refresh_from_db()
    assert (job.state, job.warnings, job.resume_state.get("disk_ids")) == ("failed", [], None)
    assert support.told(job).endswith("What this restore had left on the Manager was removed.")
    assert AuditEntry.objects.filter(action="restore.swept").count() == 1
    assert support.on_manager(environment) == before
    assert sweep() == 0


@pytest.mark.slow
def test_a_machine_that_somebody_took_over_is_left_to_them(
    unfaulted, environment, repository, workers, people
):
    point = back_up(people.bob, environment.vms.get(name="legacy-01"))
    before = support.on_manager(environment)
    job = _cannot_clean_up(unfaulted, people.bob, point, "legacy-01-kept", at="/vms/*/diskattachments")
    vm_id = job.resume_state["vm_id"]
    with support.manager(environment) as system:
        system.vms_service().vm_service(vm_id).update(types.Vm(comment="ours now"))
    left = support.on_manager(environment)
    assert sweep() == 1
    assert support.on_manager(environment) == left
    job.refresh_from_db()
    assert "is being used by somebody" in support.told(job)
    with support.manager(environment) as system:
        system.vms_service().vm_service(vm_id).remove()
        for disk_id in left.disks - before.disks:
            system.disks_service().disk_service(disk_id).remove()


@pytest.mark.slow
def test_a_repository_that_is_not_mounted_is_told_and_never_filled(
    lab, unfaulted, environment, repository, workers, people
):
    """In the middle of a restore, and before a restore and a backup: the folder is there, and empty."""
    vm = environment.vms.get(name="legacy-01")
    point = back_up(people.bob, vm)
    before = support.on_manager(environment)
    folder, away = Path(repository.path), Path(repository.path).with_name("unmounted")
    with unfaulted.fault("connection", how="slow", direction="up", rate=2 << 20):
        restoring = support.start_restore(people.bob, point, "legacy-01-unmounted")
        support.wait_uploading(restoring)
        folder.rename(away)
        folder.mkdir()
    backing_up = backups.start_vm_backup(actor=people.bob, vm=environment.vms.get(name="files-01"))
    for job in (finished(restoring), finished(backing_up)):
        assert (job.state, job.error_code) == ("failed", "repository_missing"), job.error_message
        assert "mounted" in job.error_hint
        assert not job.warnings
    assert list(folder.iterdir()) == []
    assert support.on_manager(environment) == before
    folder.rmdir()
    away.rename(folder)
    again = support.succeeded(support.start_restore(people.bob, point, "legacy-01-mounted"))
    support.assert_new_machine(lab, before, again)


@pytest.mark.slow
def test_a_damaged_index_is_refused_clearly(lab, environment, repository, workers, people):
    vm = environment.vms.get(name="files-01")
    point = back_up(people.bob, vm)
    before = support.on_manager(environment)
    (path,) = point.open().folder.glob("*.caibx")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PlanBlocked, match=r"has \d+ bytes, not"):
        support.start_restore(people.bob, point, "files-01-truncated")
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :])
    job = finished(support.start_restore(people.bob, point, "files-01-flipped"))
    assert (job.state, job.attempts_made) == ("failed", 1)
    assert job.error_code in ("index_corrupt", "chunk_missing", "point_corrupt")
    assert job.error_hint
    assert support.on_manager(environment) == before
    path.write_bytes(whole)
    again = support.succeeded(support.start_restore(people.bob, point, "files-01-whole"))
    support.assert_new_machine(lab, before, again)


def test_garbage_is_collected_beside_two_running_backups(lab, environment, repository, workers, people):
    """Each backup in a process of its own, on chunks that nothing refers to any more and that are old enough."""
    first, second = (environment.vms.get(name=name) for name in ("web-01", "db-01"))
    store = repository.open()
    for vm in (first, second):
        point = back_up(people.bob, vm)
        backups.delete_restore_point(actor=people.alice, point=point, reason="made room")
    support.make_everything_old(store)
    store.purge_trash(older_than_seconds=store.gc_age_seconds)
    with support.slow_image_server(lab):
        jobs = [backups.start_vm_backup(actor=people.bob, vm=vm) for vm in (first, second)]
        for job in jobs:
            support.wait_reading(job)
        collection = support.succeeded(upkeep.start_collection(actor=people.root, repository=repository))
        assert all(not Job.objects.get(pk=job.pk).is_finished for job in jobs)
    workers_at_it = {support.worker_pid(support.succeeded(job)) for job in jobs}
    assert collection.state == "succeeded"
    assert len(workers_at_it) == 2
    assert gc.collect(store, older_than_seconds=store.gc_age_seconds).chunks_used > 0
    result = verify_repository(store)
    assert (result.bad, result.broken_points) == ([], {})
    for job in jobs:
        support.assert_one_moment(lab, support.point_of(job))
