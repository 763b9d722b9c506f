# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores onto real disks, proven by the server's checksum and by the disk's bytes."""

import pytest

from backups.store.errors import ChunkCorrupt, ChunkMissing
from backups.transfer import SizeMismatch, TransferDenied, backup_full, checksum, restore
from tests.store.support import DISK
from tests.transfer.imageio import MIB, Disk, Told


@pytest.fixture
def point(repository, stage, daemon, disk):
    staged, index = stage(disk.size)
    with disk.served(daemon) as endpoint:
        backup_full(endpoint, index, repository.chunks, progress=Told())
    return staged.publish({}, still_owner=lambda: True)


def restored(point, daemon, target, *, disk_is_zero, told=None):
    with target.served(daemon, writable=True) as endpoint, point.index(DISK) as index:
        stats = restore(
            endpoint,
            index,
            point.repository.chunks,
            progress=told or Told(),
            disk_is_zero=disk_is_zero,
        )
        assert checksum(endpoint, block_size=index.chunk_size) == index.digest_hex()
    return stats


def test_a_new_disk_gets_only_data(point, daemon, disk, tmp_path):
    target = Disk.create(tmp_path / "target.qcow2", disk.size)
    told = Told()
    stats = restored(point, daemon, target, disk_is_zero=True, told=told)
    assert target.read() == bytes(disk.content)
    data_chunks = 11
    assert stats.chunks_reused == data_chunks and stats.via == "direct"
    assert stats.bytes_read == stats.bytes_total == told.done == sum(told.planned)
    assert stats.bytes_total == 10 * MIB + 192 * 1024
    assert target.allocated() < stats.bytes_total + MIB


def test_a_used_disk_is_zeroed_where_the_point_is_zero(point, daemon, disk, tmp_path):
    target = Disk.create(tmp_path / "target.qcow2", disk.size)
    target.write((0, b"\xff" * disk.size))
    restored(point, daemon, target, disk_is_zero=False)
    assert target.read() == bytes(disk.content)
    assert target.allocated() < 12 * MIB


def test_a_disk_of_another_size_is_left_alone(point, daemon, disk, tmp_path):
    target = Disk.create(tmp_path / "target.qcow2", disk.size + MIB)
    with pytest.raises(SizeMismatch, match="nothing was written"):
        restored(point, daemon, target, disk_is_zero=True)
    assert target.allocated() == 0


def test_a_damaged_or_missing_chunk_stops_the_restore(point, daemon, disk, tmp_path):
    target = Disk.create(tmp_path / "target.qcow2", disk.size)
    with point.index(DISK) as index:
        path = point.repository.chunks.path(index.chunk_id(8))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)
    with pytest.raises(ChunkCorrupt) as raised:
        restored(point, daemon, target, disk_is_zero=True)
    assert raised.value.chunk_id == path.name.removesuffix(".cacnk")
    path.unlink()
    with pytest.raises(ChunkMissing):
        restored(point, daemon, target, disk_is_zero=True)


def test_a_ticket_for_reading_cannot_be_written(point, daemon, disk):
    with (
        disk.served(daemon) as endpoint,
        point.index(DISK) as index,
        pytest.raises(TransferDenied),
    ):
        restore(endpoint, index, point.repository.chunks, progress=Told(), disk_is_zero=True)
    assert disk.read() == bytes(disk.content)


def test_a_checksum_of_another_disk_differs(point, daemon, disk):
    disk.write((33 * MIB, b"x"))
    with disk.served(daemon) as endpoint, point.index(DISK) as index:
        assert checksum(endpoint, block_size=index.chunk_size) != index.digest_hex()
