# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of every kind of machine, through real workers, against the lab; proven from outside the portal."""

import subprocess

import pytest
from ovirtsdk4 import types

from backups import services as backups
from backups.errors import BackupAlreadyRunning
from tests.flows import support
from tests.flows.support import back_up
from tests.worker_support import wait_for

pytestmark = [pytest.mark.flow, pytest.mark.lab]


@pytest.mark.embedded
def test_full_then_incremental_of_a_machine_whose_guest_writes(lab, environment, repository, workers, people):
    vm = environment.vms.get(name="web-01")
    before = support.on_manager(environment)
    full = back_up(people.bob, vm)
    assert (full.mode, full.consistency) == ("full", "crash")
    assert "first backup" in full.reason
    assert full.bytes_read < full.size_bytes / 2
    support.assert_one_moment(lab, full)
    support.guest_wrote(lab, vm, 20)

    second = back_up(people.bob, vm)
    assert second.mode == "incremental"
    assert second.from_checkpoint_id == full.checkpoint_id
    assert second.dirty_bytes
    assert 0 < second.bytes_read <= 2 * second.dirty_bytes
    assert second.bytes_read < full.bytes_read / 4
    support.assert_one_moment(lab, second)

    third = back_up(people.bob, vm)
    support.assert_one_moment(lab, third)
    now = support.assert_manager_is_clean(environment, before)
    ours = {str(point.checkpoint_id) for point in (full, second, third)}
    kept = [item for item in now.checkpoints[str(vm.manager_id)] if item in ours]
    assert kept == [str(second.checkpoint_id), str(third.checkpoint_id)]


def test_cold_machine_is_stored_bit_for_bit_and_again_after_a_change(
    lab, environment, repository, workers, people
):
    vm = environment.vms.get(name="files-01")
    before = support.on_manager(environment)
    full = back_up(people.bob, vm)
    assert (full.mode, full.consistency, full.vm_was_up) == ("full", "offline", False)
    support.assert_equals_volumes(lab, full)

    path = support.volume(lab, str(full.disks.get().manager_id))
    # Scattered, unaligned, over chunk borders, into a hole, and zeroes over data.
    changes = ["write -P 7 1000k 64k", "write -P 9 300M 4k", "write -P 8 900M 64k", "write -z 2M 128k"]
    arguments = [word for change in changes for word in ("-c", change)]
    subprocess.run(["qemu-io", "-f", "qcow2", *arguments, str(path)], check=True, capture_output=True)
    second = back_up(people.bob, vm)
    assert second.mode == "incremental"
    assert 0 < second.bytes_read <= 2 * (second.dirty_bytes or 0) <= 4 << 20
    support.assert_equals_volumes(lab, second)
    assert second.disks.get().digest != full.disks.get().digest
    support.assert_manager_is_clean(environment, before)


def test_two_disks_raw_and_mixed_machines(lab, environment, repository, workers, people):
    before = support.on_manager(environment)
    machines = {name: environment.vms.get(name=name) for name in ("db-01", "legacy-01", "mail-01")}
    rounds = []
    for _ in range(2):
        jobs = {name: backups.start_vm_backup(actor=people.bob, vm=vm) for name, vm in machines.items()}
        rounds.append({name: support.point_of(support.succeeded(job)) for name, job in jobs.items()})
    first, second = rounds

    assert [disk.mode for disk in second["db-01"].disks.all()] == ["incremental", "incremental"]
    assert second["db-01"].bytes_read <= 2 * (second["db-01"].dirty_bytes or 0)
    support.assert_one_moment(lab, second["db-01"])
    # db-01's first disk is not written to.
    assert first["db-01"].disks.get(bootable=True).digest == second["db-01"].disks.get(bootable=True).digest

    assert first["legacy-01"].checkpoint_id is None
    assert second["legacy-01"].mode == "full"
    assert "no checkpoint" in second["legacy-01"].reason
    assert second["legacy-01"].size_bytes % (1 << 20)
    support.assert_equals_volumes(lab, second["legacy-01"])

    assert first["mail-01"].mode == "full"
    assert second["mail-01"].mode == "mixed"
    disks = {disk.format: disk for disk in second["mail-01"].disks.all()}
    assert (disks["cow"].mode, disks["raw"].mode) == ("incremental", "full")
    assert disks["raw"].reason == "Full, because raw disks are always read in full."
    support.assert_one_moment(lab, second["mail-01"])
    support.assert_manager_is_clean(environment, before)


