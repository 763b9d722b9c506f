# SPDX-License-Identifier: GPL-3.0-or-later
"""casync blob indexes (`.caibx`) with chunks of one fixed size: reading, and writing in any order.

Layout, all numbers little-endian 64-bit (docs/store-format.md): header of 48 bytes, table header of 16, per
chunk 40 bytes (offset of its end, SHA-256), tail of 40. Source of fact: casync's src/caformat.h and caindex.c.
A partial index has the same layout with zero bytes where a chunk is not stored yet.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from backups.store.errors import IndexCorrupt, PointIncomplete, storage_errors

MIB = 1 << 20
TIB = 1 << 40
MIN_CHUNK_SIZE = MIB
MAX_CHUNK_SIZE = 16 * MIB

TYPE_INDEX = 0x96824D9C7B129FF9
TYPE_TABLE = 0xE75B9E112F17417D
TYPE_TABLE_TAIL = 0x4B4F050E5549ECD1
UNTIL_TAIL = 0xFFFFFFFFFFFFFFFF
FLAG_SHA512_256 = 0x2000000000000000
# What casync itself writes for a blob: the flags of its tree walk, which mean nothing for one file.
FLAGS_WRITTEN = 0x9000000000000000

HEADER = struct.Struct("<8Q")  # 48 bytes of index header, 16 of table header
ITEM = struct.Struct("<Q32s")
TAIL = struct.Struct("<5Q")
OFFSETS = struct.Struct("<Q32x")
DIGESTS = struct.Struct("<8x32s")
NOT_YET = bytes(32)
ITEMS_AT_ONCE = 8192


def chunk_size_for(size_bytes: int) -> int:
    """Chunk size in bytes for a disk that has no earlier index: 1 MiB up to 1 TiB, 4 up to 16 TiB, then 16."""
    if size_bytes <= TIB:
        return MIB
    return 4 * MIB if size_bytes <= 16 * TIB else 16 * MIB


@dataclass(frozen=True)
class Layout:
    """Where things are in the index of a disk of `size_bytes` cut into chunks of `chunk_size` bytes."""

    size_bytes: int
    chunk_size: int

    def __post_init__(self) -> None:
        if self.size_bytes < 0 or not MIN_CHUNK_SIZE <= self.chunk_size <= MAX_CHUNK_SIZE:
            raise IndexCorrupt(f"No index has {self.size_bytes} bytes in chunks of {self.chunk_size}.")
        if self.chunk_size % 4096:
            raise IndexCorrupt(f"Chunk size {self.chunk_size} is not a multiple of 4096.")

    @property
    def count(self) -> int:
        return -(-self.size_bytes // self.chunk_size)

    @property
    def file_size(self) -> int:
        return HEADER.size + self.count * ITEM.size + TAIL.size

    def end_of(self, number: int) -> int:
        return min((number + 1) * self.chunk_size, self.size_bytes)

    def length_of(self, number: int) -> int:
        """Bytes of chunk `number`; only the last may be shorter."""
        return self.end_of(number) - number * self.chunk_size

    def header(self) -> bytes:
        sizes = (self.chunk_size,) * 3
        return HEADER.pack(48, TYPE_INDEX, FLAGS_WRITTEN, *sizes, UNTIL_TAIL, TYPE_TABLE)

    def tail(self) -> bytes:
        return TAIL.pack(0, 0, 48, 16 + self.count * ITEM.size + TAIL.size, TYPE_TABLE_TAIL)


class _IndexFile:
    """An open index file, closed at the end of a `with` block.

    Read by pread and not mapped: a file that is cut short meanwhile is then an error and not a SIGBUS, and what
    was read does not stay in the process's memory.
    """

    def __init__(self, path: Path, layout: Layout, fd: int) -> None:
        self.path = path
        self.layout = layout
        self._fd = fd

    @property
    def size_bytes(self) -> int:
        return self.layout.size_bytes

    @property
    def chunk_size(self) -> int:
        return self.layout.chunk_size

    def length_of(self, number: int) -> int:
        return self.layout.length_of(number)

    def __len__(self) -> int:
        return self.layout.count

    def _digest(self, number: int) -> bytes:
        if not 0 <= number < self.layout.count:
            raise IndexError(number)
        return self._read(HEADER.size + number * ITEM.size + 8, 32)

    def _read(self, start: int, length: int) -> bytes:
        with storage_errors("reading an index"):
            found = os.pread(self._fd, length, start)
        if len(found) != length:
            raise IndexCorrupt(f"{self.path.name} was cut short while it was read.")
        return found

    def blocks(self) -> Iterator[bytes]:
        """Raw items, 40 bytes each, a few thousand at a time."""
        for _, items in self._blocks():
            yield items

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        """(number of the first chunk, raw items) for a few thousand items at a time."""
        for first in range(0, self.layout.count, ITEMS_AT_ONCE):
            start = HEADER.size + first * ITEM.size
            stop = HEADER.size + min(first + ITEMS_AT_ONCE, self.layout.count) * ITEM.size
            yield first, self._read(start, stop - start)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class IndexReader(_IndexFile):
    """A finished index, streamed: nothing is held in memory, however large the disk."""

    @classmethod
    def open(cls, path: Path) -> IndexReader:
        """Raises IndexCorrupt if anything in the file is not exactly as the format says."""
        with storage_errors("opening an index"):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                layout = _read_layout(fd, path)
                reader = cls(path, layout, fd)
            except BaseException:
                os.close(fd)
                raise
        try:
            reader._check_offsets()
        except BaseException:
            reader.close()
            raise
        return reader

    def chunk_id(self, number: int) -> bytes:
        """SHA-256 of chunk `number`, 32 bytes."""
        return self._digest(number)

    def __iter__(self) -> Iterator[bytes]:
        for _, items in self._blocks():
            for (digest,) in DIGESTS.iter_unpack(items):
                yield digest

    def digest_hex(self) -> str:
        """SHA-256 over all chunk ids in order: what imageio's `checksum?algorithm=sha256&block_size=<chunk
        size>` answers for a disk of the same content. Source: reference of imageio's blkhash, tried."""
        total = hashlib.sha256()
        for _, items in self._blocks():
            total.update(b"".join(digest for (digest,) in DIGESTS.iter_unpack(items)))
        return total.hexdigest()

    def _check_offsets(self) -> None:
        last = self.layout.count - 1
        step = self.chunk_size
        for first, items in self._blocks():
            ends = [end for (end,) in OFFSETS.iter_unpack(items)]
            expected = list(range((first + 1) * step, (first + len(ends) + 1) * step, step))
            if first + len(ends) - 1 == last:
                expected[-1] = self.size_bytes
            if ends != expected:
                raise IndexCorrupt(f"{self.path.name}: the chunks are not of one size and in order.")


def _read_layout(fd: int, path: Path) -> Layout:
    size = os.fstat(fd).st_size
    count, rest = divmod(size - HEADER.size - TAIL.size, ITEM.size)
    if count < 0 or rest:
        raise IndexCorrupt(f"{path.name}: an index cannot be {size} bytes long.")
    head = HEADER.unpack(os.pread(fd, HEADER.size, 0))
    tail = os.pread(fd, TAIL.size, size - TAIL.size)
    length, kind, flags, small, average, large, table_size, table_kind = head
    if (length, kind, table_size, table_kind) != (48, TYPE_INDEX, UNTIL_TAIL, TYPE_TABLE):
        raise IndexCorrupt(f"{path.name}: not a casync index.")
    if flags & FLAG_SHA512_256:
        raise IndexCorrupt(f"{path.name}: its chunks are named by SHA-512/256, only SHA-256 is supported.")
    if not small == average == large:
        raise IndexCorrupt(f"{path.name}: its chunks are not of one fixed size.")
    size_bytes = 0
    if count:
        (size_bytes,) = OFFSETS.unpack(os.pread(fd, ITEM.size, size - TAIL.size - ITEM.size))
    layout = Layout(size_bytes, average)
    if layout.count != count or tail != layout.tail():
        raise IndexCorrupt(f"{path.name}: the end of the table does not fit its {count} chunks.")
    return layout


class PartialIndex(_IndexFile):
    """An index being filled in any order by many threads; it survives the death of its process.

    An entry is set only after its chunk is durable under its final name. Entries are written with pwrite, never
    mapped: a full file system is then an error and not a SIGBUS.
    """

    @classmethod
    def create(cls, path: Path, *, size_bytes: int, chunk_size: int) -> PartialIndex:
        """Start anew; a file of that name is replaced, so a stalled process that still has it open does no harm."""
        layout = Layout(size_bytes, chunk_size)
        with storage_errors("creating an index"):
            path.unlink(missing_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            try:
                # Taken now, so that later writes cannot fail for want of space.
                os.posix_fallocate(fd, 0, layout.file_size)
                os.pwrite(fd, layout.tail(), layout.file_size - TAIL.size)
                os.pwrite(fd, layout.header(), 0)
                return cls(path, layout, fd)
            except BaseException:
                os.close(fd)
                path.unlink(missing_ok=True)
                raise

    @classmethod
    def reopen(cls, path: Path, *, size_bytes: int, chunk_size: int) -> PartialIndex | None:
        """The index that an earlier process left, or None if there is none that fits exactly."""
        layout = Layout(size_bytes, chunk_size)
        with storage_errors("opening an unfinished index"):
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            try:
                if _fits(fd, layout):
                    return cls(path, layout, fd)
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
            return None

    def set(self, number: int, digest: bytes) -> None:
        """Record that chunk `number` is stored under `digest` (32 bytes). Any thread; IndexError, ValueError."""
        if not 0 <= number < self.layout.count:
            raise IndexError(number)
        if len(digest) != 32 or digest == NOT_YET:
            raise ValueError("a chunk id is 32 bytes, not all zero")
        item = ITEM.pack(self.layout.end_of(number), digest)
        with storage_errors("writing an index"):
            os.pwrite(self._fd, item, HEADER.size + number * ITEM.size)

    def set_run(self, first: int, digests: Sequence[bytes]) -> None:
        """Record consecutive chunks from `first` on, in few writes. Any thread; IndexError, ValueError."""
        if not 0 <= first <= first + len(digests) <= self.layout.count:
            raise IndexError(first)
        for at in range(0, len(digests), ITEMS_AT_ONCE):
            some = digests[at : at + ITEMS_AT_ONCE]
            if NOT_YET in some or any(len(digest) != 32 for digest in some):
                raise ValueError("a chunk id is 32 bytes, not all zero")
            number = first + at
            items = b"".join(ITEM.pack(self.layout.end_of(number + i), d) for i, d in enumerate(some))
            with storage_errors("writing an index"):
                os.pwrite(self._fd, items, HEADER.size + number * ITEM.size)

    def clear(self, number: int) -> None:
        """Forget chunk `number`, so that it is read again."""
        with storage_errors("writing an index"):
            os.pwrite(self._fd, bytes(ITEM.size), HEADER.size + number * ITEM.size)

    def get(self, number: int) -> bytes | None:
        """SHA-256 of chunk `number`, or None if it is not stored yet."""
        digest = self._digest(number)
        return None if digest == NOT_YET else digest

    def missing(self) -> Iterator[int]:
        """Numbers of the chunks that are not stored yet, ascending."""
        whole = bytes(ITEMS_AT_ONCE * ITEM.size)
        for first, items in self._blocks():
            if items == whole[: len(items)]:
                yield from range(first, first + len(items) // ITEM.size)
                continue
            for at, (digest,) in enumerate(DIGESTS.iter_unpack(items)):
                if digest == NOT_YET:
                    yield first + at

    def stored(self) -> Iterator[tuple[int, bytes]]:
        """(number, SHA-256) of the chunks that are stored, ascending."""
        for first, items in self._blocks():
            for at, (digest,) in enumerate(DIGESTS.iter_unpack(items)):
                if digest != NOT_YET:
                    yield first + at, digest

    @property
    def complete(self) -> bool:
        return next(self.missing(), None) is None

    def sync(self) -> None:
        with storage_errors("writing an index"):
            os.fsync(self._fd)

    def finish(self, final: Path) -> None:
        """Make the file durable and give it its final name; it is closed afterwards.

        Raises PointIncomplete if chunks are missing. The folder is not synced: the caller does that once.
        """
        if not self.complete:
            raise PointIncomplete(
                f"{final.name} still has chunks that are not stored, so it is not published."
            )
        with storage_errors("finishing an index"):
            os.fsync(self._fd)
            self.close()
            self.path.rename(final)


def _fits(fd: int, layout: Layout) -> bool:
    """True if the unfinished index in `fd` is one of this layout."""
    return (
        os.fstat(fd).st_size == layout.file_size
        and os.pread(fd, HEADER.size, 0) == layout.header()
        and os.pread(fd, TAIL.size, layout.file_size - TAIL.size) == layout.tail()
    )


def raw_items(path: Path) -> Iterator[bytes]:
    """Items of an index that may be unfinished or damaged, leniently, in the pieces of `IndexReader.blocks`.

    Whatever lies where an item would lie is taken for one; to keep too much is harmless.
    """
    with path.open("rb") as file:
        file.seek(HEADER.size)
        while items := file.read(ITEMS_AT_ONCE * ITEM.size):
            yield items[: len(items) - len(items) % ITEM.size]
