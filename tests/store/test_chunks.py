# SPDX-License-Identifier: GPL-3.0-or-later
import errno
import hashlib
import os
import threading
import time

import pytest
import zstandard

from backups.store import ChunkWriter, PartialIndex, durable
from backups.store import writer as writer_module
from backups.store.chunks import zero_chunk_id
from backups.store.errors import ChunkCorrupt, ChunkMissing, RepositoryFull, RepositoryMissing, StoreError
from tests.store.support import MIB, chunk_files, content_of, make_old


def index_of(repository, size, name="d.partial"):
    return PartialIndex.create(repository.path / "tmp" / name, size_bytes=size, chunk_size=MIB)


def add_all(writer, index, data):
    for number in range(len(index)):
        writer.add(index, number, memoryview(data)[number * MIB : (number + 1) * MIB])


def test_chunks_come_back_and_equal_ones_are_stored_once(repository):
    data = content_of(4 * MIB + 123)
    index = index_of(repository, len(data))
    with ChunkWriter(repository.chunks) as writer:
        add_all(writer, index, data)
    assert index.complete
    assert (writer.chunks_new, writer.chunks_reused) == (5, 0)
    again = index_of(repository, len(data), "again")
    with ChunkWriter(repository.chunks) as second:
        add_all(second, again, data)
    assert (second.chunks_new, second.chunks_reused, second.bytes_stored) == (0, 5, 0)
    read = b"".join(repository.chunks.read(index.get(n), index.length_of(n)) for n in range(5))
    assert read == data
    assert not [p for p in (repository.path / "tmp").iterdir() if p.is_dir()]


def test_equal_chunks_in_one_batch_are_written_once_and_all_entries_set(repository):
    index = index_of(repository, 6 * MIB)
    block = content_of(MIB)
    with ChunkWriter(repository.chunks) as writer:
        for number in (0, 2, 5):
            writer.add(index, number, memoryview(block))
        writer.add_zeros(index, 3, 2)
        writer.add_zeros(index, 1, 1)
        assert list(index.missing()) == list(range(6))
    assert index.complete and writer.chunks_new == 2 and writer.chunks_reused == 4
    assert index.get(4) == zero_chunk_id(MIB)
    assert repository.chunks.read(index.get(1), MIB) == bytes(MIB)


def test_a_short_last_chunk_of_zeros_has_its_own_id(repository):
    index = index_of(repository, 3 * MIB + 512)
    with ChunkWriter(repository.chunks) as writer:
        writer.add_zeros(index, 0, 4)
    assert index.get(0) == zero_chunk_id(MIB)
    assert index.get(3) == zero_chunk_id(512) != index.get(2)


def test_no_chunk_bears_its_name_before_it_is_durable(repository, monkeypatch):
    index = index_of(repository, 2 * MIB)
    seen = []

    def sync(fd):
        seen.append((chunk_files(repository), list(index.missing())))

    monkeypatch.setattr(writer_module, "sync_filesystem", sync)
    with ChunkWriter(repository.chunks) as writer:
        add_all(writer, index, content_of(2 * MIB))
    assert seen == [([], [0, 1])]
    assert len(chunk_files(repository)) == 2 and index.complete


def test_without_syncfs_every_file_is_synced(repository, monkeypatch):
    def sync(fd):
        raise OSError(errno.ENOSYS, "no such call")

    synced = []
    real = os.fsync
    monkeypatch.setattr(writer_module, "sync_filesystem", sync)

    def fsync(fd):
        synced.append(fd)
        real(fd)

    monkeypatch.setattr(writer_module.os, "fsync", fsync)
    index = index_of(repository, 3 * MIB)
    with ChunkWriter(repository.chunks) as writer:
        before = len(synced)
        add_all(writer, index, content_of(3 * MIB))
        writer.flush()
        assert len(synced) - before == 3
    assert index.complete


