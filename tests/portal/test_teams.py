# SPDX-License-Identifier: GPL-3.0-or-later
"""Teams: their people, and the machines that come by hand or by rule."""

import itertools
import uuid

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from portal.accounts.models import Membership, Team
from portal.accounts.roles import Capability, Role
from portal.audit.models import AuditEntry
from portal.environments import rules
from portal.environments.models import TeamMachine, VirtualMachine, VmGrant
from portal.environments.rules import Draft
from portal.errors import NotAllowed
from portal.teams import services
from portal.teams.errors import (
    ComesByRule,
    LastAdmin,
    NameTaken,
    NoSuchPerson,
    PreviewChanged,
    RuleUnclear,
)
from tests.factories import EnvironmentFactory, MembershipFactory, UserFactory, VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


def last(action):
    return AuditEntry.objects.filter(action=action).first()


def machines_of(team):
    return {link.virtualmachine.name: (link.by_hand, link.by_rule) for link in team.machine_links.all()}


@pytest.fixture
def team(people) -> Team:
    return people.team


@pytest.fixture
def farm():
    """Four machines on two Managers."""
    one, two = EnvironmentFactory(name="One"), EnvironmentFactory(name="Two")
    VmFactory(environment=one, name="web-01", tags=["shop"], cluster_name="Front")
    VmFactory(environment=one, name="WEB-02", tags=[], cluster_name="Front")
    VmFactory(environment=two, name="web-03", tags=["shop", "old"], cluster_name="Front")
    VmFactory(environment=two, name="db[1]", tags=["shops"], cluster_name="Back")
    return one, two


def give(people, team, *drafts):
    shown = services.preview_rules(actor=people.root, team=team, drafts=drafts)
    return services.save_rules(actor=people.root, team=team, drafts=drafts, shown=shown.hash)


# --- rules ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "where", "matched"),
    [
        ("tag", "shop", None, {"web-01", "web-03"}),
        ("tag", "Shop", None, set()),
        ("cluster", "Back", None, {"db[1]"}),
        ("cluster", "Front", "Two", {"web-03"}),
        ("name", "web-*", None, {"web-01", "WEB-02", "web-03"}),
        ("name", "web-0?", "One", {"web-01", "WEB-02"}),
        ("name", "db[[]1]", None, {"db[1]"}),
        ("name", "web", None, set()),
        ("name", "(a+)+$", None, set()),
    ],
)
def test_what_a_rule_matches(people, team, farm, kind, value, where, matched):
    environments = {each.name: each.pk for each in farm}
    found = services.preview_rules(
        actor=people.root, team=team, drafts=[Draft(kind, value, environments.get(where))]
    )
    assert {vm.name for vm in found.came} == matched
    assert machines_of(team) == {}


def test_rules_bring_and_take_and_what_was_given_by_hand_stays(people, team, farm):
    by_hand = VirtualMachine.objects.get(name="web-03")
    services.add_machine(actor=people.root, team=team, vm=by_hand)
    give(people, team, Draft("tag", "shop"))
    assert machines_of(team) == {"web-01": (False, True), "web-03": (True, True)}
    assert last("team.machines").data["came"] == ["web-01"]
    assert last("team.rules").data["after"] == {"rules": ["tag shop"]}
    found = give(people, team, Draft("cluster", "Back"))
    assert [vm.name for vm in found.went] == ["web-01"]
    assert machines_of(team) == {"web-03": (True, False), "db[1]": (False, True)}
    entry = last("team.machines")
    assert (entry.data["came"], entry.data["went"]) == (["db[1]"], ["web-01"])
    give(people, team)
    assert machines_of(team) == {"web-03": (True, False)}


def test_a_rule_by_owner_follows_what_the_manager_says(people, team, farm):
    one, two = farm
    for name, role in (("web-01", one.owner_roles[0]), ("WEB-02", "SomethingElse")):
        vm = VirtualMachine.objects.get(name=name)
        vm.people.create(
            kind="group",
            principal="shop@corp",
            principal_id=uuid.uuid4(),
            role_id=uuid.uuid4(),
            role_name=role,
        )
    give(people, team, Draft("owner", "shop@corp"))
    assert machines_of(team) == {"web-01": (False, True)}
    give(people, team, Draft("owner", "shop@corp", two.pk))
    assert machines_of(team) == {}


