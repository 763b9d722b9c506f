# SPDX-License-Identifier: GPL-3.0-or-later
"""What allauth leaves to us: limits before anything is hashed, who may come in, where they go, and no e-mail."""

from __future__ import annotations

import math
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme

from portal.accounts import attempts, company, devices, groups
from portal.accounts.attempts import Refusal
from portal.audit import services as audit

WRONG = "This name and password do not belong together. Names and passwords are case sensitive."


class TooManyAttempts(ValidationError):
    """Refused before the password was looked at."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal_text(refusal), code="too_many_attempts")
        self.refusal = refusal


def refusal_text(refusal: Refusal) -> str:
    minutes = max(1, math.ceil(refusal.wait.total_seconds() / 60))
    source = {
        "address": "from your address",
        "name": "for this name",
        "device": "in this browser",
        "password": "with a wrong password",
    }
    return (
        f"There were too many attempts {source[refusal.limit]}. The password was not looked at. "
        f"Try again in {minutes} minute{'' if minutes == 1 else 's'}"
        + (", or sign in from a browser that you have used before." if refusal.limit == "name" else ".")
    )


class AccountAdapter(DefaultAccountAdapter):
    error_messages = {**DefaultAccountAdapter.error_messages, "username_password_mismatch": WRONG}

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Counts the attempt, or refuses it: nothing is hashed and no directory is asked then."""
        name = str(credentials.get("username", ""))
        counted = attempts.start(
            address=self.get_client_ip(request), name=name, device=devices.known(request, name)
        )
        if isinstance(counted, Refusal):
            raise TooManyAttempts(counted)
        self._counted = counted

    def authenticate(self, request: HttpRequest, **credentials: Any) -> Any:
        person = super().authenticate(request, **credentials)
        if person is not None:
            self._counted.give_back()
        return person

    def pre_login(self, request: HttpRequest, user: Any, **kwargs: Any) -> HttpResponse | None:
        """Whatever way somebody came (a passkey, another system): only active people go on."""
        if not user.is_active or user.is_service:
            audit.record(
                "login.refused",
                actor=None,
                address=self.get_client_ip(request),
                username=user.get_username(),
                step="switched_off",
            )
            return self.respond_user_inactive(request, user)
        if sociallogin := (kwargs.get("signal_kwargs") or {}).get("sociallogin"):
            names = company.groups_of(sociallogin.account.extra_data)
            groups.signed_in(user, source=company.SOURCE, names=names, via=company.SOURCE)
        return super().pre_login(request, user, **kwargs)

    def respond_user_inactive(self, request: HttpRequest, user: Any) -> HttpResponse:
        return redirect("account_inactive")

    def is_safe_url(self, url: str | None) -> bool:
        """Only this very host: a link to sign in must never lead elsewhere."""
        return url_has_allowed_host_and_scheme(
            url, allowed_hosts={self.request.get_host()}, require_https=self.request.is_secure()
        )

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        wording = {
            "reauthenticate": "Use your password",
            "mfa_reauthenticate": "Use a code of your app",
            "mfa_reauthenticate:webauthn": "Use a passkey",
        }
        return [
            {**method, "description": wording[method["id"]]}
            for method in super().get_reauthentication_methods(user)
        ]

    def add_message(self, request: HttpRequest, level: int, *args: Any, **kwargs: Any) -> None:
        """Pages say in their own words what was done; what could not be done is said."""
        if kwargs.get("message"):
            messages.add_message(request, level, kwargs["message"])
