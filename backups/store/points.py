# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore point being written.

A point is visible if and only if its `manifest.json` exists; that file is written last and never changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backups.store.durable import sync_directory, sync_filesystem, write_file
from backups.store.errors import (
    ClaimLost,
    IndexCorrupt,
    PointExists,
    PointIncomplete,
    StoreError,
    storage_errors,
)
from backups.store.index import IndexReader, PartialIndex
from backups.store.manifest import parse_manifest
from backups.store.marks import MARKS, MarksFile
from backups.store.names import checked_uuid
from backups.store.stored import INDEX, MANIFEST, PUBLISHED, StoredPoint, file_sha256

if TYPE_CHECKING:
    from backups.store.repository import Repository

PARTIAL = ".caibx.partial"
SOURCE = ".caibx.source"
TEXT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\.(ovf|xml|json|txt)")


class StagedPoint:
    """A restore point in the making; after a crash the next process goes on where this one stopped."""

    def __init__(self, folder: Path, repository: Repository, names: dict[str, str]) -> None:
        self.folder = folder
        self._repository = repository
        self._names = names
        self._open: dict[str, PartialIndex] = {}
        self._disks: set[str] = set()

    def disk_index(self, disk_id: str, size_bytes: int, chunk_size: int, *, source: str = "") -> PartialIndex:
        """The disk's index, with everything stored so far if an earlier attempt began it, else empty.

        `source` names the moment that is copied (the Manager's backup id): entries made from another source
        would mix two moments in one disk, so with another `source`, size or chunk size the index starts anew.
        Entries whose chunk is not there (lost in a power cut, or quarantined) are forgotten.
        """
        disk_id = checked_uuid(disk_id)
        self._refuse_if_published()
        if disk_id in self._open:
            self._open.pop(disk_id).close()
        partial, final = self.folder / f"{disk_id}{PARTIAL}", self.folder / f"{disk_id}{INDEX}"
        with storage_errors("opening an unfinished index"):
            if final.exists():
                # Publishing was interrupted before the manifest was written.
                final.rename(partial)
        index = None
        if self._read_source(disk_id) == source:
            index = PartialIndex.reopen(partial, size_bytes=size_bytes, chunk_size=chunk_size)
        if index is None:
            with storage_errors("beginning an index"):
                partial.unlink(missing_ok=True)
                write_file(self.folder / f"{disk_id}{SOURCE}", source.encode())
            index = PartialIndex.create(partial, size_bytes=size_bytes, chunk_size=chunk_size)
        else:
            self._forget_lost(index)
        self._open[disk_id] = index
        self._disks.add(disk_id)
        return index

    def drop_disk(self, disk_id: str) -> None:
        """Forget what an earlier attempt has of a disk that is no longer part of the point."""
        disk_id = checked_uuid(disk_id)
        self._refuse_if_published()
        if disk_id in self._open:
            self._open.pop(disk_id).close()
        self._disks.discard(disk_id)
        with storage_errors("dropping a disk"):
            for ending in (PARTIAL, INDEX, SOURCE):
                (self.folder / f"{disk_id}{ending}").unlink(missing_ok=True)

    def write_text(self, name: str, content: bytes) -> None:
        """Store a small file beside the indexes, such as `vm.ovf`. Raises StoreError for other kinds of names."""
        if not TEXT_NAME.fullmatch(name) or name == MANIFEST:
            raise StoreError(f"{name[:80]!r} is not a name for a restore point's file.")
        self._refuse_if_published()
        with storage_errors("writing a restore point's file"):
            write_file(self.folder / name, content)

    def publish(self, manifest: dict[str, Any], *, still_owner: Callable[[], bool]) -> StoredPoint:
        """Make the point visible. `manifest` is the caller's facts; the store's own keys are added.

        Disks that an earlier attempt finished need not be opened again if they are of the same source.

        `still_owner` is asked before anything is touched and again last; if it says no, ClaimLost is raised and
        the point stays unpublished. Raises PointIncomplete, PointExists, RepositoryFull.
        """
        self._repository.check()
        self._refuse_if_published()
        _refuse_unless(still_owner)
        self._adopt_finished_disks()
        for disk_id, index in list(self._open.items()):
            index.finish(self.folder / f"{disk_id}{INDEX}")
            del self._open[disk_id]
        with storage_errors("publishing a restore point"):
            whole = {**manifest, **self._own_facts()}
            text = json.dumps(whole, indent=1, ensure_ascii=False).encode() + b"\n"
            parse_manifest(text, self._names)
            with MarksFile(self.folder) as marks:
                # Another attempt may publish in the end: then it has said so too.
                marks.append(
                    PUBLISHED, point=self.folder.name, manifest_sha256=hashlib.sha256(text).hexdigest()
                )
            self._make_all_durable()
            _refuse_unless(still_owner)
            self._write_manifest(text)
            for leftover in self.folder.glob(f"*{SOURCE}"):
                leftover.unlink(missing_ok=True)
        return StoredPoint(self.folder, self._repository)

    def abandon(self) -> None:
        """Remove the unpublished point; a published one is never touched. Its chunks are left to collection."""
        self._refuse_if_published()
        self.close()
        with storage_errors("removing an unfinished restore point"):
            remove_tree(self.folder)

    def close(self) -> None:
        """Close the index files; the unfinished point stays for the next attempt."""
        for index in self._open.values():
            index.close()
        self._open.clear()

    def _refuse_if_published(self) -> None:
        """A worker that was stalled while another one published must not touch the point any more."""
        if (self.folder / MANIFEST).exists():
            raise PointExists(f"Restore point {self.folder.name} is published and stays as it is.")

    def _adopt_finished_disks(self) -> None:
        """Take over disks that an earlier attempt stored whole and this one did not open, if of one source."""
        on_file = self._disks_on_file()
        sources = {self._read_source(disk_id) for disk_id in on_file}
        for disk_id in sorted(on_file - self._disks):
            path = self.folder / f"{disk_id}{PARTIAL}"
            try:
                if len(sources) != 1:
                    raise IndexCorrupt("The disks are of different moments.")
                with IndexReader.open(path if path.exists() else self.folder / f"{disk_id}{INDEX}") as found:
                    size_bytes, chunk_size = found.size_bytes, found.chunk_size
            except IndexCorrupt as error:
                raise PointIncomplete(
                    f"Disk {disk_id} was begun by an earlier attempt and not gone on with, so nothing was published.",
                    hint="Open its index and store what is missing, or drop the disk.",
                ) from error
            self.disk_index(disk_id, size_bytes, chunk_size, source=sources.copy().pop() or "")

    def _disks_on_file(self) -> set[str]:
        names = [path.name for path in self.folder.iterdir()]
        return {n.removesuffix(end) for n in names for end in (INDEX, PARTIAL) if n.endswith(end)}

    def _read_source(self, disk_id: str) -> str | None:
        try:
            return (self.folder / f"{disk_id}{SOURCE}").read_text()
        except (FileNotFoundError, UnicodeDecodeError):
            return None

    def _forget_lost(self, index: PartialIndex) -> None:
        # Index pages may reach the disk before the chunks' names do.
        chunks = self._repository.chunks
        now = self._repository.server_now()
        last: tuple[bytes, bool] = (b"", False)
        for number, digest in index.stored():
            if digest != last[0]:
                last = (digest, chunks.reuse(digest, now=now))
            if not last[1]:
                index.clear(number)

    def _own_facts(self) -> dict[str, Any]:
        indexes: dict[str, Any] = {}
        files: dict[str, Any] = {}
        for path in sorted(self.folder.iterdir()):
            if path.name.endswith(INDEX):
                with IndexReader.open(path) as reader:
                    indexes[path.name.removesuffix(INDEX)] = {
                        "size_bytes": reader.size_bytes,
                        "chunk_size_bytes": reader.chunk_size,
                        "digest": reader.digest_hex(),
                    }
            elif not TEXT_NAME.fullmatch(path.name):
                continue
            files[path.name] = {"size": path.stat().st_size, "sha256": file_sha256(path)}
        return {
            "format": 1,
            "repository": str(self._repository.uuid),
            **self._names,
            "encryption": "none",
            "indexes": indexes,
            "files": files,
        }

    def _make_all_durable(self) -> None:
        """Chunk names, indexes and texts: everything that the manifest is about to promise."""
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
            try:
                sync_filesystem(fd)
            except OSError:
                self._sync_chunk_folders()
        finally:
            os.close(fd)

    def _sync_chunk_folders(self) -> None:
        chunks = self._repository.chunks
        for prefix in chunks.prefixes():
            sync_directory(chunks.folder / prefix)
        sync_directory(chunks.folder)

    def _write_manifest(self, text: bytes) -> None:
        try:
            write_file(self.folder / MANIFEST, text, replace=False)
        except FileExistsError:
            raise PointExists(f"Restore point {self.folder.name} was published by another worker.") from None


def _refuse_unless(still_owner: Callable[[], bool]) -> None:
    if not still_owner():
        raise ClaimLost("Another worker has taken this job over, so nothing was published here.")


def _removal_order(path: Path) -> int:
    return 0 if path.name.endswith((INDEX, PARTIAL)) else 2 if path.name == MARKS else 1


def remove_tree(folder: Path) -> None:
    """Remove a restore point's folder; the manifest first, so that a point half removed is not visible.

    Then the indexes, so that it is not taken for one whose manifest was lost, and the marks last.
    """
    (folder / MANIFEST).unlink(missing_ok=True)
    sync_directory(folder)
    for path in sorted(folder.iterdir(), key=_removal_order):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)  # nothing of ours: somebody put it there
        else:
            path.unlink(missing_ok=True)
    folder.rmdir()
