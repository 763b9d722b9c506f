# SPDX-License-Identifier: GPL-3.0-or-later
"""Keyset paging of jobs: rows come and go, so a page is named by the job it starts after, not by a number."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.http import QueryDict

from portal.jobs.models import Job, JobQuerySet

PAGE_SIZE = 50


@dataclass(frozen=True)
class JobPage:
    """`jobs` newest first; the addresses are query strings, empty where there is no such page."""

    jobs: list[Job]
    shown: str
    newer_url: str
    older_url: str


def page_of(matching: JobQuerySet, params: QueryDict) -> JobPage:
    """The page after the job `before` (older ones) or up to the job `after` (newer ones), both uuids."""
    total = matching.count()
    before, after = _id_of(params.get("before")), _id_of(params.get("after"))
    if after is not None:
        found = list(matching.filter(id__gt=after).order_by("id")[: PAGE_SIZE + 1])
        has_newer, has_older = len(found) > PAGE_SIZE, True
        jobs = found[:PAGE_SIZE][::-1]
    else:
        rows = matching.filter(id__lt=before) if before is not None else matching
        found = list(rows.order_by("-id")[: PAGE_SIZE + 1])
        has_newer, has_older = before is not None, len(found) > PAGE_SIZE
        jobs = found[:PAGE_SIZE]
    shown = f"{total:,} job{'' if total == 1 else 's'}"
    if len(jobs) < total:
        shown = f"{len(jobs)} of {shown}"
    return JobPage(
        jobs=jobs,
        shown=shown,
        newer_url=_url(params, "after", jobs[0]) if jobs and has_newer else "",
        older_url=_url(params, "before", jobs[-1]) if jobs and has_older else "",
    )


def _id_of(given: str | None) -> int | None:
    """The id of the job of that uuid; None without one or for nonsense."""
    try:
        wanted = uuid.UUID(given) if given else None
    except ValueError:
        return None
    return Job.objects.filter(uuid=wanted).values_list("id", flat=True).first() if wanted else None


def _url(params: QueryDict, key: str, job: Job) -> str:
    kept = params.copy()
    kept.pop("before", None)
    kept.pop("after", None)
    kept[key] = str(job.uuid)
    return f"?{kept.urlencode()}"
