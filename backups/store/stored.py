# SPDX-License-Identifier: GPL-3.0-or-later
"""A published restore point, and the marks that are made on it later."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backups.store.durable import write_all
from backups.store.errors import IndexCorrupt, PointCorrupt, storage_errors
from backups.store.index import IndexReader
from backups.store.manifest import MANIFEST_LIMIT, IndexEntry, Manifest, parse_manifest

if TYPE_CHECKING:
    from backups.store.repository import Repository

MANIFEST = "manifest.json"
MARKS = "marks.jsonl"
MARKS_LIMIT = 64 << 20
INDEX = ".caibx"


class StoredPoint:
    """A published restore point. `manifest` is everything that was recorded, checked for shape."""

    def __init__(self, folder: Path, repository: Repository) -> None:
        self.folder = folder
        self.repository = repository
        names = {
            "environment": folder.parent.parent.name,
            "vm": folder.parent.name,
            "point": folder.name,
        }
        with storage_errors("reading a manifest"):
            with (folder / MANIFEST).open("rb") as file:
                raw = file.read(MANIFEST_LIMIT + 1)
            self._parsed: Manifest = parse_manifest(raw, names)
            self._check_sizes()

    @property
    def manifest(self) -> dict[str, Any]:
        return self._parsed.content

    @property
    def disk_ids(self) -> list[str]:
        return list(self._parsed.indexes)

    def digest_hex(self, disk_id: str) -> str:
        """The disk's digest as the manifest has it (see IndexReader.digest_hex)."""
        return self._entry(disk_id).digest

    def index_path(self, disk_id: str) -> Path:
        self._entry(disk_id)
        return self.folder / f"{disk_id}{INDEX}"

    def index(self, disk_id: str) -> IndexReader:
        """The disk's index; close it. Raises PointCorrupt, IndexCorrupt."""
        entry = self._entry(disk_id)
        reader = IndexReader.open(self.folder / f"{disk_id}{INDEX}")
        if (reader.size_bytes, reader.chunk_size) != (entry.size_bytes, entry.chunk_size_bytes):
            reader.close()
            raise IndexCorrupt(f"The index of disk {disk_id} is not the one that the manifest describes.")
        return reader

    def read_file(self, name: str) -> bytes:
        """A file that the manifest lists, such as `vm.ovf`, its SHA-256 checked. Raises PointCorrupt."""
        if name not in self._parsed.files:
            raise PointCorrupt(f"The restore point has no file {name[:80]!r}.")
        with storage_errors("reading a restore point's file"):
            content = (self.folder / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != self._parsed.files[name].sha256:
            raise PointCorrupt(f"{name} of restore point {self.folder.name} was changed or damaged.")
        return content

    def damaged_files(self) -> list[str]:
        """Names of listed files whose SHA-256 is not the manifest's. Reads all of them."""
        with storage_errors("verifying a restore point"):
            return [
                n for n, entry in self._parsed.files.items() if file_sha256(self.folder / n) != entry.sha256
            ]

    def mark(self, kind: str, **facts: Any) -> None:
        """Append a fact that came later (pinned, verified, proven …); the manifest itself never changes."""
        append_mark(self.folder, {"kind": kind, **facts})

    def marks(self) -> list[dict[str, Any]]:
        """Everything that was marked, oldest first; a line cut short by a crash is passed over."""
        return read_marks(self.folder)

    def _entry(self, disk_id: str) -> IndexEntry:
        try:
            return self._parsed.indexes[disk_id]
        except KeyError:
            raise PointCorrupt(f"The restore point has no disk {disk_id[:80]!r}.") from None

    def _check_sizes(self) -> None:
        for name, entry in self._parsed.files.items():
            try:
                size = (self.folder / name).stat().st_size
            except FileNotFoundError:
                raise PointCorrupt(f"{name} of restore point {self.folder.name} is missing.") from None
            if size != entry.size:
                raise PointCorrupt(
                    f"{name} of restore point {self.folder.name} has {size} bytes, not {entry.size}."
                )


def append_mark(folder: Path, facts: dict[str, Any]) -> None:
    """Add one line to a point's marks, durably; `at` (UTC) is added."""
    line = json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), **facts}, ensure_ascii=False)
    with storage_errors("marking a restore point"):
        fd = os.open(folder / MARKS, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            size = os.fstat(fd).st_size
            torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
            write_all(fd, (b"\n" if torn else b"") + line.encode() + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)


def read_marks(folder: Path) -> list[dict[str, Any]]:
    marks = []
    with storage_errors("reading marks"):
        try:
            with (folder / MARKS).open("rb") as file:
                raw = file.read(MARKS_LIMIT)
        except FileNotFoundError:
            return []
    for line in raw.splitlines():
        try:
            mark = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(mark, dict):
            marks.append(mark)
    return marks


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
