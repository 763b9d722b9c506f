# SPDX-License-Identifier: GPL-3.0-or-later
"""Full and incremental backups through a real daemon, judged by casync, restore.py and the server's checksum."""

import subprocess
import sys
import uuid

import pytest

from backups.store.chunks import zero_chunk_id
from backups.transfer import (
    DirtyExtentsUnavailable,
    SizeMismatch,
    TransferBroken,
    TransferDenied,
    backup_full,
    backup_incremental,
    checksum,
)
from tests.store.support import DISK, casync_extract, content_of
from tests.transfer.imageio import MIB, Disk, Told, free_port


def read_back(repository, index) -> bytes:
    return b"".join(repository.chunks.read(index.get(n), index.length_of(n)) for n in range(len(index)))


def full(repository, stage, daemon, disk, **kwargs):
    """Back `disk` up in full and publish. Returns (point, stats)."""
    staged, index = stage(disk.size, **kwargs)
    with disk.served(daemon) as endpoint:
        stats = backup_full(endpoint, index, repository.chunks, progress=Told())
    return staged.publish({}, still_owner=lambda: True), stats


def incremental(repository, stage, daemon, disk, base_point, bitmap="dirty"):
    staged, index = stage(disk.size, chunk_size=base_point.index(DISK).chunk_size)
    told = Told()
    with disk.served(daemon, bitmap=bitmap) as endpoint, base_point.index(DISK) as base:
        stats = backup_incremental(endpoint, index, base, repository.chunks, progress=told)
    assert told.done == sum(told.planned) == stats.bytes_total
    return staged.publish({}, still_owner=lambda: True), stats


def same_disk(point, disk, daemon, tmp_path):
    """True if casync makes the disk's bytes of the point, and the server's checksum is the index's digest."""
    extracted = casync_extract(point.repository, point.index_path(DISK), tmp_path / f"{uuid.uuid4()}.raw")
    with disk.served(daemon) as endpoint, point.index(DISK) as index:
        told = checksum(endpoint, block_size=index.chunk_size)
        assert index.digest_hex() == point.digest_hex(DISK)
        return extracted == bytes(disk.content) and told == index.digest_hex()


def test_full_backup_is_the_disk_bit_for_bit(repository, stage, daemon, disk, tmp_path):
    staged, index = stage(disk.size)
    told = Told()
    with disk.served(daemon) as endpoint:
        stats = backup_full(endpoint, index, repository.chunks, progress=told)
    assert read_back(repository, index) == bytes(disk.content)
    assert told.planned == [disk.allocated()] == [stats.bytes_total] and told.done == disk.allocated()
    assert disk.allocated() <= stats.bytes_read < disk.allocated() + MIB
    assert stats.via == "direct" and stats.dirty_bytes == 0
    # Nine chunks of data less two zeroed, two single ones (of equal content but once stored), the end, zero.
    assert stats.chunks_new == 7 + 1 + 1 + 1 + 1
    assert stats.chunks_new + stats.chunks_reused == len(index)
    point = staged.publish({}, still_owner=lambda: True)
    assert same_disk(point, disk, daemon, tmp_path)
    out = tmp_path / "by-hand.raw"
    argv = [sys.executable, str(repository.path / "restore.py"), str(point.index_path(DISK)), str(out)]
    subprocess.run(argv, check=True, capture_output=True, env={"PATH": "/usr/bin:/bin"})
    assert out.read_bytes() == bytes(disk.content)


@pytest.mark.parametrize("chunk_size", [4 * MIB, 16 * MIB])
def test_larger_chunks_give_the_same_disk(repository, stage, daemon, disk, tmp_path, chunk_size):
    point, _ = full(repository, stage, daemon, disk, chunk_size=chunk_size)
    assert same_disk(point, disk, daemon, tmp_path)


def test_an_empty_disk_reads_nothing(repository, stage, daemon, tmp_path):
    disk = Disk.create(tmp_path / "empty.qcow2", 64 * MIB)
    point, stats = full(repository, stage, daemon, disk)
    assert (stats.bytes_total, stats.bytes_read, stats.chunks_new) == (0, 0, 1)
    assert set(point.index(DISK)) == {zero_chunk_id(MIB)}


def test_a_second_full_backup_stores_nothing_new(repository, stage, daemon, disk):
    full(repository, stage, daemon, disk)
    _, stats = full(repository, stage, daemon, disk)
    assert (stats.chunks_new, stats.bytes_stored) == (0, 0)


