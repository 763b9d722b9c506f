# SPDX-License-Identifier: GPL-3.0-or-later
"""Overview and machines in the words and rows of their pages. Reads nothing, decides nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any

from django.core.paginator import Page
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.http import QueryDict
from django.utils import timezone

from backups.bases import NextBackup
from portal import wording
from portal.dashboard.protection import Protection, Summary
from portal.environments.models import Disk, VirtualMachine

Pair = tuple[VirtualMachine, Protection]
# Worst first: the order of "Needs you" and of the table sorted by protection.
WORST_FIRST = ("failing", "unprotected", "stale", "unknown", "protected")


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

SORTS: dict[str, Callable[[Summary], Any]] = {
    "name": lambda item: item.name.casefold(),
    "protection": lambda item: (WORST_FIRST.index(item.status), item.name.casefold()),
    "last": lambda item: item.last_point_at or dt.datetime.min.replace(tzinfo=dt.UTC),
}
DEFAULT_SORT = "name"


def sorted_machines(summaries: list[Summary], sort: str) -> list[Summary]:
    """By `name`, `protection` or `last`; with a minus the other way round."""
    key = SORTS.get(sort.removeprefix("-"), SORTS[DEFAULT_SORT])
    return sorted(summaries, key=key, reverse=sort.startswith("-"))


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


# How many disks a machine has, to be annotated as `disk_count`.
DISK_COUNT = Coalesce(
    Subquery(
        Disk.objects.filter(vm=OuterRef("pk"))
        .order_by()
        .values("vm")
        .annotate(number=Count("pk"))
        .values("number")
    ),
    0,
)


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


def pages(page: Page[Summary], params: QueryDict) -> dict[str, str]:
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
    {"label": "In the next backup"},
    {"label": "Size", "num": True},
    {"label": "Used", "num": True},
    {"label": "Format", "minor": True},
    {"label": "Storage domain", "minor": True},
]


def disk_rows(disks: Sequence[Disk], planned: NextBackup) -> list[dict[str, Any]]:
    """What the next backup does with each disk and why, in one sentence that begins with what."""
    reasons = {disk.manager_id: disk.reason for disk in planned.disks}
    return [
        {
            "cells": [
                {"value": f"{disk.alias} (boots)" if disk.bootable else disk.alias},
                {"value": reasons.get(str(disk.manager_id), "")},
                {"value": disk.size_bytes, "kind": "bytes"},
                {"value": disk.actual_bytes, "kind": "bytes"},
                {"value": {"cow": "qcow2"}.get(disk.format, disk.format)},
                {"value": disk.storage_domain_name},
            ]
        }
        for disk in disks
    ]


NEXT_MODES = {
    "full": "It reads every used block.",
    "incremental": "It reads only the blocks changed since then.",
    "mixed": "Some disks are read in full, of others only the changed blocks.",
}


def next_sentence(planned: NextBackup) -> str:
    """`Incremental since the restore point of 3 March, 02:00. It reads only the blocks changed since then.`"""
    if planned.problem:
        return f"None can be made now. {planned.problem}"
    left_out = sum(disk.mode == "excluded" for disk in planned.disks)
    note = f" {left_out} disk{' is' if left_out == 1 else 's are'} left out, see below." if left_out else ""
    return f"{planned.reason} {NEXT_MODES.get(planned.mode, '')}{note}"


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
    kept = "".join(
        f" {word} by {by}."
        for word, at, by in (
            ("Pinned", point.pinned_at, point.pinned_by),
            ("Held", point.held_at, point.held_by),
        )
        if at
    )
    return f"{point.reason} {read}, {took}. {proof}{kept}"


def restore_refusal(vm: VirtualMachine, team_names: Sequence[str]) -> str:
    """What to tell somebody who may look but not act."""
    whom = f"an admin of {' or '.join(team_names)}" if team_names else "a platform admin"
    return f"You may look at {vm.name}, but not back it up or restore it. Ask {whom} for the operator role."
