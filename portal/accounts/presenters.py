# SPDX-License-Identifier: GPL-3.0-or-later
"""A person's roles in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from portal.accounts.models import Membership
from portal.accounts.roles import CAPABILITIES, Role


def role_rows(memberships: Iterable[Membership], grants: Iterable[Any]) -> list[dict[str, str]]:
    """Teams first, then single machines (VmGrant rows with their `vm`)."""
    teams = [
        {
            "icon": "user",
            "name": row.team.name,
            "role": row.get_role_display(),
            "text": f"On all machines of this team you may {may(row.role)}.",
            "url": row.team.get_absolute_url(),
        }
        for row in memberships
    ]
    machines = [
        {
            "icon": "machine",
            "name": row.vm.name,
            "role": row.get_role_display(),
            "text": f"On this machine you may {may(row.role)}{_because(row)}.",
            "url": row.vm.get_absolute_url(),
        }
        for row in grants
    ]
    return teams + machines


def _because(grant: Any) -> str:
    return f", {grant.get_source_display()}" if grant.source != "hand" else ""


def may(role: str) -> str:
    """`look, back up, restore and verify`, in the order of the capabilities."""
    verbs = [
        "look",
        *(str(held.label) for held in sorted(CAPABILITIES[Role(role)], key=lambda item: item.label)),
    ]
    return verbs[0] if len(verbs) == 1 else f"{', '.join(verbs[:-1])} and {verbs[-1]}"
