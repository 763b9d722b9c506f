# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a restore to a new machine: what it says, what blocks it, and its hash."""

import hashlib
import json

import pytest

from backups import services
from restores.plans import plan_new_vm, suggested_name
from tests.backups.support import disk_of, publish
from tests.factories import EnvironmentFactory, VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


def domain(domain_id, **changes):
    return {**EnvironmentFactory.storage_domains[0], "domain_id": domain_id, "name": domain_id, **changes}


def world(point, *, domains=None, clusters=None):
    """Change what is known of the Manager."""
    environment = point.vm.environment
    if domains is not None:
        environment.storage_domains = domains
    if clusters is not None:
        environment.clusters = clusters
    environment.save()
    return point


def test_a_plan_says_what_will_be_made(point):
    plan = plan_new_vm(point, name=" web-01-restored ")
    assert plan.blockers == ()
    assert (plan.name, plan.cluster_name, plan.storage_domain_name) == (
        "web-01-restored",
        "Default",
        "data-1",
    )
    assert (plan.network_plugged, plan.new_macs) == (False, True)
    assert [(disk.alias, disk.bootable) for disk in plan.disks] == [("system", True), ("data", False)]
    digests = {str(disk.manager_id): disk.digest for disk in point.disks.all()}
    assert {disk.disk_id: disk.digest for disk in plan.disks} == digests
    assert (plan.total_bytes, plan.nics, plan.excluded_disks) == (4 << 20, ("nic1",), ("lun",))


def test_the_same_plan_has_the_same_hash_and_another_one_another(point):
    first = plan_new_vm(point, name="a")
    assert plan_new_vm(point, name="a").hash == first.hash
    assert plan_new_vm(point, name=" a ").hash == first.hash
    others = [
        plan_new_vm(point, name="b"),
        plan_new_vm(point, name="a", network_plugged=True),
        plan_new_vm(point, name="a", cluster_id="nonsense"),
    ]
    VmFactory(environment=point.vm.environment, name="a")
    others.append(plan_new_vm(point, name="a"))
    assert len({first.hash, *(plan.hash for plan in others)}) == 5


@pytest.mark.parametrize("name", ["web-01", "a", "Größe_1.x+y", "база", "two words", "-x", "0" * 255])
def test_names_that_the_manager_takes(point, name):
    point.vm.name = "other"
    point.vm.save()
    assert plan_new_vm(point, name=name).blockers == ()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "needs a name"),
        ("   ", "needs a name"),
        ("a/b", "may hold"),
        ("a'b", "may hold"),
        ("<script>", "may hold"),
        ("a\nb", "may hold"),
        ("a;b", "may hold"),
        ("0" * 256, "longer than 255"),
        ("web-01", "exists already"),
    ],
)
def test_names_that_it_does_not_take(point, name, words):
    plan = plan_new_vm(point, name=name)
    assert len(plan.blockers) == 1
    assert words in plan.blockers[0]


def test_the_name_of_a_machine_that_is_gone_is_free_again(point):
    point.vm.gone_at = point.taken_at
    point.vm.save()
    assert plan_new_vm(point, name="web-01").blockers == ()
    assert plan_new_vm(point, name="web-01", new_macs=False).blockers == ()


def test_the_original_addresses_are_blocked_while_the_original_is_there(point):
    (blocker,) = plan_new_vm(point, name="x", new_macs=False).blockers
    assert "MAC addresses are still used" in blocker


def test_a_backup_storage_domain_is_never_taken(point):
    world(point, domains=[domain("backup", is_backup=True), domain("usual")])
    assert plan_new_vm(point, name="x").storage_domain_id == "usual"
    (blocker,) = plan_new_vm(point, name="x", storage_domain_id="backup").blockers
    assert "No active data storage domain" in blocker


