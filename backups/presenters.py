# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore point in the words of its page: verdict, facts, disks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from backups.models import RestorePoint, RestorePointDisk
from portal import wording
from portal.audit.models import AuditEntry
from portal.jobs import presenters as job_words

# What `consistency` of the manifest means for the person who restores (docs/store-format.md).
CONSISTENCY = {
    "frozen": "File systems were frozen for a moment: as after a clean shutdown of the disks.",
    "crash": "As after a power cut: the guest's file systems were not frozen. Journalling file systems and databases "
    "recover by themselves when the machine starts.",
    "offline": "The machine was down, so its disks were at rest.",
    "unknown": "A guest agent was there and no failed freeze was reported, but the Manager does not confirm one. "
    "Count on the state after a power cut.",
}
CONSISTENCY_WORDS = {
    "frozen": "File systems frozen",
    "crash": "As after a power cut",
    "offline": "Machine was down",
    "unknown": "Not confirmed",
}


@dataclass(frozen=True)
class Verdict:
    """`status` for the badge: verified, unverified, damaged or deleted."""

    status: str
    sentence: str


def verdict(point: RestorePoint, disks: int) -> Verdict:
    now = timezone.now()
    what = {1: "its disk", 2: "both disks"}.get(disks, f"all {disks} disks")
    if point.deleted_at is not None:
        why = f" Reason: {point.deleted_why.rstrip('.')}." if point.deleted_why else ""
        moved = f"Moved to the repository's trash {wording.ago(point.deleted_at, now)} by {point.deleted_by}.{why}"
        if point.purged_at is not None:
            gone = (
                f"It left the trash for good {wording.ago(point.purged_at, now)}; only this record remains."
            )
            return Verdict("deleted", f"{moved} {gone}")
        left = time_left(point, point.repository.trash_days)
        return Verdict("deleted", f"{moved} {left} it can be had back.")
    if point.verify_problem:
        return Verdict(
            "damaged",
            f"Damaged: {point.verify_problem} Choose another restore point, and back the machine up again.",
        )
    if point.verified_at is not None:
        checked = wording.ago(point.verified_at, now)
        return Verdict(
            "verified",
            f"Complete: the configuration and {what}. Every chunk was read and found right {checked}.",
        )
    return Verdict(
        "unverified",
        f"Complete: the configuration and {what}. It has not been read back since it was written.",
    )


def time_left(point: RestorePoint, trash_days: int) -> str:
    """How long a deleted point can still be had back: `For 13 days`."""
    if point.held_at is not None:
        return "As long as it is held"
    assert point.deleted_at is not None
    left = point.deleted_at + dt.timedelta(days=trash_days) - timezone.now()
    if left <= dt.timedelta(0):
        return "Until the next collection"
    return f"For {wording.about(left.total_seconds())}"


def facts(
    point: RestorePoint, base: RestorePoint | None, *, repository_page: bool = False
) -> list[dict[str, Any]]:
    """`base` is the restore point that this one went on from, if that is known; `repository_page`: link to it."""
    rows: list[dict[str, Any]] = [
        {"label": "Taken", "value": point.taken_at, "kind": "moment", "note": _was(point)},
        {"label": "How it was read", "value": point.get_mode_display(), "note": point.reason},
        {
            "label": "Consistency",
            "value": CONSISTENCY_WORDS.get(point.consistency, point.consistency.capitalize()),
            "note": f"{CONSISTENCY.get(point.consistency, '')} {point.consistency_evidence}".strip(),
        },
        {"label": "Size of the disks", "value": point.size_bytes, "kind": "bytes"},
        {"label": "Read", "value": point.bytes_read, "kind": "bytes", "note": _dirty(point.dirty_bytes)},
        {
            "label": "Stored",
            "value": point.bytes_stored,
            "kind": "bytes",
            "note": "Compressed, and only what the repository did not hold yet.",
        },
        {"label": "Took", "value": point.duration_seconds, "kind": "duration"},
        {
            "label": "Repository",
            "value": point.repository.name,
            "kind": "link" if repository_page else "text",
            "href": point.repository.get_absolute_url(),
        },
    ]
    if base is not None:
        gone = " It was deleted since, which does not matter to this one." if base.deleted_at else ""
        rows.insert(
            2,
            {
                "label": "Goes on from",
                "value": f"the restore point of {_when(base)}",
                "kind": "link",
                "href": base.get_absolute_url(),
                "note": f"Only what changed since was read; this point is complete without it.{gone}",
            },
        )
    rows += _kept_because(point)
    if point.job is not None:
        rows.append(
            {
                "label": "Made by",
                "value": job_words.headline(point.job),
                "kind": "link",
                "href": point.job.get_absolute_url(),
            }
        )
    if point.checkpoint_id:
        rows.append({"label": "Checkpoint", "value": str(point.checkpoint_id), "kind": "id"})
    rows.append({"label": "Id", "value": str(point.uuid), "kind": "id"})
    return rows


