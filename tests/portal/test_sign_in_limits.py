# SPDX-License-Identifier: GPL-3.0-or-later
"""Mass wrong sign-ins: refused before anything is hashed, over all workers, without locking the person out."""

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from portal.accounts import attempts
from portal.accounts.attempts import LIMITS, Attempt, Refusal
from portal.accounts.models import AttemptCounter
from portal.audit.models import AuditEntry

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

PASSWORD = "correct horse"


def sign_in(username: str, password: str = "wrong", address: str = "192.0.2.1", client: Client | None = None):
    client = client or Client()
    return client.post("/login/", {"username": username, "password": password}, REMOTE_ADDR=address)


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """Passwords that were hashed or compared."""
    seen: list[str] = []
    real = MD5PasswordHasher.encode

    def noting(self, password, salt, *args, **kwargs):
        seen.append(password)
        return real(self, password, salt, *args, **kwargs)

    monkeypatch.setattr(MD5PasswordHasher, "encode", noting)
    return seen


def use_up(limit: str, *, name: str = "alice", address: str = "192.0.2.1") -> None:
    """Wrong sign-ins up to the limit, all of them looked at."""
    for number in range(LIMITS[limit].attempts):
        response = sign_in(
            name if limit == "name" else f"name{number}",
            address=f"198.51.100.{number + 1}" if limit == "name" else address,
        )
        assert response.status_code == 422


def test_many_names_from_one_address_are_refused_before_anything_is_hashed(people, hashed):
    use_up("address")
    hashed.clear()
    response = sign_in("alice", PASSWORD)
    assert response.status_code == 429
    assert 0 < int(response["Retry-After"]) <= 300
    assert "from your address" in response.content.decode()
    assert hashed == []
    assert sign_in("alice", PASSWORD, address="192.0.2.2").status_code == 302


def test_one_name_from_many_addresses_is_refused_before_anything_is_hashed(people, hashed):
    use_up("name")
    hashed.clear()
    response = sign_in("alice", PASSWORD, address="203.0.113.9")
    assert response.status_code == 429
    assert "for this name" in response.content.decode()
    assert hashed == []
    assert sign_in("bob", PASSWORD, address="203.0.113.9").status_code == 302


def test_other_spellings_of_a_name_do_not_get_around_its_limit(people):
    use_up("name")
    for spelling in ("ALICE", " alice ", "ａlice"):
        assert sign_in(spelling, address="203.0.113.9").status_code == 429


def test_strangers_do_not_lock_a_person_out_of_their_own_browser(people):
    own = Client()
    assert sign_in("alice", PASSWORD, address="203.0.113.9", client=own).status_code == 302
    own.post("/logout/")
    use_up("name")
    use_up("address", address="203.0.113.9")
    assert sign_in("alice", PASSWORD, address="203.0.113.9").status_code == 429
    assert sign_in("alice", PASSWORD, address="203.0.113.9", client=own).status_code == 302


def test_a_known_browser_has_a_limit_of_its_own(people, hashed):
    own = Client()
    sign_in("alice", PASSWORD, client=own)
    own.post("/logout/")
    for _ in range(LIMITS["device"].attempts):
        assert sign_in("alice", client=own).status_code == 422
    hashed.clear()
    assert sign_in("alice", PASSWORD, client=own).status_code == 429
    assert hashed == []


def test_the_browser_of_one_person_is_not_known_for_another(people):
    mallory = Client()
    sign_in("dave", PASSWORD, client=mallory)
    mallory.post("/logout/")
    use_up("name")
    assert sign_in("alice", PASSWORD, address="203.0.113.9", client=mallory).status_code == 429


def test_a_made_up_browser_is_not_known(people):
    forged = Client()
    forged.cookies = SimpleCookie({"known_device": "WyJhbGljZSIsIDFd:nonsense:nonsense"})
    use_up("name")
    assert sign_in("alice", PASSWORD, address="203.0.113.9", client=forged).status_code == 429


def test_a_limit_ends_by_itself_and_refusals_do_not_make_it_longer(people):
    use_up("name")
    until = set(AttemptCounter.objects.filter(count=20).values_list("until", flat=True))
    for _ in range(5):
        assert sign_in("alice", PASSWORD, address="203.0.113.9").status_code == 429
    assert set(AttemptCounter.objects.filter(count__gte=20).values_list("until", flat=True)) == until
    AttemptCounter.objects.update(until=timezone.now() - dt.timedelta(seconds=1))
    assert sign_in("alice", PASSWORD, address="203.0.113.9").status_code == 302


