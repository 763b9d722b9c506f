# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading everything back: a damaged chunk goes to quarantine and is named, so the next backup stores it anew."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from backups.store.chunks import ChunkStore
from backups.store.errors import ChunkCorrupt, ChunkMissing, PointCorrupt
from backups.store.index import IndexReader
from backups.store.repository import PointRef, Repository
from backups.store.stored import StoredPoint

THREADS = 2
AHEAD = 8

# Called with the bytes read since the last call, in the caller's thread; may raise to stop.
OnProgress = Callable[[int], None]


@dataclass(frozen=True)
class VerifyResult:
    """Chunks and bytes that were read; `bad`: hex ids of chunks that are missing or were damaged, ascending.

    `damaged_files`: names of other files of the point that are not as the manifest says.
    """

    chunks: int
    bytes: int
    bad: list[str]
    damaged_files: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.bad and not self.damaged_files


@dataclass(frozen=True)
class RepositoryVerifyResult:
    """`hurt`: for each bad chunk the points, published or in the trash, that need it.

    `broken_points`: points that cannot be opened at all, with the reason in words.
    """

    chunks: int
    bytes: int
    bad: list[str]
    hurt: dict[str, list[PointRef]]
    broken_points: dict[PointRef, str]


def verify_point(point: StoredPoint, on_progress: OnProgress | None = None) -> VerifyResult:
    """Re-hash every chunk and file of a point. Damaged chunks are moved to quarantine."""
    point.repository.check()
    damaged = point.damaged_files()
    chunks = size = 0
    bad: set[str] = set()
    for disk_id in point.disk_ids:
        with point.index(disk_id) as index:
            if index.digest_hex() != point.digest_hex(disk_id):
                raise PointCorrupt(f"The index of disk {disk_id} does not have the digest of the manifest.")
            for read, found in _read_all(point.repository.chunks, _once_in_a_row(index)):
                chunks += 1
                size += read
                bad.update(found)
                if on_progress:
                    on_progress(read)
    return VerifyResult(chunks, size, sorted(bad), damaged)


def verify_repository(
    repository: Repository, on_progress: OnProgress | None = None
) -> RepositoryVerifyResult:
    """Re-hash every chunk of the store, then look in every point for chunks that are not there."""
    repository.check()
    store = repository.chunks
    chunks = size = 0
    ids = (chunk_id for prefix in store.prefixes() for chunk_id in store.names_under(prefix))
    bad: set[str] = set()
    for read, found in _read_all(store, ids, vanished_is_fine=True):
        chunks += 1
        size += read
        bad.update(found)
        if on_progress:
            on_progress(read)
    hurt, broken = _missing_in_points(repository)
    return RepositoryVerifyResult(chunks, size, sorted(bad | set(hurt)), hurt, broken)


def points_using(repository: Repository, chunk_ids: set[bytes]) -> dict[str, list[PointRef]]:
    """For each chunk the points, published or in the trash, that need it."""
    using: dict[str, list[PointRef]] = {}
    for ref in _all_points(repository):
        found: set[bytes] = set()
        point = repository.open_ref(ref)
        for disk_id in point.disk_ids:
            with point.index(disk_id) as index:
                found.update(chunk_id for chunk_id in index if chunk_id in chunk_ids)
        for chunk_id in found:
            using.setdefault(chunk_id.hex(), []).append(ref)
    return using


def _missing_in_points(repository: Repository) -> tuple[dict[str, list[PointRef]], dict[PointRef, str]]:
    hurt: dict[str, list[PointRef]] = {}
    broken: dict[PointRef, str] = {}
    for ref in _all_points(repository):
        missing: set[str] = set()
        try:
            point = repository.open_ref(ref)
            for disk_id in point.disk_ids:
                with point.index(disk_id) as index:
                    ids = _once_in_a_row(index)
                    missing.update(i.hex() for i in ids if not repository.chunks.exists(i))
        except Exception as error:
            broken[ref] = str(error)
        for name in missing:
            hurt.setdefault(name, []).append(ref)
    return hurt, broken


def _all_points(repository: Repository) -> Iterator[PointRef]:
    yield from repository.points()
    yield from repository.points(trashed=True)


def _once_in_a_row(index: IndexReader) -> Iterator[bytes]:
    """The index's ids without repetitions in a row (long runs of zeros are one chunk)."""
    last = b""
    for chunk_id in index:
        if chunk_id != last:
            yield chunk_id
        last = chunk_id


def _read_all(
    store: ChunkStore, ids: Iterable[bytes], *, vanished_is_fine: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """(bytes, bad ids) for each chunk, read by a few threads that are never far ahead."""
    waiting: set[Future[tuple[int, list[str]]]] = set()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="verify") as pool, contextlib.ExitStack() as stack:
        stack.callback(lambda: [future.cancel() for future in waiting])
        for chunk_id in ids:
            waiting.add(pool.submit(_read_one, store, chunk_id, vanished_is_fine))
            if len(waiting) >= AHEAD:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        for future in list(waiting):
            yield future.result()


def _read_one(store: ChunkStore, chunk_id: bytes, vanished_is_fine: bool) -> tuple[int, list[str]]:
    try:
        return store.check(chunk_id), []
    except ChunkMissing:
        return 0, [] if vanished_is_fine else [chunk_id.hex()]
    except ChunkCorrupt:
        store.quarantine(chunk_id)
        return 0, [chunk_id.hex()]
