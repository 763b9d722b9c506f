# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles by the groups of another system: applied at each sign-in through it, and when a rule changes.

What a group gave is taken back when the group (or the rule) is gone; what was given by hand stays. Where both give a
role in one team, the stronger one counts (roles.strongest).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from portal.accounts.models import GroupRule, KnownGroups, Membership, Team, User
from portal.accounts.roles import strongest
from portal.audit import services as audit
from portal.errors import NotAllowed, PortalError


class RuleExists(PortalError):
    """A group gives one role in a team."""


@dataclass
class Gifts:
    """What a person's groups give: a role by team id, and whether platform admin."""

    roles: dict[int, str] = field(default_factory=dict)
    admin: bool = False


def signed_in(person: User, *, source: str, names: Iterable[str], via: str) -> None:
    """Applies the groups that the other system has just named. Called before the person is let in."""
    with transaction.atomic():
        kept = sorted({str(name)[:255] for name in names})[:2000]
        KnownGroups.objects.update_or_create(user=person, source=source, defaults={"names": kept})
        _apply(person, actor=person, via=via)


def add_rule(
    *, actor: User, source: str, group: str, team: Team | None, role: str, via: str = "page"
) -> GroupRule:
    """Raises RuleExists, NotAllowed."""
    _must_be_platform_admin(actor)
    with transaction.atomic():
        if GroupRule.objects.filter(source=source, group=group, team=team).exists():
            raise RuleExists(
                "This group already has a rule for this; nothing was changed.", hint="Remove that rule first."
            )
        rule = GroupRule.objects.create(source=source, group=group, team=team, role=role if team else "")
        audit.record("group_rule.add", actor=actor, via=via, subject=rule, before=None, after=_told(rule))
        _apply_to_the_group(rule, actor=actor, via=via)
    return rule


def remove_rule(rule: GroupRule, *, actor: User, via: str = "page") -> None:
    """What the rule gave is taken back at once. Raises NotAllowed."""
    _must_be_platform_admin(actor)
    with transaction.atomic():
        audit.record("group_rule.remove", actor=actor, via=via, subject=rule, before=_told(rule), after=None)
        gone = GroupRule(source=rule.source, group=rule.group)
        rule.delete()
        _apply_to_the_group(gone, actor=actor, via=via)


def _told(rule: GroupRule) -> dict[str, Any]:
    return {"source": rule.source, "group": rule.group, "gives": rule.gives}


def _must_be_platform_admin(actor: User) -> None:
    if not actor.is_platform_admin:
        raise NotAllowed("Only platform admins say what groups give; nothing was changed.")


def _apply_to_the_group(rule: GroupRule, *, actor: User, via: str) -> None:
    group = rule.group.casefold()
    for known in KnownGroups.objects.filter(source=rule.source).select_related("user"):
        if group in {name.casefold() for name in known.names}:
            _apply(known.user, actor=actor, via=via)


def _apply(person: User, *, actor: User, via: str) -> None:
    before = _held(person)
    gifts = _gifts(person)
    for membership in Membership.objects.select_for_update().filter(user=person):
        _settle(membership, gifts.roles.pop(membership.team_id, ""))
    Membership.objects.bulk_create(
        Membership(user=person, team_id=team_id, role=role, by_group=role)
        for team_id, role in gifts.roles.items()
    )
    _settle_admin(person, gifts.admin)
    after = _held(person)
    if before != after:
        audit.record("groups.apply", actor=actor, via=via, subject=person, before=before, after=after)


def _settle(membership: Membership, by_group: str) -> None:
    if not by_group and not membership.by_hand:
        membership.delete()
        return
    role = strongest(membership.by_hand, by_group)
    Membership.objects.filter(pk=membership.pk).update(role=role, by_group=by_group)


def _settle_admin(person: User, admin: bool) -> None:
    """Who was made platform admin by hand is left alone."""
    if admin != person.is_superuser and (admin or person.admin_by_group):
        person.is_superuser = person.admin_by_group = admin
        User.objects.filter(pk=person.pk).update(is_superuser=admin, admin_by_group=admin)


def _gifts(person: User) -> Gifts:
    gifts = Gifts()
    for known in KnownGroups.objects.filter(user=person):
        names = {name.casefold() for name in known.names}
        for rule in GroupRule.objects.filter(source=known.source):
            if rule.group.casefold() not in names:
                continue
            if rule.team_id is None:
                gifts.admin = True
            else:
                gifts.roles[rule.team_id] = strongest(gifts.roles.get(rule.team_id, ""), rule.role)
    return gifts


def _held(person: User) -> dict[str, Any]:
    rows = Membership.objects.filter(user=person).select_related("team").order_by("team__name")
    return {"teams": {row.team.name: row.role for row in rows}, "platform_admin": person.is_superuser}
