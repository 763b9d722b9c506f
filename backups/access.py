# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may make, verify and delete restore points. The rules in words: portal/accounts/roles.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portal.accounts.roles import Capability
from portal.environments.models import VirtualMachine
from portal.errors import NotAllowed

if TYPE_CHECKING:
    from portal.accounts.models import User


def require_platform_admin(user: Any, doing: str) -> None:
    """Raises NotAllowed unless a platform admin asks, or nobody does: the portal itself (beat, a command)."""
    if user is not None and not user.is_platform_admin:
        raise NotAllowed(
            f"Only platform admins may {doing}; nothing was started.", hint="Ask a platform admin for it."
        )


def require(user: User, vm: VirtualMachine, capability: Capability) -> None:
    """Raises NotAllowed unless the person holds a role with `capability` on the VM."""
    if not vm.allows(user, capability):
        raise NotAllowed(
            f"Your role on {vm.name} does not allow to {Capability(capability).label}; nothing was started.",
            hint="Ask an admin of your team for the role you need.",
        )
