# SPDX-License-Identifier: GPL-3.0-or-later
"""The history as a file: JSON Lines with seals, which can be verified without the portal, or CSV for people."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from portal import spreadsheet
from portal.audit import sealing, verifying
from portal.audit import services as audit
from portal.audit.canonical import VERSION, NotCanonical, canonical, moment
from portal.audit.entries import document
from portal.audit.models import AuditEntry
from portal.audit.verifying import Head
from portal.trail.access import require_reader, visible_to
from portal.trail.filters import Asked

BATCH = 500
COLUMNS = (
    "sequence",
    "at",
    "actor_name",
    "via",
    "action",
    "object_type",
    "object_id",
    "object_label",
    "vm",
    "ticket",
    "address",
    "request_id",
    "data",
    "uuid",
    "hash",
)


@dataclass(frozen=True)
class Export:
    """What is in the file: everything that was sealed up to `head`, that `asked` for it, and that may be read."""

    entries: QuerySet[AuditEntry]
    asked: Asked
    head: Head | None
    whole: bool
    by: str

    def batches(self) -> Iterator[list[AuditEntry]]:
        """In the order of the chain, up to the head of the moment when it was asked for."""
        at, end = 0, self.head.sequence if self.head else 0
        sealed = (
            self.entries.filter(seal__sequence__lte=end).select_related("seal").order_by("seal__sequence")
        )
        while found := list(sealed.filter(seal__sequence__gt=at)[:BATCH]):
            yield found
            at = found[-1].seal.sequence

    def json_lines(self) -> Iterator[bytes]:
        head = (
            {"chain": self.head.chain, "hash": self.head.hash, "sequence": self.head.sequence}
            if self.head
            else None
        )
        yield _line(
            {
                "export": {
                    "at": moment(timezone.now()),
                    "by": self.by,
                    "filters": self.asked.as_json(),
                    "head": head,
                    "version": VERSION,
                    "whole": self.whole,
                }
            }
        )
        count = 0
        for batch in self.batches():
            yield b"".join(_line({"entry": document(entry), "seal": _seal(entry)}) for entry in batch)
            count += len(batch)
        yield _line({"end": {"entries": count}})

    def csv(self) -> Iterator[str]:
        writer = csv.writer(_Echo())
        yield writer.writerow(COLUMNS)
        for batch in self.batches():
            yield "".join(writer.writerow(_cells(entry)) for entry in batch)


def start(*, actor: Any, asked: Asked, form: str, via: str = "page") -> Export:
    """What `actor` may read of what is asked for; recorded before the first byte. Raises NotAllowed."""
    require_reader(actor)
    sealing.seal_all()
    head = verifying.head()
    audit.record(
        "audit.export",
        actor=actor,
        via=via,
        form=form,
        filters=asked.as_json(),
        head={"sequence": head.sequence, "hash": head.hash} if head else None,
    )
    return Export(
        entries=asked.narrow(visible_to(actor)),
        asked=asked,
        head=head,
        whole=actor.is_platform_admin and not asked.any,
        by=actor.get_username(),
    )


def _seal(entry: AuditEntry) -> dict[str, Any]:
    seal = entry.seal
    return {"digest": seal.digest, "hash": seal.hash, "previous": seal.previous, "sequence": seal.sequence}


def _line(value: dict[str, Any]) -> bytes:
    try:
        return canonical(value) + b"\n"
    except NotCanonical:
        # Somebody changed the entry; whoever verifies the file will find that.
        return json.dumps(value).encode() + b"\n"


def _cells(entry: AuditEntry) -> list[str]:
    known = document(entry) | _seal(entry)
    known["data"] = json.dumps(entry.data, ensure_ascii=False)
    return [spreadsheet.cell(known[column]) for column in COLUMNS]


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, text: str) -> str:
        return text
