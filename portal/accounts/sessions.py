# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a person is signed in, and ending it. allauth keeps the list, Django the sessions."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from allauth.account.adapter import get_adapter
from allauth.usersessions.models import UserSession
from django.contrib.auth import update_session_auth_hash
from django.contrib.sessions.models import Session
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from portal.accounts.agents import described
from portal.accounts.models import User
from portal.audit import services as audit

# Seconds. Written down no more often, so that looking at pages costs no write each time.
SEEN_EVERY = 60


class LastSeenMiddleware:
    """Keeps the list of sessions: new ones, and when and from where each was seen last."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.session.session_key and request.user.is_authenticated:
            now = int(time.time())
            if now - request.session.get("seen_at", 0) >= SEEN_EVERY:
                request.session["seen_at"] = now
                UserSession.objects.create_from_request(request)
        return self.get_response(request)


@dataclass(frozen=True)
class SessionRow:
    id: int
    device: str
    address: str
    began_at: dt.datetime
    seen_at: dt.datetime
    current: bool


def rows_of(request: HttpRequest) -> list[SessionRow]:
    """The sessions of this request's person, this one first, then by when they were seen."""
    theirs = UserSession.objects.filter(user=request.user).order_by("-last_seen_at")
    found = list(theirs)
    alive = set(
        Session.objects.filter(
            session_key__in=[session.session_key for session in found], expire_date__gt=timezone.now()
        ).values_list("session_key", flat=True)
    )
    theirs.filter(pk__in=[session.pk for session in found if session.session_key not in alive]).delete()
    rows = [_row(session, request) for session in found if session.session_key in alive]
    return sorted(rows, key=lambda row: not row.current)


def _row(session: UserSession, request: HttpRequest) -> SessionRow:
    return SessionRow(
        id=session.pk,
        device=described(session.user_agent),
        address=session.ip,
        began_at=session.created_at,
        seen_at=session.last_seen_at,
        current=session.session_key == request.session.session_key,
    )


def renew(request: HttpRequest, person: User) -> None:
    """Keeps this session through a new password, under a new key."""
    before = request.session.session_key
    update_session_auth_hash(request, person)
    UserSession.objects.filter(session_key=before).update(session_key=request.session.session_key)


def end_one(session: UserSession, *, actor: User, address: str) -> None:
    """That browser is signed out at its next request."""
    _end([session])
    audit.record(
        "session.end",
        actor=actor,
        subject=session.user,
        address=address,
        device=described(session.user_agent),
        of_address=session.ip,
    )


def end_others(request: HttpRequest) -> int:
    """Signs this request's person out everywhere else; returns in how many places."""
    assert isinstance(request.user, User)
    others = UserSession.objects.filter(user=request.user).exclude(session_key=request.session.session_key)
    count = _end(others)
    if count:
        audit.record(
            "session.end_others",
            actor=request.user,
            subject=request.user,
            address=get_adapter(request).get_client_ip(request),
            count=count,
        )
    return count


def end_all(person: User, *, actor: User | None, address: str | None = None) -> int:
    """Signs a person out everywhere; returns in how many places."""
    count = _end(UserSession.objects.filter(user=person))
    if count:
        audit.record("session.end_all", actor=actor, subject=person, address=address, count=count)
    return count


def _end(sessions: Iterable[UserSession]) -> int:
    keys = [session.session_key for session in sessions]
    Session.objects.filter(session_key__in=keys).delete()
    UserSession.objects.filter(session_key__in=keys).delete()
    return len(keys)
