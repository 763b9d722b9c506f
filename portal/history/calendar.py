# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups by day, as a calendar: what the worst of each day was, in words, by a sign and by colour."""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q
from django.db.models.functions import TruncDate
from django.utils.formats import date_format

from portal.history.filters import midnight
from portal.jobs.models import JobQuerySet
from portal.jobs.states import JobState

MONTHS = 3
_ENDINGS = ("ok", "warned", "failed", "other")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# How a day went, by its worst backup: the sign in its cell and the words of the legend.
MARKS = {
    "ok": ("check", "All succeeded"),
    "warned": ("warning", "Some with warnings"),
    "failed": ("failed", "Some failed"),
    "other": ("cancelled", "Cancelled or unfinished only"),
    "none": ("", "No backup"),
}


@dataclass(frozen=True)
class Counts:
    """Backups that were asked for on one day, by how they ended; `other` were cancelled or have not ended."""

    ok: int = 0
    warned: int = 0
    failed: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        return self.ok + self.warned + self.failed + self.other

    @property
    def worst(self) -> str:
        for name in ("failed", "warned", "ok", "other"):
            if getattr(self, name):
                return name
        return "none"

    @property
    def words(self) -> str:
        """`12 succeeded, 1 failed`."""
        parts = (
            (self.ok, "succeeded"),
            (self.warned, "succeeded with warnings"),
            (self.failed, "failed"),
            (self.other, "cancelled or unfinished"),
        )
        return ", ".join(f"{number:,} {word}" for number, word in parts if number) or "no backup"


@dataclass(frozen=True)
class Cell:
    """One day; `url` leads to its rows and is empty where there are none. Without a `day` it fills up a week."""

    day: int = 0
    words: str = ""
    worst: str = ""
    sign: str = ""
    total: int = 0
    url: str = ""
    is_today: bool = False


@dataclass(frozen=True)
class Month:
    label: str
    weeks: list[list[Cell]]


def month_of(text: str, today: dt.date) -> dt.date:
    """The first day of the month `2026-03`; of this month for nonsense and for months to come."""
    this = today.replace(day=1)
    try:
        wanted = dt.datetime.strptime(text, "%Y-%m").date()
    except ValueError:
        return this
    return wanted if wanted.year > 1970 and wanted <= this else this


def moved(month: dt.date, months: int) -> dt.date:
    """The first day of the month so many months later (or earlier)."""
    number = month.year * 12 + month.month - 1 + months
    return dt.date(number // 12, number % 12 + 1, 1)


def counted(rows: JobQuerySet, last: dt.date) -> dict[dt.date, Counts]:
    """By local day, in the months that end with `last`; one query."""
    return {
        row["day"]: Counts(row["ok"], row["warned"], row["failed"], row["other"])
        for row in days_of(rows, last)
    }


def days_of(rows: JobQuerySet, last: dt.date) -> Any:
    """The query behind `counted`: dicts of a day and its numbers."""
    since, until = midnight(moved(last, 1 - MONTHS)), midnight(moved(last, 1))
    succeeded = Q(state=JobState.SUCCEEDED)
    ended = succeeded | Q(state=JobState.FAILED)
    backups = rows.filter(kind="vm_backup", created_at__gte=since, created_at__lt=until)
    return (
        backups.order_by()
        .annotate(day=TruncDate("created_at"))
        .values("day")
        .annotate(
            ok=Count("pk", filter=succeeded & Q(warnings=[])),
            warned=Count("pk", filter=succeeded & ~Q(warnings=[])),
            failed=Count("pk", filter=Q(state=JobState.FAILED)),
            other=Count("pk", filter=~ended),
        )
    )


def summary(days: Mapping[dt.date, Counts]) -> str:
    """`On 80 days 1,204 backups were asked for: 1,200 succeeded, 4 failed.`"""
    total = Counts(*(sum(getattr(of_day, name) for of_day in days.values()) for name in _ENDINGS))
    if not total.total:
        return "No backup was asked for in these months."
    on, were = ("day", "was") if total.total == 1 else ("days", "were")
    return (
        f"On {len(days)} {'day' if len(days) == 1 else on} {total.total:,} backup{'' if total.total == 1 else 's'} "
        f"{were} asked for: {total.words}."
    )


def months(days: Mapping[dt.date, Counts], last: dt.date, today: dt.date, day_url: Any) -> list[Month]:
    """Oldest first; `day_url(day)` is the address of a day's rows."""
    firsts = [moved(last, back) for back in range(1 - MONTHS, 1)]
    return [_month(first, days, today, day_url) for first in firsts]


def _month(first: dt.date, days: Mapping[dt.date, Counts], today: dt.date, day_url: Any) -> Month:
    weeks = calendar.Calendar().monthdatescalendar(first.year, first.month)
    return Month(
        date_format(first, "F Y"),
        [[_cell(day, first.month, days, today, day_url) for day in week] for week in weeks],
    )


def _cell(day: dt.date, month: int, days: Mapping[dt.date, Counts], today: dt.date, day_url: Any) -> Cell:
    if day.month != month:
        return Cell()
    if day > today:
        return Cell(day=day.day)
    counts = days.get(day, Counts())
    return Cell(
        day=day.day,
        words=f"{date_format(day, 'l j F')}: {counts.words}",
        worst=counts.worst,
        sign=MARKS[counts.worst][0],
        total=counts.total,
        url=day_url(day) if counts.total else "",
        is_today=day == today,
    )
