# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores to new machines, compared with the originals on the Manager and in its storage."""

import pytest
from ovirtsdk4 import types

from backups import services as backups
from restores.errors import PlanBlocked
from tests.flows import support
from tests.flows.support import back_up
from tests.worker_support import finished

pytestmark = [pytest.mark.flow, pytest.mark.lab]


def _machine(system, vm_id):
    """What must be alike or different, of one machine."""
    service = system.vms_service().vm_service(vm_id)
    vm = service.get()
    attachments = service.disk_attachments_service().list(follow="disk")
    return vm, service.nics_service().list(), {item.disk.id: item for item in attachments}


@pytest.mark.embedded
def test_two_disks_come_back_as_a_new_machine_beside_the_original(
    lab, environment, repository, workers, people
):
    vm = environment.vms.get(name="db-01")
    point = back_up(people.bob, vm)
    before = support.on_manager(environment)
    with support.manager(environment) as system:
        original = _machine(system, str(vm.manager_id))
    restore = support.restore(people.bob, point, "db-01 again")
    new_id = str(restore.new_vm_id)
    try:
        with support.manager(environment) as system:
            new, nics, disks = _machine(system, new_id)
            untouched = _machine(system, str(vm.manager_id))
        support.assert_manager_is_clean(environment, before, new_vm=new_id, new_disks=2)
        old = original[0]
        assert (new.name, new.description, new.memory) == ("db-01 again", old.description, old.memory)
        topologies = [item.cpu.topology for item in (new, old)]
        assert len({(t.sockets, t.cores, t.threads) for t in topologies}) == 1
        assert new.status == types.VmStatus.DOWN
        assert nics
        assert not any(nic.plugged for nic in nics)
        assert not {nic.mac.address for nic in nics} & {nic.mac.address for nic in original[1]}
        assert [nic.name for nic in nics] == [nic.name for nic in original[1]]
        assert not set(disks) & set(original[2])
        new_by_alias = {item.disk.alias: item for item in disks.values()}
        old_by_alias = {item.disk.alias: item for item in original[2].values()}
        for alias, item in old_by_alias.items():
            assert (new_by_alias[alias].bootable, new_by_alias[alias].interface) == (
                item.bootable,
                item.interface,
            )
        in_order = [new_by_alias[disk.alias].disk.id for disk in point.disks.all()]
        support.assert_equals_volumes(lab, point, in_order)
        assert restore.proven_at
        assert untouched[0].status == types.VmStatus.UP
        assert set(untouched[2]) == set(original[2])
        assert [nic.plugged for nic in untouched[1]] == [nic.plugged for nic in original[1]]
        steps = restore.job.steps.filter(name__startswith="write-")
        assert {step.detail for step in steps} == {"Proven equal to the restore point by SHA-256."}
    finally:
        support.remove_vm(environment, new_id)


def test_raw_disk_comes_back_and_a_name_taken_meanwhile_is_refused_cleanly(
    lab, environment, repository, workers, people
):
    vm = environment.vms.get(name="legacy-01")
    point = back_up(people.bob, vm)
    before = support.on_manager(environment)
    restore = support.restore(people.bob, point, "legacy-01-restored")
    new_id = str(restore.new_vm_id)
    try:
        with support.manager(environment) as system:
            _, _, disks = _machine(system, new_id)
        (attachment,) = disks.values()
        assert attachment.disk.format == types.DiskFormat.RAW
        assert attachment.disk.provisioned_size == point.size_bytes
        support.assert_equals_volumes(lab, point, [attachment.disk.id])

        # As if somebody else had made it: the portal does not know that machine yet, so the plan does not either.
        environment.vms.get(manager_id=new_id).delete()
        with_first = support.on_manager(environment)
        refused = finished(support.start_restore(people.bob, point, "legacy-01-restored"))
        assert (refused.state, refused.error_code) == ("failed", "name_taken")
        assert "exists already; nothing was changed" in refused.error_message
        assert refused.attempts_made == 1
        support.assert_manager_is_clean(environment, with_first)
    finally:
        support.remove_vm(environment, new_id)
    support.assert_manager_is_clean(environment, before)


def test_a_damaged_chunk_is_found_refused_and_healed(lab, environment, repository, workers, people):
    vm = environment.vms.get(name="files-01")
    point = back_up(people.bob, vm)
    store = repository.open()
    stored = store.open_point(environment.uuid, vm.manager_id, point.uuid)
    with stored.index(str(point.disks.get().manager_id)) as index:
        damaged = store.chunks.path(index.chunk_id(1))
        lost = store.chunks.path(index.chunk_id(2))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged.write_bytes(content)
    lost.unlink()
    before = support.on_manager(environment)

    # Nobody has verified yet: the restore itself meets the damage, says so and removes what it made.
    failed = finished(support.start_restore(people.bob, point, "files-01-damaged"))
    assert (failed.state, failed.error_code) in [("failed", "chunk_corrupt"), ("failed", "chunk_missing")]
    assert failed.error_hint
    support.assert_manager_is_clean(environment, before)

    verify = finished(backups.verify_restore_point(actor=people.bob, point=point))
    assert (verify.state, verify.error_code) == ("failed", "point_damaged")
    point.refresh_from_db()
    assert "2 of" in point.verify_problem
    assert not damaged.exists()
    with pytest.raises(PlanBlocked, match="found damage"):
        support.start_restore(people.bob, point, "files-01-damaged")

    healing = back_up(people.bob, vm)
    assert healing.mode == "incremental"
    assert damaged.exists()
    assert lost.exists()
    support.assert_equals_volumes(lab, healing)
    for each in (healing, point):
        verified = support.succeeded(backups.verify_restore_point(actor=people.bob, point=each))
        assert verified.state == "succeeded"
    point.refresh_from_db()
    assert point.verify_problem == ""
