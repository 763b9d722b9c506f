# SPDX-License-Identifier: GPL-3.0-or-later
"""What the history can be narrowed by. All of it stands in the address, and each has an index (portal/jobs/models.py)."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import QueryDict
from django.utils import timezone

from portal.accounts.models import Team, User
from portal.accounts.roles import Capability
from portal.environments.models import Environment, VirtualMachine, VirtualMachineQuerySet
from portal.jobs.models import Job, JobQuerySet
from portal.jobs.states import ACTIVE, JobState
from portal.paging import Order

KINDS = {"backup": "vm_backup", "restore": "vm_restore"}
METHODS = {
    "incremental": "Incremental Backup API",
    "snapshot_attach": "Snapshot, attached",
    "backup_domain": "Backup storage domain",
    "new_vm": "Restored as a new machine",
}
MODES = {"full": "Full", "incremental": "Incremental", "mixed": "Mixed"}
RESULTS = {
    "ok": "Succeeded",
    "warned": "Succeeded with warnings",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "unfinished": "Unfinished",
}
# Machines are looked up first and named to the database one by one, so that it can use the index by machine;
# beyond so many it is told how to find them instead.
NAMED_MACHINES = 2000
_FIRST_YEAR = 1970
BY_TIME = Order(("created_at", "id"))


class HistoryFilter(forms.Form):
    """`teams` and `environments` are those that this person may choose."""

    kind = forms.ChoiceField(choices=[("", "Both"), ("backup", "Backups"), ("restore", "Restores")])
    result = forms.ChoiceField(choices=[("", "Any"), *RESULTS.items()])
    q = forms.CharField(label="Machine", max_length=255)
    who = forms.CharField(label="By (sign-in name)", max_length=150)
    whom = forms.CharField(label="For whom", max_length=150)
    ticket = forms.CharField(max_length=100)
    team = forms.ModelChoiceField(Team.objects.none(), to_field_name="uuid", empty_label="All")
    environment = forms.ModelChoiceField(
        Environment.objects.none(), label="Manager", to_field_name="uuid", empty_label="All"
    )
    method = forms.ChoiceField(choices=[("", "Any"), *METHODS.items()])
    mode = forms.ChoiceField(choices=[("", "Any"), *MODES.items()])
    since = forms.DateField(label="From", widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label="To", widget=forms.DateInput(attrs={"type": "date"}))
    vm = forms.UUIDField(label="Machine", widget=forms.HiddenInput)

    def __init__(
        self, params: QueryDict, *, teams: QuerySet[Team], environments: QuerySet[Environment]
    ) -> None:
        super().__init__(params, auto_id="history-%s")
        choices: dict[str, Any] = {"team": teams, "environment": environments}
        for name, rows in choices.items():
            self.fields[name].queryset = rows  # type: ignore[attr-defined]
        for field in self.fields.values():
            field.required = False
            field.widget.attrs.setdefault("autocomplete", "off")

    def clean_since(self) -> dt.date | None:
        return _known_to_calendars(self.cleaned_data["since"])

    def clean_until(self) -> dt.date | None:
        return _known_to_calendars(self.cleaned_data["until"])

    @property
    def given(self) -> dict[str, str]:
        """What narrows the list, as it stands in the address."""
        return {name: self.data[name] for name in self.fields if self.data.get(name, "").strip()}

    def vm_of(self, person: User) -> VirtualMachine | None:
        """The machine that the list is about, if it is about one that the person may see."""
        wanted = self.cleaned_data.get("vm") if self.is_valid() else None
        return VirtualMachine.objects.visible_to(person).filter(uuid=wanted).first() if wanted else None


def _known_to_calendars(day: dt.date | None) -> dt.date | None:
    """The ends of the calendar have no midnight in every time zone."""
    if day is not None and not _FIRST_YEAR <= day.year <= dt.MAXYEAR - 1:
        raise ValidationError(f"Choose a day from {_FIRST_YEAR} on.")
    return day


def teams_of(person: User) -> QuerySet[Team]:
    """The teams whose machines a person may choose to see."""
    return (
        Team.objects.all() if person.reaches_every_machine else Team.objects.filter(memberships__user=person)
    )


def environments_of(person: User) -> QuerySet[Environment]:
    if person.reaches_every_machine:
        return Environment.objects.all()
    return Environment.objects.filter(pk__in=VirtualMachine.objects.visible_to(person).values("environment"))


def narrowed(rows: JobQuerySet, wanted: dict[str, Any]) -> JobQuerySet:
    """`wanted` is the cleaned data of a valid filter; what is missing in it narrows nothing."""
    for name, column in (("environment", "environment"), ("method", "method"), ("mode", "mode")):
        if wanted.get(name):
            rows = rows.filter(**{column: wanted[name]})
    for name, column in (("who", "requested_by_name"), ("whom", "requested_for"), ("ticket", "ticket")):
        if wanted.get(name):
            rows = rows.filter(**{f"{column}__in": _spellings(wanted[name])})
    if wanted.get("kind"):
        rows = rows.filter(kind=KINDS[wanted["kind"]])
    if wanted.get("result"):
        rows = rows.filter(_result(wanted["result"]))
    if wanted.get("since"):
        rows = rows.filter(created_at__gte=midnight(wanted["since"]))
    if wanted.get("until"):
        rows = rows.filter(created_at__lt=midnight(wanted["until"] + dt.timedelta(days=1)))
    return rows.filter(_machines(wanted))


def _machines(wanted: dict[str, Any]) -> Q:
    """By team, by the machine itself (`vm`), by its name now or then (`q`)."""
    found = Q()
    if wanted.get("team"):
        found &= machine_in(VirtualMachine.objects.filter(teams=wanted["team"]))
    if wanted.get("vm"):
        found &= machine_in(VirtualMachine.objects.filter(uuid=wanted["vm"]))
    if wanted.get("q"):
        now = machine_in(VirtualMachine.objects.filter(name__icontains=wanted["q"]))
        found &= now | Q(vm_name=wanted["q"])
    return found


def machine_in(machines: QuerySet[VirtualMachine]) -> Q:
    """Rows of these machines, in the form that the database can look up best."""
    keys = list(machines.order_by().values_list("pk", flat=True)[: NAMED_MACHINES + 1])
    return Q(vm__in=keys) if len(keys) <= NAMED_MACHINES else Q(vm__in=machines.order_by().values("pk"))


def _result(result: str) -> Q:
    succeeded = Q(state=JobState.SUCCEEDED)
    return {
        "ok": succeeded & Q(warnings=[]),
        "warned": succeeded & ~Q(warnings=[]),
        "failed": Q(state=JobState.FAILED),
        "cancelled": Q(state=JobState.CANCELLED),
        "unfinished": Q(state__in=ACTIVE),
    }[result]


def _spellings(text: str) -> list[str]:
    """An index holds names as they were written; a person may type them in one case."""
    return sorted({text, text.lower(), text.upper()})


def midnight(day: dt.date) -> dt.datetime:
    """The first moment of a day in the portal's time zone."""
    return timezone.make_aware(dt.datetime.combine(day, dt.time.min))


def history_of(person: User) -> JobQuerySet:
    """Backups and restores on machines that the person may see, and those that the person asked for."""
    return _on(VirtualMachine.objects.visible_to(person), person)


def exportable_of(person: User) -> JobQuerySet:
    """What may leave the portal: of machines whose history the person may read, and what the person asked for."""
    return _on(VirtualMachine.objects.allowing(person, Capability.READ_AUDIT), person)


def _on(machines: VirtualMachineQuerySet, person: User) -> JobQuerySet:
    rows = Job.objects.in_history()
    if person.reaches_every_machine:
        return rows
    if not person.is_active:
        return rows.none()
    found = machine_in(machines)
    return rows.filter(found | Q(requested_by=person) if person.counts_beyond_teams else found)
