# SPDX-License-Identifier: GPL-3.0-or-later
import hashlib
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backups.store.errors import IndexCorrupt, PointIncomplete
from backups.store.index import MIB, TIB, IndexReader, Layout, PartialIndex, chunk_size_for, raw_items


def digest(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def finished(tmp_path, size, chunk_size=MIB):
    index = PartialIndex.create(tmp_path / "d.caibx.partial", size_bytes=size, chunk_size=chunk_size)
    for number in range(len(index)):
        index.set(number, digest(number))
    index.finish(tmp_path / "d.caibx")
    return tmp_path / "d.caibx"


def test_chunk_size_grows_with_the_disk():
    assert [chunk_size_for(size) for size in (0, TIB, TIB + 1, 16 * TIB, 16 * TIB + 1)] == [
        MIB,
        MIB,
        4 * MIB,
        4 * MIB,
        16 * MIB,
    ]


def test_an_index_equals_the_one_that_casync_writes(tmp_path):
    data = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(90_000))
    (tmp_path / "d.raw").write_bytes(data)
    argv = [
        "casync",
        "make",
        "--digest=sha256",
        f"--chunk-size={MIB}:{MIB}:{MIB}",
        f"--store={tmp_path}/s.castr",
    ]
    subprocess.run(
        [*argv, str(tmp_path / "theirs.caibx"), str(tmp_path / "d.raw")], check=True, capture_output=True
    )
    ours = PartialIndex.create(tmp_path / "p", size_bytes=len(data), chunk_size=MIB)
    for number in range(len(ours)):
        ours.set(number, hashlib.sha256(data[number * MIB : (number + 1) * MIB]).digest())
    ours.finish(tmp_path / "ours.caibx")
    assert (tmp_path / "ours.caibx").read_bytes() == (tmp_path / "theirs.caibx").read_bytes()


def test_entries_survive_reopening_and_the_digest_covers_all(tmp_path):
    path = tmp_path / "d.caibx.partial"
    size = 5 * MIB + 4096
    first = PartialIndex.create(path, size_bytes=size, chunk_size=MIB)
    first.set(3, digest(3))
    first.set_run(0, [digest(0), digest(1)])
    first.close()
    again = PartialIndex.reopen(path, size_bytes=size, chunk_size=MIB)
    assert again is not None
    assert list(again.missing()) == [2, 4, 5]
    assert again.get(3) == digest(3) and again.get(2) is None
    assert [number for number, _ in again.stored()] == [0, 1, 3]
    with pytest.raises(PointIncomplete):
        again.finish(tmp_path / "d.caibx")
    for number in list(again.missing()):
        again.set(number, digest(number))
    again.finish(tmp_path / "d.caibx")
    with IndexReader.open(tmp_path / "d.caibx") as reader:
        assert (len(reader), reader.size_bytes, reader.chunk_size) == (6, size, MIB)
        assert reader.length_of(5) == 4096
        assert list(reader) == [digest(n) for n in range(6)]
        assert reader.digest_hex() == hashlib.sha256(b"".join(digest(n) for n in range(6))).hexdigest()


def test_an_unfinished_index_of_another_size_is_not_taken(tmp_path):
    path = tmp_path / "d.caibx.partial"
    PartialIndex.create(path, size_bytes=4 * MIB, chunk_size=MIB).close()
    assert PartialIndex.reopen(path, size_bytes=5 * MIB, chunk_size=MIB) is None
    assert PartialIndex.reopen(path, size_bytes=4 * MIB, chunk_size=2 * MIB) is None
    assert PartialIndex.reopen(tmp_path / "none", size_bytes=4 * MIB, chunk_size=MIB) is None


def test_an_index_started_anew_is_out_of_reach_of_a_stalled_process(tmp_path):
    path = tmp_path / "d.caibx.partial"
    stalled = PartialIndex.create(path, size_bytes=4 * MIB, chunk_size=MIB)
    fresh = PartialIndex.create(path, size_bytes=4 * MIB, chunk_size=MIB)
    stalled.set(0, digest(7))
    assert fresh.get(0) is None


