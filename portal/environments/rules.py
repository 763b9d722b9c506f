# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that come to teams by rule: a tag, a cluster, a name pattern, an owner on the Manager.

A team has the machines that any of its rules matches, and those given by hand. Rules are looked at after each refresh
of a Manager and when they are changed; machines that are gone from their Manager stay where they were.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from portal.accounts.models import Team
from portal.audit import services as audit
from portal.environments.models import Environment, TeamMachine, TeamRule, VirtualMachine, VmPerson

Matcher = Callable[[VirtualMachine], bool]
# Names of machines that an entry in the history holds; beyond it only their number.
NAMES_TOLD = 200


@dataclass(frozen=True)
class Draft:
    """A rule as it might be: `environment` is a primary key, None for every Manager."""

    kind: str
    value: str
    environment: int | None = None


def matchers(drafts: Sequence[Draft]) -> list[Matcher]:
    """One for each rule, in their order. At most one query."""
    owned = _owned_by({draft.value for draft in drafts if draft.kind == TeamRule.Kind.OWNER})
    return [_matcher(draft, owned) for draft in drafts]


def _matcher(draft: Draft, owned: dict[str, set[int]]) -> Matcher:
    if draft.kind == TeamRule.Kind.OWNER:
        test: Matcher = lambda vm: vm.pk in owned.get(draft.value, ())  # noqa: E731
    else:
        test = _MATCHERS[TeamRule.Kind(draft.kind)](draft.value)
    if draft.environment is None:
        return test
    return lambda vm: vm.environment_id == draft.environment and test(vm)


def _owned_by(principals: set[str]) -> dict[str, set[int]]:
    """VMs by the user or group that the Manager names their owner."""
    found: dict[str, set[int]] = {}
    if principals:
        rows = VmPerson.objects.filter(principal__in=principals).select_related("vm__environment")
        for row in rows:
            if row.role_name in row.vm.environment.owner_roles:
                found.setdefault(row.principal, set()).add(row.vm_id)
    return found


def _by_tag(value: str) -> Matcher:
    return lambda vm: value in vm.tags


def _by_cluster(value: str) -> Matcher:
    return lambda vm: vm.cluster_name == value


def _by_name(value: str) -> Matcher:
    """`*` any text, `?` one character, `[ab]` one of these; capitals and small letters alike."""
    pattern = re.compile(fnmatch.translate(value), re.IGNORECASE)
    return lambda vm: pattern.match(vm.name) is not None


_MATCHERS: dict[TeamRule.Kind, Callable[[str], Matcher]] = {
    TeamRule.Kind.TAG: _by_tag,
    TeamRule.Kind.CLUSTER: _by_cluster,
    TeamRule.Kind.NAME: _by_name,
}


@dataclass(frozen=True)
class Preview:
    """What rules would change on a team: VMs that come, that go, that are matched already, that stay by hand alone.

    `hash` stands for the rules and their outcome; it changes when either does.
    """

    came: Sequence[VirtualMachine]
    went: Sequence[VirtualMachine]
    matched_already: Sequence[VirtualMachine]
    only_by_hand: Sequence[VirtualMachine]
    hash: str

    @property
    def changes(self) -> bool:
        return bool(self.came or self.went)


def drafts_of(team: Team) -> list[Draft]:
    return [Draft(rule.kind, rule.value, rule.environment_id) for rule in team.rules.all()]


def preview(team: Team, drafts: Sequence[Draft]) -> Preview:
    """What would happen if the team had just these rules. Changes nothing. Four queries at most."""
    vms = list(VirtualMachine.objects.present().select_related("environment"))
    return _compared(team, drafts, vms)


def _compared(team: Team, drafts: Sequence[Draft], vms: Sequence[VirtualMachine]) -> Preview:
    links = {link.virtualmachine_id: link for link in team.machine_links.all()}
    tests = matchers(drafts)
    matched = [vm for vm in vms if any(matches(vm) for matches in tests)]
    wanted = {vm.pk for vm in matched}
    came = [vm for vm in matched if vm.pk not in links]
    went = [vm for vm in vms if vm.pk not in wanted and _only_by_rule(links.get(vm.pk))]
    only_by_hand = [vm for vm in vms if vm.pk not in wanted and vm.pk in links and links[vm.pk].by_hand]
    told = {
        "team": str(team.uuid),
        "rules": sorted([draft.kind, draft.value, str(draft.environment or "")] for draft in drafts),
        "came": sorted(str(vm.uuid) for vm in came),
        "went": sorted(str(vm.uuid) for vm in went),
    }
    return Preview(
        came=came,
        went=went,
        matched_already=[vm for vm in matched if vm.pk in links],
        only_by_hand=only_by_hand,
        hash=hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest(),
    )


def _only_by_rule(link: TeamMachine | None) -> bool:
    return link is not None and link.by_rule and not link.by_hand


def apply_all(environment: Environment | None = None) -> None:
    """Every team's rules on the machines of a Manager, or of all; for the portal itself after a refresh."""
    vms = VirtualMachine.objects.present().select_related("environment")
    if environment is not None:
        vms = vms.filter(environment=environment)
    teams = Team.objects.filter(rules__isnull=False) | Team.objects.filter(machine_links__by_rule=True)
    found = list(vms)
    for team in teams.distinct().prefetch_related("rules"):
        apply(team, found, actor=None, via="schedule")


def apply(team: Team, vms: Iterable[VirtualMachine], *, actor: Any, via: str) -> Preview:
    """Make the team's machines those that its rules name, among `vms`. What changed stands in the history."""
    with transaction.atomic():
        # Two who apply at once would each make the same link.
        Team.objects.select_for_update().get(pk=team.pk)
        among = list(vms)
        found = _compared(team, drafts_of(team), among)
        links = TeamMachine.objects.filter(team=team)
        links.filter(virtualmachine__in=[vm.pk for vm in found.went]).delete()
        TeamMachine.objects.bulk_create(
            TeamMachine(team=team, virtualmachine=vm, by_hand=False, by_rule=True) for vm in found.came
        )
        links.filter(virtualmachine__in=[vm.pk for vm in found.matched_already], by_rule=False).update(
            by_rule=True
        )
        links.filter(virtualmachine__in=[vm.pk for vm in found.only_by_hand], by_rule=True).update(
            by_rule=False
        )
        if found.changes:
            audit.record(
                "team.machines",
                actor=actor,
                subject=team,
                via=via,
                rules=[str(rule) for rule in team.rules.select_related("environment")],
                came=names(found.came),
                went=names(found.went),
                came_count=len(found.came),
                went_count=len(found.went),
            )
    return found


def names(vms: Iterable[VirtualMachine]) -> list[str]:
    return sorted(vm.name for vm in vms)[:NAMES_TOLD]
