# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the whole chain again: each entry against its seal, each seal against the one before, the head against
anchors that lie outside the database. One batch is in memory at a time. The first thing that is wrong is named.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, models
from django.db.models import Exists, OuterRef
from django.utils import timezone

from portal.audit import guards
from portal.audit.canonical import NotCanonical
from portal.audit.entries import GENESIS, entry_digest, link_hash
from portal.audit.models import (
    AuditEntry,
    AuditEntryTeam,
    AuditSeal,
    AuditUnsealed,
    AuditVerification,
)

BATCH = 1000
ACCEPTED = "audit.anchor_accepted"


@dataclass(frozen=True, order=True)
class Anchor:
    """The head of a chain as it was written down outside: link `sequence` has `hash`, the first link has `chain`.

    `place`: where it lies, in words; `at`: when it was written, UTC, ISO 8601.
    """

    sequence: int
    hash: str
    chain: str
    at: str
    place: str


@dataclass(frozen=True)
class Head:
    """Where the chain ends now, and the hash of its first link, which names it."""

    sequence: int
    hash: str
    chain: str


def head() -> Head | None:
    """None before the first entry is sealed."""
    last = AuditSeal.objects.order_by("-sequence").first()
    first = AuditSeal.objects.order_by("sequence").first()
    return Head(last.sequence, last.hash, first.hash) if last and first else None


@dataclass(frozen=True)
class Problem:
    """The first thing that is wrong. `sequence`: the link at which it shows; `entry`: the entry's id, if known."""

    code: str
    text: str
    sequence: int | None = None
    entry: int | None = None


@dataclass
class Verdict:
    """`entries`: links that were found good; `head`: hash of the last of them; `notes`: no problem, but said."""

    entries: int = 0
    head: str = ""
    chain: str = ""
    anchors: int = 0
    waiting: int = 0
    seconds: float = 0.0
    problem: Problem | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.problem is None


def fits(anchor: Anchor) -> bool:
    """Whether the chain has that link with that hash. Says nothing about the entries."""
    return AuditSeal.objects.filter(sequence=anchor.sequence, hash=anchor.hash).exists()


def verify(anchors: Iterable[Anchor] = ()) -> Verdict:
    """Read everything. `anchors` were read before this is called, so that none of them is newer than the chain."""
    started = time.monotonic()
    walk = _Walk(sorted(anchors))
    verdict = walk.verdict
    verdict.problem = walk.links() or walk.beyond_the_end() or _never_sealed()
    verdict.waiting = AuditUnsealed.objects.count()
    if away := guards.missing(connection):
        verdict.notes.append(
            f"The database does not refuse changes: {len(away)} triggers are not there or are switched off."
        )
    verdict.seconds = time.monotonic() - started
    return verdict


def keep(verdict: Verdict) -> AuditVerification:
    """Write down that it was looked, and what was found."""
    return AuditVerification.objects.create(
        at=timezone.now(),
        entries=verdict.entries,
        hash=verdict.head,
        anchors=verdict.anchors,
        seconds=verdict.seconds,
        problem=verdict.problem.text if verdict.problem else "",
    )


class _Walk:
    """One way along the chain, with the anchors that come up on it."""

    def __init__(self, anchors: list[Anchor]) -> None:
        self.verdict = Verdict(head=GENESIS)
        self._anchors = anchors
        self._next = 0
        self._agreed: Anchor | None = None
        self._accepted: list[dict[str, Any]] | None = None

    def links(self) -> Problem | None:
        verdict = self.verdict
        for seals, entries, teams in _batches():
            for seal in seals:
                problem = (
                    _gap(seal, verdict.entries + 1)
                    or _entry_problem(seal, entries.get(seal.entry_id), teams[seal.entry_id])
                    or _seal_problem(seal, verdict.head)
                )
                if problem:
                    return problem
                verdict.entries, verdict.head = seal.sequence, seal.hash
                verdict.chain = verdict.chain or seal.hash
                if problem := self._anchors_here():
                    return problem
        return None

    def beyond_the_end(self) -> Problem | None:
        """Anchors of links that are not there."""
        for anchor in self._anchors[self._next :]:
            self.verdict.anchors += 1
            if self._is_accepted(anchor):
                continue
            have, had = self.verdict.entries, anchor.sequence
            return Problem(
                "tail_cut",
                f"Entries {have + 1:,} to {had:,} are missing: {anchor.place} has known since {anchor.at} that there "
                f"were {had:,}, and the chain ends at {have:,}.",
                sequence=have + 1,
            )
        return None

    def _anchors_here(self) -> Problem | None:
        """Compare the anchors of the link that was just found good."""
        while self._next < len(self._anchors) and self._anchors[self._next].sequence == self.verdict.entries:
            anchor = self._anchors[self._next]
            self._next += 1
            self.verdict.anchors += 1
            if anchor.hash == self.verdict.head:
                self._agreed = anchor
            elif not self._is_accepted(anchor):
                return self._rewritten(anchor)
        return None

    def _rewritten(self, anchor: Anchor) -> Problem:
        """Every link fits the next, but not what was written down outside: the chain was computed anew."""
        first = self._agreed.sequence + 1 if self._agreed else 1
        where = (
            f"Entry {first:,}"
            if first == anchor.sequence
            else f"One of the entries {first:,} to {anchor.sequence:,}"
        )
        other = "" if anchor.chain == self.verdict.chain else " (or it belongs to another portal's chain)"
        return Problem(
            "rewritten",
            f"{where} was changed, and all seals after it were computed anew: {anchor.place} has known since "
            f"{anchor.at} another hash of link {anchor.sequence:,}{other}.",
            sequence=first,
        )

    def _is_accepted(self, anchor: Anchor) -> bool:
        """Whether an entry of this chain says why that anchor does not fit (a database that was restored)."""
        if self._accepted is None:
            said = AuditEntry.objects.filter(action=ACCEPTED, seal__isnull=False).values_list(
                "data", flat=True
            )
            self._accepted = [data for data in said if isinstance(data, dict)]
        accepted = any(_covers(data, anchor) for data in self._accepted)
        if accepted:
            self.verdict.notes.append(
                f"The anchor of {anchor.at} in {anchor.place} does not fit, which was accepted with a reason."
            )
        return accepted


