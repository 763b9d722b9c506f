# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the history is asked for, from the address alone."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import asdict, dataclass
from typing import Any

from django.db.models import Q, QuerySet
from django.http import QueryDict
from django.utils import timezone

from portal.audit.models import AuditEntry

LONGEST = 255


@dataclass(frozen=True)
class Asked:
    """`since` and `until` are days in the portal's time zone, both included; `object` a uuid or a part of a name;
    `action` the beginning of one, like `point.`."""

    who: str = ""
    action: str = ""
    object: str = ""
    ticket: str = ""
    via: str = ""
    since: dt.date | None = None
    until: dt.date | None = None

    @classmethod
    def from_address(cls, params: QueryDict) -> Asked:
        """Nonsense counts as nothing."""
        texts = {
            name: params.get(name, "").strip()[:LONGEST]
            for name in ("who", "action", "object", "ticket", "via")
        }
        return cls(**texts, since=_day(params.get("since", "")), until=_day(params.get("until", "")))

    @property
    def any(self) -> bool:
        return self != Asked()

    def as_json(self) -> dict[str, Any]:
        """Only what was asked; for the history and the export's first line."""
        return {name: str(value) for name, value in asdict(self).items() if value}

    def narrow(self, entries: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        if self.who:
            entries = entries.filter(actor_name=self.who)
        if self.action:
            entries = entries.filter(action__startswith=self.action)
        if self.object:
            entries = entries.filter(_object(self.object))
        if self.ticket:
            entries = entries.filter(ticket=self.ticket)
        if self.via:
            entries = entries.filter(via=self.via)
        if self.since:
            entries = entries.filter(at__gte=_midnight(self.since))
        if self.until and self.until < dt.date.max:
            entries = entries.filter(at__lt=_midnight(self.until + dt.timedelta(days=1)))
        return entries


def _object(text: str) -> Q:
    try:
        wanted = uuid.UUID(text)
    except ValueError:
        return Q(object_label__icontains=text)
    return Q(object_id=str(wanted)) | Q(vm=wanted)


def _day(text: str) -> dt.date | None:
    try:
        found = dt.date.fromisoformat(text)
    except ValueError:
        return None
    return found if 1970 < found.year < 9999 else None


def _midnight(day: dt.date) -> dt.datetime:
    return timezone.make_aware(dt.datetime.combine(day, dt.time()))
