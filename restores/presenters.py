# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore plan in the words of components/_plan.html."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from backups.models import RestorePoint
from portal import wording
from portal.jobs.models import Job
from portal.jobs.states import JobState
from restores.forms import NewVmForm
from restores.models import Approval
from restores.people import NAMED, in_words
from restores.plans import RestorePlan

# A word of the blocker, the field that is the way out, and what its link says.
WAYS_OUT = (
    ("MAC address", "#id_macs_0", "Choose new ones"),
    ("storage domain", "#id_storage_domain", "Choose another"),
    ("cluster", "#id_cluster", "Choose another"),
    ("name", "#id_name", "Change the name"),
    ("called", "#id_name", "Change the name"),
)


def plan_words(plan: RestorePlan, point: RestorePoint) -> dict[str, Any]:
    """What will be made, changed, left alone, how much, how long; blockers with the way out."""
    data_bytes = _data_bytes(point)
    return {
        "blockers": [blocker(text, point) for text in plan.blockers],
        "made": _made(plan),
        "changed": _changed(plan),
        "alone": _alone(plan, point),
        "amount": _amount(plan, data_bytes),
        "time": _time(point, data_bytes),
        "notes": list(plan.notes),
    }


def form_blockers(form: NewVmForm) -> list[dict[str, str]]:
    """Why there is no plan: what is wrong with the choices."""
    return [
        {
            "text": f"{form.fields[name].label}: {error}" if name in form.fields else str(error),
            "action_label": "Change it",
            "action_url": f"#id_{name}",
        }
        for name, errors in form.errors.items()
        for error in errors
    ]


def blocker(text: str, point: RestorePoint) -> dict[str, str]:
    if "verification" in text or "deleted" in text:
        return {
            "text": text,
            "action_label": "Choose another point",
            "action_url": point.vm.get_absolute_url(),
        }
    for word, url, label in WAYS_OUT:
        if word in text:
            return {"text": text, "action_label": label, "action_url": url}
    return {"text": text}


def _made(plan: RestorePlan) -> list[str]:
    where = f" in the cluster {plan.cluster_name}" if plan.cluster_name else ""
    domain = f" on {plan.storage_domain_name}" if plan.storage_domain_name else ""
    machine = f"The machine {plan.name}{where}, powered off"
    disks = [_disk(disk.alias, disk.size_bytes, disk.bootable, domain) for disk in plan.disks]
    return [machine, *disks, *_rights(plan)]


def _rights(plan: RestorePlan) -> list[str]:
    """Who will have rights on the new machine, there and here."""
    if not plan.same_people:
        return ["No rights on it for anybody but administrators, who alone will see it"]
    lines = []
    if plan.people:
        lines.append(f"The same rights on it on the Manager: {in_words(plan.people)}")
    here = [f"the team {wording.isolated(name)}" for name in plan.teams]
    here += [f"{wording.isolated(right.username)} as {right.role}" for right in plan.rights]
    if len(here) > NAMED:
        here = [*here[: NAMED - 1], f"{len(here) - NAMED + 1} others"]
    if here:
        lines.append(f"The same rights on it here: {', '.join(here)}")
    return lines or ["No rights on it: nobody but administrators has any on the original"]


def _disk(alias: str, size_bytes: int, bootable: bool, domain: str) -> str:
    return f"A new disk for {alias}{', from which it boots,' if bootable else ''} of {wording.size(size_bytes)}{domain}"


def _changed(plan: RestorePlan) -> list[str]:
    if not plan.nics:
        return ["The machine has no network card, so there is no network to mind"]
    many = len(plan.nics) > 1
    cards = f"{len(plan.nics)} network cards" if many else f"The network card {plan.nics[0]}"
    keeps, gets, is_, was = ("keep", "get", "are", "they were") if many else ("keeps", "gets", "is", "it was")
    address = (
        f"{gets} {'new MAC addresses' if many else 'a new MAC address'}"
        if plan.new_macs
        else f"{keeps} the original MAC address{'es' if many else ''}"
    )
    plug = f"{is_} plugged in as {was}" if plan.network_plugged else f"{is_} left unplugged"
    return [f"{cards} {address} and {plug}"]


def _alone(plan: RestorePlan, point: RestorePoint) -> list[str]:
    lines = [
        f"The machine {point.vm.name}, its disks and what runs on it",
        "This restore point and all others",
    ]
    if plan.excluded_disks:
        left_out = ", ".join(plan.excluded_disks)
        lines.append(f"Not in this restore point, so not restored: {left_out}")
    return lines


