# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may read which part of the audit history. In prose: docs/audit.md."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet

from portal.accounts.models import Team, User
from portal.accounts.roles import Capability, roles_with
from portal.audit.models import AuditEntry, AuditEntryTeam
from portal.environments.models import VirtualMachine
from portal.errors import NotAllowed


def visible_to(user: User) -> QuerySet[AuditEntry]:
    """Platform admins: all. Auditors and admins of teams: what was about these teams' machines and people when it
    was written. Auditors and admins of single machines: what was about these. Others: nothing."""
    entries: QuerySet[AuditEntry] = AuditEntry.objects.all()
    if user.is_platform_admin:
        return entries
    if not user.is_active or not user.keeps(Capability.READ_AUDIT):
        return entries.none()
    of_team = AuditEntryTeam.objects.filter(entry=OuterRef("pk"), team__in=_teams(user))
    return entries.filter(Exists(of_team) | Q(vm__in=_machines(user)))


def may_read(user: User) -> bool:
    """Whether there is anything that this person may ever read here."""
    if user.is_platform_admin:
        return True
    return user.keeps(Capability.READ_AUDIT) and bool(_teams(user) or _machines(user))


def require_reader(user: User) -> None:
    """Raises NotAllowed."""
    if not may_read(user):
        raise NotAllowed(
            "Your role does not allow to read the audit history.",
            hint="Auditors and admins of a team may read what concerns its machines and people.",
        )


def _teams(user: User) -> list[UUID]:
    held = Team.objects.filter(
        memberships__user=user, memberships__role__in=roles_with(Capability.READ_AUDIT)
    )
    if user.limits is not None and user.limits.team_id is not None:
        held = held.filter(pk=user.limits.team_id)
    return list(held.values_list("uuid", flat=True))


def _machines(user: User) -> list[UUID]:
    if not user.counts_beyond_teams:
        return []
    held = VirtualMachine.objects.filter(
        grants__user=user, grants__role__in=roles_with(Capability.READ_AUDIT)
    )
    return list(held.values_list("uuid", flat=True))
