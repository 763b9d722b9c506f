# SPDX-License-Identifier: GPL-3.0-or-later
"""Signing in by somebody who means harm: forged forms, links that lead away, guessing which names exist."""

import re

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.core.management import call_command
from django.test import Client

from portal.accounts.models import User
from portal.audit.models import AuditEntry
from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

PASSWORD = "correct horse"


def test_a_forged_form_signs_nobody_in(people):
    client = Client(enforce_csrf_checks=True)
    assert client.post("/login/", {"username": "alice", "password": PASSWORD}).status_code == 403
    assert "_auth_user_id" not in client.session
    page = client.get("/login/").content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token is not None
    form = {"username": "alice", "password": PASSWORD, "csrfmiddlewaretoken": token[1]}
    assert client.post("/login/", form).status_code == 302


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example",
        r"/\evil.example",
        r"\\evil.example",
        "http:///evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://testserver@evil.example/",
        "https://localhost/",
        "\thttps://evil.example/",
    ],
)
@pytest.mark.parametrize("where", ["query", "form"])
def test_signing_in_never_leads_to_another_host(people, target, where):
    client = Client()
    form = {"username": "alice", "password": PASSWORD}
    if where == "form":
        response = client.post("/login/", {**form, "next": target})
    else:
        response = client.post("/login/", form, query_params={"next": target})
    assert (response.status_code, response.url) == (302, "/")
    again = client.get("/login/", {"next": target})
    assert (again.status_code, again.url) == (302, "/")


def test_a_hostile_target_is_text_on_the_page():
    page = Client().get("/login/", {"next": '"><script>alert(1)</script>'}).content.decode()
    assert "<script>alert" not in page


def test_unknown_names_and_wrong_passwords_cannot_be_told_apart(people, monkeypatch):
    UserFactory(username="gone", is_active=False)
    robot = UserFactory(username="robot", is_service=True)
    hashed: list[str] = []
    real = MD5PasswordHasher.encode

    def noting(self, password, *args, **kwargs):
        hashed.append(password)
        return real(self, password, *args, **kwargs)

    monkeypatch.setattr(MD5PasswordHasher, "encode", noting)
    answers = {}
    for name, password in [
        ("alice", "wrong"),
        ("nobody", "wrong"),
        ("gone", PASSWORD),
        (robot.username, PASSWORD),
    ]:
        hashed.clear()
        response = Client().post("/login/", {"username": name, "password": password})
        text = re.sub(r'value="[^"]*"|X-CSRFToken[^}]*', "", response.content.decode())
        answers[name] = (response.status_code, text, len(hashed))
    assert len(set(answers.values())) == 1, {name: (code, work) for name, (code, _, work) in answers.items()}


def test_a_session_is_a_new_one_after_signing_in(people):
    client = Client()
    client.get("/login/")
    session = client.session
    session["planted"] = True
    session.save()
    before = session.session_key
    client.cookies["sessionid"] = before
    client.post("/login/", {"username": "alice", "password": PASSWORD})
    assert client.session.session_key != before


@pytest.mark.parametrize(
    "address", ["/signup/", "/accounts/signup/", "/password/reset/", "/login/code/", "/email/"]
)
def test_nobody_signs_up_or_resets_by_mail(address):
    response = Client().get(address)
    assert response.status_code in (302, 404)
    if response.status_code == 302:
        assert response.url.startswith("/login/")


def test_the_page_for_switched_off_people_has_a_way_on():
    text = Client().get("/login/switched-off/").content.decode()
    assert "switched off" in text
    assert 'href="/login/"' in text


def test_the_first_admin_is_made_once(capsys):
    call_command("first_admin")
    out = capsys.readouterr().out
    password = re.search(r"password ([a-z0-9-]{23})", out)
    assert password is not None
    admin = User.objects.get()
    assert admin.is_platform_admin
    assert admin.username == "admin"
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor_name, entry.via) == ("person.add", "portal", "command")
    assert password[1] not in str(vars(entry))
    assert Client().post("/login/", {"username": "admin", "password": password[1]}).status_code == 302
    call_command("first_admin")
    assert "nothing was made" in capsys.readouterr().out
    assert User.objects.count() == 1


def test_no_admin_is_made_where_there_is_anybody(people, capsys):
    call_command("first_admin")
    assert "nothing was made" in capsys.readouterr().out
    assert not User.objects.filter(username="admin").exists()
