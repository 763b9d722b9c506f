# SPDX-License-Identifier: GPL-3.0-or-later
"""Millions of chunk ids in little memory."""

from __future__ import annotations

import struct
from collections import defaultdict

PREFIXES = 65536
# Of an item of an index: two bytes that name the chunk's folder, and eight more.
_FRAGMENTS = struct.Struct("<8x2s8s22x")
_FRAGMENT = struct.Struct("8s")
# At about 17 bytes each with what the allocator wastes: measured, docs/performance.md.
LIMIT = 7_000_000


def fragment_of(chunk_id: bytes) -> bytes:
    """What is kept of an id beside the name of its folder."""
    return chunk_id[2:10]


class IdSet:
    """Ids of which the first ten bytes are kept, sorted into one bucket for each chunk folder.

    To take one id for another needs 80 equal bits: by chance about once in 10^10 stores of ten million chunks.
    Covers the folders from `first` to below `end`: when more than fits was added, `end` is lowered and what lies
    beyond is dropped, for the caller to go there in another pass.
    """

    def __init__(self, *, first: int = 0, limit: int = LIMIT) -> None:
        self.first = first
        self.end = PREFIXES
        self._limit = limit
        self._count = 0
        self._buckets: defaultdict[bytes, bytearray] = defaultdict(bytearray)

    def add_items(self, items: bytes) -> None:
        """Add the ids of raw items of an index (40 bytes each)."""
        buckets, last, count = self._buckets, b"", self._count
        if self.first == 0 and self.end == PREFIXES:
            for prefix, fragment in _FRAGMENTS.iter_unpack(items):
                if fragment != last:
                    buckets[prefix] += fragment
                    last = fragment
                    count += 1
        else:
            low, high = _prefix(self.first), _prefix(self.end)
            for prefix, fragment in _FRAGMENTS.iter_unpack(items):
                if fragment != last and low <= prefix < high:
                    buckets[prefix] += fragment
                    last = fragment
                    count += 1
        self._count = count
        if count > self._limit:
            self._make_room()

    def prefixes(self) -> list[int]:
        """The folders that any of the ids lie in, ascending."""
        return sorted(int.from_bytes(prefix, "big") for prefix in self._buckets)

    def under(self, prefix: int) -> set[bytes]:
        """Fragments of the ids in one folder, from `first` to below `end`."""
        return _unique(self._buckets.get(_prefix(prefix), bytearray()))

    def __len__(self) -> int:
        """How many different ids are held; reads all of them."""
        return sum(len(_unique(bucket)) for bucket in self._buckets.values())

    def _make_room(self) -> None:
        """Drop what is there twice; if that is not enough, the upper half of the folders."""
        self._count = 0
        for prefix, bucket in self._buckets.items():
            unique = _unique(bucket)
            if len(unique) * _FRAGMENT.size < len(bucket):
                self._buckets[prefix] = bytearray(b"".join(unique))
            self._count += len(unique)
        while self._count > self._limit * 3 // 4 and self.end - self.first > 1:
            self.end = (self.first + self.end) // 2
            beyond = [prefix for prefix in self._buckets if prefix >= _prefix(self.end)]
            for prefix in beyond:
                self._count -= len(self._buckets.pop(prefix)) // _FRAGMENT.size


def _prefix(number: int) -> bytes:
    """Sorts after every other for the number after the last folder."""
    return number.to_bytes(2, "big") if number < PREFIXES else b"\xff\xff\xff"


def _unique(bucket: bytearray) -> set[bytes]:
    return {fragment for (fragment,) in _FRAGMENT.iter_unpack(bucket)}
