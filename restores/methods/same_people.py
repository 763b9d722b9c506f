# SPDX-License-Identifier: GPL-3.0-or-later
"""The last step of a restore to a new machine: the same people have the same rights on it, on the Manager and here.

All of it is safe to repeat: the Manager answers a role that is held already with what is there. A right that cannot
be given is a warning; the machine is whole and proven, and is never taken away for that.
"""

from __future__ import annotations

from typing import Any

import ovirtsdk4 as sdk
from django.db import transaction

from portal.accounts.models import User
from portal.audit import services as audit
from portal.environments.models import VirtualMachine, VmGrant, VmPerson
from portal.environments.people import grant_owners
from portal.environments.services import store_machine
from portal.jobs.context import JobContext
from portal.ovirt.errors import ManagerError
from portal.ovirt.inventory import read_machine
from portal.ovirt.people import MayNotGiveRights, PrincipalGone, give_role
from restores.models import Restore
from restores.people import PlannedPerson, PlannedRight, in_words


class SamePeople:
    """Of one restore that was agreed to with `same_people`; who lost a right on the original since gets none."""

    def __init__(self, context: JobContext, restore: Restore, connection: sdk.Connection, vm_id: str) -> None:
        self._context = context
        self._connection = connection
        self._vm_id = vm_id
        self._name = restore.target_name
        self._plan: dict[str, Any] = restore.plan
        self._original: VirtualMachine = restore.point.vm

    def give(self) -> None:
        """Raises what the next attempt can do better; else warns and goes on."""
        given = self._on_manager([PlannedPerson(**person) for person in self._plan["people"]])
        try:
            self._here(given)
        except ManagerError as error:
            if self._context.will_try_again(error):
                raise
            self._context.warn(
                f"{self._name} could not be listed here at once: {error.message} It appears with the next look at the "
                "Manager; an administrator must then give its teams and people their rights in the portal."
            )

    # --- on the Manager -----------------------------------------------------------------------------

    def _on_manager(self, people: list[PlannedPerson]) -> list[PlannedPerson]:
        """Those who have their role on the new machine now. What was done is remembered after each."""
        done: dict[str, bool] = dict(self._context.memory.get("people") or {})
        still = self._still_held()
        for number, person in enumerate(people):
            key = _key(person)
            if key in done:
                continue
            self._context.check()
            if key not in still:
                self._context.tell(f"{person.label} no longer has {person.role_name} on the original.")
                done[key] = False
            else:
                try:
                    done[key] = self._give(person)
                except MayNotGiveRights:
                    self._lacks_the_right(people[number:])
                    done |= {_key(each): False for each in people[number:]}
            self._context.remember(people=done)
        return [person for person in people if done.get(_key(person))]

    def _still_held(self) -> set[str]:
        rows = self._original.people.values_list("principal_id", "role_id")
        return {f"{principal_id} {role_id}" for principal_id, role_id in rows}

    def _give(self, person: PlannedPerson) -> bool:
        try:
            give_role(
                self._connection,
                self._vm_id,
                kind=person.kind,
                principal_id=person.principal_id,
                role_id=person.role_id,
            )
        except PrincipalGone:
            self._context.warn(
                f"The Manager does not know {person.label} any more, so {self._name} came back without that {person.kind}."
            )
            return False
        except ManagerError as error:
            if self._context.will_try_again(error):
                raise
            self._context.warn(
                f"{person.label} did not get the role {person.role_name} on {self._name}: {error.message} "
                "Give it by hand on the Manager."
            )
            return False
        return True

    def _lacks_the_right(self, people: list[PlannedPerson]) -> None:
        environment = self._original.environment
        self._context.warn(
            f"The portal's account {environment.username} may not manage permissions on {environment.name}, so these "
            f"people have no rights on {self._name} there: {in_words(people)}. Give them by hand on the Manager, or "
            "give the account the permit MANIPULATE_PERMISSIONS (a SuperUser has it) for the next time."
        )

    # --- in the portal --------------------------------------------------------------------------------

    def _here(self, given: list[PlannedPerson]) -> None:
        """The machine is listed at once, in the same teams and with the same grants; owners by the Manager's word get
        theirs from what was given there."""
        environment = self._original.environment
        facts = read_machine(self._connection, environment.clusters, self._vm_id)
        with transaction.atomic():
            vm = store_machine(environment, facts)
            teams = self._original.teams.filter(name__in=self._plan["teams"]).exclude(vms=vm)
            joined = list(teams.order_by("name"))
            vm.teams.add(*joined)
            rights = self._give_rights(vm)
            self._store(vm, given)
            if joined or rights:
                audit.record(
                    "restore.same_people",
                    actor=self._context.job.requested_by,
                    subject=vm,
                    via=self._context.job.via,
                    job=str(self._context.job.uuid),
                    before=None,
                    after={"teams": [team.name for team in joined], "rights": rights},
                )
            grant_owners(environment, actor=self._context.job.requested_by, via=self._context.job.via)

    def _store(self, vm: VirtualMachine, given: list[PlannedPerson]) -> None:
        """What the next look at the Manager will find anyway: owners need not wait for it."""
        keys = {_key(person) for person in given}
        rows = [row for row in self._original.people.all() if f"{row.principal_id} {row.role_id}" in keys]
        VmPerson.objects.bulk_create(
            [
                VmPerson(
                    vm=vm,
                    kind=row.kind,
                    principal_id=row.principal_id,
                    principal=row.principal,
                    display_name=row.display_name,
                    role_id=row.role_id,
                    role_name=row.role_name,
                )
                for row in rows
            ],
            ignore_conflicts=True,
        )

    def _give_rights(self, vm: VirtualMachine) -> dict[str, str]:
        """Roles given by hand that are new on the machine, by user name."""
        planned = {PlannedRight(**right) for right in self._plan["rights"]}
        given = {}
        held = VmGrant.objects.filter(
            vm=self._original, source=VmGrant.Source.HAND, user__in=User.objects.filter(is_active=True)
        )
        for grant in held.select_related("user"):
            if PlannedRight(grant.user.username, grant.role) not in planned:
                continue
            _, is_new = VmGrant.objects.get_or_create(
                vm=vm, user=grant.user, source=VmGrant.Source.HAND, defaults={"role": grant.role}
            )
            if is_new:
                given[grant.user.username] = grant.role
        return given


def _key(person: PlannedPerson) -> str:
    return f"{person.principal_id} {person.role_id}"
