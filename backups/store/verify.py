# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading everything back: a damaged chunk goes to quarantine and is named, so the next backup stores it anew."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from backups.store.chunks import ChunkStore
from backups.store.errors import (
    ChunkCorrupt,
    ChunkMissing,
    IndexCorrupt,
    PointCorrupt,
    PointNotFound,
    StoreError,
)
from backups.store.idset import LIMIT, PREFIXES, fragment_of
from backups.store.index import IndexReader
from backups.store.marking import Watch, ignore, needed_ids
from backups.store.repository import PointRef, Repository
from backups.store.stored import StoredPoint

THREADS = 2
AHEAD = 8
# More missing chunks than this are not listed but looked for one by one.
MISSING_LISTED = 200_000
# A point's missing chunks are named up to here; when even more are gone, more of a point are not looked for.
MISSING_NAMED = 10_000

# Called with the bytes read since the last call, in the caller's thread; may raise to stop.
OnProgress = Callable[[int], None]


@dataclass(frozen=True)
class VerifyResult:
    """Chunks and bytes that were read; `bad`: hex ids of chunks that are missing or were damaged, ascending.

    `damaged_files`: names of other files of the point that are not as the manifest says; with the manifest itself
    if it was changed. `damaged_marks`: lines of the marks that are torn, changed or missing.
    """

    chunks: int
    bytes: int
    bad: list[str]
    damaged_files: list[str] = field(default_factory=list)
    damaged_marks: int = 0

    @property
    def good(self) -> bool:
        return not self.bad and not self.damaged_files


@dataclass(frozen=True)
class FolderResult:
    """One chunk folder: chunks and stored (compressed) bytes that were read, ids that were set aside."""

    prefix: str
    chunks: int
    bytes: int
    bad: list[str]


@dataclass(frozen=True)
class PointResult:
    """One point, published or in the trash. `problem`: why it cannot be opened or read, in words, or empty.

    `missing`: hex ids of chunks that it needs and that are not there, at most MISSING_NAMED of them.
    `manifest_sha256`: of the manifest that was read, empty if it could not be.
    """

    ref: PointRef
    problem: str = ""
    missing: list[str] = field(default_factory=list)
    damaged_files: list[str] = field(default_factory=list)
    damaged_marks: int = 0
    manifest_sha256: str = ""

    @property
    def good(self) -> bool:
        return not (self.problem or self.missing or self.damaged_files)


@dataclass(frozen=True)
class RepositoryVerifyResult:
    """`hurt`: for each bad chunk the points, published or in the trash, that need it.

    `broken_points`: points that cannot be opened or read at all, with the reason in words. `points`: each point.
    `changed_files`: texts for people that are not as they were written. `strangers`: what lies among the points
    and is none, or was never finished.
    """

    chunks: int
    bytes: int
    bad: list[str]
    hurt: dict[str, list[PointRef]]
    broken_points: dict[PointRef, str]
    points: list[PointResult]
    changed_files: list[str]
    strangers: dict[str, str]

    @property
    def good(self) -> bool:
        """Nothing at all is to be said."""
        whole = all(point.good and not point.damaged_marks for point in self.points)
        return whole and not (self.bad or self.changed_files or self.strangers)


def verify_point(point: StoredPoint, on_progress: OnProgress | None = None) -> VerifyResult:
    """Re-hash every chunk and file of a point. Damaged chunks are moved to quarantine."""
    point.repository.check()
    damaged = point.damaged_files()
    chunks = size = 0
    bad: set[str] = set()
    for disk_id in point.disk_ids:
        with point.whole_index(disk_id) as index, _readers() as pool:
            for read, _, found in _read_all(pool, point.repository.chunks, _once_in_a_row(index)):
                chunks += 1
                size += read
                bad.update(found)
                if on_progress:
                    on_progress(read)
    return VerifyResult(chunks, size, sorted(bad), damaged, point.damaged_marks())


def verify_repository(
    repository: Repository, on_progress: OnProgress | None = None
) -> RepositoryVerifyResult:
    """Re-hash every chunk of the store, then look at every point, its files and for chunks that are not there."""
    repository.check()
    chunks = size = 0
    bad: set[str] = set()
    for folder in verify_chunks(repository, on_progress=on_progress):
        chunks += folder.chunks
        size += folder.bytes
        bad.update(folder.bad)
    points = list(verify_points(repository))
    hurt: dict[str, list[PointRef]] = {}
    for point in points:
        for name in point.missing:
            hurt.setdefault(name, []).append(point.ref)
    broken = {point.ref: point.problem for point in points if point.problem}
    return RepositoryVerifyResult(
        chunks,
        size,
        sorted(bad | set(hurt)),
        hurt,
        broken,
        points,
        repository.changed_files(),
        dict(repository.strangers()),
    )


def verify_chunks(
    repository: Repository, *, after: str = "", on_progress: OnProgress | None = None
) -> Iterator[FolderResult]:
    """Re-hash every chunk, folder by folder from the one following `after`; damaged ones go to quarantine.

    `on_progress` is told of stored bytes; it may wait, which slows the reading down.
    """
    store = repository.chunks
    with _readers() as pool:
        for prefix in list(store.prefixes()):
            if prefix <= after:
                continue
            chunks = size = 0
            bad: list[str] = []
            for _, stored, found in _read_all(pool, store, store.names_under(prefix), vanished_is_fine=True):
                chunks += 1
                size += stored
                bad += found
                if on_progress:
                    on_progress(stored)
            yield FolderResult(prefix, chunks, size, sorted(bad))


