# SPDX-License-Identifier: GPL-3.0-or-later
"""One-time codes and passkeys: what allauth leaves to us."""

from __future__ import annotations

from typing import Any

from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.webauthn.forms import AddWebAuthnForm, EditWebAuthnForm
from allauth.mfa.webauthn.views import LoginWebAuthnView
from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode

from portal import secrets
from portal.accounts.agents import described
from portal.audit import services as audit

WRONG_CODE = "This code is not right. The app shows a new one every 30 seconds; each works once."


class MfaAdapter(DefaultMFAAdapter):
    """Keys of authenticator apps and recovery codes are encrypted like the Managers' passwords."""

    error_messages = {**DefaultMFAAdapter.error_messages, "incorrect_code": WRONG_CODE}

    def encrypt(self, text: str) -> str:
        return secrets.encrypt(text, settings.CREDENTIAL_KEYS)

    def decrypt(self, encrypted_text: str) -> str:
        return secrets.decrypt(encrypted_text, settings.CREDENTIAL_KEYS)

    def generate_authenticator_name(self, user: Any, type: Any) -> str:
        return described(context.request.headers.get("User-Agent", ""))

    def get_totp_label(self, user: Any) -> str:
        return str(user.get_username())


class _LimitIsNoted(forms.Form):
    """Too many wrong codes for one person: refused by allauth before a code is looked at, and written down."""

    user: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        widget = self.fields["code"].widget
        widget.attrs.pop("placeholder", None)
        widget.attrs.update({"inputmode": "text", "autocapitalize": "none", "spellcheck": "false"})

    def clean_code(self) -> str:
        try:
            return str(super().clean_code())  # type: ignore[misc]
        except ValidationError as error:
            if error.code in ("too_many_login_attempts", "rate_limited"):
                audit.record("login.refused", actor=None, username=self.user.get_username(), limit="code")
            raise


class CodeForm(_LimitIsNoted, AuthenticateForm):
    pass


class ConfirmByCodeForm(_LimitIsNoted, ReauthenticateForm):
    pass


class AddAppForm(_LimitIsNoted, ActivateTOTPForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].label = "The six digits that the app shows now"


class AddPasskeyForm(AddWebAuthnForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].max_length = 80
        self.fields["name"].widget.attrs["maxlength"] = 80
        self.fields["name"].help_text = "By which you will recognise it in the list."
        alone = self.fields["passwordless"]
        alone.label = "It is enough by itself: sign in without name and password"
        alone.help_text = (
            "The device then asks for your finger, face or PIN. Without this it is a second step only."
        )
        alone.initial = True


class RenamePasskeyForm(EditWebAuthnForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].max_length = 80
        self.fields["name"].widget.attrs["maxlength"] = 80


class PasskeySignInView(LoginWebAuthnView):
    """Signing in by a passkey alone. One that is not known leads back to the sign-in page, which says so."""

    def form_invalid(self, form: Any) -> HttpResponse:
        audit.record("login.refused", actor=None, username="", step="passkey")
        messages.error(self.request, "This passkey is not known here, or is no longer. Nothing was opened.")
        target = self.request.POST.get("next", "")
        return redirect(
            f"{reverse('account_login')}?{urlencode({'next': target})}" if target else "account_login"
        )
