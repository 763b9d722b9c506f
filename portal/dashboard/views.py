# SPDX-License-Identifier: GPL-3.0-or-later
"""Overview, machines, one machine, search: the pages that look across all apps."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Count, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from backups import repository_presenters as repository_words
from backups.bases import next_backup
from backups.models import Repository, RestorePoint
from portal.accounts.models import Team, User
from portal.accounts.roles import Capability
from portal.audit import services as audit
from portal.dashboard import needs, presenters
from portal.dashboard.csv_answers import csv_answer
from portal.dashboard.protection import STATUSES, Summary, machines_of, protection, summaries, with_protection
from portal.environments.models import Environment, VirtualMachine
from portal.events import presenters as webhook_words
from portal.events.models import Webhook
from portal.jobs import presenters as job_words
from portal.jobs.models import Job
from portal.jobs.states import JobState
from restores.people import in_words, people_of

PAGE_SIZE = 50
NEEDS_YOU = 12
WARNED_JOBS = 3
CSV_PART = 500
NEEDY = ("failing", "unprotected", "stale")
TIMELINE_POINTS = 3000


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


def _pairs(summaries: list[Summary]) -> list[presenters.Pair]:
    """The machines themselves with their protection in words, in the same order; for a page of them."""
    rows = with_protection(VirtualMachine.objects.filter(pk__in=[item.pk for item in summaries]))
    found = {
        vm.pk: vm for vm in rows.select_related("environment").annotate(disk_count=presenters.DISK_COUNT)
    }
    return [(found[item.pk], protection(found[item.pk])) for item in summaries if item.pk in found]


@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    person = _person(request)
    if person.is_here_for_machines_alone:
        return redirect("dashboard:mine")
    jobs = Job.objects.visible_to(person).select_related("vm")
    live = {
        "live": job_words.live(list(jobs.active().exclude(state=JobState.WAITING)[:10])),
        "live_url": request.path,
        "live_note": "No job is running.",
    }
    if _wants_live_jobs(request):
        return render(request, "jobs/_live.html", live)
    rows = summaries(machines_of(person))
    tally = Counter(item.status for item in rows)
    counts = {name: tally[name] for name in STATUSES}
    repositories = list(Repository.objects.all()) if person.is_platform_admin else []
    troubled = list(Environment.objects.exclude(problem="")) if person.is_platform_admin else []
    needy = presenters.sorted_machines([item for item in rows if item.status in NEEDY], "protection")
    warned = jobs.with_open_warnings()
    given_up = webhook_words.needing_somebody(Webhook.objects.managed_by(person))
    others: list[needs.Need] = [
        *needs.of_waiting_jobs(list(jobs.filter(state=JobState.WAITING)[:NEEDS_YOU])),
        *needs.of_managers(troubled),
        *needs.of_repositories(repository_words.worst_first(repositories)),
        *needs.of_webhooks(list(given_up[:NEEDS_YOU])),
        *needs.of_warnings(list(warned[:WARNED_JOBS])),
    ]
    of_machines = _needs_of_machines(person, _pairs(needy[: max(1, NEEDS_YOU - len(others))]))
    # What is lost or broken before what is only to be looked at; otherwise in the order of their lists.
    worst_first = sorted([*others, *of_machines], key=lambda need: need.tone != "bad")
    context = {
        **live,
        "counts": counts,
        "total": len(rows),
        "needs": worst_first,
        "more_machines": len(needy) - len(of_machines),
        "more_warned": max(0, warned.count() - WARNED_JOBS),
        "all_well": presenters.all_well_sentence(counts, len(rows)) if rows else "",
        "last_day": presenters.last_day_sentence(len(rows), _last_day(person, jobs)),
        "recent_columns": job_words.LIST_COLUMNS,
        "recent_rows": job_words.list_rows(list(jobs.finished()[:6])),
        "has_environment": Environment.objects.exists(),
        "repository": next(iter(repositories), None),
        "repositories": len(repositories),
    }
    return render(request, "dashboard/overview.html", context)


def _wants_live_jobs(request: HttpRequest) -> bool:
    return request.headers.get("HX-Target") == "live-jobs"


def _needs_of_machines(person: User, pairs: list[presenters.Pair]) -> list[needs.Need]:
    keys = [vm.pk for vm, _ in pairs]
    allowed = VirtualMachine.objects.allowing(person, Capability.BACK_UP).filter(pk__in=keys)
    running = Job.objects.active().filter(kind="vm_backup", vm__in=keys)
    return needs.of_machines(
        pairs, set(allowed.values_list("pk", flat=True)), dict(running.values_list("vm_id", "uuid"))
    )


def _last_day(person: User, jobs: Any) -> dict[str, Any]:
    since = timezone.now() - dt.timedelta(hours=24)
    recent = jobs.filter(kind="vm_backup", finished_at__gte=since)
    points = RestorePoint.objects.visible_to(person).filter(created_at__gte=since)
    ended: dict[str, Any] = recent.aggregate(
        machines=Count("vm", filter=Q(state=JobState.SUCCEEDED), distinct=True),
        failed=Count("pk", filter=Q(state=JobState.FAILED), distinct=True),
    )
    return ended | points.aggregate(read=Sum("bytes_read"), stored=Sum("bytes_stored"))


@require_safe
def vm_list(request: HttpRequest) -> HttpResponse:
    """All in the URL: `q` (name or description), `status` (protection), `team`, `environment`, `sort`, `page`,
    `format=csv`."""
    person = _person(request)
    vms = machines_of(person)
    query = request.GET.get("q", "").strip()
    if query:
        vms = vms.filter(Q(name__icontains=query) | Q(description__icontains=query))
    team, environment = _team(request), _environment(request)
    if team is not None:
        vms = vms.filter(
            pk__in=VirtualMachine.teams.through.objects.filter(team=team).values("virtualmachine")
        )
    if environment is not None:
        vms = vms.filter(environment=environment)
    rows = summaries(vms)
    status = request.GET.get("status", "")
    if status in STATUSES:
        rows = [item for item in rows if item.status == status]
    sort = request.GET.get("sort", presenters.DEFAULT_SORT)
    rows = presenters.sorted_machines(rows, sort)
    columns = presenters.machine_columns(request.GET, sort)
    if request.GET.get("format") == "csv":
        audit.record("download", actor=request.user, what="list of machines", filters=request.GET.dict())
        return csv_answer("machines.csv", columns, _csv_rows(rows))
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "columns": columns,
        "rows": presenters.machine_rows(_pairs(list(page))),
        **presenters.pages(page, request.GET),
        "query": query,
        "status": status,
        "sort": request.GET.get("sort", ""),
        "statuses": STATUSES,
        "team": team,
        "environment": environment,
        "filtered": bool(query or status or team or environment),
        "has_environment": Environment.objects.exists(),
    }
    return render(request, "dashboard/vm_list.html", context)


def _team(request: HttpRequest) -> Team | None:
    """The team in the address. Raises Http404 for one that is not there or none of the person's."""
    given, person = request.GET.get("team", ""), _person(request)
    if not given:
        return None
    teams = Team.objects.all() if person.reaches_every_machine else person.teams.all()
    return get_object_or_404(teams, uuid=_as_uuid(given))


