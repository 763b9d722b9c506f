# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from portal import addresses
from portal.accounts.models import Team, User
from portal.accounts.roles import Role
from portal.addresses import AddressRefused, Policy
from portal.events.kinds import EventKind
from portal.events.models import Webhook


class WebhookForm(forms.Form):
    """What a person may say about a webhook; `webhook` is the one that is changed."""

    name = forms.CharField(max_length=120, help_text="How people here call the receiver.")
    url = forms.CharField(
        label="Address",
        max_length=500,
        widget=forms.URLInput(attrs={"spellcheck": "false", "autocomplete": "off"}),
        help_text="https://tickets.example.com/hooks/backup",
    )
    team = forms.ModelChoiceField(
        label="Machines",
        queryset=Team.objects.none(),
        required=False,
        help_text="Events of which machines are sent. This cannot be changed later.",
    )
    kinds = forms.MultipleChoiceField(
        label="Events",
        choices=EventKind.choices,
        initial=list(EventKind.values),
        widget=forms.CheckboxSelectMultiple,
    )
    allow_private = forms.BooleanField(
        label="Allow private networks",
        required=False,
        help_text="Also addresses in private networks and on this machine. Only for receivers of your own.",
    )
    allow_http = forms.BooleanField(
        label="Allow http",
        required=False,
        help_text="Without TLS everybody on the way can read the events. Requests are signed all the same.",
    )

    def __init__(self, *args: Any, person: User, webhook: Webhook | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._webhook = webhook
        if webhook is not None:
            del self.fields["team"]
        else:
            self._offer_teams(person)
        if not person.is_platform_admin:
            # They keep what a platform admin allowed; to widen it is not offered.
            for name in ("allow_private", "allow_http"):
                if webhook is None or not getattr(webhook, name):
                    del self.fields[name]

    def _offer_teams(self, person: User) -> None:
        field = self.fields["team"]
        assert isinstance(field, forms.ModelChoiceField)
        if person.is_platform_admin:
            field.queryset = Team.objects.all()
            field.empty_label = "All machines of the portal"
        else:
            field.queryset = Team.objects.filter(memberships__user=person, memberships__role=Role.ADMIN)
            field.required, field.empty_label = True, None

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"].strip()
        if not name:
            raise ValidationError("A name needs more than spaces.")
        return name

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        for name in ("allow_private", "allow_http"):
            data.setdefault(name, False)
        if url := data.get("url"):
            policy = Policy(private=data["allow_private"], http=data["allow_http"])
            try:
                addresses.parsed(url, policy)
            except AddressRefused as error:
                self.add_error("url", str(error))
        return data
