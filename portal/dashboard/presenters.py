# SPDX-License-Identifier: GPL-3.0-or-later
"""Overview and machines in the words and rows of their pages. Reads nothing, decides nothing."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.paginator import Page
from django.http import QueryDict
from django.urls import reverse
from django.utils import timezone

from portal import wording
from portal.dashboard.protection import Protection
from portal.environments.models import Disk, Environment, VirtualMachine
from portal.jobs import presenters as job_words
from portal.jobs.models import Job

Pair = tuple[VirtualMachine, Protection]
# Worst first: the order of "Needs you" and of the table sorted by protection.
WORST_FIRST = ("failing", "unprotected", "stale", "unknown", "protected")


@dataclass(frozen=True)
class Need:
    """A row of "Needs you". `verb_url` is a page; with `posts` it is where the button posts."""

    icon: str
    tone: str
    title: str
    text: str
    url: str
    verb: str
    verb_url: str
    posts: bool = False


def needs_of_jobs(waiting: Sequence[Job]) -> list[Need]:
    return [
        Need(
            "waiting",
            "warn",
            f"{job_words.headline(job)} waits for you",
            job.waiting_for,
            job.get_absolute_url(),
            "Go on",
            job.get_absolute_url(),
        )
        for job in waiting
    ]


def needs_of_managers(troubled: Sequence[Environment]) -> list[Need]:
    needs = []
    for environment in troubled:
        url = reverse("environments:environment", args=[environment.uuid])
        title = f"{environment.name} did not answer"
        needs.append(Need("failing", "bad", title, environment.problem, url, "Look", url))
    return needs


def needs_of_machines(
    pairs: Sequence[Pair], may_back_up: Collection[int], backing_up: Mapping[int, uuid.UUID]
) -> list[Need]:
    """`may_back_up`: primary keys of machines that this person may back up; `backing_up`: unfinished backup by key."""
    return [_need(vm, state, vm.pk in may_back_up, backing_up.get(vm.pk)) for vm, state in pairs]


def _need(vm: VirtualMachine, state: Protection, may_back_up: bool, running: uuid.UUID | None) -> Need:
    url, name = vm.get_absolute_url(), wording.isolated(vm.name)
    if state.failed_job:
        why = reverse("jobs:job", args=[state.failed_job])
        return Need("failing", "bad", f"The last backup of {name} failed", state.why, url, "See why", why)
    tone = "bad" if state.status == "failing" else "warn"
    if state.status == "failing":
        title, text = f"{name} has a damaged restore point", state.sentence
    elif state.status == "stale":
        title, text = f"{name} has no recent restore point", state.sentence
    else:
        title, text = (
            f"{name} has no restore point",
            "If its disks were lost now, it could not be brought back.",
        )
    if running:
        watch = reverse("jobs:job", args=[running])
        return Need(state.status, tone, title, "It is being backed up now.", url, "Watch", watch)
    if may_back_up:
        post = reverse("backups:back_up", args=[vm.uuid])
        return Need(state.status, tone, title, text, url, "Back up now", post, posts=True)
    return Need(state.status, tone, title, text, url, "Look", url)


def last_day_sentence(total: int, day: dict[str, Any]) -> str:
    """`In the last 24 hours, 212 of 214 machines were backed up: 1.3 TiB read, 96 GiB stored; 2 backups failed.`"""
    failed = ""
    if day["failed"]:
        failed = f"{day['failed']} backup{'' if day['failed'] == 1 else 's'} failed"
    if not day["machines"]:
        return f"In the last 24 hours no machine was backed up{'; ' + failed if failed else ''}."
    were = "was" if day["machines"] == 1 and total == 1 else "were"
    amounts = f"{wording.size(day['read'] or 0)} read, {wording.size(day['stored'] or 0)} stored"
    return (
        f"In the last 24 hours, {day['machines']:,} of {total:,} machine{'' if total == 1 else 's'} {were} backed up: "
        f"{amounts}{'; ' + failed if failed else ''}."
    )


def all_well_sentence(counts: dict[str, int], total: int) -> str:
    if counts["protected"] == total:
        return (
            "The machine that you may see is protected."
            if total == 1
            else f"All {total:,} machines are protected."
        )
    return f"{counts['protected']:,} of {total:,} machines are protected; nothing needs you."


# --- the list of machines -----------------------------------------------------------------------------

SORTS: dict[str, Callable[[Pair], Any]] = {
    "name": lambda pair: pair[0].name.casefold(),
    "protection": lambda pair: (WORST_FIRST.index(pair[1].status), pair[0].name.casefold()),
    "last": lambda pair: pair[1].last_point_at or dt.datetime.min.replace(tzinfo=dt.UTC),
}
DEFAULT_SORT = "name"


def sorted_machines(pairs: list[Pair], sort: str) -> list[Pair]:
    """By `name`, `protection` or `last`; with a minus the other way round."""
    key = SORTS.get(sort.removeprefix("-"), SORTS[DEFAULT_SORT])
    return sorted(pairs, key=key, reverse=sort.startswith("-"))


def machine_columns(params: QueryDict, sort: str) -> list[dict[str, Any]]:
    return [
        _sortable("Name", "name", params, sort),
        _sortable("Protection", "protection", params, sort),
        _sortable("Last restore point", "last", params, sort),
        {"label": "Status"},
        {"label": "Cluster", "minor": True},
        {"label": "Manager", "minor": True},
        {"label": "Disks", "num": True, "minor": True},
    ]


def _sortable(label: str, key: str, params: QueryDict, sort: str) -> dict[str, Any]:
    here = sort.removeprefix("-") == key
    backwards = sort.startswith("-")
    column = {
        "label": label,
        "sort_url": with_params(params, sort=f"-{key}" if here and not backwards else key),
    }
    if here:
        column["sort"] = "descending" if backwards else "ascending"
    return column


def with_params(params: QueryDict, **changes: str) -> str:
    """The query string with changes; paging starts anew unless it is what changes."""
    kept = params.copy()
    kept.pop("page", None)
    for key, value in changes.items():
        kept.pop(key, None)
        if value:
            kept[key] = value
    return f"?{kept.urlencode()}"


def machine_rows(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """As components/_table.html wants them. Machines are annotated with `disk_count`."""
    return [
        {
            "href": vm.get_absolute_url(),
            "cells": [
                {"value": vm.name},
                {"value": state.status, "kind": "badge"},
                {"value": state.last_point_at, "kind": "ago"},
                {"value": "gone" if vm.gone_at else vm.status, "kind": "badge"},
                {"value": vm.cluster_name},
                {"value": vm.environment.name},
                {"value": vm.disk_count},  # type: ignore[attr-defined]
            ],
        }
        for vm, state in pairs
    ]


def pages(page: Page[Pair], params: QueryDict) -> dict[str, str]:
    """What components/_pager.html wants."""
    total = page.paginator.count
    shown = f"{total:,} machine{'' if total == 1 else 's'}"
    if page.paginator.num_pages > 1:
        shown = f"{page.start_index():,}–{page.end_index():,} of {shown}"
    following = with_params(params, page=str(page.number + 1)) if page.has_next() else ""
    before = with_params(params, page=str(page.number - 1)) if page.has_previous() else ""
    return {
        "shown": shown,
        "next_url": following,
        "previous_url": before,
        "csv_url": with_params(params, format="csv"),
    }


# --- one machine --------------------------------------------------------------------------------------

DISK_COLUMNS: list[dict[str, Any]] = [
    {"label": "Disk"},
    {"label": "In a backup"},
    {"label": "Size", "num": True},
    {"label": "Used", "num": True},
    {"label": "Format", "minor": True},
    {"label": "Storage domain", "minor": True},
]


def disk_rows(disks: Sequence[Disk]) -> list[dict[str, Any]]:
    return [
        {
            "cells": [
                {"value": f"{disk.alias} (boots)" if disk.bootable else disk.alias},
                {"value": _in_a_backup(disk)},
                {"value": disk.size_bytes, "kind": "bytes"},
                {"value": disk.actual_bytes, "kind": "bytes"},
                {"value": {"cow": "qcow2"}.get(disk.format, disk.format)},
                {"value": disk.storage_domain_name},
            ]
        }
        for disk in disks
    ]


def _in_a_backup(disk: Disk) -> str:
    if disk.excluded_because:
        return f"Left out: {disk.excluded_because}."
    if disk.format == "raw":
        return "Yes, always in full: a raw disk holds no checkpoints."
    return "Yes"  # the disk's incremental flag is only a label from compatibility 4.5 on (reference 3.2)


def explain_point(point: Any) -> str:
    """The chosen restore point in words, for below the timeline; the moment itself is said beside it."""
    read = f"{wording.size(point.bytes_read)} read, {wording.size(point.bytes_stored)} stored"
    took = f"took {wording.duration(point.duration_seconds)}"
    if point.verify_problem:
        proof = f"Found damaged: {point.verify_problem}"
    elif point.verified_at:
        proof = f"Verified {wording.ago(point.verified_at, timezone.now())}."
    else:
        proof = "Not verified yet."
    return f"{point.reason} {read}, {took}. {proof}"


def restore_refusal(vm: VirtualMachine, team_names: Sequence[str]) -> str:
    """What to tell somebody who may look but not act."""
    whom = f"an admin of {' or '.join(team_names)}" if team_names else "a platform admin"
    return f"You may look at {vm.name}, but not back it up or restore it. Ask {whom} for the operator role."
