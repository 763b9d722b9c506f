# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has rights on a machine, so that a restored one can have the same people: on the Manager and here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from portal import wording
from portal.environments.models import VirtualMachine, VmGrant

NAMED = 6


@dataclass(frozen=True)
class PlannedPerson:
    """A role that a user or a group has on the original itself, and will have on the new machine."""

    kind: str
    principal_id: str
    label: str
    role_id: str
    role_name: str


@dataclass(frozen=True)
class PlannedRight:
    """A role that a person was given by hand in the portal. One by the Manager's word follows that word."""

    username: str
    role: str


def people_of(vm: VirtualMachine) -> tuple[PlannedPerson, ...]:
    return tuple(
        PlannedPerson(
            kind=row.kind,
            principal_id=str(row.principal_id),
            label=row.label,
            role_id=str(row.role_id),
            role_name=row.role_name,
        )
        for row in vm.people.all()
    )


def rights_of(vm: VirtualMachine) -> tuple[PlannedRight, ...]:
    grants = VmGrant.objects.filter(vm=vm, source=VmGrant.Source.HAND, user__is_active=True)
    return tuple(
        PlannedRight(username, role)
        for username, role in grants.order_by("user__username").values_list("user__username", "role")
    )


def teams_of(vm: VirtualMachine) -> tuple[str, ...]:
    return tuple(vm.teams.order_by("name").values_list("name", flat=True))


def in_words(people: Sequence[PlannedPerson]) -> str:
    """`Oscar Olsen (oscar@corp) as UserVmManager, office@corp as UserRole and 3 others`; of at least one."""
    named = [f"{wording.isolated(person.label)} as {person.role_name}" for person in people]
    if len(named) > NAMED:
        named = [*named[: NAMED - 1], f"{len(named) - NAMED + 1} others"]
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
