# SPDX-License-Identifier: GPL-3.0-or-later
"""From which own restore point an incremental backup may start, and why not from a newer one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from django.utils import timezone

from backups.models import RestorePoint


@dataclass(frozen=True)
class BaseChoice:
    """`point` is None for a full backup; `reason` is a sentence for people."""

    point: RestorePoint | None
    reason: str


def choose_base(
    points: Sequence[RestorePoint],
    usable_checkpoints: Collection[str],
    *,
    compatibility: str,
    full_asked: bool,
) -> BaseChoice:
    """The newest own point whose checkpoint the Manager still holds. `points` newest first."""
    if full_asked:
        return BaseChoice(None, "Full, because it was asked for.")
    if not points:
        return BaseChoice(None, "Full, because this is the first backup of this machine in this repository.")
    if not _supports_incremental(compatibility):
        return BaseChoice(
            None,
            f"Full, because the machine's compatibility level {compatibility} has no incremental backups (4.5 has).",
        )
    marked = [point for point in points if point.checkpoint_id]
    if not marked:
        return BaseChoice(None, "Full, because the earlier backups left no checkpoint (raw disks have none).")
    for point in marked:
        if str(point.checkpoint_id) in usable_checkpoints:
            return BaseChoice(point, _incremental_reason(point, marked[0]))
    return BaseChoice(
        None, f"Full, because the checkpoint of {_when(marked[0])} was no longer on the Manager."
    )


def _incremental_reason(point: RestorePoint, newest: RestorePoint) -> str:
    if point is newest:
        return f"Incremental since the restore point of {_when(point)}."
    return (
        f"Incremental since the restore point of {_when(point)}, because the checkpoint of {_when(newest)} "
        "was no longer on the Manager."
    )


def _supports_incremental(compatibility: str) -> bool:
    """From compatibility level 4.5 on (reference 3.1); an unknown level is left to the Manager to refuse."""
    parts = compatibility.split(".")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        return True
    return (int(parts[0]), int(parts[1])) >= (4, 5)


def _when(point: RestorePoint) -> str:
    taken_at = timezone.localtime(point.taken_at)
    return f"{taken_at.day} {taken_at:%B, %H:%M}"
