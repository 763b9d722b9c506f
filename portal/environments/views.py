# SPDX-License-Identifier: GPL-3.0-or-later
"""Managers: the list, one of them, adding and refreshing. Platform admins only."""

from __future__ import annotations

import uuid

from celery import current_app
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from kombu.exceptions import OperationalError

from portal.accounts.models import User
from portal.audit import services as audit
from portal.environments import presenters, services
from portal.environments.forms import EnvironmentForm
from portal.environments.models import Environment
from portal.environments.people_views import sentence as people_sentence
from portal.errors import PortalError

PAGE_SIZE = 50


def _admin(request: HttpRequest) -> User:
    """Managers do not exist for others."""
    if not isinstance(request.user, User) or not request.user.is_platform_admin:
        raise Http404
    return request.user


@require_safe
def environment_list(request: HttpRequest) -> HttpResponse:
    _admin(request)
    rows = Environment.objects.annotate(vm_count=Count("vms", filter=Q(vms__gone_at=None)))
    context = {"columns": presenters.LIST_COLUMNS, "rows": presenters.list_rows(rows)}
    return render(request, "environments/list.html", context)


@require_safe
def environment(request: HttpRequest, environment_uuid: uuid.UUID) -> HttpResponse:
    _admin(request)
    found = get_object_or_404(Environment, uuid=environment_uuid)
    vms = found.vms.present().prefetch_related("disks")
    page = Paginator(vms, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "environment": found,
        "state": presenters.reachability(found),
        "sentence": presenters.sentence(found, page.paginator.count),
        "facts": presenters.facts(found),
        "people_sentence": people_sentence(found),
        "cluster_columns": presenters.CLUSTER_COLUMNS,
        "cluster_rows": presenters.cluster_rows(found),
        "domain_columns": presenters.DOMAIN_COLUMNS,
        "domain_rows": presenters.domain_rows(found),
        "vm_columns": presenters.VM_COLUMNS,
        "vm_rows": presenters.vm_rows(list(page)),
        "page": page,
    }
    return render(request, "environments/environment.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def environment_add(request: HttpRequest) -> HttpResponse:
    actor = _admin(request)
    form = EnvironmentForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            found = services.add_environment(actor=actor, **form.cleaned_data)
        except PortalError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"{found.name} was added with {found.vms.count()} machines.")
            return redirect("environments:environment", found.uuid)
    status = 422 if request.method == "POST" else 200
    return render(request, "environments/add.html", {"form": form}, status=status)


@require_POST
def environment_refresh(request: HttpRequest, environment_uuid: uuid.UUID) -> HttpResponse:
    """Asks a worker; the page shows what is known until then."""
    _admin(request)
    found = get_object_or_404(Environment, uuid=environment_uuid)
    audit.record("environment.refresh", actor=request.user, subject=found)
    try:
        current_app.send_task("environments.refresh", args=[found.pk], expires=300)
        messages.info(request, f"Asking {found.name} for its machines; this page shows them in a moment.")
    except (OperationalError, OSError):
        messages.warning(
            request, "The broker could not be reached; the next regular refresh will come anyway."
        )
    return redirect("environments:environment", found.uuid)


@require_POST
def environment_snapshots(request: HttpRequest, environment_uuid: uuid.UUID) -> HttpResponse:
    """With or without the Manager's automatic snapshots."""
    actor = _admin(request)
    found = get_object_or_404(Environment, uuid=environment_uuid)
    legacy = request.POST.get("legacy") == "yes"
    services.set_legacy_backups(actor=actor, environment=found, legacy=legacy)
    way = "without snapshots" if legacy else "with the Manager's snapshots, where it takes any"
    messages.success(request, f"From now on machines of {found.name} are backed up {way}.")
    return redirect("environments:environment", found.uuid)
