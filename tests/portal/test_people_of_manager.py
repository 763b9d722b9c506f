# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's Manager says of its machines' people, as the portal reads and keeps it."""

import ovirtsdk4 as sdk
import pytest
from django.test import Client
from django.urls import reverse

from portal.environments import services
from portal.environments.people import set_identity
from portal.ovirt.connection import connect
from portal.ovirt.people import MayNotGiveRights, PrincipalGone, give_role, read_people
from tests.factories import UserFactory

pytestmark = [pytest.mark.lab, pytest.mark.django_db(transaction=True)]
OWNERS = {("web-01", "oscar"), ("db-01", "nadia"), ("files-01", "nadia"), ("files-01", "office")}


def told(environment) -> set[tuple[str, str, str]]:
    rows = environment.vms.filter(people__isnull=False)
    return set(rows.values_list("name", "people__principal", "people__role_name"))


def test_what_was_given_on_the_machines_themselves_is_known(lab, environment) -> None:
    known = told(environment)
    owners = {(name, f"{who}@internal-authz", "UserVmManager") for name, who in OWNERS}
    assert owners <= known
    assert ("web-01", "nadia@internal-authz", "UserRole") in known
    # What is inherited from the system is nobody's ownership.
    assert not {role for _, _, role in known} & {"SuperUser", "UserProfileEditor"}
    environment.refresh_from_db()
    assert environment.people_read_at is not None and environment.people_problem == ""


def test_as_many_requests_however_many_machines(lab, environment, monkeypatch) -> None:
    sent: list[str] = []
    send = sdk.Connection.send

    def counted(self, request):
        sent.append(request.path)
        return send(self, request)

    monkeypatch.setattr(sdk.Connection, "send", counted)
    with connect(environment.address()) as connection:
        vms = connection.system_service().vms_service()
        sent.clear()
        before = read_people(connection)
        first = list(sent)
        order = sdk.types.Vm(
            name="counted",
            cluster=sdk.types.Cluster(name="Default"),
            template=sdk.types.Template(name="Blank"),
        )
        made = [vms.add(order)]
        try:
            sent.clear()
            assert read_people(connection) == before
            assert sent == first
            assert len(first) == 5
        finally:
            for vm in made:
                vms.vm_service(vm.id).remove()


def test_an_account_that_may_not_read_rights_still_lists_machines(lab, environment, people) -> None:
    oscar = UserFactory(username="oscar")
    principal = "oscar@internal-authz"
    set_identity(actor=people.root, environment=environment, principal=principal, user=oscar)
    with lab.control.fault("answer", path="/users", status=403):
        services.refresh_inventory(environment)
    environment.refresh_from_db()
    assert environment.problem == ""
    assert "no right" in environment.people_problem
    # What was known stays.
    assert [grant.vm.name for grant in oscar.vm_grants.all()] == ["web-01"]
    client = Client()
    client.force_login(people.root)
    for name in ("environment", "environment_people"):
        page = client.get(reverse(f"environments:{name}", args=[environment.uuid])).content.decode()
        assert "It did not say who owns which machine" in page
    services.refresh_inventory(environment)
    environment.refresh_from_db()
    assert environment.people_problem == ""


def test_giving_a_role(lab, environment) -> None:
    legacy = lab.vm("legacy-01").id
    with connect(environment.address()) as connection:
        people = read_people(connection)
        oscar = next(fact for fact in people if fact.principal == "oscar@internal-authz")
        wanted = {"kind": oscar.kind, "principal_id": oscar.principal_id, "role_id": oscar.role_id}
        for _ in range(2):
            give_role(connection, legacy, **wanted)
        (given,) = [fact for fact in read_people(connection) if fact.vm_id == legacy]
        assert (given.principal, given.role_name) == ("oscar@internal-authz", "UserVmManager")
        permissions = connection.system_service().vms_service().vm_service(legacy).permissions_service()
        for permission in permissions.list():
            if permission.user and permission.user.id == oscar.principal_id:
                permissions.permission_service(permission.id).remove()
        nobody = {**wanted, "principal_id": "11111111-2222-3333-4444-555555555555"}
        with pytest.raises(PrincipalGone):
            give_role(connection, legacy, **nobody)
        with (
            lab.control.fault("forbidden", permit="MANIPULATE_PERMISSIONS"),
            pytest.raises(MayNotGiveRights, match="no right"),
        ):
            give_role(connection, legacy, **wanted)
