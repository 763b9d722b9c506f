# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore's job looks whether the world is still the one that was planned for."""

from dataclasses import replace

import pytest

from backups import services
from portal.ovirt import inventory
from portal.ovirt.inventory import StorageDomainFacts
from restores import world
from restores.errors import PlanBlocked, PlanChanged, StorageFull
from restores.plans import plan_new_vm
from restores.services import start_restore
from tests.backups.support import disk_of, publish
from tests.factories import VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

GIB = 1 << 30


@pytest.fixture
def restore(people, point):
    plan = plan_new_vm(point, name="web-01-restored")
    return start_restore(actor=people.bob, point=point, plan=plan, plan_hash=plan.hash)


@pytest.fixture
def storage(restore, monkeypatch) -> list[StorageDomainFacts]:
    """The Manager's storage domains: the planned one, of which 10 GiB are free."""
    plan = restore.plan
    name = plan["storage_domain_name"]
    listed = [StorageDomainFacts(plan["storage_domain_id"], name, "nfs", "active", "dc", 10 * GIB, 0, False)]
    monkeypatch.setattr(inventory, "storage_domains", lambda connection: tuple(listed))
    return listed


def test_an_unchanged_world_is_fine(restore, storage):
    world.require_plan(restore)
    world.require_storage(None, restore, 10 * GIB)


def test_what_blocks_a_plan_now_ends_a_job_that_was_planned_before(restore):
    VmFactory(environment=restore.point.vm.environment, name="web-01-restored")
    with pytest.raises(PlanBlocked, match=r"exists already.*Nothing was made"):
        world.require_plan(restore)


def test_a_storage_domain_of_another_kind_is_a_change(restore):
    environment = restore.point.vm.environment
    environment.storage_domains[0]["kind"] = "iscsi"
    environment.save()
    with pytest.raises(PlanChanged, match=r"the storage domain's kind changed. Nothing was made") as caught:
        world.require_plan(restore)
    assert "new plan" in caught.value.hint


def test_a_storage_domain_must_be_there_and_active(restore, storage):
    storage[0] = replace(storage[0], status="maintenance")
    with pytest.raises(PlanBlocked, match=r"is maintenance. Nothing was made"):
        world.require_storage(None, restore, 1)
    storage.clear()
    with pytest.raises(PlanBlocked, match=r"not on the Manager any more"):
        world.require_storage(None, restore, 1)


def test_a_storage_domain_without_room_is_told_before_anything_is_made(restore, storage):
    with pytest.raises(StorageFull, match=r"10 GiB free.*Nothing was made") as caught:
        world.require_storage(None, restore, 10 * GIB + 1)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("changes", "kind", "blocked"),
    [({"sparse": False}, "nfs", True), ({"format": "raw"}, "fcp", True), ({"format": "raw"}, "nfs", False)],
)
def test_disks_that_take_their_whole_size_must_fit(repository, vm, changes, kind, blocked):
    disks = [disk_of("system", bootable=True, **changes)]
    point = services.record_point(repository, vm, publish(repository, vm, disks=disks), None)
    environment = vm.environment
    environment.storage_domains = [
        {**environment.storage_domains[0], "kind": kind, "available_bytes": 1 << 20}
    ]
    environment.save()
    blockers = plan_new_vm(point, name="another").blockers
    assert any("free; disks that take their whole size" in text for text in blockers) == blocked
