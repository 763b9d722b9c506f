# SPDX-License-Identifier: GPL-3.0-or-later
"""Teams in the words and rows of their pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from backups.quotas import Usage
from portal import wording
from portal.accounts.models import Membership, Team
from portal.accounts.presenters import may
from portal.environments.models import TeamMachine, TeamRule, VirtualMachine
from portal.environments.rules import Draft, Preview, matchers
from portal.wording import counted

LIST_COLUMNS: list[dict[str, Any]] = [
    {"label": "Team"},
    {"label": "People", "num": True},
    {"label": "Machines", "num": True},
    {"label": "Rules", "num": True, "minor": True},
]
MACHINE_COLUMNS: list[dict[str, Any]] = [{"label": "Machine"}, {"label": "Manager"}, {"label": "Why"}]
# Machines of a preview that are named; the rest is counted.
SHOWN = 100


def list_rows(teams: Iterable[Team]) -> list[dict[str, Any]]:
    """Annotated with `people`, `machines` and `rule_count`."""
    return [
        {
            "href": team.get_absolute_url(),
            "cells": [
                {"value": team.name},
                {"value": team.people},  # type: ignore[attr-defined]
                {"value": team.machines},  # type: ignore[attr-defined]
                {"value": team.rule_count},  # type: ignore[attr-defined]
            ],
        }
        for team in teams
    ]


def people_rows(memberships: Iterable[Membership]) -> list[dict[str, Any]]:
    return [
        {
            "person": row.user,
            "role": row.role,
            "text": f"May {may(row.role)}.",
            "gone": not row.user.is_active,
            # Taken away by hand such a role comes back at the next sign-in.
            "by_group": row.by_group == row.role != row.by_hand,
        }
        for row in memberships
    ]


def machine_rows(links: Iterable[TeamMachine], rules: Sequence[TeamRule]) -> list[dict[str, Any]]:
    """Each with the reason why the machine is the team's."""
    tests = matchers([Draft(rule.kind, rule.value, rule.environment_id) for rule in rules])
    named = list(zip(map(str, rules), tests, strict=True))
    rows = []
    for link in links:
        vm = link.virtualmachine
        why = ["By hand"] if link.by_hand else []
        why += [f"by {name}" for name, matches in named if link.by_rule and matches(vm)]
        if not why:
            # Gone from its Manager: no rule is looked at for it any more.
            why = ["by a rule of then"]
        text = ", ".join(why)
        rows.append({"vm": vm, "why": text[0].upper() + text[1:], "by_hand": link.by_hand})
    return rows


def preview_sentence(preview: Preview) -> str:
    """`3 machines come, 1 machine goes, 12 machines stay.`"""
    stay = len(preview.matched_already) + len(preview.only_by_hand)
    if not preview.changes:
        return f"No machine comes or goes; {counted(stay, 'machine')} {'stays' if stay == 1 else 'stay'}."
    parts = []
    if preview.came:
        parts.append(
            f"{counted(len(preview.came), 'machine')} {'comes' if len(preview.came) == 1 else 'come'}"
        )
    if preview.went:
        parts.append(f"{counted(len(preview.went), 'machine')} {'goes' if len(preview.went) == 1 else 'go'}")
    parts.append(f"{counted(stay, 'machine')} {'stays' if stay == 1 else 'stay'}")
    return ", ".join(parts) + "."


def preview_lists(preview: Preview) -> list[dict[str, Any]]:
    """Came, went and stay, the first of each by name."""
    told: list[tuple[str, str, Sequence[VirtualMachine]]] = [
        ("Come to the team", "Its people may reach them from then on.", preview.came),
        ("Go from the team", "Its people can no longer reach them; restore points stay.", preview.went),
        ("Stay, because they were given by hand", "No rule matches them.", preview.only_by_hand),
        ("Stay, because a rule matches them", "They are the team's already.", preview.matched_already),
    ]
    return [
        {
            "title": title,
            "text": text,
            "count": len(vms),
            "vms": _first(vms),
            "more": max(0, len(vms) - SHOWN),
        }
        for title, text, vms in told
        if vms
    ]


def _first(vms: Sequence[VirtualMachine]) -> list[VirtualMachine]:
    return sorted(vms, key=lambda vm: vm.name)[:SHOWN]


def quota_facts(team: Team, usage: Usage) -> list[dict[str, Any]]:
    """What the team takes up, and of how much."""
    size = None if team.quota_bytes is None else wording.size(team.quota_bytes)
    return [
        {"label": "Restore points", "value": f"{usage.points:,}", "note": _at_most(team.quota_points)},
        {"label": "Referenced", "value": usage.bytes, "kind": "bytes", "note": _at_most(size)},
        {
            "label": "Restores under way",
            "value": f"{usage.restores:,}",
            "note": _at_most(team.quota_restores),
        },
    ]


def _at_most(limit: int | str | None) -> str:
    if limit is None:
        return "No limit"
    return f"Of at most {limit:,}" if isinstance(limit, int) else f"Of at most {limit}"
