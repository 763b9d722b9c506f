# SPDX-License-Identifier: GPL-3.0-or-later
"""Signing in by LDAP, against Debian's slapd, started privately."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from portal.accounts import groups
from portal.accounts.attempts import LIMITS
from portal.accounts.models import Membership, User
from portal.audit.models import AuditEntry
from tests.factories import UserFactory

SLAPD = shutil.which("slapd", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(SLAPD is None, reason="slapd is not installed: apt-get install slapd"),
]

SUFFIX, SERVICE, SECRET = "dc=example,dc=com", "cn=portal,dc=example,dc=com", "the portal's"
ENTRIES = f"""\
dn: {SUFFIX}
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: ou=people,{SUFFIX}
objectClass: organizationalUnit
ou: people

dn: ou=groups,{SUFFIX}
objectClass: organizationalUnit
ou: groups

dn: uid=erin,ou=people,{SUFFIX}
objectClass: inetOrgPerson
uid: erin
cn: Erin
givenName: Erin
sn: Example
mail: erin@example.com
userPassword: erins secret

dn: uid=alice,ou=people,{SUFFIX}
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: There
userPassword: alice there

dn: cn=Operators,ou=groups,{SUFFIX}
objectClass: groupOfNames
cn: Operators
member: uid=erin,ou=people,{SUFFIX}

