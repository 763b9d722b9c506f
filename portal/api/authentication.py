# SPDX-License-Identifier: GPL-3.0-or-later
"""Who asks: the owner of a Bearer token, or somebody signed in at the pages (whose writes need the CSRF token)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allauth.account.adapter import get_adapter
from django.core.exceptions import PermissionDenied
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import SAFE_METHODS, BasePermission

from portal.api import throttling, tokens
from portal.api.errors import AuthenticationFailed, ScopeMissing, TokenRefused, TooManyRequests
from portal.api.models import ApiToken
from portal.api.scopes import Scope
from portal.errors import PortalError

if TYPE_CHECKING:
    from rest_framework.request import Request

    from portal.accounts.models import User


class Refused(exceptions.AuthenticationFailed):
    """A PortalError in the clothes that rest_framework expects of authentication, so that it asks once only."""

    def __init__(self, error: PortalError) -> None:
        super().__init__(error.message)
        self.error = error


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer obp_…`. Addresses that come with wrong tokens too often wait before any look-up."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        kind, _, text = request.headers.get("Authorization", "").strip().partition(" ")
        if not kind:
            return None
        if kind.lower() != "bearer" or not text.strip():
            raise Refused(
                AuthenticationFailed(
                    "The Authorization header holds no Bearer token.", hint="Authorization: Bearer obp_…"
                )
            )
        address = _address(request)
        try:
            throttling.refuse_guessing(address)
            token = tokens.authenticate(text.strip(), address=address)
        except TokenRefused as error:
            throttling.count_wrong_token(address)
            raise Refused(error) from error
        except TooManyRequests as error:
            raise Refused(error) from error
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="oVirt Backup Portal"'


def _address(request: Request) -> str:
    """Where the request comes from, past the proxies that are trusted (ALLAUTH_TRUSTED_PROXY_COUNT); may be empty."""
    try:
        found: str = get_adapter().get_client_ip(request._request)
    except PermissionDenied:
        return ""
    return found


class HasScope(BasePermission):
    """A view names in `scope` what its writes need; any live token may read."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user.is_authenticated:
            return False
        token = request.auth
        needed = Scope(view.scope)
        # Where any token may write (`read`), the view itself asks for the capability.
        writes = request.method not in SAFE_METHODS and needed != Scope.READ
        if writes and isinstance(token, ApiToken) and needed not in token.scopes:
            raise ScopeMissing(
                f"This token does not have the scope “{needed}” that this needs; nothing was changed.",
                hint="Make a token with that scope.",
            )
        return True