def test_a_disk_without_bytes_has_an_index(tmp_path):
    with IndexReader.open(finished(tmp_path, 0)) as reader:
        assert len(reader) == 0 and reader.digest_hex() == hashlib.sha256().hexdigest()


def test_wrong_ids_and_numbers_are_refused(tmp_path):
    index = PartialIndex.create(tmp_path / "p", size_bytes=2 * MIB, chunk_size=MIB)
    for wrong in (bytes(32), b"short"):
        with pytest.raises(ValueError):
            index.set(0, wrong)
        with pytest.raises(ValueError):
            index.set_run(0, [digest(0), wrong])
    for number in (-1, 2):
        with pytest.raises(IndexError):
            index.set(number, digest(0))
    with pytest.raises(IndexError):
        index.set_run(1, [digest(0), digest(1)])
    assert not index.complete


def test_many_entries_are_scanned_in_blocks(tmp_path):
    count = 20_000
    index = PartialIndex.create(tmp_path / "p", size_bytes=count * MIB - 1, chunk_size=MIB)
    index.set_run(0, [digest(1)] * 8191)
    index.set_run(8193, [digest(2)] * (count - 8194))
    assert list(index.missing()) == [8191, 8192, count - 1]
    index.set_run(8191, [digest(3)] * 2)
    index.set(count - 1, digest(4))
    index.finish(tmp_path / "d.caibx")
    with IndexReader.open(tmp_path / "d.caibx") as reader:
        assert reader.size_bytes == count * MIB - 1


@pytest.mark.parametrize(
    ("at", "new"),
    [
        (0, b"\x31"),  # header length
        (8, b"\0"),  # header type
        (23, b"\xb0"),  # names by SHA-512/256
        (24, b"\1"),  # smallest chunk
        (32, b"\0" * 8),  # average chunk
        (48, b"\0"),  # table length
        (56, b"\0"),  # table type
        (64, b"\1"),  # end of the first chunk
        (104, b"\0" * 8),  # end of the second chunk
        (-40, b"\1"),  # tail
        (-16, b"\0"),  # table length in the tail
        (-8, b"\0"),  # marker
    ],
)
def test_any_damage_of_the_frame_is_told(tmp_path, at, new):
    path = finished(tmp_path, 3 * MIB)
    raw = bytearray(path.read_bytes())
    start = at if at >= 0 else len(raw) + at
    raw[start : start + len(new)] = new
    path.write_bytes(raw)
    with pytest.raises(IndexCorrupt):
        IndexReader.open(path)


@settings(max_examples=150, deadline=None)
@given(cut=st.integers(0, 223), junk=st.binary(max_size=200))
def test_hostile_files_are_only_ever_corrupt(tmp_path_factory, cut, junk):
    folder = tmp_path_factory.mktemp("hostile")
    path = finished(folder, 3 * MIB)
    raw = path.read_bytes()
    path.write_bytes(raw[:cut] + junk)
    with pytest.raises(IndexCorrupt):
        IndexReader.open(path)
    assert all(len(each) % 40 == 0 for each in raw_items(path))


def test_an_index_cannot_claim_more_chunks_than_it_has(tmp_path):
    path = finished(tmp_path, 3 * MIB)
    raw = bytearray(path.read_bytes())
    raw[64 + 80 : 64 + 88] = (1 << 62).to_bytes(8, "little")
    path.write_bytes(raw)
    with pytest.raises(IndexCorrupt):
        IndexReader.open(path)


def test_chunk_sizes_outside_the_format_are_refused():
    for chunk_size in (MIB - 4096, 17 * MIB, MIB + 512):
        with pytest.raises(IndexCorrupt):
            Layout(10 * MIB, chunk_size)
