# SPDX-License-Identifier: GPL-3.0-or-later
"""Repositories: the list, one of them, its points, its trash. For platform admins; no page touches a file system."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from typing import Any

from django.contrib import messages
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from backups import growth, hurt, repositories, services
from backups import repository_presenters as presenters
from backups.commands import casync_commands
from backups.forms import AddRepositoryForm, RepositoryForm
from backups.models import Repository, RepositoryMeasurement, RestorePoint, RestorePointQuerySet
from backups.upkeep import GROWTH_OVER
from portal.accounts.models import User
from portal.jobs import presenters as job_words
from portal.jobs.models import Job
from portal.paging import Order, list_page

UPKEEP_KINDS = ("collect_garbage", "repository_verify", "repository_add")
UPKEEP_JOBS = 10
HURT_SHOWN = 8
BY_AGE = Order(("taken_at", "id"))
BY_DELETION = Order(("deleted_at", "id"))
STATES = {
    "damaged": ~Q(verify_problem=""),
    "unverified": Q(verified_at=None),
    "verified": Q(verified_at__isnull=False, verify_problem=""),
    "pinned": Q(pinned_at__isnull=False),
    "held": Q(held_at__isnull=False),
}


def _admin(request: HttpRequest) -> User:
    """Repositories do not exist for others: they hold the machines of all teams."""
    if not isinstance(request.user, User) or not request.user.is_platform_admin:
        raise Http404
    return request.user


def _repository(request: HttpRequest, repository_uuid: uuid.UUID) -> Repository:
    _admin(request)
    return get_object_or_404(Repository, uuid=repository_uuid)


@require_safe
def repository_list(request: HttpRequest) -> HttpResponse:
    _admin(request)
    rows = list(Repository.objects.all())
    since = timezone.now() - GROWTH_OVER - dt.timedelta(days=1)
    history: dict[int, list[RepositoryMeasurement]] = defaultdict(list)
    for item in RepositoryMeasurement.objects.filter(at__gte=since).order_by("-at", "-pk"):
        history[item.repository_id].append(item)
    counted = RestorePoint.objects.kept().order_by().values("repository").annotate(number=Count("pk"))
    points = dict(counted.values_list("repository", "number"))
    context = {
        "columns": presenters.LIST_COLUMNS,
        "rows": presenters.list_rows(rows, history, points),
    }
    return render(request, "backups/repository_list.html", context)


@require_safe
def repository(request: HttpRequest, repository_uuid: uuid.UUID) -> HttpResponse:
    found = _repository(request, repository_uuid)
    live = _live(request, found)
    if request.headers.get("HX-Target") == "live-jobs":
        response = render(request, "jobs/_live.html", live)
        if not live["live"]:
            # The last job has ended: the page has a result to show.
            response["HX-Refresh"] = "true"
        return response
    known = services.repository_facts(found)
    context = {
        **live,
        "repository": found,
        "state": presenters.state(found),
        "space": presenters.space(found, known.latest),
        "facts": presenters.facts(known),
        "known": known,
        "hurt": list(_matching(found, "damaged", "").select_related("vm")[:HURT_SHOWN])
        if known.points_damaged
        else [],
        "curve": growth.curve(known.measurements),
        "chunks": _hurt_chunks(found) if found.verify_problem else [],
        "growth_columns": growth.COLUMNS,
        "growth_rows": growth.rows(known.measurements),
        "verify_text": presenters.verify_text(known),
        "collect_text": presenters.collect_text(known),
        "job_columns": presenters.JOB_COLUMNS,
        "job_rows": presenters.job_rows(_upkeep_jobs(found)),
        "commands": _commands(found),
    }
    return render(request, "backups/repository.html", context)


def _live(request: HttpRequest, found: Repository) -> dict[str, Any]:
    mine = Job.objects.active().filter(vm=None, kind__in=UPKEEP_KINDS, params__repository=str(found.uuid))
    return {"live": job_words.live(list(mine[:UPKEEP_JOBS])), "live_url": request.path}


def _upkeep_jobs(found: Repository) -> list[Job]:
    """Ended ones. `vm=None` is what the index of jobs can look for."""
    ended = Job.objects.finished().filter(vm=None, kind__in=UPKEEP_KINDS)
    return list(ended.filter(params__repository=str(found.uuid)).select_related("vm")[:UPKEEP_JOBS])


def _hurt_chunks(found: Repository) -> list[hurt.HurtChunk]:
    """As the last verification found them."""
    ended = Job.objects.finished().filter(vm=None, kind="repository_verify")
    last = ended.filter(params__repository=str(found.uuid)).values_list("result", flat=True).first()
    return hurt.chunks_of(last or {})


def _commands(found: Repository) -> list[Any]:
    """How to read the newest point by hand, as an example."""
    newest = RestorePoint.objects.kept().filter(repository=found)
    point = newest.select_related("vm__environment", "repository").first()
    return casync_commands(point, list(point.disks.all()[:1])) if point else []


@require_safe
def repository_points(request: HttpRequest, repository_uuid: uuid.UUID) -> HttpResponse:
    """Newest first; `state` and `q` filter by the URL, `cursor` pages through."""
    found = _repository(request, repository_uuid)
    state, query = request.GET.get("state", ""), request.GET.get("q", "").strip()
    page = list_page(_matching(found, state, query), request.GET, "restore point", order=BY_AGE)
    context = {
        "repository": found,
        "page": page,
        "columns": presenters.POINT_COLUMNS,
        "rows": presenters.point_rows(page.rows),
        "state": state,
        "query": query,
        "states": presenters.POINT_STATES.items(),
        "filtered": bool(state or query),
    }
    return render(request, "backups/repository_points.html", context)


def _matching(found: Repository, state: str, query: str) -> RestorePointQuerySet:
    points = RestorePoint.objects.kept().filter(repository=found)
    if state in STATES:
        points = points.filter(STATES[state])
    return points.filter(vm_name__icontains=query) if query else points


@require_safe
def repository_trash(request: HttpRequest, repository_uuid: uuid.UUID) -> HttpResponse:
    """What was deleted and can still be had back, last deleted first; `cursor` pages through."""
    found = _repository(request, repository_uuid)
    deleted = RestorePoint.objects.in_trash().filter(repository=found)
    page = list_page(deleted, request.GET, "restore point", order=BY_DELETION)
    context = {
        "repository": found,
        "page": page,
        "rows": presenters.trash_rows(page.rows, found.trash_days),
    }
    return render(request, "backups/repository_trash.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def repository_add(request: HttpRequest) -> HttpResponse:
    """Orders a job: the workers must reach the folder, and a share that hangs must not hang a page."""
    actor = _admin(request)
    form = AddRepositoryForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        return redirect(repositories.order_repository(actor=actor, **form.cleaned_data))
    status = 422 if request.method == "POST" else 200
    return render(request, "backups/repository_add.html", {"form": form}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
def repository_change(request: HttpRequest, repository_uuid: uuid.UUID) -> HttpResponse:
    found = _repository(request, repository_uuid)
    initial = {"name": found.name, "trash_days": found.trash_days}
    form = RepositoryForm(request.POST or None, initial=initial, repository=found)
    if request.method == "POST" and form.is_valid():
        repositories.change_repository(actor=_admin(request), repository=found, **form.cleaned_data)
        messages.success(request, f"{found.name} was changed.")
        return redirect(found)
    status = 422 if request.method == "POST" else 200
    return render(
        request, "backups/repository_change.html", {"form": form, "repository": found}, status=status
    )


@require_POST
def repository_default(request: HttpRequest, repository_uuid: uuid.UUID) -> HttpResponse:
    found = _repository(request, repository_uuid)
    repositories.make_default(actor=_admin(request), repository=found)
    messages.success(request, f"Backups go into {found.name} from now on, unless another one is chosen.")
    return redirect(found)


@require_POST
def repository_verify(request: HttpRequest, repository_uuid: uuid.UUID) -> HttpResponse:
    found = _repository(request, repository_uuid)
    return redirect(services.verify_repository(actor=_admin(request), repository=found))


@require_POST
def repository_collect(request: HttpRequest, repository_uuid: uuid.UUID) -> HttpResponse:
    found = _repository(request, repository_uuid)
    return redirect(services.start_collection(actor=_admin(request), repository=found))
