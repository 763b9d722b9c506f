# SPDX-License-Identifier: GPL-3.0-or-later
"""How many machines are protected, by team and by Manager; the definitions are those of the dashboard."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from portal.accounts.models import Team, User
from portal.dashboard.protection import STATUSES, Summary, machines_of, summaries
from portal.environments.models import Environment, VirtualMachine
from portal.history.filters import environments_of, teams_of

DOUBTS = {
    "unread": "the repository of the newest restore point could not be read",
    "unheard": "the Manager has not told of the machine for more than 30 minutes",
    "gone": "the Manager no longer lists the machine",
}


@dataclass(frozen=True)
class Tally:
    """Machines of one team, of one Manager, or all; `of` is None for all and for machines without a team."""

    label: str
    counts: Mapping[str, int]
    of: Team | Environment | None = None

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def cells(self) -> list[tuple[str, int]]:
        """Status and number, in the order of the columns."""
        return [(status, self.counts[status]) for status in STATUSES]


@dataclass(frozen=True)
class Coverage:
    """`doubts`: why machines are unknown, in words, with their number."""

    all: Tally
    by_team: list[Tally]
    by_environment: list[Tally]
    doubts: list[tuple[str, int]]

    @property
    def protected_share(self) -> str:
        """`95 %`, rounded down: 100 % is said only of all."""
        return f"{100 * self.all.counts['protected'] // self.all.total} %" if self.all.total else ""


def coverage_of(person: User) -> Coverage:
    """Of the machines that the person may see. A machine of two teams counts in each of them."""
    rows = summaries(machines_of(person))
    teams = list(teams_of(person))
    members = _members(teams)
    by_team = [_tally(str(team), (row for row in rows if row.pk in members[team.pk]), team) for team in teams]
    with_team = set().union(*members.values())
    others = [row for row in rows if row.pk not in with_team]
    if others:
        by_team.append(_tally("In none of these teams" if teams else "In no team", others))
    doubts = Counter(row.doubt for row in rows if row.doubt)
    return Coverage(
        all=_tally("All", rows),
        by_team=by_team,
        by_environment=[
            _tally(str(found), (row for row in rows if row.environment == found.pk), found)
            for found in environments_of(person)
        ],
        doubts=[(words, doubts[name]) for name, words in DOUBTS.items() if doubts[name]],
    )


def _members(teams: Iterable[Team]) -> dict[int, set[int]]:
    """Primary keys of machines by that of their team."""
    found: dict[int, set[int]] = defaultdict(set)
    links: Any = VirtualMachine.teams.through
    for team, vm in links.objects.filter(team__in=list(teams)).values_list("team_id", "virtualmachine_id"):
        found[team].add(vm)
    return found


def _tally(label: str, rows: Iterable[Summary], of: Team | Environment | None = None) -> Tally:
    return Tally(label, Counter(row.status for row in rows), of)
