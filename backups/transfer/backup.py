# SPDX-License-Identifier: GPL-3.0-or-later
"""From the Manager's disk into the repository: full, and by dirty extents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from backups.store.chunks import ChunkStore, zero_chunk_id
from backups.store.errors import ChunkCorrupt, ChunkMissing
from backups.store.index import IndexReader, PartialIndex
from backups.store.writer import ChunkWriter
from backups.transfer.connection import Connection, Extent, connect, explained
from backups.transfer.endpoint import ImageEndpoint, Progress, TransferStats
from backups.transfer.errors import SizeMismatch
from backups.transfer.plan import (
    Piece,
    Quiet,
    chunks_in_a_request,
    jobs,
    reads,
    total_data_bytes,
    walk,
    whole,
)
from backups.transfer.workers import Crew, Tally

ZEROS = memoryview(bytes(1 << 20))
# Told of chunks and compressed bytes that have become durable.
OnStored = Callable[[int, int], None]


def backup_full(
    endpoint: ImageEndpoint,
    index: PartialIndex,
    chunks: ChunkStore,
    *,
    progress: Progress,
    on_stored: OnStored | None = None,
) -> TransferStats:
    """Read every allocated byte of the disk; chunks that `index` has already are left out.

    `on_stored` is called by any thread, also in an attempt that fails later (see ChunkWriter).
    Raises TransferError, StoreError, or what `progress` raises. All connections are closed by then.
    """
    return _backup(endpoint, _Target(index, chunks, None), "zero", progress, on_stored)


def backup_incremental(
    endpoint: ImageEndpoint,
    index: PartialIndex,
    base: IndexReader,
    chunks: ChunkStore,
    *,
    progress: Progress,
    on_stored: OnStored | None = None,
) -> TransferStats:
    """Read only what is dirty since `base`, whose chunks fill the rest; chunks that `index` has are left out.

    A chunk of the base that is missing or damaged is read whole from the Manager, so it heals.
    Raises DirtyExtentsUnavailable if the transfer has no dirty bitmap, ValueError if the chunk sizes differ,
    else as `backup_full`.
    """
    if base.chunk_size != index.chunk_size:
        raise ValueError("an index and its base must have one chunk size")
    return _backup(endpoint, _Target(index, chunks, base), "dirty", progress, on_stored)


@dataclass(frozen=True)
class _Target:
    """Where chunks go, and what they are compared with."""

    index: PartialIndex
    chunks: ChunkStore
    base: IndexReader | None
    tally: Tally = field(default_factory=Tally)

    def base_id(self, number: int) -> bytes | None:
        """The base's id for a chunk of the same length; None if there is none (the disk has grown)."""
        if self.base is None or number >= len(self.base):
            return None
        if self.base.length_of(number) != self.index.length_of(number):
            return None
        return self.base.chunk_id(number)


def _backup(
    endpoint: ImageEndpoint,
    target: _Target,
    context: str,
    progress: Progress,
    on_stored: OnStored | None,
) -> TransferStats:
    connection = connect(endpoint)
    try:
        extents = connection.extents(context)
        layout = target.index.layout
        if (extents[-1].stop if extents else 0) != layout.size_bytes:
            raise SizeMismatch(
                f"The disk has {extents[-1].stop if extents else 0} bytes where {layout.size_bytes} were expected.",
                hint="The disk was resized meanwhile; start a new backup.",
            )
        total = total_data_bytes(layout, extents, target.index.missing())
        progress.plan(total)
        most = chunks_in_a_request(layout.chunk_size)
        with explained(endpoint), ChunkWriter(target.chunks, on_stored=on_stored) as writer:
            crew = Crew(
                connection,
                threads=min(endpoint.max_connections, connection.max_readers),
                jobs=jobs(walk(layout, extents, target.index.missing()), most),
                prepare=lambda each: _Copier(each, target, writer, most).handle,
            )
            crew.run(progress, target.tally)
    finally:
        connection.close()
    return TransferStats(
        bytes_total=total,
        bytes_read=target.tally.moved,
        bytes_stored=writer.bytes_stored,
        chunks_new=writer.chunks_new,
        chunks_reused=writer.chunks_reused,
        dirty_bytes=_dirty_bytes(extents) if context == "dirty" else 0,
        via=connection.via,
    )


def _dirty_bytes(extents: Sequence[Extent]) -> int:
    return sum(extent.length for extent in extents if extent.dirty)


class _Copier:
    """One thread's hands: its connection and its buffer."""

    def __init__(self, connection: Connection, target: _Target, writer: ChunkWriter, most: int) -> None:
        self._connection = connection
        self._target = target
        self._writer = writer
        self._most = most
        self._buffer = memoryview(bytearray(most * target.index.chunk_size))

    def handle(self, job: list[Piece] | Quiet) -> None:
        if isinstance(job, list):
            self._copy(job)
            self._target.tally.add(done=sum(piece.data_bytes for piece in job))
        elif job.zero:
            self._writer.add_zeros(self._target.index, job.first, job.count)
        else:
            self._keep(job)

    def _keep(self, run: Quiet) -> None:
        """Clean chunks: the base's ids, as long as the chunks are there."""
        numbers = range(run.first, run.first + run.count)
        ids = [self._target.base_id(number) for number in numbers]
        known = [chunk_id for chunk_id in ids if chunk_id is not None]
        lost = list(numbers[len(known) :])
        # Chunks without a base lie at the end, where the disk has grown.
        lost = self._writer.reuse_run(self._target.index, run.first, known) + lost
        self._copy_whole(lost)

    def _copy_whole(self, numbers: Sequence[int]) -> None:
        layout = self._target.index.layout
        for group in jobs((whole(layout, number) for number in numbers), self._most):
            if isinstance(group, list):
                self._copy(group)

    def _copy(self, group: list[Piece]) -> None:
        """Build the chunks of consecutive pieces in the buffer and store them."""
        group = [self._prepared(piece, group[0].start) for piece in group]
        origin = group[0].start
        for start, stop in reads(group):
            self._connection.read_into(start, self._buffer[start - origin : stop - origin])
            self._target.tally.add(moved=stop - start)
        for piece in group:
            if piece.covered and not piece.data:
                self._writer.add_zeros(self._target.index, piece.number, 1)
            else:
                content = self._buffer[piece.start - origin : piece.stop - origin]
                self._writer.add(self._target.index, piece.number, content)

    def _prepared(self, piece: Piece, origin: int) -> Piece:
        """Lay the base and the zeros of a chunk into the buffer. Returns what is left to read."""
        view = self._buffer[piece.start - origin : piece.stop - origin]
        if not piece.covered and not self._lay_base(piece, view):
            return whole(self._target.index.layout, piece.number)
        for start, stop in piece.zeros:
            fill_zeros(self._buffer[start - origin : stop - origin])
        return piece

    def _lay_base(self, piece: Piece, view: memoryview) -> bool:
        """The base's chunk, checked; False if it cannot be had. A damaged one is set aside, to be stored anew."""
        chunk_id = self._target.base_id(piece.number)
        if chunk_id is None:
            return False
        if chunk_id == zero_chunk_id(len(view)):
            fill_zeros(view)
            return True
        try:
            self._target.chunks.read_into(chunk_id, view)
        except ChunkMissing:
            return False
        except ChunkCorrupt:
            self._target.chunks.quarantine(chunk_id)
            return False
        return True


def fill_zeros(view: memoryview) -> None:
    for at in range(0, len(view), len(ZEROS)):
        part = view[at : at + len(ZEROS)]
        part[:] = ZEROS[: len(part)]
