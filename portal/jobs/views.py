# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of jobs, one job live, and what can be done with it."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from portal.accounts.models import User
from portal.audit import services as audit
from portal.environments.models import VirtualMachine
from portal.jobs import presenters, services
from portal.jobs.models import Job, JobLogLine, JobQuerySet
from portal.jobs.states import ACTIVE, JobState
from portal.paging import PAGE_SIZE, list_page

LOG_TAIL = 500


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


def _job(request: HttpRequest, job_uuid: uuid.UUID) -> Job:
    rows = Job.objects.visible_to(_person(request)).select_related("vm", "environment", "retry_of")
    return get_object_or_404(rows, uuid=job_uuid)


@require_safe
def job_list(request: HttpRequest) -> HttpResponse:
    """Newest first; `state` and `q` filter by the URL, `cursor` pages through."""
    jobs = Job.objects.visible_to(_person(request)).select_related("vm")
    state = request.GET.get("state", "")
    query = request.GET.get("q", "").strip()
    matching = _matching(jobs, state, query)
    page = list_page(matching, request.GET, "job")
    context = {
        "page": page,
        "columns": presenters.LIST_COLUMNS,
        "rows": presenters.list_rows(page.rows),
        "state": state,
        "query": query,
        "states": [("active", "Unfinished"), ("warned", "With open warnings"), *JobState.choices],
        "filtered": bool(state or query),
        "to_see_to": [job.uuid for job in page.rows] if state == "warned" else [],
    }
    return render(request, "jobs/list.html", context)


def _matching(jobs: JobQuerySet, state: str, query: str) -> JobQuerySet:
    if state == "active":
        jobs = jobs.filter(state__in=ACTIVE)
    elif state == "warned":
        jobs = jobs.with_open_warnings()
    elif state in JobState.values:
        jobs = jobs.filter(state=state)
    if query:
        jobs = jobs.filter(
            Q(title__icontains=query) | Q(ticket__iexact=query) | Q(requested_by_name__iexact=query)
        )
    return jobs


def _progress_context(request: HttpRequest, job: Job) -> dict[str, Any]:
    person = _person(request)
    words = presenters.words_of(job)
    attempts = list(job.attempts.all())
    return {
        "job": job,
        "headline": presenters.headline(job),
        "badge": presenters.badge(job),
        "phase": presenters.phase(job),
        "summary": presenters.summary(job),
        "tab_title": presenters.tab_title(job),
        "steps": presenters.steps(list(job.steps.all())),
        "facts": presenters.facts(job, len(attempts)),
        "attempts": attempts if len(attempts) > 1 else [],
        "outcome": presenters.outcome(job, VirtualMachine.objects.visible_to(person)),
        "left_alone": words.left_alone,
        "cancel_text": words.cancelling,
        "may_steer": job.may_be_steered_by(person),
    }


@require_safe
def job(request: HttpRequest, job_uuid: uuid.UUID) -> HttpResponse:
    found = _job(request, job_uuid)
    context = _progress_context(request, found) | _log_context(found, after=None)
    return render(request, "jobs/job.html", context)


@require_safe
def job_progress(request: HttpRequest, job_uuid: uuid.UUID) -> HttpResponse:
    """The fragment that the page includes, polled while the job is unfinished."""
    return render(request, "jobs/_progress.html", _progress_context(request, _job(request, job_uuid)))


def _log_context(job: Job, *, after: int | None) -> dict[str, Any]:
    """Lines after the one with the id `after`, or the newest ones; the tail's address while there may be more."""
    if after is None:
        lines = list(job.log_lines.order_by("-id")[:LOG_TAIL])[::-1]
    else:
        lines = list(job.log_lines.filter(id__gt=after)[:LOG_TAIL])
    last = lines[-1].pk if lines else after or 0
    # The job was read before its lines, so a finished one has no lines to come.
    more = job.is_active or (len(lines) == LOG_TAIL and after is not None)
    return {
        "lines": lines,
        "start": job.started_at or job.created_at,
        "tail_url": f"{job.get_absolute_url()}log/?after={last}" if more else "",
    }


@require_safe
def job_log(request: HttpRequest, job_uuid: uuid.UUID) -> HttpResponseBase:
    """The whole log as text; with `after` (a line's id) the fragment of the lines that follow."""
    found = _job(request, job_uuid)
    after = request.GET.get("after", "")
    if after.isdecimal() and len(after) < 19:
        context = {**_log_context(found, after=int(after)), "continued": True}
        return render(request, "components/_log_lines.html", context)
    audit.record("download", actor=_person(request), subject=found, what="log of a job")
    lines = JobLogLine.objects.filter(job=found).values_list("at", "level", "text").iterator(chunk_size=500)
    text = (f"{at:%Y-%m-%dT%H:%M:%SZ} {level} {words}\n" for at, level, words in lines)
    response = StreamingHttpResponse(text, content_type="text/plain; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="job-{found.uuid}.log"'
    return response


@require_POST
def cancel(request: HttpRequest, job_uuid: uuid.UUID) -> HttpResponse:
    found = services.cancel_job(actor=_person(request), job=_job(request, job_uuid))
    return redirect(found)


@require_POST
def retry(request: HttpRequest, job_uuid: uuid.UUID) -> HttpResponse:
    return redirect(services.retry_job(actor=_person(request), job=_job(request, job_uuid)))


@require_POST
def seen_to(request: HttpRequest, job_uuid: uuid.UUID) -> HttpResponse:
    """The warnings need nobody any more; who said so stays on the job."""
    return redirect(services.see_to_warnings(actor=_person(request), job=_job(request, job_uuid)))


@require_POST
def seen_to_all(request: HttpRequest) -> HttpResponse:
    """The warnings of the jobs that were shown (`job`, uuids, at most a page of them); others' are left as they are."""
    person, wanted = _person(request), request.POST.getlist("job")[:PAGE_SIZE]
    shown = Job.objects.visible_to(person).with_open_warnings().filter(uuid__in=_uuids(wanted))
    mine = [job for job in shown.select_related("vm") if job.may_be_steered_by(person)]
    for job in mine:
        services.see_to_warnings(actor=person, job=job)
    messages.success(request, f"{len(mine)} job{' was' if len(mine) == 1 else 's were'} seen to.")
    return redirect(f"{reverse('jobs:job_list')}?state=warned")


def _uuids(given: list[str]) -> list[uuid.UUID]:
    """Those that are uuids. Raises Http404 for anything else: only made-up forms hold it."""
    try:
        return [uuid.UUID(text) for text in given]
    except ValueError as error:
        raise Http404 from error


@require_safe
def running_indicator(request: HttpRequest) -> HttpResponse:
    jobs = Job.objects.visible_to(_person(request))
    return render(request, "components/_running.html", presenters.unfinished_counts(jobs))
