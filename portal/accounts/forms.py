# SPDX-License-Identifier: GPL-3.0-or-later
"""Forms for signing in, in the portal's words."""

from __future__ import annotations

from typing import Any

from allauth.account.forms import LoginForm, ReauthenticateForm
from django import forms
from django.contrib.auth.forms import PasswordChangeForm

from portal.accounts import attempts
from portal.accounts.adapters import TooManyAttempts
from portal.accounts.attempts import Refusal
from portal.accounts.models import GroupRule, Team
from portal.accounts.roles import Role


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


class GroupRuleForm(forms.Form):
    """What people in a group of another system get."""

    source = forms.ChoiceField(label="Known from", choices=GroupRule.Source.choices)
    group = forms.CharField(
        max_length=255,
        label="Group",
        help_text="As the other system names it; upper and lower case are the same.",
    )
    role = forms.ChoiceField(
        label="Gives",
        choices=[*Role.choices, ("platform", "Platform admin, of everything")],
        initial=Role.VIEWER,
    )
    team = forms.ModelChoiceField(
        Team.objects.all(), required=False, empty_label="No team", help_text="Not for platform admins."
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        platform = cleaned.get("role") == "platform"
        if platform and cleaned.get("team"):
            self.add_error("team", "Platform admins are so in all teams. Leave the team empty.")
        if not platform and "team" not in self.errors and not cleaned.get("team"):
            self.add_error("team", "Choose the team in which the group gives this role.")
        return cleaned

    def rule(self) -> dict[str, Any]:
        """Arguments of groups.add_rule."""
        found = self.cleaned_data
        return {
            "source": found["source"],
            "group": found["group"].strip(),
            "team": found["team"],
            "role": found["role"] if found["team"] else "",
        }
