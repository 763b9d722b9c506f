# SPDX-License-Identifier: GPL-3.0-or-later
"""Teams, their people and machines: the only gate, the same for page, API and command line.

Platform admins make teams and say which machines they have (a rule reaches any machine of a Manager). Admins of a team
manage its people, and who else may reach a single machine of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from django.db import IntegrityError, transaction

from portal.accounts.models import Membership, Team, User
from portal.accounts.roles import Capability, Role
from portal.audit import services as audit
from portal.environments import rules
from portal.environments.models import Environment, TeamMachine, TeamRule, VirtualMachine, VmGrant
from portal.environments.rules import Draft, Preview
from portal.errors import NotAllowed
from portal.teams.errors import ComesByRule, LastAdmin, NameTaken, NoSuchPerson, PreviewChanged, RuleUnclear

MAX_RULES = 50


def create_team(*, actor: Any, name: str, via: str = "page") -> Team:
    """Platform admins only. Raises NotAllowed, NameTaken."""
    _require_platform_admin(actor, "make a team")
    with transaction.atomic():
        team = _named(Team(), name)
        audit.record("team.create", actor=actor, subject=team, via=via, after={"name": team.name})
    return team


def rename_team(*, actor: Any, team: Team, name: str, via: str = "page") -> None:
    """Platform admins only. Raises NotAllowed, NameTaken."""
    _require_platform_admin(actor, "rename a team")
    before = team.name
    if before == name:
        return
    with transaction.atomic():
        _named(team, name)
        audit.record(
            "team.rename", actor=actor, subject=team, via=via, before={"name": before}, after={"name": name}
        )


def _named(team: Team, name: str) -> Team:
    team.name = name
    try:
        with transaction.atomic():
            team.save()
    except IntegrityError:
        raise NameTaken(
            f"There is a team called {name} already; nothing was changed.", hint="Choose another name."
        ) from None
    return team


def set_approval(*, actor: Any, team: Team, approval: str, via: str = "page") -> None:
    """Which restores of the team's machines wait for a second person. Platform admins only. Raises NotAllowed."""
    _require_platform_admin(actor, "say which restores wait for a second person")
    with transaction.atomic():
        before = Team.objects.select_for_update().get(pk=team.pk).approval
        if before == approval:
            return
        Team.objects.filter(pk=team.pk).update(approval=Team.Approval(approval))
        audit.record(
            "team.approval",
            actor=actor,
            subject=team,
            via=via,
            before={"approval": before},
            after={"approval": approval},
        )


def set_quotas(
    *,
    actor: Any,
    team: Team,
    points: int | None,
    size_bytes: int | None,
    restores: int | None,
    via: str = "page",
) -> None:
    """What the team may take up; None for no limit. Platform admins only. Raises NotAllowed."""
    _require_platform_admin(actor, "set a team's quotas")
    after = {"quota_points": points, "quota_bytes": size_bytes, "quota_restores": restores}
    with transaction.atomic():
        before = Team.objects.select_for_update().filter(pk=team.pk).values(*after).get()
        if before == after:
            return
        Team.objects.filter(pk=team.pk).update(**after)
        audit.record("team.quotas", actor=actor, subject=team, via=via, before=before, after=after)


def set_role(*, actor: Any, team: Team, person: User, role: Role, via: str = "page") -> None:
    """Take a person into the team, or change what they may do there. Raises NotAllowed, NoSuchPerson, LastAdmin."""
    require_people(actor, team)
    _require_usable(person)
    with transaction.atomic():
        Team.objects.select_for_update().get(pk=team.pk)
        row = Membership.objects.filter(team=team, user=person).first()
        before = row.role if row else None
        if before == role:
            return
        if before == Role.ADMIN:
            _require_another_admin(actor, team, person)
        Membership.objects.update_or_create(team=team, user=person, defaults={"role": role})
        _record_role(actor, team, person, before, str(role), via)


def remove_person(*, actor: Any, team: Team, person: User, via: str = "page") -> None:
    """Raises NotAllowed, LastAdmin. Nothing happens if the person is not in the team."""
    require_people(actor, team)
    with transaction.atomic():
        Team.objects.select_for_update().get(pk=team.pk)
        row = Membership.objects.filter(team=team, user=person).first()
        if row is None:
            return
        if row.role == Role.ADMIN:
            _require_another_admin(actor, team, person)
        row.delete()
        _record_role(actor, team, person, row.role, None, via)


