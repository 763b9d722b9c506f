# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens: shown once, kept as a digest, narrowed, and refused with a code that says why."""

import datetime as dt

import pytest
from django.test import Client
from django.utils import timezone

from portal.accounts.roles import Capability, Role
from portal.api import tokens
from portal.api.errors import TokenNotForThis
from portal.api.models import ApiToken
from portal.api.scopes import CAPABILITIES, Scope
from portal.audit.models import AuditEntry
from portal.errors import NotAllowed
from tests.api.support import Api, api_of, token_of
from tests.factories import MembershipFactory, TeamFactory, UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


def _refusal(text: str, **where) -> tuple[int, str]:
    answer = Api(text, **where).get("vms")
    assert answer["Content-Type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def test_the_secret_is_kept_nowhere(people):
    text = token_of(people.alice, "read")
    token = ApiToken.objects.get()
    mark, prefix, secret = text.split("_", 2)
    assert (mark, prefix) == ("obp", token.prefix)
    assert len(secret) >= 43
    assert secret not in str(ApiToken.objects.values().get())
    entry = AuditEntry.objects.get(action="token.create")
    assert entry.data["scopes"] == ["read"]
    assert secret not in str(entry.data)


def test_a_token_acts_as_its_owner(people, world):
    assert Api(token_of(people.alice, "read")).get("vms").status_code == 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "obp",
        "obp_",
        "obp_x",
        "obp__",
        "obp_x_y",
        "x_y_z",
        "obp_é_y",
        "obp_x_\x7f",
        "a" * 9000,
        "Bearer x",
    ],
)
def test_what_is_no_token_is_refused(people, text):
    status, code = _refusal(text) if text else _refusal(" ")
    assert (status, code) in [(401, "token_unknown"), (401, "authentication_failed")]


def test_a_wrong_secret_is_refused_whatever_the_prefix(people):
    text = token_of(people.alice, "read")
    assert _refusal(text[:-1] + ("A" if text[-1] != "A" else "B")) == (401, "token_unknown")
    assert _refusal(text + "A") == (401, "token_unknown")
    assert _refusal("obp_" + ApiToken.objects.get().prefix + "_" + "0" * 43) == (401, "token_unknown")


def test_expired_revoked_and_orphaned_tokens_are_refused(people, world):
    text = token_of(people.alice, "read")
    token = ApiToken.objects.get()
    ApiToken.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    assert _refusal(text) == (401, "token_expired")
    ApiToken.objects.update(expires_at=timezone.now() + dt.timedelta(hours=1))
    assert Api(text).get("vms").status_code == 200
    tokens.revoke_token(actor=people.alice, token=token)
    tokens.revoke_token(actor=people.alice, token=token)
    assert _refusal(text) == (401, "token_revoked")
    assert AuditEntry.objects.filter(action="token.revoke").count() == 1
    ApiToken.objects.update(revoked_at=None)
    people.alice.is_active = False
    people.alice.save()
    assert _refusal(text) == (401, "token_owner_removed")
    people.alice.delete()
    assert _refusal(text) == (401, "token_unknown")


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("192.0.2.7", True),
        ("192.0.3.7", False),
        ("2001:db8::5", True),
        ("2001:db9::5", False),
        ("::ffff:192.0.2.9", True),
        ("", False),
    ],
)
def test_source_networks(people, world, address, good):
    text = token_of(people.alice, "read", networks=["192.0.2.1/24", "2001:db8::/32"])
    answer = Api(text, REMOTE_ADDR=address).get("vms")
    assert answer.status_code == (200 if good else 403)
    assert good or answer.json()["code"] == "token_wrong_network"


@pytest.mark.parametrize(("proxies", "good"), [(0, False), (1, True), (2, False)])
def test_networks_count_past_trusted_proxies_only(people, world, settings, proxies, good):
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = proxies
    text = token_of(people.alice, "read", networks=["192.0.2.0/24"])
    api = Api(text, REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR="198.51.100.1, 192.0.2.7")
    assert api.get("vms").status_code == (200 if good else 403)


def test_the_last_use_is_written_once_a_minute(people, world):
    api = Api(token_of(people.alice, "read"), REMOTE_ADDR="192.0.2.7")
    assert ApiToken.objects.get().last_used_at is None
    api.get("vms")
    first = ApiToken.objects.get()
    assert first.last_used_from == "192.0.2.7"
    api.get("vms")
    assert ApiToken.objects.get().last_used_at == first.last_used_at
    ApiToken.objects.update(last_used_at=timezone.now() - dt.timedelta(minutes=2))
    api.get("vms")
    assert ApiToken.objects.get().last_used_at >= first.last_used_at


