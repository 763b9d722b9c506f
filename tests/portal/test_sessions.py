# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a person is signed in, and ending it."""

import pytest
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from portal.accounts.agents import described
from portal.audit.models import AuditEntry

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

PASSWORD = "correct horse"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Mobile/15E148 Safari/604.1"
)


def browser(username: str, agent: str = FIREFOX, address: str = "192.0.2.1") -> Client:
    client = Client(HTTP_USER_AGENT=agent, REMOTE_ADDR=address)
    assert client.post("/login/", {"username": username, "password": PASSWORD}).status_code == 302
    return client


def is_in(client: Client) -> bool:
    return client.get("/").status_code == 200


def test_the_page_lists_devices_and_addresses_of_this_person_alone(people):
    here = browser("alice")
    browser("alice", IPHONE, "2001:db8::7")
    browser("bob", address="203.0.113.9")
    text = here.get("/settings/sessions/").content.decode()
    assert "Firefox on Windows (this browser)" in text
    assert "Safari on iPhone" in text
    assert "2001:db8::7" in text
    assert "203.0.113.9" not in text


def test_a_session_can_be_ended_from_elsewhere_and_ends_at_once(people):
    here, phone = browser("alice"), browser("alice", IPHONE, "2001:db8::7")
    assert is_in(phone)
    session = UserSession.objects.get(ip="2001:db8::7")
    assert here.post(f"/settings/sessions/{session.pk}/end/").status_code == 302
    assert not is_in(phone)
    assert is_in(here)
    entry = AuditEntry.objects.get(action="session.end")
    assert (entry.actor_name, entry.address) == ("alice", "192.0.2.1")
    assert entry.data == {"device": "Safari on iPhone", "of_address": "2001:db8::7"}


def test_the_sessions_of_others_cannot_be_ended(people):
    mallory, alice = browser("dave"), browser("alice")
    session = UserSession.objects.get(user=people.alice)
    assert mallory.post(f"/settings/sessions/{session.pk}/end/").status_code == 404
    assert mallory.post("/settings/sessions/end-all/").status_code == 302
    assert is_in(alice)


def test_signing_out_everywhere_else_and_everywhere(people):
    here, *others = (browser("alice", address=f"192.0.2.{number}") for number in range(1, 5))
    assert here.post("/settings/sessions/end-others/").status_code == 302
    assert [is_in(client) for client in others] == [False, False, False]
    assert is_in(here)
    assert AuditEntry.objects.get(action="session.end_others").data == {"count": 3}
    other = browser("alice")
    response = here.post("/settings/sessions/end-all/")
    assert (response.status_code, response.url) == (302, "/login/")
    assert not is_in(here)
    assert not is_in(other)
    assert not Session.objects.exists()


def test_a_new_password_ends_the_others_and_takes_them_off_the_list(people):
    here, other = browser("alice"), browser("alice", IPHONE)
    form = {
        "old_password": PASSWORD,
        "new_password1": "battery staple 9",
        "new_password2": "battery staple 9",
    }
    assert here.post("/settings/", form).status_code == 302
    assert is_in(here)
    assert not is_in(other)
    assert here.get("/settings/sessions/").content.decode().count("· signed in") == 1
    assert AuditEntry.objects.get(action="session.end_others").data == {"count": 1}


def test_the_session_of_somebody_switched_off_ends_at_once(people):
    client = browser("alice")
    people.alice.is_active = False
    people.alice.save()
    assert not is_in(client)
    assert not UserSession.objects.filter(user=people.alice).exists()
    people.alice.is_active = True
    people.alice.save()
    assert not is_in(client)


def test_switched_off_behind_the_portals_back_ends_it_too(people):
    client = browser("alice")
    type(people.alice).objects.filter(pk=people.alice.pk).update(is_active=False)
    assert not is_in(client)


def test_a_signed_out_session_is_off_the_list(people):
    here, other = browser("alice"), browser("alice", IPHONE)
    other.post("/logout/")
    assert "iPhone" not in here.get("/settings/sessions/").content.decode()
    assert AuditEntry.objects.filter(action="logout").count() == 1


def test_looking_at_pages_writes_once_a_minute(people, monkeypatch):
    client = browser("alice")
    client.get("/settings/sessions/")
    with CaptureQueriesContext(connection) as queries:
        client.get("/settings/sessions/")
    assert not [query["sql"] for query in queries if query["sql"].startswith(("INSERT", "UPDATE"))]
    before = UserSession.objects.get().last_seen_at
    session = client.session
    session["seen_at"] -= 61
    session.save()
    client.get("/settings/sessions/", REMOTE_ADDR="192.0.2.200")
    after = UserSession.objects.get()
    assert after.last_seen_at > before
    assert after.ip == "192.0.2.200"


def test_many_sessions_take_no_more_queries(people):
    client = browser("alice")
    client.get("/settings/sessions/")
    counts = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            client.get("/settings/sessions/")
        counts.append(len(queries))
        for number in range(5):
            browser("alice", address=f"198.51.100.{number}")
    assert counts[0] == counts[1]


def test_a_hostile_description_is_text(people):
    client = browser("alice", "<script>alert(1)</script>" * 30)
    text = client.get("/settings/sessions/").content.decode()
    assert "<script>alert" not in text
    assert "A browser (this browser)" in text


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (FIREFOX, "Firefox on Windows"),
        (IPHONE, "Safari on iPhone"),
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36",
            "Chrome on Linux",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Chrome/140.0 Safari/537.36 Edg/140.0",
            "Edge on macOS",
        ),
        ("Mozilla/5.0 (Linux; Android 15) SamsungBrowser/28.0 Chrome/130.0", "Samsung Internet on Android"),
        ("curl/8.5.0", "curl"),
        ("", "A browser"),
    ],
)
def test_browsers_in_words(agent, words):
    assert described(agent) == words