def _environment(request: HttpRequest) -> Environment | None:
    """The Manager in the address. Raises Http404 for one that is not there; its machines are narrowed anyway."""
    given = request.GET.get("environment", "")
    if not given:
        return None
    seen = VirtualMachine.objects.visible_to(_person(request)).values("environment")
    return get_object_or_404(Environment.objects.filter(pk__in=seen), uuid=_as_uuid(given))


def _csv_rows(summaries: list[Summary]) -> list[dict[str, Any]]:
    """All pages of the table; some hundred machines at a time, as a query takes only so many parameters."""
    parts = [summaries[start : start + CSV_PART] for start in range(0, len(summaries), CSV_PART)]
    return [row for part in parts for row in presenters.machine_rows(_pairs(part))]


@require_safe
def vm(request: HttpRequest, vm_uuid: uuid.UUID) -> HttpResponse:
    """One machine; in the URL `point` is chosen on the timeline, `month` is open, `repository` is for the next backup."""
    person = _person(request)
    rows = with_protection(VirtualMachine.objects.visible_to(person).select_related("environment"))
    found = get_object_or_404(rows, uuid=vm_uuid)
    active = list(found.jobs.active().select_related("vm"))
    live = {"live": job_words.live(active), "live_url": request.path}
    if _wants_live_jobs(request):
        response = render(request, "jobs/_live.html", live)
        if not active:
            # The last job has ended: the page has a new restore point or a failure to show.
            response["HX-Refresh"] = "true"
        return response
    points = list(RestorePoint.objects.kept().filter(vm=found)[:TIMELINE_POINTS])
    chosen = next((point for point in points if str(point.uuid) == request.GET.get("point")), None)
    chosen = chosen or (points[0] if points else None)
    teams = [team.name for team in found.teams.all()]
    repositories = list(Repository.objects.all())
    into = _chosen_repository(repositories, request.GET.get("repository", ""))
    planned = next_backup(found, into)
    may_back_up = found.allows(person, Capability.BACK_UP)
    may_restore = found.allows(person, Capability.RESTORE)
    context = {
        **live,
        "vm": found,
        "protection": protection(found),
        "disk_columns": presenters.DISK_COLUMNS,
        "disk_rows": presenters.disk_rows(list(found.disks.all()), planned),
        "planned": planned,
        "planned_sentence": presenters.next_sentence(planned),
        "repositories": repositories,
        "into": into,
        "needs": needs.of_warnings(list(found.jobs.with_open_warnings().select_related("vm")[:WARNED_JOBS])),
        "points": points,
        "chosen": chosen,
        "explanation": presenters.explain_point(chosen) if chosen else "",
        "month": request.GET.get("month", ""),
        "job_columns": job_words.LIST_COLUMNS,
        "job_rows": job_words.list_rows(list(found.jobs.finished().select_related("vm")[:10])),
        "may_back_up": may_back_up and found.gone_at is None,
        "backing_up": any(job.kind == "vm_backup" for job in active),
        "may_restore": may_restore,
        "refusal": "" if may_back_up or may_restore else presenters.restore_refusal(found, teams),
        "teams": teams,
        "people_words": in_words(known) if (known := people_of(found)) else "",
        "may_manage_people": found.allows(person, Capability.MANAGE_PEOPLE),
    }
    return render(request, "dashboard/vm.html", context)


