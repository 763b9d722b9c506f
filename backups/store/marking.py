# SPDX-License-Identifier: GPL-3.0-or-later
"""Which chunks are needed: what every index names, published, unfinished or in the trash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from backups.store.errors import IndexCorrupt, PointNotFound, RepositoryBusy, RepositoryMissing
from backups.store.idset import LIMIT, IdSet
from backups.store.index import DIGESTS, IndexReader, raw_items
from backups.store.points import PARTIAL
from backups.store.repository import PointRef, Repository
from backups.store.stored import INDEX

MARK_ATTEMPTS = 5

# Called with what is done, how much of it, and of how much; may raise to stop.
Watch = Callable[[str, int, int], None]


def ignore(doing: str, done: int, total: int) -> None:
    """A watch that watches nothing."""


def needed_ids(
    repository: Repository,
    *,
    first: int = 0,
    limit: int = LIMIT,
    protected: Collection[Path] = (),
    strict: bool = True,
    watch: Watch = ignore,
) -> tuple[int, IdSet]:
    """(number of indexes, ids that they name in the folders from `first` on, as far as fits).

    `protected` are further indexes. A damaged index of a published point raises IndexCorrupt or PointCorrupt if
    `strict`, else what can be read of it is taken. Raises RepositoryBusy if points keep being moved while we look.
    """
    for _ in range(MARK_ATTEMPTS):
        marking = _Marking(repository, IdSet(first=first, limit=limit), strict, watch)
        try:
            marking.read_all(protected)
        except (FileNotFoundError, PointNotFound, RepositoryMissing):
            # A point was moved or published while we looked: look again at everything.
            repository.check()
            continue
        return marking.indexes, marking.ids
    raise RepositoryBusy("Restore points kept moving, so nothing was collected.", hint="Try again later.")


class _Marking:
    def __init__(self, repository: Repository, ids: IdSet, strict: bool, watch: Watch) -> None:
        self._repository = repository
        self._strict = strict
        self._watch = watch
        self._done = self._total = 0
        # The last index of each disk of the VM at hand, if it can no longer change.
        self._earlier: dict[str, Path] = {}
        self._vm = ("", "")
        self.ids = ids
        self.indexes = 0

    def read_all(self, protected: Collection[Path]) -> None:
        """The trash comes twice: a point that moves either way is met at least once."""
        folders = {side: list(self._repository.all_point_folders(trashed=side)) for side in (True, False)}
        self._total = 2 * len(folders[True]) + len(folders[False])
        for trashed in (True, False, True):
            for ref in self._repository.all_point_folders(trashed=trashed):
                self._watch("Reading the indexes of restore points", self._done, self._total)
                self._read_point(ref)
                self._done += 1
        for path in protected:
            self._read_protected(path)

    def _read_point(self, ref: PointRef) -> None:
        if (ref.environment_uuid, ref.vm_id) != self._vm:
            self._vm, self._earlier = (ref.environment_uuid, ref.vm_id), {}
        folder = self._repository.folder_of(ref)
        paths = sorted(path for path in folder.iterdir() if path.name.endswith((INDEX, PARTIAL)))
        if not self._strict or ref.trashed or not self._repository.has_point(ref):
            # What is deleted, or not finished, may be damaged: what can be read of it is kept.
            for path in paths:
                self._read_leniently(path)
            return
        point = self._repository.open_ref(ref)
        for disk_id in point.disk_ids:
            with point.index(disk_id) as index:
                self._read_strictly(index, point.digest_hex(disk_id))
            self._earlier[disk_id] = point.index_path(disk_id)

    def _read_strictly(self, index: IndexReader, digest: str) -> None:
        """Blocks that the disk's last index has as well are known already: most of an incremental's are."""
        self.indexes += 1
        total = hashlib.sha256()
        for items, known in _beside(index, self._earlier.get(index.path.name.removesuffix(INDEX))):
            self._watch("Reading the indexes of restore points", self._done, self._total)
            total.update(b"".join(digest for (digest,) in DIGESTS.iter_unpack(items)))
            if not known:
                self.ids.add_items(items)
        if total.hexdigest() != digest:
            raise IndexCorrupt(
                f"{index.path.name} of restore point {index.path.parent.name} does not have the digest of its "
                "manifest, so it cannot be told which chunks it needs, and nothing was removed.",
                hint="Verify the repository, and delete that restore point or put its files back from a copy.",
            )

    def _read_leniently(self, path: Path) -> None:
        self.indexes += 1
        for items in raw_items(path):
            self._watch("Reading the indexes of restore points", self._done, self._total)
            self.ids.add_items(items)

    def _read_protected(self, path: Path) -> None:
        try:
            self._read_leniently(path)
        except FileNotFoundError:
            return  # moved: then it was met at its other place


def _beside(index: IndexReader, earlier: Path | None) -> Iterator[tuple[bytes, bool]]:
    """(raw items, whether `earlier` has the same in the same place) for a few thousand chunks at a time."""
    others = raw_items(earlier) if earlier is not None else iter(())
    for items in index.blocks():
        yield items, next(others, b"") == items
