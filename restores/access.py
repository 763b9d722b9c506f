# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may restore: operators and admins of the VM (portal/accounts/roles.py), platform admins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backups import access
from backups.models import RestorePoint
from portal.accounts.roles import Capability

if TYPE_CHECKING:
    from portal.accounts.models import User


def can_restore(user: User, point: RestorePoint) -> bool:
    return point.allows(user, Capability.RESTORE)


def require_restore(user: User, point: RestorePoint) -> None:
    """Raises NotAllowed."""
    access.require(user, point.vm, Capability.RESTORE)
