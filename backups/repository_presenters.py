# SPDX-License-Identifier: GPL-3.0-or-later
"""Repositories in the words and rows of their pages. Reads nothing, decides nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from backups.models import Repository, RepositoryMeasurement, RestorePoint
from backups.presenters import time_left
from backups.upkeep import RepositoryFacts, growth_per_day
from portal import wording
from portal.jobs import presenters as job_words
from portal.jobs.models import Job

# A look longer ago than this is said to be old: beat looks every hour.
KNOWN = dt.timedelta(hours=3)
# Less than this part of the file system free is called nearly full.
SHORT_OF_SPACE = 0.05
BROKEN_WORDS = {"repository_missing": "Not mounted", "repository_mismatch": "Another repository is there"}


@dataclass(frozen=True)
class State:
    """`status` and `label` for the badge; a sentence that says when this was learned; `problem` for the error."""

    status: str
    label: str
    sentence: str
    problem: str = ""


def state(repository: Repository) -> State:
    """As it was when it was last looked at: worst first, from `not reachable` to `nearly full`."""
    if repository.checked_at is None:
        return State(
            "unknown", "Not looked at yet", "Nobody has looked at it yet; a worker does within the hour."
        )
    now = timezone.now()
    looked = f"Looked at {wording.ago(repository.checked_at, now)}."
    if now - repository.checked_at > KNOWN:
        looked = f"{looked[:-1]}; it should be every hour. Are the workers and beat running?"
    if repository.problem:
        label = BROKEN_WORDS.get(repository.problem_code, "Not reachable")
        return State("unreachable", label, looked, repository.problem)
    if repository.bad_chunks or repository.verify_problem:
        problem = repository.verify_problem or f"{repository.bad_chunks} damaged chunks were found."
        return State("damaged", "Damaged", looked, problem)
    if repository.collect_problem:
        return State("uncollected", "Collection failed", looked, repository.collect_problem)
    if _is_short_of_space(repository):
        free, total = repository.free_bytes or 0, repository.total_bytes or 0
        problem = f"Only {wording.size(free)} of {wording.size(total)} are free."
        return State("nearly_full", "Nearly full", looked, problem)
    return State("reachable", "Reachable", looked)


def _is_short_of_space(repository: Repository) -> bool:
    if repository.free_bytes is None or not repository.total_bytes:
        return False
    return repository.free_bytes < SHORT_OF_SPACE * repository.total_bytes


@dataclass(frozen=True)
class Space:
    """For components/_space.html: bytes of ours, of others and free on the file system; None while unknown."""

    ours: int | None
    free: int | None
    total: int | None

    @property
    def others(self) -> int:
        return max(0, (self.total or 0) - (self.free or 0) - (self.ours or 0))

    @property
    def ours_width(self) -> str:
        return self._part(self.ours or 0)

    @property
    def used_width(self) -> str:
        return self._part((self.total or 0) - (self.free or 0))

    @property
    def words(self) -> str:
        if self.free is None or self.total is None:
            return "unknown"
        return f"{wording.size(self.free)} free of {wording.size(self.total)}"

    def _part(self, n_bytes: int) -> str:
        """A width in percent with a dot, as SVG wants it; something is never drawn as nothing."""
        if not n_bytes or not self.total:
            return "0"
        return f"{min(100.0, max(0.5, 100 * n_bytes / self.total)):.2f}"


def space(repository: Repository, latest: RepositoryMeasurement | None) -> Space:
    if latest is not None:
        return Space(latest.bytes_used, latest.bytes_free, latest.bytes_total)
    return Space(None, repository.free_bytes, repository.total_bytes)


def worst_first(repositories: Sequence[Repository]) -> list[tuple[Repository, State]]:
    """Those that need a person, with how they are."""
    order = ("unreachable", "damaged", "uncollected", "nearly_full")
    states = [(repository, state(repository)) for repository in repositories]
    troubled = [pair for pair in states if pair[1].status in order]
    return sorted(troubled, key=lambda pair: order.index(pair[1].status))


# --- the list ---------------------------------------------------------------------------------------------

LIST_COLUMNS: list[dict[str, Any]] = [
    {"label": "Repository"},
    {"label": "State"},
    {"label": "Space"},
    {"label": "Restore points", "num": True},
    {"label": "Grows by", "num": True},
    {"label": "Last verified"},
    {"label": "Last collection"},
]


def list_rows(
    repositories: Sequence[Repository],
    measurements: Mapping[int, list[RepositoryMeasurement]],
    points: Mapping[int, int],
) -> list[dict[str, Any]]:
    """`measurements` newest first and `points` (kept ones), both by the repository's primary key."""
    rows = []
    for repository in repositories:
        found, history = state(repository), measurements.get(repository.pk, [])
        name = f"{repository.name} (default)" if repository.is_default else repository.name
        rows.append(
            {
                "href": repository.get_absolute_url(),
                "cells": [
                    {"value": name},
                    {"value": found.status, "kind": "badge", "label": found.label},
                    {"value": space(repository, history[0] if history else None), "kind": "space"},
                    {"value": f"{points.get(repository.pk, 0):,}"},
                    {"value": growth(growth_per_day(history)), "kind": "optional"},
                    {"value": repository.verified_at, "kind": "ago"},
                    {"value": repository.collected_at, "kind": "ago"},
                ],
            }
        )
    return rows


def growth(bytes_per_day: float | None) -> str:
    """`1.2 GiB a day`; empty while it cannot be told."""
    if bytes_per_day is None:
        return ""
    if abs(bytes_per_day) < 1:
        return "not at all"
    return f"{wording.size(round(bytes_per_day))} a day"


# --- one repository ---------------------------------------------------------------------------------------


