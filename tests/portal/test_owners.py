# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's owners by the Manager's word: who they are here, and the rights that come and go with it."""

import uuid

import pytest
from allauth.socialaccount.models import SocialAccount
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from portal.accounts.models import KnownGroups
from portal.accounts.roles import Capability, Role
from portal.audit.models import AuditEntry
from portal.environments.models import Environment, ManagerIdentity, VirtualMachine, VmGrant
from portal.environments.people import (
    IdentityTaken,
    NotAPrincipal,
    grant_owners,
    remove_identity,
    set_identity,
    set_owner_rules,
    store_people,
)
from portal.errors import NotAllowed
from portal.ovirt.people import GROUP, USER, PersonFacts
from tests.factories import EnvironmentFactory, UserFactory, VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]
OWNER_ROLE = "def00006-0000-0000-0000-def000000006"


def fact(vm: VirtualMachine, login: str, role: str = "UserVmManager", kind: str = USER) -> PersonFacts:
    principal_id = str(uuid.uuid5(uuid.NAMESPACE_DNS, login))
    role_id = OWNER_ROLE if role == "UserVmManager" else str(uuid.uuid5(uuid.NAMESPACE_DNS, role))
    return PersonFacts(str(vm.manager_id), kind, principal_id, f"{login}@corp", login.title(), role_id, role)


@pytest.fixture
def oscar():
    return UserFactory(username="oscar")


@pytest.fixture
def vm():
    return VmFactory()


def grants(user) -> set[tuple[str, str, str]]:
    return set(user.vm_grants.values_list("vm__name", "role", "source"))


def test_an_owner_gets_the_machine_and_loses_it_with_the_managers_word(people, oscar, vm) -> None:
    other = VmFactory(environment=vm.environment)
    set_identity(actor=people.root, environment=vm.environment, principal="oscar@corp", user=oscar)
    store_people(vm.environment, [fact(vm, "oscar"), fact(other, "oscar", "UserRole"), fact(other, "nadia")])
    assert grants(oscar) == {(vm.name, Role.OPERATOR, "manager")}
    assert list(VirtualMachine.objects.visible_to(oscar)) == [vm]
    assert vm.allows(oscar, Capability.RESTORE)
    assert not vm.allows(oscar, Capability.DELETE_POINTS)
    store_people(vm.environment, [fact(other, "oscar")])
    assert grants(oscar) == {(other.name, Role.OPERATOR, "manager")}
    store_people(vm.environment, [])
    assert not VirtualMachine.objects.visible_to(oscar).exists()
    told = AuditEntry.objects.filter(action__startswith="owner.").order_by("id")
    assert [(entry.action, entry.object_label) for entry in told] == [
        ("owner.give", vm.name),
        ("owner.take", vm.name),
        ("owner.give", other.name),
        ("owner.take", other.name),
    ]
    assert told[0].data["after"] == {"person": "oscar", "role": "operator", "principal": "oscar@corp"}


def test_neither_word_alone_gives_anything(people, oscar, vm) -> None:
    """A person of the same name is not the Manager's user; nor does an identity of another Manager count."""
    store_people(vm.environment, [fact(vm, "oscar")])
    elsewhere = EnvironmentFactory()
    set_identity(actor=people.root, environment=elsewhere, principal="oscar@corp", user=oscar)
    assert grants(oscar) == set()
    identity = set_identity(actor=people.root, environment=vm.environment, principal="oscar@corp", user=oscar)
    assert grants(oscar) == {(vm.name, Role.OPERATOR, "manager")}
    remove_identity(actor=people.root, identity=identity)
    assert grants(oscar) == set()


def test_a_right_given_by_hand_stays(people, oscar, vm) -> None:
    VmGrant.objects.create(vm=vm, user=oscar, role=Role.VIEWER)
    set_identity(actor=people.root, environment=vm.environment, principal="oscar@corp", user=oscar)
    store_people(vm.environment, [fact(vm, "oscar")])
    assert vm.allows(oscar, Capability.RESTORE)
    assert VirtualMachine.objects.visible_to(oscar).count() == 1
    store_people(vm.environment, [])
    assert grants(oscar) == {(vm.name, Role.VIEWER, "hand")}


def test_groups_are_known_but_nobody_becomes_their_members(people, oscar, vm) -> None:
    set_identity(actor=people.root, environment=vm.environment, principal="office@corp", user=oscar)
    store_people(vm.environment, [fact(vm, "office", kind=GROUP)])
    assert [person.principal for person in vm.people.all()] == ["office@corp"]
    assert grants(oscar) == set()


