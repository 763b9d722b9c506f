# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import datetime as dt
import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone

from portal.accounts.models import Team, User
from portal.accounts.roles import Role
from portal.api.errors import TokenNotForThis
from portal.api.scopes import MEANING, Scope
from portal.api.tokens import checked_networks


class TokenForm(forms.Form):
    """A new token of `owner`."""

    name = forms.CharField(max_length=120, help_text="What will use it, so that you know it again later.")
    scopes = forms.MultipleChoiceField(
        label="What it may do",
        choices=[(scope.value, f"{scope.label}: {MEANING[scope]}") for scope in Scope],
        initial=[Scope.READ],
        widget=forms.CheckboxSelectMultiple,
    )
    team = forms.ModelChoiceField(
        label="Machines",
        queryset=Team.objects.none(),
        required=False,
        empty_label="All that its owner reaches",
    )
    lifetime = forms.TypedChoiceField(
        label="Good for",
        coerce=int,
        empty_value=None,
        required=False,
        choices=[("30", "30 days"), ("90", "90 days"), ("365", "A year"), ("", "Until it is revoked")],
        initial="90",
    )
    networks = forms.CharField(
        label="Only from these networks",
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "autocomplete": "off"}),
        help_text="Like 192.0.2.0/24 or 2001:db8::7, one in a line. Empty: from anywhere.",
    )

    def __init__(self, *args: Any, owner: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["team"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = owner.teams.all()

    def clean_networks(self) -> list[str]:
        given = [part for part in re.split(r"[\s,]+", self.cleaned_data["networks"]) if part]
        try:
            return checked_networks(given)
        except TokenNotForThis as error:
            raise ValidationError(str(error)) from error

    def wishes(self) -> dict[str, Any]:
        """As `create_token` takes them."""
        found = dict(self.cleaned_data)
        days = found.pop("lifetime")
        return {**found, "expires_at": timezone.now() + dt.timedelta(days=days) if days else None}


class ServiceForm(forms.Form):
    username = forms.CharField(
        label="Name",
        max_length=150,
        help_text="Like ticketing or monitoring; it stands in jobs and in the history.",
    )
    team = forms.ModelChoiceField(
        queryset=Team.objects.all(),
        required=False,
        empty_label="None yet",
        help_text="Without a team it reaches no machine.",
    )
    role = forms.ChoiceField(choices=Role.choices, initial=Role.OPERATOR)

    def clean_username(self) -> str:
        name: str = self.cleaned_data["username"].strip()
        User.username_validator(name)
        if User.objects.filter(username__iexact=name).exists():
            raise ValidationError("There is somebody of this name already.")
        return name
