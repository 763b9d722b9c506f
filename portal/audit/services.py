# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to write history. Called inside the transaction of the change it records."""

from __future__ import annotations

import ipaddress
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

from django.db import transaction
from django.db.models import Model

from portal import logs
from portal.audit import behalf, sealing
from portal.audit.canonical import plain_text, storable
from portal.audit.models import AuditEntry, AuditEntryTeam, AuditUnsealed


@runtime_checkable
class OfTeams(Protocol):
    """A subject that belongs to teams: a machine, a person, a team."""

    uuid: UUID

    def audited_teams(self) -> list[UUID]: ...


@runtime_checkable
class OfMachine(Protocol):
    """A subject that belongs to a machine: the machine itself, a restore point, a job (None: of no machine)."""

    @property
    def audited_vm(self) -> OfTeams | None: ...


def record(
    action: str,
    *,
    actor: Any,
    subject: Model | None = None,
    via: str = "page",
    address: str | None = None,
    ticket: str = "",
    **data: Any,
) -> AuditEntry:
    """Append one entry. `actor` is a User or None for the portal itself; `data` must be free of secrets.

    Who may read it later is settled now: teams of the machine that `subject` belongs to; without a machine those
    of the person or team that it is; without a subject those of the actor. About anything else (a Manager, a
    repository): platform admins only. `address` is that of the request, if none is given.
    """
    person = actor if getattr(actor, "is_authenticated", False) else None
    vm, teams = _scope(subject, person)
    if (order := behalf.current.get()) is not None:
        ticket = ticket or order.ticket
        data = {"requested_for": order.requested_for, **data} if order.requested_for else data
    with transaction.atomic():
        entry = AuditEntry.objects.create(
            actor=person,
            actor_name=plain_text(person.get_username() if person else "portal"),
            via=via,
            action=action,
            object_type=subject._meta.label if subject is not None else "",
            object_id=_identity(subject),
            object_label=plain_text(str(subject))[:255] if subject is not None else "",
            request_id=logs.request_id.get(),
            address=_address(address or logs.address.get()),
            data=storable(data),
            vm=vm,
            teams=[str(team) for team in teams],
            ticket=plain_text(ticket)[:100],
        )
        AuditEntryTeam.objects.bulk_create([AuditEntryTeam(entry=entry, team=team) for team in teams])
        AuditUnsealed.objects.create(entry=entry)
        transaction.on_commit(sealing.seal_after_commit, robust=True)
    return entry


def _scope(subject: Any, person: Any) -> tuple[UUID | None, list[UUID]]:
    """The machine and the teams that an entry about `subject` by `person` belongs to."""
    about = subject if subject is not None else person
    machine = about.audited_vm if isinstance(about, OfMachine) else None
    of_teams = machine if machine is not None else about
    teams = sorted(set(of_teams.audited_teams())) if isinstance(of_teams, OfTeams) else []
    return (machine.uuid if machine is not None else None), teams


def _identity(subject: Model | None) -> str:
    if subject is None:
        return ""
    value = getattr(subject, "uuid", None)
    return str(value if isinstance(value, UUID) else subject.pk)


def _address(text: str | None) -> str | None:
    """As the database takes it; None for what is no address (a unix socket has none)."""
    try:
        return str(ipaddress.ip_address((text or "").partition("%")[0]))
    except ValueError:
        return None