def _record_role(
    actor: Any, subject: Team | VirtualMachine, person: User, before: str | None, after: str | None, via: str
) -> None:
    """`before` and `after`: the role there, None for none."""
    audit.record(
        "team.role" if isinstance(subject, Team) else "machine.role",
        actor=actor,
        subject=subject,
        via=via,
        person=person.get_username(),
        before={"role": before},
        after={"role": after},
    )


def person_named(username: str) -> User:
    """The active person of exactly that user name. Raises NoSuchPerson."""
    found = User.objects.filter(username=username.strip(), is_active=True).first()
    if found is None:
        raise NoSuchPerson(
            f"Nobody here signs in as {username.strip()[:150]}; nothing was changed.",
            hint="Give the user name exactly as the person signs in.",
        )
    return found


def grant(*, actor: Any, vm: VirtualMachine, person: User, role: Role, via: str = "page") -> None:
    """A role on one machine alone, or another one there. Raises NotAllowed, NoSuchPerson."""
    require_people_of(actor, vm)
    _require_usable(person)
    with transaction.atomic():
        VirtualMachine.objects.select_for_update().get(pk=vm.pk)
        row = VmGrant.objects.filter(vm=vm, user=person, source=VmGrant.Source.HAND).first()
        if row is not None and row.role == role:
            return
        VmGrant.objects.update_or_create(
            vm=vm, user=person, source=VmGrant.Source.HAND, defaults={"role": role}
        )
        _record_role(actor, vm, person, row.role if row else None, str(role), via)


def revoke(*, actor: Any, vm: VirtualMachine, person: User, via: str = "page") -> None:
    """Take the role on this one machine away. Raises NotAllowed."""
    require_people_of(actor, vm)
    with transaction.atomic():
        row = (
            VmGrant.objects.select_for_update().filter(vm=vm, user=person, source=VmGrant.Source.HAND).first()
        )
        if row is None:
            return
        row.delete()
        _record_role(actor, vm, person, row.role, None, via)


def add_machine(*, actor: Any, team: Team, vm: VirtualMachine, via: str = "page") -> None:
    """Give a machine to the team by hand: it stays, whatever rules say. Platform admins only. Raises NotAllowed."""
    _require_platform_admin(actor, "give machines to teams")
    with transaction.atomic():
        link, made = TeamMachine.objects.get_or_create(team=team, virtualmachine=vm)
        if not made and link.by_hand:
            return
        TeamMachine.objects.filter(pk=link.pk).update(by_hand=True)
        audit.record("team.machine_by_hand", actor=actor, subject=team, via=via, came=[vm.name])


def remove_machine(*, actor: Any, team: Team, vm: VirtualMachine, via: str = "page") -> None:
    """Take back what was given by hand. Platform admins only. Raises NotAllowed, ComesByRule."""
    _require_platform_admin(actor, "take machines from teams")
    with transaction.atomic():
        link = TeamMachine.objects.select_for_update().filter(team=team, virtualmachine=vm).first()
        if link is None:
            return
        if link.by_rule and not link.by_hand:
            raise ComesByRule(
                f"{vm.name} comes to {team.name} by a rule, so it stays.",
                hint="Change the team's rules, or the machine's tags, cluster or name on the Manager.",
            )
        if link.by_rule:
            TeamMachine.objects.filter(pk=link.pk).update(by_hand=False)
        else:
            link.delete()
        audit.record(
            "team.machine_by_hand",
            actor=actor,
            subject=team,
            via=via,
            went=[vm.name],
            stays_by_rule=link.by_rule,
        )


def preview_rules(*, actor: Any, team: Team, drafts: Sequence[Draft]) -> Preview:
    """What the team's machines would be with just these rules. Raises NotAllowed, RuleUnclear."""
    _require_platform_admin(actor, "change a team's rules")
    _require_clear(drafts)
    return rules.preview(team, drafts)