def verify_points(
    repository: Repository, *, ids_in_memory: int = LIMIT, watch: Watch = ignore
) -> Iterator[PointResult]:
    """Every point, published or in the trash: its files, its marks, and whether each chunk is there (not its content)."""
    missing = _missing(repository, ids_in_memory, watch)
    refs = [*repository.points(), *repository.points(trashed=True)]
    for number, ref in enumerate(refs):
        watch("Looking at the restore points", number, len(refs))
        found = _look_at(repository, ref, missing)
        if found is not None:
            yield found
    for trashed in (False, True):
        for ref in repository.all_point_folders(trashed=trashed):
            if repository.lost_manifest(ref):
                yield PointResult(ref, "Its manifest is gone; its disks may still be read by hand.")


def points_using(repository: Repository, chunk_ids: set[bytes]) -> dict[str, list[PointRef]]:
    """For each chunk the points, published or in the trash, that need it; points that cannot be read are left out."""
    using: dict[str, list[PointRef]] = {}
    for ref in [*repository.points(), *repository.points(trashed=True)]:
        with contextlib.suppress(StoreError):
            for name in _naming(repository.open_ref(ref), chunk_ids):
                using.setdefault(name, []).append(ref)
    return using


class _Absent(Collection[bytes]):
    """Ids that some index names and that are not there, by their first ten bytes."""

    def __init__(self, store: ChunkStore) -> None:
        self._store = store
        self._found: set[bytes] = set()
        self._too_many = False

    def add(self, prefix: int, fragments: set[bytes]) -> None:
        self._found.update(prefix.to_bytes(2, "big") + fragment for fragment in fragments)
        if len(self._found) > MISSING_LISTED:
            self._too_many, self._found = True, set()

    def __contains__(self, chunk_id: object) -> bool:
        assert isinstance(chunk_id, bytes)
        return not self._store.exists(chunk_id) if self._too_many else chunk_id[:10] in self._found

    def __len__(self) -> int:
        return max(1, len(self._found)) if self._too_many else len(self._found)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._found)


def _missing(repository: Repository, ids_in_memory: int, watch: Watch) -> _Absent:
    """Compare what indexes name with what lies in the chunk folders, as many folders at once as fit into memory."""
    store = repository.chunks
    absent = _Absent(store)
    first = 0
    while first < PREFIXES:
        _, needed = needed_ids(repository, first=first, limit=ids_in_memory, strict=False, watch=watch)
        repository.check()
        there = {int(prefix, 16) for prefix in store.prefixes()}
        for number in needed.prefixes():
            wanted = needed.under(number)
            if number in there:
                wanted -= {fragment_of(chunk_id) for chunk_id in store.names_under(f"{number:04x}")}
            absent.add(number, wanted)
        first = needed.end
        del needed  # two of them would not fit into memory
    return absent


def _look_at(repository: Repository, ref: PointRef, missing: _Absent) -> PointResult | None:
    """None if the point is no longer there."""
    try:
        point = repository.open_ref(ref)
        damaged = point.damaged_files()
        names: set[str] = set()
        problem = ""
        try:
            for disk_id in point.disk_ids:
                point.whole_index(disk_id).close()
            names = _naming(point, missing)
        except (IndexCorrupt, PointCorrupt) as error:
            problem = str(error)
        return PointResult(ref, problem, sorted(names), damaged, point.damaged_marks(), point.manifest_sha256)
    except PointNotFound:
        return None
    except StoreError as error:
        if not repository.has_point(ref):
            repository.check()
            return None
        return PointResult(ref, str(error))


def _naming(point: StoredPoint, chunk_ids: Collection[bytes]) -> set[str]:
    """Hex ids of those in `chunk_ids` that the point needs, at most MISSING_NAMED."""
    found: set[str] = set()
    if not chunk_ids:
        return found
    for disk_id in point.disk_ids:
        with point.index(disk_id) as index:
            for chunk_id in _once_in_a_row(index):
                if chunk_id in chunk_ids:
                    found.add(chunk_id.hex())
                    if len(found) >= MISSING_NAMED:
                        return found
    return found


def _once_in_a_row(index: IndexReader) -> Iterator[bytes]:
    """The index's ids without repetitions in a row (long runs of zeros are one chunk)."""
    last = b""
    for chunk_id in index:
        if chunk_id != last:
            yield chunk_id
        last = chunk_id


# (bytes of content, bytes stored, hex ids of bad chunks) of one chunk.
_Read = tuple[int, int, list[str]]


def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="verify")


def _read_all(
    pool: ThreadPoolExecutor, store: ChunkStore, ids: Iterable[bytes], *, vanished_is_fine: bool = False
) -> Iterator[_Read]:
    """Each chunk, read by a few threads that are never far ahead."""
    waiting: set[Future[_Read]] = set()
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [future.cancel() for future in waiting])
        for chunk_id in ids:
            waiting.add(pool.submit(_read_one, store, chunk_id, vanished_is_fine))
            if len(waiting) >= AHEAD:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        for future in list(waiting):
            yield future.result()


def _read_one(store: ChunkStore, chunk_id: bytes, vanished_is_fine: bool) -> _Read:
    path: Path = store.path(chunk_id)
    try:
        stored = path.lstat().st_size
        return store.check(chunk_id), stored, []
    except (ChunkMissing, FileNotFoundError):
        return 0, 0, [] if vanished_is_fine else [chunk_id.hex()]
    except ChunkCorrupt:
        store.quarantine(chunk_id)
        return 0, 0, [chunk_id.hex()]
