# SPDX-License-Identifier: GPL-3.0-or-later
"""Hybrid backups (compatibility level 4.7) through real workers, against the lab."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from backups import services as backups
from backups.methods import cleanup
from backups.models import RestorePoint
from portal.environments.models import VirtualMachine
from portal.jobs.models import Job
from tests.flows import support
from tests.flows.support import back_up, level
from tests.lab_support import LabFault
from tests.worker_support import finished

pytestmark = [pytest.mark.flow, pytest.mark.lab]
RUNNING, STOPPED = "web-01", "files-01"
ON_RUNNING = pytest.mark.parametrize("vm", [RUNNING], indirect=True)
ON_BOTH = pytest.mark.parametrize("vm", [STOPPED, RUNNING], indirect=True)
MERGING = "Merging the automatic snapshot"


@pytest.fixture
def vm(request, lab, environment, repository, workers) -> Iterator[VirtualMachine]:
    """A machine at level 4.7. Whatever happens in the test, nothing may be left of it on the Manager."""
    found = environment.vms.get(name=getattr(request, "param", STOPPED))
    before = support.on_manager(environment)
    with ExitStack() as stack:
        if found.name == RUNNING:
            stop(lab, found)
            stack.callback(support.set_power, environment, found, up=True)
        stack.enter_context(level(environment, found, 7))
        if found.name == RUNNING:
            support.set_power(environment, found, up=True)
            stack.callback(stop, lab, found)
            support.guest_wrote(lab, found, 20)
        yield found
        support.assert_manager_is_clean(environment, before)
        assert snapshots_of(found) == []


def stop(lab, vm: VirtualMachine) -> None:
    if not support.is_down(vm.environment, vm):
        support.set_power(vm.environment, vm, up=False)
    support.note_power_cut(lab, vm)


def snapshots_of(vm: VirtualMachine) -> list[str]:
    """Ids of all that the machine has on the Manager, but the active one."""
    with support.manager(vm.environment) as system:
        found = system.vms_service().vm_service(str(vm.manager_id)).snapshots_service().list()
    return [item.id for item in found if item.snapshot_type.value != "active"]


def title_of_the_end(job: Job) -> str:
    return job.steps.get(name="end").title


def failing(lab, vm: VirtualMachine, phase: str, **when: Any) -> LabFault:
    return lab.control.fault("phase", of="snapshot", phase=phase, how="fail", which=vm.name, **when)


def held(lab, vm: VirtualMachine, phase: str) -> LabFault:
    return lab.control.fault("phase", of="backup", phase=phase, how="hold", seconds=30, which=vm.name)


def with_a_snapshot_left(lab, vm: VirtualMachine, actor) -> Job:
    """A backup whose snapshot could be merged neither by the Manager nor at the portal's request."""
    with failing(lab, vm, "merge"):
        job = support.succeeded(backups.start_vm_backup(actor=actor, vm=vm))
    (snapshot,) = snapshots_of(vm)
    (warning,) = job.warnings
    assert f"automatic snapshot {snapshot} is still on {vm.name}" in warning
    assert job.resume_state["snapshot_id"] == snapshot
    assert job.warnings_open
    return job


def assert_settled(job: Job) -> None:
    job.refresh_from_db()
    assert "snapshot_id" not in job.resume_state
    assert not job.warnings_open


def assert_whole(lab, vm: VirtualMachine, point: RestorePoint) -> None:
    """A running machine's point against its guest's journal, a stopped one's against its volumes."""
    if support.is_down(vm.environment, vm):
        support.assert_equals_volumes(lab, point)
    else:
        support.assert_one_moment(lab, point)


def test_a_stopped_machine_in_full_and_incrementally(lab, vm, people):
    points = [back_up(people.bob, vm) for _ in range(2)]
    assert [point.mode for point in points] == ["full", "incremental"]
    assert points[1].from_checkpoint_id == points[0].checkpoint_id
    for point in points:
        job = support.job_of(point)
        assert (title_of_the_end(job), job.warnings) == (MERGING, [])
    support.assert_equals_volumes(lab, points[1])