def _covers(accepted: dict[str, Any], anchor: Anchor) -> bool:
    """Whether an acceptance is about this anchor: of that chain, within those links, written before it was said."""
    first, last, until = accepted.get("first"), accepted.get("last"), accepted.get("until")
    return (
        accepted.get("chain") == anchor.chain
        and isinstance(first, int)
        and isinstance(last, int)
        and isinstance(until, str)
        and first <= anchor.sequence <= last
        and anchor.at <= until
    )


def _batches() -> Iterator[tuple[list[AuditSeal], dict[int, AuditEntry], defaultdict[int, list[uuid.UUID]]]]:
    """Seals in order up to the head of this moment, with their entries and these entries' teams."""
    head = AuditSeal.objects.order_by("-sequence").values_list("sequence", flat=True).first() or 0
    # Tampered sequences may be anything: begin before all of them.
    at = AuditSeal.objects.order_by("sequence").values_list("sequence", flat=True).first() or 0
    while seals := list(
        AuditSeal.objects.filter(sequence__gte=at, sequence__lte=head).order_by("sequence")[:BATCH]
    ):
        keys = [seal.entry_id for seal in seals]
        teams: defaultdict[int, list[uuid.UUID]] = defaultdict(list)
        links = AuditEntryTeam.objects.filter(entry_id__in=keys).order_by("team")
        for key, team in links.values_list("entry_id", "team"):
            teams[key].append(team)
        yield seals, {entry.pk: entry for entry in AuditEntry.objects.filter(pk__in=keys)}, teams
        at = seals[-1].sequence + 1


def _gap(seal: AuditSeal, expected: int) -> Problem | None:
    if seal.sequence == expected:
        return None
    if seal.sequence < expected:
        return Problem(
            "extra_seal", f"There is a seal {seal.sequence:,}, where the chain has none.", seal.sequence
        )
    lost = _without_seal().first()
    whose = f" Entry {lost.pk} ({lost}) has lost its seal." if lost else " The entry is gone with it."
    return Problem(
        "missing_seal",
        f"Seal {expected:,} is missing, the next one is {seal.sequence:,}.{whose}",
        sequence=expected,
        entry=lost.pk if lost else None,
    )


def _entry_problem(seal: AuditSeal, entry: AuditEntry | None, teams: list[uuid.UUID]) -> Problem | None:
    here = {"sequence": seal.sequence, "entry": seal.entry_id}
    if entry is None:
        return Problem("missing_entry", f"Entry {seal.sequence:,} (id {seal.entry_id}) is missing.", **here)
    try:
        found = entry_digest(entry)
    except NotCanonical as error:
        return Problem(
            "changed_entry", f"Entry {seal.sequence:,} (id {entry.pk}) was changed: it has {error}.", **here
        )
    if found != seal.digest:
        return Problem(
            "changed_entry",
            f"Entry {seal.sequence:,} (id {entry.pk}) was changed after it was sealed. It now reads: {entry}",
            **here,
        )
    if [str(team) for team in teams] != entry.teams:
        return Problem(
            "changed_teams", f"Who may read entry {seal.sequence:,} (id {entry.pk}) was changed.", **here
        )
    return None


def _seal_problem(seal: AuditSeal, previous: str) -> Problem | None:
    here = {"sequence": seal.sequence, "entry": seal.entry_id}
    if seal.previous != previous:
        text = f"Seal {seal.sequence:,} does not continue the one before: one of the two was changed."
        return Problem("changed_seal", text, **here)
    if seal.hash != link_hash(seal.sequence, seal.digest, seal.previous):
        return Problem(
            "changed_seal", f"Seal {seal.sequence:,} was changed: its hash is not its own.", **here
        )
    return None


def _never_sealed() -> Problem | None:
    """Entries outside the chain that do not wait for their seal either, and witnesses of entries that are gone."""
    lost = _without_seal().first()
    if lost is not None:
        return Problem(
            "unsealed_entry",
            f"Entry id {lost.pk} ({lost}) has no seal and does not wait for one: its seal was removed, or it was "
            "not written by the portal.",
            entry=lost.pk,
        )
    there = AuditEntry.objects.filter(pk=OuterRef("pk"))
    witness = AuditUnsealed.objects.filter(~Exists(there)).order_by("pk").first()
    if witness is not None:
        return Problem(
            "missing_entry",
            f"Entry id {witness.pk} is missing: it vanished before it was sealed.",
            entry=witness.pk,
        )
    for entry in AuditEntry.objects.filter(unsealed__isnull=False).order_by("pk")[:BATCH]:
        try:
            entry_digest(entry)
        except NotCanonical as error:
            return Problem(
                "changed_entry",
                f"Entry id {entry.pk} was changed before it was sealed: it has {error}.",
                entry=entry.pk,
            )
    return None


def _without_seal() -> models.QuerySet[AuditEntry]:
    return AuditEntry.objects.filter(
        ~Exists(AuditSeal.objects.filter(entry_id=OuterRef("pk"))),
        ~Exists(AuditUnsealed.objects.filter(entry_id=OuterRef("pk"))),
    ).order_by("pk")
