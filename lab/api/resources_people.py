# SPDX-License-Identifier: GPL-3.0-or-later
"""`/users`, `/groups`, `/roles`, `/domains`, and the permissions of the system, of objects and of people.

Sources: ovirt-engine restapi BackendUsersResource, BackendGroupsResource, BackendDomainsResource, BackendRolesResource,
BackendAssignedPermissionsResource (an object's list holds what it inherits too, told as if it were its own),
BackendPermissionResource (one permission is told as it is), BackendSystemPermissionsResource;
searchbackend VdcUserConditionFieldAutoCompleter."""

import xml.etree.ElementTree as ET

from lab.api.answers import collection, created, listing, nested, removed
from lab.api.routing import Call, Handler, Reply, Router
from lab.api.shapes_people import (
    domain_element,
    domain_id,
    group_element,
    permission_element,
    role_element,
    user_element,
)
from lab.api.xmlio import id_of, text_of
from lab.engine.faults import EntityMissing, incomplete
from lab.engine.people import COLLECTIONS, PermissionRequest, PrincipalRequest, exists
from lab.engine.principals import SYSTEM_ID, Group, Permission, User


def register(router: Router) -> None:
    add = router.add
    add("GET", "users", list_users)
    add("POST", "users", add_user)
    add("GET", "users/{user}", get_user)
    add("DELETE", "users/{user}", remove_user)
    add("GET", "groups", list_groups)
    add("POST", "groups", add_group)
    add("GET", "groups/{group}", get_group)
    add("DELETE", "groups/{group}", remove_group)
    add("GET", "domains", list_domains)
    add("GET", "domains/{domain_key}", get_domain)
    add("GET", "domains/{domain_key}/users", list_directory_users)
    add("GET", "domains/{domain_key}/groups", list_directory_groups)
    add("GET", "roles", list_roles)
    add("GET", "roles/{role}", get_role)
    for kind, path in COLLECTIONS.items():
        base = f"{path}/{{object}}/permissions" if path else "permissions"
        add("GET", base, _list_permissions(kind))
        add("POST", base, _add_permission(kind))
        add("GET", f"{base}/{{permission}}", _get_permission(kind))
        add("DELETE", f"{base}/{{permission}}", _remove_permission(kind))
    for path in ("users", "groups"):
        base = f"{path}/{{object}}/permissions"
        add("GET", base, list_of_principal)
        add("GET", f"{base}/{{permission}}", _get_permission("system"))
        add("DELETE", f"{base}/{{permission}}", _remove_permission("system"))


async def list_users(call: Call) -> ET.Element:
    """`usrname=login@domain` is compared with both parts; `name` is the first name."""
    fields = {
        "id": lambda u: u.id,
        "name": lambda u: u.first_name,
        "lastname": lambda u: u.last_name,
        "usrname": lambda u: [u.user_name, u.principal],
        "login": lambda u: u.principal,
        "directory": lambda u: u.domain,
        "department": lambda u: "",
    }
    return listing(call, "users", list(call.manager.core.state.users.values()), user_element, fields)


def _user(call: Call) -> User:
    found = call.manager.core.state.users.get(call.ids["user"])
    if found is None:
        raise EntityMissing(call.ids["user"])
    return found


async def get_user(call: Call) -> ET.Element:
    return user_element(_user(call))


async def add_user(call: Call) -> Reply:
    """One whom the directory knows, by `user_name`, which may hold the directory, and `domain`."""
    body = call.body("user")
    if not text_of(body, "user_name"):
        raise incomplete("User", "userName")
    return created(call, user_element(call.manager.people.add_user(_of_directory(body, "user_name", "User"))))


def _of_directory(body: ET.Element, tag: str, kind: str) -> PrincipalRequest:
    name, domain = text_of(body, tag) or "", text_of(body, "domain/name")
    if domain is None and "@" in name:
        name, _, domain = name.rpartition("@")
    if domain is None:
        raise incomplete(kind, "domain.id|name")
    return PrincipalRequest(name=name.removesuffix(f"@{domain}"), domain=domain)


async def remove_user(call: Call) -> Reply:
    call.manager.people.remove_user(_user(call))
    return removed(call)


async def list_groups(call: Call) -> ET.Element:
    fields = {"id": lambda g: g.id, "name": lambda g: g.name, "grpname": lambda g: g.name}
    return listing(call, "groups", list(call.manager.core.state.groups.values()), group_element, fields)


