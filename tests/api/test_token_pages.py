# SPDX-License-Identifier: GPL-3.0-or-later
"""Making tokens and service accounts at their pages: shown once, used at once, revoked at once."""

import datetime as dt
import html
import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from portal.accounts.models import User
from portal.api.models import ApiToken
from portal.audit.models import AuditEntry
from tests.api.support import Api
from tests.factories import ApiTokenFactory, MembershipFactory, UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

WISH = {"name": "Ticketing", "scopes": ["read", "backup"], "lifetime": "30"}


def _client(person: User) -> Client:
    client = Client()
    client.force_login(person)
    return client


def _shown(response) -> str:
    assert response.status_code == 201, response.content.decode()[:2000]
    assert response["Cache-Control"] == "no-store"
    return html.unescape(re.search(r'id="api-token"[^>]*>(obp_[^<]+)<', response.content.decode())[1])


def test_a_token_is_shown_once_and_good_at_once(people, world):
    client = _client(people.alice)
    networks = "192.0.2.0/24, 2001:db8::7\n127.0.0.0/8"
    text = _shown(
        client.post("/settings/tokens/add/", {**WISH, "team": people.team.pk, "networks": networks})
    )
    token = ApiToken.objects.get()
    assert (token.user, token.team, token.scopes) == (people.alice, people.team, ["read", "backup"])
    assert token.networks == ["192.0.2.0/24", "2001:db8::7/128", "127.0.0.0/8"]
    assert dt.timedelta(days=29) < token.expires_at - timezone.now() <= dt.timedelta(days=30)
    assert Api(text).get("vms").json()["results"]
    secret = text.split("_", 2)[2]
    for address in ("/settings/tokens/", token.get_absolute_url()):
        page = client.get(address).content.decode()
        assert "Ticketing" in page
        assert secret not in page
    assert client.post(f"{token.get_absolute_url()}revoke/").status_code == 302
    assert Api(text).get("vms").json()["code"] == "token_revoked"
    assert "Revoked" in client.get(token.get_absolute_url()).content.decode()
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {
        "token.create",
        "token.revoke",
        "refused",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"scopes": []},
        {"scopes": ["all"]},
        {"networks": "here"},
        {"lifetime": "9999"},
        {"team": "0"},
    ],
)
def test_wishes_that_make_no_sense_make_no_token(people, wrong):
    response = _client(people.alice).post("/settings/tokens/add/", {**WISH, **wrong})
    assert response.status_code == 422
    assert not ApiToken.objects.exists()


def test_other_teams_are_not_offered(people):
    other = people.dave.teams.get()
    client = _client(people.alice)
    assert other.name not in client.get("/settings/tokens/add/").content.decode()
    assert client.post("/settings/tokens/add/", {**WISH, "team": other.pk}).status_code == 422


def test_another_persons_token_is_not_there_also_for_platform_admins(people):
    token = ApiTokenFactory(user=people.alice)
    for person in (people.bob, people.root):
        client = _client(person)
        assert client.get(token.get_absolute_url()).status_code == 404
        assert client.post(f"{token.get_absolute_url()}revoke/").status_code == 404
    assert ApiToken.objects.get().revoked_at is None


def test_a_service_account_is_made_used_and_switched_off(people, world):
    client = _client(people.root)
    made = client.post(
        "/settings/services/add/", {"username": "ticketing", "team": people.team.pk, "role": "operator"}
    )
    service = User.objects.get(username="ticketing")
    assert made.url == reverse("tokens:service", args=[service.uuid])
    assert service.is_service
    assert not service.has_usable_password()
    assert [row.get_role_display() for row in service.memberships.all()] == ["Operator"]
    text = _shown(client.post(f"{made.url}tokens/add/", {**WISH, "lifetime": ""}))
    assert ApiToken.objects.get().expires_at is None
    assert Api(text).post(f"jobs/{world.job.uuid}/cancel").status_code == 200
    page = client.get(made.url).content.decode()
    assert "Operator of" in page
    assert "Ticketing" in page
    client.post(f"{made.url}switch/", {"active": "no"})
    assert Api(text).get("vms").json()["code"] == "token_owner_removed"
    client.post(f"{made.url}switch/", {"active": "yes"})
    assert Api(text).get("vms").status_code == 200
    actions = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
    assert actions == [
        "team.role",
        "service.create",
        "token.create",
        "job.cancel",
        "service.switch",
        "refused",
        "service.switch",
    ]


def test_names_of_service_accounts_are_free_and_well_formed(people):
    client = _client(people.root)
    for name in ("alice", "ALICE", "", "with space", "x" * 151):
        answer = client.post("/settings/services/add/", {"username": name, "role": "viewer"})
        assert answer.status_code == 422
    assert not User.objects.filter(is_service=True).exists()


def test_a_service_account_signs_in_nowhere(people):
    service = UserFactory(username="ticketing", is_service=True)  # even with a password
    client = Client()
    client.post("/login/", {"login": "ticketing", "username": "ticketing", "password": "correct horse"})
    assert "_auth_user_id" not in client.session
    assert service.is_active


def test_the_pages_ask_as_often_for_many_rows_as_for_few(people):
    client, counted = _client(people.root), []
    service = UserFactory(is_service=True)
    for _ in range(2):
        for _ in range(5):
            ApiTokenFactory(user=people.root, team=people.team)
            ApiTokenFactory(user=service, team=people.team)
            MembershipFactory(user=service)
            ApiTokenFactory(user=UserFactory(is_service=True))
        addresses = (
            "/settings/tokens/",
            "/settings/services/",
            reverse("tokens:service", args=[service.uuid]),
        )
        found = []
        for address in addresses:
            client.get(address)
            with CaptureQueriesContext(connection) as queries:
                assert client.get(address).status_code == 200
            found.append(len(queries))
        counted.append(found)
    assert counted[0] == counted[1]
    assert max(counted[0]) <= 15
