# SPDX-License-Identifier: GPL-3.0-or-later
"""Teams: the list, one of them with its people, machines and rules."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from backups import quotas
from portal.accounts.models import Team, User
from portal.accounts.roles import Capability, Role
from portal.environments import rules
from portal.environments.models import VirtualMachine
from portal.environments.rules import Draft
from portal.errors import PortalError
from portal.teams import presenters, services
from portal.teams.errors import PreviewChanged
from portal.teams.forms import ApprovalForm, MachineForm, QuotaForm, RoleForm, RuleForm, TeamForm

PAGE_SIZE = 50


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


def _admin(request: HttpRequest) -> User:
    """Pages that do not exist for anybody but platform admins."""
    person = _person(request)
    if not person.is_platform_admin:
        raise Http404
    return person


def _team(request: HttpRequest, team_uuid: uuid.UUID) -> Team:
    return get_object_or_404(Team.objects.visible_to(_person(request)), uuid=team_uuid)


@require_safe
def team_list(request: HttpRequest) -> HttpResponse:
    person = _person(request)
    visible = Team.objects.visible_to(person).values("pk")
    rows = Team.objects.filter(pk__in=visible).annotate(
        people=Count("memberships", distinct=True),
        machines=Count("machine_links", distinct=True),
        rule_count=Count("rules", distinct=True),
    )
    context = {
        "columns": presenters.LIST_COLUMNS,
        "rows": presenters.list_rows(rows),
        "may_add": person.is_platform_admin,
    }
    return render(request, "teams/list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def team_add(request: HttpRequest) -> HttpResponse:
    actor = _admin(request)
    form = TeamForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = services.create_team(actor=actor, name=form.cleaned_data["name"])
        except PortalError as error:
            form.add_error("name", str(error))
        else:
            messages.success(request, f"{made.name} was made. Give it people and machines.")
            return redirect(made)
    status = 422 if request.method == "POST" else 200
    return render(request, "teams/add.html", {"form": form}, status=status)


@require_safe
def team(request: HttpRequest, team_uuid: uuid.UUID) -> HttpResponse:
    return _page(request, _team(request, team_uuid))


def _page(request: HttpRequest, found: Team, *, status: int = 200, **forms: Any) -> HttpResponse:
    person = _person(request)
    links = found.machine_links.select_related("virtualmachine__environment").order_by(
        "virtualmachine__name", "pk"
    )
    page = Paginator(links, PAGE_SIZE).get_page(request.GET.get("page"))
    known = list(found.rules.select_related("environment"))
    memberships = found.memberships.select_related("user").order_by("user__username")
    context: dict[str, Any] = {
        "team": found,
        "people": presenters.people_rows(memberships),
        "machines": presenters.machine_rows(page, known),
        "page": page,
        "rules": known,
        "roles": Role.choices,
        "may_manage": found.allows(person, Capability.MANAGE_PEOPLE),
        "may_rule": person.is_platform_admin,
        "role_form": RoleForm(),
        "rule_form": RuleForm(),
        "machine_form": MachineForm(),
        "quota_form": QuotaForm.of(found),
        "quota_facts": presenters.quota_facts(found, quotas.usage_of(found)),
        "approval_form": ApprovalForm(initial={"approval": found.approval}),
        "name_form": TeamForm(initial={"name": found.name}),
        **forms,
    }
    return render(request, "teams/team.html", context, status=status)


@require_POST
def team_rename(request: HttpRequest, team_uuid: uuid.UUID) -> HttpResponse:
    actor, found = _admin(request), _team(request, team_uuid)
    form = TeamForm(request.POST)
    if form.is_valid():
        try:
            services.rename_team(actor=actor, team=found, name=form.cleaned_data["name"])
        except PortalError as error:
            found.refresh_from_db()
            form.add_error("name", str(error))
        else:
            messages.success(request, f"The team is called {found.name} now.")
            return redirect(found)
    return _page(request, found, status=422, name_form=form)


@require_POST
def team_quotas(request: HttpRequest, team_uuid: uuid.UUID) -> HttpResponse:
    actor, found = _admin(request), _team(request, team_uuid)
    form = QuotaForm(request.POST)
    if not form.is_valid():
        return _page(request, found, status=422, quota_form=form)
    said = form.cleaned_data
    size = None if said["gib"] is None else said["gib"] << 30
    services.set_quotas(
        actor=actor, team=found, points=said["points"], size_bytes=size, restores=said["restores"]
    )
    messages.success(request, "Saved; backups and restores that are ordered from now on follow it.")
    return redirect(found)


@require_POST
def team_approval(request: HttpRequest, team_uuid: uuid.UUID) -> HttpResponse:
    actor, found = _admin(request), _team(request, team_uuid)
    form = ApprovalForm(request.POST)
    if not form.is_valid():
        return _page(request, found, status=422, approval_form=form)
    services.set_approval(actor=actor, team=found, approval=form.cleaned_data["approval"])
    messages.success(request, "Saved; restores that are ordered from now on follow it.")
    return redirect(found)


@require_POST
def set_role(request: HttpRequest, team_uuid: uuid.UUID) -> HttpResponse:
    """For somebody new or already in the team."""
    found = _team(request, team_uuid)
    _require(request, found)
    form = RoleForm(request.POST)
    if form.is_valid():
        role = Role(form.cleaned_data["role"])
        try:
            person = services.person_named(form.cleaned_data["username"])
            services.set_role(actor=_person(request), team=found, person=person, role=role)
        except PortalError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"{person} is {role.label.lower()} of {found} now.")
            return redirect(found)
    return _page(request, found, status=422, role_form=form)


def _require(request: HttpRequest, found: Team) -> None:
    """Before the form is looked at: who may not manage people learns nothing of them. Raises NotAllowed."""
    services.require_people(_person(request), found)


@require_POST
def remove_person(request: HttpRequest, team_uuid: uuid.UUID) -> HttpResponse:
    found = _team(request, team_uuid)
    _require(request, found)
    person = get_object_or_404(found.members, uuid=_uuid(request, "person"))
    services.remove_person(actor=_person(request), team=found, person=person)
    messages.success(request, f"{person} is no longer in {found}.")
    # Who took themselves out no longer sees the team.
    return redirect(
        found if Team.objects.visible_to(_person(request)).filter(pk=found.pk) else "teams:team_list"
    )


def _uuid(request: HttpRequest, name: str) -> uuid.UUID:
    try:
        return uuid.UUID(request.POST.get(name, ""))
    except ValueError as error:
        raise Http404 from error


@require_POST
def add_machine(request: HttpRequest, team_uuid: uuid.UUID) -> HttpResponse:
    actor, found = _admin(request), _team(request, team_uuid)
    form = MachineForm(request.POST)
    if not form.is_valid():
        return _page(request, found, status=422, machine_form=form)
    vm = form.cleaned_data["vm"]
    services.add_machine(actor=actor, team=found, vm=vm)
    messages.success(request, f"{vm} belongs to {found} now.")
    return redirect(found)


@require_POST
def remove_machine(request: HttpRequest, team_uuid: uuid.UUID) -> HttpResponse:
    actor, found = _admin(request), _team(request, team_uuid)
    vm = get_object_or_404(VirtualMachine, uuid=_uuid(request, "vm"))
    services.remove_machine(actor=actor, team=found, vm=vm)
    stays = found.vms.filter(pk=vm.pk).exists()
    told = f"{vm} stays with {found} by a rule." if stays else f"{vm} no longer belongs to {found}."
    messages.success(request, told)
    return redirect(found)


@require_POST
def preview_rules(request: HttpRequest, team_uuid: uuid.UUID) -> HttpResponse:
    """The rules with one more, or with one less (`without`): what would change, before anything does."""
    _admin(request)
    found = _team(request, team_uuid)
    drafts = rules.drafts_of(found)
    if "without" in request.POST:
        rule = get_object_or_404(found.rules, uuid=_uuid(request, "without"))
        drafts.remove(Draft(rule.kind, rule.value, rule.environment_id))
    else:
        form = RuleForm(request.POST)
        if not form.is_valid():
            return _page(request, found, status=422, rule_form=form)
        drafts.append(form.draft())
    return _preview(request, found, drafts)


def _preview(
    request: HttpRequest, found: Team, drafts: Sequence[Draft], *, status: int = 200
) -> HttpResponse:
    shown = services.preview_rules(actor=_person(request), team=found, drafts=drafts)
    context = {
        "team": found,
        "sentence": presenters.preview_sentence(shown),
        "lists": presenters.preview_lists(shown),
        "hash": shown.hash,
        "rules": services.described(drafts),
        "drafts": services.packed(drafts),
    }
    return render(request, "teams/preview.html", context, status=status)


@require_POST
def save_rules(request: HttpRequest, team_uuid: uuid.UUID) -> HttpResponse:
    actor, found = _admin(request), _team(request, team_uuid)
    drafts = services.unpacked(request.POST.get("drafts", ""))
    try:
        services.save_rules(actor=actor, team=found, drafts=drafts, shown=request.POST.get("hash", ""))
    except PreviewChanged as error:
        messages.warning(request, str(error))
        return _preview(request, found, drafts, status=409)
    messages.success(request, f"The rules of {found} were changed.")
    return redirect(found)
