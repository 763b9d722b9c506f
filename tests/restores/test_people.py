# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose rights a restore plan takes along, in its hash and in words."""

import pytest
from django.test import Client

from portal.accounts.roles import Role
from portal.environments.models import VmGrant
from restores.people import in_words, people_of
from restores.plans import plan_new_vm
from restores.presenters import plan_words
from tests.factories import PersonFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


@pytest.fixture
def peopled(people, point):
    PersonFactory(vm=point.vm, principal="oscar@corp", display_name="Oscar Olsen")
    PersonFactory(
        vm=point.vm, principal="office@corp", display_name="office", kind="group", role_name="UserRole"
    )
    VmGrant.objects.create(vm=point.vm, user=people.dave, role=Role.VIEWER)
    VmGrant.objects.create(vm=point.vm, user=people.bob, role=Role.OPERATOR, source="manager")
    return point


def made(plan, point) -> str:
    return " · ".join(plan_words(plan, point)["made"])


def test_people_teams_and_rights_are_part_of_what_is_agreed_to(people, peopled):
    plan = plan_new_vm(peopled, name="a")
    assert {person.label for person in plan.people} == {"Oscar Olsen (oscar@corp)", "office@corp"}
    assert plan.teams == ("Web shop",)
    assert [(right.username, right.role) for right in plan.rights] == [("dave", "viewer")]
    words = made(plan, peopled)
    assert "on the Manager: office@corp as UserRole and Oscar Olsen (oscar@corp) as UserVmManager" in words
    assert "here: the team Web shop, dave as viewer" in words
    nobody = plan_new_vm(peopled, name="a", same_people=False)
    assert (nobody.people, nobody.teams, nobody.rights) == ((), (), ())
    assert "No rights on it for anybody but administrators" in made(nobody, peopled)
    hashes = {plan.hash, nobody.hash}
    peopled.vm.people.filter(principal="oscar@corp").delete()
    hashes.add(plan_new_vm(peopled, name="a").hash)
    peopled.vm.teams.clear()
    hashes.add(plan_new_vm(peopled, name="a").hash)
    VmGrant.objects.filter(user=people.dave).update(role=Role.ADMIN)
    hashes.add(plan_new_vm(peopled, name="a").hash)
    assert len(hashes) == 5


def test_a_machine_without_people_says_so(people, point):
    point.vm.teams.clear()
    assert "nobody but administrators has any on the original" in made(plan_new_vm(point, name="a"), point)


def test_long_lists_are_cut(people, point):
    for number in range(9):
        PersonFactory(vm=point.vm, principal=f"p{number}@corp", display_name="")
    text = in_words(people_of(point.vm))
    assert text.startswith("p0@corp as UserVmManager, p1@corp") and text.endswith(" and 4 others")


def test_the_page_offers_it_and_has_it_on(people, peopled):
    client = Client()
    client.force_login(people.bob)
    address = f"{peopled.get_absolute_url()}restore/"
    page = client.get(address).content.decode()
    assert "The same people have the same rights" in page and "Oscar Olsen (oscar@corp)" in page
    page = client.get(f"{address}?people=nobody").content.decode()
    assert "No rights on it for anybody but administrators" in page
    posted = {
        "name": "web-01-again",
        "people": "same",
        "plan_hash": plan_new_vm(peopled, name="web-01-again", same_people=False).hash,
    }
    assert client.post(address, posted).status_code == 422