def test_a_preview_names_everything_and_only_what_it_showed_is_saved(people, team, farm):
    services.add_machine(actor=people.root, team=team, vm=VirtualMachine.objects.get(name="WEB-02"))
    drafts = [Draft("tag", "shop")]
    shown = services.preview_rules(actor=people.root, team=team, drafts=drafts)
    assert {vm.name for vm in shown.came} == {"web-01", "web-03"}
    assert [vm.name for vm in shown.only_by_hand] == ["WEB-02"]
    VmFactory(name="new", tags=["shop"])
    with pytest.raises(PreviewChanged):
        services.save_rules(actor=people.root, team=team, drafts=drafts, shown=shown.hash)
    assert not team.rules.exists()
    with pytest.raises(PreviewChanged):
        again = services.preview_rules(actor=people.root, team=team, drafts=drafts)
        services.save_rules(actor=people.root, team=team, drafts=[Draft("name", "*")], shown=again.hash)
    assert machines_of(team) == {"WEB-02": (True, False)}


def test_rules_follow_the_manager(people, team, farm):
    one, two = farm
    give(people, team, Draft("tag", "shop"))
    VirtualMachine.objects.filter(name="web-01").update(tags=[])
    VirtualMachine.objects.filter(name="WEB-02").update(tags=["shop"])
    VirtualMachine.objects.filter(name="web-03").update(tags=[], gone_at="2026-01-01T00:00:00Z")
    entries = AuditEntry.objects.count()
    rules.apply_all(two)
    assert AuditEntry.objects.count() == entries
    rules.apply_all(one)
    assert machines_of(team) == {"WEB-02": (False, True), "web-03": (False, True)}
    assert (last("team.machines").actor_name, last("team.machines").via) == ("portal", "schedule")
    rules.apply_all()
    assert machines_of(team) == {"WEB-02": (False, True), "web-03": (False, True)}


def test_a_machine_that_a_rule_brings_is_not_taken_away_by_hand(people, team, farm):
    give(people, team, Draft("name", "web-01"))
    vm = VirtualMachine.objects.get(name="web-01")
    with pytest.raises(ComesByRule):
        services.remove_machine(actor=people.root, team=team, vm=vm)
    services.add_machine(actor=people.root, team=team, vm=vm)
    assert machines_of(team) == {"web-01": (True, True)}
    services.remove_machine(actor=people.root, team=team, vm=vm)
    assert machines_of(team) == {"web-01": (False, True)}
    assert last("team.machine_by_hand").data["stays_by_rule"] is True


def test_what_django_adds_itself_counts_as_by_hand(team):
    vm = VmFactory(name="x")
    vm.teams.add(team)
    assert machines_of(team) == {"x": (True, False)}
    vm.teams.remove(team)
    assert not TeamMachine.objects.exists()


@pytest.mark.parametrize(
    "drafts",
    [[Draft("tag", " ")], [Draft("tag", "a"), Draft("tag", "a")], [Draft("tag", str(n)) for n in range(51)]],
)
def test_rules_that_say_nothing_or_too_much_are_refused(people, team, drafts):
    with pytest.raises(RuleUnclear):
        services.preview_rules(actor=people.root, team=team, drafts=drafts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "{}",
        "[1]",
        '[["tag"]]',
        '[["people", "a", null]]',
        '[["tag", 1, null]]',
        '[["tag", "a", 99999]]',
        '[["tag", "a", {}]]',
        '[[["tag"], "a", null]]',
        "[" * 5000,
    ],
)
def test_rules_from_a_strangers_hands_are_refused(text):
    with pytest.raises(RuleUnclear):
        services.unpacked(text)


def test_packed_rules_come_back(farm):
    drafts = [Draft("tag", 'é"<'), Draft("name", "a*", farm[0].pk)]
    assert services.unpacked(services.packed(drafts)) == drafts


# --- people -----------------------------------------------------------------------------------------


