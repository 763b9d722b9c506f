# SPDX-License-Identifier: GPL-3.0-or-later
"""From which own restore point an incremental backup may start, and what the next backup of a machine will be."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from django.utils import timezone

from backups.models import Repository, RestorePoint, RestorePointDisk, default_repository
from portal.environments.models import Disk, VirtualMachine

# How many of the newest points are looked at for a base; older ones have no checkpoint left anyway.
LOOKED_AT = 50


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
    broken: Mapping[str, str] | None = None,
) -> BaseChoice:
    """The newest own point whose checkpoint the Manager still holds. `points` newest first.

    `broken` are checkpoints that this very job has found unusable, with the reason, a sentence.
    """
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
    broken = broken or {}
    passed_over: list[str] = []
    for point in marked:
        checkpoint = str(point.checkpoint_id)
        if checkpoint in usable_checkpoints and checkpoint not in broken:
            return BaseChoice(point, _incremental_reason(point, passed_over))
        if checkpoint in broken:
            passed_over.append(
                f"the checkpoint of {_when(point)} could not be used ({broken[checkpoint].rstrip('.')})"
            )
        elif point is marked[0]:
            passed_over.append(f"the checkpoint of {_when(point)} was no longer on the Manager")
    return BaseChoice(None, f"Full, because {', and '.join(passed_over)}.")


def _incremental_reason(point: RestorePoint, passed_over: list[str]) -> str:
    """`passed_over` says why no newer point was taken."""
    since = f"Incremental since the restore point of {_when(point)}"
    return f"{since}, because {', and '.join(passed_over)}." if passed_over else f"{since}."


def own_points(vm: VirtualMachine, repository: Repository) -> list[RestorePoint]:
    """Points of the machine that a backup into this repository may continue from, newest first."""
    kept = RestorePoint.objects.kept().filter(vm=vm, repository=repository)
    return list(kept.order_by("-taken_at")[:LOOKED_AT])


def _supports_incremental(compatibility: str) -> bool:
    """From compatibility level 4.5 on (reference 3.1); an unknown level is left to the Manager to refuse."""
    return is_at_least(compatibility, 4, 5, unknown=True)


def is_at_least(compatibility: str, major: int, minor: int, *, unknown: bool) -> bool:
    """Whether the compatibility level is that or a later one; `unknown` is the answer for a text that is none."""
    parts = compatibility.split(".")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        return unknown
    return (int(parts[0]), int(parts[1])) >= (major, minor)


# --- what the next one will be ------------------------------------------------------------------------------


@dataclass(frozen=True)
class NextDisk:
    """`mode` is full, incremental, or excluded (the Manager leaves such a disk out)."""

    alias: str
    manager_id: str
    mode: str
    reason: str


@dataclass(frozen=True)
class NextBackup:
    """What a backup ordered now would be, by what the portal knows: the Manager is not asked, and decides.

    `mode` is full, incremental or mixed. `problem` says why none can be made now, else it is empty; `base` is
    the restore point to continue from.
    """

    mode: str
    reason: str
    disks: list[NextDisk] = field(default_factory=list)
    base: RestorePoint | None = None
    problem: str = ""


def next_backup(
    vm: VirtualMachine, repository: Repository | None = None, *, full: bool = False
) -> NextBackup:
    """Full or incremental, and from which restore point; the default repository if none is given. Four queries."""
    repository = repository or default_repository()
    points = own_points(vm, repository) if repository else []
    choice = choose_base(
        points,
        {str(point.checkpoint_id) for point in points},
        compatibility=vm.compatibility,
        full_asked=full,
    )
    stored = {str(disk.manager_id): disk for disk in choice.point.disks.all()} if choice.point else {}
    disks = [_next_disk(disk, stored.get(str(disk.manager_id)), choice) for disk in vm.disks.all()]
    modes = {disk.mode for disk in disks} - {"excluded"}
    problem = _problem(vm, repository, nothing=not modes)
    mode, reason = _overall(modes), choice.reason
    if choice.point and mode == RestorePoint.Mode.FULL.value:
        reason = f"Full, because nothing of it can start from the checkpoint of {_when(choice.point)}."
    return NextBackup(mode, reason, disks, choice.point, problem)


def _overall(modes: set[str]) -> str:
    if len(modes) == 2:
        return RestorePoint.Mode.MIXED.value
    return next(iter(modes), RestorePoint.Mode.FULL.value)


def _problem(vm: VirtualMachine, repository: Repository | None, *, nothing: bool) -> str:
    if vm.gone_at is not None:
        return "The Manager no longer lists this machine."
    if repository is None:
        return "There is no repository to keep a restore point in."
    if nothing:
        return "No disk of this machine can be backed up by the Manager."
    return cold_problem(vm.compatibility, vm.status)


def cold_problem(compatibility: str, status: str) -> str:
    """Why a stopped machine cannot be backed up, or an empty text: bitmaps need level 4.5 (reference 3.1, 3.2)."""
    if status != "down" or is_at_least(compatibility, 4, 5, unknown=True):
        return ""
    return f"At compatibility level {compatibility} the Manager only backs up running machines, and this one is down."


def _next_disk(disk: Disk, before: RestorePointDisk | None, choice: BaseChoice) -> NextDisk:
    alias, manager_id = disk.alias, str(disk.manager_id)
    if disk.excluded_because:
        return NextDisk(alias, manager_id, "excluded", f"Left out, because {disk.excluded_because}.")
    if choice.point is None:
        return NextDisk(alias, manager_id, "full", choice.reason)
    why = why_not_incremental(
        disk.format,
        disk.size_bytes,
        in_checkpoint=before is not None and before.format != "raw",
        size_before=before.size_bytes if before else None,
    )
    if why:
        return NextDisk(alias, manager_id, "full", why)
    return NextDisk(alias, manager_id, "incremental", choice.reason)


def why_not_incremental(
    disk_format: str, size_bytes: int, *, in_checkpoint: bool, size_before: int | None
) -> str:
    """The reason why one disk of an incremental backup is read in full, or an empty text (reference 3.2, 3.4)."""
    if disk_format == "raw":
        return "Full, because raw disks are always read in full."
    if not in_checkpoint:
        return "Full, because it was not in that checkpoint."
    if size_before is not None and size_before != size_bytes:
        return "Full, because its size has changed."
    return ""


def _when(point: RestorePoint) -> str:
    taken_at = timezone.localtime(point.taken_at)
    return f"{taken_at.day} {taken_at:%B, %H:%M}"
