# SPDX-License-Identifier: GPL-3.0-or-later
"""Arrange restore points for the timeline: newest first, by month, one row per day, gaps named."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

# Months that stand open without being asked. Older ones are one line with a link that opens them, so that
# 3,000 points stay readable and quick.
OPEN_MONTHS = 2


@dataclass(frozen=True)
class Day:
    """One row: pairs of local time and point, early to late.

    `gap` counts the days without a restore point between this row and the newer one above it.
    """

    label: str
    date: date
    points: list[tuple[datetime, Any]]
    gap: int = 0

    @property
    def gap_label(self) -> str:
        return f"{self.gap} day{'' if self.gap == 1 else 's'} without a restore point"


@dataclass(frozen=True)
class Month:
    """A month; `days` is filled only for one that is open. `key` is `2026-11`."""

    key: str
    label: str
    count: int
    is_open: bool
    days: list[Day] = field(default_factory=list)


def months(
    points: Iterable[Any], *, selected: Any = None, month: str = "", today: date | None = None
) -> list[Month]:
    """Group points (anything with `uuid`, `taken_at`, `mode`, `verified_at`) by local month and day.

    Open are the newest months, the one named by `month` and the one of `selected` (a point or its uuid).
    """
    today = today or timezone.localdate()
    chosen = str(getattr(selected, "uuid", selected) or "")
    dated = [(timezone.localtime(p.taken_at), p) for p in points]
    dated.sort(key=lambda row: row[0], reverse=True)
    result: list[Month] = []
    newer: date | None = None
    for key, of_month in groupby(dated, key=lambda row: (row[0].year, row[0].month)):
        rows, first = list(of_month), date(*key, 1)
        name = f"{first:%Y-%m}"
        is_open = len(result) < OPEN_MONTHS or name == month or any(str(p.uuid) == chosen for _, p in rows)
        days = _days(rows, newer, today) if is_open else []
        result.append(Month(name, date_format(first, "F Y"), len(rows), is_open, days))
        newer = rows[-1][0].date()
    return result


def _days(rows: list[tuple[datetime, Any]], newer: date | None, today: date) -> list[Day]:
    days: list[Day] = []
    for day, of_day in groupby(rows, key=lambda row: row[0].date()):
        gap = (newer - day).days - 1 if newer else 0
        days.append(Day(_day_label(day, today), day, list(of_day)[::-1], gap))
        newer = day
    return days


def _day_label(day: date, today: date) -> str:
    if day == today:
        return "Today"
    if day == today - timedelta(days=1):
        return "Yesterday"
    return date_format(day, "D j M")


def dots(day: Day, *, prefix: str, chosen: str) -> SafeString:
    """Render the dots of one day, grouped by hour.

    Written by hand because a page may hold thousands of them: an include per dot takes seconds.
    """
    html: list[str] = []
    date_words = date_format(day.date, "D j M Y")
    for hour, of_hour in groupby(day.points, key=lambda row: row[0].hour):
        links = "".join(_dot(at, point, date_words, escape(prefix), chosen) for at, point in of_hour)
        html.append(f'<span class="tl-hour tl-h{hour}">{links}</span>')
    return mark_safe("".join(html))  # noqa: S308  every value in it is escaped


def _checked(point: Any) -> str:
    """`verified`, `damaged`, or nothing for a point that was not read back yet."""
    if getattr(point, "verify_problem", ""):
        return "damaged"
    return "verified" if getattr(point, "verified_at", None) is not None else ""


def _dot(at: datetime, point: Any, date_words: str, prefix: str, chosen: str) -> str:
    uuid, mode = escape(str(point.uuid)), escape(str(point.mode))
    checked = _checked(point)
    words = f"{date_words}, {at:%H:%M}, {mode}{f', {checked}' if checked else ''}"
    classes = f"tl-dot tl-{'full' if mode == 'full' else 'incremental'}{f' tl-{checked}' if checked else ''}"
    current = ' aria-current="true"' if uuid == chosen else ""
    return (
        f'<a class="{classes}" id="point-{uuid}" href="{prefix}{uuid}" title="{words}" aria-label="{words}"'
        f' data-hour="{at.hour}"{current}><span class="tl-time">{at:%H:%M}</span></a>'
    )
