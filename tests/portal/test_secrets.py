# SPDX-License-Identifier: GPL-3.0-or-later
import stat
import threading

import pytest
from cryptography.fernet import Fernet

from portal import secrets
from portal.ovirt.connection import ManagerAddress
from tests.factories import EnvironmentFactory

pytestmark = pytest.mark.embedded

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))


def test_a_key_file_is_made_once_and_readable_by_its_owner_only(tmp_path):
    path = tmp_path / "credentials.key"
    key = secrets.secret_from_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secrets.secret_from_file(path) == key
    assert secrets.decrypt(secrets.encrypt("hunter2", [key]), [key]) == "hunter2"
    assert [each.name for each in tmp_path.iterdir()] == ["credentials.key"]


def test_all_of_several_starters_get_the_same_key(tmp_path):
    found, together = [], threading.Barrier(8)

    def start():
        together.wait(5)
        found.append(secrets.secret_from_file(tmp_path / "key"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["key"]


def test_passwords_written_under_the_old_key_stay_readable_when_a_new_one_is_put_first():
    token = secrets.encrypt("pässword", [OLD])
    assert "pässword" not in token
    assert secrets.decrypt(token, [NEW, OLD]) == "pässword"
    again = secrets.encrypt("pässword", [NEW, OLD])
    assert secrets.decrypt(again, [NEW]) == "pässword"


@pytest.mark.parametrize(
    "token",
    [secrets.encrypt("hunter2", [OLD]), "", "nonsense", "ümlaut"],
    ids=["another key", "empty", "nonsense", "not ascii"],
)
def test_what_no_key_opens_is_told_without_naming_it(token):
    with pytest.raises(secrets.CredentialUnreadable) as caught:
        secrets.decrypt(token, [NEW, OTHER])
    assert "PORTAL_CREDENTIAL_KEYS" in caught.value.hint
    assert not token or token not in str(caught.value)


def test_a_key_that_is_none_is_refused_without_naming_it():
    assert secrets.checked_keys([OLD, NEW]) == [OLD, NEW]
    with pytest.raises(ValueError, match="credential key 2 is not") as caught:
        secrets.checked_keys([OLD, "hunter2"])
    assert "hunter2" not in str(caught.value)


def test_an_address_never_shows_its_password(tmp_path):
    address = ManagerAddress("https://m/ovirt-engine/api", "admin@internal", "hunter2", "PEM", 60, tmp_path)
    assert "hunter2" not in repr(address)
    assert "PEM" not in repr(address)


@pytest.mark.django_db
def test_the_password_of_a_manager_is_stored_encrypted():
    environment = EnvironmentFactory.build()
    environment.set_password("hunter2")
    environment.save()
    environment.refresh_from_db()
    assert "hunter2" not in str(vars(environment))
    assert environment.address().password == "hunter2"


def test_the_ca_is_written_once_for_each_content(tmp_path):
    first = ManagerAddress("https://m", "a", "p", "PEM one", 60, tmp_path / "ca")
    second = ManagerAddress("https://m", "a", "p", "PEM two", 60, tmp_path / "ca")
    assert first.ca_file() == first.ca_file() != second.ca_file()
    assert first.ca_file().read_text() == "PEM one"
    assert ManagerAddress("https://m", "a", "p", " \n", 60, tmp_path).ca_file() is None