def _group(call: Call) -> Group:
    found = call.manager.core.state.groups.get(call.ids["group"])
    if found is None:
        raise EntityMissing(call.ids["group"])
    return found


async def get_group(call: Call) -> ET.Element:
    return group_element(_group(call))


async def add_group(call: Call) -> Reply:
    body = call.body("group")
    if not text_of(body, "name"):
        raise incomplete("Group", "name")
    return created(call, group_element(call.manager.people.add_group(_of_directory(body, "name", "Group"))))


async def remove_group(call: Call) -> Reply:
    call.manager.people.remove_group(_group(call))
    return removed(call)


def _domains(call: Call) -> list[str]:
    return sorted({user.domain for user in call.manager.core.state.directory_users})


def _domain(call: Call) -> str:
    for name in _domains(call):
        if domain_id(name) == call.ids["domain_key"]:
            return name
    raise EntityMissing(call.ids["domain_key"])


async def list_domains(call: Call) -> ET.Element:
    return collection("domains", [domain_element(name) for name in _domains(call)])


async def get_domain(call: Call) -> ET.Element:
    return domain_element(_domain(call))


async def list_directory_users(call: Call) -> ET.Element:
    """Everyone whom the directory knows, in the engine or not."""
    name = _domain(call)
    users = [user for user in call.manager.core.state.directory_users if user.domain == name]
    return nested(call, "users", users, user_element)


async def list_directory_groups(call: Call) -> ET.Element:
    name = _domain(call)
    groups = [group for group in call.manager.core.state.directory_groups if group.domain == name]
    return nested(call, "groups", groups, group_element)


async def list_roles(call: Call) -> ET.Element:
    return nested(call, "roles", list(call.manager.core.state.roles.values()), role_element)


async def get_role(call: Call) -> ET.Element:
    role = call.manager.core.state.roles.get(call.ids["role"])
    if role is None:
        raise EntityMissing(call.ids["role"])
    return role_element(role)


def _object_id(call: Call, kind: str) -> str:
    """Raises EntityMissing."""
    object_id = call.ids.get("object", SYSTEM_ID)
    if not exists(call.manager.core.state, kind, object_id):
        raise EntityMissing(object_id)
    return object_id


def _told(call: Call, permission: Permission, kind: str, object_id: str) -> ET.Element:
    is_group = permission.principal_id not in call.manager.core.state.users
    return permission_element(permission, kind, object_id, is_group=is_group)


def _list_permissions(kind: str) -> Handler:
    async def handler(call: Call) -> ET.Element:
        object_id = _object_id(call, kind)
        found = call.manager.people.of_object(kind, object_id)
        return nested(call, "permissions", found, lambda pair: _told(call, pair[0], kind, object_id))

    return handler


async def list_of_principal(call: Call) -> ET.Element:
    state = call.manager.core.state
    if call.ids["object"] not in state.users and call.ids["object"] not in state.groups:
        raise EntityMissing(call.ids["object"])
    found = call.manager.people.of_principal(call.ids["object"])
    return nested(call, "permissions", found, lambda each: _told(call, each, each.kind, each.object_id))


def _add_permission(kind: str) -> Handler:
    async def handler(call: Call) -> Reply:
        """The answer names a group as a user, as the engine's mapper of a new permission does (inferred)."""
        object_id, body = _object_id(call, kind), call.body("permission")
        permission = call.manager.people.add_permission(kind, object_id, _request(body))
        return created(call, permission_element(permission, permission.kind, permission.object_id))

    return handler


def _request(body: ET.Element) -> PermissionRequest:
    role_id, role_name = id_of(body, "role"), text_of(body, "role/name")
    if role_id is None and not role_name:
        raise incomplete("Permission", "role.id|name")
    group = body.find("user") is None
    principal_id = id_of(body, "group" if group else "user")
    if principal_id is None:
        raise incomplete("Permission", "user|group.id")
    return PermissionRequest(role_id, role_name, PrincipalRequest(id=principal_id), group)


def _get_permission(kind: str) -> Handler:
    async def handler(call: Call) -> ET.Element:
        """As it is, whatever the object that it is asked below."""
        permission = _permission(call, kind)
        return _told(call, permission, permission.kind, permission.object_id)

    return handler


def _permission(call: Call, kind: str) -> Permission:
    if kind != "system":
        _object_id(call, kind)
    return call.manager.people.permission(call.ids["permission"])


def _remove_permission(kind: str) -> Handler:
    async def handler(call: Call) -> Reply:
        call.manager.people.remove_permission(_permission(call, kind))
        return removed(call)

    return handler
