# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs in the words of their pages: headline, summary, what is left alone, what cancelling does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q
from django.utils import timezone

from portal import wording
from portal.environments.models import VirtualMachine
from portal.jobs.models import Job, JobQuerySet, JobStep
from portal.jobs.states import ACTIVE, JobState


@dataclass(frozen=True)
class KindWords:
    """How a kind of job is spoken of; `{vm}`, `{target}` and `{subject}` are filled in."""

    doing: str
    done: str
    left_alone: str
    cancelling: str


KINDS = {
    "vm_backup": KindWords(
        doing="Backing up {vm}",
        done="Backed up {vm}",
        left_alone="The machine runs on as it did, and its earlier restore points are whole.",
        cancelling="The backup on the Manager is ended within seconds and no restore point is made. "
        "The machine runs on; its earlier restore points stay.",
    ),
    "vm_restore": KindWords(
        doing="Restoring {vm} as {target}",
        done="Restored {vm} as {target}",
        left_alone="The original machine and the restore point were not touched.",
        cancelling="The new machine and the new disks that this job made are removed from the Manager. "
        "The original machine and the restore point are not touched.",
    ),
    "point_verify": KindWords(
        doing="Verifying the restore point {subject}",
        done="Verified the restore point {subject}",
        left_alone="The machine and its other restore points were not touched.",
        cancelling="Reading stops. The restore point stays as it is and counts as not verified.",
    ),
    "vm_cleanup": KindWords(
        doing="Cleaning up after backups of {vm}",
        done="Cleaned up after backups of {vm}",
        left_alone="The machine and its restore points were not touched.",
        cancelling="What earlier backups left on the Manager stays there for now; it is tried again later.",
    ),
    "repository_add": KindWords(
        doing="Adding repository {subject}",
        done="Added repository {subject}",
        left_alone="No other repository was touched.",
        cancelling="Nothing more is made. What was made in the folder stays there.",
    ),
    "repository_verify": KindWords(
        doing="Verifying repository {subject}",
        done="Verified repository {subject}",
        left_alone="No restore point was changed.",
        cancelling="Reading stops. What was found damaged so far stays set aside.",
    ),
    "audit_verify": KindWords(
        doing="Verifying the audit history",
        done="Verified the audit history",
        left_alone="Nothing was changed by looking.",
        cancelling="Reading stops. What was found by earlier verifications stays.",
    ),
    "collect_garbage": KindWords(
        doing="Removing unused data from repository {subject}",
        done="Removed unused data from repository {subject}",
        left_alone="Everything that a restore point needs, also one in the trash, is still there.",
        cancelling="Nothing more is removed. What was removed so far was needed by nothing.",
    ),
}
OTHER = KindWords(
    doing="{title}",
    done="{title}",
    left_alone="Nothing outside this job was changed.",
    cancelling="The job cleans up what it began and ends within seconds.",
)
KIND_LABELS = {
    "vm_backup": "Backup",
    "vm_restore": "Restore",
    "point_verify": "Verification",
    "vm_cleanup": "Clean-up",
    "repository_add": "New repository",
    "repository_verify": "Repository verification",
    "collect_garbage": "Garbage collection",
    "audit_verify": "Audit verification",
}

VIA_WORDS = {
    "page": "in the browser",
    "api": "by the API",
    "schedule": "by schedule",
    "command": "on the command line",
}


def words_of(job: Job) -> KindWords:
    return KINDS.get(job.kind, OTHER)


def headline(job: Job) -> str:
    """`Restoring web-01 as web-01-restored`, in the tense of the job's state."""
    words = words_of(job)
    pattern = words.done if job.state == JobState.SUCCEEDED else words.doing
    text = pattern.format(
        vm=wording.isolated(job.vm.name if job.vm else job.subject_label),
        target=wording.isolated(job.params.get("plan", {}).get("name", "a new machine")),
        subject=wording.isolated(job.subject_label),
        title=job.title,
    )
    if job.state == JobState.FAILED:
        return f"{text}: failed"
    return f"{text}: cancelled" if job.state == JobState.CANCELLED else text


@dataclass(frozen=True)
class StateBadge:
    """As components/_badge.html wants it; `label` is empty where the status has its own word."""

    status: str
    label: str = ""


def badge(job: Job) -> StateBadge:
    """A success says how many warnings it has, also when they were seen to."""
    if job.state == JobState.SUCCEEDED and job.warnings:
        return StateBadge("warned" if job.warnings_open else job.state, f"Succeeded with {warned(job)}")
    return StateBadge(job.state)


