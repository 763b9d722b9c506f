# SPDX-License-Identifier: GPL-3.0-or-later
"""The history in words: what an action was, how the chain stands, what changed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.db.models import Max
from django.utils import timezone

from portal import wording
from portal.audit import verifying
from portal.audit.models import AuditAnchor, AuditEntry, AuditUnsealed, AuditVerification

ACTIONS = {
    "login": "Signed in",
    "logout": "Signed out",
    "login.refused": "Sign-in refused",
    "login.attempts_forgotten": "Wrong sign-ins forgotten",
    "session.end": "Signed out elsewhere",
    "session.end_others": "Signed out everywhere else",
    "session.end_all": "Signed out everywhere",
    "password.change": "Password changed",
    "second_step.add": "Second step added",
    "second_step.remove": "Second step removed",
    "second_step.remove_all": "All second steps removed",
    "second_step.renew": "Second step renewed",
    "company.connect": "Company account connected",
    "company.disconnect": "Company account disconnected",
    "groups.apply": "Roles set by the company's groups",
    "group_rule.add": "Rule for a company's group added",
    "group_rule.remove": "Rule for a company's group removed",
    "person.add": "Person added",
    "service.switch": "Service account switched on or off",
    "token.create": "API token made",
    "token.revoke": "API token revoked",
    "team.create": "Team made",
    "team.rename": "Team renamed",
    "team.quotas": "Quotas of a team changed",
    "team.approval": "Approval of a team's restores changed",
    "restore.approve": "Restore approved by a second person",
    "restore.refuse": "Restore refused by a second person",
    "restore.expire": "Restore ended, because nobody approved it in time",
    "team.role": "Role in a team changed",
    "team.rules": "Rules of a team changed",
    "team.machines": "Machines of a team changed by its rules",
    "team.machine_by_hand": "Machine of a team changed by hand",
    "machine.role": "Role on a machine changed",
    "owner.give": "Owner of a machine taken over from the Manager",
    "owner.change": "Owner of a machine changed",
    "owner.take": "Owner of a machine removed",
    "identity.set": "Person of a Manager matched",
    "identity.remove": "Person of a Manager no longer matched",
    "webhook.add": "Webhook added",
    "webhook.change": "Webhook changed",
    "webhook.switch": "Webhook switched on or off",
    "webhook.remove": "Webhook removed",
    "webhook.rotate_secret": "Secret of a webhook renewed",
    "webhook.ping": "Webhook tried",
    "webhook.send_again": "Webhook sent again",
    "webhook.leave_failed": "Failed deliveries left as they are",
    "history.export": "Backups and restores exported",
    "restore.same_people": "Rights carried over to the restored machine",
    "service.create": "Service account added",
    "refused": "Refused",
    "download": "Downloaded",
    "audit.verify": "Verification of the history ordered",
    "audit.export": "Audit history exported",
    "audit.anchor_accepted": "Anchors accepted that do not fit",
    "backup.start": "Backup ordered",
    "backup.clean_up": "Clean-up after backups ordered",
    "environment.add": "Manager added",
    "environment.change": "Manager changed",
    "environment.refresh": "Manager asked anew",
    "job.cancel": "Job cancelled",
    "job.retry": "Job tried again",
    "job.warnings_seen": "Warnings seen to",
    "job.warnings_settled": "Warnings settled by themselves",
    "point.verify": "Verification ordered",
    "point.pin": "Restore point pinned",
    "point.unpin": "Restore point no longer pinned",
    "point.hold": "Legal hold laid",
    "point.release": "Legal hold released",
    "point.delete": "Restore point moved to the trash",
    "point.undelete": "Restore point taken back out of the trash",
    "point.purge": "Restore point left the trash for good",
    "repository.add": "Repository ordered",
    "repository.create": "Repository made",
    "repository.change": "Repository changed",
    "repository.default": "Default repository chosen",
    "repository.import": "Repository taken up",
    "repository.collect": "Garbage collection ordered",
    "repository.verify": "Verification of a repository ordered",
    "restore.start": "Restore ordered",
    "restore.swept": "What a restore left was removed",
}
VIA = {
    "page": "in the browser",
    "api": "by the API",
    "schedule": "by schedule",
    "command": "on the command line",
}
COLUMNS: list[dict[str, Any]] = [
    {"label": "What"},
    {"label": "To what"},
    {"label": "Who"},
    {"label": "When"},
    {"label": "Ticket", "minor": True},
    {"label": "Link", "num": True, "minor": True},
]


def action_words(action: str) -> str:
    return ACTIONS.get(action) or action.replace(".", ": ").replace("_", " ").capitalize()


def rows(entries: list[AuditEntry]) -> list[dict[str, Any]]:
    """For components/_table.html; the entries' seals are fetched already."""
    return [
        {
            "href": f"{entry.uuid}/",
            "cells": [
                {"value": action_words(entry.action)},
                {"value": entry.object_label, "kind": "optional"},
                {"value": entry.actor_name},
                {"value": entry.at, "kind": "moment"},
                {"value": entry.ticket, "kind": "optional"},
                {"value": f"{sequence:,}" if (sequence := sequence_of(entry)) else "", "kind": "optional"},
            ],
        }
        for entry in entries
    ]


