# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenID Connect against a provider in a process of its own, over HTTP."""

import copy
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from allauth.socialaccount.models import SocialAccount
from django.urls import reverse

from portal.accounts import groups
from portal.accounts.models import Membership, User
from portal.audit.models import AuditEntry
from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db(transaction=True)]

ROOT = Path(__file__).resolve().parents[2]
CLIENT, SECRET = "portal", "secret of the portal"


@pytest.fixture(scope="module")
def provider_process(live_server, tmp_path_factory) -> Iterator[str]:
    """The provider's address. Its own database, its own process; the portal is on another host name."""
    folder = tmp_path_factory.mktemp("provider")
    callback = f"{live_server.url}{reverse('openid_connect_callback', args=['company'])}"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.portal.oidc_provider", str(folder), CLIENT, SECRET, callback],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "OAUTHLIB_INSECURE_TRANSPORT": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert address.startswith("http://127.0.0.1:")
    yield address
    process.terminate()
    process.wait(30)


@pytest.fixture
def provider(provider_process, settings) -> str:
    """Set up in the portal."""
    address = provider_process
    settings.OIDC_URL = address
    providers = copy.deepcopy(settings.SOCIALACCOUNT_PROVIDERS)
    app = {"server_url": address, "scope": ["openid", "profile", "email"]}
    providers["openid_connect"]["APPS"] = [
        {"provider_id": "company", "name": "Company", "client_id": CLIENT, "secret": SECRET, "settings": app}
    ]
    settings.SOCIALACCOUNT_PROVIDERS = providers
    return address


def known_there(provider: str, name: str, *names: str) -> None:
    answer = requests.post(
        f"{provider}/test/person", data={"name": name, "groups": ",".join(names)}, timeout=30
    )
    assert answer.text == "done"


def sign_in_there(page: requests.Response, browser: requests.Session, name: str) -> requests.Response:
    """The provider's own page: name and password."""
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert token is not None, page.text
    form = {"login": name, "password": name, "csrfmiddlewaretoken": token[1]}
    return browser.post(page.url, data=form, headers={"Referer": page.url}, timeout=30)


def company_sign_in(
    portal: str, name: str, target: str = "/jobs/"
) -> tuple[requests.Session, requests.Response]:
    browser = requests.Session()
    page = browser.get(f"{portal}/login/company/?next={target}", timeout=30)
    assert page.url.startswith("http://127.0.0.1:"), page.text
    return browser, sign_in_there(page, browser, name)


def roles_of(name: str) -> dict[str, str]:
    return {row.team.name: row.role for row in Membership.objects.filter(user__username=name)}


def test_groups_give_roles_at_each_sign_in_and_take_them_back(people, provider, live_server):
    rules = [("Shop-Ops", people.team, "operator"), ("shop-admins", people.team, "admin"), ("it", None, "")]
    for group, team, role in rules:
        groups.add_rule(actor=people.root, source="oidc", group=group, team=team, role=role)
    known_there(provider, "erin", "shop-ops", "unheard-of")
    browser, page = company_sign_in(live_server.url, "erin")
    assert page.url == f"{live_server.url}/jobs/"
    assert page.status_code == 200
    erin = User.objects.get(username="erin")
    assert (roles_of("erin"), erin.is_superuser, erin.has_usable_password()) == (
        {"Web shop": "operator"},
        False,
        False,
    )
    added = AuditEntry.objects.get(action="person.add")
    assert (added.via, added.object_label) == ("oidc", "erin")
    assert AuditEntry.objects.get(action="login").data == {"methods": ["socialaccount"]}
    applied = AuditEntry.objects.get(action="groups.apply")
    assert (applied.via, applied.data["before"]["teams"], applied.data["after"]["teams"]) == (
        "oidc",
        {},
        {"Web shop": "operator"},
    )
    known_there(provider, "erin", "shop-ops", "shop-admins", "it")
    company_sign_in(live_server.url, "erin")
    erin.refresh_from_db()
    assert (roles_of("erin"), erin.is_superuser) == ({"Web shop": "admin"}, True)
    known_there(provider, "erin")
    company_sign_in(live_server.url, "erin")
    erin.refresh_from_db()
    assert (roles_of("erin"), erin.is_superuser) == ({}, False)
    assert User.objects.filter(username__startswith="erin").count() == 1
    assert browser.get(f"{live_server.url}/jobs/", timeout=30).status_code == 200


