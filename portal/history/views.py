# SPDX-License-Identifier: GPL-3.0-or-later
"""What was backed up and restored: as a list, as a file, by day; and how well machines are covered now.

Who sees what: the list, the calendar and the coverage hold the machines that a person may see, and the list what the
person asked for; files may be taken away by those who may read the history (READ_AUDIT), of the machines on which
they may.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_safe

from portal import exports
from portal.accounts.models import User
from portal.audit import services as audit
from portal.audit.models import AuditSeal
from portal.dashboard.protection import DEFINITIONS, STATUSES
from portal.errors import NotAllowed, PortalError
from portal.history import calendar, coverage, filters, presenters
from portal.history.filters import BY_TIME, HistoryFilter
from portal.jobs.models import Job, JobQuerySet
from portal.paging import list_page, page_of
from portal.trail.access import may_read

EXPORT_PART = 1000
# Filters that are folded away until they are used.
MORE = ("who", "whom", "ticket", "team", "environment", "method", "mode")
# What a calendar can be of; a day's list adds the day.
CALENDAR_OF = ("q", "team", "environment", "vm")


class BadFilter(PortalError):
    """A filter that makes no sense narrows nothing, so nothing is answered."""

    status = 400


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


def _filter(request: HttpRequest) -> HistoryFilter:
    person = _person(request)
    return HistoryFilter(
        request.GET, teams=filters.teams_of(person), environments=filters.environments_of(person)
    )


@require_safe
def history_list(request: HttpRequest) -> HttpResponse:
    """Newest first; the filters (filters.py) and the `cursor` stand in the address. A wrong filter lists nothing."""
    person, form = _person(request), _filter(request)
    rows = filters.history_of(person)
    matching = filters.narrowed(rows, form.cleaned_data) if form.is_valid() else rows.none()
    page = list_page(matching.select_related("vm"), request.GET, "job", order=BY_TIME)
    kept = request.GET.copy()
    kept.pop("cursor", None)
    context = {
        "form": form,
        "page": page,
        "columns": presenters.COLUMNS,
        "rows": presenters.rows(page.rows),
        "filtered": bool(form.given),
        "more_open": any(name in form.given for name in MORE),
        "vm": form.vm_of(person),
        "may_export": may_read(person) if form.is_valid() else False,
        "params": kept.urlencode(),
    }
    return render(request, "history/list.html", context)


@require_GET
def export_csv(request: HttpRequest) -> StreamingHttpResponse:
    lines = exports.csv_lines(_exported(request, "csv"), presenters.EXPORTED)
    return _file(lines, exports.CSV, "csv")


@require_GET
def export_json_lines(request: HttpRequest) -> StreamingHttpResponse:
    return _file(exports.json_lines(_exported(request, "jsonl")), exports.JSON_LINES, "jsonl")


def _exported(request: HttpRequest, format_: str) -> Iterator[dict[str, Any]]:
    """The rows that the filters leave, read while they are sent. Raises NotAllowed, BadFilter."""
    person, form = _person(request), _filter(request)
    if not may_read(person):
        raise NotAllowed(
            "Your role does not allow to take the history away, so nothing was written.",
            hint="Ask an admin of your team for the auditor role.",
        )
    if not form.is_valid():
        wrong = ", ".join(str(form[name].label).lower() for name in form.errors)
        raise BadFilter(f"The filter makes no sense ({wrong}), so nothing was written.", hint="Correct it.")
    audit.record("history.export", actor=person, format=format_, filters=form.given)
    matching = filters.narrowed(filters.exportable_of(person), form.cleaned_data)
    rows = matching.select_related("vm", "environment").only(*presenters.READ_FOR_EXPORT)
    return presenters.exported(_in_parts(rows))


def _in_parts(matching: JobQuerySet) -> Iterator[Job]:
    """All of them, a part at a time: no transaction is held open while a slow reader reads."""
    cursor = ""
    while True:
        page = page_of(matching, cursor, order=BY_TIME, size=EXPORT_PART)
        yield from page.rows
        cursor = page.older
        if not cursor:
            return


def _file(lines: Iterator[str], content_type: str, suffix: str) -> StreamingHttpResponse:
    response = StreamingHttpResponse(exports.in_pieces(lines), content_type=content_type)
    name = f"history-{timezone.localdate():%Y-%m-%d}.{suffix}"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@require_safe
def calendar_page(request: HttpRequest) -> HttpResponse:
    """Backups by day over three months, the last of them `month`; of a machine, team or Manager in the address."""
    person, form = _person(request), _filter(request)
    today = timezone.localdate()
    last = calendar.month_of(request.GET.get("month", ""), today)
    rows = filters.history_of(person)
    wanted = {name: form.cleaned_data.get(name) for name in CALENDAR_OF} if form.is_valid() else None
    days = calendar.counted(filters.narrowed(rows, wanted), last) if wanted is not None else {}
    kept = {name: value for name, value in form.given.items() if name in CALENDAR_OF}

    def day_url(day: dt.date) -> str:
        query = urlencode({**kept, "kind": "backup", "since": day.isoformat(), "until": day.isoformat()})
        return f"{reverse('history:list')}?{query}"

    def month_url(month: dt.date) -> str:
        return f"?{urlencode({**kept, 'month': f'{month:%Y-%m}'})}"

    shown = calendar.months(days, last, today, day_url)
    context = {
        "form": form,
        "vm": form.vm_of(person),
        "months": shown,
        "span": f"{shown[0].label} to {shown[-1].label}",
        "summary": calendar.summary(days),
        "weekdays": calendar.WEEKDAYS,
        "marks": calendar.MARKS.items(),
        "older_url": month_url(calendar.moved(last, -calendar.MONTHS)),
        "newer_url": month_url(min(calendar.moved(last, calendar.MONTHS), today.replace(day=1)))
        if last < today.replace(day=1)
        else "",
        "filtered": bool(kept),
    }
    return render(request, "history/calendar.html", context)


@require_safe
def coverage_page(request: HttpRequest) -> HttpResponse:
    """How well the machines are protected that this person may see, now; made to be printed for an auditor."""
    found = coverage.coverage_of(_person(request))
    context = {
        "coverage": found,
        "statuses": STATUSES,
        "definitions": [(status, found.all.counts[status], DEFINITIONS[status]) for status in STATUSES],
        "now": timezone.now(),
        "seal": AuditSeal.objects.order_by("-sequence").first(),
    }
    return render(request, "history/coverage.html", context)
