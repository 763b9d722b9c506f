# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
from django.test import Client
from django.urls import reverse

from portal.audit.models import AuditEntry

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

PASSWORD = "correct horse"


def sign_in(client: Client, username: str, password: str = PASSWORD, path: str = "/login/"):
    return client.post(path, {"username": username, "password": password})


def test_signing_in_leads_to_the_overview_and_is_recorded(people, client):
    response = sign_in(client, "alice")
    assert (response.status_code, response.url) == (302, reverse("dashboard:overview"))
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor_name, entry.address) == ("login", "alice", "127.0.0.1")


@pytest.mark.parametrize(
    ("username", "password"),
    [("alice", "wrong"), ("nobody", PASSWORD), ("", ""), ("é" * 400, "no such word")],
)
def test_a_refused_sign_in_is_recorded_without_the_password(people, client, username, password):
    response = sign_in(client, username, password)
    assert response.status_code == 422
    assert "_auth_user_id" not in client.session
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.data) == ("login.refused", None, {"username": username[:150]})
    assert not password or password not in str(vars(entry))


def test_people_who_were_switched_off_cannot_sign_in(people, client):
    people.alice.is_active = False
    people.alice.save()
    assert sign_in(client, "alice").status_code == 422


def test_a_session_ends_when_its_person_is_switched_off(people, client):
    client.force_login(people.alice)
    people.alice.is_active = False
    people.alice.save()
    assert client.get("/").status_code == 302


def test_after_signing_in_only_pages_of_the_portal_are_gone_to(people, client):
    assert sign_in(client, "alice", path="/login/?next=/jobs/").url == "/jobs/"
    client.logout()
    assert sign_in(client, "alice", path="/login/?next=https://evil.example/").url == "/"


def test_signing_out_needs_a_post(people, client):
    client.force_login(people.alice)
    assert client.get("/logout/").status_code == 405
    assert client.post("/logout/").status_code == 302
    assert client.get("/").status_code == 302


def change(client: Client, old: str, new: str, again: str | None = None):
    data = {"old_password": old, "new_password1": new, "new_password2": again or new}
    return client.post("/settings/", data)


def test_a_new_password_keeps_this_session_and_ends_the_others(people, client):
    elsewhere = Client()
    for each in (client, elsewhere):
        each.force_login(people.alice)
    assert change(client, PASSWORD, "battery staple 9").status_code == 302
    assert client.get("/").status_code == 200
    assert elsewhere.get("/").status_code == 302
    assert sign_in(Client(), "alice").status_code == 422
    assert sign_in(Client(), "alice", "battery staple 9").status_code == 302
    entry = AuditEntry.objects.get(action="password.change")
    assert (entry.actor_name, entry.object_label) == ("alice", "alice")
    assert "battery" not in str(vars(entry))


@pytest.mark.parametrize(
    ("old", "new", "again"),
    [("wrong", "battery staple 9", None), (PASSWORD, "short", None), (PASSWORD, "battery staple 9", "other")],
)
def test_a_bad_new_password_changes_nothing(people, client, old, new, again):
    client.force_login(people.alice)
    assert change(client, old, new, again).status_code == 422
    assert sign_in(Client(), "alice").status_code == 302
    assert not AuditEntry.objects.filter(action="password.change").exists()


def test_the_page_tells_what_a_person_may_do(people, client):
    client.force_login(people.bob)
    text = client.get("/settings/").content.decode()
    assert "Web shop" in text
    assert "back up" in text
    assert "Elsewhere" not in text
