# SPDX-License-Identifier: GPL-3.0-or-later
"""What a token may be for, and which capabilities that leaves to its owner."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import models

from portal.accounts.limits import Limits
from portal.accounts.roles import Capability


class Scope(models.TextChoices):
    READ = "read", "Read"
    BACKUP = "backup", "Back up"
    RESTORE = "restore", "Restore"
    ADMIN = "admin", "Admin"


MEANING = {
    Scope.READ: "Look at everything that its owner may see, the history too. The others include looking, without "
    "the history.",
    Scope.BACKUP: "Start backups and verifications, pin restore points; cancel and repeat such jobs.",
    Scope.RESTORE: "Plan and start restores; cancel and repeat them.",
    Scope.ADMIN: "Delete and hold restore points, and what only admins may do; for a platform admin without a team "
    "also Managers, repositories and people.",
}
_NAMED: dict[str, frozenset[Capability]] = {
    Scope.READ: frozenset({Capability.READ_AUDIT}),
    Scope.BACKUP: frozenset({Capability.BACK_UP, Capability.VERIFY, Capability.PIN_POINTS}),
    Scope.RESTORE: frozenset({Capability.RESTORE}),
}
# What no other scope names needs `admin`, so that a new capability is never given away by an old token.
CAPABILITIES = {**_NAMED, Scope.ADMIN: frozenset(Capability) - frozenset().union(*_NAMED.values())}


def limits_of(scopes: Iterable[str], *, team_id: int | None) -> Limits:
    """The limits that a token with these scopes puts on its owner."""
    held = set(scopes)
    kept: frozenset[Capability] = frozenset().union(
        *(CAPABILITIES[scope] for scope in CAPABILITIES if scope in held)
    )
    return Limits(capabilities=kept, team_id=team_id, admin=Scope.ADMIN in held)
