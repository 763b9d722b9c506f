# SPDX-License-Identifier: GPL-3.0-or-later
"""One-time codes and recovery codes; passkeys are in tests/browser/test_passkeys.py."""

import re
import time
import uuid

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.core.cache import caches
from django.core.management import CommandError, call_command
from django.test import Client

from portal.audit.models import AuditEntry

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

PASSWORD = "correct horse"


def code_of(secret: str, ahead: int = 0) -> str:
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + ahead))


def confirmed(person, client: Client | None = None) -> Client:
    """Signed in, and has just given the password again."""
    client = client or Client()
    client.force_login(person)
    response = client.post("/confirm/?next=/settings/two-step/", {"password": PASSWORD})
    assert (response.status_code, response.url) == (302, "/settings/two-step/")
    return client


def with_app(person) -> tuple[Client, str, list[str]]:
    """The client, the app's key and the recovery codes of somebody who added an app."""
    client = confirmed(person)
    page = client.get("/settings/two-step/app/").content.decode()
    found = re.search(r'data-copy="([A-Z2-7 ]{39})"', page)
    assert found is not None
    secret = found[1].replace(" ", "")
    # The code of the step before: that of now is left for signing in, as each works once.
    response = client.post("/settings/two-step/app/", {"code": code_of(secret, -1)})
    assert (response.status_code, response.url) == (302, "/settings/two-step/codes/")
    codes = re.findall(
        r"^[0-9]{8}$|(?<=>)[0-9]{8}$|^[0-9]{8}(?=<)", client.get(response.url).content.decode(), re.M
    )
    assert len(codes) == 10
    return client, secret, codes


@pytest.fixture(autouse=True)
def no_codes_used(settings):
    """Used codes and allauth's counters are in the cache, which is not emptied with the database."""
    for name in settings.CACHES:
        caches[name].key_prefix = uuid.uuid4().hex


def first_step(username: str) -> Client:
    client = Client()
    response = client.post("/login/?next=/jobs/", {"username": username, "password": PASSWORD})
    assert (response.status_code, response.url) == (302, "/login/second/")
    assert "_auth_user_id" not in client.session
    return client


def test_changes_to_two_step_sign_in_need_the_password_again(people, client):
    client.force_login(people.alice)
    for address in ("app/", "passkeys/add/", "codes/new/"):
        response = client.get(f"/settings/two-step/{address}")
        assert response.status_code == 302
        assert response.url.startswith("/confirm/?next=")
    assert client.post("/confirm/", {"password": "wrong"}).status_code == 200
    assert client.get("/settings/two-step/app/").status_code == 302


def test_a_password_alone_lets_nobody_in_once_there_is_an_app(people):
    _, secret, _ = with_app(people.alice)
    client = first_step("alice")
    assert client.get("/jobs/").status_code == 302
    assert client.get("/login/").url == "/login/second/"
    wrong = client.post("/login/second/", {"code": "000000"})
    assert wrong.status_code == 200
    assert "not right" in wrong.content.decode()
    response = client.post("/login/second/", {"code": code_of(secret)})
    assert (response.status_code, response.url) == (302, "/jobs/")
    assert client.get("/jobs/").status_code == 200
    entry = AuditEntry.objects.filter(action="login").get()
    assert entry.data == {"methods": ["password", "totp"]}
    refused = AuditEntry.objects.get(action="login.refused")
    assert refused.data == {"username": "alice", "step": "code"}


def test_a_code_works_once(people):
    _, secret, _ = with_app(people.alice)
    code = code_of(secret)
    assert first_step("alice").post("/login/second/", {"code": code}).status_code == 302
    assert first_step("alice").post("/login/second/", {"code": code}).status_code == 200


def test_a_recovery_code_works_once(people):
    _, _, codes = with_app(people.alice)
    assert first_step("alice").post("/login/second/", {"code": codes[0]}).status_code == 302
    assert first_step("alice").post("/login/second/", {"code": codes[0]}).status_code == 200
    assert first_step("alice").post("/login/second/", {"code": codes[1]}).status_code == 302


def test_codes_are_not_guessed_without_end(people):
    _, secret, _ = with_app(people.alice)
    for _ in range(5):
        first_step("alice").post("/login/second/", {"code": "000000"})
    response = first_step("alice").post("/login/second/", {"code": code_of(secret)})
    assert response.status_code == 200
    assert AuditEntry.objects.filter(action="login.refused", data__limit="code").count() == 1


