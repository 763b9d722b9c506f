# SPDX-License-Identifier: GPL-3.0-or-later
"""Verifying an exported file (JSON Lines with seals) alone: no database, one line in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from portal.audit.canonical import NotCanonical, digest
from portal.audit.entries import GENESIS, link_hash
from portal.audit.verifying import Anchor, Problem, Verdict

# More than any line is long: an entry's data is bounded.
LONGEST_LINE = 4 << 20


class _Bad(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem


def verify_export(file: BinaryIO, anchors: Iterable[Anchor] = ()) -> Verdict:
    """Each entry against its seal, each seal against the one before, the file against its own first and last line,
    and against anchors. Of a file with filters only what is in it can be told; the notes say so."""
    verdict = Verdict(head=GENESIS)
    try:
        _check(_objects(file), verdict, sorted(anchors))
    except _Bad as bad:
        verdict.problem = bad.problem
    return verdict


def _check(objects: Iterator[dict[str, Any]], verdict: Verdict, anchors: list[Anchor]) -> None:
    about = next(objects, {}).get("export")
    if not isinstance(about, dict):
        raise _bad("not_an_export", "The file does not begin like an export of the history.")
    whole = about.get("whole") is True
    known = {anchor.sequence: anchor for anchor in anchors}
    at, ended = 0, False
    for item in objects:
        if ended:
            raise _bad("after_the_end", "Something follows the file's last line.", at)
        if "end" in item:
            ended = True
            if item["end"] != {"entries": verdict.entries}:
                text = f"{verdict.entries:,} entries are in the file; its last line says {item['end']}."
                raise _bad("missing_entry", text, at + 1)
            continue
        at = _check_entry(item, at, verdict, whole)
        if at in known and known[at].hash != verdict.head:
            text = f"Entry {at:,} or one before it was changed: {known[at].place} knows another hash."
            raise _bad("rewritten", text, at)
        verdict.anchors += at in known
    if not ended:
        raise _bad("cut", f"The file is cut off after entry {at:,}: its last line is missing.", at + 1)
    _check_end(about.get("head"), verdict, whole, at)
    beyond = [anchor for anchor in anchors if anchor.sequence > at]
    if whole and beyond:
        verdict.notes.append(f"{len(beyond)} anchors are of later entries than this file has.")
    if not whole:
        verdict.notes.append(
            "The file holds a part of the history: what is missing between cannot be told from it."
        )


def _check_entry(item: dict[str, Any], before: int, verdict: Verdict, whole: bool) -> int:
    """Returns the sequence of the entry."""
    entry, seal = item.get("entry"), item.get("seal")
    if not isinstance(entry, dict) or not isinstance(seal, dict) or type(seal.get("sequence")) is not int:
        raise _bad("unreadable", f"The line after entry {before:,} is no entry with its seal.", before + 1)
    at = seal["sequence"]
    if whole and at != before + 1:
        raise _bad("missing_entry", f"Entry {before + 1:,} is missing; the next one is {at:,}.", before + 1)
    if at <= before:
        raise _bad("order", f"Entry {at:,} stands after entry {before:,}.", at)
    try:
        if digest(entry) != seal.get("digest"):
            raise _bad("changed_entry", f"Entry {at:,} was changed.", at)
        if link_hash(at, seal["digest"], str(seal.get("previous"))) != seal.get("hash"):
            raise _bad("changed_seal", f"The seal of entry {at:,} was changed.", at)
    except NotCanonical as error:
        raise _bad("changed_entry", f"Entry {at:,} was changed: it has {error}.", at) from error
    if at == before + 1 and seal["previous"] != verdict.head:
        raise _bad("changed_seal", f"The seal of entry {at:,} does not continue the one before.", at)
    verdict.entries, verdict.head = verdict.entries + 1, seal["hash"]
    return at


def _check_end(head: Any, verdict: Verdict, whole: bool, at: int) -> None:
    if whole and isinstance(head, dict) and (head.get("sequence"), head.get("hash")) != (at, verdict.head):
        raise _bad(
            "missing_entry",
            f"The file ends at entry {at:,}, but the history had {head.get('sequence')} when it was made.",
            at + 1,
        )


def _objects(file: BinaryIO) -> Iterator[dict[str, Any]]:
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if len(line) > LONGEST_LINE or not line.endswith(b"\n") or not isinstance(found, dict):
            raise _bad("unreadable", f"Line {number:,} cannot be read: it is cut off or was changed.")
        yield found


def _bad(code: str, text: str, sequence: int | None = None) -> _Bad:
    return _Bad(Problem(code, text, sequence))