def facts(known: RepositoryFacts) -> list[dict[str, Any]]:
    repository, latest = known.repository, known.latest
    rows: list[dict[str, Any]] = [
        {
            "label": "Restore points",
            "value": f"{known.points:,} of {known.machines:,} machine{'' if known.machines == 1 else 's'}"
            if known.points
            else "None yet",
            "note": _kept(known),
        },
        {
            "label": "Stored",
            "value": latest.bytes_used if latest else None,
            "kind": "bytes",
            "why": "It has not been measured yet.",
            "note": _saved(known),
        },
        {
            "label": "Free on its file system",
            "value": latest.bytes_free if latest else repository.free_bytes,
            "kind": "bytes",
            "why": "It has not been reached yet.",
            "note": _left(known),
        },
        {
            "label": "Grows by",
            "value": growth(known.growth_bytes_per_day),
            "why": "That is known after a day of measuring.",
        },
        {
            "label": "Last verified",
            "value": repository.verified_at,
            "kind": "ago",
            "note": _verified(repository),
        },
        {
            "label": "Last collection",
            "value": repository.collected_at,
            "kind": "ago",
            "note": _collected(repository),
        },
        {"label": "Trash", "value": f"{repository.trash_days} days", "note": _trash(known)},
        {"label": "Folder", "value": repository.path, "kind": "id"},
        {"label": "Id", "value": str(repository.uuid), "kind": "id"},
    ]
    return rows


def _kept(known: RepositoryFacts) -> str:
    said = [
        f"{number:,} {word}"
        for number, word in (
            (known.points_verified, "verified"),
            (known.points_pinned, "pinned"),
            (known.points_held, "held"),
            (known.points_damaged, "damaged"),
        )
        if number
    ]
    return ", ".join(said).capitalize() + "." if said else ""


def _saved(known: RepositoryFacts) -> str:
    latest = known.latest
    if latest is None or not latest.bytes_used or not known.logical_bytes:
        return ""
    whole = wording.size(known.logical_bytes)
    return f"In {latest.chunks:,} chunks; the disks of all points together are {whole}."


def _left(known: RepositoryFacts) -> str:
    if known.days_left is None:
        return ""
    if known.days_left > 3650:
        return "Enough for ten years at this growth."
    return f"At this growth full {wording.ago(timezone.now() + dt.timedelta(days=known.days_left), timezone.now())}."


def _verified(repository: Repository) -> str:
    if repository.verified_at is None:
        return ""
    if repository.verify_problem:
        return repository.verify_problem
    chunks = (
        f"{repository.verified_chunks:,} chunks" if repository.verified_chunks is not None else "Everything"
    )
    return f"{chunks} read and found right."


def _collected(repository: Repository) -> str:
    if repository.collected_at is None:
        return ""
    if repository.collect_problem:
        return repository.collect_problem
    if not repository.collected_chunks:
        return "Nothing was unused."
    freed = wording.size(repository.collected_bytes or 0)
    return f"{repository.collected_chunks:,} chunks removed, {freed} freed."


def _trash(known: RepositoryFacts) -> str:
    n = known.points_in_trash
    return f"{n:,} restore point{' is' if n == 1 else 's are'} in it." if n else "It is empty."


def verify_text(known: RepositoryFacts) -> str:
    amount = f" of {wording.size(known.latest.bytes_used)}" if known.latest else ""
    return (
        f"Every chunk{amount} is read and compared with its name, every restore point with its manifest. Damaged "
        "chunks are set aside, so that the next backup writes them anew. Backups and restores go on meanwhile, slower."
    )


def collect_text(known: RepositoryFacts) -> str:
    days = known.repository.trash_days
    return (
        f"What has lain in the trash for more than {days} day{'' if days == 1 else 's'} goes for good, then chunks "
        "that no restore point needs. Points that are held, and everything that is still in its grace period, stay."
    )


JOB_COLUMNS = job_words.LIST_COLUMNS


def job_rows(jobs: list[Job]) -> list[dict[str, Any]]:
    return job_words.list_rows(jobs)


# --- its points -------------------------------------------------------------------------------------------

POINT_COLUMNS: list[dict[str, Any]] = [
    {"label": "Machine"},
    {"label": "Taken"},
    {"label": "How it was read"},
    {"label": "State"},
    {"label": "Kept", "minor": True},
    {"label": "Size", "num": True},
    {"label": "Stored", "num": True},
]
POINT_STATES = {
    "damaged": "Damaged",
    "unverified": "Not verified yet",
    "verified": "Verified",
    "pinned": "Pinned",
    "held": "Held",
}


def point_rows(points: Sequence[RestorePoint]) -> list[dict[str, Any]]:
    return [
        {
            "href": point.get_absolute_url(),
            "cells": [
                {"value": point.vm_name},
                {"value": point.taken_at, "kind": "moment"},
                {"value": point.get_mode_display()},
                {"value": point_status(point), "kind": "badge"},
                {"value": kept_because(point), "kind": "optional"},
                {"value": point.size_bytes, "kind": "bytes"},
                {"value": point.bytes_stored, "kind": "bytes"},
            ],
        }
        for point in points
    ]


def point_status(point: RestorePoint) -> str:
    if point.verify_problem:
        return "damaged"
    return "verified" if point.verified_at else "unverified"


def kept_because(point: RestorePoint) -> str:
    words = [word for word, at in (("held", point.held_at), ("pinned", point.pinned_at)) if at]
    return " and ".join(words).capitalize()


@dataclass(frozen=True)
class TrashRow:
    point: RestorePoint
    left: str


def trash_rows(points: Sequence[RestorePoint], trash_days: int) -> list[TrashRow]:
    return [TrashRow(point, time_left(point, trash_days)) for point in points]
