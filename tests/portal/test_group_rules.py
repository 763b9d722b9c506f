# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles by groups: rules, what they give and take back, and the page of platform admins."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from portal.accounts import groups
from portal.accounts.company import groups_of
from portal.accounts.models import GroupRule, Membership
from portal.accounts.roles import strongest
from portal.audit.models import AuditEntry
from portal.errors import NotAllowed
from tests.factories import TeamFactory, UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


@pytest.fixture
def erin(db):
    return UserFactory(username="erin")


def roles_of(person) -> dict[str, str]:
    return {row.team.name: row.role for row in Membership.objects.filter(user=person)}


def rule(people, group: str, role: str, team=None) -> GroupRule:
    where = None if role == "platform" else team or people.team
    given = "" if role == "platform" else role
    return groups.add_rule(actor=people.root, source="oidc", group=group, team=where, role=given)


def came_with(person, *names: str, source: str = "oidc") -> None:
    groups.signed_in(person, source=source, names=names, via=source)
    person.refresh_from_db()


def test_the_stronger_of_two_groups_counts_and_each_is_taken_back(people, erin):
    rule(people, "a", "auditor")
    rule(people, "b", "admin")
    came_with(erin, "a", "b")
    assert roles_of(erin) == {"Web shop": "admin"}
    came_with(erin, "a")
    assert roles_of(erin) == {"Web shop": "auditor"}
    came_with(erin)
    assert roles_of(erin) == {}


def test_what_was_given_by_hand_stays(people):
    rule(people, "admins", "admin")
    came_with(people.carol, "admins")
    assert roles_of(people.carol) == {"Web shop": "admin"}
    came_with(people.carol)
    assert roles_of(people.carol) == {"Web shop": "viewer"}
    came_with(people.alice)
    assert roles_of(people.alice) == {"Web shop": "admin"}
    came_with(people.root)
    assert people.root.is_superuser


def test_a_role_changed_by_hand_meanwhile_stays(people):
    rule(people, "ops", "operator")
    came_with(people.carol, "ops")
    Membership.objects.update_or_create(user=people.carol, team=people.team, defaults={"role": "auditor"})
    came_with(people.carol)
    assert roles_of(people.carol) == {"Web shop": "auditor"}


def test_a_platform_admin_by_group_is_one_as_long_as_the_group_says(people, erin):
    rule(people, "it", "platform")
    came_with(erin, "it")
    assert erin.is_platform_admin
    came_with(erin)
    assert not erin.is_platform_admin


def test_a_new_rule_counts_at_once_and_a_removed_one_no_more(people, erin):
    came_with(erin, "ops")
    added = rule(people, "OPS", "operator")
    assert roles_of(erin) == {"Web shop": "operator"}
    groups.remove_rule(added, actor=people.root)
    assert roles_of(erin) == {}
    actions = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
    assert actions == ["group_rule.add", "groups.apply", "group_rule.remove", "groups.apply"]
    removed = AuditEntry.objects.get(action="group_rule.remove")
    assert removed.data == {
        "before": {"source": "oidc", "group": "OPS", "gives": "Operator of Web shop"},
        "after": None,
    }


def test_a_group_of_one_system_says_nothing_in_another(people, erin):
    rule(people, "ops", "operator")
    came_with(erin, "ops", source="ldap")
    assert roles_of(erin) == {}
    came_with(erin, "ops")
    came_with(erin, source="ldap")
    assert roles_of(erin) == {"Web shop": "operator"}


def test_nothing_is_written_down_where_nothing_changed(people, erin):
    rule(people, "ops", "operator")
    for _ in range(3):
        came_with(erin, "ops")
    assert AuditEntry.objects.filter(action="groups.apply").count() == 1


def test_only_platform_admins_make_rules(people):
    with pytest.raises(NotAllowed):
        groups.add_rule(actor=people.alice, source="oidc", group="x", team=people.team, role="admin")
    made = rule(people, "x", "viewer")
    with pytest.raises(NotAllowed):
        groups.remove_rule(made, actor=people.alice)
    assert GroupRule.objects.count() == 1


def post(client: Client, **data: object):
    return client.post("/settings/groups/", {"source": "oidc", "group": "ops", "role": "operator", **data})


def test_the_page_adds_and_removes(people, client):
    client.force_login(people.root)
    assert post(client, team=people.team.pk).status_code == 302
    made = GroupRule.objects.get()
    assert "Operator of Web shop" in client.get("/settings/groups/").content.decode()
    assert post(client, team=people.team.pk).status_code == 409
    assert client.post(f"/settings/groups/{made.pk}/remove/").status_code == 302
    assert not GroupRule.objects.exists()


def test_the_page_tells_what_is_missing(people, client):
    client.force_login(people.root)
    assert "Choose the team" in post(client).content.decode()
    assert "Leave the team empty" in post(client, role="platform", team=people.team.pk).content.decode()
    assert post(client, role="platform", group="it").status_code == 302
    assert GroupRule.objects.get().gives == "platform admin"


def test_a_hostile_group_name_is_text(people, client):
    client.force_login(people.root)
    post(client, group="<script>alert(1)</script>", team=people.team.pk)
    assert "<script>alert" not in client.get("/settings/groups/").content.decode()


def test_many_rules_take_no_more_queries(people, client):
    client.force_login(people.root)
    client.get("/settings/groups/")
    counts = []
    for start in (0, 10):
        for number in range(start, start + 10):
            rule(people, f"group {number}", "viewer", TeamFactory())
        with CaptureQueriesContext(connection) as queries:
            assert client.get("/settings/groups/").status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("claims", "claim", "found"),
    [
        ({"userinfo": {"groups": ["a", "b"]}}, "groups", ["a", "b"]),
        ({"userinfo": {}, "id_token": {"groups": ["a"]}}, "groups", ["a"]),
        ({"userinfo": {"groups": "a b"}}, "groups", ["a b"]),
        ({"userinfo": {"realm_access": {"roles": ["a"]}}}, "realm_access.roles", ["a"]),
        ({"userinfo": {"https://x.example/groups": ["a"]}}, "https://x.example/groups", ["a"]),
        ({"userinfo": {"groups": [{"id": 1}, None, "a"]}}, "groups", ["a"]),
        ({"userinfo": {"groups": {"a": 1}}}, "groups", []),
        ({"userinfo": {"groups": 7}}, "groups.deeper", []),
        ({}, "groups", []),
    ],
)
def test_groups_in_claims_of_all_shapes(settings, claims, claim, found):
    settings.OIDC_GROUPS_CLAIM = claim
    assert groups_of(claims) == found


def test_the_strongest_role():
    assert strongest("auditor", "viewer") == "auditor"
    assert strongest("operator", "auditor") == "operator"
    assert strongest("", "") == ""


def test_the_team_page_tells_which_roles_come_by_a_group(people, erin, client):
    rule(people, "ops", "operator")
    came_with(erin, "ops")
    client.force_login(people.root)
    text = client.get(f"/teams/{people.team.uuid}/").content.decode()
    assert text.count("by a group elsewhere") == 1
