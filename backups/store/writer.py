# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing chunks in batches: temporary files, one syncfs, final names, and only then index entries."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import zstandard

from backups.store.chunks import ChunkStore, zero_chunk_id
from backups.store.durable import server_now, sync_filesystem, write_all
from backups.store.errors import StoreError, storage_errors
from backups.store.index import ITEMS_AT_ONCE, PartialIndex

log = logging.getLogger(__name__)

ZSTD_LEVEL = 1
BATCH_BYTES = 64 << 20
BATCH_CHUNKS = 1024
BATCH_SECONDS = 3.0

_of_thread = threading.local()
# Index, number of the first chunk, how many consecutive chunks have this same content.
_Entry = tuple[PartialIndex, int, int]


class ChunkWriter:
    """Stores chunks for any number of indexes; used by many threads, closed once.

    Use as a context manager: leaving it normally commits what is left, leaving it by an exception removes the
    temporary files (chunks committed before stay and are found by the next attempt).
    `chunks_new`, `chunks_reused` and `bytes_stored` (compressed) may be read at any time. `on_stored` is told how many
    chunks and compressed bytes have become durable, after each batch, by the thread that wrote it.
    """

    def __init__(
        self,
        chunks: ChunkStore,
        *,
        batch_bytes: int = BATCH_BYTES,
        on_stored: Callable[[int, int], None] | None = None,
    ) -> None:
        self._chunks = chunks
        self._batch_bytes = batch_bytes
        self._on_stored = on_stored
        self._sizes: dict[bytes, int] = {}
        self._lock = threading.Lock()
        self._committing = threading.Lock()
        self._batch: list[bytes] = []
        self._batch_size = 0
        self._batch_began = 0.0
        # Chunks that have no final name yet, and the index entries that wait for them.
        self._waiting: dict[bytes, list[_Entry]] = {}
        self.chunks_new = 0
        self.chunks_reused = 0
        self.bytes_stored = 0
        with storage_errors("preparing to write chunks"):
            self._folder = chunks.temporary / uuid.uuid4().hex
            self._folder.mkdir(mode=0o750)
            self._clock_offset = server_now(self._folder) - time.time()
            # Opened before any write, so that syncfs tells of their errors.
            self._sync_fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def add(self, index: PartialIndex, number: int, content: memoryview) -> None:
        """Store chunk `number` of `index`; its entry appears when the chunk is durable. Raises StoreError.

        A chunk that is stored already is neither compressed nor written.
        """
        self._add((index, number, 1), hashlib.sha256(content).digest(), content)

    def add_zeros(self, index: PartialIndex, first: int, count: int) -> None:
        """`count` chunks from `first` on are all zero: nothing is read or hashed, the zero chunk is stored once."""
        last = first + count - 1
        if index.length_of(last) != index.chunk_size:
            self._add_zeros((index, last, 1), index.length_of(last))
            count -= 1
        if count:
            self._add_zeros((index, first, count), index.chunk_size)

    def reuse_run(self, index: PartialIndex, first: int, digests: Sequence[bytes]) -> list[int]:
        """Let consecutive chunks be ones that should be stored already; returns the numbers of those that are not."""
        now = time.time() + self._clock_offset
        stored = {digest: self._chunks.reuse(digest, now=now) for digest in dict.fromkeys(digests)}
        if all(stored.values()):
            index.set_run(first, digests)
            self._count(reused=len(digests))
            return []
        lost = []
        for number, digest in enumerate(digests, first):
            if stored[digest]:
                index.set(number, digest)
            else:
                lost.append(number)
        self._count(reused=len(digests) - len(lost))
        return lost

    def _add_zeros(self, entry: _Entry, length: int) -> None:
        digest = zero_chunk_id(length)
        if not self._joins_waiting(entry, digest) and not self._reuses(entry, digest):
            self._add(entry, digest, memoryview(bytes(length)))

    def _add(self, entry: _Entry, digest: bytes, content: memoryview) -> None:
        if self._joins_waiting(entry, digest) or self._reuses(entry, digest):
            return
        with self._lock:
            if digest in self._waiting:
                self._waiting[digest].append(entry)
                self.chunks_reused += entry[2]
                return
            self._waiting[digest] = [entry]
            self.chunks_reused += entry[2] - 1
        self._write(digest, _compressor().compress(content))

    def _joins_waiting(self, entry: _Entry, digest: bytes) -> bool:
        with self._lock:
            entries = self._waiting.get(digest)
            if entries is None:
                return False
            entries.append(entry)
            self.chunks_reused += entry[2]
            return True

    def _reuses(self, entry: _Entry, digest: bytes) -> bool:
        if not self._chunks.reuse(digest, now=time.time() + self._clock_offset):
            return False
        _set(entry, digest)
        self._count(reused=entry[2])
        return True

    def _count(self, *, reused: int) -> None:
        with self._lock:
            self.chunks_reused += reused

    def flush(self) -> None:
        """Commit everything that was added, also what other threads are committing just now."""
        with self._lock:
            batch = self._take_batch()
        self._commit(batch)

    def _write(self, digest: bytes, packed: bytes) -> None:
        with storage_errors("writing a chunk"):
            fd = os.open(self._temporary(digest), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            try:
                write_all(fd, packed)
            finally:
                os.close(fd)
        full: list[bytes] = []
        with self._lock:
            if not self._batch:
                self._batch_began = time.monotonic()
            self._batch.append(digest)
            self._sizes[digest] = len(packed)
            self._batch_size += len(packed)
            self.chunks_new += 1
            self.bytes_stored += len(packed)
            if self._is_full():
                full = self._take_batch()
        if full:
            self._commit(full)

    def _is_full(self) -> bool:
        late = time.monotonic() - self._batch_began > BATCH_SECONDS
        return self._batch_size >= self._batch_bytes or len(self._batch) >= BATCH_CHUNKS or late

    def _take_batch(self) -> list[bytes]:
        batch, self._batch, self._batch_size = self._batch, [], 0
        return batch

    def _temporary(self, digest: bytes) -> str:
        return f"{self._folder}/{digest.hex()}"

    def _commit(self, batch: list[bytes]) -> None:
        """One at a time: a second full batch waits here, which slows readers down to what the storage takes."""
        with self._committing:
            if batch:
                self._make_durable(batch)
                self._give_names(batch)
                self._set_entries(batch)
                self._tell_stored(batch)

    def _make_durable(self, digests: list[bytes]) -> None:
        with storage_errors("making chunks durable"):
            try:
                sync_filesystem(self._sync_fd)
            except OSError as error:
                if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
                    raise
                self._sync_one_by_one(digests)

    def _sync_one_by_one(self, digests: list[bytes]) -> None:
        for digest in digests:
            fd = os.open(self._temporary(digest), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def _give_names(self, digests: list[bytes]) -> None:
        with storage_errors("naming chunks"):
            for digest in digests:
                name = digest.hex()
                final = f"{self._chunks.folder}/{name[:4]}/{name}.cacnk"
                try:
                    os.rename(f"{self._folder}/{name}", final)  # noqa: PTH104 (a Path costs more)
                except FileNotFoundError:
                    # One level only: if `chunks` itself is gone, so is the share.
                    (self._chunks.folder / name[:4]).mkdir(mode=0o750, exist_ok=True)
                    os.rename(f"{self._folder}/{name}", final)  # noqa: PTH104

    def _set_entries(self, digests: list[bytes]) -> None:
        for digest in digests:
            with self._lock:
                entries = self._waiting.pop(digest, [])
            for entry in entries:
                _set(entry, digest)

    def _tell_stored(self, digests: list[bytes]) -> None:
        with self._lock:
            size = sum(self._sizes.pop(digest) for digest in digests)
        if self._on_stored is not None:
            self._on_stored(len(digests), size)

    def close(self) -> None:
        """Remove temporary files; what was not committed is dropped."""
        if self._sync_fd < 0:
            return
        os.close(self._sync_fd)
        self._sync_fd = -1
        try:
            for left in self._folder.iterdir():
                left.unlink()
            self._folder.rmdir()
        except OSError as error:
            # Garbage collection removes what is left; an error here must not hide the first one.
            log.warning("Temporary chunks stay behind in %s: %s", self._folder, error.strerror)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.flush()
                if self._waiting:
                    raise StoreError("Some chunks were still being written when their writer was closed.")
        finally:
            self.close()


def _set(entry: _Entry, digest: bytes) -> None:
    index, first, count = entry
    if count == 1:
        index.set(first, digest)
        return
    for at in range(0, count, ITEMS_AT_ONCE):
        index.set_run(first + at, [digest] * min(ITEMS_AT_ONCE, count - at))


def _compressor() -> zstandard.ZstdCompressor:
    found: zstandard.ZstdCompressor | None = getattr(_of_thread, "compressor", None)
    if found is None:
        found = _of_thread.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True)
    return found