def save_rules(*, actor: Any, team: Team, drafts: Sequence[Draft], shown: str, via: str = "page") -> Preview:
    """Put these rules in the place of the team's rules, if they would change just what the preview `shown` said.

    Raises NotAllowed, RuleUnclear, PreviewChanged; nothing is changed then.
    """
    _require_platform_admin(actor, "change a team's rules")
    _require_clear(drafts)
    with transaction.atomic():
        Team.objects.select_for_update().get(pk=team.pk)
        if rules.preview(team, drafts).hash != shown:
            raise PreviewChanged(
                "Machines, teams or rules changed since this preview was shown, so nothing was changed.",
                hint="Look at the new preview and save it.",
            )
        before = [str(rule) for rule in team.rules.select_related("environment")]
        team.rules.all().delete()
        TeamRule.objects.bulk_create(
            TeamRule(team=team, kind=draft.kind, value=draft.value, environment_id=draft.environment)
            for draft in drafts
        )
        after = [str(rule) for rule in team.rules.select_related("environment")]
        audit.record(
            "team.rules",
            actor=actor,
            subject=team,
            via=via,
            before={"rules": before},
            after={"rules": after},
        )
        every = VirtualMachine.objects.present().select_related("environment")
        return rules.apply(team, every, actor=actor, via=via)


def described(drafts: Sequence[Draft]) -> list[str]:
    """Rules that are not stored yet, as people read them. One query."""
    environments = {row.pk: row for row in Environment.objects.all()}
    return [
        str(
            TeamRule(kind=draft.kind, value=draft.value, environment=environments.get(draft.environment or 0))
        )
        for draft in drafts
    ]


def packed(drafts: Sequence[Draft]) -> str:
    """Rules as a form carries them from the preview to its answer."""
    return json.dumps([[draft.kind, draft.value, draft.environment] for draft in drafts])


def unpacked(text: str) -> list[Draft]:
    """What `packed` made, from a stranger's hands. Raises RuleUnclear."""
    try:
        found = json.loads(text)
        drafts = [Draft(*item) for item in found] if isinstance(found, list) else []
        text = text if isinstance(found, list) else ""
    except (ValueError, TypeError, RecursionError):
        drafts = []
        text = ""
    known = set(Environment.objects.values_list("pk", flat=True))
    for draft in drafts:
        plain = (
            isinstance(draft.value, str) and len(draft.value) <= 255 and draft.kind in TeamRule.Kind.values
        )
        manager = draft.environment
        if not plain or not (manager is None or (isinstance(manager, int) and manager in known)):
            text = ""
    if not text:
        raise RuleUnclear(
            "These rules cannot be read; nothing was changed.", hint="Begin from the team's page."
        )
    return drafts


def _require_clear(drafts: Sequence[Draft]) -> None:
    if len(drafts) > MAX_RULES:
        raise RuleUnclear(f"A team has at most {MAX_RULES} rules; nothing was changed.")
    if any(not draft.value.strip() for draft in drafts):
        raise RuleUnclear(
            "A rule needs a value; nothing was changed.", hint="Name the tag, cluster or pattern."
        )
    if len(set(drafts)) != len(drafts):
        raise RuleUnclear("The team has this rule already; nothing was changed.")


def _require_platform_admin(actor: Any, doing: str) -> None:
    if not actor.is_platform_admin:
        raise NotAllowed(
            f"Only platform admins may {doing}; nothing was changed.", hint="Ask a platform admin for it."
        )


def require_people(actor: Any, team: Team) -> None:
    """Raises NotAllowed unless the person may manage the team's people."""
    if not team.allows(actor, Capability.MANAGE_PEOPLE):
        raise NotAllowed(
            f"Your role in {team.name} does not allow to manage its people; nothing was changed.",
            hint="Ask an admin of the team.",
        )


def require_people_of(actor: Any, vm: VirtualMachine) -> None:
    """Raises NotAllowed unless the person may say who else may reach the machine."""
    if not vm.allows(actor, Capability.MANAGE_PEOPLE):
        raise NotAllowed(
            f"Your role on {vm.name} does not allow to manage who may reach it; nothing was changed.",
            hint="Ask an admin of the machine's team.",
        )


def _require_usable(person: User) -> None:
    if not person.is_active:
        raise NoSuchPerson(
            f"{person.get_username()} can no longer sign in, so no role was given.",
            hint="Let a platform admin activate the account first.",
        )


def _require_another_admin(actor: Any, team: Team, person: User) -> None:
    """Platform admins may leave a team without one: they can give it another."""
    others = Membership.objects.filter(team=team, role=Role.ADMIN, user__is_active=True).exclude(user=person)
    if not actor.is_platform_admin and not others.exists():
        raise LastAdmin(
            f"{person.get_username()} is the only admin of {team.name}, so nothing was changed.",
            hint="Make somebody else an admin first, or ask a platform admin.",
        )
