# SPDX-License-Identifier: GPL-3.0-or-later
"""Forms for signing in, in the portal's words."""

from __future__ import annotations

from typing import Any

from allauth.account.forms import LoginForm, ReauthenticateForm
from django.contrib.auth.forms import PasswordChangeForm

from portal.accounts import attempts
from portal.accounts.adapters import TooManyAttempts
from portal.accounts.attempts import Refusal


class SignInForm(LoginForm):
    """allauth's, with the field names `username` and `password`, and the refusal that a limit made."""

    refusal: Refusal | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("login", "password"):
            self.fields[name].widget.attrs.pop("placeholder", None)
        self.fields["password"].help_text = ""
        self.fields["login"].widget.attrs.update({"autocapitalize": "none", "autofocus": True})

    def add_prefix(self, field_name: str) -> str:
        return "username" if field_name == "login" else super().add_prefix(field_name)

    def clean(self) -> dict[str, Any]:
        try:
            cleaned: dict[str, Any] = super().clean()
        except TooManyAttempts as error:
            self.refusal = error.refusal
            raise
        return cleaned


class NewPasswordForm(PasswordChangeForm):
    """Asks for the old one, so that a browser left open is not enough; wrong ones are counted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The page is about more than the password: it opens at its top, on a phone without the keyboard.
        self.fields["old_password"].widget.attrs.pop("autofocus", None)

    def clean_old_password(self) -> str:
        counted = attempts.start_with_password(self.user.pk)
        if isinstance(counted, Refusal):
            raise TooManyAttempts(counted)
        password = super().clean_old_password()
        counted.give_back()
        return password


class ConfirmByPasswordForm(ReauthenticateForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password"].widget.attrs.pop("placeholder", None)
        self.fields["password"].widget.attrs["autofocus"] = True
