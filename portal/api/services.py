# SPDX-License-Identifier: GPL-3.0-or-later
"""Service accounts: programs that have tokens, roles in teams, and no way to sign in."""

from __future__ import annotations

from django.db import transaction

from portal.accounts.models import Team, User
from portal.accounts.roles import Role
from portal.audit import services as audit
from portal.errors import NotAllowed
from portal.teams import services as teams


def create_service_account(
    *, actor: User, username: str, team: Team | None = None, role: str = "", via: str = "page"
) -> User:
    """Without a password; with a role in a team, since otherwise it reaches nothing. Raises NotAllowed."""
    _require_admin(actor)
    with transaction.atomic():
        service = User(username=username, is_service=True)
        service.set_unusable_password()
        service.save()
        if team is not None:
            teams.set_role(actor=actor, team=team, person=service, role=Role(role), via=via)
        audit.record("service.create", actor=actor, subject=service, via=via)
    return service


def switch_service_account(*, actor: User, service: User, active: bool, via: str = "page") -> None:
    """Switched off, its tokens are refused from the next request on. Raises NotAllowed. Safe to repeat."""
    _require_admin(actor)
    with transaction.atomic():
        changed = User.objects.filter(pk=service.pk, is_service=True, is_active=not active).update(
            is_active=active
        )
        if changed:
            audit.record(
                "service.switch",
                actor=actor,
                subject=service,
                via=via,
                before={"active": not active},
                after={"active": active},
            )
    service.refresh_from_db()


def _require_admin(actor: User) -> None:
    if not actor.is_platform_admin:
        raise NotAllowed("Only platform admins manage service accounts; nothing was changed.")
