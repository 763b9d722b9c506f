# SPDX-License-Identifier: GPL-3.0-or-later
"""How full a repository was, as a small curve and as numbers. Pure functions of measurements."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from backups.models import RepositoryMeasurement
from portal import wording

WIDTH, HEIGHT = 720, 120
DAY = dt.timedelta(days=1)
# Rows of the table below the curve: the last measurement of each of so many days.
DAYS_SHOWN = 60


@dataclass(frozen=True)
class Curve:
    """For components/_curve.html. `line` and `area` are the points of SVG shapes in WIDTH × HEIGHT, y downwards."""

    line: str
    area: str
    sentence: str
    top: str
    first: str
    last: str
    width: int = WIDTH
    height: int = HEIGHT


def curve(history: Sequence[RepositoryMeasurement]) -> Curve | None:
    """Stored bytes over time; `history` newest first. None until a day has been measured."""
    if not history or history[0].at - history[-1].at < DAY:
        return None
    oldest, newest = history[-1], history[0]
    span = (newest.at - oldest.at).total_seconds()
    top = max(item.bytes_used for item in history) or 1
    drawn = [
        (
            WIDTH * (item.at - oldest.at).total_seconds() / span,
            HEIGHT - (HEIGHT - 4) * item.bytes_used / top,
        )
        for item in reversed(history)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
    began, now = timezone.localtime(oldest.at), timezone.localtime(newest.at)
    return Curve(
        line=line,
        area=f"0,{HEIGHT} {line} {WIDTH},{HEIGHT}",
        sentence=(
            f"Stored data went from {wording.size(oldest.bytes_used)} on {began.day} {began:%B %Y} "
            f"to {wording.size(newest.bytes_used)} on {now.day} {now:%B %Y}."
        ),
        top=wording.size(top),
        first=f"{began.day} {began:%b %Y}",
        last=f"{now.day} {now:%b %Y}",
    )


COLUMNS: list[dict[str, Any]] = [
    {"label": "Measured"},
    {"label": "Stored", "num": True},
    {"label": "Change", "num": True},
    {"label": "Chunks", "num": True, "minor": True},
    {"label": "Restore points", "num": True},
    {"label": "Free", "num": True},
]


def rows(history: Sequence[RepositoryMeasurement]) -> list[dict[str, Any]]:
    """One row a day, newest first, with the change since the row below."""
    daily = _last_of_each_day(history)
    shown = []
    for item, before in itertools.zip_longest(daily, daily[1:]):
        change = item.bytes_used - before.bytes_used if before else None
        shown.append(
            {
                "cells": [
                    {"value": item.at, "kind": "moment"},
                    {"value": item.bytes_used, "kind": "bytes"},
                    {"value": _signed(change), "kind": "optional"},
                    {"value": f"{item.chunks:,}"},
                    {"value": f"{item.points:,}"},
                    {"value": item.bytes_free, "kind": "bytes"},
                ]
            }
        )
    return shown[:DAYS_SHOWN]


def _last_of_each_day(history: Sequence[RepositoryMeasurement]) -> list[RepositoryMeasurement]:
    days: dict[Any, RepositoryMeasurement] = {}
    for item in history:
        days.setdefault(timezone.localtime(item.at).date(), item)
    return list(days.values())


def _signed(change: int | None) -> str:
    if change is None:
        return ""
    if change == 0:
        return "none"
    return f"{'+' if change > 0 else ''}{wording.size(change)}"
