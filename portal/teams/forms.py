# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from portal.accounts.models import Team
from portal.accounts.roles import Role
from portal.environments.models import Environment, TeamRule, VirtualMachine
from portal.environments.rules import Draft

_PLAIN = {"autocomplete": "off", "spellcheck": "false"}


class _OneOfSeveral(forms.Form):
    """A form beside others on one page, so its fields' ids begin with its own name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["auto_id"] = f"{type(self).__name__.lower()}-%s"
        super().__init__(*args, **kwargs)


class TeamForm(_OneOfSeveral):
    name = forms.CharField(max_length=120, help_text="How people here call this team.")


class QuotaForm(_OneOfSeveral):
    """Empty fields: no limit."""

    points = forms.IntegerField(label="Restore points", min_value=0, max_value=10_000_000, required=False)
    gib = forms.IntegerField(
        label="Referenced GiB",
        min_value=0,
        max_value=1 << 30,
        required=False,
        help_text="Of all restore points, before deduplication; zeros do not count.",
    )
    restores = forms.IntegerField(label="Restores at once", min_value=0, max_value=10_000, required=False)

    @classmethod
    def of(cls, team: Team) -> QuotaForm:
        """Filled in with what holds now."""
        gib = None if team.quota_bytes is None else team.quota_bytes >> 30
        return cls(initial={"points": team.quota_points, "gib": gib, "restores": team.quota_restores})


class ApprovalForm(_OneOfSeveral):
    approval = forms.ChoiceField(
        label="Restores that wait for a second person",
        choices=Team.Approval.choices,
        widget=forms.RadioSelect,
        help_text="An admin of the team, other than the one who ordered it, then approves or refuses.",
    )


class RoleForm(_OneOfSeveral):
    """A person by the exact user name, and the role to give."""

    username = forms.CharField(
        label="User name",
        max_length=150,
        widget=forms.TextInput(attrs=_PLAIN),
        help_text="Exactly as the person signs in.",
    )
    role = forms.ChoiceField(choices=Role.choices, initial=Role.OPERATOR)


class RuleForm(_OneOfSeveral):
    kind = forms.ChoiceField(label="Machines with", choices=TeamRule.Kind.choices)
    value = forms.CharField(
        max_length=255,
        widget=forms.TextInput(attrs=_PLAIN),
        help_text="The tag's or cluster's name exactly, a pattern like web-* for names, or a user or group of the "
        "Manager like oscar@internal-authz for owners.",
    )
    environment = forms.ModelChoiceField(
        label="On",
        queryset=Environment.objects.all(),
        to_field_name="uuid",
        required=False,
        empty_label="every Manager",
    )

    def draft(self) -> Draft:
        """Of what was filled in, once the form is valid."""
        found: Environment | None = self.cleaned_data["environment"]
        return Draft(self.cleaned_data["kind"], self.cleaned_data["value"], found.pk if found else None)


class MachineForm(_OneOfSeveral):
    """A machine by its Manager and name."""

    environment = forms.ModelChoiceField(
        label="Manager", queryset=Environment.objects.all(), to_field_name="uuid", empty_label=None
    )
    name = forms.CharField(label="Machine", max_length=255, widget=forms.TextInput(attrs=_PLAIN))

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or self.cleaned_data
        if {"environment", "name"} <= found.keys():
            vms = VirtualMachine.objects.present().filter(
                environment=found["environment"], name=found["name"]
            )
            if len(vms) != 1:
                many = "more than one machine" if vms else "no machine"
                raise ValidationError(f"{found['environment']} lists {many} called {found['name']}.")
            found["vm"] = vms[0]
        return found