def test_a_checkpoint_that_is_gone_means_full_in_the_same_job(lab, environment, repository, workers, people):
    vm = environment.vms.get(name="files-01")
    back_up(people.bob, vm)
    support.remove_checkpoints(environment, vm)
    again = back_up(people.bob, vm)
    assert again.mode == "full"
    assert "no longer on the Manager" in again.reason
    assert again.checkpoint_id
    assert back_up(people.bob, vm).mode == "incremental"


def test_a_broken_bitmap_means_full_in_the_same_job(lab, environment, repository, workers, people):
    """Cold: known only when the transfer is opened. Live: the Manager drops all checkpoints at the start."""
    before = support.on_manager(environment)
    cold = environment.vms.get(name="files-01")
    full = back_up(people.bob, cold)
    path = support.volume(lab, str(full.disks.get().manager_id))
    command = ["qemu-img", "bitmap", "--remove", "-f", "qcow2", str(path), str(full.checkpoint_id)]
    subprocess.run(command, check=True, capture_output=True)
    again = back_up(people.bob, cold)
    assert again.mode == "full"
    assert "could not be used" in again.reason
    assert support.job_of(again).attempts_made == 1
    support.assert_equals_volumes(lab, again)
    assert str(full.checkpoint_id) not in support.checkpoints_of(environment, cold)

    live = environment.vms.get(name="mail-01")
    back_up(people.bob, live)
    for pid in support.children_of(lab, "qemu-storage-daemon"):
        if support.has_open(pid, support.volume(lab, str(live.disks.first().manager_id))):
            subprocess.run(["kill", "-9", str(pid)], check=True)
    support.wait_status(environment, live, "down")
    support.note_power_cut(lab, live)
    support.set_power(environment, live, up=True)
    again = back_up(people.bob, live)
    assert again.mode == "full"
    assert "broken" in again.reason
    assert support.job_of(again).attempts_made == 1
    assert support.checkpoints_of(environment, live) == (str(again.checkpoint_id),)
    support.assert_manager_is_clean(environment, before)


def test_disks_that_are_left_out_are_told_and_a_second_backup_is_refused(
    lab, environment, repository, workers, people
):
    environment.refresh_from_db()
    vm = environment.vms.get(name="files-01")
    with support.manager(environment) as system:
        disks = system.vms_service().vm_service(str(vm.manager_id)).disk_attachments_service()
        spare = disks.add(
            types.DiskAttachment(
                disk=types.Disk(
                    name="files-01_spare",
                    format=types.DiskFormat.COW,
                    provisioned_size=64 << 20,
                    storage_domains=[types.StorageDomain(id=environment.storage_domains[0]["domain_id"])],
                ),
                interface=types.DiskInterface.VIRTIO_SCSI,
                bootable=False,
                active=False,
            )
        )
        spare_disk = system.disks_service().disk_service(spare.id)
        wait_for(lambda: spare_disk.get().status.value == "ok", what="the spare disk")
        try:
            job = backups.start_vm_backup(actor=people.bob, vm=vm)
            with pytest.raises(BackupAlreadyRunning, match="already being backed up"):
                backups.start_vm_backup(actor=people.bob, vm=vm)
            point = support.point_of(support.succeeded(job))
        finally:
            disks.attachment_service(spare.id).remove(detach_only=False)
    assert [item.alias for item in point.disks.all()] == ["files-01_disk1"]
    stored = repository.open().open_point(environment.uuid, vm.manager_id, point.uuid)
    (excluded,) = stored.manifest["excluded_disks"]
    assert excluded["alias"] == "files-01_spare"
    assert "not active" in excluded["reason"]