@pytest.mark.parametrize("where", ["write", "sync"])
def test_a_full_file_system_leaves_no_entry_and_no_half_chunk(repository, monkeypatch, where):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    target = "write_all" if where == "write" else "sync_filesystem"
    index = index_of(repository, 2 * MIB)
    with pytest.raises(RepositoryFull) as raised, ChunkWriter(repository.chunks) as writer:
        monkeypatch.setattr(writer_module, target, full)
        add_all(writer, index, content_of(2 * MIB))
    assert raised.value.retryable
    assert chunk_files(repository) == [] and list(index.missing()) == [0, 1]
    monkeypatch.undo()
    with ChunkWriter(repository.chunks) as writer:
        add_all(writer, index, content_of(2 * MIB))
    assert index.complete


def test_a_repository_that_vanishes_is_not_built_again(repository):
    index = index_of(repository, MIB)
    with pytest.raises(RepositoryMissing), ChunkWriter(repository.chunks) as writer:
        (repository.path / "chunks").rename(repository.path.parent / "elsewhere")
        writer.add(index, 0, memoryview(content_of(MIB)))
        writer.flush()
    assert not (repository.path / "chunks").exists()


def test_two_writers_and_eight_threads_store_the_same_chunks(repository):
    data = content_of(24 * MIB)
    indexes = [index_of(repository, len(data), f"i{n}") for n in range(8)]
    writers = [ChunkWriter(repository.chunks, batch_bytes=2 * MIB) for _ in range(2)]
    errors = []

    def work(n):
        try:
            add_all(writers[n % 2], indexes[n], data)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        with writer:
            pass
    assert errors == [] and all(index.complete for index in indexes)
    assert len({index.get(n) for index in indexes for n in range(24)}) == len(chunk_files(repository))
    for number in range(24):
        assert repository.chunks.read(indexes[5].get(number), MIB) == data[number * MIB : (number + 1) * MIB]


def test_damage_of_every_kind_is_told(repository):
    data = content_of(MIB)
    index = index_of(repository, MIB)
    with ChunkWriter(repository.chunks) as writer:
        writer.add(index, 0, memoryview(data))
    chunk_id = index.get(0)
    path = repository.chunks.path(chunk_id)
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    other = zstandard.compress(content_of(MIB, seed=2))
    for bad in (bytes(flipped), good[:-7], b"", b"junk", other, zstandard.compress(data + b"x")):
        path.write_bytes(bad)
        with pytest.raises(ChunkCorrupt) as raised:
            repository.chunks.read(chunk_id, MIB)
        assert raised.value.chunk_id == chunk_id.hex()
        with pytest.raises(ChunkCorrupt):
            repository.chunks.check(chunk_id)
    path.unlink()
    with pytest.raises(ChunkMissing):
        repository.chunks.read(chunk_id, MIB)


def test_a_frame_that_claims_or_holds_too_much_is_not_expanded(repository):
    chunk_id = hashlib.sha256(b"bomb").digest()
    path = repository.chunks.path(chunk_id)
    path.parent.mkdir()
    bomb = zstandard.compress(bytes(1 << 30))
    streamed = zstandard.ZstdCompressor().compressobj()
    unknown = streamed.compress(bytes(64 * MIB)) + streamed.flush()
    for raw in (bomb, unknown):
        path.write_bytes(raw)
        with pytest.raises(ChunkCorrupt):
            repository.chunks.read(chunk_id, MIB)


def test_frames_of_unknown_size_as_casync_writes_them_are_read(repository):
    data = content_of(MIB)
    chunk_id = hashlib.sha256(data).digest()
    stream = zstandard.ZstdCompressor().compressobj()
    path = repository.chunks.path(chunk_id)
    path.parent.mkdir()
    path.write_bytes(stream.compress(data) + stream.flush())
    assert repository.chunks.read(chunk_id, MIB) == data


def test_only_old_chunks_are_stamped_when_they_are_used_again(repository):
    index = index_of(repository, MIB)
    with ChunkWriter(repository.chunks) as writer:
        writer.add(index, 0, memoryview(content_of(MIB)))
    path = repository.chunks.path(index.get(0))
    make_old(path, 600)
    stamp = path.stat().st_mtime
    assert repository.chunks.reuse(index.get(0), now=time.time())
    assert path.stat().st_mtime == stamp
    make_old(path, 1800)
    assert repository.chunks.reuse(index.get(0), now=time.time())
    assert time.time() - path.stat().st_mtime < 60