def test_who_was_removed_from_the_portal_gets_nothing(people, oscar, vm) -> None:
    set_identity(actor=people.root, environment=vm.environment, principal="oscar@corp", user=oscar)
    store_people(vm.environment, [fact(vm, "oscar")])
    oscar.is_active = False
    oscar.save()
    store_people(vm.environment, [fact(vm, "oscar")])
    assert grants(oscar) == set()


def test_a_deleted_machine_keeps_its_last_owners(people, oscar, vm) -> None:
    set_identity(actor=people.root, environment=vm.environment, principal="oscar@corp", user=oscar)
    store_people(vm.environment, [fact(vm, "oscar")])
    VirtualMachine.objects.filter(pk=vm.pk).update(gone_at=timezone.now(), status="gone")
    store_people(vm.environment, [])
    assert grants(oscar) == {(vm.name, Role.OPERATOR, "manager")}


def test_rules_of_a_manager_decide_who_is_an_owner_and_what_owners_get(people, oscar, vm) -> None:
    set_identity(actor=people.root, environment=vm.environment, principal="oscar@corp", user=oscar)
    store_people(vm.environment, [fact(vm, "oscar", "UserRole")])
    assert grants(oscar) == set()

    def rules(roles: list[str], owners_get: str) -> None:
        environment = Environment.objects.get(pk=vm.environment.pk)
        set_owner_rules(actor=people.root, environment=environment, roles=roles, owners_get=owners_get)

    rules(["UserVmManager", "UserRole"], Role.ADMIN)
    assert grants(oscar) == {(vm.name, Role.ADMIN, "manager")}
    rules(["UserRole"], Role.VIEWER)
    assert grants(oscar) == {(vm.name, Role.VIEWER, "manager")}
    rules(["UserRole"], "")
    assert grants(oscar) == set()
    last = AuditEntry.objects.filter(action="environment.change").latest("id")
    assert (last.data["before"]["owners_get"], last.data["after"]["owners_get"]) == ("viewer", "")


def test_nobody_says_who_they_are_themselves(people, oscar, vm) -> None:
    for person in (oscar, people.alice):
        with pytest.raises(NotAllowed):
            set_identity(actor=person, environment=vm.environment, principal="oscar@corp", user=person)
        with pytest.raises(NotAllowed):
            set_owner_rules(actor=person, environment=vm.environment, roles=["UserRole"], owners_get="admin")
    identity = set_identity(actor=people.root, environment=vm.environment, principal="oscar@corp", user=oscar)
    with pytest.raises(NotAllowed):
        remove_identity(actor=oscar, identity=identity)
    with pytest.raises(IdentityTaken, match=r"oscar@corp is oscar already"):
        set_identity(actor=people.root, environment=vm.environment, principal="oscar@corp", user=people.bob)
    for wrong in ("oscar", "@corp", "oscar@", ""):
        with pytest.raises(NotAPrincipal):
            set_identity(actor=people.root, environment=vm.environment, principal=wrong, user=oscar)
    assert ManagerIdentity.objects.count() == 1


def test_as_many_queries_for_many_machines(people, oscar) -> None:
    environment = EnvironmentFactory()
    set_identity(actor=people.root, environment=environment, principal="oscar@corp", user=oscar)
    few = VmFactory.create_batch(2, environment=environment)
    known = [fact(vm, name) for vm in few for name in ("oscar", "nadia")]
    store_people(environment, known)
    with CaptureQueriesContext(connection) as first:
        store_people(environment, known)
    many = VmFactory.create_batch(30, environment=environment)
    known += [fact(vm, name) for vm in many for name in ("oscar", "nadia")]
    store_people(environment, known)
    with CaptureQueriesContext(connection) as second:
        store_people(environment, known)
    assert len(second) == len(first)
    assert oscar.vm_grants.count() == 32
    grant_owners(environment)
    assert AuditEntry.objects.filter(action="owner.give").count() == 32


