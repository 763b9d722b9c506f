# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's own people: what the Manager says of them, who they are here, and the rights that follow.

The portal believes two things together: the Manager names a user (`login@directory`) the owner of a machine, and a
platform admin has said which person of the portal that user is. From both follows a VmGrant, which goes when either
ends. Of a machine that was deleted on the Manager the last known owners stay, so that they can bring it back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from allauth.socialaccount.models import SocialAccount
from django.db import transaction
from django.utils import timezone

from portal.accounts.company import PROVIDER_ID
from portal.accounts.models import GroupRule, KnownGroups, User
from portal.accounts.roles import Role
from portal.audit import services as audit
from portal.environments.models import Environment, ManagerIdentity, VirtualMachine, VmGrant, VmPerson
from portal.errors import NotAllowed, PortalError
from portal.ovirt.people import PersonFacts

MAX_PRINCIPAL = 255
_NAMES = ("kind", "principal", "display_name", "role_name")


class IdentityTaken(PortalError):
    """Another person of the portal is that user already."""


class NotAPrincipal(PortalError):
    """Something that no user of a Manager is called."""


def store_people(environment: Environment, found: Iterable[PersonFacts]) -> None:
    """Make the rows of the machines that are there equal to what the Manager said, and the rights that follow."""
    with transaction.atomic():
        _lock(environment)
        vms = {
            str(manager_id): pk
            for manager_id, pk in environment.vms.present().values_list("manager_id", "pk")
        }
        wanted = {
            (vms[fact.vm_id], fact.principal_id, fact.role_id): fact for fact in found if fact.vm_id in vms
        }
        rows = VmPerson.objects.filter(vm__environment=environment, vm__gone_at=None)
        known = {(row.vm_id, str(row.principal_id), str(row.role_id)): row for row in rows}
        gone = [row.pk for key, row in known.items() if key not in wanted]
        VmPerson.objects.filter(pk__in=gone).delete()
        rows_now = {key: _row(key[0], fact) for key, fact in wanted.items()}
        VmPerson.objects.bulk_create(
            [row for key, row in rows_now.items() if key not in known or _differs(row, known[key])],
            update_conflicts=True,
            unique_fields=["vm", "principal_id", "role_id"],
            update_fields=list(_NAMES),
        )
        Environment.objects.filter(pk=environment.pk).update(people_read_at=timezone.now(), people_problem="")
        grant_owners(environment)


def _row(vm_id: int, fact: PersonFacts) -> VmPerson:
    return VmPerson(
        vm_id=vm_id,
        kind=fact.kind,
        principal_id=fact.principal_id,
        principal=fact.principal[:MAX_PRINCIPAL],
        display_name=fact.display_name[:MAX_PRINCIPAL],
        role_id=fact.role_id,
        role_name=fact.role_name[:MAX_PRINCIPAL],
    )


def _differs(row: VmPerson, known: VmPerson) -> bool:
    return any(getattr(row, name) != getattr(known, name) for name in _NAMES)


def _lock(environment: Environment) -> Environment:
    """One at a time gives and takes the rights of a Manager's owners."""
    return Environment.objects.select_for_update().get(pk=environment.pk)


def people_unread(environment: Environment, error: PortalError) -> None:
    """The Manager did not say who owns what: what was known stays, and the Manager's page says so."""
    Environment.objects.filter(pk=environment.pk).update(people_problem=str(error))


def owners_of(environment: Environment) -> Any:
    """Rows of people whose role makes them owners, users and groups."""
    return VmPerson.objects.filter(vm__environment=environment, role_name__in=environment.owner_roles)


def grant_owners(environment: Environment, *, actor: Any = None, via: str = "schedule") -> None:
    """Give and take the rights of a Manager's owners; safe to repeat. Every change is in the history."""
    with transaction.atomic():
        environment = _lock(environment)
        wanted = _wanted(environment)
        grants = VmGrant.objects.filter(vm__environment=environment, source=VmGrant.Source.MANAGER)
        held = {(grant.vm_id, grant.user_id): grant for grant in grants.select_related("vm", "user")}
        for key, grant in held.items():
            if key not in wanted:
                _take(grant, actor=actor, via=via)
            elif grant.role != environment.owners_get:
                _change(grant, environment.owners_get, actor=actor, via=via)
        missing = {key: name for key, name in wanted.items() if key not in held}
        _give(missing, environment.owners_get, actor=actor, via=via)


def _wanted(environment: Environment) -> dict[tuple[int, int], str]:
    """Who should have the owners' role: (VM, person) with the name on the Manager that says so."""
    if not environment.owners_get:
        return {}
    identities = dict(environment.identities.values_list("principal", "user_id"))
    signed_in = identities_by_sign_in(environment)
    users = owners_of(environment).filter(kind=VmPerson.Kind.USER)
    wanted: dict[tuple[int, int], str] = {}
    for vm_id, principal in users.values_list("vm_id", "principal"):
        # What an admin said counts before what a sign-in says.
        person = identities.get(principal) or signed_in.get(principal.casefold())
        if person is not None:
            wanted[vm_id, person] = principal
    active = set(
        User.objects.filter(pk__in={pk for _, pk in wanted}, is_active=True).values_list("pk", flat=True)
    )
    return {key: principal for key, principal in wanted.items() if key[1] in active}