def _kept_because(point: RestorePoint) -> list[dict[str, Any]]:
    """Pin and hold, by whom and why."""
    now = timezone.now()
    return [
        {"label": label, "value": f"by {by}, {wording.ago(at, now)}", "note": why}
        for label, at, by, why in (
            ("Pinned", point.pinned_at, point.pinned_by, point.pinned_why),
            ("Held", point.held_at, point.held_by, point.held_why),
        )
        if at is not None
    ]


def _when(point: RestorePoint) -> str:
    taken_at = timezone.localtime(point.taken_at)
    return f"{taken_at.day} {taken_at:%B, %H:%M}"


def _was(point: RestorePoint) -> str:
    return "The machine was running." if point.vm_was_up else "The machine was down."


def _dirty(dirty_bytes: int | None) -> str:
    return f"{wording.size(dirty_bytes)} had changed." if dirty_bytes is not None else ""


DISK_COLUMNS: list[dict[str, Any]] = [
    {"label": "Disk"},
    {"label": "How it was read, and why"},
    {"label": "Size", "num": True},
    {"label": "Read", "num": True},
    {"label": "Changed", "num": True},
    {"label": "Stored", "num": True},
]


def disk_rows(disks: list[RestorePointDisk]) -> list[dict[str, Any]]:
    return [
        {
            "cells": [
                {"value": f"{disk.alias} (boots)" if disk.bootable else disk.alias},
                {"value": disk.reason or disk.get_mode_display()},
                {"value": disk.size_bytes, "kind": "bytes"},
                {"value": disk.bytes_read, "kind": "bytes"},
                {"value": wording.size(disk.dirty_bytes), "kind": "optional"}
                if disk.dirty_bytes is not None
                else {"value": "", "kind": "optional"},
                {"value": disk.bytes_stored, "kind": "bytes"},
            ]
        }
        for disk in disks
    ]


# --- what happened to it ----------------------------------------------------------------------------------

RECORDED = {
    "point.verify": ("check", "Verification ordered"),
    "point.pin": ("pin", "Pinned"),
    "point.unpin": ("pin", "No longer pinned"),
    "point.hold": ("key", "Legal hold laid"),
    "point.release": ("key", "Legal hold released"),
    "point.delete": ("overwrite", "Moved to the trash"),
    "point.undelete": ("restore", "Taken back out of the trash"),
    "point.purge": ("overwrite", "Left the trash for good"),
}


@dataclass(frozen=True)
class Happening:
    """One line of a restore point's history; `note` says by whom and why, `href` leads to its job."""

    at: dt.datetime
    icon: str
    title: str
    note: str = ""
    href: str = ""


def history(point: RestorePoint, restores: Sequence[Any], recorded: Sequence[AuditEntry]) -> list[Happening]:
    """Newest first: what the rows say to everybody, and of what was `recorded` who did it and why."""
    found = [
        Happening(point.created_at, "backup", "Made", href=point.job.get_absolute_url() if point.job else "")
    ]
    if point.verified_at is not None:
        word = "Found damaged" if point.verify_problem else "Verified"
        icon = "failed" if point.verify_problem else "check"
        found.append(Happening(point.verified_at, icon, word, point.verify_problem))
    found += [
        Happening(
            restore.proven_at,
            "check",
            "Proven",
            f"Restored as {wording.isolated(restore.target_name)}, its disks equal by SHA-256.",
            restore.job.get_absolute_url(),
        )
        for restore in restores
        if restore.proven_at is not None
    ]
    found += [_recorded(entry) for entry in recorded]
    if not recorded:
        found += _said_by_the_row(point)
    return sorted(found, key=lambda happening: happening.at, reverse=True)


def _recorded(entry: AuditEntry) -> Happening:
    icon, title = RECORDED.get(entry.action, ("info", entry.action))
    why = str(entry.data.get("reason") or entry.data.get("why") or "")
    return Happening(entry.at, icon, title, f"By {entry.actor_name}.{f' {why}' if why else ''}")


def _said_by_the_row(point: RestorePoint) -> list[Happening]:
    """For those who may not read the history: how the point stands now."""
    return [
        Happening(at, RECORDED[action][0], RECORDED[action][1], f"By {by}.{f' {why}' if why else ''}")
        for action, at, by, why in (
            ("point.pin", point.pinned_at, point.pinned_by, point.pinned_why),
            ("point.hold", point.held_at, point.held_by, point.held_why),
            ("point.delete", point.deleted_at, point.deleted_by, point.deleted_why),
        )
        if at is not None
    ]
