# SPDX-License-Identifier: GPL-3.0-or-later
"""Signing in by the company's OpenID Connect provider: what allauth leaves to us."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from allauth.account.adapter import get_adapter as get_account_adapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.providers.openid_connect import views as openid_connect
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from django.views.decorators.http import require_safe

from portal.audit import services as audit
from portal.errors import PortalError

PROVIDER_ID = "company"
SOURCE = "oidc"


class CompanyUnreachable(PortalError):
    """The company's sign-in does not answer."""

    status = 503
    retryable = True


class SocialAdapter(DefaultSocialAccountAdapter):
    """New people come in if the settings say so; an account that is here already is never taken over by its name or
    e-mail: its person signs in and connects the two."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        return bool(settings.OIDC_NEW_PEOPLE)

    def pre_social_login(self, request: HttpRequest, sociallogin: Any) -> None:
        sociallogin.email_addresses = []

    def on_authentication_error(self, request: HttpRequest, provider: Any, **kwargs: Any) -> None:
        audit.record(
            "login.refused",
            actor=None,
            address=get_account_adapter(request).get_client_ip(request),
            username="",
            step="company",
            problem=str(kwargs.get("error") or type(kwargs.get("exception")).__name__)[:200],
        )

    def get_connect_redirect_url(self, request: HttpRequest, socialaccount: Any) -> str:
        return reverse("socialaccount_connections")


def groups_of(claims: dict[str, Any]) -> list[str]:
    """The group names in `{"userinfo": …, "id_token": …}`; the claim may be a path (`realm_access.roles`).

    A provider that names no groups names none: what they gave is taken back.
    """
    for part in ("userinfo", "id_token"):
        found = _at(claims.get(part) or {}, settings.OIDC_GROUPS_CLAIM)
        if isinstance(found, str):
            return [found]
        if isinstance(found, list):
            return [str(name) for name in found if isinstance(name, str | int)]
    return []


def _at(claims: dict[str, Any], path: str) -> Any:
    if path in claims:
        return claims[path]
    found: Any = claims
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found


@login_not_required
@require_safe
def sign_in(request: HttpRequest, provider_id: str) -> HttpResponseBase:
    """Leads to the provider. A link, not a form: the policy lets no form lead off the portal."""
    with _told_when_unreachable():
        return openid_connect.login(request, provider_id)


@login_not_required
@require_safe
def come_back(request: HttpRequest, provider_id: str) -> HttpResponseBase:
    """Where the provider sends people back to, with a code that is exchanged for their claims."""
    with _told_when_unreachable():
        return openid_connect.callback(request, provider_id)


@contextmanager
def _told_when_unreachable() -> Iterator[None]:
    try:
        yield
    except requests.RequestException as error:
        raise CompanyUnreachable(
            "The company's sign-in could not be reached, so nobody was signed in.",
            hint="Try again in a minute, or sign in with name and password.",
        ) from error
