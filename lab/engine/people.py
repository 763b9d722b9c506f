# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what: permissions of users and groups, and the directory they come from.

Sources: ovirt-engine bll AddPermissionCommand, RemovePermissionCommand, AddUserCommand, AddGroupCommand,
RemoveUserCommand, AddDiskCommand.addDiskPermissions, AddVmCommand and ImportVmCommandBase isMakeCreatorExplicitOwner;
dbscripts fn_get_entity_parents, GetPermissionsTreeByEntityId. The wording of refusals is that of EngineMessage's
defaults; that of events is inferred."""

import uuid
from dataclasses import dataclass

from lab.engine.core import Core
from lab.engine.faults import EngineFault, EntityMissing
from lab.engine.principals import (
    ADMIN_USER_ID,
    DISK_OPERATOR_ROLE_ID,
    EVERYONE_GROUP_ID,
    SUPER_USER_ROLE_ID,
    SYSTEM_ID,
    Group,
    Permission,
    Role,
    User,
)
from lab.engine.state import BLANK_TEMPLATE_ID, State

# Kind of object → its collection in the API. The API's permission has no element for networks and profiles.
COLLECTIONS = {
    "vm": "vms",
    "disk": "disks",
    "cluster": "clusters",
    "data_center": "datacenters",
    "host": "hosts",
    "storage_domain": "storagedomains",
    "template": "templates",
    "network": "networks",
    "vnic_profile": "vnicprofiles",
    "system": "",
}
REMOVES_ADMIN = "Cannot remove internal admin user or its permissions."


@dataclass(frozen=True)
class PrincipalRequest:
    """What a client says of a user or a group, of the engine or of a directory; None = not said."""

    id: str | None = None
    name: str | None = None
    domain: str | None = None


@dataclass(frozen=True)
class PermissionRequest:
    role_id: str | None
    role_name: str | None
    principal: PrincipalRequest
    group: bool


class PeopleCommands:
    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def _state(self) -> State:
        return self._core.state

    def add_permission(self, kind: str, object_id: str, request: PermissionRequest) -> Permission:
        """The new permission, or the one that is there already. Raises EngineFault."""
        role = self._role(request)
        principal = self._principal(request)
        known = self.find(role.id, principal.id, object_id)
        if known is not None:
            return known
        permission = grant(self._state, role.id, principal.id, kind, object_id)
        self._event(850, "was granted permission for Role", permission, "on")
        return permission

    def find(self, role_id: str, principal_id: str, object_id: str) -> Permission | None:
        for permission in self._state.permissions.values():
            if (permission.role_id, permission.principal_id, permission.object_id) == (
                role_id,
                principal_id,
                object_id,
            ):
                return permission
        return None

    def _role(self, request: PermissionRequest) -> Role:
        roles = self._state.roles
        for role in roles.values():
            if role.id == request.role_id or (request.role_id is None and role.name == request.role_name):
                return role
        raise EngineFault(400, "[Cannot add permission, invalid Role id]")

    def _principal(self, request: PermissionRequest) -> User | Group:
        """By the id in the engine; one that is in no row and cannot be asked of a directory fails the command, which
        leaves the general error (inferred)."""
        known: dict[str, User] | dict[str, Group] = self._state.groups if request.group else self._state.users
        found = known.get(request.principal.id or "")
        if found is None:
            raise EngineFault(400, "[Internal Engine Error]")
        return found

    def permission(self, permission_id: str) -> Permission:
        """Raises EntityMissing."""
        try:
            return self._state.permissions[permission_id]
        except KeyError:
            raise EntityMissing(permission_id) from None

    def remove_permission(self, permission: Permission) -> None:
        """Raises EngineFault."""
        if permission.role_id == SUPER_USER_ROLE_ID:
            if permission.principal_id == ADMIN_USER_ID:
                raise EngineFault(409, f"[{REMOVES_ADMIN}]")
            others = [p for p in self._state.permissions.values() if p.role_id == SUPER_USER_ROLE_ID]
            if len(others) == 1:
                # Wording inferred (ERROR_CANNOT_REMOVE_LAST_SUPER_USER_ROLE).
                raise EngineFault(409, "[Cannot remove the last Super User role.]")
        self._event(852, "permission was removed for Role", permission, "from")
        del self._state.permissions[permission.id]

    def of_object(self, kind: str, object_id: str) -> list[tuple[Permission, bool]]:
        """Those on an object, and those on what it lies in (True), by id as the API sorts them."""
        above = {each for _, each in parents(self._state, kind, object_id)}
        found = [
            (permission, permission.object_id != object_id)
            for permission in self._state.permissions.values()
            if permission.object_id == object_id or permission.object_id in above
        ]
        return sorted(found, key=lambda pair: pair[0].id)

    def of_principal(self, principal_id: str) -> list[Permission]:
        """Of a user with those of the user's groups and of everyone, of a group its own
        (GetPermissionsOnBehalfByAdElementId)."""
        user = self._state.users.get(principal_id)
        ids = {principal_id} | ({*user.group_ids, EVERYONE_GROUP_ID} if user else set())
        found = [p for p in self._state.permissions.values() if p.principal_id in ids]
        return sorted(found, key=lambda permission: permission.id)

    def add_user(self, request: PrincipalRequest) -> User:
        """Take a user of the directory into the engine; one who is there already stays. Raises EngineFault."""
        for user in [*self._state.users.values(), *self._state.directory_users]:
            if request.domain == user.domain and request.name in (user.principal, user.user_name):
                self._state.users[user.id] = user
                return user
        raise EngineFault(400, f"No such user: {request.name} in domain {request.domain}", "")

    def add_group(self, request: PrincipalRequest) -> Group:
        """Raises EngineFault."""
        for group in [*self._state.groups.values(), *self._state.directory_groups]:
            if (request.domain, request.name) == (group.domain, group.name):
                self._state.groups[group.id] = group
                return group
        raise EngineFault(400, f"No such group: {request.name} in directory {request.domain}", "")

    def remove_user(self, user: User) -> None:
        """With all permissions; the directory keeps the user. Raises EngineFault."""
        if user.id == ADMIN_USER_ID:
            raise EngineFault(409, f"[{REMOVES_ADMIN}]")
        del self._state.users[user.id]
        self._forget_principal(user.id)

    def remove_group(self, group: Group) -> None:
        """Raises EngineFault."""
        if group.id == EVERYONE_GROUP_ID:
            # ACTION_TYPE_FAILED_... of RemoveGroupCommand; wording inferred.
            raise EngineFault(409, "[Cannot remove built-in group.]")
        del self._state.groups[group.id]
        self._forget_principal(group.id)

    def _forget_principal(self, principal_id: str) -> None:
        for permission in list(self._state.permissions.values()):
            if permission.principal_id == principal_id:
                del self._state.permissions[permission.id]

    def _event(self, code: int, verb: str, permission: Permission, preposition: str) -> None:
        principal = self._state.users.get(permission.principal_id) or self._state.groups.get(
            permission.principal_id
        )
        if principal is None:
            return
        name = principal.principal if isinstance(principal, User) else principal.name
        where = f"Namespace {principal.namespace}, Authorization provider: {principal.domain}"
        role = self._state.roles[permission.role_id].name
        text = f"User/Group {name}, {where} {verb} {role} {preposition} {permission.kind}"
        vm_id = permission.object_id if permission.kind == "vm" else None
        self._core.events.add(code, f"{text}, by {self._core.events.user_name}.", vm_id=vm_id)


def grant(state: State, role_id: str, principal_id: str, kind: str, object_id: str) -> Permission:
    """A new permission, without questions."""
    permission = Permission(str(uuid.uuid4()), role_id, principal_id, kind, object_id)
    state.permissions[permission.id] = permission
    return permission


def grant_new_disk(state: State, disk_id: str, user_id: str) -> None:
    """Whoever makes a disk operates it. A new VM's maker becomes its UserVmManager only if the maker may not manage
    permissions anyway, which the lab's account, a SuperUser, may."""
    grant(state, DISK_OPERATOR_ROLE_ID, user_id, "disk", disk_id)


