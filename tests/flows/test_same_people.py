# SPDX-License-Identifier: GPL-3.0-or-later
"""After a restore the same people have the same rights on the new machine, on the lab's Manager and in the portal."""

from collections.abc import Iterator

import pytest
from ovirtsdk4 import types

from portal.accounts.roles import Role
from portal.audit.models import AuditEntry
from portal.environments.models import VirtualMachine, VmGrant
from portal.environments.people import set_identity
from portal.environments.services import refresh_inventory
from portal.ovirt.connection import connect
from portal.ovirt.people import read_people
from restores.models import Restore
from restores.plans import plan_new_vm
from restores.services import start_restore
from tests.factories import UserFactory
from tests.flows import support
from tests.flows.support import back_up
from tests.worker_support import finished

pytestmark = [pytest.mark.flow, pytest.mark.lab]
NADIA, OFFICE = "nadia@internal-authz", "office@internal-authz"


def people_there(environment, vm_id: str) -> set[tuple[str, str]]:
    """Who has which role on the machine itself, by the Manager."""
    with connect(environment.address()) as connection:
        return {
            (fact.principal, fact.role_name) for fact in read_people(connection) if fact.vm_id == str(vm_id)
        }


def start(actor, point, name, **wishes):
    plan = plan_new_vm(point, name=name, **wishes)
    return start_restore(actor=actor, point=point, plan=plan, plan_hash=plan.hash).job


@pytest.fixture
def files(environment) -> VirtualMachine:
    return environment.vms.get(name="files-01")


@pytest.fixture
def petra(environment) -> Iterator[str]:
    """In the engine, with a role on legacy-01; her id there."""
    with support.manager(environment) as system:
        user = system.users_service().add(types.User(user_name="petra@internal-authz"))
        legacy = environment.vms.get(name="legacy-01")
        permissions = system.vms_service().vm_service(str(legacy.manager_id)).permissions_service()
        role = types.Role(name="UserVmManager")
        permissions.add(types.Permission(user=types.User(id=user.id), role=role))
        refresh_inventory(environment)
        yield user.id
        if any(each.id == user.id for each in system.users_service().list()):
            system.users_service().user_service(user.id).remove()


def test_on_the_manager_and_here_at_once(lab, environment, repository, workers, people, files):
    nadia = UserFactory(username="nadia")
    set_identity(actor=people.root, environment=environment, principal=NADIA, user=nadia)
    VmGrant.objects.create(vm=files, user=people.dave, role=Role.VIEWER)
    point = back_up(people.bob, files)
    job = support.succeeded(start(nadia, point, "files-01-theirs"))
    restore = Restore.objects.get(job=job)
    try:
        assert job.warnings == []
        assert people_there(environment, restore.new_vm_id) == {
            (NADIA, "UserVmManager"),
            (OFFICE, "UserVmManager"),
        }
        new = environment.vms.get(manager_id=restore.new_vm_id)
        assert (new.name, new.disks.count()) == ("files-01-theirs", 1)
        assert list(new.teams.all()) == [people.team]
        assert set(new.grants.values_list("user__username", "role", "source")) == {
            ("dave", Role.VIEWER, "hand"),
            ("nadia", Role.OPERATOR, "manager"),
        }
        entry = AuditEntry.objects.get(action="restore.same_people")
        assert (entry.actor_name, entry.object_label) == ("nadia", "files-01-theirs")
        assert entry.data["after"] == {"teams": ["Web shop"], "rights": {"dave": "viewer"}}
        refresh_inventory(environment)
        assert VirtualMachine.objects.visible_to(nadia).filter(pk=new.pk).exists()
        assert new.grants.count() == 2
    finally:
        support.remove_vm(environment, str(restore.new_vm_id))


def test_killed_between_two_people(lab, environment, repository, workers, people, files):
    point = back_up(people.bob, files)
    before = support.on_manager(environment)
    asked = {"method": "POST", "path": "/vms/*/permissions", "how": "slow", "after": 1, "times": 1}
    with lab.control.fault("answer", **asked) as fault:
        job = start(people.bob, point, "files-01-killed")
        fault.wait_struck()
        support.kill_worker(job)
        support.succeeded(job)
    restore = Restore.objects.get(job=job)
    assert job.attempts.count() >= 2
    assert job.warnings == []
    owners = {(NADIA, "UserVmManager"), (OFFICE, "UserVmManager")}
    assert people_there(environment, restore.new_vm_id) == owners
    new = environment.vms.get(manager_id=restore.new_vm_id)
    assert new.people.count() == 2
    assert AuditEntry.objects.filter(action="restore.same_people").count() == 1
    support.assert_new_machine(lab, before, job)


@pytest.mark.slow
def test_what_cannot_be_given_is_a_warning(lab, environment, repository, workers, people, petra):
    legacy = environment.vms.get(name="legacy-01")
    point = back_up(people.bob, legacy)
    new_vms = []
    try:
        with lab.control.fault("forbidden", permit="MANIPULATE_PERMISSIONS"):
            job = support.succeeded(start(people.bob, point, "legacy-01-no-right"))
        new_vms.append(str(job.result["vm_id"]))
        (warning,) = job.warnings
        assert warning.startswith(f"The portal's account {lab.username} may not manage permissions on Lab")
        assert "Petra Peeters (petra@internal-authz) as UserVmManager" in warning
        with support.manager(environment) as system:
            system.users_service().user_service(petra).remove()
        job = support.succeeded(start(people.bob, point, "legacy-01-nobody-known"))
        new_vms.append(str(job.result["vm_id"]))
        (warning,) = job.warnings
        assert "does not know Petra Peeters (petra@internal-authz) any more" in warning
        for vm_id in new_vms:
            assert people_there(environment, vm_id) == set()
            assert list(environment.vms.get(manager_id=vm_id).teams.all()) == [people.team]
    finally:
        for vm_id in new_vms:
            support.remove_vm(environment, vm_id)


@pytest.mark.slow
def test_nobody_if_so_wished_and_nobody_who_lost_a_right_meanwhile(
    lab, environment, repository, workers, people, files
):
    point = back_up(people.bob, files)
    new_vms = []
    try:
        job = support.succeeded(start(people.bob, point, "files-01-nobodys", same_people=False))
        new_vms.append(str(job.result["vm_id"]))
        assert people_there(environment, new_vms[0]) == set()
        assert not job.steps.filter(name="people").exists()
        with lab.control.fault("phase", of="vm", phase="creation", which="files-01-fewer") as held:
            job = start(people.bob, point, "files-01-fewer")
            held.wait_struck()
            files.people.filter(principal=NADIA).delete()
            files.teams.clear()
        support.succeeded(finished(job))
        new_vms.append(str(job.result["vm_id"]))
        assert people_there(environment, new_vms[1]) == {(OFFICE, "UserVmManager")}
        assert not environment.vms.get(manager_id=new_vms[1]).teams.exists()
        assert "no longer has UserVmManager" in support.told(job)
    finally:
        for vm_id in new_vms:
            support.remove_vm(environment, vm_id)
