# SPDX-License-Identifier: GPL-3.0-or-later
"""What a token takes away from the rights of the person (or service account) that it belongs to.

A token never gives anything: whoever uses it may do what its owner may do, narrowed by its limits. They sit on
the User instance of one request (`user.limits`); everything that asks for rights looks there.
"""

from __future__ import annotations

from dataclasses import dataclass

from portal.accounts.roles import Capability


@dataclass(frozen=True)
class Limits:
    """`capabilities` that remain; with `team_id` only that team's machines, by the owner's membership in it.

    `admin` leaves the platform admin's own acts (Managers, repositories, people) to a platform admin's token.
    """

    capabilities: frozenset[Capability]
    team_id: int | None = None
    admin: bool = False