def parents(state: State, kind: str, object_id: str) -> list[tuple[str, str]]:
    """What an object lies in, up to the system. A disk lies in its domain and in the VMs that it is attached to
    (inferred for the latter)."""
    found: list[tuple[str, str]] = []
    if kind == "disk" and object_id in state.disks:
        domain_id = state.disks[object_id].storage_domain_id
        found += [("storage_domain", domain_id)]
        for attachment in state.attachments_of_disk(object_id):
            found += [("vm", attachment.vm_id), *parents(state, "vm", attachment.vm_id)]
        found += parents(state, "storage_domain", domain_id)
    elif kind == "vm" and object_id in state.vms:
        cluster_id = state.vms[object_id].cluster_id
        found += [("cluster", cluster_id), *parents(state, "cluster", cluster_id)]
    elif kind == "host" and object_id in state.hosts:
        cluster_id = state.hosts[object_id].cluster_id
        found += [("cluster", cluster_id), *parents(state, "cluster", cluster_id)]
    elif kind == "vnic_profile" and object_id in state.vnic_profiles:
        network_id = state.vnic_profiles[object_id].network_id
        found += [("network", network_id), *parents(state, "network", network_id)]
    else:
        center = _center(state, kind, object_id)
        found += [("data_center", center)] if center else []
    return [*found, ("system", SYSTEM_ID)]


def _center(state: State, kind: str, object_id: str) -> str | None:
    members = {"cluster": state.clusters, "storage_domain": state.storage_domains, "network": state.networks}
    member = members.get(kind, {}).get(object_id)  # type: ignore[attr-defined]
    return None if member is None else member.data_center_id


def exists(state: State, kind: str, object_id: str) -> bool:
    if kind == "template":
        return object_id == BLANK_TEMPLATE_ID
    if kind == "system":
        return object_id == SYSTEM_ID
    known: dict[str, object] = getattr(state, f"{kind}s")
    return object_id in known
