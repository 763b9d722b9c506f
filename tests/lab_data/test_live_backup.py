# SPDX-License-Identifier: GPL-3.0-or-later
"""Live backups of a VM whose guest never stops writing."""

import asyncio
import time
from pathlib import Path

import pytest

from lab.guests import GuestSpec
from lab.hypervisor import BitmapBroken, HypervisorError, LiveBackupDisk, Volume
from tests.lab_data.support import (
    KIB,
    MIB,
    Rig,
    assert_is_prefix,
    image_bytes,
    journal_entries,
    last_seq_in,
    read_all,
    read_dirty,
    read_parallel,
    running_rig,
    sockets_under,
    until_written,
)

pytestmark = pytest.mark.timeout(60)
GRANULARITY = 64 * KIB


async def begin(
    rig: Rig, backup: str, volume: Volume, *, since: str | None, checkpoint: str | None
) -> tuple[float, float]:
    """Begin a live backup of one disk; returns the moments before and after."""
    before = time.time()
    disk = LiveBackupDisk(volume, since, checkpoint is not None)
    await rig.hypervisor.begin_live_backup("vm", backup, [disk], checkpoint, rig.directory / "scratch")
    return before, time.time()


def assert_point_in_time(
    content: bytes, guest: GuestSpec, entries: list[dict], moment: tuple[float, float]
) -> int:
    """What the backup shows lies between the writes finished before it began and those started before it had."""
    last = last_seq_in(content, guest)
    finished_before = max((e["seq"] for e in entries if e["finished"] < moment[0]), default=0)
    started_before = max((e["seq"] for e in entries if e["started"] <= moment[1]), default=0)
    assert finished_before <= last <= started_before
    assert_is_prefix(content, guest, entries, last)
    return last


def test_full_and_incremental_are_points_in_time_and_lose_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path) as rig:
            volume = await rig.volume("disk", 64 * MIB + 548 * KIB)
            size = volume.virtual_size
            guest = rig.guest("disk", 2 * MIB, 32 * MIB)
            await rig.hypervisor.start_vm("vm", [volume], guest)
            await until_written(guest.journal, 200)

            moment = await begin(rig, "full", volume, since=None, checkpoint="cp1")
            await until_written(guest.journal, len(journal_entries(guest.journal)) + 100)
            url = rig.hypervisor.live_backup_url("full", "disk")
            content = await rig.through_ticket(url, size, read_all)
            full_last = assert_point_in_time(content, guest, journal_entries(guest.journal), moment)
            await rig.hypervisor.end_live_backup("full")

            point, since = bytearray(content), "cp1"
            for number in range(2, 6):
                await until_written(guest.journal, len(journal_entries(guest.journal)) + 60)
                moment = await begin(rig, f"inc{number}", volume, since=since, checkpoint=f"cp{number}")
                await until_written(guest.journal, len(journal_entries(guest.journal)) + 40)
                url = rig.hypervisor.live_backup_url(f"inc{number}", "disk")
                dirty = await rig.through_ticket(url, size, read_dirty, dirty=True)
                whole = await rig.through_ticket(url, size, read_all, dirty=True)
                for start, data in dirty:
                    point[start : start + len(data)] = data
                assert bytes(point) == whole
                last = assert_point_in_time(whole, guest, journal_entries(guest.journal), moment)
                written = {
                    entry["offset"] // GRANULARITY
                    for entry in journal_entries(guest.journal)
                    if full_last < entry["seq"] <= last
                }
                told = {
                    unit
                    for start, data in dirty
                    for unit in range(start // GRANULARITY, -(-(start + len(data)) // GRANULARITY))
                }
                assert written <= told
                assert len(told) < size // GRANULARITY // 2
                await rig.hypervisor.end_live_backup(f"inc{number}")
                full_last, since = last, f"cp{number}"
            await rig.hypervisor.stop_vm("vm")
            entries = journal_entries(guest.journal)
            assert_is_prefix(image_bytes(volume), guest, entries, entries[-1]["seq"])

    asyncio.run(scenario())


def test_two_disks_and_a_raw_one_share_one_moment(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path) as rig:
            first, second = await rig.volume("one"), await rig.volume("two")
            raw = await rig.volume("three", 40 * MIB + 4 * KIB, "raw")
            guest = rig.guest("two", 0, 16 * MIB)
            await rig.hypervisor.start_vm("vm", [first, second, raw], guest)
            await until_written(guest.journal, 50)
            disks = [LiveBackupDisk(v, None, v.format == "cow") for v in (first, second, raw)]
            await rig.hypervisor.begin_live_backup("vm", "b", disks, "cp1", tmp_path / "scratch")
            for volume in (first, second, raw):
                url = rig.hypervisor.live_backup_url("b", volume.disk_id)
                content = await rig.through_ticket(url, volume.virtual_size, read_all)
                assert len(content) == volume.virtual_size
            assert await rig.hypervisor.has_good_bitmap(first, "cp1")
            assert await rig.hypervisor.has_good_bitmap(second, "cp1")
            assert not await rig.hypervisor.has_good_bitmap(raw, "cp1")
            await rig.hypervisor.end_live_backup("b")
            await rig.hypervisor.end_live_backup("b")
            assert not (tmp_path / "scratch").exists()
            with pytest.raises(HypervisorError):
                rig.hypervisor.live_backup_url("b", "one")

    asyncio.run(scenario())


def test_eight_connections_read_a_live_backup_again_and_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path) as rig:
            assert rig.host is not None
            volume = await rig.volume("disk", 32 * MIB)
            guest = rig.guest("disk", 0, 32 * MIB)
            await rig.hypervisor.start_vm("vm", [volume], guest)
            await until_written(guest.journal, 100)
            moment = await begin(rig, "b", volume, since=None, checkpoint="cp1")
            url = rig.hypervisor.live_backup_url("b", "disk")
            contents = []
            for _ in range(3):
                transfer = await rig.ticket(url, volume.virtual_size)
                contents.append(await asyncio.to_thread(read_parallel, transfer, rig.pki, 8, 2))
                await rig.host.remove_ticket(transfer.rsplit("/", 1)[1])
            assert contents[0] == contents[1] == contents[2]
            assert_point_in_time(contents[0], guest, journal_entries(guest.journal), moment)

    asyncio.run(scenario())


