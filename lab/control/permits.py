# SPDX-License-Identifier: GPL-3.0-or-later
"""What each permit is asked for.

Source: getPermissionCheckSubjects of the engine's commands, ActionGroup.java. Rights on the system hold for everything
below it, so a permit may be missing there alone."""

Requests = tuple[tuple[str, str], ...]

FINALIZE = ("POST", "/imagetransfers/*/*")
SCRATCH = ("POST", "/vms/*/backups")
PERMITS: dict[str, Requests] = {
    "ATTACH_DISK": (("POST", "/vms/*/diskattachments"),),
    "BACKUP_DISK": (SCRATCH, ("POST", "/vms/*/backups/*/finalize"), ("DELETE", "/vms/*/checkpoints/*")),
    "CONFIGURE_VM_NETWORK": (("POST", "/vms/*/nics"), ("PUT", "/vms/*/nics/*"), ("DELETE", "/vms/*/nics/*")),
    "CONFIGURE_VM_STORAGE": (("POST", "/vms/*/diskattachments"), ("DELETE", "/vms/*/diskattachments/*")),
    "CREATE_DISK": (("POST", "/disks"), SCRATCH, FINALIZE),
    "CREATE_VM": (("POST", "/vms"),),
    "DELETE_DISK": (("DELETE", "/disks/*"),),
    "DELETE_VM": (("DELETE", "/vms/*"),),
    "EDIT_DISK_PROPERTIES": (("POST", "/imagetransfers"), ("PUT", "/disks/*")),
    "EDIT_VM_PROPERTIES": (("PUT", "/vms/*"),),
    "MANIPULATE_PERMISSIONS": (
        ("POST", "/*/*/permissions"),
        ("DELETE", "/*/*/permissions/*"),
        ("POST", "/permissions"),
        ("DELETE", "/permissions/*"),
    ),
    "MANIPULATE_VM_SNAPSHOTS": (("POST", "/vms/*/snapshots"), ("DELETE", "/vms/*/snapshots/*")),
    "RUN_VM": (("POST", "/vms/*/start"),),
    "SHUT_DOWN_VM": (("POST", "/vms/*/shutdown"),),
    "STOP_VM": (("POST", "/vms/*/stop"),),
}
ON_SYSTEM_ALONE: dict[str, Requests] = {"CREATE_DISK": (FINALIZE,)}
