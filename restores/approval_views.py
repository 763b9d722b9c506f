# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores that wait for a second person: the list, one of them, and the decision."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from portal.accounts.models import User
from portal.jobs.states import JobState
from restores import approvals, presenters
from restores.models import Approval, Restore

SHOWN = 100
_ROWS = ("restore__job__requested_by", "restore__point__vm__environment")


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


def _found(request: HttpRequest, restore_uuid: uuid.UUID) -> Approval:
    rows = Approval.objects.visible_to(_person(request)).select_related(*_ROWS)
    return get_object_or_404(rows, restore__uuid=restore_uuid)


@require_safe
def approval_list(request: HttpRequest) -> HttpResponse:
    """Those that wait, mine to decide first."""
    person = _person(request)
    waiting = Approval.objects.undecided().filter(restore__job__state=JobState.WAITING).select_related(*_ROWS)
    mine = list(waiting.decidable_by(person)[:SHOWN])
    others = list(waiting.visible_to(person).exclude(pk__in=[row.pk for row in mine])[:SHOWN])
    context = {
        "columns": presenters.APPROVAL_COLUMNS,
        "mine": presenters.approval_rows(mine),
        "others": presenters.approval_rows(others),
    }
    return render(request, "restores/approval_list.html", context)


@require_safe
def approval(request: HttpRequest, restore_uuid: uuid.UUID) -> HttpResponse:
    person, found = _person(request), _found(request, restore_uuid)
    restore = found.restore
    may = Approval.objects.filter(pk=found.pk).decidable_by(person).exists()
    context = {
        "approval": found,
        "restore": restore,
        "job": restore.job,
        "waits": found.decided_at is None and restore.job.state == JobState.WAITING,
        "may_decide": may,
        "own": restore.job.requested_by_id == person.pk,
        "sees_job": Restore.objects.visible_to(person).filter(pk=restore.pk).exists(),
        "facts": presenters.approval_facts(found),
        "verdict": presenters.approval_verdict(found),
    }
    return render(request, "restores/approval.html", context)


@require_POST
def approve(request: HttpRequest, restore_uuid: uuid.UUID) -> HttpResponse:
    found = _found(request, restore_uuid)
    approvals.approve(actor=_person(request), restore=found.restore, why=request.POST.get("why", ""))
    messages.success(request, "The restore was approved and begins.")
    return redirect(found)


@require_POST
def refuse(request: HttpRequest, restore_uuid: uuid.UUID) -> HttpResponse:
    found = _found(request, restore_uuid)
    why = request.POST.get("why", "").strip()
    if not why:
        messages.error(request, "Say why: whoever ordered the restore reads it.")
        return redirect(found)
    approvals.refuse(actor=_person(request), restore=found.restore, why=why)
    messages.success(request, "The restore was refused; nothing was made.")
    return redirect(found)
