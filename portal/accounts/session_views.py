# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of one's own sessions."""

from __future__ import annotations

from allauth.account.adapter import get_adapter
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from portal.accounts import sessions
from portal.accounts.agents import described
from portal.accounts.models import User


@require_safe
def session_list(request: HttpRequest) -> HttpResponse:
    return render(request, "accounts/sessions.html", {"rows": sessions.rows_of(request)})


@require_POST
def session_end(request: HttpRequest, pk: int) -> HttpResponse:
    person = request.user
    assert isinstance(person, User)
    session = get_object_or_404(UserSession, user=person, pk=pk)
    here = session.session_key == request.session.session_key
    sessions.end_one(session, actor=person, address=get_adapter(request).get_client_ip(request))
    if here:
        logout(request)
        return redirect("accounts:login")
    messages.success(request, f"{described(session.user_agent)} was signed out.")
    return redirect("accounts:session_list")


@require_POST
def session_end_others(request: HttpRequest) -> HttpResponse:
    count = sessions.end_others(request)
    messages.success(request, f"You were signed out in {count} other place{'' if count == 1 else 's'}.")
    return redirect("accounts:session_list")


@require_POST
def session_end_all(request: HttpRequest) -> HttpResponse:
    person = request.user
    assert isinstance(person, User)
    sessions.end_all(person, actor=person, address=get_adapter(request).get_client_ip(request))
    logout(request)
    return redirect("accounts:login")
