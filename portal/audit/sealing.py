# SPDX-License-Identifier: GPL-3.0-or-later
"""Sealing: every entry that was committed becomes the next link of the chain.

Entries get their place when they are sealed, not when they are written: a transaction that commits late, with a
lower id, is sealed behind those that were faster. So writers never wait for each other, and the sequence has no
gaps although ids have. One transaction a batch holds the sealer's lock; it either happened whole or not at all, so
a sealer may be killed at any instant. Two at once: on PostgreSQL the second one finds the advisory lock taken and
leaves; on SQLite there is one writer at a time anyway; and `sequence` and `entry` are unique wherever this runs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from django.db import connection, transaction

from portal.audit.canonical import NotCanonical
from portal.audit.entries import GENESIS, entry_digest, link_hash
from portal.audit.models import AuditEntry, AuditSeal, AuditUnsealed

log = logging.getLogger(__name__)

BATCH = 200
# "obpaudit" as a number: PostgreSQL's advisory locks are told apart by nothing else.
LOCK = 0x6F62706175646974


def seal_all() -> int:
    """Seal until nothing waits or another sealer is at it. Returns how many entries were sealed."""
    total = 0
    while sealed := seal_batch():
        total += sealed
    return total


def seal_after_commit() -> None:
    """At most one batch, by whoever has just committed; beat does the rest and what was missed."""
    if AuditUnsealed.objects.exists():
        seal_batch()


def seal_batch() -> int:
    """Seal up to BATCH entries, in the order of their ids. 0 if none waits or another sealer is at it."""
    with transaction.atomic():
        if not _alone():
            return 0
        waiting = list(AuditUnsealed.objects.order_by("pk").values_list("pk", flat=True)[:BATCH])
        entries = AuditEntry.objects.filter(pk__in=waiting).order_by("id") if waiting else ()
        seals = _links(entries, AuditSeal.objects.order_by("-sequence").first())
        AuditSeal.objects.bulk_create(seals)
        AuditUnsealed.objects.filter(pk__in=[seal.entry_id for seal in seals]).delete()
    return len(seals)


def _links(entries: Iterable[AuditEntry], last: AuditSeal | None) -> list[AuditSeal]:
    """Entries that this portal cannot have written, or that vanished, keep waiting: the verifier names them."""
    sequence, previous = (last.sequence, last.hash) if last else (0, GENESIS)
    seals = []
    for entry in entries:
        try:
            digest = entry_digest(entry)
        except NotCanonical as error:
            log.error(
                "Audit entry %s cannot be sealed, since it was not written by the portal: %s", entry.pk, error
            )
            continue
        sequence += 1
        found = link_hash(sequence, digest, previous)
        seals.append(
            AuditSeal(sequence=sequence, entry_id=entry.pk, digest=digest, previous=previous, hash=found)
        )
        previous = found
    return seals


def _alone() -> bool:
    """Whether this transaction may seal. The lock ends with it, also when the process is killed."""
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])