@pytest.mark.parametrize(
    "unusable",
    [{"is_backup": True}, {"status": "maintenance"}, {"data_center_id": "d2"}],
    ids=["backup", "maintenance", "elsewhere"],
)
def test_without_a_usable_storage_domain_nothing_can_be_started(point, unusable):
    world(point, domains=[domain("s1", **unusable)])
    plan = plan_new_vm(point, name="x")
    assert plan.storage_domain_id == ""
    assert any("No active data storage domain" in blocker for blocker in plan.blockers)


def test_the_domain_and_cluster_of_the_original_are_preferred(point):
    clusters = [
        {"cluster_id": "c0", "name": "Other", "version": "4.6", "data_center_id": "d1"},
        {"cluster_id": "c1", "name": "Default", "version": "4.6", "data_center_id": "d1"},
    ]
    world(point, domains=[domain("s0"), domain("s1")], clusters=clusters)
    plan = plan_new_vm(point, name="x")
    assert (plan.cluster_id, plan.storage_domain_id) == ("c1", "s1")
    chosen = plan_new_vm(point, name="x", cluster_id="c0", storage_domain_id="s0")
    assert (chosen.cluster_id, chosen.storage_domain_id) == ("c0", "s0")


def test_without_any_cluster_nothing_can_be_started(point):
    world(point, clusters=[])
    assert any("no cluster" in blocker for blocker in plan_new_vm(point, name="x").blockers)


def test_little_space_is_noted_but_does_not_block(point):
    world(point, domains=[domain("s1", available_bytes=1 << 20)])
    plan = plan_new_vm(point, name="x")
    assert plan.blockers == ()
    assert any("more than the storage domain has free" in note for note in plan.notes)


def test_a_damaged_deleted_or_lost_point_blocks(point):
    point.verify_problem = "1 of 4 chunks."
    assert "1 of 4 chunks." in plan_new_vm(point, name="x").blockers[-1]
    point.verify_problem, point.deleted_at = "", point.taken_at
    assert "was deleted" in plan_new_vm(point, name="x").blockers[0]
    point.deleted_at = None
    store = point.repository.open()
    (store.path / "repository.json").unlink()
    assert "no repository" in plan_new_vm(point, name="x").blockers[0]


@pytest.mark.parametrize(
    "odd",
    [
        {"nics": None},
        {"nics": [{}]},
        {"machine": ["x"]},
        {"excluded_disks": [1]},
    ],
)
def test_a_manifest_that_describes_nothing_blocks_instead_of_crashing(repository, vm, odd):
    stored = publish(repository, vm)
    row = services.record_point(repository, vm, stored, None)
    _rewrite(stored, odd, row)
    plan = plan_new_vm(row, name="x")
    assert "does not describe the machine" in plan.blockers[0]
    assert plan.disks == ()


def test_a_manifest_whose_disks_have_no_index_blocks(repository, vm):
    stored = publish(repository, vm)
    row = services.record_point(repository, vm, stored, None)
    _rewrite(stored, {"disks": [disk_of("not stored")]}, row)
    assert "does not describe the machine" in plan_new_vm(row, name="x").blockers[0]


def test_a_manifest_that_was_changed_since_it_was_published_blocks(repository, vm):
    stored = publish(repository, vm)
    row = services.record_point(repository, vm, stored, None)
    _rewrite(stored, {"nics": []})
    assert "not the one that was published" in plan_new_vm(row, name="x").blockers[0]


def _rewrite(stored, changes, row=None) -> None:
    """As somebody who can write into the repository could; with `row` already when it was imported."""
    path = stored.folder / "manifest.json"
    path.chmod(0o600)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    if row is not None:
        row.manifest_sha256 = hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_free_name_is_suggested(point):
    assert suggested_name(point) == "web-01-restored"
    VmFactory(environment=point.vm.environment, name="web-01-restored")
    VmFactory(environment=point.vm.environment, name="web-01-restored-2")
    VmFactory(name="web-01-restored-3")
    assert suggested_name(point) == "web-01-restored-3"
    point.vm_name = "odd/näme " + "x" * 300
    assert plan_new_vm(point, name=suggested_name(point)).blockers == ()
