# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore point in the words of its page: verdict, facts, disks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from backups.models import RestorePoint, RestorePointDisk
from portal import wording
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
        why = f" Reason: {point.deleted_why}" if point.deleted_why else ""
        return Verdict(
            "deleted",
            f"Moved to the repository's trash {wording.ago(point.deleted_at, now)} by {point.deleted_by}.{why}",
        )
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


def facts(point: RestorePoint) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"label": "Taken", "value": point.taken_at, "kind": "moment", "note": _was(point)},
        {"label": "How it was read", "value": point.get_mode_display(), "note": point.reason},
        {
            "label": "Consistency",
            "value": CONSISTENCY_WORDS.get(point.consistency, point.consistency.capitalize()),
            "note": CONSISTENCY.get(point.consistency, ""),
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
        {"label": "Repository", "value": point.repository.name},
    ]
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


def _was(point: RestorePoint) -> str:
    return "The machine was running." if point.vm_was_up else "The machine was down."


def _dirty(dirty_bytes: int | None) -> str:
    return f"{wording.size(dirty_bytes)} had changed." if dirty_bytes is not None else ""


DISK_COLUMNS: list[dict[str, Any]] = [
    {"label": "Disk"},
    {"label": "How it was read"},
    {"label": "Why"},
    {"label": "Size", "num": True},
    {"label": "Read", "num": True},
    {"label": "Stored", "num": True},
]


def disk_rows(disks: list[RestorePointDisk]) -> list[dict[str, Any]]:
    return [
        {
            "cells": [
                {"value": f"{disk.alias} (boots)" if disk.bootable else disk.alias},
                {"value": disk.get_mode_display()},
                {"value": disk.reason, "kind": "optional"},
                {"value": disk.size_bytes, "kind": "bytes"},
                {"value": disk.bytes_read, "kind": "bytes"},
                {"value": disk.bytes_stored, "kind": "bytes"},
            ]
        }
        for disk in disks
    ]
