# SPDX-License-Identifier: GPL-3.0-or-later
"""Users, groups, roles and permissions, and what every engine begins with.

Sources: ovirt-engine dbscripts data 00500_insert_roles.sql (ids, names, descriptions, role_type, is_readonly),
PredefinedUsers, PredefinedRoles, upgrade script of the user profile (Everyone is UserProfileEditor on the system)."""

from dataclasses import dataclass

EVERYONE_GROUP_ID = "eee00000-0000-0000-0000-123456789eee"
SYSTEM_ID = "aaa00000-0000-0000-0000-123456789aaa"
ADMIN_USER_ID = "fdfc627c-d875-11e0-90f0-83df133b58cc"
SUPER_USER_ROLE_ID = "00000000-0000-0000-0000-000000000001"
VM_OPERATOR_ROLE_ID = "def00006-0000-0000-0000-def000000006"
DISK_OPERATOR_ROLE_ID = "def0000a-0000-0000-0000-def00000000b"
USER_PROFILE_EDITOR_ROLE_ID = "def00021-0000-0000-0000-def000000015"


@dataclass(eq=False)
class User:
    """`user_name` is `login@domain`, `principal` the login alone; `group_ids`: the groups that the user is in."""

    id: str
    user_name: str
    principal: str
    domain: str
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    namespace: str = "*"
    group_ids: tuple[str, ...] = ()


@dataclass(eq=False)
class Group:
    id: str
    name: str
    domain: str
    namespace: str = "*"


@dataclass(frozen=True)
class Role:
    id: str
    name: str
    description: str
    administrative: bool


@dataclass(eq=False)
class Permission:
    """`principal_id` is a user's or a group's; `kind` one of the keys of `lab.engine.people.COLLECTIONS`."""

    id: str
    role_id: str
    principal_id: str
    kind: str
    object_id: str


# Those of the some forty that are about machines, disks, networks, or all of it.
PREDEFINED_ROLES = (
    Role(SUPER_USER_ROLE_ID, "SuperUser", "Roles management administrator", True),
    Role("00000000-0000-0000-0001-000000000001", "UserRole", "Standard User Role", False),
    Role(
        "00000000-0000-0000-0001-000000000002",
        "PowerUserRole",
        "User Role, allowed to create VMs, Templates and Disks",
        False,
    ),
    Role(
        "def00001-0000-0000-0000-def000000001",
        "ClusterAdmin",
        "Administrator Role, permission for all the objects underneath a specific Cluster",
        True,
    ),
    Role(
        "def00002-0000-0000-0000-def000000002",
        "DataCenterAdmin",
        "Administrator Role, permission for all the objects underneath a specific Data Center, except Storage",
        True,
    ),
    Role(
        "def00003-0000-0000-0000-def000000003",
        "StorageAdmin",
        "Administrator Role, permission for all operations on a specific Storage Domain",
        True,
    ),
    Role(
        "def00005-0000-0000-0000-def000000005",
        "NetworkAdmin",
        "Administrator Role, permission for all operations on a specific Logical Network",
        True,
    ),
    Role(VM_OPERATOR_ROLE_ID, "UserVmManager", "User Role, with permission for any operation on Vms", False),
    Role(
        "def00006-0000-0000-0000-def000000011",
        "UserVmRunTimeManager",
        "User Role, with permissions for any operations on VMs except snapshot manipulation",
        False,
    ),
    Role(
        DISK_OPERATOR_ROLE_ID,
        "DiskOperator",
        "User Role, permissions for all operations on a specific disk",
        False,
    ),
    Role("def0000a-0000-0000-0000-def00000000d", "VmCreator", "User Role, permission to create VMs", False),
    Role(
        "def0000b-0000-0000-0000-def00000000b",
        "GlusterAdmin",
        "Administrator Role, permissions for operations on Gluster objects",
        True,
    ),
    Role("def0000c-0000-0000-0000-def00000000c", "ReadOnlyAdmin", "Read Only Administrator Role", True),
    Role(
        USER_PROFILE_EDITOR_ROLE_ID,
        "UserProfileEditor",
        "Role that allow users to edit the UserProfile",
        False,
    ),
)
