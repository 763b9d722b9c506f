# SPDX-License-Identifier: GPL-3.0-or-later
"""Users, groups, roles, directories, and permissions on machines and disks."""

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from tests.lab_api.support import Client, Rest, connect, wait_for
from tests.lab_support import LabControl, RunningLab

pytestmark = pytest.mark.lab
SYSTEM_ROLES = {"SuperUser", "UserProfileEditor"}
MIB = 1 << 20


@pytest.fixture
def oscar(client: Client) -> types.User:
    (found,) = client.system.users_service().list(search="usrname=oscar@internal-authz")
    return found


def _named(client: Client, permissions: list[types.Permission]) -> set[tuple[str, str]]:
    """(who, role) of each."""
    users = {user.id: user.principal for user in client.system.users_service().list()}
    groups = {group.id: group.name for group in client.system.groups_service().list()}
    roles = {role.id: role.name for role in client.system.roles_service().list()}
    return {(users[p.user.id] if p.user else groups[p.group.id], roles[p.role.id]) for p in permissions}


def test_who_is_in_the_engine_and_who_only_in_the_directory(client: Client, oscar: types.User) -> None:
    users = client.system.users_service()
    assert {user.principal for user in users.list()} == {"admin", "oscar", "nadia"}
    assert (oscar.user_name, oscar.name, oscar.last_name, oscar.namespace) == (
        "oscar@internal-authz",
        "Oscar",
        "Olsen",
        "*",
    )
    assert oscar.domain.name == "internal-authz"
    assert [user.principal for user in users.list(search="name=Nadia")] == ["nadia"]
    (domain,) = client.system.domains_service().list()
    assert domain.id == oscar.domain.id == b"internal-authz".hex()
    directory = client.system.domains_service().domain_service(domain.id)
    assert {user.principal for user in directory.users_service().list()} == {
        "admin",
        "oscar",
        "nadia",
        "petra",
    }
    petra = users.add(
        types.User(user_name="petra@internal-authz", domain=types.Domain(name="internal-authz"))
    )
    assert petra.principal == "petra"
    users.user_service(petra.id).remove()
    assert "petra" not in {user.principal for user in users.list()}
    with pytest.raises(sdk.Error, match="No such user: nobody in domain internal-authz"):
        users.add(types.User(user_name="nobody@internal-authz"))
    (admin,) = users.list(search="login=admin")
    with pytest.raises(sdk.Error, match="Cannot remove internal admin user"):
        users.user_service(admin.id).remove()


def test_a_machines_list_holds_what_it_inherits_as_if_it_were_its_own(
    api_lab: RunningLab, client: Client
) -> None:
    web = api_lab.vm("web-01").id
    listed = client.vm(web).permissions_service().list()
    assert {p.vm.id for p in listed} == {web}
    own = {("oscar", "UserVmManager"), ("nadia", "UserRole")}
    inherited = {("admin", "SuperUser"), ("Everyone", "UserProfileEditor")}
    assert _named(client, listed) == own | inherited
    (cluster,) = client.system.clusters_service().list(follow="permissions")
    above = {p.id for p in cluster.permissions}
    assert _named(client, [p for p in listed if p.id not in above]) == own
    of_everyone = next(p for p in listed if p.group)
    assert of_everyone.href.startswith("/ovirt-engine/api/groups/")
    alone = client.vm(web).permissions_service().permission_service(of_everyone.id).get()
    assert (alone.vm, alone.group.id) == (None, of_everyone.group.id)


def test_permissions_of_all_machines_are_followed_at_once(client: Client) -> None:
    """As ovirt-web-ui asks for them."""
    vms = client.system.vms_service().list(follow="permissions.role,disk_attachments.disk.permissions")
    by_name = {vm.name: vm for vm in vms}
    assert ("office", "UserVmManager") in _named(client, by_name["files-01"].permissions)
    assert {p.role.name for p in by_name["legacy-01"].permissions} == SYSTEM_ROLES
    disk = by_name["web-01"].disk_attachments[0].disk
    assert ("oscar", "UserVmManager") in _named(client, disk.permissions)
    (oscar,) = client.system.users_service().list(search="login=oscar", follow="permissions")
    assert {p.vm.id for p in oscar.permissions if p.vm} == {by_name["web-01"].id}


