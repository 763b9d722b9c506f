# SPDX-License-Identifier: GPL-3.0-or-later
"""The chunk store: `chunks/<first 4 hex>/<64 hex>.cacnk`, zstd frames named by the SHA-256 of their content."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import zstandard

from backups.store.durable import read_all
from backups.store.errors import ChunkCorrupt, ChunkMissing, RepositoryMissing, storage_errors
from backups.store.index import MAX_CHUNK_SIZE

log = logging.getLogger(__name__)

CHUNK_NAME = re.compile(r"([0-9a-f]{64})\.cacnk")
PREFIX_NAME = re.compile(r"[0-9a-f]{4}")
# A frame of incompressible data is longer than the data by less than this (zstd.h, ZSTD_compressBound).
FRAME_OVERHEAD = 64 * 1024 + MAX_CHUNK_SIZE // 128

_of_thread = threading.local()


@functools.lru_cache(maxsize=64)
def zero_chunk_id(size_bytes: int) -> bytes:
    """SHA-256 of that many zero bytes."""
    return hashlib.sha256(bytes(size_bytes)).digest()


class ChunkStore:
    """The chunks of one repository. Safe for many threads and many processes at once.

    `touch_after_seconds`: a chunk that a backup uses again gets a new time stamp if its own is older than that,
    so that a garbage collection with twice that age cannot take it away before the backup's index names it.
    """

    def __init__(self, root: Path, *, touch_after_seconds: float) -> None:
        self.root = root
        self.folder = root / "chunks"
        self.temporary = root / "tmp"
        self.quarantined = root / "quarantine"
        self.touch_after_seconds = touch_after_seconds

    def path(self, chunk_id: bytes) -> Path:
        name = chunk_id.hex()
        return self.folder / name[:4] / f"{name}.cacnk"

    def exists(self, chunk_id: bytes) -> bool:
        with storage_errors("looking for a chunk"):
            return self.path(chunk_id).exists()

    def reuse(self, chunk_id: bytes, *, now: float) -> bool:
        """True if the chunk is stored; keeps it from the next garbage collection. `now`: the server's clock."""
        path = f"{self.folder}/{chunk_id.hex()[:4]}/{chunk_id.hex()}.cacnk"
        with storage_errors("looking for a chunk"):
            try:
                if now - os.stat(path).st_mtime > self.touch_after_seconds:  # noqa: PTH116 (a Path costs more)
                    os.utime(path)
            except FileNotFoundError:
                return False
            return True

    def read(self, chunk_id: bytes, expected_size: int) -> bytes:
        """The chunk's content, hashed again. Never more than `expected_size` bytes of memory, whatever the file.

        Raises ChunkMissing, ChunkCorrupt.
        """
        content = self._decompress(chunk_id, self._read_file(chunk_id), expected_size)
        if len(content) != expected_size:
            raise ChunkCorrupt(chunk_id.hex(), f"it has {len(content)} bytes instead of {expected_size}")
        if hashlib.sha256(content).digest() != chunk_id:
            raise ChunkCorrupt(chunk_id.hex(), "its content has another SHA-256")
        return content

    def read_into(self, chunk_id: bytes, view: memoryview, *, hashed: bool = True) -> None:
        """As `read`, into memory that is there already: `view` is as long as the chunk must be.

        Without `hashed` only the frame's own checksum (XXH64) is looked at: it finds every accident, but proves
        nothing. For readers that prove the whole disk afterwards; a frame that has none is hashed all the same.
        """
        data = self._read_file(chunk_id)
        self._decompress_into(chunk_id, data, view)
        proven = not hashed and zstandard.get_frame_parameters(data).has_checksum
        if not proven and hashlib.sha256(view).digest() != chunk_id:
            raise ChunkCorrupt(chunk_id.hex(), "its content has another SHA-256")

    def check(self, chunk_id: bytes) -> int:
        """Read a chunk of unknown size and hash it. Returns its size; raises ChunkMissing, ChunkCorrupt."""
        content = self._decompress(chunk_id, self._read_file(chunk_id), None)
        if hashlib.sha256(content).digest() != chunk_id:
            raise ChunkCorrupt(chunk_id.hex(), "its content has another SHA-256")
        return len(content)

    def quarantine(self, chunk_id: bytes) -> Path | None:
        """Set a damaged chunk aside, so that the next backup stores it again. None if it is gone already."""
        target = self.quarantined / f"{chunk_id.hex()}.{uuid.uuid4().hex[:8]}.cacnk"
        with storage_errors("setting a damaged chunk aside"):
            try:
                self.path(chunk_id).rename(target)
            except FileNotFoundError:
                if not self.quarantined.is_dir():
                    raise
                return None
        log.warning("Chunk %s is damaged and was moved to quarantine", chunk_id.hex())
        return target

    def prefixes(self) -> Iterator[str]:
        """Names of the folders under `chunks/`, sorted."""
        if not self.folder.is_dir():
            raise RepositoryMissing(f"{self.folder} is not there.", hint="Look whether the share is mounted.")
        with storage_errors("listing chunks"):
            yield from sorted(p.name for p in self.folder.iterdir() if PREFIX_NAME.fullmatch(p.name))

    def names_under(self, prefix: str) -> Iterator[bytes]:
        """Ids of the chunks in one folder; other files are passed over."""
        with storage_errors("listing chunks"):
            names = [path.name for path in (self.folder / prefix).iterdir()]
        for name in names:
            if (match := CHUNK_NAME.fullmatch(name)) and name.startswith(prefix):
                yield bytes.fromhex(match[1])

    def _read_file(self, chunk_id: bytes) -> bytes:
        name = chunk_id.hex()
        with storage_errors("reading a chunk"):
            try:
                fd = os.open(f"{self.folder}/{name[:4]}/{name}.cacnk", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise ChunkMissing(name) from None
            try:
                # Asking for more than there is would take memory for it, and give it back, each time.
                size = os.fstat(fd).st_size
                if size > MAX_CHUNK_SIZE + FRAME_OVERHEAD:
                    raise ChunkCorrupt(name, "its file is longer than any chunk")
                return read_all(fd, size)
            finally:
                os.close(fd)

    def _decompress_into(self, chunk_id: bytes, data: bytes, view: memoryview) -> None:
        try:
            told = zstandard.frame_content_size(data)
            if told not in (-1, len(view)):
                raise ChunkCorrupt(chunk_id.hex(), f"it has {told} bytes instead of {len(view)}")
            with _decompressor().stream_reader(data) as reader:
                got = reader.readinto(view)
                # Asking for one byte more makes the decompressor look at the frame's checksum.
                if got != len(view) or reader.read(1):
                    raise ChunkCorrupt(chunk_id.hex(), f"it has not {len(view)} bytes")
        except zstandard.ZstdError as error:
            raise ChunkCorrupt(chunk_id.hex(), f"it cannot be decompressed ({error})") from error

    def _decompress(self, chunk_id: bytes, data: bytes, expected_size: int | None) -> bytes:
        limit = MAX_CHUNK_SIZE if expected_size is None else expected_size
        try:
            told = zstandard.frame_content_size(data)
            # A frame may claim any size, and the decompressor would allocate it.
            if told > limit:
                raise ChunkCorrupt(chunk_id.hex(), f"it claims {told} bytes where {limit} is the most")
            # Whatever follows the frame would make zstd and casync refuse the chunk.
            return _decompressor().decompress(data, max_output_size=limit, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise ChunkCorrupt(chunk_id.hex(), f"it cannot be decompressed ({error})") from error


def _decompressor() -> zstandard.ZstdDecompressor:
    found: zstandard.ZstdDecompressor | None = getattr(_of_thread, "decompressor", None)
    if found is None:
        found = _of_thread.decompressor = zstandard.ZstdDecompressor(max_window_size=2 * MAX_CHUNK_SIZE)
    return found
