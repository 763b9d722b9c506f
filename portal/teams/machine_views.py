# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may reach one machine, and roles on it alone."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from portal.accounts.models import Team, User
from portal.accounts.presenters import may
from portal.accounts.roles import Role
from portal.environments.models import VirtualMachine, VmGrant
from portal.errors import PortalError
from portal.teams import services
from portal.teams.forms import RoleForm


def _machine(request: HttpRequest, vm_uuid: uuid.UUID) -> tuple[User, VirtualMachine]:
    assert isinstance(request.user, User)
    person = request.user
    vm = get_object_or_404(VirtualMachine.objects.visible_to(person), uuid=vm_uuid)
    services.require_people_of(person, vm)
    return person, vm


@require_http_methods(["GET", "HEAD", "POST"])
def people(request: HttpRequest, vm_uuid: uuid.UUID) -> HttpResponse:
    """Teams, and people with a role on this machine alone; posting gives or changes such a role."""
    actor, vm = _machine(request, vm_uuid)
    form = RoleForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        role = Role(form.cleaned_data["role"])
        try:
            person = services.person_named(form.cleaned_data["username"])
            services.grant(actor=actor, vm=vm, person=person, role=role)
        except PortalError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"{person} is {role.label.lower()} of {vm} now.")
            return redirect("teams:machine_people", vm.uuid)
    visible = Team.objects.visible_to(actor).filter(vms=vm)
    grants = [
        {
            "person": grant.user,
            "role": grant.get_role_display(),
            "text": f"May {may(grant.role)}.",
            "by_hand": grant.source == VmGrant.Source.HAND,
        }
        for grant in vm.grants.select_related("user").order_by("user__username")
    ]
    context = {"vm": vm, "teams": visible, "grants": grants, "form": form}
    return render(
        request, "teams/machine_people.html", context, status=422 if request.method == "POST" else 200
    )


@require_POST
def revoke(request: HttpRequest, vm_uuid: uuid.UUID) -> HttpResponse:
    actor, vm = _machine(request, vm_uuid)
    try:
        person = get_object_or_404(
            User,
            vm_grants__vm=vm,
            vm_grants__source=VmGrant.Source.HAND,
            uuid=uuid.UUID(request.POST.get("person", "")),
        )
    except ValueError as error:
        raise Http404 from error
    services.revoke(actor=actor, vm=vm, person=person)
    messages.success(request, f"{person} has no role on {vm} alone any more.")
    seen = VirtualMachine.objects.visible_to(actor).filter(pk=vm.pk)
    return redirect("teams:machine_people", vm.uuid) if seen else redirect("environments:vm_list")
