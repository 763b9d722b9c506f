# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what, in words.

Roles are held on a team (for all of its VMs) or on one VM; a person's rights on a VM are the union.

- viewer: sees VMs, restore points, jobs; reads no content and changes nothing.
- operator: also backs up, restores and verifies, and pins restore points so that retention leaves them.
- auditor: sees what a viewer sees, and the history of who did what.
- admin: all of the above, also deletes restore points, lays and releases legal holds, manages the team's
  people, and approves restores that wait for a second person.
- Platform admins (superusers) may do everything, and alone manage Managers and repositories.

A token only ever narrows its owner's rights (limits.py).

Not your VM: it does not exist for you (404). Not your role: refused (403).
"""

from __future__ import annotations

from django.db import models


class Role(models.TextChoices):
    VIEWER = "viewer", "Viewer"
    OPERATOR = "operator", "Operator"
    AUDITOR = "auditor", "Auditor"
    ADMIN = "admin", "Admin"


class Capability(models.TextChoices):
    BACK_UP = "back_up", "back up"
    RESTORE = "restore", "restore"
    VERIFY = "verify", "verify"
    DELETE_POINTS = "delete_points", "delete restore points"
    PIN_POINTS = "pin_points", "pin restore points"
    HOLD_POINTS = "hold_points", "hold restore points"
    READ_AUDIT = "read_audit", "read the history"
    MANAGE_PEOPLE = "manage_people", "manage people"
    APPROVE = "approve", "approve restores"


_OPERATE = frozenset({Capability.BACK_UP, Capability.RESTORE, Capability.VERIFY, Capability.PIN_POINTS})
CAPABILITIES: dict[str, frozenset[Capability]] = {
    Role.VIEWER: frozenset(),
    Role.OPERATOR: _OPERATE,
    Role.AUDITOR: frozenset({Capability.READ_AUDIT}),
    Role.ADMIN: _OPERATE
    | {
        Capability.DELETE_POINTS,
        Capability.HOLD_POINTS,
        Capability.READ_AUDIT,
        Capability.MANAGE_PEOPLE,
        Capability.APPROVE,
    },
}


def roles_with(capability: Capability) -> list[str]:
    return [role for role, held in CAPABILITIES.items() if capability in held]


# Where two roles meet in one team the later one counts.
_STRENGTH = [Role.VIEWER, Role.AUDITOR, Role.OPERATOR, Role.ADMIN]


def strongest(*roles: str) -> str:
    """The role that counts; empty ones are none."""
    return str(max((Role(role) for role in roles if role), key=_STRENGTH.index, default=""))
