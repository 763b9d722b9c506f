# SPDX-License-Identifier: GPL-3.0-or-later
"""Refusals, recorded in the one place that every answer passes: 403, 401 of the API, and 404 where the thing is there
but not for this person.

Whoever tries a thousand doors must not write a thousand entries: the same refusal again within WINDOW seconds, and
more than PER_WINDOW different ones of one person (or address), are only counted; the next entry says how many.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from functools import cache
from typing import Any
from uuid import UUID

from django.apps import apps
from django.core.cache import cache as shared
from django.db import DatabaseError, models
from django.http import HttpRequest, HttpResponse

from portal import logs
from portal.audit import services as audit

log = logging.getLogger(__name__)

WINDOW = 60
PER_WINDOW = 30
LONGEST_PATH = 300


class RefusalMiddleware:
    """Behind the one that knows who asks; in front of all that may refuse."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.status_code in (401, 403, 404):
            try:
                _note(request, response.status_code)
            except DatabaseError:
                log.exception("A refusal could not be recorded.")
        return response


def _note(request: HttpRequest, status: int) -> None:
    match = request.resolver_match
    person = getattr(request, "user", None)
    known = bool(getattr(person, "is_authenticated", False))
    if match is None or (status == 404 and not known):
        return
    wanted = [value for value in match.kwargs.values() if isinstance(value, UUID)]
    subject = next((found for found in map(_object, wanted) if found is not None), None)
    if status == 404 and match.kwargs and subject is None:
        return  # there is no such thing for anybody
    who = str(person.pk) if person is not None and known else logs.address.get()
    what = f"{status} {request.method} {match.view_name} {subject.pk if subject is not None else ''}"
    admitted, unrecorded = _admit(who, what)
    if not admitted:
        return
    more: dict[str, Any] = {"unrecorded_before": unrecorded} if unrecorded else {}
    audit.record(
        "refused",
        actor=person,
        subject=subject,
        via="api" if "api" in match.namespaces else "page",
        status=status,
        method=request.method,
        route=match.view_name,
        path=request.path[:LONGEST_PATH],
        **more,
    )


def _object(wanted: UUID) -> models.Model | None:
    """Whatever has this uuid."""
    for model in _with_uuid():
        found: models.Model | None = model._default_manager.filter(uuid=wanted).first()
        if found is not None:
            return found
    return None


@cache
def _with_uuid() -> tuple[Any, ...]:
    """Models that addresses name by uuid: the portal's own, with a unique column of that name."""
    return tuple(
        model
        for model in apps.get_models()
        if any(field.name == "uuid" and field.unique for field in model._meta.concrete_fields)
    )


def _window() -> int:
    """Number of the window that it is now."""
    return int(time.time() // WINDOW)


def _admit(who: str, what: str) -> tuple[bool, int]:
    """Whether this one is recorded, and how many were not since the last one that was."""
    person = hashlib.sha256(who.encode()).hexdigest()[:32]
    refusal = hashlib.sha256(what.encode()).hexdigest()[:32]
    left_out, count = f"audit-left:{person}", f"audit-count:{person}:{_window()}"
    try:
        shared.add(left_out, 0, 24 * 3600)
        shared.add(count, 0, 2 * WINDOW)
        if not shared.add(f"audit-same:{person}:{refusal}", 1, WINDOW) or shared.incr(count) > PER_WINDOW:
            shared.incr(left_out)
            return False, 0
        unrecorded = int(shared.get(left_out) or 0)
        if unrecorded:
            shared.decr(left_out, unrecorded)
    except Exception:
        # The cache is away (each backend has errors of its own), or has dropped a key between two calls.
        log.warning("Refusals cannot be counted; this one is recorded.", exc_info=True)
        return True, 0
    return True, unrecorded
