# SPDX-License-Identifier: GPL-3.0-or-later
"""Every component on one page, with sample data that covers its awkward cases. For staff only."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from backups import growth
from backups.models import RepositoryMeasurement
from backups.repository_presenters import Space
from portal.dashboard.needs import Need

GIB = 1024**3
MANY_POINTS = 3000
SAMPLE_NAMESPACE = uuid.UUID("6f9c1b1e-4b0c-4a56-9a3d-0a9f3c0f7a11")
STATUSES = (
    ("protected", "stale", "failing", "unprotected", "unknown"),
    ("pending", "running", "waiting", "interrupted", "succeeded", "warned", "failed", "cancelled"),
    ("verified", "unverified", "damaged", "reachable", "nearly_full", "unreachable", "up", "down"),
)
SWATCHES = ("surface-0", "surface-1", "surface-2", "line", "text", "accent", "ok", "warn", "bad", "info")

NEEDS = (
    Need(
        "failing",
        "bad",
        "db-01 has not been backed up for 3 days",
        "The Manager refused the last three backups: the disk is locked by a snapshot.",
        "#",
        "See why",
        "#",
    ),
    Need(
        "waiting",
        "warn",
        "Restoring web-01 waits for you",
        "ovirt-engine still runs on the old host.",
        "#",
        "Go on",
        "#",
    ),
    Need(
        "warning",
        "warn",
        "Backed up web-01, with 2 warnings",
        "An old checkpoint was left on the Manager. And 1 more.",
        "#",
        "See to it",
        "#",
    ),
)

SPACES = (Space(400 * GIB, 2048 * GIB, 4096 * GIB), Space(GIB, 0, 4096 * GIB), Space(None, None, None))


@dataclass(frozen=True)
class SamplePoint:
    uuid: uuid.UUID
    taken_at: datetime
    mode: str
    verified_at: datetime | None


class SampleForm(forms.Form):
    name = forms.CharField(label="Name of the new machine", help_text="No machine of this name exists yet.")
    ticket = forms.CharField(label="Ticket", required=False, help_text="Shown in the history of the machine.")
    cluster = forms.ChoiceField(label="Cluster", choices=[("default", "Default"), ("dmz", "DMZ")])
    plugged = forms.BooleanField(
        label="Plug the network in",
        required=False,
        help_text="Off is safe: two machines with the same address on one network disturb each other.",
    )


@require_safe
def styleguide(request: HttpRequest) -> HttpResponse:
    """Show all components; 404 for anybody who is not staff."""
    if not request.user.is_staff:
        raise Http404
    now = timezone.now()
    points = list(_points(now, MANY_POINTS if request.GET.get("points") == "many" else 40))
    wanted = request.GET.get("point") or str(points[3].uuid)
    chosen = next((point for point in points if str(point.uuid) == wanted), points[3])
    context = {
        "statuses": STATUSES,
        "swatches": SWATCHES,
        "gib": GIB,
        "now": now,
        "an_hour_ago": now - timedelta(hours=2, minutes=3),
        "points": points,
        "selected": chosen,
        "explanation": _explain(chosen),
        "month": request.GET.get("month", ""),
        "prefix": f"?points={request.GET.get('points', 'few')}&point=",
        "month_prefix": f"?points={request.GET.get('points', 'few')}&month=",
        "form": SampleForm({"name": "", "cluster": "dmz"}),
        "steps": _steps(now),
        "lines": _lines(now),
        "started_at": now - timedelta(seconds=95),
        "long_name": "a" * 120,
        "needs": NEEDS,
        "spaces": SPACES,
        "curve": growth.curve(_measurements(now)),
        **_plan(),
        **_tables(now),
    }
    return render(request, "dashboard/styleguide.html", context)


def _points(now: datetime, wanted: int) -> Iterator[SamplePoint]:
    """Yield nightly points, a few by day, with a gap of three days: newest first."""
    for n in range(wanted):
        days_back = n * 2 // 3 + (3 if n > 14 else 0)
        at = (now - timedelta(days=days_back)).replace(hour=(1, 13)[n % 3 == 2], minute=7 * n % 60)
        if at <= now:
            verified = now if n % 5 == 1 else None
            yield SamplePoint(
                uuid.uuid5(SAMPLE_NAMESPACE, str(n)), at, "full" if n % 21 == 20 else "incremental", verified
            )


def _measurements(now: datetime) -> list[RepositoryMeasurement]:
    """Six weeks of a repository that grows and is collected every week; not stored."""
    return [
        RepositoryMeasurement(
            at=now - timedelta(days=days), bytes_used=(400 - 2 * days + 9 * (days % 7)) * GIB
        )
        for days in range(42)
    ]


def _explain(point: SamplePoint) -> str:
    when = f"{timezone.localtime(point.taken_at):%A %-d %B, %H:%M}"
    read = "1.2 GiB were read" if point.mode == "incremental" else "40 GiB were read"
    return f"{when}. {point.mode.capitalize()}; {read}. {'Verified today.' if point.verified_at else 'Not verified yet.'} Two disks."


def _steps(now: datetime) -> list[dict[str, Any]]:
    begun = now - timedelta(minutes=4)
    return [
        {"name": "Check the Manager", "state": "succeeded", "started_at": begun, "finished_at": begun},
        {
            "name": "Start the backup",
            "state": "succeeded",
            "started_at": begun,
            "finished_at": begun + timedelta(seconds=8),
            "detail": "Full, because the checkpoint of 12 March was no longer on the Manager.",
            "output": "backup 5c0f4b2e-…  phase READY\ncheckpoint 77d1a9c4-…",
        },
        {
            "name": "Read changed blocks of web-01_Disk1",
            "state": "running",
            "started_at": now - timedelta(seconds=72),
            "detail": "1.8 of 4.2 GiB",
        },
        {
            "name": "Stop the old Manager",
            "state": "waiting",
            "started_at": now - timedelta(minutes=2),
            "why": "ovirt-engine still runs on this host. Stop it there, then go on here.",
            "action_url": "#",
            "action_label": "It is stopped, go on",
        },
        {
            "name": "Compare the checksum",
            "state": "failed",
            "started_at": begun,
            "finished_at": begun + timedelta(seconds=3),
            "detail": "Disk 2 differs from the restore point.",
            "output": "expected 9f2c…  found 11ab…",
        },
        {"name": "Release the disks", "state": "pending"},
    ]


def _lines(now: datetime) -> list[dict[str, Any]]:
    texts = (
        ("info", "Backup 5c0f4b2e is READY with 2 disks"),
        ("info", "web-01_Disk1: 4.2 GiB in 311 dirty extents of 40 GiB"),
        ("warning", "The host's own address does not answer; reading through the Manager's proxy instead"),
        ("debug", "extent 1,073,741,824 + 262,144 " + "x" * 160),
        ("error", "Connection lost after 1.8 GiB; going on from the last written chunk"),
        ("info", "Done"),
    )
    return [
        {"at": now - timedelta(seconds=90 - 14.3 * n), "level": level, "text": text}
        for n, (level, text) in enumerate(texts)
    ]


def _plan() -> dict[str, Any]:
    return {
        "blockers": [
            {
                "text": "The storage domain data1 has 12 GiB free; this restore needs up to 40 GiB.",
                "action_label": "Choose another",
                "action_url": "#",
            }
        ],
        "made": ["Virtual machine web-01-restored in the cluster Default", "Two disks with new ids on data1"],
        "changed": ["Network cards get new addresses and stay unplugged"],
        "overwritten": [
            "Nothing of what is there now can be brought back after the disk web-01_Disk2 is written"
        ],
        "alone": ["The machine web-01 and its disks", "All restore points"],
        "checks": [
            {"state": "pass", "name": "Manager reachable", "text": "Asked 12 s ago, version 4.5.7."},
            {
                "state": "warn",
                "name": "Guest agent silent",
                "text": "The file systems will not be frozen.",
                "action_label": "Why this matters",
                "action_url": "#",
            },
            {
                "state": "block",
                "name": "Disk web-01_Disk2 is raw",
                "text": "It takes no incremental backup. Turn it on at the Manager.",
                "action_label": "See how",
                "action_url": "#",
            },
        ],
    }


def _tables(now: datetime) -> dict[str, Any]:
    def row(name: str, status: str, at: datetime | None, size: int | None, seconds: float) -> dict[str, Any]:
        cells = [
            {"value": name},
            {"value": status, "kind": "badge"},
            {"value": at, "kind": "ago"},
            {"value": size, "kind": "bytes"},
            {"value": seconds, "kind": "duration"},
        ]
        return {"href": "#", "cells": cells}

    facts: list[dict[str, Any]] = [
        {"label": "Size", "value": 40 * GIB, "kind": "bytes", "note": "4.2 GiB in use"},
        {"label": "Taken", "value": now - timedelta(hours=2), "kind": "ago"},
        {"label": "Took", "value": 72, "kind": "duration"},
        {"label": "Consistency", "value": None, "why": "The guest agent did not answer."},
        {"label": "Rate", "value": 222_000_000, "kind": "rate"},
        {"label": "Id", "value": str(SAMPLE_NAMESPACE), "kind": "id"},
    ]
    return {
        "facts": facts,
        "columns": [
            {"label": "Name", "sort_url": "#", "sort": "ascending"},
            {"label": "Protection"},
            {"label": "Last restore point", "sort_url": "#"},
            {"label": "Stored", "num": True},
            {"label": "Took", "num": True},
        ],
        "rows": [
            row("web-01", "protected", now - timedelta(hours=2), 4 * GIB, 72),
            row("db-01", "failing", now - timedelta(days=3), 96 * GIB, 7390),
            row("‏خادم الويب", "stale", now - timedelta(days=9), 1400 * GIB, 41),
            row("a" * 120, "unprotected", None, None, 0),
        ],
    }