def test_a_permission_is_given_once_and_taken_away(
    api_lab: RunningLab, client: Client, oscar: types.User
) -> None:
    permissions = client.vm(api_lab.vm("legacy-01").id).permissions_service()
    wanted = types.Permission(user=types.User(id=oscar.id), role=types.Role(name="UserRole"))
    first = permissions.add(wanted)
    assert permissions.add(wanted).id == first.id
    assert (first.user.id, first.vm.id) == (oscar.id, api_lab.vm("legacy-01").id)
    assert ("oscar", "UserRole") in _named(client, permissions.list())
    permissions.permission_service(first.id).remove()
    assert "oscar" not in {who for who, _ in _named(client, permissions.list())}
    with pytest.raises(sdk.NotFoundError):
        permissions.permission_service(first.id).get()


def test_refusals(api_lab: RunningLab, client: Client, rest: Rest, oscar: types.User) -> None:
    permissions = client.vm(api_lab.vm("legacy-01").id).permissions_service()
    with pytest.raises(sdk.Error, match="invalid Role id"):
        permissions.add(types.Permission(user=types.User(id=oscar.id), role=types.Role(name="Emperor")))
    unknown = types.User(id="11111111-2222-3333-4444-555555555555")
    with pytest.raises(sdk.Error) as caught:
        permissions.add(types.Permission(user=unknown, role=types.Role(name="UserRole")))
    assert caught.value.code == 400
    for body, lacks in (
        ("<role><name>UserRole</name></role>", "user|group.id"),
        ("<user id='1'/>", "role.id|name"),
    ):
        answer = rest.call(
            "POST", f"/vms/{api_lab.vm('legacy-01').id}/permissions", f"<permission>{body}</permission>"
        )
        assert (answer.status, lacks in (answer.text("detail") or "")) == (400, True)
    (of_admin,) = [p for p in client.system.permissions_service().list() if p.user]
    with pytest.raises(sdk.Error, match="Cannot remove internal admin user or its permissions"):
        client.system.permissions_service().permission_service(of_admin.id).remove()


def test_permissions_go_with_their_machine_disk_or_person(client: Client, oscar: types.User) -> None:
    vms = client.system.vms_service()
    cluster, template = types.Cluster(name="Default"), types.Template(name="Blank")
    vm = vms.add(types.Vm(name="peopled", cluster=cluster, template=template))
    permissions = client.vm(vm.id).permissions_service()
    # Who makes it may manage permissions anyway, so nothing is added.
    assert {role for _, role in _named(client, permissions.list())} == SYSTEM_ROLES
    role = types.Role(name="UserVmManager")
    group = client.system.groups_service().list(search="name=office")[0]
    permissions.add(types.Permission(group=types.Group(id=group.id), role=role))
    given = permissions.add(types.Permission(user=types.User(id=oscar.id), role=role))
    assert {("office", "UserVmManager"), ("oscar", "UserVmManager")} <= _named(client, permissions.list())
    disk_id = client.add_disk(MIB, "peopled")
    of_disk = client.system.disks_service().disk_service(disk_id).permissions_service()
    assert ("admin", "DiskOperator") in _named(client, of_disk.list())
    client.system.disks_service().disk_service(disk_id).remove()
    client.vm(vm.id).remove()
    wait_for(lambda: client.is_gone(client.vm(vm.id)), "the machine is gone")
    of_oscar = client.system.users_service().user_service(oscar.id).permissions_service().list()
    assert given.id not in {p.id for p in of_oscar}


def test_an_account_that_may_not_manage_permissions(fault_lab: RunningLab, control: LabControl) -> None:
    with connect(fault_lab) as connection, control.fault("forbidden", permit="MANIPULATE_PERMISSIONS"):
        client = Client(connection)
        (nadia,) = client.system.users_service().list(search="login=nadia")
        permissions = client.vm(fault_lab.vm("web-01").id).permissions_service()
        wanted = types.Permission(user=types.User(id=nadia.id), role=types.Role(name="UserVmManager"))
        with pytest.raises(sdk.AuthError):
            permissions.add(wanted)
        assert permissions.list()
