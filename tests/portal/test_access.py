# SPDX-License-Identifier: GPL-3.0-or-later
"""Who sees which machines, restore points and jobs, and what a role allows."""

import pytest

from backups.models import RestorePoint
from portal.accounts.roles import CAPABILITIES, Capability, Role, roles_with
from portal.environments.models import VirtualMachine, VmGrant
from portal.jobs.models import Job
from restores.models import Restore
from tests.factories import JobFactory, MembershipFactory, PointFactory, TeamFactory, VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

MAY = {
    "alice": set(Capability.values),
    "bob": {"back_up", "restore", "verify", "pin_points"},
    "carol": set(),
    "dave": set(),
    "root": set(Capability.values),
}


@pytest.fixture
def vm(people):
    vm = VmFactory(name="shop")
    vm.teams.add(people.team)
    return vm


@pytest.mark.parametrize("name", MAY)
def test_what_each_person_may_do_with_a_machine_of_the_team(people, vm, name):
    person = getattr(people, name)
    allowed = {capability for capability in Capability if vm.allows(person, capability)}
    assert allowed == MAY[name]
    for capability in Capability:
        found = VirtualMachine.objects.allowing(person, capability)
        assert list(found) == ([vm] if capability in MAY[name] else [])


@pytest.mark.parametrize("name", MAY)
def test_who_sees_a_machine_with_its_points_jobs_and_restores(people, vm, name):
    person, sees = getattr(people, name), name != "dave"
    point, job = PointFactory(vm=vm), JobFactory(vm=vm)
    Restore.objects.create(job=job, point=point, method="new_vm", target_name="x", plan_hash="0")
    for rows in (VirtualMachine, RestorePoint, Job, Restore):
        assert rows.objects.visible_to(person).count() == sees


def test_a_grant_on_one_machine_shows_that_one_only(people, vm):
    other = VmFactory()
    other.teams.add(people.team)
    VmGrant.objects.create(vm=vm, user=people.dave, role=Role.OPERATOR)
    assert list(VirtualMachine.objects.visible_to(people.dave)) == [vm]
    assert vm.allows(people.dave, Capability.RESTORE)
    assert not vm.allows(people.dave, Capability.DELETE_POINTS)
    assert not other.allows(people.dave, Capability.RESTORE)


def test_rights_of_team_and_grant_add_up_and_rows_come_once(people, vm):
    VmGrant.objects.create(vm=vm, user=people.carol, role=Role.OPERATOR)
    second = TeamFactory()
    MembershipFactory(team=second, user=people.carol, role=Role.AUDITOR)
    vm.teams.add(second)
    assert list(VirtualMachine.objects.visible_to(people.carol)) == [vm]
    assert list(VirtualMachine.objects.allowing(people.carol, Capability.RESTORE)) == [vm]
    assert vm.allows(people.carol, Capability.READ_AUDIT)
    JobFactory(vm=vm, requested_by=people.carol)
    assert Job.objects.visible_to(people.carol).count() == 1


def test_a_role_in_one_team_is_none_on_the_machines_of_another(people, vm):
    elsewhere = VmFactory()
    elsewhere.teams.add(people.dave.teams.get())
    MembershipFactory(team=people.dave.teams.get(), user=people.bob, role=Role.VIEWER)
    assert elsewhere.allows(people.dave, Capability.RESTORE)
    assert VirtualMachine.objects.visible_to(people.bob).count() == 2
    assert list(VirtualMachine.objects.allowing(people.bob, Capability.RESTORE)) == [vm]


@pytest.mark.parametrize("name", ["alice", "root"])
def test_people_who_were_switched_off_see_nothing(people, vm, name):
    person = getattr(people, name)
    PointFactory(vm=vm, job=JobFactory(vm=vm, requested_by=person))
    person.is_active = False
    person.save()
    assert not VirtualMachine.objects.visible_to(person).exists()
    assert not VirtualMachine.objects.allowing(person, Capability.BACK_UP).exists()
    assert not RestorePoint.objects.visible_to(person).exists()
    assert not Job.objects.visible_to(person).exists()


def test_people_see_the_jobs_that_they_asked_for(people):
    job = JobFactory(vm=None, requested_by=people.dave)
    assert list(Job.objects.visible_to(people.dave)) == [job]
    assert not Job.objects.visible_to(people.alice).exists()


def test_every_role_has_its_capabilities():
    assert set(CAPABILITIES) == set(Role)
    assert roles_with(Capability.DELETE_POINTS) == [Role.ADMIN]
    assert set(roles_with(Capability.RESTORE)) == {Role.OPERATOR, Role.ADMIN}