def test_a_token_of_a_team_shows_that_team(people, world):
    second = TeamFactory()
    MembershipFactory(team=second, user=people.alice, role=Role.ADMIN)
    tied = api_of(people.alice, "read", team=second)
    assert tied.get("vms").json()["results"] == []
    assert tied.get(f"jobs/{world.job.uuid}").status_code == 404
    assert api_of(people.alice, "read", team=people.team).get(f"vms/{world.vm.uuid}").status_code == 200


def test_the_history_needs_the_scope_read(people):
    assert CAPABILITIES[Scope.READ] == {Capability.READ_AUDIT}
    assert frozenset().union(*CAPABILITIES.values()) == frozenset(Capability)
    assert sum(len(held) for held in CAPABILITIES.values()) == len(Capability)


def test_who_may_make_and_revoke_whose_tokens(people):
    service = UserFactory(username="ticketing", is_service=True)
    for owner in (service, people.bob, people.root):
        with pytest.raises(NotAllowed):
            token_of(owner, "read", actor=people.alice)
    with pytest.raises(NotAllowed):
        token_of(people.alice, "read", actor=people.root)
    token_of(service, "read", actor=people.root)
    with pytest.raises(NotAllowed):
        tokens.revoke_token(actor=people.alice, token=ApiToken.objects.get())
    assert ApiToken.objects.get().revoked_at is None
    tokens.revoke_token(actor=people.root, token=ApiToken.objects.get())
    assert ApiToken.objects.get().state == "revoked"


@pytest.mark.parametrize(
    "wish",
    [
        {"scopes": []},
        {"scopes": ["read", "everything"]},
        {"networks": ["not a network"]},
        {"networks": ["192.0.2.0/33"]},
        {"expires_at": timezone.now() - dt.timedelta(days=1)},
    ],
)
def test_a_token_without_sense_is_not_made(people, wish):
    with pytest.raises(TokenNotForThis):
        tokens.create_token(actor=people.alice, owner=people.alice, name="x", **{"scopes": ["read"], **wish})
    with pytest.raises(TokenNotForThis):
        token_of(people.alice, "read", team=people.dave.teams.get())
    assert not ApiToken.objects.exists()


def test_an_address_that_guesses_has_to_wait(people, world, settings):
    settings.API_WRONG_TOKENS = 3
    text = token_of(people.alice, "read")
    for _ in range(3):
        assert _refusal("obp_0123456789ab_guess", REMOTE_ADDR="192.0.2.66") == (401, "token_unknown")
    answer = Api(text, REMOTE_ADDR="192.0.2.66").get("vms")
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
    assert int(answer["Retry-After"]) >= 1
    assert Api(text, REMOTE_ADDR="192.0.2.67").get("vms").status_code == 200


def test_requests_are_counted_for_each_token(people, world, settings):
    settings.API_READS = 2
    first, second = api_of(people.alice, "read"), api_of(people.alice, "read")
    answers = [first.get("vms") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0]["RateLimit-Policy"] == '"reads";q=2;w=60'
    assert answers[0]["RateLimit"].startswith('"reads";r=1;t=')
    assert answers[1]["RateLimit"].startswith('"reads";r=0;t=')
    assert answers[2].json()["code"] == "too_many_requests"
    assert answers[2].json()["retryable"] is True
    assert 1 <= int(answers[2]["Retry-After"]) <= 60
    assert second.get("vms").status_code == 200


def test_nobody_is_refused_because_the_cache_is_away(people, world, monkeypatch):
    from portal.api import throttling

    class Away:
        def __getattr__(self, name):
            raise ConnectionError("The cache is away.")

    monkeypatch.setattr(throttling, "cache", Away())
    assert api_of(people.alice, "read").get("vms").status_code == 200
    assert _refusal("obp_x_y") == (401, "token_unknown")


def test_somebody_signed_in_may_read_without_a_token(people, world):
    client = Client()
    client.force_login(people.alice)
    assert client.get("/api/v1/vms").json()["results"]
    assert client.get("/api/v1/vms", headers={"authorization": "Bearer obp_x_y"}).status_code == 401
