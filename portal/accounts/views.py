# SPDX-License-Identifier: GPL-3.0-or-later
"""Signing in and out, and one's own settings."""

from __future__ import annotations

import math
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.views import LoginView
from django.conf import settings as conf
from django.contrib import messages
from django.contrib.auth.views import LogoutView
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from portal.accounts import presenters, sessions
from portal.accounts.company import PROVIDER_ID
from portal.accounts.forms import NewPasswordForm, SignInForm
from portal.accounts.models import User
from portal.accounts.roles import Role
from portal.audit import services as audit


class SignInView(LoginView):
    """Name and password. What was wrong is written down; of what a limit refuses only the first of its window."""

    template_name = "accounts/login.html"
    form_class = SignInForm

    def form_invalid(self, form: SignInForm) -> HttpResponse:
        refusal = form.refusal
        if refusal is None or refusal.first:
            limit: dict[str, Any] = {"limit": refusal.limit} if refusal else {}
            audit.record(
                "login.refused",
                actor=None,
                address=get_adapter(self.request).get_client_ip(self.request),
                username=str(form.data.get("username", ""))[:150],
                **limit,
            )
        response = render(
            self.request,
            self.template_name,
            self.get_context_data(form=form),
            status=429 if refusal else 422,
        )
        if refusal:
            response["Retry-After"] = str(max(1, math.ceil(refusal.wait.total_seconds())))
        return response

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)
        if conf.OIDC_URL:
            url = reverse("openid_connect_login", args=[PROVIDER_ID])
            context["company_url"] = self.passthrough_next_url(url)
            context["company_name"] = conf.OIDC_NAME
        return context


class SignOutView(LogoutView):
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.user.is_authenticated:
            audit.record("logout", actor=request.user, address=get_adapter().get_client_ip(request))
        return super().post(request, *args, **kwargs)


def too_many(request: HttpRequest) -> HttpResponse:
    """Answers where one of allauth's own limits refuses; written down once a minute for each address and page."""
    address = get_adapter(request).get_client_ip(request)
    if cache.add(f"portal.too_many:{address}:{request.path}", 1, timeout=60):
        limit = "passkey" if request.path == reverse("mfa_login_webauthn") else "confirm"
        actor = request.user if request.user.is_authenticated else None
        audit.record("login.refused", actor=actor, address=address, limit=limit)
    return render(request, "429.html", status=429)


@require_http_methods(["GET", "HEAD", "POST"])
def settings(request: HttpRequest) -> HttpResponse:
    """Who I am here, my teams, and a new password."""
    person = request.user
    assert isinstance(person, User)
    form = NewPasswordForm(person, request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        sessions.renew(request, person)
        audit.record("password.change", actor=person, subject=person)
        sessions.end_others(request)
        messages.success(request, "Your password was changed. You were signed out everywhere else.")
        return redirect("accounts:settings")
    memberships = person.memberships.select_related("team")
    grants = person.vm_grants.select_related("vm")
    status = 422 if request.method == "POST" else 200
    roles = presenters.role_rows(memberships, grants)
    leads_a_team = any(row.role == Role.ADMIN for row in memberships)
    context = {"form": form, "roles": roles, "leads_a_team": leads_a_team}
    return render(request, "accounts/settings.html", context, status=status)
