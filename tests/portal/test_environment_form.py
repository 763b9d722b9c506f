# SPDX-License-Identifier: GPL-3.0-or-later
import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.test import Client

from portal.audit.models import AuditEntry
from portal.environments import services
from portal.environments.forms import EnvironmentForm
from portal.environments.models import Environment, VirtualMachine
from portal.errors import NotAllowed
from portal.ovirt.errors import ManagerUnreachable
from portal.ovirt.inventory import ClusterFacts, DiskFacts, Inventory, VmFacts
from tests.factories import DiskFactory, EnvironmentFactory, VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

API = "https://manager.example.com/ovirt-engine/api"


def form(**changes) -> EnvironmentForm:
    data = {"name": "Main", "api_url": API, "username": "admin@internal", "password": " pass word "}
    return EnvironmentForm({**data, **changes})


def a_certificate() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    return certificate.decode()


def test_passwords_keep_their_spaces_and_are_never_shown_again():
    found = form()
    assert found.is_valid()
    assert found.cleaned_data["password"] == " pass word "
    assert "pass word" not in form(name="").as_p()


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (API, API),
        (API + "/", API),
        ("https://manager.example.com", API),
        ("https://manager.example.com/", API),
        ("manager.example.com", API),
        ("https://m.example.com:8443/ovirt-engine/api", "https://m.example.com:8443/ovirt-engine/api"),
    ],
)
def test_addresses_are_made_whole(given, stored):
    found = form(api_url=given)
    assert found.is_valid(), found.errors
    assert found.cleaned_data["api_url"] == stored


@pytest.mark.parametrize(
    "given",
    [
        "http://manager.example.com/ovirt-engine/api",
        "https://admin:secret@manager.example.com/ovirt-engine/api",
        "https://manager.example.com/ovirt-engine/api?x=1",
        "https://manager.example.com/ovirt-engine/api#x",
        "https://manager.example.com/ovirt-engine",
        "ftp://manager.example.com/ovirt-engine/api",
        "file:///etc/passwd",
        "https://",
        "https://manager.example.com\\@evil.example/ovirt-engine/api",
        "",
    ],
)
def test_other_addresses_are_refused(given):
    found = form(api_url=given)
    assert not found.is_valid()
    assert set(found.errors) == {"api_url"}


def test_a_ca_must_be_a_certificate():
    good = a_certificate()
    found = form(ca_pem=f"\n{good}\n ")
    assert found.is_valid(), found.errors
    assert found.cleaned_data["ca_pem"] == good
    for bad in ("nonsense", good[:200], good.replace("CERTIFICATE", "PUBLIC KEY"), "ü"):
        assert "ca_pem" in form(ca_pem=bad).errors
    assert form(ca_pem=" ").is_valid()


def test_names_are_used_once():
    EnvironmentFactory(name="Main")
    assert "name" in form(name=" Main ").errors


def test_only_a_platform_admin_adds_a_manager(people):
    with pytest.raises(NotAllowed):
        services.add_environment(
            actor=people.alice, name="x", api_url=API, username="a", password="p", ca_pem=""
        )
    assert not Environment.objects.exists()


def test_backups_without_snapshots_are_turned_on_and_off_and_recorded(people):
    environment = EnvironmentFactory()
    client = Client()
    client.force_login(people.root)
    page, change = f"/managers/{environment.uuid}/", f"/managers/{environment.uuid}/snapshots/"
    assert "Back up without snapshots" in client.get(page).content.decode()
    for value, legacy in (("yes", True), ("yes", True), ("no", False)):
        client.post(change, {"legacy": value})
        environment.refresh_from_db()
        assert environment.legacy_backups is legacy
        assert ("Let it take snapshots" in client.get(page).content.decode()) is legacy
    entries = AuditEntry.objects.filter(action="environment.change").order_by("id")
    assert [entry.data["after"] for entry in entries] == [{"legacy_backups": True}, {"legacy_backups": False}]
    with pytest.raises(NotAllowed):
        services.set_legacy_backups(actor=people.alice, environment=environment, legacy=True)


def test_a_manager_that_cannot_be_reached_is_not_stored_and_the_page_says_why(people, monkeypatch):
    def refuse(_):
        raise ManagerUnreachable("The Manager did not answer: it could not be reached.", hint="Look.")

    monkeypatch.setattr(services, "_read", refuse)
    client = Client()
    client.force_login(people.root)
    data = {"name": "Main", "api_url": API, "username": "a", "password": "hunter2"}
    response = client.post("/managers/add/", data)
    assert response.status_code == 422
    assert "could not be reached" in response.content.decode()
    assert "hunter2" not in response.content.decode()
    assert not Environment.objects.exists()


def test_why_a_refresh_failed_stands_on_the_manager_and_goes_when_it_answers(monkeypatch):
    environment = EnvironmentFactory()

    def refuse(_):
        raise ManagerUnreachable("It is away.")

    monkeypatch.setattr(services, "_read", refuse)
    with pytest.raises(ManagerUnreachable):
        services.refresh_inventory(environment)
    environment.refresh_from_db()
    assert environment.problem == "It is away."
    services.store_inventory(environment, Inventory("oVirt Engine", "4.5.7", (), (), ()))
    environment.refresh_from_db()
    assert environment.problem == ""


def facts(vm_id, name, *disks) -> VmFacts:
    return VmFacts(str(vm_id), name, "", "up", "c1", "4.6", 1 << 30, 2, "linux", ("prod",), disks)


def disk(disk_id, alias="sys") -> DiskFacts:
    return DiskFacts(
        disk_id=str(disk_id),
        alias=alias,
        size_bytes=1 << 30,
        actual_bytes=1,
        format="cow",
        sparse=True,
        storage_type="image",
        content_type="data",
        storage_domain_id="s1",
        interface="virtio",
        bootable=True,
        active=True,
        shareable=False,
        read_only=False,
        incremental_enabled=True,
        wipe_after_delete=False,
    )


def test_machines_keep_their_row_when_renamed_and_are_marked_when_gone():
    environment = EnvironmentFactory()
    kept, gone = VmFactory(environment=environment), VmFactory(environment=environment)
    elsewhere = VmFactory()
    old = DiskFactory(vm=kept)
    clusters = (ClusterFacts("c1", "Default", "4.6", "d1"),)
    listed = (facts(kept.manager_id, "renamed", disk(kept.uuid)),)
    services.store_inventory(environment, Inventory("oVirt", "4.5.7", listed, clusters, ()))
    kept.refresh_from_db()
    gone.refresh_from_db()
    elsewhere.refresh_from_db()
    assert (kept.name, kept.cluster_name, kept.tags) == ("renamed", "Default", ["prod"])
    assert [each.alias for each in kept.disks.all()] == ["sys"]
    assert not kept.disks.filter(pk=old.pk).exists()
    assert gone.gone_at is not None
    assert elsewhere.gone_at is None
    assert set(VirtualMachine.objects.present()) == {kept, elsewhere}
    back = (*listed, facts(gone.manager_id, gone.name))
    services.store_inventory(environment, Inventory("oVirt", "4.5.7", back, clusters, ()))
    gone.refresh_from_db()
    assert gone.gone_at is None


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"storage_type": "lun"}, "lun"),
        ({"shareable": True}, "shareable"),
        ({"active": False}, "not active"),
        ({}, ""),
    ],
)
def test_disks_say_why_a_backup_leaves_them_out(fields, word):
    because = DiskFactory(**fields).excluded_because
    assert word in because
    assert bool(because) == bool(word)
