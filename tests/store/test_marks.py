# SPDX-License-Identifier: GPL-3.0-or-later
import threading

import pytest

from backups.store.errors import PointHeld, PointNotFound, StoreError
from backups.store.marks import MarksFile, read_marks
from tests.store.support import MIB, content_of, make_old, publish_point, ref_of

YEAR = 365 * 24 * 3600


@pytest.fixture
def point(repository):
    return publish_point(repository, content_of(MIB))


def lines_of(point):
    return (point.folder / "marks.jsonl").read_bytes().splitlines(keepends=True)


def write_lines(point, lines):
    (point.folder / "marks.jsonl").write_bytes(b"".join(lines))


def test_the_last_word_counts(point):
    for kind in ("pinned", "held", "unpinned", "damaged", "pinned", "verified"):
        point.mark(kind, by="alice", reason=f"because {kind}")
    standing = point.standing()
    assert standing.pinned["reason"] == "because pinned" and standing.held["by"] == "alice"
    assert standing.verified is not None and standing.damaged is None
    point.mark("released", by="bob", reason="the case is closed")
    assert point.standing().held is None and not point.standing().may_be_held
    assert point.damaged_marks() == 0


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_line_that_is_gone_is_missed(point, number):
    point.mark("held", by="alice", reason="a case")
    point.mark("pinned", by="alice", reason="x")
    point.mark("verified", by="alice")
    lines = lines_of(point)
    write_lines(point, lines[:number] + lines[number + 1 :])
    assert point.damaged_marks() == 1


def test_lines_put_in_again_or_in_another_order_are_noticed(point):
    point.mark("held", by="alice", reason="a case")
    point.mark("released", by="alice", reason="closed")
    lines = lines_of(point)
    write_lines(point, [*lines[:2], lines[1], lines[2]])
    assert point.damaged_marks() == 1
    write_lines(point, [lines[0], lines[2], lines[1]])
    assert point.damaged_marks() == 2


def test_every_single_bit_that_flips_is_noticed(point):
    point.mark("held", by="alice", reason="Prüfung")
    raw = bytearray((point.folder / "marks.jsonl").read_bytes())
    for at in range(len(raw)):
        changed = raw.copy()
        changed[at] ^= 1 << (at % 8)
        (point.folder / "marks.jsonl").write_bytes(changed)
        assert point.damaged_marks() > 0, at


def test_a_cut_anywhere_but_after_a_line_is_noticed(point):
    point.mark("held", by="alice", reason="a case")
    raw = (point.folder / "marks.jsonl").read_bytes()
    for length in range(len(raw)):
        (point.folder / "marks.jsonl").write_bytes(raw[:length])
        at_an_end = length > 0 and raw[:length].endswith(b"\n")
        assert (point.damaged_marks() > 0) != at_an_end


def test_no_marks_at_all_is_noticed(point):
    (point.folder / "marks.jsonl").unlink()
    assert point.damaged_marks() == 1 and point.marks() == []


def test_a_held_point_goes_nowhere_until_it_is_released(repository, point):
    repository.mark_point(ref_of(point), "held", by="alice", reason="case 4711")
    with pytest.raises(PointHeld, match="case 4711"):
        repository.trash_point(ref_of(point), reason="old", by="policy")
    assert point.manifest and len(list(repository.points())) == 1
    repository.mark_point(ref_of(point), "released", by="alice", reason="closed")
    trashed = repository.trash_point(ref_of(point), reason="old", by="policy")
    repository.mark_point(ref_of(point), "held", by="alice", reason="reopened")
    make_old(repository.folder_of(trashed) / "marks.jsonl", YEAR)
    assert repository.purge_trash(older_than_seconds=0) == []
    repository.mark_point(trashed, "released", by="alice", reason="closed")
    make_old(repository.folder_of(trashed) / "marks.jsonl", YEAR)
    assert repository.purge_trash(older_than_seconds=3600) == [trashed]
    with pytest.raises(PointNotFound):
        repository.mark_point(trashed, "held", by="alice", reason="too late")


def test_a_damaged_line_may_have_been_a_hold(repository, point):
    point.mark("held", by="alice", reason="a case")
    lines = lines_of(point)
    write_lines(point, [lines[0], lines[1].replace(b"held", b"hold")])
    with pytest.raises(PointHeld, match="may have been a legal hold"):
        repository.trash_point(ref_of(point), reason="old", by="policy")
    point.mark("released", by="alice", reason="there is none")
    assert repository.trash_point(ref_of(point), reason="old", by="policy").trashed


def test_marks_that_are_a_link_are_not_followed(point, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes((point.folder / "marks.jsonl").read_bytes())
    (point.folder / "marks.jsonl").unlink()
    (point.folder / "marks.jsonl").symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    with pytest.raises(StoreError):
        point.mark("pinned", by="alice")
    with pytest.raises(StoreError):
        read_marks(point.folder)
    assert elsewhere.read_bytes() == before


def test_two_writers_take_turns(point):
    other = threading.Thread(target=point.mark, args=("pinned",), kwargs={"by": "other"})
    with MarksFile(point.folder) as first:
        other.start()
        first.append("held", by="alice", reason="x")
        first.append("released", by="alice", reason="x")
    other.join(timeout=60)
    assert point.damaged_marks() == 0
    assert [mark["kind"] for mark in point.marks()] == ["published", "held", "released", "pinned"]
