# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads of audit chains, written down where the portal's database cannot reach: `audit/anchors.jsonl`.

A line says: at this time the chain whose first link has the hash `chain` had `sequence` links, and the last of them
had `hash` (docs/audit.md). Several portals may have written here, one after the other.
"""

from __future__ import annotations

from pathlib import Path

from backups.store.durable import make_directory, sync_directory
from backups.store.errors import StoreError, storage_errors
from backups.store.lines import Line, LinesFile, read_lines
from backups.store.repository import Repository

FOLDER = "audit"
ANCHORS = "anchors.jsonl"
KIND = "anchor"
_WHAT = "the anchors of the audit history"


def append_anchor(store: Repository, *, chain: str, sequence: int, hash: str) -> None:
    """Durably add a line. Raises StoreError."""
    with storage_errors(f"writing {_WHAT}"):
        store.check()
        if (store.path / FOLDER).is_symlink():
            raise StoreError(
                f"{store.path / FOLDER} is a link to somewhere else, so nothing was written there."
            )
        make_directory(store.path / FOLDER)
        with LinesFile(_path(store), first=str(store.uuid), what=_WHAT) as file:
            file.append(KIND, chain=chain, sequence=sequence, hash=hash)
        sync_directory(store.path / FOLDER)


def read_anchors(store: Repository) -> tuple[Line | None, ...]:
    """Lines in the order of writing, None where one is damaged. Raises StoreError."""
    return _checked(read_lines(_path(store), first=str(store.uuid), what=_WHAT))


def read_anchors_file(path: Path) -> tuple[Line | None, ...]:
    """Of a copy of such a file, whose repository is not at hand. Raises StoreError."""
    return _checked(read_lines(path, first="", what=_WHAT))


def _checked(lines: tuple[Line | None, ...]) -> tuple[Line | None, ...]:
    return tuple(line if line is not None and _is_anchor(line) else None for line in lines)


def _path(store: Repository) -> Path:
    return store.path / FOLDER / ANCHORS


def _is_anchor(line: Line) -> bool:
    texts = all(isinstance(line.get(key), str) for key in ("chain", "hash"))
    number = line.get("sequence")
    return line["kind"] == KIND and texts and type(number) is int and number > 0