def test_an_account_that_is_here_is_not_taken_over_by_its_name(people, provider, live_server):
    UserFactory(username="erin", is_superuser=True, email="erin@example.com")
    known_there(provider, "erin")
    _, page = company_sign_in(live_server.url, "erin")
    assert page.url == f"{live_server.url}/jobs/"
    account = SocialAccount.objects.get()
    assert account.user.username != "erin"
    assert not account.user.is_superuser


def test_a_person_connects_both_accounts_and_keeps_the_role_given_by_hand(people, provider, live_server):
    groups.add_rule(actor=people.root, source="oidc", group="ops", team=people.team, role="operator")
    known_there(provider, "carol-there", "ops")
    browser = requests.Session()
    page = browser.get(f"{live_server.url}/login/", timeout=30)
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert token is not None
    form = {"username": "carol", "password": "correct horse", "csrfmiddlewaretoken": token[1]}
    browser.post(page.url, data=form, timeout=30)
    page = browser.get(f"{live_server.url}/login/company/?process=connect", timeout=30)
    page = sign_in_there(page, browser, "carol-there")
    assert page.url == f"{live_server.url}/settings/company/"
    assert "Connected" in page.text
    assert AuditEntry.objects.get(action="company.connect").actor_name == "carol"
    company_sign_in(live_server.url, "carol-there")
    assert roles_of("carol") == {"Web shop": "operator"}
    known_there(provider, "carol-there")
    company_sign_in(live_server.url, "carol-there")
    assert roles_of("carol") == {"Web shop": "viewer"}
    assert not User.objects.filter(username="carol-there").exists()


def test_somebody_switched_off_here_does_not_come_in_from_there(people, provider, live_server):
    known_there(provider, "erin")
    company_sign_in(live_server.url, "erin")
    erin = User.objects.get(username="erin")
    erin.is_active = False
    erin.save()
    browser, page = company_sign_in(live_server.url, "erin")
    assert page.url == f"{live_server.url}/login/switched-off/"
    refused = AuditEntry.objects.get(action="login.refused")
    assert refused.data == {"username": "erin", "step": "switched_off"}
    assert browser.get(f"{live_server.url}/jobs/", timeout=30).url.startswith(f"{live_server.url}/login/")


def test_no_accounts_are_made_where_that_is_off(people, provider, live_server, settings):
    settings.OIDC_NEW_PEOPLE = False
    known_there(provider, "erin")
    _, page = company_sign_in(live_server.url, "erin")
    assert "there is no account for you" in page.text
    assert not User.objects.filter(username="erin").exists()


def test_it_never_leads_to_another_host(people, provider, live_server):
    known_there(provider, "erin")
    _, page = company_sign_in(live_server.url, "erin", "https://evil.example/")
    assert page.url.startswith(f"{live_server.url}/")


def test_forged_and_repeated_answers_sign_nobody_in(people, provider, live_server):
    known_there(provider, "erin")
    back = f"{live_server.url}/login/company/back/"
    stranger = requests.get(f"{back}?code=x&state=y", timeout=30)
    assert stranger.status_code == 401
    assert "Nothing was opened" in stranger.text
    _, page = company_sign_in(live_server.url, "erin")
    used = next(one.url for one in page.history if "/back/" in one.url)
    assert parse_qs(urlsplit(used).query)["code"]
    fresh = requests.Session()
    assert fresh.get(used, timeout=30).status_code == 401
    assert fresh.get(f"{live_server.url}/jobs/", timeout=30).url.startswith(f"{live_server.url}/login/")
    assert AuditEntry.objects.filter(action="login.refused", data__step="company").count() == 2


def test_a_provider_that_is_away_is_told(live_server, provider, settings, client):
    settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"][0]["settings"]["server_url"] = (
        "http://127.0.0.1:9"
    )
    response = client.get("/login/company/")
    assert response.status_code == 503
    assert "could not be reached" in response.content.decode()
    assert "Sign in by" in client.get("/login/").content.decode()


def test_without_a_provider_there_is_nothing_of_it(client, db):
    assert "/login/company/" not in client.get("/login/").content.decode()
    assert client.get("/login/company/").status_code == 404
    assert client.get("/login/company/back/").status_code == 404