def test_a_quarantined_chunk_is_stored_anew(repository):
    data = content_of(MIB)
    index = index_of(repository, MIB)
    with ChunkWriter(repository.chunks) as writer:
        writer.add(index, 0, memoryview(data))
    chunk_id = index.get(0)
    repository.chunks.path(chunk_id).write_bytes(b"rotten")
    assert repository.chunks.quarantine(chunk_id).read_bytes() == b"rotten"
    assert repository.chunks.quarantine(chunk_id) is None
    with ChunkWriter(repository.chunks) as writer:
        writer.add(index, 0, memoryview(data))
    assert writer.chunks_new == 1 and repository.chunks.read(chunk_id, MIB) == data


def test_leaving_by_an_error_removes_temporary_files(repository):
    index = index_of(repository, MIB)
    with pytest.raises(StoreError, match="stop"), ChunkWriter(repository.chunks) as writer:
        writer.add(index, 0, memoryview(content_of(MIB)))
        raise StoreError("stop")
    assert not [p for p in (repository.path / "tmp").iterdir() if p.is_dir()]
    assert chunk_files(repository) == []


def test_a_frame_says_by_itself_that_it_is_damaged(repository):
    data = bytes(range(256)) * 4096
    index = index_of(repository, MIB)
    with ChunkWriter(repository.chunks) as writer:
        writer.add(index, 0, memoryview(data))
    chunk_id = index.get(0)
    into = memoryview(bytearray(MIB))
    for hashed in (True, False):
        repository.chunks.read_into(chunk_id, into, hashed=hashed)
        assert into == data
    path = repository.chunks.path(chunk_id)
    whole = path.read_bytes()
    found = {True: 0, False: 0}
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        for hashed in found:
            try:
                repository.chunks.read_into(chunk_id, into, hashed=hashed)
            except ChunkCorrupt:
                found[hashed] += 1
            else:
                # A bit that nothing depends on.
                assert into == data
    assert found[True] == found[False] > len(whole) * 0.9


def test_a_frame_without_checksum_is_hashed_whatever_is_asked(repository):
    data, other = bytes(MIB), b"\x01" * MIB
    chunk_id = hashlib.sha256(data).digest()
    path = repository.chunks.path(chunk_id)
    path.parent.mkdir()
    path.write_bytes(zstandard.ZstdCompressor(write_checksum=False).compress(other))
    with pytest.raises(ChunkCorrupt, match="another SHA-256"):
        repository.chunks.read_into(chunk_id, memoryview(bytearray(MIB)), hashed=False)


@pytest.mark.parametrize("length", [0, 1, MIB - 1, MIB + 1])
def test_a_frame_of_another_length_is_no_chunk(repository, length):
    chunk_id = hashlib.sha256(bytes(MIB)).digest()
    path = repository.chunks.path(chunk_id)
    path.parent.mkdir()
    for compressor in (zstandard.ZstdCompressor(), zstandard.ZstdCompressor(write_content_size=False)):
        path.write_bytes(compressor.compress(bytes(length)))
        with pytest.raises(ChunkCorrupt):
            repository.chunks.read_into(chunk_id, memoryview(bytearray(MIB)))


def test_a_short_read_is_gone_on_with(repository, monkeypatch):
    data = content_of(MIB)
    index = index_of(repository, MIB)
    with ChunkWriter(repository.chunks) as writer:
        writer.add(index, 0, memoryview(data))
    real_read, asked = os.read, []

    def read(fd, size):
        asked.append(size)
        return real_read(fd, min(size, 100_000))

    monkeypatch.setattr(durable.os, "read", read)
    assert repository.chunks.read(index.get(0), MIB) == data
    assert len(asked) > 1
    assert max(asked) == repository.chunks.path(index.get(0)).stat().st_size


def test_a_file_longer_than_any_chunk_is_not_read(repository, monkeypatch):
    chunk_id = hashlib.sha256(bytes(MIB)).digest()
    path = repository.chunks.path(chunk_id)
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(1 << 30)
    monkeypatch.setattr(durable.os, "read", lambda *_: pytest.fail("it was read"))
    with pytest.raises(ChunkCorrupt, match="longer than any chunk"):
        repository.chunks.read(chunk_id, MIB)