@pytest.mark.slow
@ON_RUNNING
def test_a_running_machine_incrementally_and_without_a_snapshot(lab, vm, people):
    base = back_up(people.bob, vm)
    support.guest_wrote(lab, vm, 20)
    point = back_up(people.bob, vm)
    assert (point.mode, point.from_checkpoint_id) == ("incremental", base.checkpoint_id)
    assert title_of_the_end(support.job_of(point)) == MERGING
    job = support.succeeded(backups.start_vm_backup(actor=people.bob, vm=vm, legacy=True))
    assert title_of_the_end(job) == "Ending the backup on the Manager"
    without = support.point_of(job)
    assert (without.mode, without.from_checkpoint_id) == ("incremental", point.checkpoint_id)
    for each in (base, point, without):
        support.assert_one_moment(lab, each)


@pytest.mark.slow
def test_a_broken_bitmap_means_the_older_checkpoint(lab, vm, people):
    first, second = back_up(people.bob, vm), back_up(people.bob, vm)
    lab.control.act("break_bitmap", vm=vm.name, how="missing", checkpoint=str(second.checkpoint_id))
    third = back_up(people.bob, vm)
    assert (third.mode, third.from_checkpoint_id) == ("incremental", first.checkpoint_id)
    assert "could not be used" in third.reason
    support.assert_equals_volumes(lab, third)


@pytest.mark.slow
@ON_BOTH
def test_a_snapshot_that_cannot_be_merged_goes_with_the_next_backup(lab, vm, people):
    job = with_a_snapshot_left(lab, vm, people.bob)
    point = back_up(people.bob, vm)
    assert point.mode == "incremental"
    assert snapshots_of(vm) == []
    assert_settled(job)
    assert_whole(lab, vm, point)


@pytest.mark.slow
@ON_BOTH
def test_a_snapshot_that_cannot_be_merged_goes_with_the_clean_up(lab, vm, people):
    job = with_a_snapshot_left(lab, vm, people.bob)
    assert cleanup.order_cleanups() == 1
    support.succeeded(Job.objects.get(kind="vm_cleanup", vm=vm))
    assert snapshots_of(vm) == []
    assert_settled(job)
    point = back_up(people.bob, vm)
    assert point.mode == "incremental"
    assert_whole(lab, vm, point)


@pytest.mark.slow
@ON_RUNNING
def test_a_worker_killed_while_the_snapshot_is_merged(lab, vm, people):
    base = back_up(people.bob, vm)
    with held(lab, vm, "REMOVING_SNAPSHOT") as merging:
        job = backups.start_vm_backup(actor=people.bob, vm=vm)
        merging.wait_struck()
        support.kill_worker(job)
    support.succeeded(job)
    assert list(job.attempts.values_list("ending", flat=True)) == ["the worker fell silent", "succeeded"]
    assert job.warnings == []
    assert snapshots_of(vm) == []
    point = support.point_of(job)
    assert (point.mode, point.from_checkpoint_id) == ("incremental", base.checkpoint_id)
    support.assert_one_moment(lab, point)
    assert support.staged_points(vm, point.repository.path) == []


@pytest.mark.slow
@ON_RUNNING
def test_a_power_cut_does_not_harm_what_is_read_from_the_snapshot(lab, vm, people):
    back_up(people.bob, vm)
    with held(lab, vm, "READY") as ready:
        job = backups.start_vm_backup(actor=people.bob, vm=vm)
        ready.wait_struck()
        support.guest_wrote(lab, vm, 10)
        lab.control.act("power_off", vm=vm.name)
    support.succeeded(job)
    support.wait_status(vm.environment, vm, "down")
    assert job.attempts_made == 1
    assert snapshots_of(vm) == []
    support.assert_one_moment(lab, support.point_of(job))
    support.assert_equals_volumes(lab, back_up(people.bob, vm))


@pytest.mark.slow
@ON_BOTH
def test_a_snapshot_that_cannot_be_taken_leaves_nothing(lab, vm, people):
    before = support.checkpoints_of(vm.environment, vm)
    with failing(lab, vm, "creation"):
        job = finished(backups.start_vm_backup(actor=people.bob, vm=vm), seconds=90)
    assert (job.state, job.error_code) == ("failed", "backup_failed")
    assert job.error_hint
    assert not job.warnings
    assert snapshots_of(vm) == []
    assert support.checkpoints_of(vm.environment, vm) == before
    with failing(lab, vm, "creation", times=1):
        again = support.succeeded(backups.start_vm_backup(actor=people.bob, vm=vm))
    assert (again.attempts_made, again.result["mode"], again.warnings) == (2, "full", [])
    assert_whole(lab, vm, support.point_of(again))
