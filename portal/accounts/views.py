# SPDX-License-Identifier: GPL-3.0-or-later
"""Signing in and out, and one's own settings."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash, views
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from portal.accounts import presenters
from portal.accounts.models import User
from portal.audit import services as audit


class LoginView(views.LoginView):
    template_name = "accounts/login.html"
    redirect_authenticated_user = True

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_valid(form)
        audit.record("login", actor=form.get_user(), address=self.request.META.get("REMOTE_ADDR"))
        return response

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        audit.record(
            "login.refused",
            actor=None,
            address=self.request.META.get("REMOTE_ADDR"),
            username=str(form.data.get("username", ""))[:150],
        )
        context: dict[str, Any] = self.get_context_data(form=form)
        return render(self.request, self.template_name, context, status=422)


@require_http_methods(["GET", "HEAD", "POST"])
def settings(request: HttpRequest) -> HttpResponse:
    """Who I am here, my teams, and a new password."""
    person = request.user
    assert isinstance(person, User)
    form = PasswordChangeForm(person, request.POST or None)
    # The page is about more than the password: it opens at its top, on a phone without the keyboard.
    form.fields["old_password"].widget.attrs.pop("autofocus", None)
    if request.method == "POST" and form.is_valid():
        form.save()
        update_session_auth_hash(request, person)
        audit.record("password.change", actor=person, subject=person)
        messages.success(request, "Your password was changed.")
        return redirect("accounts:settings")
    memberships = person.memberships.select_related("team")
    grants = person.vm_grants.select_related("vm")
    status = 422 if request.method == "POST" else 200
    roles = presenters.role_rows(memberships, grants)
    context = {"form": form, "roles": roles}
    return render(request, "accounts/settings.html", context, status=status)
