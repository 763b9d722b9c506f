# SPDX-License-Identifier: GPL-3.0-or-later
"""Anchors of the audit history in the repositories: written daily, compared when it is verified (docs/audit.md)."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from backups import access
from backups.models import Repository
from backups.store.anchors import append_anchor, read_anchors, read_anchors_file
from backups.store.errors import StoreError
from backups.store.lines import Line
from backups.upkeep import is_due
from portal.audit import sealing, verifying
from portal.audit import services as audit
from portal.audit.models import AuditAnchor, AuditVerification
from portal.audit.verifying import Anchor, Problem, Verdict
from portal.errors import PortalError
from portal.jobs import locks
from portal.jobs import services as jobs
from portal.jobs.context import JobContext
from portal.jobs.models import Job

log = logging.getLogger(__name__)


VERIFY_TASK = "backups.verify_audit"
LOCK = "audit:verify"


class HistoryDamaged(PortalError):
    """The audit history is not whole."""


@dataclass
class Found:
    """What all reachable repositories have to say. `missing`: anchors that were written and are not there any more."""

    anchors: list[Anchor] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: list[AuditAnchor] = field(default_factory=list)


def look_after() -> None:
    """Anchor and verify what is due."""
    sealing.seal_all()
    for repository in Repository.objects.all():
        last = AuditAnchor.objects.filter(place=str(repository.uuid)).first()
        if last is None or is_due(last.at, settings.AUDIT_ANCHOR_EVERY):
            write_anchor(repository)
    seen = AuditVerification.objects.first()
    if seen is None or is_due(seen.at, settings.AUDIT_VERIFY_EVERY):
        verify_history()


def write_anchor(repository: Repository) -> AuditAnchor | None:
    """Write the head of the chain into the repository; None if there is no chain yet or it cannot be reached."""
    head = verifying.head()
    if head is None:
        return None
    try:
        append_anchor(repository.open(), chain=head.chain, sequence=head.sequence, hash=head.hash)
    except StoreError as error:
        log.warning("The audit history was not anchored in repository %s: %s", repository.uuid, error)
        return None
    # A log usually goes elsewhere: one more place that remembers.
    log.info("Audit history: %d entries, head %s", head.sequence, head.hash)
    return AuditAnchor.objects.create(
        at=timezone.now(),
        place=str(repository.uuid),
        place_name=repository.name,
        sequence=head.sequence,
        hash=head.hash,
    )


def read_all() -> Found:
    """Anchors of every repository that can be read; a line that a crash cut short is only noted."""
    found = Found()
    for repository in Repository.objects.all():
        # Notes before lines: a line is written first, so each of these notes must have one.
        notes = list(AuditAnchor.objects.filter(place=str(repository.uuid)))
        try:
            lines = read_anchors(repository.open())
        except StoreError as error:
            found.notes.append(f"The anchors in repository {repository.name} cannot be read: {error}")
            continue
        if damaged := sum(line is None for line in lines):
            found.notes.append(f"{damaged} lines of the anchors in repository {repository.name} are damaged.")
        there = {(line["sequence"], line["hash"]) for line in lines if line is not None}
        found.missing += [note for note in notes if (note.sequence, note.hash) not in there]
        found.anchors += _anchors(lines, f"repository {repository.name}")
    return found


def anchors_in(path: Path) -> list[Anchor]:
    """Of a file that was copied out of a repository. Raises OSError, StoreError."""
    path.stat()
    return _anchors(read_anchors_file(path), str(path))


def _anchors(lines: Iterable[Line | None], place: str) -> list[Anchor]:
    return [
        Anchor(line["sequence"], line["hash"], line["chain"], line["at"], place)
        for line in lines
        if line is not None
    ]


def verify_history() -> Verdict:
    """Read the whole history and compare it with all anchors; the result is kept."""
    found = read_all()
    verdict = verifying.verify(found.anchors)
    verdict.notes += found.notes
    if verdict.problem is None and found.missing:
        verdict.problem = _gone(found.missing[-1])
    verifying.keep(verdict)
    if verdict.problem is not None:
        log.error("The audit history is not whole: %s", verdict.problem.text)
    return verdict


def order_verification(*, actor: Any, via: str = Job.Via.PAGE) -> Job:
    """Have a worker verify the history, or return the job that is at it. Raises NotAllowed."""
    access.require_platform_admin(actor, "verify the audit history")
    under_way = Job.objects.active().filter(kind="audit_verify").first()
    if under_way is not None:
        return under_way
    with transaction.atomic():
        job = jobs.create_job(
            kind="audit_verify",
            task=VERIFY_TASK,
            title="Verify the audit history",
            actor=actor,
            locks=[locks.exclusive(LOCK)],
            via=via,
        )
        audit.record("audit.verify", actor=actor, via=via, job=str(job.uuid))
    return job


def run(context: JobContext) -> None:
    """Raises HistoryDamaged with the first thing that is wrong."""
    with context.step("verify", "Reading every entry and every seal again") as step:
        sealing.seal_all()
        verdict = verify_history()
        step.detail = f"{verdict.entries:,} entries are whole, {verdict.anchors:,} anchors compared"
    for note in verdict.notes:
        context.warn(note)
    if verdict.problem is not None:
        raise HistoryDamaged(
            f"{verdict.problem.text} Nothing was changed.",
            hint="Keep a copy of the database and of the anchors as they are now, then compare with an earlier export.",
        )
    context.write(result={"entries": verdict.entries, "head": verdict.head})


def accept(*, reason: str, actor: Any = None, via: str = Job.Via.COMMAND) -> list[Anchor]:
    """Say in the history itself why the anchors that do not fit do not. Returns them. Nothing is hidden: each
    later verification names them."""
    odd = [anchor for anchor in read_all().anchors if not verifying.fits(anchor)]
    _accept(odd, reason=reason, actor=actor, via=via, subject=None)
    return odd


def take_up(repository: Repository, *, actor: Any, via: str) -> None:
    """A repository came in: chains of portals before this one are accepted, and the own one is anchored there too."""
    try:
        lines = read_anchors(repository.open())
    except StoreError as error:
        log.warning("The anchors in repository %s cannot be read: %s", repository.uuid, error)
        return
    sealing.seal_all()
    head = verifying.head()
    foreign = [
        anchor for anchor in _anchors(lines, repository.name) if head is None or anchor.chain != head.chain
    ]
    _accept(foreign, reason="The repository was taken up.", actor=actor, via=via, subject=repository)
    write_anchor(repository)


def _accept(anchors: list[Anchor], *, reason: str, actor: Any, via: str, subject: Repository | None) -> None:
    until = max((anchor.at for anchor in anchors), default="")
    with transaction.atomic():
        for chain, group in groupby(
            sorted(anchors, key=lambda item: (item.chain, item)), lambda item: item.chain
        ):
            of_chain = list(group)
            audit.record(
                verifying.ACCEPTED,
                actor=actor,
                subject=subject,
                via=via,
                reason=reason,
                chain=chain,
                first=of_chain[0].sequence,
                last=of_chain[-1].sequence,
                last_hash=of_chain[-1].hash,
                until=until,
            )


def _gone(note: AuditAnchor) -> Problem:
    return Problem(
        "missing_anchor",
        f"The anchor of link {note.sequence:,}, written {note.at:%Y-%m-%d %H:%M} UTC into repository "
        f"{note.place_name}, is not there any more.",
        sequence=note.sequence,
    )
