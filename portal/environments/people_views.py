# SPDX-License-Identifier: GPL-3.0-or-later
"""Who of a Manager's users is who here, and what makes an owner. Platform admins only."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from portal import wording
from portal.accounts.models import User
from portal.accounts.roles import Role
from portal.environments import people
from portal.environments.models import Environment, ManagerIdentity, VmPerson
from portal.errors import PortalError

SHOWN = 200
MAX_ROLES = 20


class IdentityForm(forms.Form):
    principal = forms.CharField(
        label="User on the Manager",
        max_length=people.MAX_PRINCIPAL,
        help_text="As the Manager calls it, with its directory: oscar@internal-authz.",
        widget=forms.TextInput(attrs={"list": "principals", "autocomplete": "off", "spellcheck": "false"}),
    )
    username = forms.CharField(
        label="Person here",
        max_length=150,
        help_text="The name that the person signs in with.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )

    def clean_username(self) -> User:
        name = self.cleaned_data["username"].strip()
        found = User.objects.filter(username=name, is_active=True, is_service=False).first()
        if found is None:
            raise ValidationError(f"Nobody here is called {name}.")
        return found


class RulesForm(forms.Form):
    owner_roles = forms.CharField(
        label="Roles that make an owner",
        max_length=1000,
        required=False,
        help_text="Names of roles on the Manager, with commas between them. They count when they were given on the "
        "machine itself, not on its cluster or all of the Manager.",
    )
    owners_get = forms.ChoiceField(
        label="What owners may do here",
        required=False,
        choices=[
            (Role.VIEWER, "Look (viewer)"),
            (Role.OPERATOR, "Look, back up and restore (operator)"),
            (Role.ADMIN, "All of that, and delete restore points (admin)"),
            ("", "Nothing: the Manager's word gives no rights"),
        ],
    )

    ldap_directory = forms.CharField(
        label="Directory of the LDAP sign-in",
        max_length=255,
        required=False,
        help_text="If people sign in here by the LDAP directory that the Manager uses too: its name there, like "
        "corp-authz. They are then known by their login, without a line above.",
    )
    oidc_directory = forms.CharField(
        label="Directory of the company's sign-in",
        max_length=255,
        required=False,
        help_text="The same for OpenID Connect, by the claim preferred_username. Only if people cannot change that "
        "themselves at the provider.",
    )

    def clean_owner_roles(self) -> list[str]:
        names = [name.strip() for name in self.cleaned_data["owner_roles"].split(",") if name.strip()]
        if len(names) > MAX_ROLES:
            raise ValidationError(f"At most {MAX_ROLES} roles.")
        return names


@require_http_methods(["GET", "HEAD", "POST"])
def environment_people(request: HttpRequest, environment_uuid: uuid.UUID) -> HttpResponse:
    """POST with `remove` takes an identity away, with `rules` sets what makes an owner, else adds an identity."""
    actor = request.user
    if not isinstance(actor, User) or not actor.is_platform_admin:
        raise Http404
    found = get_object_or_404(Environment, uuid=environment_uuid)
    identity, rules = IdentityForm(), RulesForm(_rules_now(found))
    if request.method == "POST":
        try:
            if "remove" in request.POST:
                return _remove(request, actor, found)
            if "rules" in request.POST:
                rules = RulesForm(request.POST)
                if rules.is_valid():
                    return _set_rules(request, actor, found, rules)
            else:
                identity = IdentityForm(request.POST)
                if identity.is_valid():
                    return _add(request, actor, found, identity)
        except PortalError as error:
            identity.add_error(None, f"{error.message} {error.hint}".strip())
    context = {"environment": found, "identity": identity, "rules": rules, **_owners(found)}
    status = 422 if request.method == "POST" else 200
    return render(request, "environments/people.html", context, status=status)


def _rules_now(environment: Environment) -> dict[str, str]:
    return {
        "owner_roles": ", ".join(environment.owner_roles),
        "owners_get": environment.owners_get,
        "ldap_directory": environment.ldap_directory,
        "oidc_directory": environment.oidc_directory,
    }


def _again(environment: Environment) -> HttpResponse:
    return redirect("environments:environment_people", environment.uuid)


def _remove(request: HttpRequest, actor: User, environment: Environment) -> HttpResponse:
    wanted = request.POST["remove"]
    rows = environment.identities.select_related("user", "environment")
    identity = get_object_or_404(rows, pk=int(wanted) if wanted.isdecimal() and len(wanted) < 18 else 0)
    people.remove_identity(actor=actor, identity=identity)
    messages.success(
        request, f"{identity.principal} is nobody here any more; rights that came from it are gone."
    )
    return _again(environment)


def _add(request: HttpRequest, actor: User, environment: Environment, form: IdentityForm) -> HttpResponse:
    person: User = form.cleaned_data["username"]
    principal = form.cleaned_data["principal"]
    people.set_identity(actor=actor, environment=environment, principal=principal, user=person)
    owned = people.owners_of(environment).filter(principal=principal.strip(), kind=VmPerson.Kind.USER)
    count = owned.values("vm").distinct().count()
    what = f"{count} machine{'' if count == 1 else 's'}"
    messages.success(request, f"{principal} is {person.display_name}, who owns {what} by the Manager's word.")
    return _again(environment)


def _set_rules(request: HttpRequest, actor: User, environment: Environment, form: RulesForm) -> HttpResponse:
    chosen = form.cleaned_data
    people.set_owner_rules(
        actor=actor,
        environment=environment,
        roles=chosen["owner_roles"],
        owners_get=chosen["owners_get"],
        ldap_directory=chosen["ldap_directory"],
        oidc_directory=chosen["oidc_directory"],
    )
    messages.success(request, "From now on that makes an owner; rights were given and taken at once.")
    return _again(environment)


def _owners(environment: Environment) -> dict[str, Any]:
    """Users and groups that own machines, with how many, and who the users are here."""
    identities = {row.principal: row for row in environment.identities.select_related("user")}
    rows = (
        people.owners_of(environment)
        .values("kind", "principal", "display_name")
        .annotate(machines=Count("vm", distinct=True))
        .order_by("-kind", "principal")
    )
    signed_in = people.identities_by_sign_in(environment)
    by_sign_in = User.objects.in_bulk(set(signed_in.values()))
    owners = [
        {
            **row,
            "identity": _identity(row, identities),
            "by_sign_in": by_sign_in.get(signed_in.get(row["principal"].casefold(), 0))
            if row["kind"] == VmPerson.Kind.USER
            else None,
        }
        for row in rows[:SHOWN]
    ]
    named = {row["principal"] for row in owners}
    idle = [
        {"kind": "user", "principal": name, "display_name": "", "machines": 0, "identity": identity}
        for name, identity in identities.items()
        if name not in named
    ]
    return {
        "owners": owners + idle,
        "more": len(owners) == SHOWN,
        "principals": [
            row["principal"]
            for row in owners
            if row["kind"] == VmPerson.Kind.USER and not (row["identity"] or row["by_sign_in"])
        ],
        "sentence": sentence(environment),
    }


def _identity(row: dict[str, Any], identities: dict[str, ManagerIdentity]) -> ManagerIdentity | None:
    return identities.get(row["principal"]) if row["kind"] == VmPerson.Kind.USER else None


def sentence(environment: Environment) -> str:
    """When the Manager last said who owns what, and what it means if it would not."""
    if environment.people_problem:
        since = (
            f"What it said {wording.ago(environment.people_read_at, timezone.now())} still counts."
            if environment.people_read_at
            else "Nobody has rights here by its word."
        )
        return f"It did not say who owns which machine: {environment.people_problem} {since}"
    if environment.people_read_at is None:
        return "It has not said yet who owns which machine."
    return f"It said {wording.ago(environment.people_read_at, timezone.now())} who owns which machine."
