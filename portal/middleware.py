# SPDX-License-Identifier: GPL-3.0-or-later
"""Request ids, the content security policy, and PortalError told as a page or a fragment."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable
from typing import Any

from allauth.account.adapter import get_adapter
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from portal import logs
from portal.errors import PortalError

log = logging.getLogger(__name__)

GetResponse = Callable[[HttpRequest], HttpResponse]
_SAFE_ID = re.compile(r"[0-9A-Za-z_-]{8,36}")
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "manifest-src 'self'",
    ]
)


class RequestIdMiddleware:
    """Takes a well-formed X-Request-Id or makes one; it stands in logs, audit rows, errors and the answer."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-Id", "")
        current = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex[:16]
        request.request_id = current  # type: ignore[attr-defined]
        token = logs.request_id.set(current)
        from_where = logs.address.set(_address(request))
        try:
            response = self.get_response(request)
        finally:
            logs.request_id.reset(token)
            logs.address.reset(from_where)
        response["X-Request-Id"] = current
        return response


def _address(request: HttpRequest) -> str:
    """Of whoever asks, behind as many proxies as PORTAL_TRUSTED_PROXIES says; empty if it cannot be told."""
    try:
        return str(get_adapter(request).get_client_ip(request))
    except PermissionDenied:
        return ""


class ContentSecurityPolicyMiddleware:
    """Nothing from elsewhere, nothing inline: a VM name can never become a script."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", _POLICY)
        return response


class PlainTextMiddleware:
    """Answers 400 to parameters with a NUL character, which PostgreSQL cannot store or look for."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_: Any) -> None:
        for given in (request.GET, request.POST):
            if any("\0" in text for _, values in given.lists() for text in values):
                raise SuspiciousOperation("A parameter holds a NUL character.")


class PortalErrorMiddleware:
    """A PortalError raised by a view becomes the error component, on a page of its own or as a fragment."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, PortalError):
            return None
        log.info("%s: %s", error.code, error.message)
        template = "components/_error.html" if request.headers.get("HX-Request") else "error.html"
        context = {
            "error": error,
            "title": "This could not be done",
            "message": error.message,
            "hint": error.hint,
            "reference": getattr(request, "request_id", ""),
        }
        return render(request, template, context, status=error.status)
