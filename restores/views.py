# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore in two screens: what and where with its plan, then the running job."""

from __future__ import annotations

import uuid

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from backups.models import RestorePoint
from portal.accounts.models import User
from portal.errors import PortalError
from restores import access, presenters, services
from restores.forms import NewVmForm
from restores.plans import RestorePlan, plan_new_vm


@require_http_methods(["GET", "HEAD", "POST"])
def restore(request: HttpRequest, point_uuid: uuid.UUID) -> HttpResponse:
    """GET shows choices and their plan (all in the URL); POST starts the plan whose hash it carries.

    A POST with `look` only moves the choices into the URL: how the plan is refreshed without JavaScript.
    """
    person = request.user
    assert isinstance(person, User)
    rows = RestorePoint.objects.visible_to(person).kept().select_related("vm__environment", "repository")
    point = get_object_or_404(rows, uuid=point_uuid)
    access.require_restore(person, point)
    if request.method == "POST" and "look" in request.POST:
        return redirect(f"{request.path}?{_choices(request.POST)}")
    form = NewVmForm(point, request.POST if request.method == "POST" else request.GET)
    plan = _plan(point, form)
    error: PortalError | None = None
    if request.method == "POST" and plan is not None:
        try:
            started = services.start_restore(
                actor=person,
                point=point,
                plan=plan,
                plan_hash=request.POST.get("plan_hash", ""),
                ticket=request.POST.get("ticket", "")[:100],
                reason=request.POST.get("reason", ""),
            )
            return redirect(started.job)
        except PortalError as problem:
            error = problem
    context = {
        "point": point,
        "vm": point.vm,
        "form": form,
        "plan": plan,
        "plan_words": presenters.plan_words(plan, point) if plan else None,
        "form_blockers": presenters.form_blockers(form),
        "folded": person.is_here_for_machines_alone and form.is_as_proposed(plan),
        "error": error,
        "ticket": request.POST.get("ticket", request.GET.get("ticket", "")),
        "reason": request.POST.get("reason", request.GET.get("reason", "")),
    }
    template = "restores/_plan.html" if _wants_plan_only(request) else "restores/restore.html"
    return render(request, template, context, status=422 if request.method == "POST" else 200)


def _choices(posted: QueryDict) -> str:
    """The query string that reproduces what was chosen."""
    kept = posted.copy()
    for name in ("csrfmiddlewaretoken", "plan_hash", "look"):
        kept.pop(name, None)
    return kept.urlencode()


def _plan(point: RestorePoint, form: NewVmForm) -> RestorePlan | None:
    if not form.is_valid():
        return None
    chosen = form.cleaned_data
    return plan_new_vm(
        point,
        name=chosen["name"],
        cluster_id=chosen["cluster"],
        storage_domain_id=chosen["storage_domain"],
        network_plugged=chosen["network"] == "plugged",
        new_macs=chosen["macs"] == "new",
        same_people=chosen["people"] == "same",
    )


def _wants_plan_only(request: HttpRequest) -> bool:
    return request.method == "GET" and request.headers.get("HX-Target") == "plan"