def test_people_page(people, oscar, vm) -> None:
    store_people(vm.environment, [fact(vm, "oscar"), fact(vm, "office", kind=GROUP)])
    url = reverse("environments:environment_people", args=[vm.environment.uuid])
    client = Client()
    client.force_login(people.alice)
    assert client.get(url).status_code == 404
    assert client.post(url, {"principal": "oscar@corp", "username": "alice"}).status_code == 404
    client.force_login(people.root)
    page = client.get(url).content.decode()
    assert "oscar@corp" in page and "office@corp" in page
    wrong = client.post(url, {"principal": "oscar@corp", "username": "nobody-here"})
    assert wrong.status_code == 422 and "Nobody here is called" in wrong.content.decode()
    assert client.post(url, {"principal": "oscar@corp", "username": "oscar"}).status_code == 302
    assert grants(oscar) == {(vm.name, Role.OPERATOR, "manager")}
    identity = ManagerIdentity.objects.get()
    client.post(url, {"remove": identity.pk})
    assert grants(oscar) == set()
    client.post(url, {"rules": "yes", "owner_roles": "UserRole, UserVmManager", "owners_get": "admin"})
    stored = Environment.objects.get(pk=vm.environment.pk)
    assert (stored.owner_roles, stored.owners_get) == (["UserRole", "UserVmManager"], "admin")


def test_the_settings_page_says_why(people, oscar, vm) -> None:
    set_identity(actor=people.root, environment=vm.environment, principal="oscar@corp", user=oscar)
    store_people(vm.environment, [fact(vm, "oscar")])
    client = Client()
    client.force_login(oscar)
    page = client.get(reverse("accounts:settings")).content.decode()
    assert "because the Manager names you its owner" in page


# --- who somebody is by a sign-in ------------------------------------------------------------------------------


def known_by_directory(person) -> None:
    KnownGroups.objects.create(user=person, source="ldap", names=[])


def known_by_company(person, login: str) -> None:
    claims = {"userinfo": {"sub": "1", "preferred_username": login}}
    SocialAccount.objects.create(user=person, provider="company", uid=str(person.pk), extra_data=claims)


def by_sign_in(admin, vm, **directories: str) -> None:
    environment = Environment.objects.get(pk=vm.environment.pk)
    rules = {"roles": environment.owner_roles, "owners_get": environment.owners_get}
    set_owner_rules(actor=admin, environment=environment, **rules, **directories)


def test_the_managers_own_directory_vouches_for_who_signs_in_by_it(people, oscar, vm) -> None:
    store_people(vm.environment, [fact(vm, "Oscar")])
    by_sign_in(people.root, vm, ldap_directory="corp")
    # A local account of that name is not the directory's.
    assert grants(oscar) == set()
    known_by_directory(oscar)
    Client().force_login(oscar)
    assert grants(oscar) == {(vm.name, Role.OPERATOR, "manager")}
    given = AuditEntry.objects.get(action="owner.give")
    assert (given.via, given.data["after"]["principal"]) == ("sign-in", "Oscar@corp")
    client = Client()
    client.force_login(people.root)
    page = client.get(reverse("environments:environment_people", args=[vm.environment.uuid]))
    assert "(by their sign-in)" in page.content.decode()
    by_sign_in(people.root, vm)
    assert grants(oscar) == set()


def test_the_companys_sign_in_says_it_by_its_claim(people, vm) -> None:
    person = UserFactory(username="oscar2")
    known_by_company(person, "oscar")
    store_people(vm.environment, [fact(vm, "oscar")])
    by_sign_in(people.root, vm, oidc_directory="corp")
    assert grants(person) == {(vm.name, Role.OPERATOR, "manager")}
    by_sign_in(people.root, vm, oidc_directory="elsewhere")
    assert grants(person) == set()


def test_a_login_of_two_people_is_nobodys_and_an_admins_word_counts_first(people, oscar, vm) -> None:
    other = UserFactory(username="somebody")
    known_by_directory(oscar)
    known_by_company(other, "oscar")
    store_people(vm.environment, [fact(vm, "oscar")])
    by_sign_in(people.root, vm, ldap_directory="corp", oidc_directory="corp")
    assert grants(oscar) == grants(other) == set()
    third = UserFactory()
    set_identity(actor=people.root, environment=vm.environment, principal="oscar@corp", user=third)
    assert grants(third) == {(vm.name, Role.OPERATOR, "manager")}
    assert grants(oscar) == grants(other) == set()


def test_a_machines_page_names_its_people(people, vm) -> None:
    vm.teams.add(people.team)
    store_people(vm.environment, [fact(vm, "oscar"), fact(vm, "office", "UserRole", kind=GROUP)])
    client = Client()
    client.force_login(people.carol)
    page = client.get(vm.get_absolute_url()).content.decode()
    assert "On the Manager it was given to Office (office@corp) as UserRole and Oscar (oscar@corp) as" in page
