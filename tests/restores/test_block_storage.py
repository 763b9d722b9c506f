# SPDX-License-Identifier: GPL-3.0-or-later
"""On iSCSI and Fibre Channel a thin disk must be large enough for its data before the upload begins."""

from types import SimpleNamespace

import pytest

from restores.methods.new_vm import NewVmRestore
from restores.plans import plan_new_vm

MIB = 1 << 20


def planned_disks(point, kind: str):
    environment = point.vm.environment
    environment.set_password("secret")
    environment.storage_domains[0]["kind"] = kind
    environment.save()
    plan = plan_new_vm(point, name="web-01-restored")
    stored = point.repository.open().open_point(environment.uuid, point.vm.manager_id, point.uuid)
    context = SimpleNamespace(job=None, memory={}, remember=lambda **facts: None)
    restore = SimpleNamespace(plan=plan.as_json(), point=point)
    return NewVmRestore(context, restore, stored, None).plan_disks().values()


@pytest.mark.parametrize("kind", ["iscsi", "fcp"])
def test_a_thin_disk_on_block_storage_begins_with_room_for_its_data(point, kind):
    for disk in planned_disks(point, kind):
        assert disk.sparse
        assert disk.initial_bytes is not None
        assert 4 * MIB < disk.initial_bytes <= disk.size_bytes + 5 * MIB


def test_on_file_storage_nothing_is_reserved(point):
    assert [disk.initial_bytes for disk in planned_disks(point, "nfs")] == [None, None]