def test_incremental_reads_only_what_is_dirty(repository, stage, daemon, disk, tmp_path):
    base, _ = full(repository, stage, daemon, disk)
    disk.add_bitmap("dirty")
    # Scattered small writes, one over a chunk's border, one into a hole, zeros over data and over a hole.
    disk.write(
        (MIB + 300_000, b"a" * 5000),
        (3 * MIB - 100, b"b" * 200),
        (30 * MIB + 70_000, b"c" * 10),
        (40 * MIB + 131072, b"new end".ljust(65536, b".")),
    )
    disk.zero(8 * MIB, 131072)
    disk.zero(33 * MIB, 65536)
    disk.zero(20 * MIB, MIB)
    point, stats = incremental(repository, stage, daemon, disk, base)
    assert same_disk(point, disk, daemon, tmp_path)
    assert 0 < stats.bytes_read <= 6 * 65536
    assert stats.bytes_read <= 2 * stats.dirty_bytes
    assert stats.dirty_bytes >= stats.bytes_total
    with base.index(DISK) as old, point.index(DISK) as new:
        changed = [n for n, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
    assert changed == [1, 2, 3, 8, 20, 30, 40]


def test_a_chain_of_incrementals_stays_the_disk(repository, stage, daemon, disk, tmp_path):
    point, _ = full(repository, stage, daemon, disk)
    for step in range(3):
        disk.add_bitmap(f"b{step}")
        disk.write(
            (step * 7 * MIB + 4096, content_of(200_000, seed=40 + step)), (39 * MIB + step, b"%d" % step)
        )
        point, _ = incremental(repository, stage, daemon, disk, point, bitmap=f"b{step}")
        assert same_disk(point, disk, daemon, tmp_path)


def test_nothing_dirty_reads_nothing(repository, stage, daemon, disk):
    base, _ = full(repository, stage, daemon, disk)
    disk.add_bitmap("dirty")
    point, stats = incremental(repository, stage, daemon, disk, base)
    assert (stats.bytes_read, stats.chunks_new, stats.dirty_bytes) == (0, 0, 0)
    assert point.digest_hex(DISK) == base.digest_hex(DISK)


def test_a_base_chunk_that_is_missing_or_bad_is_read_whole(repository, stage, daemon, disk, tmp_path):
    base, _ = full(repository, stage, daemon, disk)
    with base.index(DISK) as index:
        clean_missing, dirty_missing, dirty_bad = (
            repository.chunks.path(index.chunk_id(n)) for n in (0, 2, 4)
        )
    clean_missing.unlink()
    dirty_missing.unlink()
    dirty_bad.write_bytes(b"rot")
    disk.add_bitmap("dirty")
    disk.write((2 * MIB + 5, b"x"), (4 * MIB + 5, b"y"))
    point, stats = incremental(repository, stage, daemon, disk, base)
    assert same_disk(point, disk, daemon, tmp_path)
    assert stats.bytes_read == 3 * MIB and stats.chunks_new == 3
    assert len(list((repository.path / "quarantine").iterdir())) == 1
    assert clean_missing.exists()


def test_a_grown_disk_takes_its_new_part_from_the_manager(repository, stage, daemon, disk, tmp_path):
    base, _ = full(repository, stage, daemon, disk)
    disk.add_bitmap("dirty")
    grown = disk.size + 3 * MIB
    subprocess.run(["qemu-img", "resize", "-q", str(disk.path), str(grown)], check=True)
    disk.content.extend(bytes(grown - disk.size))
    disk.size = grown
    disk.write((disk.size - MIB, b"in the new part"))
    point, _ = incremental(repository, stage, daemon, disk, base)
    assert same_disk(point, disk, daemon, tmp_path)


def test_without_a_bitmap_the_caller_is_told(repository, stage, daemon, disk):
    base, _ = full(repository, stage, daemon, disk)
    _, index = stage(disk.size)
    with (
        disk.served(daemon) as endpoint,
        base.index(DISK) as old,
        pytest.raises(DirtyExtentsUnavailable),
    ):
        backup_incremental(endpoint, index, old, repository.chunks, progress=Told())


def test_a_disk_of_another_size_is_refused(repository, stage, daemon, disk):
    _, index = stage(disk.size + MIB)
    with disk.served(daemon) as endpoint, pytest.raises(SizeMismatch):
        backup_full(endpoint, index, repository.chunks, progress=Told())


def test_another_chunk_size_than_the_base_is_refused(repository, stage, daemon, disk):
    base, _ = full(repository, stage, daemon, disk)
    _, index = stage(disk.size, chunk_size=4 * MIB)
    with (
        disk.served(daemon) as endpoint,
        base.index(DISK) as old,
        pytest.raises(ValueError, match="chunk size"),
    ):
        backup_incremental(endpoint, index, old, repository.chunks, progress=Told())


def test_a_removed_ticket_is_denied_without_naming_it(repository, stage, daemon, disk):
    _, index = stage(disk.size)
    with disk.exported() as url:
        ticket = daemon.add_ticket(url, disk.size)
        daemon.remove_ticket(ticket)
        with pytest.raises(TransferDenied) as raised:
            backup_full(daemon.endpoint(ticket), index, repository.chunks, progress=Told())
    assert ticket not in str(raised.value) and raised.value.__cause__ is None
    assert ticket not in repr(daemon.endpoint(ticket))


def test_an_unreachable_host_goes_through_the_proxy(repository, stage, daemon, disk):
    _, index = stage(disk.size)
    nowhere = f"http://127.0.0.1:{free_port()}/images/secret-ticket"
    with disk.served(daemon) as endpoint:
        both = daemon.endpoint("-", transfer_url=nowhere, proxy_url=endpoint.transfer_url)
        stats = backup_full(both, index, repository.chunks, progress=Told())
    assert stats.via == "proxy" and read_back(repository, index) == bytes(disk.content)
    with pytest.raises(TransferBroken) as raised:
        backup_full(daemon.endpoint("-", transfer_url=nowhere), index, repository.chunks, progress=Told())
    assert raised.value.retryable and "secret-ticket" not in str(raised.value)