def sequence_of(entry: AuditEntry) -> int | None:
    seal = getattr(entry, "seal", None)
    return seal.sequence if seal else None


@dataclass(frozen=True)
class Standing:
    """How the chain stands, for the top of the page. `status` as components/_badge.html takes it."""

    status: str
    label: str
    sentence: str
    problem: str
    facts: list[dict[str, Any]]


def standing(*, for_admins: bool) -> Standing:
    """Five queries, however long the history is. Where it is anchored is the business of platform admins."""
    head, seen = verifying.head(), AuditVerification.objects.first()
    newest = AuditAnchor.objects.values("place").annotate(last=Max("id")).values("last")
    anchors = list(AuditAnchor.objects.filter(pk__in=newest).order_by("place_name"))
    waiting = AuditUnsealed.objects.count()
    status, label, sentence = _verdict(seen)
    facts: list[dict[str, Any]] = [
        {
            "label": "Sealed entries",
            "value": f"{head.sequence:,}" if head else "0",
            "note": _waiting(waiting),
        },
        {
            "label": "Last verified",
            "value": seen.at if seen else None,
            "kind": "ago",
            "note": _looked_at(seen),
        },
        {
            "label": "Last anchored",
            "value": max((anchor.at for anchor in anchors), default=None),
            "kind": "ago",
        },
    ]
    if for_admins and anchors:
        now = timezone.now()
        facts[-1]["note"] = "; ".join(
            f"{wording.isolated(anchor.place_name)}: link {anchor.sequence:,}, {wording.ago(anchor.at, now)}"
            for anchor in anchors
        )
    if head:
        facts.append({"label": "Head of the chain", "value": head.hash, "kind": "id"})
    return Standing(status, label, sentence, seen.problem if seen and for_admins else "", facts)


def _verdict(seen: AuditVerification | None) -> tuple[str, str, str]:
    if seen is None:
        return "unverified", "", "The history has not been verified yet; the portal does it daily."
    if seen.problem:
        return "damaged", "Not whole", "The last verification found that something was changed or removed."
    return "verified", "Whole", "Nothing was changed or removed, and every anchor fits."


def _looked_at(seen: AuditVerification | None) -> str:
    if seen is None:
        return ""
    took = wording.duration(seen.seconds)
    anchors = f"{seen.anchors:,} anchor{'' if seen.anchors == 1 else 's'}"
    return f"{seen.entries:,} entries and {anchors} in {took}"


def _waiting(count: int) -> str:
    return f"{count:,} more wait for their seal" if count else ""


def facts(entry: AuditEntry) -> list[dict[str, Any]]:
    """One entry, everything but `data`."""
    seal = getattr(entry, "seal", None)
    found: list[dict[str, Any]] = [
        {"label": "When", "value": entry.at, "kind": "moment"},
        {"label": "Who", "value": entry.actor_name, "note": VIA.get(entry.via, entry.via)},
        {"label": "To what", "value": entry.object_label or "nothing in particular", "note": _kind(entry)},
        {"label": "Ticket", "value": entry.ticket, "kind": "optional"},
        {"label": "From the address", "value": entry.address or "", "kind": "optional"},
        {"label": "Action", "value": entry.action, "kind": "id"},
        {"label": "Request", "value": entry.request_id, "kind": "id" if entry.request_id else "optional"},
        {
            "label": "Id of the object",
            "value": entry.object_id,
            "kind": "id" if entry.object_id else "optional",
        },
        {"label": "Id of the entry", "value": str(entry.uuid), "kind": "id"},
    ]
    if seal is None:
        return [*found, {"label": "Seal", "value": "waits for it", "note": "It is made within seconds."}]
    return [
        *found,
        {"label": "Link of the chain", "value": f"{seal.sequence:,}"},
        {"label": "Digest of the entry", "value": seal.digest, "kind": "id"},
        {"label": "Hash of the link", "value": seal.hash, "kind": "id"},
    ]


def _kind(entry: AuditEntry) -> str:
    return entry.object_type.rpartition(".")[2]


@dataclass(frozen=True)
class Change:
    """One value that was changed; empty where it was not there."""

    name: str
    before: str
    after: str


def changes(entry: AuditEntry) -> list[Change]:
    """Of `before` and `after`, what differs."""
    before, after = (_named(entry.data.get(key)) for key in ("before", "after"))
    return [
        Change(name.replace("_", " "), before.get(name, ""), after.get(name, ""))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def details(entry: AuditEntry) -> str:
    """The rest of `data`, as it is."""
    shown = {"before", "after"} if changes(entry) else set()
    rest = {key: value for key, value in entry.data.items() if key not in shown}
    return json.dumps(rest, ensure_ascii=False, indent=2, sort_keys=True) if rest else ""


def _named(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    found = value if isinstance(value, dict) else {"value": value}
    return {
        key: item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
        for key, item in found.items()
    }
