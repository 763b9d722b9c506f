# SPDX-License-Identifier: GPL-3.0-or-later
"""What the API itself refuses. Each becomes a problem document with its code (problems.py)."""

from __future__ import annotations

from typing import Any

from portal.errors import PortalError


class TokenRefused(PortalError):
    """Base of the five below: whoever comes with this token is not let in."""

    status = 401


class TokenUnknown(TokenRefused):
    """No token of this portal has this text."""


class TokenRevoked(TokenRefused):
    """The token was revoked."""


class TokenExpired(TokenRefused):
    """The token's time is over."""


class TokenOwnerRemoved(TokenRefused):
    """The person or service account that the token belongs to was removed."""


class TokenWrongNetwork(TokenRefused):
    """The token is good for other source networks only."""

    status = 403


class TokenNotForThis(PortalError):
    """A token was asked for that makes no sense: no scope, a past expiry, no network, a team that is not the owner's."""

    status = 422


class ScopeMissing(PortalError):
    """The token does not have the scope that this request needs."""

    status = 403


class AuthenticationRequired(PortalError):
    """The request came without a token."""

    status = 401


class AuthenticationFailed(PortalError):
    """The Authorization header or the session's CSRF token is not as it must be."""

    status = 401


class TooManyRequests(PortalError):
    """More requests than the limit of this token or address allows."""

    status = 429
    retryable = True

    def __init__(self, message: str, *, wait: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.wait = wait


class NotFound(PortalError):
    """There is no such thing, or it is not yours to see."""

    status = 404


class MethodNotAllowed(PortalError):
    """This address does not know that method."""

    status = 405


class NotAcceptable(PortalError):
    """The answer is to be had as application/json only."""

    status = 406


class UnsupportedMediaType(PortalError):
    """A body must be application/json."""

    status = 415


class ParseError(PortalError):
    """The body is not well-formed JSON."""

    status = 400


class BadRequest(PortalError):
    """The request itself is malformed."""

    status = 400


class Forbidden(PortalError):
    """The request was refused."""

    status = 403


class PreconditionFailed(PortalError):
    """If-Match or If-Unmodified-Since names another state than the present one."""

    status = 412


class BodyTooLarge(PortalError):
    """The body is larger than the portal takes."""

    status = 413


class InternalError(PortalError):
    """The portal failed. The reference finds it in the log."""

    status = 500
    retryable = True


class InvalidInput(PortalError):
    """A field or parameter is missing, unknown or not as it must be; `errors` says which and why."""

    status = 422

    def __init__(self, message: str, *, errors: list[dict[str, str]], hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errors = errors


class AmbiguousName(PortalError):
    """A name that several things have; `candidates` are they."""

    def __init__(self, message: str, *, candidates: list[dict[str, Any]], hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.candidates = candidates


class IdempotencyKeyInvalid(PortalError):
    """An Idempotency-Key is 1 to 255 printable ASCII characters."""

    status = 400


class IdempotencyKeyReused(PortalError):
    """The Idempotency-Key was used for another request."""


class IdempotencyKeyBusy(PortalError):
    """The first request with this Idempotency-Key is still being worked on."""

    retryable = True
    wait = 1