def warned(job: Job) -> str:
    """`1 warning`, `3 warnings`."""
    return f"{len(job.warnings)} warning{'' if len(job.warnings) == 1 else 's'}"


def elapsed_seconds(job: Job) -> float | None:
    """From the first worker's start to the end, or to now; None before it has begun."""
    if job.started_at is None:
        return None
    return ((job.finished_at or timezone.now()) - job.started_at).total_seconds()


def phase(job: Job) -> str:
    """What happens right now, in words."""
    if job.cancel_requested_at is not None:
        return "Cancelling: cleaning up what was begun"
    if job.state == JobState.PENDING and job.attempts_made:
        return job.waiting_for or "Waiting for a worker to go on where the last one stopped"
    if job.state == JobState.PENDING:
        return job.waiting_for or "Waiting for a worker to begin"
    if job.state == JobState.INTERRUPTED:
        return "Interrupted; another worker goes on in a moment"
    return job.phase or job.waiting_for or "Starting"


def summary(job: Job) -> str:
    """One line for a job that has ended; empty while it runs."""
    if not job.is_finished:
        return ""
    seconds = elapsed_seconds(job)
    took = f" in {wording.duration(seconds)}" if seconds is not None else ""
    if seconds is None:
        return "Ended before it began; nothing was done."
    if job.state != JobState.SUCCEEDED:
        moved = f" after {wording.size(job.bytes_done)}" if job.bytes_done else ""
        return f"Ended{moved}{took}."
    if job.kind == "vm_backup" and "bytes_read" in job.result:
        read, stored = job.result["bytes_read"], job.result["bytes_stored"]
        return f"Read {wording.size(read)}{took}{_rate(read, seconds)}, stored {wording.size(stored)}."
    if job.kind == "vm_restore":
        return f"Wrote {wording.size(job.bytes_done)}{took}{_rate(job.bytes_done, seconds)}."
    if job.kind == "point_verify":
        return f"Read and compared {wording.size(job.bytes_done)}{took}."
    return f"Ended{took}."


def _rate(n_bytes: int, seconds: float) -> str:
    return f" ({wording.rate(n_bytes / seconds)})" if n_bytes and seconds >= 1 else ""


def tab_title(job: Job) -> str:
    """For the browser's tab, so that it tells how the job is."""
    if job.state == JobState.RUNNING and job.bytes_total:
        return f"{min(100, 100 * job.bytes_done // job.bytes_total)} % {headline(job)}"
    return headline(job)


def steps(found: list[JobStep]) -> list[dict[str, Any]]:
    """As components/_steps.html wants them."""
    return [
        {
            "name": step.title,
            "state": step.state,
            "detail": step.detail,
            "started_at": step.started_at,
            "finished_at": step.finished_at,
        }
        for step in found
    ]


def facts(job: Job, attempts_made: int) -> list[dict[str, Any]]:
    """Who asked for what, when, and from where."""
    asked = f"{job.requested_by_name or 'the portal'}, {VIA_WORDS.get(job.via, job.via)}"
    rows: list[dict[str, Any]] = [
        {"label": "Kind", "value": KIND_LABELS.get(job.kind, job.kind.replace("_", " ").capitalize())},
        {
            "label": "Asked by",
            "value": asked,
            "note": f"for {job.requested_for}" if job.requested_for else "",
        },
        {"label": "Asked", "value": job.created_at, "kind": "ago"},
        {"label": "Started", "value": job.started_at, "kind": "ago"},
    ]
    if job.finished_at:
        rows.append({"label": "Ended", "value": job.finished_at, "kind": "ago"})
    rows.append(
        {
            "label": "Took" if job.finished_at else "Running for",
            "value": elapsed_seconds(job),
            "kind": "duration",
        }
    )
    if job.started_at is None:
        rows = [row for row in rows if row["value"] is not None]
    if job.ticket:
        rows.append({"label": "Ticket", "value": job.ticket})
    if job.reason:
        rows.append({"label": "Reason", "value": job.reason})
    if job.environment:
        rows.append({"label": "Manager", "value": job.environment.name})
    if job.retry_of:
        rows.append(
            {
                "label": "Repeats",
                "value": "an earlier job",
                "kind": "link",
                "href": job.retry_of.get_absolute_url(),
            }
        )
    if job.cancel_requested_at:
        rows.append({"label": "Cancelled by", "value": job.cancel_requested_by})
    if attempts_made > 1:
        rows.append({"label": "Attempts", "value": attempts_made})
    rows.append({"label": "Id", "value": str(job.uuid), "kind": "id"})
    return rows