dn: cn=IT,ou=groups,{SUFFIX}
objectClass: groupOfNames
cn: IT
member: cn=Operators,ou=groups,{SUFFIX}
"""


class Directory:
    def __init__(self, folder: Path) -> None:
        self.folder, self.process = folder, None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"ldap://127.0.0.1:{self.port}"
        (folder / "data").mkdir()
        (folder / "slapd.conf").write_text(
            "".join(
                f"include /etc/ldap/schema/{name}.schema\n" for name in ("core", "cosine", "inetorgperson")
            )
            + "modulepath /usr/lib/ldap\nmoduleload back_mdb\n"
            + f"pidfile {folder}/slapd.pid\ndatabase mdb\nsuffix {SUFFIX}\nrootdn {SERVICE}\n"
            + f'rootpw "{SECRET}"\ndirectory {folder}/data\nmaxsize 10485760\n'
        )
        (folder / "entries.ldif").write_text(ENTRIES)
        adding = [SLAPD, "-Tadd", "-f", str(folder / "slapd.conf"), "-l", str(folder / "entries.ldif")]
        subprocess.run(adding, check=True, capture_output=True)

    def start(self) -> None:
        self.process = subprocess.Popen(
            [SLAPD, "-h", self.url, "-f", str(self.folder / "slapd.conf"), "-d", "0"],
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("slapd does not listen")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def change(self, group: str, member: str, *, add: bool) -> None:
        """Puts a person into a group, or out of it."""
        import ldap

        connection = ldap.initialize(self.url)
        connection.simple_bind_s(SERVICE, SECRET)
        operation = ldap.MOD_ADD if add else ldap.MOD_DELETE
        value = f"uid={member},ou=people,{SUFFIX}".encode()
        connection.modify_s(f"cn={group},ou=groups,{SUFFIX}", [(operation, "member", [value])])
        connection.unbind_s()


@pytest.fixture(scope="module")
def running_directory(tmp_path_factory) -> Iterator[Directory]:
    found = Directory(tmp_path_factory.mktemp("slapd"))
    found.start()
    yield found
    found.stop()


@pytest.fixture
def directory(running_directory, settings, monkeypatch) -> Directory:
    """Running, and set up in the portal as its environment would."""
    from portal.ldap_settings import ldap_settings

    for name, value in {
        "UNENCRYPTED": "true",
        "BIND_DN": SERVICE,
        "BIND_PASSWORD": SECRET,
        "PEOPLE": f"ou=people,{SUFFIX}",
        "GROUPS": f"ou=groups,{SUFFIX}",
    }.items():
        monkeypatch.setenv(f"PORTAL_LDAP_{name}", value)
    use(settings, running_directory.url)
    for name, value in ldap_settings(running_directory.url).items():
        setattr(settings, name, value)
    return running_directory


def use(settings, url: str) -> None:
    settings.LDAP_URL = settings.AUTH_LDAP_SERVER_URI = url
    settings.AUTHENTICATION_BACKENDS = [
        "portal.accounts.backends.PasswordBackend",
        "portal.accounts.directory.DirectoryBackend",
    ]


def sign_in(name: str, password: str, client: Client | None = None):
    return (client or Client()).post("/login/", {"username": name, "password": password})


def roles_of(name: str) -> dict[str, str]:
    return {row.team.name: row.role for row in Membership.objects.filter(user__username=name)}


def test_a_new_person_comes_in_with_the_roles_of_their_groups(people, directory):
    groups.add_rule(actor=people.root, source="ldap", group="operators", team=people.team, role="operator")
    client = Client()
    assert sign_in("erin", "erins secret", client).status_code == 302
    assert client.get("/jobs/").status_code == 200
    erin = User.objects.get(username="erin")
    assert (erin.get_full_name(), erin.email, erin.has_usable_password()) == (
        "Erin Example",
        "erin@example.com",
        False,
    )
    assert roles_of("erin") == {"Web shop": "operator"}
    actions = list(AuditEntry.objects.filter(object_label="erin").order_by("id").values_list("action", "via"))
    assert actions == [("person.add", "ldap"), ("groups.apply", "ldap")]
    assert AuditEntry.objects.filter(action="login", actor_name="erin").exists()
    assert "another system" in client.get("/settings/").content.decode()


def test_groups_in_groups_count_and_are_taken_back(people, directory):
    groups.add_rule(actor=people.root, source="ldap", group="IT", team=None, role="")
    sign_in("erin", "erins secret")
    assert User.objects.get(username="erin").is_superuser
    directory.change("Operators", "alice", add=True)
    directory.change("Operators", "erin", add=False)
    try:
        sign_in("erin", "erins secret")
        assert not User.objects.get(username="erin").is_superuser
    finally:
        directory.change("Operators", "erin", add=True)
        directory.change("Operators", "alice", add=False)


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("erin", "wrong"),
        ("erin", ""),
        ("nobody", "erins secret"),
        ("*", "erins secret"),
        ("erin)(uid=*", "erins secret"),
        ("e*", "erins secret"),
        ("erin\\2a", "erins secret"),
    ],
)
def test_wrong_empty_and_hostile_attempts_are_refused(people, directory, name, password):
    assert sign_in(name, password).status_code == 422
    assert not User.objects.filter(username__startswith="e").exists()


def test_an_account_that_is_here_is_not_taken_over_by_its_name(people, directory):
    assert sign_in("alice", "alice there").status_code == 422
    assert sign_in("alice", "correct horse").status_code == 302
    UserFactory(username="erin", password="!unusable", is_superuser=True)
    assert sign_in("erin", "erins secret").status_code == 422


def test_somebody_switched_off_here_stays_out_and_their_session_ends(people, directory):
    client = Client()
    sign_in("erin", "erins secret", client)
    assert client.get("/jobs/").status_code == 200
    User.objects.filter(username="erin").update(is_active=False)
    assert client.get("/jobs/").status_code == 302
    assert sign_in("erin", "erins secret").status_code == 422


def test_no_accounts_are_made_where_that_is_off(people, directory, settings):
    settings.AUTH_LDAP_NO_NEW_USERS = True
    assert sign_in("erin", "erins secret").status_code == 422
    assert not User.objects.filter(username="erin").exists()


def test_a_directory_that_is_away_is_told_and_others_sign_in(people, directory, settings):
    use(settings, "ldap://127.0.0.1:9")
    response = sign_in("erin", "erins secret")
    assert response.status_code == 503
    assert "could not be asked" in response.content.decode()
    assert sign_in("alice", "correct horse").status_code == 302


def test_a_portal_that_the_directory_refuses_is_told(people, directory, settings):
    settings.AUTH_LDAP_BIND_PASSWORD = "another"
    assert sign_in("erin", "erins secret").status_code == 503


def test_too_many_attempts_do_not_reach_the_directory(people, directory, settings):
    for _ in range(LIMITS["name"].attempts):
        sign_in("erin", "wrong")
    use(settings, "ldap://127.0.0.1:9")
    assert sign_in("erin", "erins secret").status_code == 429


@pytest.mark.parametrize(
    ("url", "environment", "problem"),
    [
        ("ldap://directory.example", {"PEOPLE": "dc=x"}, "in clear"),
        ("ldaps://directory.example", {}, "PORTAL_LDAP_PEOPLE"),
    ],
)
def test_settings_that_cannot_be_right(monkeypatch, url, environment, problem):
    from portal.ldap_settings import ldap_settings

    for name, value in environment.items():
        monkeypatch.setenv(f"PORTAL_LDAP_{name}", value)
    with pytest.raises(ImproperlyConfigured, match=problem):
        ldap_settings(url)
