# SPDX-License-Identifier: GPL-3.0-or-later
"""One's own tokens; for platform admins service accounts and theirs. A token's text is shown once."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.db.models import Count, Max, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from portal.accounts.models import User
from portal.api import services, tokens
from portal.api import token_presenters as presenters
from portal.api.forms import ServiceForm, TokenForm
from portal.api.models import ApiToken
from portal.paging import Order, list_page

BY_NAME = Order(("username", "id"), descending=False)


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


def _admin(request: HttpRequest) -> User:
    """Service accounts do not exist for others."""
    if not _person(request).is_platform_admin:
        raise Http404
    return _person(request)


def _service(request: HttpRequest, service_uuid: uuid.UUID) -> User:
    _admin(request)
    return get_object_or_404(User, is_service=True, uuid=service_uuid)


def _token(request: HttpRequest, token_uuid: uuid.UUID) -> ApiToken:
    mine = ApiToken.objects.steerable_by(_person(request)).select_related("user", "team")
    return get_object_or_404(mine, uuid=token_uuid)


@require_safe
def token_list(request: HttpRequest) -> HttpResponse:
    page = list_page(_person(request).api_tokens.select_related("team"), request.GET, "token")
    context = {"columns": presenters.COLUMNS, "rows": presenters.rows(page.rows), "page": page}
    return render(request, "api/token_list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def token_add(request: HttpRequest) -> HttpResponse:
    return _add(request, _person(request))


@require_http_methods(["GET", "HEAD", "POST"])
def service_token_add(request: HttpRequest, service_uuid: uuid.UUID) -> HttpResponse:
    return _add(request, _service(request, service_uuid))


def _add(request: HttpRequest, owner: User) -> HttpResponse:
    form = TokenForm(request.POST or None, owner=owner)
    if request.method == "POST" and form.is_valid():
        token, text = tokens.create_token(actor=_person(request), owner=owner, **form.wishes())
        context = {"token": token, "text": text, "try": _trial(request)}
        response = render(request, "api/token_made.html", context, status=201)
        response["Cache-Control"] = "no-store"
        return response
    status = 422 if request.method == "POST" else 200
    return render(request, "api/token_add.html", {"form": form, "owner": owner}, status=status)


def _trial(request: HttpRequest) -> str:
    address = request.build_absolute_uri("/api/v1/vms")
    # By a pipe, since other people of the machine read each other's command lines.
    return f"read -rs TOKEN && printf 'Authorization: Bearer %s' \"$TOKEN\" | curl -fsS -H @- {address}"


@require_safe
def token(request: HttpRequest, token_uuid: uuid.UUID) -> HttpResponse:
    found = _token(request, token_uuid)
    status, label = presenters.badge(found)
    context = {"token": found, "facts": presenters.facts(found), "status": status, "label": label}
    return render(request, "api/token.html", context)


@require_POST
def token_revoke(request: HttpRequest, token_uuid: uuid.UUID) -> HttpResponse:
    found = _token(request, token_uuid)
    tokens.revoke_token(actor=_person(request), token=found)
    messages.success(request, f"{found.name} was revoked: it is refused from now on.")
    return redirect(found)


@require_safe
def service_list(request: HttpRequest) -> HttpResponse:
    _admin(request)
    now = timezone.now()
    live = Q(api_tokens__revoked_at=None) & (
        Q(api_tokens__expires_at=None) | Q(api_tokens__expires_at__gt=now)
    )
    rows = User.objects.filter(is_service=True).annotate(
        live_tokens=Count("api_tokens", filter=live & Q(api_tokens__isnull=False)),
        last_used=Max("api_tokens__last_used_at"),
    )
    page = list_page(rows, request.GET, "service account", order=BY_NAME)
    context = {
        "columns": presenters.SERVICE_COLUMNS,
        "rows": presenters.service_rows(page.rows),
        "page": page,
    }
    return render(request, "api/service_list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def service_add(request: HttpRequest) -> HttpResponse:
    person = _admin(request)
    form = ServiceForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        made = services.create_service_account(actor=person, **form.cleaned_data)
        messages.success(request, f"{made.username} was made. Make its first token now.")
        return redirect("tokens:service", made.uuid)
    status = 422 if request.method == "POST" else 200
    return render(request, "api/service_add.html", {"form": form}, status=status)


@require_safe
def service(request: HttpRequest, service_uuid: uuid.UUID) -> HttpResponse:
    found = _service(request, service_uuid)
    page = list_page(found.api_tokens.select_related("team"), request.GET, "token")
    context = {
        "service": found,
        "memberships": list(found.memberships.select_related("team")),
        "state": presenters.on_or_off(found),
        "columns": presenters.COLUMNS,
        "rows": presenters.rows(page.rows),
        "page": page,
    }
    return render(request, "api/service.html", context)


@require_POST
def service_switch(request: HttpRequest, service_uuid: uuid.UUID) -> HttpResponse:
    found = _service(request, service_uuid)
    active = request.POST.get("active") == "yes"
    services.switch_service_account(actor=_admin(request), service=found, active=active)
    text = "is on." if active else "is off: its tokens are refused."
    messages.success(request, f"{found.username} {text}")
    return redirect(reverse("tokens:service", args=[found.uuid]))
