# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit history: its state, its entries by filter, one of them, and all of it as a file."""

from __future__ import annotations

import uuid

from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from backups import anchoring
from portal import paging
from portal.accounts.models import User
from portal.trail import access, export, presenters
from portal.trail.filters import Asked

TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}


def _reader(request: HttpRequest) -> User:
    """Raises NotAllowed for those who read no part of the history."""
    assert isinstance(request.user, User)
    access.require_reader(request.user)
    return request.user


@require_safe
def entries(request: HttpRequest) -> HttpResponse:
    """Newest first; `who`, `action`, `object`, `ticket`, `via`, `since`, `until` filter by the URL."""
    person = _reader(request)
    asked = Asked.from_address(request.GET)
    matching = asked.narrow(access.visible_to(person)).select_related("seal")
    page = paging.list_page(matching, request.GET, "entry")
    context = {
        "asked": asked,
        "page": page,
        "columns": presenters.COLUMNS,
        "rows": presenters.rows(page.rows),
        "standing": presenters.standing(for_admins=person.is_platform_admin),
        "vias": presenters.VIA.items(),
        "export_query": request.GET.urlencode(),
        "may_verify": person.is_platform_admin,
    }
    return render(request, "trail/entries.html", context)


@require_safe
def entry(request: HttpRequest, entry_uuid: uuid.UUID) -> HttpResponse:
    found = get_object_or_404(access.visible_to(_reader(request)).select_related("seal"), uuid=entry_uuid)
    context = {
        "entry": found,
        "title": presenters.action_words(found.action),
        "facts": presenters.facts(found),
        "changes": presenters.changes(found),
        "details": presenters.details(found),
    }
    return render(request, "trail/entry.html", context)


@require_safe
def export_file(request: HttpRequest, form: str) -> HttpResponseBase:
    """A streaming download of what the same filters show, as `csv` or `jsonl`."""
    person = _reader(request)
    made = export.start(actor=person, asked=Asked.from_address(request.GET), form=form)
    lines = made.csv() if form == "csv" else made.json_lines()
    response = StreamingHttpResponse(lines, content_type=TYPES[form])
    name = f"audit-{timezone.now():%Y%m%d-%H%M%S}.{form}"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@require_POST
def verify(request: HttpRequest) -> HttpResponse:
    """Have a worker read the whole history again; the job's page tells how it goes."""
    return redirect(anchoring.order_verification(actor=_reader(request)))