def test_an_admin_takes_people_in_changes_roles_and_takes_them_out(people, team):
    services.set_role(actor=people.alice, team=team, person=people.dave, role=Role.OPERATOR)
    services.set_role(actor=people.alice, team=team, person=people.dave, role=Role.AUDITOR)
    entry = last("team.role")
    assert (entry.data["person"], entry.data["before"], entry.data["after"]) == (
        "dave",
        {"role": "operator"},
        {"role": "auditor"},
    )
    entries = AuditEntry.objects.count()
    services.set_role(actor=people.alice, team=team, person=people.dave, role=Role.AUDITOR)
    assert AuditEntry.objects.count() == entries
    services.remove_person(actor=people.alice, team=team, person=people.dave)
    assert not Membership.objects.filter(team=team, user=people.dave).exists()
    assert last("team.role").data["after"] == {"role": None}


def test_the_last_admin_stays_unless_a_platform_admin_says_so(people, team):
    for change in (
        lambda actor: services.set_role(actor=actor, team=team, person=people.alice, role=Role.VIEWER),
        lambda actor: services.remove_person(actor=actor, team=team, person=people.alice),
    ):
        with pytest.raises(LastAdmin):
            change(people.alice)
    asleep = MembershipFactory(team=team, role=Role.ADMIN, user=UserFactory(is_active=False))
    with pytest.raises(LastAdmin):
        services.remove_person(actor=people.alice, team=team, person=people.alice)
    asleep.user.is_active = True
    asleep.user.save()
    services.remove_person(actor=people.alice, team=team, person=people.alice)
    services.remove_person(actor=people.root, team=team, person=asleep.user)
    assert not team.memberships.filter(role=Role.ADMIN).exists()


def test_a_role_on_one_machine_is_given_changed_and_taken_away(people, team):
    vm = VmFactory()
    vm.teams.add(team)
    services.grant(actor=people.alice, vm=vm, person=people.dave, role=Role.VIEWER)
    services.grant(actor=people.alice, vm=vm, person=people.dave, role=Role.OPERATOR)
    assert vm.allows(people.dave, Capability.RESTORE)
    services.revoke(actor=people.alice, vm=vm, person=people.dave)
    assert not VmGrant.objects.exists()
    told = [
        (e.data["before"]["role"], e.data["after"]["role"])
        for e in AuditEntry.objects.filter(action="machine.role")
    ]
    assert told == [("operator", None), ("viewer", "operator"), (None, "viewer")]


def test_who_may_not_changes_nothing(people, team):
    vm = VmFactory()
    vm.teams.add(team)
    changes = [
        lambda actor: services.set_role(actor=actor, team=team, person=people.dave, role=Role.ADMIN),
        lambda actor: services.remove_person(actor=actor, team=team, person=people.carol),
        lambda actor: services.grant(actor=actor, vm=vm, person=actor, role=Role.ADMIN),
        lambda actor: services.revoke(actor=actor, vm=vm, person=people.carol),
    ]
    only_platform = [
        lambda actor: services.create_team(actor=actor, name="Mine"),
        lambda actor: services.rename_team(actor=actor, team=team, name="Mine"),
        lambda actor: services.add_machine(actor=actor, team=team, vm=VmFactory()),
        lambda actor: services.remove_machine(actor=actor, team=team, vm=vm),
        lambda actor: services.preview_rules(actor=actor, team=team, drafts=[Draft("name", "*")]),
        lambda actor: services.save_rules(actor=actor, team=team, drafts=[], shown=""),
    ]
    refused = [
        *itertools.product((people.bob, people.carol, people.dave), changes + only_platform),
        *itertools.product((people.alice,), only_platform),
    ]
    for actor, change in refused:
        with pytest.raises(NotAllowed):
            change(actor)
    assert not AuditEntry.objects.exists()
    assert team.memberships.count() == 3


def test_nobody_who_cannot_sign_in_is_given_a_role(people, team):
    gone = UserFactory(username="gone", is_active=False)
    with pytest.raises(NoSuchPerson):
        services.set_role(actor=people.root, team=team, person=gone, role=Role.VIEWER)
    for name in ("gone", "nobody", "ALICE"):
        with pytest.raises(NoSuchPerson):
            services.person_named(name)


def test_names_of_teams_are_one_each(people, team):
    made = services.create_team(actor=people.root, name="Cellar")
    with pytest.raises(NameTaken):
        services.create_team(actor=people.root, name="Cellar")
    with pytest.raises(NameTaken):
        services.rename_team(actor=people.root, team=team, name="Cellar")
    services.rename_team(actor=people.root, team=made, name="Attic")
    assert last("team.rename").data == {"before": {"name": "Cellar"}, "after": {"name": "Attic"}}


