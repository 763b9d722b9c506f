# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bytes to fetch: pure arithmetic over extents and chunks, streamed in ascending order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from backups.store.index import Layout
from backups.transfer.connection import Extent

CHUNKS_IN_A_REQUEST = 8
REQUEST_BYTES = 16 << 20
SMALL_GAP = 64 << 10
QUIET_CHUNKS = 4096

# (start, stop) in bytes of the disk.
Span = tuple[int, int]


@dataclass(frozen=True)
class Piece:
    """What extents say of one chunk; `data` and `zeros` are ascending.

    Bytes of the chunk in neither are clean (an incremental's) and come from the chunk of the base.
    """

    number: int
    start: int
    stop: int
    data: tuple[Span, ...]
    zeros: tuple[Span, ...]

    @property
    def data_bytes(self) -> int:
        return sum(stop - start for start, stop in self.data)

    @property
    def covered(self) -> bool:
        """True if no byte is left to the base."""
        return self.data_bytes + sum(stop - start for start, stop in self.zeros) == self.stop - self.start


@dataclass(frozen=True)
class Quiet:
    """`count` consecutive chunks from `first` on that lie whole in one extent: all zero, or all clean."""

    first: int
    count: int
    zero: bool


def runs(numbers: Iterable[int]) -> Iterator[range]:
    """Consecutive ascending numbers as ranges."""
    first = last = -1
    for number in numbers:
        if first >= 0 and number == last + 1:
            last = number
            continue
        if first >= 0:
            yield range(first, last + 1)
        first = last = number
    if first >= 0:
        yield range(first, last + 1)


def walk(layout: Layout, extents: Sequence[Extent], numbers: Iterable[int]) -> Iterator[Piece | Quiet]:
    """Everything to do for the chunks in `numbers` (ascending); the extents cover the disk."""
    at = 0
    for run in runs(numbers):
        number = run.start
        while number < run.stop:
            while extents[at].stop <= number * layout.chunk_size:
                at += 1
            quiet = _quiet(layout, extents[at], range(number, run.stop))
            if quiet:
                yield quiet
                number += quiet.count
            else:
                yield _piece(layout, extents, at, number)
                number += 1


def whole(layout: Layout, number: int) -> Piece:
    """A chunk that is read whole."""
    start, stop = number * layout.chunk_size, layout.end_of(number)
    return Piece(number, start, stop, ((start, stop),), ())


def _quiet(layout: Layout, extent: Extent, run: range) -> Quiet | None:
    """The chunks at the beginning of `run` that lie whole in `extent`, if that one has nothing to read."""
    if extent.dirty and not extent.zero:
        return None
    inside = run.stop if extent.stop == layout.size_bytes else extent.stop // layout.chunk_size
    until = min(run.stop, inside, run.start + QUIET_CHUNKS)
    return Quiet(run.start, until - run.start, extent.dirty) if until > run.start else None


def _piece(layout: Layout, extents: Sequence[Extent], at: int, number: int) -> Piece:
    start, stop = number * layout.chunk_size, layout.end_of(number)
    data: list[Span] = []
    zeros: list[Span] = []
    while at < len(extents) and extents[at].start < stop:
        extent = extents[at]
        if extent.dirty:
            _append(zeros if extent.zero else data, (max(start, extent.start), min(stop, extent.stop)))
        at += 1
    return Piece(number, start, stop, tuple(data), tuple(zeros))


def _append(spans: list[Span], span: Span) -> None:
    if spans and spans[-1][1] == span[0]:
        spans[-1] = (spans[-1][0], span[1])
    else:
        spans.append(span)


def chunks_in_a_request(chunk_size: int) -> int:
    """Consecutive chunks for one request: eight, but no more than 16 MiB of them."""
    return max(1, min(CHUNKS_IN_A_REQUEST, REQUEST_BYTES // chunk_size))


def jobs(found: Iterable[Piece | Quiet], most: int) -> Iterator[list[Piece] | Quiet]:
    """Runs of consecutive pieces, at most `most` long, and the quiet runs between them."""
    group: list[Piece] = []
    for each in found:
        if group and (isinstance(each, Quiet) or len(group) >= most or each.number != group[-1].number + 1):
            yield group
            group = []
        if isinstance(each, Quiet):
            yield each
        else:
            group.append(each)
    if group:
        yield group


def reads(group: Sequence[Piece]) -> Iterator[Span]:
    """Ranges to fetch for a group: its data, joined over chunk borders and over small gaps.

    A gap is read along only if it is at most 64 KiB and no longer than the data right before it, so that never
    more than twice the data is read.
    """
    begin = end = -1
    run = 0
    for start, stop in (span for piece in group for span in piece.data):
        if begin >= 0 and start - end <= min(SMALL_GAP, run):
            run = run + stop - start if start == end else stop - start
            end = stop
            continue
        if begin >= 0:
            yield begin, end
        begin, end, run = start, stop, stop - start
    if begin >= 0:
        yield begin, end


def total_data_bytes(layout: Layout, extents: Sequence[Extent], numbers: Iterable[int]) -> int:
    """Bytes of data in the chunks of `numbers` (ascending): what a transfer plans."""
    total = at = 0
    for run in runs(numbers):
        start, stop = run.start * layout.chunk_size, layout.end_of(run.stop - 1)
        while at < len(extents) and extents[at].stop <= start:
            at += 1
        # The last extent of this run may reach into the next.
        while at < len(extents) and extents[at].start < stop:
            extent = extents[at]
            if extent.dirty and not extent.zero:
                total += min(stop, extent.stop) - max(start, extent.start)
            if extent.stop > stop:
                break
            at += 1
    return total