def identities_by_sign_in(environment: Environment) -> dict[str, int]:
    """`login@directory`, without case, of the people whom the Manager's own directory has vouched for at a sign-in.

    Only where the environment names that directory. A login that two people have is nobody's."""
    found: dict[str, set[int]] = defaultdict(set)
    for directory, logins in ((environment.ldap_directory, _ldap), (environment.oidc_directory, _oidc)):
        for login, person in logins() if directory else ():
            found[f"{login}@{directory}".casefold()].add(person)
    return {principal: people.pop() for principal, people in found.items() if len(people) == 1}


def _ldap() -> Iterable[tuple[str, int]]:
    """Accounts that the directory made are called as it calls them, and it alone signs them in."""
    rows = KnownGroups.objects.filter(source=GroupRule.Source.LDAP)
    return rows.values_list("user__username", "user_id")


def _oidc() -> Iterable[tuple[str, int]]:
    """By the provider's own word: the name here may be another, where that one was taken."""
    rows = SocialAccount.objects.filter(provider=PROVIDER_ID).values_list("extra_data", "user_id")
    for claims, person in rows:
        for part in (claims.get("userinfo"), claims.get("id_token"), claims):
            name = part.get("preferred_username") if isinstance(part, dict) else None
            if isinstance(name, str) and name:
                yield name, person
                break


def person_came_in(person: User) -> None:
    """At a sign-in: who is new here by the Manager's own directory need not wait for the next look at the Manager."""
    for environment in Environment.objects.exclude(ldap_directory="", oidc_directory=""):
        grant_owners(environment, actor=person, via="sign-in")


def _take(grant: VmGrant, *, actor: Any, via: str) -> None:
    before = {"person": grant.user.username, "role": grant.role}
    VmGrant.objects.filter(pk=grant.pk).delete()
    audit.record("owner.take", actor=actor, subject=grant.vm, via=via, before=before, after=None)


def _change(grant: VmGrant, role: str, *, actor: Any, via: str) -> None:
    before = {"person": grant.user.username, "role": grant.role}
    VmGrant.objects.filter(pk=grant.pk).update(role=role)
    audit.record(
        "owner.change", actor=actor, subject=grant.vm, via=via, before=before, after={**before, "role": role}
    )


def _give(missing: dict[tuple[int, int], str], role: str, *, actor: Any, via: str) -> None:
    vms = VirtualMachine.objects.in_bulk({vm_id for vm_id, _ in missing})
    users = User.objects.in_bulk({user_id for _, user_id in missing})
    for (vm_id, user_id), principal in missing.items():
        VmGrant.objects.create(vm=vms[vm_id], user=users[user_id], role=role, source=VmGrant.Source.MANAGER)
        audit.record(
            "owner.give",
            actor=actor,
            subject=vms[vm_id],
            via=via,
            before=None,
            after={"person": users[user_id].username, "role": role, "principal": principal},
        )


def set_identity(
    *, actor: Any, environment: Environment, principal: str, user: User, via: str = "page"
) -> ManagerIdentity:
    """Say which person a user of the Manager is. Platform admins only. Raises NotAllowed, NotAPrincipal, IdentityTaken."""
    _require_admin(actor)
    principal = principal.strip()
    name, _, directory = principal.rpartition("@")
    if not name or not directory or len(principal) > MAX_PRINCIPAL:
        raise NotAPrincipal(
            f"“{principal[:80]}” is not the name of a user on a Manager; nothing was changed.",
            hint="Users there are called login@directory, like oscar@internal-authz.",
        )
    with transaction.atomic():
        identity, created = ManagerIdentity.objects.select_related("user").get_or_create(
            environment=environment, principal=principal, defaults={"user": user}
        )
        if identity.user_id != user.pk:
            raise IdentityTaken(
                f"{principal} is {identity.user.display_name} already; nothing was changed.",
                hint="Take that away first, if it is wrong.",
            )
        if created:
            after = {"principal": principal, "person": user.username}
            audit.record("identity.set", actor=actor, subject=environment, via=via, before=None, after=after)
            grant_owners(environment, actor=actor, via=via)
    return identity


def remove_identity(*, actor: Any, identity: ManagerIdentity, via: str = "page") -> None:
    """The person keeps no right that came from it. Platform admins only. Raises NotAllowed."""
    _require_admin(actor)
    with transaction.atomic():
        before = {"principal": identity.principal, "person": identity.user.username}
        environment = identity.environment
        identity.delete()
        audit.record("identity.remove", actor=actor, subject=environment, via=via, before=before, after=None)
        grant_owners(environment, actor=actor, via=via)


def set_owner_rules(
    *,
    actor: Any,
    environment: Environment,
    roles: list[str],
    owners_get: str,
    ldap_directory: str = "",
    oidc_directory: str = "",
    via: str = "page",
) -> None:
    """Which roles on the Manager make an owner, what owners may do here, and whose sign-in says who they are there.

    Platform admins only."""
    _require_admin(actor)
    if owners_get and owners_get not in Role.values:
        raise PortalError("There is no such role; nothing was changed.")
    with transaction.atomic():
        row = Environment.objects.select_for_update().get(pk=environment.pk)
        after = {
            "owner_roles": sorted(set(roles)),
            "owners_get": owners_get,
            "ldap_directory": ldap_directory,
            "oidc_directory": oidc_directory,
        }
        before = {name: getattr(row, name) for name in after}
        if before == after:
            return
        Environment.objects.filter(pk=environment.pk).update(**after)
        audit.record(
            "environment.change", actor=actor, subject=environment, via=via, before=before, after=after
        )
        grant_owners(environment, actor=actor, via=via)


def _require_admin(actor: Any) -> None:
    if not actor.is_platform_admin:
        raise NotAllowed("Only a platform admin may say who owns which machines.")
