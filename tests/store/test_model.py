# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups, trash, holds and collections in any order, against a model that fits on a page.

Whatever happens, no chunk of a live, trashed or unfinished point is ever lost; and when all of them are gone and
time has passed, nothing is left.
"""

import contextlib
import os
import shutil
import tempfile
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from backups.store import ChunkWriter, PointRef, Repository
from backups.store.errors import PointHeld, StoreError
from backups.store.gc import collect
from tests.store.mutations import text_of
from tests.store.support import DISK, ENVIRONMENT, MIB, VM, chunk_files

AGE = 3600.0
GRACE = 24 * AGE
CONTENT = [text_of(seed) for seed in range(5)]
parts = st.lists(st.integers(0, len(CONTENT) - 1), min_size=1, max_size=4)


class Store(RuleBasedStateMachine):
    live = Bundle("live")
    trash = Bundle("trash")
    unfinished = Bundle("unfinished")

    def __init__(self):
        super().__init__()
        self.path = Path(tempfile.mkdtemp(prefix="store-model-"))
        self.repository = Repository.create(self.path / "r", owner="tests", gc_age_seconds=AGE)
        # Point → its parts, its place, whether it is held.
        self.points: dict[str, list[int]] = {}
        self.place: dict[str, str] = {}
        self.held: set[str] = set()
        self.begun: dict[str, list[int]] = {}

    def teardown(self):
        try:
            self.everything_goes_when_nobody_needs_it()
        finally:
            shutil.rmtree(self.path)

    def ref(self, point: str) -> PointRef:
        return PointRef(ENVIRONMENT, VM, point, self.place.get(point) == "trash")

    # --- what may happen ------------------------------------------------------------------------------------

    @rule(target=unfinished, wanted=parts, stored=st.integers(0, 4))
    def begin(self, wanted, stored):
        point = str(uuid.uuid4())
        staged = self.repository.stage_point(ENVIRONMENT, VM, point)
        self.store(staged, wanted, range(min(stored, len(wanted))))
        staged.close()
        self.begun[point] = wanted
        return point

    @rule(target=live, point=consumes(unfinished))
    def finish(self, point):
        if point not in self.begun:
            return multiple()
        wanted = self.begun.pop(point)
        staged = self.repository.stage_point(ENVIRONMENT, VM, point)
        self.store(staged, wanted, range(len(wanted)))
        staged.publish({}, still_owner=lambda: True)
        self.points[point], self.place[point] = wanted, "live"
        return point

    @rule(point=consumes(unfinished))
    def abandon(self, point):
        if self.begun.pop(point, None) is not None:
            self.repository.stage_point(ENVIRONMENT, VM, point).abandon()

    def store(self, staged, wanted, numbers):
        index = staged.disk_index(DISK, len(wanted) * MIB, MIB, source="b")
        with ChunkWriter(self.repository.chunks) as writer:
            for number in numbers:
                if index.get(number) is None:
                    writer.add(index, number, memoryview(CONTENT[wanted[number]]))

    @rule(target=trash, point=live)
    def delete(self, point):
        if self.place.get(point) != "live":
            return multiple()
        if point in self.held:
            with pytest.raises(PointHeld):
                self.repository.trash_point(self.ref(point), reason="x", by="x")
            return multiple()
        self.repository.trash_point(self.ref(point), reason="x", by="x")
        self.place[point] = "trash"
        return point

    @rule(point=trash)
    def undelete(self, point):
        if self.place.get(point) == "trash":
            self.repository.undelete_point(self.ref(point), by="x")
            self.place[point] = "live"

    @rule(point=st.one_of(live, trash), kind=st.sampled_from(["held", "released", "pinned", "unpinned"]))
    def mark(self, point, kind):
        if point in self.place:
            self.repository.mark_point(self.ref(point), kind, by="x", reason="y")
            if kind == "held":
                self.held.add(point)
            elif kind == "released":
                self.held.discard(point)

    @rule()
    def purge(self):
        gone = {ref.point_uuid for ref in self.repository.purge_trash(older_than_seconds=GRACE)}
        assert not gone & self.held
        assert all(self.place.pop(point) == "trash" for point in gone)

    @rule(ids_in_memory=st.sampled_from([2, 1000]))
    def collect(self, ids_in_memory):
        collect(self.repository, older_than_seconds=AGE, ids_in_memory=ids_in_memory)

    @rule()
    def remove_what_was_never_finished(self):
        for ref in self.repository.remove_unfinished(older_than_seconds=AGE):
            del self.begun[ref.point_uuid]

    @rule(seconds=st.sampled_from([AGE / 2, AGE * 2, GRACE * 2]))
    def time_passes(self, seconds):
        """For everything there is: all time stamps move back."""
        for path in [self.repository.path, *self.repository.path.rglob("*")]:
            with contextlib.suppress(FileNotFoundError):
                stamp = path.stat().st_mtime - seconds
                os.utime(path, (stamp, stamp))

    # --- what must hold -------------------------------------------------------------------------------------

    @invariant()
    def every_point_is_whole(self):
        for point in self.place:
            stored = self.repository.open_ref(self.ref(point))
            with stored.index(DISK) as index:
                for number, chunk_id in enumerate(index):
                    assert self.repository.chunks.read(chunk_id, MIB) == CONTENT[self.points[point][number]]
            assert (stored.standing().held is not None) == (point in self.held)
            assert stored.damaged_marks() == 0

    @invariant()
    def what_is_begun_keeps_what_it_has(self):
        for point, wanted in self.begun.items():
            path = self.repository.point_dir(ENVIRONMENT, VM, point) / f"{DISK}.caibx.partial"
            with open_partial(path, len(wanted)) as index:
                for _, chunk_id in index.stored():
                    assert self.repository.chunks.exists(chunk_id)

    @invariant()
    def only_what_is_there_is_listed(self):
        for trashed, word in ((False, "live"), (True, "trash")):
            listed = {ref.point_uuid for ref in self.repository.points(trashed=trashed)}
            assert listed == {point for point, place in self.place.items() if place == word}

    def everything_goes_when_nobody_needs_it(self):
        for point in list(self.place):
            self.repository.mark_point(self.ref(point), "released", by="x", reason="y")
            self.held.discard(point)
            if self.place[point] == "live":
                self.repository.trash_point(self.ref(point), reason="x", by="x")
                self.place[point] = "trash"
        self.time_passes(GRACE * 2)
        self.purge()
        self.remove_what_was_never_finished()
        self.collect(1000)
        assert not self.place and not self.begun and chunk_files(self.repository) == []


def open_partial(path, count):
    from backups.store import PartialIndex

    found = PartialIndex.reopen(path, size_bytes=count * MIB, chunk_size=MIB)
    if found is None:
        raise StoreError(f"{path} is gone")
    return found


# Few in the suite, always the same; many, and others each time, by `make soak`.
TestStore = Store.TestCase
TestStore.settings = settings(
    max_examples=8,
    stateful_step_count=20,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.slow
@pytest.mark.timeout(3000)
class TestStoreForLong(Store.TestCase):
    settings = settings(
        max_examples=300, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
    )