@dataclass(frozen=True)
class Outcome:
    """What a successful job made: a sentence, and where to see it."""

    text: str
    label: str = ""
    url: str = ""


def outcome(job: Job, visible_vms: Any) -> Outcome | None:
    """None unless the job succeeded. `visible_vms` are the machines that the person may see."""
    if job.state != JobState.SUCCEEDED:
        return None
    result = job.result
    if job.kind == "vm_backup" and result.get("point_url"):
        return Outcome(
            f"The restore point is complete. {result.get('reason', '')}".strip(),
            "See the restore point",
            result["point_url"],
        )
    if job.kind == "vm_restore" and result.get("vm_id"):
        return _restored(job, visible_vms)
    if job.kind == "point_verify":
        return Outcome(
            "Every chunk of the restore point is there and is what it was when it was written.",
            "See the restore point",
            job.subject_url,
        )
    if job.kind == "repository_verify" and "chunks" in result:
        text = f"All of it was read: {result['chunks']:,} chunks, all right."
        return Outcome(text, "See the repository", job.subject_url)
    if job.kind == "repository_add":
        text = "The repository can be used now."
        if "points" in result:
            text = f"{result['points']:,} restore points of {result['machines']:,} machines were taken up."
        return Outcome(text, "See the repository", job.subject_url)
    if job.kind == "collect_garbage" and "bytes_freed" in result:
        freed = wording.size(result["bytes_freed"])
        text = f"{result['chunks_removed']:,} chunks that nothing needs were removed, {freed} freed."
        return Outcome(text, "See the repository", job.subject_url)
    return Outcome("Done.", f"See {job.subject_label}", job.subject_url) if job.subject_url else None


def _restored(job: Job, visible_vms: Any) -> Outcome:
    name = job.result.get("vm_name", "The new machine")
    plugged = job.params.get("plan", {}).get("network_plugged")
    state = "It is powered off" + ("." if plugged else "; its network is unplugged.")
    proven = (
        "its disks are proven equal to the restore point by SHA-256. " if job.result.get("identical") else ""
    )
    text = f"{name} is on the Manager; {proven}{state}" if proven else f"{name} is on the Manager. {state}"
    vm: VirtualMachine | None = visible_vms.filter(
        environment=job.environment_id, manager_id=job.result["vm_id"]
    ).first()
    if vm is not None:
        return Outcome(text, f"See {wording.isolated(vm.name)}", vm.get_absolute_url())
    return Outcome(f"{text} The portal lists it after the next look at the Manager, about a minute from now.")


def list_rows(jobs: list[Job]) -> list[dict[str, Any]]:
    """As components/_table.html wants them, in the order of LIST_COLUMNS."""
    return [
        {
            "href": job.get_absolute_url(),
            "cells": [
                {"value": headline(job)},
                {"value": badge(job).status, "kind": "badge", "label": badge(job).label},
                {"value": job.requested_by_name or "portal"},
                {"value": job.ticket, "kind": "optional"},
                {"value": job.started_at or job.created_at, "kind": "ago"},
                {"value": elapsed_seconds(job), "kind": "duration"}
                if job.started_at
                else {"value": "", "kind": "optional"},
            ],
        }
        for job in jobs
    ]


LIST_COLUMNS: list[dict[str, Any]] = [
    {"label": "Job"},
    {"label": "State"},
    {"label": "Asked by", "minor": True},
    {"label": "Ticket", "minor": True},
    {"label": "Started"},
    {"label": "Took", "num": True},
]


@dataclass(frozen=True)
class LiveJob:
    """An unfinished job on a page about something else."""

    job: Job
    headline: str
    phase: str

    @property
    def bar_id(self) -> str:
        return f"live-bar-{self.job.uuid}"


def live(jobs: list[Job]) -> list[LiveJob]:
    return [LiveJob(job, headline(job), phase(job)) for job in jobs]


def unfinished_counts(jobs: JobQuerySet) -> dict[str, int]:
    """`running` (also those in the queue) and `waiting` (for a person), in one query."""
    counts: dict[str, int] = jobs.filter(state__in=ACTIVE).aggregate(
        running=Count("pk", filter=~Q(state=JobState.WAITING), distinct=True),
        waiting=Count("pk", filter=Q(state=JobState.WAITING), distinct=True),
    )
    return counts
