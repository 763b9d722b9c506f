# SPDX-License-Identifier: GPL-3.0-or-later
"""A published restore point, and the marks that are made on it later."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backups.store.errors import IndexCorrupt, PointCorrupt, PointNotFound, storage_errors
from backups.store.index import IndexReader
from backups.store.manifest import MANIFEST_LIMIT, IndexEntry, Manifest, parse_manifest
from backups.store.marks import Mark, MarksFile, Standing, read_marks

if TYPE_CHECKING:
    from backups.store.repository import Repository

MANIFEST = "manifest.json"
INDEX = ".caibx"
PUBLISHED = "published"


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
            text = _read_manifest(folder)
            # Of the bytes that are parsed here, not of what lies there later.
            self.manifest_sha256 = hashlib.sha256(text).hexdigest()
            self._parsed: Manifest = parse_manifest(text, names)
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

    def whole_index(self, disk_id: str) -> IndexReader:
        """As `index`, and the ids in it are those whose digest the manifest has: nothing was exchanged in it."""
        reader = self.index(disk_id)
        if reader.digest_hex() != self.digest_hex(disk_id):
            reader.close()
            raise IndexCorrupt(
                f"The index of disk {disk_id} does not have the digest of the manifest: it was changed or damaged.",
                hint="Choose another restore point, or put the file back from a copy.",
            )
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

    def manifest_is_as_published(self) -> bool:
        """False if the manifest's SHA-256 is not the one in the mark `published`; true if no mark tells."""
        promised = {mark.get("manifest_sha256") for mark in self.marks() if _is_of(mark, self.folder.name)}
        with storage_errors("verifying a manifest"):
            return not promised or file_sha256(self.folder / MANIFEST) in promised

    def damaged_files(self) -> list[str]:
        """Names of listed files whose SHA-256 is not the manifest's, and the manifest's own if it was changed.

        Reads all of them. The manifest's SHA-256 stands in the mark `published`.
        """
        changed = not self.manifest_is_as_published()
        with storage_errors("verifying a restore point"):
            return [MANIFEST] * changed + [
                n for n, entry in self._parsed.files.items() if file_sha256(self.folder / n) != entry.sha256
            ]

    def mark(self, kind: str, **facts: Any) -> None:
        """Append a fact that came later (pinned, verified, proven …); the manifest itself never changes."""
        with MarksFile(self.folder) as marks:
            marks.append(kind, **facts)

    def marks(self) -> list[Mark]:
        """Everything that was marked, oldest first; a line cut short by a crash is passed over."""
        return read_marks(self.folder).good

    def damaged_marks(self) -> int:
        """Lines of the marks that are torn, changed or missing; they may have been a hold.

        The mark `published` was written before the manifest: a point without it has lost marks.
        """
        found = read_marks(self.folder)
        return found.damaged or int(not any(_is_of(mark, self.folder.name) for mark in found.good))

    def standing(self) -> Standing:
        """Pinned, held, verified …: the last word of the marks on each."""
        return read_marks(self.folder).standing()

    def _entry(self, disk_id: str) -> IndexEntry:
        try:
            return self._parsed.indexes[disk_id]
        except KeyError:
            raise PointCorrupt(f"The restore point has no disk {disk_id[:80]!r}.") from None

    def _check_sizes(self) -> None:
        for name, entry in self._parsed.files.items():
            try:
                found = (self.folder / name).lstat()
            except FileNotFoundError:
                if not (self.folder / MANIFEST).exists():
                    raise PointNotFound(f"Restore point {self.folder.name} was moved meanwhile.") from None
                raise PointCorrupt(f"{name} of restore point {self.folder.name} is missing.") from None
            if not stat.S_ISREG(found.st_mode):
                raise PointCorrupt(f"{name} of restore point {self.folder.name} is not a plain file.")
            if found.st_size != entry.size:
                raise PointCorrupt(
                    f"{name} of restore point {self.folder.name} has {found.st_size} bytes, not {entry.size}."
                )


def _is_of(mark: Mark, point: str) -> bool:
    """A mark that says that this very point was published."""
    return mark["kind"] == PUBLISHED and mark.get("point") == point


def _read_manifest(folder: Path) -> bytes:
    """At most a byte more than a manifest may have; links and devices are not followed."""
    fd = os.open(folder / MANIFEST, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise PointCorrupt(f"The manifest of restore point {folder.name} is not a plain file.")
        return file.read(MANIFEST_LIMIT + 1)


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