def _amount(plan: RestorePlan, data_bytes: int | None) -> str:
    if not plan.disks:
        return ""
    total = wording.size(plan.total_bytes)
    if data_bytes is None or data_bytes >= plan.total_bytes:
        return f"Up to {total} will be written"
    return f"About {wording.size(data_bytes)} of {total} hold data and will be written"


def _data_bytes(point: RestorePoint) -> int | None:
    """Bytes of data in the point, as the last full read up to it found them; None where none is kept."""
    if point.mode == RestorePoint.Mode.FULL:
        return point.bytes_read
    fulls = RestorePoint.objects.filter(
        vm=point.vm, mode=RestorePoint.Mode.FULL, taken_at__lte=point.taken_at, size_bytes=point.size_bytes
    )
    return fulls.order_by("-taken_at").values_list("bytes_read", flat=True).first()


def _time(point: RestorePoint, data_bytes: int | None) -> str:
    """At the rate of the last restore on the same Manager; unknown before the first."""
    if data_bytes is None:
        return ""
    last = (
        Job.objects.filter(
            kind="vm_restore", environment=point.vm.environment, state=JobState.SUCCEEDED, bytes_done__gt=0
        )
        .order_by("-id")
        .first()
    )
    if last is None or last.started_at is None or last.finished_at is None:
        return "How long is known after the first restore"
    seconds = max(0.1, (last.finished_at - last.started_at).total_seconds())
    guess = data_bytes / (last.bytes_done / seconds)
    return f"About {wording.about(guess)} at the rate of the last restore"


# --- approvals --------------------------------------------------------------------------------------

APPROVAL_COLUMNS: list[dict[str, Any]] = [
    {"label": "Restore"},
    {"label": "Ordered by"},
    {"label": "Why it waits"},
    {"label": "Asked"},
    {"label": "Ends", "minor": True},
]


def approval_rows(approvals: Iterable[Approval]) -> list[dict[str, Any]]:
    return [
        {
            "href": row.get_absolute_url(),
            "cells": [
                {"value": f"{row.restore.point.vm_name} as {row.restore.target_name}"},
                {"value": row.restore.job.requested_by_name},
                {"value": row.because},
                {"value": row.asked_at, "kind": "ago"},
                {"value": row.expires_at, "kind": "moment"},
            ],
        }
        for row in approvals
    ]


def approval_facts(approval: Approval) -> list[dict[str, Any]]:
    """What was ordered, by whom, for whom, and until when it waits."""
    restore = approval.restore
    job, plan = restore.job, restore.plan
    size = sum(disk["size_bytes"] for disk in plan["disks"])
    return [
        {"label": "Machine", "value": restore.point.vm_name},
        {"label": "Restore point of", "value": restore.point.taken_at, "kind": "moment"},
        {"label": "New machine", "value": restore.target_name},
        {"label": "Manager", "value": restore.point.vm.environment.name},
        {"label": "Cluster", "value": plan["cluster_name"]},
        {"label": "Storage domain", "value": plan["storage_domain_name"]},
        {
            "label": "Disks",
            "value": size,
            "kind": "bytes",
            "note": wording.counted(len(plan["disks"]), "disk"),
        },
        {"label": "Network", "value": "Plugged" if plan["network_plugged"] else "Unplugged"},
        {"label": "Ordered by", "value": job.requested_by_name},
        {"label": "For", "value": job.requested_for, "kind": "optional"},
        {"label": "Ticket", "value": job.ticket, "kind": "optional"},
        {"label": "Reason", "value": job.reason, "kind": "optional"},
        {"label": "Asked", "value": approval.asked_at, "kind": "ago"},
        {"label": "Waits until", "value": approval.expires_at, "kind": "moment"},
    ]


def approval_verdict(approval: Approval) -> str:
    """What became of it, in a sentence; empty while nobody has decided."""
    if approval.decision == Approval.Decision.EXPIRED:
        return "Nobody decided in time, so the restore ended without having made anything."
    if not approval.decision:
        return ""
    did = "approved" if approval.decision == Approval.Decision.APPROVED else "refused"
    why = f" “{approval.decided_why}”" if approval.decided_why else ""
    return f"{approval.decided_by} {did} it.{why}"