def test_right_passwords_use_nothing_up(people):
    for _ in range(LIMITS["address"].attempts + 5):
        assert sign_in("alice", PASSWORD).status_code == 302
    assert not AttemptCounter.objects.filter(count__gt=0).exists()


def test_the_history_names_the_limit_once_for_each_window(people):
    use_up("name")
    for number in range(5):
        sign_in("alice", PASSWORD, address=f"203.0.113.{number}")
    entries = AuditEntry.objects.filter(action="login.refused", data__limit="name")
    assert [(entry.address, entry.data["username"]) for entry in entries] == [("203.0.113.0", "alice")]
    assert AuditEntry.objects.filter(action="login.refused").count() == LIMITS["name"].attempts + 1


def test_a_whole_ipv6_network_counts_as_one_address(people):
    for number in range(LIMITS["address"].attempts):
        assert sign_in(f"name{number}", address=f"2001:db8::{number:x}").status_code == 422
    assert sign_in("alice", PASSWORD, address="2001:db8::ffff").status_code == 429
    assert sign_in("alice", PASSWORD, address="2001:db8:0:1::1").status_code == 302


def test_the_forwarded_header_of_a_stranger_is_not_believed(people):
    for number in range(LIMITS["address"].attempts):
        Client().post(
            "/login/",
            {"username": f"name{number}", "password": "wrong"},
            REMOTE_ADDR="192.0.2.1",
            HTTP_X_FORWARDED_FOR=f"203.0.113.{number}",
        )
    response = Client().post(
        "/login/",
        {"username": "alice", "password": PASSWORD},
        REMOTE_ADDR="192.0.2.1",
        HTTP_X_FORWARDED_FOR="203.0.113.99",
    )
    assert response.status_code == 429


def test_behind_a_trusted_proxy_the_client_counts(people, settings):
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    forwarded = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "192.0.2.77, 203.0.113.5"}
    Client().post("/login/", {"username": "alice", "password": "wrong"}, **forwarded)
    assert AuditEntry.objects.get().address == "203.0.113.5"


def test_forgetting_the_attempts_for_a_name(people, capsys):
    use_up("name")
    call_command("forget_attempts", "Alice")
    assert "forgotten" in capsys.readouterr().out
    assert sign_in("alice", PASSWORD, address="203.0.113.9").status_code == 302
    entry = AuditEntry.objects.get(action="login.attempts_forgotten")
    assert (entry.via, entry.data) == ("command", {"username": "Alice"})
    call_command("forget_attempts", "alice")
    assert "Nothing was counted" in capsys.readouterr().out


def test_old_passwords_are_not_tried_without_end(people, client, hashed):
    client.force_login(people.alice)
    form = {"new_password1": "battery staple 9", "new_password2": "battery staple 9"}
    for _ in range(LIMITS["password"].attempts):
        assert client.post("/settings/", {"old_password": "wrong", **form}).status_code == 422
    hashed.clear()
    response = client.post("/settings/", {"old_password": PASSWORD, **form})
    assert response.status_code == 422
    assert "too many attempts" in response.content.decode()
    assert PASSWORD not in hashed


@pytest.mark.django_db(transaction=True)
def test_attempts_of_many_workers_at_once_are_all_counted():
    """Each thread has a connection of its own, as each worker has."""
    ready = threading.Barrier(8)

    def attempt(number: int) -> list[Attempt | Refusal]:
        ready.wait()
        try:
            return [attempts.start(address=f"192.0.2.{number}", name="alice", device=None) for _ in range(5)]
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        found = [one for several in pool.map(attempt, range(8)) for one in several]
    assert sum(isinstance(one, Attempt) for one in found) == LIMITS["name"].attempts
    assert sum(isinstance(one, Refusal) and one.first for one in found) == 1


def test_ended_counters_are_dropped(people):
    use_up("name")
    AttemptCounter.objects.update(until=timezone.now() - dt.timedelta(seconds=1))
    sign_in("somebody", address="203.0.113.9")
    assert AttemptCounter.objects.count() == 2
