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
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from backups.store.durable import write_file
from backups.store.errors import RepositoryBusy, StoreError, storage_errors
from backups.store.idset import LIMIT, PREFIXES, IdSet, fragment_of
from backups.store.marking import Watch, ignore, needed_ids
from backups.store.repository import LEASE, LEASE_SECONDS, Repository

log = logging.getLogger(__name__)

SWEEPING = "gc-"


@dataclass(frozen=True)
class GcResult:
    """What a collection saw and did: indexes read, chunks that they need, chunks removed, bytes freed."""

    indexes: int
    chunks_used: int
    chunks_removed: int
    bytes_freed: int


def collect(
    repository: Repository,
    *,
    older_than_seconds: float,
    protected_index_paths: Iterable[Path] = (),
    token: str | None = None,
    ids_in_memory: int = LIMIT,
    watch: Watch = ignore,
) -> GcResult:
    """Remove unused chunks older than `older_than_seconds` by the file server's clock.

    `protected_index_paths`: further indexes to keep whole, such as the base of each running job. `token`: whose
    lease it is; a lease with this very token is taken over from an attempt that died. `watch` is called often and
    may raise to stop. Raises RepositoryBusy if another collection runs; ValueError if the age is below the
    repository's own limit; IndexCorrupt or another StoreError, with nothing removed, if an index of a published
    point cannot be read or is not the one that its manifest promises.
    """
    if older_than_seconds < repository.gc_age_seconds:
        raise ValueError(f"chunks younger than {repository.gc_age_seconds} s may belong to a running backup")
    repository.check()
    with _Lease(repository, token or uuid.uuid4().hex) as lease:
        recover(repository)
        cutoff = repository.server_now() - older_than_seconds
        sweep = _Sweep(repository, lease, cutoff, watch)
        protected = list(protected_index_paths)
        first = indexes = chunks = 0
        while first < PREFIXES:
            indexes, needed = needed_ids(
                repository, first=first, limit=ids_in_memory, protected=protected, watch=lease.watched(watch)
            )
            # A share that went away and came back while we marked has hidden indexes from us.
            repository.check()
            chunks += sweep.run(needed)
            first = needed.end
            del needed  # two of them would not fit into memory
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


class _Sweep:
    """The removing half; counts what it removes."""

    def __init__(self, repository: Repository, lease: _Lease, cutoff: float, watch: Watch) -> None:
        self._chunks = repository.chunks
        self._lease = lease
        self._cutoff = cutoff
        self._watch = watch
        self._aside = repository.chunks.temporary / f"{SWEEPING}{uuid.uuid4().hex}"
        self.removed = 0
        self.freed = 0

    def run(self, needed: IdSet) -> int:
        """Sweep the folders that `needed` covers of everything old that is not in it; returns how many ids are."""
        used = 0
        with storage_errors("sweeping chunks"):
            self._aside.mkdir(mode=0o750, exist_ok=True)
            for prefix in self._chunks.prefixes():
                number = int(prefix, 16)
                if needed.first <= number < needed.end:
                    self._lease.keep()
                    self._watch("Removing unused chunks", number, PREFIXES)
                    used += self._sweep_folder(prefix, needed.under(number))
            self._aside.rmdir()
        return used

    def _sweep_folder(self, prefix: str, needed: set[bytes]) -> int:
        for chunk_id in self._chunks.names_under(prefix):
            if fragment_of(chunk_id) not in needed:
                self._remove_if_old(self._chunks.path(chunk_id))
        return len(needed)

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

    def __init__(self, repository: Repository, token: str) -> None:
        self._repository = repository
        self._path = repository.path / LEASE
        self._token = token
        self._renewed_at = time.monotonic()

    def __enter__(self) -> _Lease:
        with storage_errors("taking the lease"):
            self._remove_expired()
            holder = {"token": self._token, "host": socket.gethostname(), "process": os.getpid()}
            try:
                write_file(self._path, json.dumps(holder).encode(), replace=False)
            except FileExistsError:
                self._take_over()
        return self

    def _take_over(self) -> None:
        """Our own lease, left by an attempt that died."""
        if self._holder() != self._token:
            raise RepositoryBusy(
                "Another garbage collection of this repository is running.",
                hint="Wait until it has ended.",
            )
        os.utime(self._path)

    def watched(self, watch: Watch) -> Watch:
        """`watch`, which also keeps the lease alive."""

        def both(doing: str, done: int, total: int) -> None:
            self.keep()
            watch(doing, done, total)

        return both

    def keep(self) -> None:
        """Renew it if that was not done within the last second."""
        if time.monotonic() - self._renewed_at > 1:
            self.renew()

    def renew(self) -> None:
        """Show that we live. Raises StoreError if the lease is no longer ours."""
        with storage_errors("renewing the lease"):
            self._check()
            os.utime(self._path)
            self._renewed_at = time.monotonic()

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, StoreError):
            self._check()
            self._path.unlink()

    def _holder(self) -> object:
        try:
            return json.loads(self._path.read_bytes())["token"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _check(self) -> None:
        if self._holder() != self._token:
            raise RepositoryBusy("This garbage collection was stopped: another one has taken over.")

    def _remove_expired(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._repository.server_now() - self._path.stat().st_mtime > LEASE_SECONDS:
                # Only one of several that see this can win the rename.
                old = self._path.with_name(f"{LEASE}.{uuid.uuid4().hex}")
                self._path.rename(old)
                old.unlink()
