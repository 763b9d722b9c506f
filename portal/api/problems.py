# SPDX-License-Identifier: GPL-3.0-or-later
"""Every refusal as a problem document (RFC 9457) with a code that does not change.

Whatever the services, rest_framework or Django raise, a client sees `application/problem+json` with `type`,
`title`, `status`, `detail`, `code`, `hint`, `retryable` and `reference` (the request id).
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from portal import logs
from portal.api import errors
from portal.api.authentication import Refused
from portal.errors import PortalError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
NOT_FOUND = "There is nothing at this address, or it is not yours to see."

_BY_STATUS: dict[int, type[PortalError]] = {
    400: errors.BadRequest,
    401: errors.AuthenticationRequired,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    406: errors.NotAcceptable,
    412: errors.PreconditionFailed,
    413: errors.BodyTooLarge,
    415: errors.UnsupportedMediaType,
    500: errors.InternalError,
}


class ProblemRenderer(JSONRenderer):
    media_type = MEDIA_TYPE
    format = "problem"


def document(error: PortalError) -> dict[str, Any]:
    """The problem as JSON."""
    found = {
        "type": f"/api/v1/docs#{error.code}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "code": error.code,
        "detail": error.message,
        "hint": error.hint,
        "retryable": error.retryable,
        "reference": logs.request_id.get(),
    }
    for name in ("errors", "candidates"):
        if (more := getattr(error, name, None)) is not None:
            found[name] = more
    return found


def headers_of(error: PortalError) -> dict[str, str]:
    headers = {"Cache-Control": "no-store"}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="oVirt Backup Portal"'
    if (wait := getattr(error, "wait", None)) is not None:
        headers["Retry-After"] = str(wait)
    return headers


def exception_handler(raised: Exception, context: dict[str, Any]) -> Response:
    """For rest_framework's settings: the answer to anything that a view raised."""
    error = as_portal_error(raised)
    if error.status >= 500 and not isinstance(raised, PortalError):
        log.error("The API failed: %s", raised, exc_info=raised)
    else:
        log.info("%s: %s", error.code, error.message)
    headers = headers_of(error)
    if isinstance(raised, exceptions.MethodNotAllowed):
        headers["Allow"] = ", ".join(context["view"].allowed_methods)
    response = Response(document(error), status=error.status, headers=headers, content_type=MEDIA_TYPE)
    # Also for who accepts something else only: a refusal has to be told somehow.
    context["request"].accepted_renderer = ProblemRenderer()
    context["request"].accepted_media_type = MEDIA_TYPE
    return response


def as_portal_error(raised: Exception) -> PortalError:
    match raised:
        case PortalError():
            return raised
        case Refused():
            return raised.error
        case Http404():
            return errors.NotFound(NOT_FOUND)
        case exceptions.ValidationError():
            return invalid(raised.detail)
        case exceptions.NotAuthenticated():
            return errors.AuthenticationRequired(
                "This needs a token.",
                hint="Send Authorization: Bearer obp_…; tokens are made under Settings.",
            )
        case exceptions.ParseError():
            return errors.ParseError(str(raised.detail))
        case exceptions.APIException():
            kind = _BY_STATUS.get(raised.status_code, errors.InternalError)
            return kind(NOT_FOUND if raised.status_code == 404 else str(raised.detail))
        case PermissionDenied():
            return errors.Forbidden(str(raised) or "This is not allowed to you.")
    return errors.InternalError(
        "The portal failed; what was asked for may not have been done.",
        hint="Look at the object before repeating, or repeat with the same Idempotency-Key. "
        "The reference finds the cause in the portal's log.",
    )


def invalid(detail: Any) -> errors.InvalidInput:
    """`detail` is rest_framework's nested dict of lists; each text gets a JSON pointer to its field."""
    found = list(_flat(detail, ""))
    return errors.InvalidInput(
        "The request is not as it must be; nothing was changed.",
        errors=[{"pointer": pointer, "detail": text} for pointer, text in found],
    )


def _flat(detail: Any, pointer: str) -> Any:
    if isinstance(detail, dict):
        for name, inner in detail.items():
            own = name == "non_field_errors"
            yield from _flat(inner, pointer if own else f"{pointer}/{_escaped(str(name))}")
    elif isinstance(detail, list):
        for position, inner in enumerate(detail):
            nested = isinstance(inner, dict | list)
            yield from _flat(inner, f"{pointer}/{position}" if nested else pointer)
    else:
        yield pointer, str(detail)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


class ApiProblemMiddleware:
    """What Django itself refuses below /api/ (no such address, a NUL, a wrong host) is a problem document too."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response: HttpResponse = self.get_response(request)
        told = response.headers.get("Content-Type", "").startswith(MEDIA_TYPE)
        if response.status_code < 400 or told or not request.path_info.startswith("/api/"):
            return response
        kind = _BY_STATUS.get(
            response.status_code, errors.BadRequest if response.status_code < 500 else errors.InternalError
        )
        error = kind(_SAID.get(response.status_code, "The request was refused."))
        error.status = response.status_code
        body = ProblemRenderer().render(document(error))
        problem = HttpResponse(body, status=error.status, content_type=MEDIA_TYPE)
        for name, value in headers_of(error).items():
            problem.headers[name] = value
        return problem


_SAID = {
    400: "The request is malformed.",
    404: NOT_FOUND,
    500: "The portal failed; what was asked for may not have been done.",
}
