# SPDX-License-Identifier: GPL-3.0-or-later
"""Garbage collection: chunks that no index names, and that no running backup can be about to name, are removed.

Why it is safe, in short (docs/store-format.md has it in full): everything unfinished or in the trash is marked
too; only chunks older than the repository's age limit are swept, and a backup that uses an old chunk again
stamps it first; a chunk is looked at once more after it has been moved out of the way and before it is removed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from backups.store.durable import write_file
from backups.store.errors import RepositoryBusy, RepositoryMissing, StoreError, storage_errors
from backups.store.index import ITEM, IndexReader, any_chunk_ids
from backups.store.points import PARTIAL
from backups.store.repository import LEASE, LEASE_SECONDS, Repository
from backups.store.stored import INDEX, MANIFEST

log = logging.getLogger(__name__)

# About 100 bytes of memory for each id that is held at once.
IDS_IN_MEMORY = 2_000_000
MARK_ATTEMPTS = 5
SWEEPING = "gc-"


@dataclass(frozen=True)
class GcResult:
    """What a collection saw and did: indexes read, chunks that they need, chunks removed, bytes freed."""

    indexes: int
    chunks_used: int
    chunks_removed: int
    bytes_freed: int


def collect(
    repository: Repository, *, older_than_seconds: float, protected_index_paths: Iterable[Path] = ()
) -> GcResult:
    """Remove unused chunks older than `older_than_seconds` by the file server's clock.

    `protected_index_paths`: further indexes to keep whole, such as the base of each running job.
    Raises RepositoryBusy if another collection runs; ValueError if the age is below the repository's own limit;
    IndexCorrupt or another StoreError, with nothing removed, if any index cannot be read.
    """
    if older_than_seconds < repository.gc_age_seconds:
        raise ValueError(f"chunks younger than {repository.gc_age_seconds} s may belong to a running backup")
    repository.check()
    with _Lease(repository) as lease:
        recover(repository)
        cutoff = repository.server_now() - older_than_seconds
        sweep = _Sweep(repository, lease, cutoff)
        protected = list(protected_index_paths)
        parts = _parts(repository, protected)
        indexes = chunks = 0
        for part in range(parts):
            low, high = part * 65536 // parts, (part + 1) * 65536 // parts
            indexes, marked = _mark(repository, protected, low, high)
            chunks += len(marked)
            # A share that went away and came back while we marked has hidden indexes from us.
            repository.check()
            sweep.run(marked, low, high)
        sweep.remove_stale_temporary()
    return GcResult(indexes, chunks, sweep.removed, sweep.freed)


def recover(repository: Repository) -> int:
    """Put back what a collection that died had moved out of the way; returns how many chunks that were."""
    back = 0
    with storage_errors("putting chunks back"):
        for folder in sorted(repository.chunks.temporary.glob(f"{SWEEPING}*")):
            for path in folder.iterdir():
                _put_back(path, repository.chunks.folder / path.name[:4] / path.name)
                back += 1
            folder.rmdir()
    return back


def _put_back(path: Path, home: Path) -> None:
    if home.exists():
        path.unlink()
    else:
        path.rename(home)


def _parts(repository: Repository, protected: list[Path]) -> int:
    """In how many passes to go, so that the marked ids of one fit into memory."""
    size = 0
    with contextlib.suppress(FileNotFoundError):
        for path in _index_paths(repository, protected):
            with contextlib.suppress(FileNotFoundError):
                size += path.stat().st_size
    return max(1, min(256, size // ITEM.size // IDS_IN_MEMORY + 1))


def _mark(repository: Repository, protected: list[Path], low: int, high: int) -> tuple[int, set[bytes]]:
    """(number of indexes, ids in use whose first two bytes are in [low, high))."""
    for _ in range(MARK_ATTEMPTS):
        marked: set[bytes] = set()
        count = 0
        try:
            for path in _index_paths(repository, protected):
                count += 1
                last = b""
                for digest in _ids(path):
                    if digest != last and low <= (digest[0] << 8 | digest[1]) < high:
                        marked.add(digest)
                    last = digest
        except FileNotFoundError:
            # A point was moved or published while we looked: look again at everything.
            continue
        return count, marked
    raise RepositoryBusy("Restore points kept moving, so nothing was collected.", hint="Try again later.")


def _index_paths(repository: Repository, protected: list[Path]) -> Iterator[Path]:
    """Every index, finished or not. The trash comes twice: a point that moves either way is met at least once."""
    for trashed in (True, False, True):
        for ref in repository.all_point_folders(trashed=trashed):
            folder = repository.folder_of(ref)
            yield from sorted(path for path in folder.iterdir() if path.name.endswith((INDEX, PARTIAL)))
    yield from protected


def _ids(path: Path) -> Iterator[bytes]:
    """All ids of an index; a damaged index of a published point stops everything, as we cannot know what it needs."""
    published = path.name.endswith(INDEX) and (path.parent / MANIFEST).exists()
    if not published:
        yield from any_chunk_ids(path)
        return
    try:
        index = IndexReader.open(path)
    except RepositoryMissing:
        # Moved since it was listed: the caller looks again at everything.
        raise FileNotFoundError(path) from None
    with index:
        yield from index


class _Sweep:
    """The removing half; counts what it removes."""

    def __init__(self, repository: Repository, lease: _Lease, cutoff: float) -> None:
        self._chunks = repository.chunks
        self._lease = lease
        self._cutoff = cutoff
        self._aside = repository.chunks.temporary / f"{SWEEPING}{uuid.uuid4().hex}"
        self.removed = 0
        self.freed = 0

    def run(self, marked: set[bytes], low: int, high: int) -> None:
        """Sweep the folders `low` to `high` (as numbers) of everything that is old and not marked."""
        with storage_errors("sweeping chunks"):
            self._aside.mkdir(mode=0o750, exist_ok=True)
            for prefix in self._chunks.prefixes():
                if low <= int(prefix, 16) < high:
                    self._lease.renew()
                    for chunk_id in self._chunks.names_under(prefix):
                        if chunk_id not in marked:
                            self._remove_if_old(self._chunks.path(chunk_id))
            self._aside.rmdir()

    def _remove_if_old(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime >= self._cutoff:
                return
            aside = self._aside / path.name
            path.rename(aside)
            found = aside.stat()
            if found.st_mtime >= self._cutoff:
                # A backup stamped it between our two looks: it is in use.
                _put_back(aside, path)
                return
            aside.unlink()
            self.removed += 1
            self.freed += found.st_size

    def remove_stale_temporary(self) -> None:
        """Folders that a writer which died has left."""
        with storage_errors("removing temporary files"):
            for folder in self._chunks.temporary.iterdir():
                if folder.is_dir() and not folder.name.startswith(SWEEPING):
                    self._remove_folder_if_old(folder)

    def _remove_folder_if_old(self, folder: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            if folder.stat().st_mtime < self._cutoff:
                log.info("Removing the temporary folder %s that nobody uses any more", folder.name)
                for path in folder.iterdir():
                    path.unlink()
                folder.rmdir()


class _Lease:
    """At most one collection a repository, also across machines; a dead holder's lease ends after an hour."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._path = repository.path / LEASE
        self._token = uuid.uuid4().hex

    def __enter__(self) -> _Lease:
        with storage_errors("taking the lease"):
            self._remove_expired()
            holder = {"token": self._token, "host": socket.gethostname(), "process": os.getpid()}
            try:
                write_file(self._path, json.dumps(holder).encode(), replace=False)
            except FileExistsError:
                raise RepositoryBusy(
                    "Another garbage collection of this repository is running.",
                    hint="Wait until it has ended.",
                ) from None
        return self

    def renew(self) -> None:
        """Show that we live. Raises StoreError if the lease is no longer ours."""
        with storage_errors("renewing the lease"):
            self._check()
            os.utime(self._path)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, StoreError):
            self._check()
            self._path.unlink()

    def _check(self) -> None:
        try:
            found = json.loads(self._path.read_bytes())["token"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            found = None
        if found != self._token:
            raise RepositoryBusy("This garbage collection was stopped: another one has taken over.")

    def _remove_expired(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._repository.server_now() - self._path.stat().st_mtime > LEASE_SECONDS:
                # Only one of several that see this can win the rename.
                old = self._path.with_name(f"{LEASE}.{uuid.uuid4().hex}")
                self._path.rename(old)
                old.unlink()
