# SPDX-License-Identifier: GPL-3.0-or-later
"""The history in the words and rows of its page, and as it leaves the portal. Reads nothing, decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from portal import wording
from portal.history.filters import METHODS, MODES
from portal.jobs import presenters as job_words
from portal.jobs.models import Job

COLUMNS: list[dict[str, Any]] = [
    {"label": "What"},
    {"label": "Asked"},
    {"label": "Result"},
    {"label": "By, and for whom"},
    {"label": "How", "minor": True},
    {"label": "Ticket"},
    {"label": "Took", "num": True},
]

# What is exported of each row, in this order.
EXPORTED = (
    "id",
    "kind",
    "machine",
    "machine_id",
    "target",
    "manager",
    "asked_at",
    "started_at",
    "ended_at",
    "state",
    "warnings",
    "error_code",
    "error",
    "asked_by",
    "asked_for",
    "via",
    "ticket",
    "reason",
    "method",
    "mode",
)
# What the database reads for that: a row has as many columns again.
READ_FOR_EXPORT = (
    "uuid",
    "kind",
    "vm_name",
    "subject_label",
    "vm__uuid",
    "params",
    "environment__name",
    "created_at",
    "started_at",
    "finished_at",
    "state",
    "warnings",
    "error_code",
    "error_message",
    "requested_by_name",
    "requested_for",
    "via",
    "ticket",
    "reason",
    "method",
    "mode",
)


def what(job: Job) -> str:
    """`Backup of web-01`, `Restore of web-01 as web-02`: with the name that the machine had then."""
    name = wording.isolated(job.vm_name or job.subject_label)
    if job.kind != "vm_restore":
        return f"Backup of {name}"
    target = _target(job)
    return f"Restore of {name} as {wording.isolated(target)}" if target else f"Restore of {name}"


def rows(jobs: Iterable[Job]) -> list[dict[str, Any]]:
    """As components/_table.html wants them, in the order of COLUMNS."""
    return [_row(job) for job in jobs]


def _row(job: Job) -> dict[str, Any]:
    state = job_words.badge(job)
    took = {"value": job_words.elapsed_seconds(job), "kind": "duration"}
    return {
        "href": job.get_absolute_url(),
        "cells": [
            {"value": what(job)},
            {"value": job.created_at, "kind": "moment"},
            {"value": state.status, "kind": "badge", "label": state.label},
            {"value": _people(job)},
            {"value": _how(job), "kind": "optional"},
            {"value": job.ticket, "kind": "optional"},
            took if job.started_at else {"value": "", "kind": "optional"},
        ],
    }


def _people(job: Job) -> str:
    by = job.requested_by_name or "portal"
    return f"{by}, for {wording.isolated(job.requested_for)}" if job.requested_for else by


def _how(job: Job) -> str:
    """`Full, Incremental Backup API`; empty where it is not known."""
    words = [MODES.get(job.mode, job.mode), METHODS.get(job.method, job.method)]
    return ", ".join(word for word in words if word)


def _target(job: Job) -> str:
    return str(job.params.get("plan", {}).get("name", ""))


def exported(jobs: Iterable[Job]) -> Iterator[dict[str, Any]]:
    """Each with all keys of EXPORTED. Jobs are read with their machine and Manager."""
    for job in jobs:
        yield {
            "id": str(job.uuid),
            "kind": "restore" if job.kind == "vm_restore" else "backup",
            "machine": job.vm_name or job.subject_label,
            "machine_id": str(job.vm.uuid) if job.vm else "",
            "target": _target(job),
            "manager": job.environment.name if job.environment else "",
            "asked_at": job.created_at,
            "started_at": job.started_at,
            "ended_at": job.finished_at,
            "state": job.state,
            "warnings": len(job.warnings),
            "error_code": job.error_code,
            "error": job.error_message,
            "asked_by": job.requested_by_name,
            "asked_for": job.requested_for,
            "via": job.via,
            "ticket": job.ticket,
            "reason": job.reason,
            "method": job.method,
            "mode": job.mode,
        }