# --- pages ------------------------------------------------------------------------------------------


@pytest.fixture
def browser():
    def signed_in(person):
        client = Client()
        client.force_login(person)
        return client

    return signed_in


def test_a_rule_goes_through_its_preview(people, team, farm, browser):
    client = browser(people.root)
    url = reverse("teams:preview_rules", args=[team.uuid])
    shown = client.post(url, {"kind": "tag", "value": "shop", "environment": ""})
    assert "2 machines come" in shown.content.decode()
    assert not team.rules.exists()
    carried = {key: shown.context[key] for key in ("drafts", "hash")}
    VmFactory(name="late", tags=["shop"])
    stale = client.post(reverse("teams:save_rules", args=[team.uuid]), carried)
    assert stale.status_code == 409 and "late" in stale.content.decode()
    carried = {key: stale.context[key] for key in ("drafts", "hash")}
    assert client.post(reverse("teams:save_rules", args=[team.uuid]), carried).status_code == 302
    assert set(machines_of(team)) == {"web-01", "web-03", "late"}
    without = client.post(url, {"without": str(team.rules.get().uuid)})
    assert "3 machines go" in without.content.decode()


def test_people_are_managed_by_page(people, team, browser):
    client = browser(people.alice)
    url = reverse("teams:set_role", args=[team.uuid])
    wrong = client.post(url, {"username": "nobody", "role": "viewer"})
    assert wrong.status_code == 422 and "Nobody here signs in as nobody" in wrong.content.decode()
    client.post(url, {"username": "dave", "role": "operator"})
    assert team.memberships.get(user=people.dave).role == Role.OPERATOR
    client.post(reverse("teams:remove_person", args=[team.uuid]), {"person": str(people.dave.uuid)})
    assert not team.memberships.filter(user=people.dave).exists()
    only = client.post(reverse("teams:remove_person", args=[team.uuid]), {"person": str(people.alice.uuid)})
    assert only.status_code == 409 and "only admin" in only.content.decode()


def test_who_may_not_manage_people_learns_nothing_about_names(people, team, browser):
    client = browser(people.bob)
    url = reverse("teams:set_role", args=[team.uuid])
    answers = [client.post(url, {"username": name, "role": "viewer"}) for name in ("dave", "nobody")]
    assert [answer.status_code for answer in answers] == [403, 403]


def test_a_machine_is_given_by_hand_by_its_name(people, team, farm, browser):
    client = browser(people.root)
    url = reverse("teams:add_machine", args=[team.uuid])
    one = str(farm[0].uuid)
    assert client.post(url, {"environment": one, "name": "web-03"}).status_code == 422
    assert client.post(url, {"environment": one, "name": "web-01"}).status_code == 302
    assert machines_of(team) == {"web-01": (True, False)}
    page = client.get(team.get_absolute_url()).content.decode()
    assert "By hand" in page
    vm = VirtualMachine.objects.get(name="web-01")
    client.post(reverse("teams:remove_machine", args=[team.uuid]), {"vm": str(vm.uuid)})
    assert machines_of(team) == {}


def test_a_person_of_another_team_sees_none_of_this_one(people, team, browser):
    page = browser(people.dave).get(reverse("teams:team_list")).content.decode()
    assert "Elsewhere" in page and team.name not in page


def test_the_pages_take_the_same_number_of_queries_with_twenty_more_rows(people, team, browser):
    environment = EnvironmentFactory()
    client = browser(people.root)
    urls = [team.get_absolute_url(), reverse("teams:team_list")]
    counts = []
    for url in urls:
        client.get(url)  # the first request of a session writes more
    for size in (2, 20):
        for number in range(size):
            vm = VmFactory(environment=environment, name=f"{size}-{number}")
            vm.teams.add(team)
            MembershipFactory(team=team)
            team.rules.create(kind="name", value=f"{size}-{number}", environment=environment)
            MembershipFactory()
        with CaptureQueriesContext(
            connection,
        ) as queries:
            for url in urls:
                assert client.get(url).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]