def test_a_backup_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path, imageio=False) as rig:
            one, two = await rig.volume("one"), await rig.volume("two")
            await rig.hypervisor.start_vm("vm", [one, two], rig.guest("one", 0, MIB))
            scratch = tmp_path / "scratch"
            wanted = [LiveBackupDisk(one, None, True), LiveBackupDisk(two, "gone", True)]
            with pytest.raises(BitmapBroken) as broken:
                await rig.hypervisor.begin_live_backup("vm", "b", wanted, "cp1", scratch)
            assert (broken.value.disk_id, broken.value.bitmap) == ("two", "gone")
            assert not scratch.exists()
            await begin(rig, "good", one, since=None, checkpoint="cp1")
            await rig.hypervisor.end_live_backup("good")
            wanted = [LiveBackupDisk(two, None, True), LiveBackupDisk(one, None, True)]
            with pytest.raises(HypervisorError):
                await rig.hypervisor.begin_live_backup("vm", "b", wanted, "cp1", scratch)
            assert not scratch.exists()
            assert await rig.hypervisor.has_good_bitmap(one, "cp1")
            assert not await rig.hypervisor.has_good_bitmap(two, "cp1")
            await begin(rig, "b", two, since=None, checkpoint="cp2")
            await rig.hypervisor.end_live_backup("b", drop_checkpoint=True)
            assert not await rig.hypervisor.has_good_bitmap(two, "cp2")

    asyncio.run(scenario())


def test_a_vm_that_stops_or_dies_takes_its_live_backup_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path, imageio=False) as rig:
            volume = await rig.volume("disk")
            for unclean in (False, True):
                await rig.hypervisor.start_vm("vm", [volume], rig.guest("disk", 0, MIB))
                await begin(rig, "b", volume, since=None, checkpoint="cp")
                await rig.hypervisor.stop_vm("vm", unclean=unclean)
                assert not rig.hypervisor.is_running("vm")
                await rig.hypervisor.end_live_backup("b", drop_checkpoint=True)
                assert not (tmp_path / "scratch").exists()
                assert "cp" not in (await rig.hypervisor.volume_info(volume)).bitmaps
            assert sockets_under(tmp_path) == []

    asyncio.run(scenario())
