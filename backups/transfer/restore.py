# SPDX-License-Identifier: GPL-3.0-or-later
"""From the repository onto a disk of the Manager."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from backups.store.chunks import ChunkStore, zero_chunk_id
from backups.store.index import IndexReader
from backups.transfer.connection import Connection, connect, explained
from backups.transfer.endpoint import ImageEndpoint, Progress, TransferStats
from backups.transfer.errors import SizeMismatch
from backups.transfer.plan import chunks_in_a_request
from backups.transfer.workers import Crew, Tally

ZERO_BYTES_AT_ONCE = 1 << 30
WRITE_BYTES_AT_ONCE = 8 << 20


def restore(
    endpoint: ImageEndpoint,
    index: IndexReader,
    chunks: ChunkStore,
    *,
    progress: Progress,
    disk_is_zero: bool,
    hashed: bool = True,
) -> TransferStats:
    """Write a disk so that it equals `index`; flushed once, at the end.

    Without `hashed` the caller proves the whole disk afterwards by `checksum`; chunks are then only read against
    accidents (see `ChunkStore.read_into`).
    `disk_is_zero`: the disk was just made and reads as zero, so zero chunks need no request.
    Raises TransferError, ChunkMissing, ChunkCorrupt, or what `progress` raises; nothing is flushed then, and all
    connections are closed.
    """
    tally = Tally()
    connection = connect(endpoint)
    try:
        _check_size(connection, index)
        data_bytes, data_chunks = _data(index)
        progress.plan(data_bytes)
        most = max(1, min(chunks_in_a_request(index.chunk_size), WRITE_BYTES_AT_ONCE // index.chunk_size))
        crew = Crew(
            connection,
            threads=min(endpoint.max_connections, connection.max_writers),
            jobs=(run for run in _runs(index, most) if not (run.zero and disk_is_zero)),
            prepare=lambda each: _Writer(each, index, chunks, tally, most, hashed).handle,
        )
        with explained(endpoint):
            crew.run(progress, tally)
            with closing(connection.clone()) as last:
                last.flush()
    finally:
        connection.close()
    return TransferStats(
        bytes_total=data_bytes,
        bytes_read=tally.moved,
        bytes_stored=0,
        chunks_new=0,
        chunks_reused=data_chunks,
        dirty_bytes=0,
        via=connection.via,
    )


@dataclass(frozen=True)
class _Run:
    """`count` consecutive chunks from `first` on, either all zero or none of them."""

    first: int
    count: int
    zero: bool


def _check_size(connection: Connection, index: IndexReader) -> None:
    size = connection.size()
    if size != index.size_bytes:
        raise SizeMismatch(
            f"The disk to restore to has {size} bytes, the restore point's has {index.size_bytes}; nothing was written."
        )


def _zero_flags(index: IndexReader) -> Iterator[bool]:
    last = len(index) - 1
    zero = zero_chunk_id(index.chunk_size)
    for number, digest in enumerate(index):
        yield digest == (zero if number != last else zero_chunk_id(index.length_of(last)))


def _data(index: IndexReader) -> tuple[int, int]:
    """(bytes, count) of the chunks that are not zero."""
    size = count = 0
    for number, zero in enumerate(_zero_flags(index)):
        if not zero:
            size += index.length_of(number)
            count += 1
    return size, count


def _runs(index: IndexReader, most: int) -> Iterator[_Run]:
    """The whole disk in order: data in runs of at most `most` chunks, zeros of at most a GiB."""
    most_zeros = max(1, ZERO_BYTES_AT_ONCE // index.chunk_size)
    first, count, kind = 0, 0, False
    for number, zero in enumerate(_zero_flags(index)):
        if count and (zero != kind or count >= (most_zeros if kind else most)):
            yield _Run(first, count, kind)
            count = 0
        if not count:
            first, kind = number, zero
        count += 1
    if count:
        yield _Run(first, count, kind)


class _Writer:
    """One thread's hands: its connection and its buffer."""

    def __init__(
        self,
        connection: Connection,
        index: IndexReader,
        chunks: ChunkStore,
        tally: Tally,
        most: int,
        hashed: bool,
    ) -> None:
        self._connection = connection
        self._index = index
        self._chunks = chunks
        self._tally = tally
        self._hashed = hashed
        self._buffer = memoryview(bytearray(most * index.chunk_size))

    def handle(self, run: _Run) -> None:
        start = run.first * self._index.chunk_size
        if run.zero:
            stop = self._index.layout.end_of(run.first + run.count - 1)
            self._connection.zero(start, stop - start)
            return
        filled = 0
        for number in range(run.first, run.first + run.count):
            length = self._index.length_of(number)
            view = self._buffer[filled : filled + length]
            self._chunks.read_into(self._index.chunk_id(number), view, hashed=self._hashed)
            filled += length
        self._connection.write(start, self._buffer[:filled])
        self._tally.add(done=filled, moved=filled)