def _chosen_repository(repositories: list[Repository], wanted: str) -> Repository | None:
    """The one of that uuid, else the default, which comes first in their order."""
    chosen = [repository for repository in repositories if str(repository.uuid) == wanted]
    return next(iter([*chosen, *repositories]), None)


@require_safe
def search(request: HttpRequest) -> HttpResponse:
    person = _person(request)
    query = request.GET.get("q", "").strip()
    vms: Any = []
    jobs: Any = []
    points: Any = []
    if query:
        wanted = Q(name__icontains=query)
        job_filter = Q(title__icontains=query) | Q(ticket__iexact=query)
        point_filter = Q(vm_name__icontains=query)
        exact = _as_uuid(query)
        if exact is not None:
            wanted |= Q(uuid=exact) | Q(manager_id=exact)
            job_filter |= Q(uuid=exact)
            point_filter |= Q(uuid=exact)
        vms = VirtualMachine.objects.visible_to(person).filter(wanted).select_related("environment")[:20]
        jobs = job_words.live(
            list(Job.objects.visible_to(person).select_related("vm").filter(job_filter)[:20])
        )
        points = RestorePoint.objects.visible_to(person).kept().filter(point_filter)[:8]
    context = {"query": query, "search_query": query, "vms": vms, "jobs": jobs, "points": points}
    return render(request, "dashboard/search.html", context)


def _as_uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
