# SPDX-License-Identifier: GPL-3.0-or-later
"""A token's limits take away from its owner's rights, everywhere, and never add to them."""

import pytest

from backups.models import RestorePoint
from portal.accounts.limits import Limits
from portal.accounts.models import User
from portal.accounts.roles import Capability, Role
from portal.environments.models import VirtualMachine, VmGrant
from portal.jobs.models import Job
from restores.models import Restore
from tests.factories import JobFactory, MembershipFactory, PointFactory, TeamFactory, VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

EVERYTHING = frozenset(Capability)


@pytest.fixture
def vm(people):
    """A machine of the team with one of everything on it."""
    vm = VmFactory(name="shop")
    vm.teams.add(people.team)
    _everything_on(vm)
    return vm


@pytest.fixture
def second(people):
    """One of a second team, in which alice is admin too."""
    team = TeamFactory(name="Second")
    MembershipFactory(team=team, user=people.alice, role=Role.ADMIN)
    vm = VmFactory(name="second")
    vm.teams.add(team)
    _everything_on(vm)
    return vm


def _everything_on(vm, requested_by=None):
    point, job = PointFactory(vm=vm), JobFactory(vm=vm, requested_by=requested_by)
    Restore.objects.create(job=job, point=point, method="new_vm", target_name="x", plan_hash="0")


def _with(person: User, **limits) -> User:
    found = User.objects.get(pk=person.pk)
    found.limits = Limits(**limits)
    return found


def _seen(person: User) -> list[int]:
    return [rows.objects.visible_to(person).count() for rows in (VirtualMachine, RestorePoint, Job, Restore)]


@pytest.mark.parametrize("name", ["alice", "root"])
def test_only_the_capabilities_of_the_token_remain(people, vm, name):
    person = _with(getattr(people, name), capabilities=frozenset({Capability.BACK_UP}))
    assert _seen(person) == [1, 1, 1, 1]
    assert [cap for cap in Capability if vm.allows(person, cap)] == [Capability.BACK_UP]
    assert not VirtualMachine.objects.allowing(person, Capability.RESTORE).exists()


def test_a_token_adds_nothing_to_a_role(people, vm):
    viewer = _with(people.carol, capabilities=EVERYTHING, admin=True)
    assert not any(vm.allows(viewer, capability) for capability in Capability)
    assert not viewer.is_platform_admin
    assert _seen(_with(people.dave, capabilities=EVERYTHING, admin=True)) == [0, 0, 0, 0]


def test_a_token_of_one_team_knows_no_other_team(people, vm, second):
    assert _seen(people.alice) == [2, 2, 2, 2]
    tied = _with(people.alice, capabilities=EVERYTHING, team_id=people.team.pk)
    assert list(VirtualMachine.objects.visible_to(tied)) == [vm]
    assert _seen(tied) == [1, 1, 1, 1]
    assert vm.allows(tied, Capability.DELETE_POINTS)
    assert not second.allows(tied, Capability.BACK_UP)


def test_a_token_of_one_team_counts_that_teams_role_alone(people, vm):
    """alice is admin of a second team of the machine and only a viewer of the token's team."""
    viewers = TeamFactory(name="Lookers-on")
    MembershipFactory(team=viewers, user=people.alice, role=Role.VIEWER)
    vm.teams.add(viewers)
    tied = _with(people.alice, capabilities=EVERYTHING, team_id=viewers.pk)
    assert _seen(tied) == [1, 1, 1, 1]
    assert not any(vm.allows(tied, capability) for capability in Capability)


def test_grants_and_own_jobs_do_not_count_for_a_token_of_one_team(people, vm):
    mine = VmFactory()
    VmGrant.objects.create(vm=mine, user=people.alice, role=Role.ADMIN)
    _everything_on(VmFactory(), requested_by=people.alice)
    assert _seen(people.alice) == [2, 1, 2, 2]
    assert _seen(_with(people.alice, capabilities=EVERYTHING)) == [2, 1, 2, 2]
    tied = _with(people.alice, capabilities=EVERYTHING, team_id=people.team.pk)
    assert _seen(tied) == [1, 1, 1, 1]
    assert not mine.allows(tied, Capability.BACK_UP)


def test_a_token_of_a_team_that_its_owner_has_left_reaches_nothing(people, vm):
    people.alice.memberships.all().delete()
    tied = _with(people.alice, capabilities=EVERYTHING, team_id=people.team.pk)
    assert _seen(tied) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("limits", "admin", "sees"),
    [
        ({}, False, True),
        ({"admin": True}, True, True),
        ({"admin": True, "team_id": 0}, False, False),
    ],
)
def test_a_platform_admins_token(people, vm, limits, admin, sees):
    """Without `admin` it reads every machine but manages nothing; tied to a team it is a member's at most."""
    person = _with(people.root, capabilities=EVERYTHING, **limits)
    assert person.is_platform_admin is admin
    assert _seen(person) == [int(sees)] * 4
    assert vm.allows(person, Capability.BACK_UP) is sees


def test_a_removed_owner_sees_nothing_whatever_the_token_says(people, vm):
    for name in ("alice", "root"):
        person = _with(getattr(people, name), capabilities=EVERYTHING, admin=True)
        _everything_on(VmFactory(), requested_by=person)
        person.is_active = False
        assert _seen(person) == [0, 0, 0, 0]
        assert not person.is_platform_admin
        assert not vm.allows(person, Capability.BACK_UP)


def test_limits_belong_to_the_instance_of_one_request(people):
    _with(people.alice, capabilities=frozenset())
    assert User.objects.get(pk=people.alice.pk).limits is None