def test_keys_and_codes_are_encrypted_in_the_database(people):
    _, secret, codes = with_app(people.alice)
    kept = str(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret not in kept
    assert not any(code in kept for code in codes)
    written = str([vars(entry) for entry in AuditEntry.objects.all()])
    assert secret not in written


def test_recovery_codes_are_shown_once(people):
    client, _, codes = with_app(people.alice)
    again = client.get("/settings/two-step/codes/").content.decode()
    assert not any(code in again for code in codes)
    assert "cannot be shown again" in again
    assert client.post("/settings/two-step/codes/new/").status_code == 302
    renewed = client.get("/settings/two-step/codes/").content.decode()
    assert not any(code in renewed for code in codes)
    assert first_step("alice").post("/login/second/", {"code": codes[0]}).status_code == 200


def test_removing_the_app_is_written_down_and_takes_the_codes_along(
    people, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        client, _, _ = with_app(people.alice)
    assert client.post("/settings/two-step/app/remove/").status_code == 302
    assert not Authenticator.objects.exists()
    response = Client().post("/login/", {"username": "alice", "password": PASSWORD})
    assert (response.status_code, response.url) == (302, "/")
    entries = AuditEntry.objects.filter(action__startswith="second_step").order_by("id")
    assert [(entry.action, entry.data["kind"]) for entry in entries] == [
        ("second_step.add", "totp"),
        ("second_step.add", "recovery_codes"),
        ("second_step.remove", "totp"),
        ("second_step.remove", "recovery_codes"),
    ]
    assert {entry.actor_name for entry in entries} == {"alice"}


def test_somebody_switched_off_between_the_steps_does_not_get_in(people):
    _, secret, _ = with_app(people.alice)
    client = first_step("alice")
    people.alice.is_active = False
    people.alice.save()
    client.post("/login/second/", {"code": code_of(secret)})
    assert client.get("/jobs/").status_code == 302


def test_one_can_go_back_from_the_second_step(people):
    with_app(people.alice)
    client = first_step("alice")
    assert client.post("/logout/").status_code == 302
    assert client.get("/login/").status_code == 200


def test_a_forged_passkey_is_no_crash(people):
    client = Client()
    for credential in ("", "null", "[]", "{}", '{"response": {"userHandle": 7}}', '{"response": {}}', "x"):
        response = client.post("/login/passkey/", {"credential": credential, "next": "/jobs/"})
        assert (response.status_code, response.url) == (302, "/login/?next=%2Fjobs%2F"), credential
    assert "not known here" in client.get("/login/").content.decode()


def test_the_passkeys_of_others_cannot_be_touched(people):
    key = Authenticator.objects.create(user=people.bob, type="webauthn", data={"name": "Bob's"})
    client = confirmed(people.alice)
    for address in ("", "remove/"):
        assert client.get(f"/settings/two-step/passkeys/{key.pk}/{address}").status_code == 404
        assert (
            client.post(f"/settings/two-step/passkeys/{key.pk}/{address}", {"name": "x"}).status_code == 404
        )
    key.refresh_from_db()
    assert key.data == {"name": "Bob's"}


def test_a_platform_admin_takes_lost_second_steps_away(people, capsys):
    with_app(people.alice)
    call_command("remove_second_steps", "alice")
    assert "password alone" in capsys.readouterr().out
    response = Client().post("/login/", {"username": "alice", "password": PASSWORD})
    assert (response.status_code, response.url) == (302, "/")
    entry = AuditEntry.objects.get(action="second_step.remove_all")
    assert (entry.via, entry.object_label, entry.data["before"]) == (
        "command",
        "alice",
        ["recovery_codes", "totp"],
    )
    with pytest.raises(CommandError, match="Nobody is called nobody"):
        call_command("remove_second_steps", "nobody")


def test_passkeys_are_not_tried_without_end(db):
    client = Client()
    for _ in range(30):
        assert client.post("/login/passkey/", {"credential": "{}"}).status_code == 302
    for _ in range(3):
        response = client.post("/login/passkey/", {"credential": "{}"})
        assert response.status_code == 429
    assert "Too many attempts" in response.content.decode()
    assert AuditEntry.objects.get(action="login.refused", data__limit="passkey").address == "127.0.0.1"


def test_confirming_is_not_tried_without_end(people, client):
    client.force_login(people.alice)
    for _ in range(10):
        assert client.post("/confirm/", {"password": "wrong"}).status_code == 200
    assert client.post("/confirm/", {"password": PASSWORD}).status_code == 429
    entry = AuditEntry.objects.get(action="login.refused", data__limit="confirm")
    assert entry.actor_name == "alice"
