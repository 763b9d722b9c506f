# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has which role on which machine of a Manager, and giving the same on another machine.

A machine's list of permissions holds what it inherits too, told as if it were its own; what is in its cluster's list
by the same id is inherited (docs/manager-facts.md, people and rights).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ovirtsdk4 as sdk
from ovirtsdk4 import types

from portal.errors import PortalError
from portal.ovirt.errors import ManagerForbids, ManagerObjectMissing, ManagerRefused, calling
from portal.ovirt.inventory import all_vms

USER, GROUP = "user", "group"


@dataclass(frozen=True)
class PersonFacts:
    """A role that a user or a group was given on one machine itself.

    `principal` is `login@directory` of a user, `name@directory` of a group; ids are the Manager's."""

    vm_id: str
    kind: str
    principal_id: str
    principal: str
    display_name: str
    role_id: str
    role_name: str


class PrincipalGone(PortalError):
    """The Manager does not know the user or group (any more)."""


class MayNotGiveRights(PortalError):
    """The portal's account may not manage permissions on the machine."""


def read_people(connection: sdk.Connection) -> tuple[PersonFacts, ...]:
    """Of all machines, in five requests and one for each 200 machines. Raises ManagerError."""
    system = connection.system_service()
    with calling("tell who has which rights on its machines"):
        named = _Named(system)
        clusters = system.clusters_service().list(follow="permissions")
        inherited = {cluster.id: {item.id for item in cluster.permissions or ()} for cluster in clusters}
        found: list[PersonFacts] = []
        for vm in all_vms(system, follow="permissions"):
            above = inherited.get(vm.cluster.id if vm.cluster else None)
            if above is None:
                continue  # which of them are the machine's own cannot be told
            own = [item for item in vm.permissions or () if item.id not in above]
            found += named.facts(vm.id, own)
    return tuple(found)


class _Named:
    """Names of users, groups and roles by their ids: three requests, whole lists."""

    def __init__(self, system: Any) -> None:
        self._users = {user.id: user for user in system.users_service().list()}
        self._groups = {group.id: group for group in system.groups_service().list()}
        self._roles: dict[str, str] = {role.id: role.name or "" for role in system.roles_service().list()}

    def facts(self, vm_id: str, permissions: Iterable[Any]) -> list[PersonFacts]:
        """Those whose user or group and role are known; each once."""
        found = (self._fact(vm_id, permission) for permission in permissions)
        return list(dict.fromkeys(fact for fact in found if fact is not None))

    def _fact(self, vm_id: str, permission: Any) -> PersonFacts | None:
        role = permission.role.id if permission.role else None
        if role not in self._roles:
            return None
        user = self._users.get(permission.user.id) if permission.user else None
        if user is not None:
            full = " ".join(part for part in (user.name, user.last_name) if part)
            return PersonFacts(vm_id, USER, user.id, str(user.user_name or ""), full, role, self._roles[role])
        group = self._groups.get(permission.group.id) if permission.group else None
        if group is None:
            return None
        name, domain = group.name or "", (group.domain.name or "") if group.domain else ""
        return PersonFacts(
            vm_id,
            GROUP,
            group.id,
            f"{name}@{domain}" if domain else name,
            name,
            role,
            self._roles[role],
        )


def give_role(connection: sdk.Connection, vm_id: str, *, kind: str, principal_id: str, role_id: str) -> None:
    """The Manager answers a role that is held already with the permission that is there: safe to repeat.

    Raises PrincipalGone, MayNotGiveRights or a ManagerError.
    """
    permission = types.Permission(role=types.Role(id=role_id))
    if kind == USER:
        permission.user = types.User(id=principal_id)
    else:
        permission.group = types.Group(id=principal_id)
    service = connection.system_service().vms_service().vm_service(vm_id).permissions_service()
    try:
        with calling("give a role on the new machine"):
            service.add(permission)
    except ManagerForbids as error:
        raise MayNotGiveRights(str(error)) from error
    except (ManagerRefused, ManagerObjectMissing) as error:
        if not _is_known(connection, kind, principal_id):
            raise PrincipalGone(f"The Manager does not know the {kind} any more.") from error
        raise


def _is_known(connection: sdk.Connection, kind: str, principal_id: str) -> bool:
    system = connection.system_service()
    if kind == USER:
        service = system.users_service().user_service(principal_id)
    else:
        service = system.groups_service().group_service(principal_id)
    try:
        with calling(f"tell about a {kind}"):
            service.get()
    except ManagerObjectMissing:
        return False
    return True
