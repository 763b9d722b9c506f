# SPDX-License-Identifier: GPL-3.0-or-later
"""Users, groups, roles, permissions and directories as XML.

Sources: ovirt-engine restapi types UserMapper, GroupMapper, RoleMapper, PermissionMapper, DomainMapper,
DirectoryEntryIdUtils (ids of directories are their names in hexadecimal), LinkHelper for where a permission lives."""

import xml.etree.ElementTree as ET

from lab.api.xmlio import add, entity, links, reference
from lab.engine.people import COLLECTIONS
from lab.engine.principals import Group, Permission, Role, User

# What the API's permission has an element for.
SHOWN = ("vm", "disk", "cluster", "data_center", "host", "storage_domain", "template")


def domain_id(name: str) -> str:
    return name.encode().hex()


def _directory(parent: ET.Element, name: str) -> None:
    reference(parent, "domain", "domains", domain_id(name))
    add(parent[-1], "name", name)


def user_element(user: User) -> ET.Element:
    element = entity("user", user.id, f"users/{user.id}")
    add(element, "name", user.first_name)
    add(element, "last_name", user.last_name)
    add(element, "email", user.email)
    add(element, "user_name", user.user_name)
    add(element, "principal", user.principal)
    add(element, "namespace", user.namespace)
    add(element, "department", "")
    add(element, "domain_entry_id", domain_id(user.id))
    _directory(element, user.domain)
    links(element, f"users/{user.id}", "permissions")
    return element


def group_element(found: Group) -> ET.Element:
    element = entity("group", found.id, f"groups/{found.id}")
    add(element, "name", found.name)
    add(element, "namespace", found.namespace)
    add(element, "domain_entry_id", domain_id(found.id))
    if found.domain:
        _directory(element, found.domain)
    links(element, f"groups/{found.id}", "permissions")
    return element


def domain_element(name: str) -> ET.Element:
    element = entity("domain", domain_id(name), f"domains/{domain_id(name)}")
    add(element, "name", name)
    links(element, f"domains/{domain_id(name)}", "users", "groups")
    return element


def role_element(role: Role) -> ET.Element:
    element = entity("role", role.id, f"roles/{role.id}")
    add(element, "name", role.name)
    add(element, "description", role.description)
    add(element, "administrative", role.administrative)
    add(element, "mutable", False)
    return element


def permission_element(
    permission: Permission, kind: str, object_id: str, *, is_group: bool = False
) -> ET.Element:
    """As on the object `kind`, `object_id`, which for an inherited one may be another than its own. One of a group
    lives below the group, one of a user below the object, or below the user if there is no element for that."""
    owner = f"groups/{permission.principal_id}" if is_group else f"users/{permission.principal_id}"
    if kind in SHOWN and not is_group:
        owner = f"{COLLECTIONS[kind]}/{object_id}"
    element = entity("permission", permission.id, f"{owner}/permissions/{permission.id}")
    if kind in SHOWN:
        reference(element, kind, COLLECTIONS[kind], object_id)
    reference(element, "role", "roles", permission.role_id)
    if is_group:
        reference(element, "group", "groups", permission.principal_id)
    else:
        reference(element, "user", "users", permission.principal_id)
    return element
