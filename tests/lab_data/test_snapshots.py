# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots under a guest that never stops writing, and what becomes of the checkpoints' bitmaps."""

import asyncio
import os
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from lab.hypervisor import BitmapBroken, HypervisorError, Volume
from tests.lab_data.support import (
    KIB,
    MIB,
    Rig,
    assert_is_prefix,
    image_bytes,
    journal_entries,
    read_all,
    read_dirty,
    running_rig,
    until_written,
)
from tests.lab_data.test_cold_backup import write_into
from tests.lab_data.test_live_backup import GRANULARITY, assert_point_in_time

pytestmark = pytest.mark.timeout(90)


def on_top(volume: Volume) -> Volume:
    """The volume of the next snapshot."""
    name = str(uuid.uuid4())
    path = volume.path.with_name(f"{volume.disk_id}-{name[:8]}")
    return Volume(volume.disk_id, name, path, "cow", volume.virtual_size, True, below=volume.chain)


def frozen(volume: Volume) -> Volume:
    """What lies right below the active volume, with all that it lies on."""
    return replace(volume.below[-1], below=volume.below[:-1])


def merged(volume: Volume) -> Volume:
    return frozen(volume)


async def read_frozen(rig: Rig, volume: Volume, since: str | None) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Content and dirty extents of the newest snapshot."""
    url = await rig.hypervisor.export_volume(frozen(volume), export_id="t", readonly=True, bitmap=since)
    dirty = []
    if since is not None:
        dirty = await rig.through_ticket(url, volume.virtual_size, read_dirty, dirty=True)
    whole = await rig.through_ticket(url, volume.virtual_size, read_all, dirty=since is not None)
    await rig.hypervisor.close_export("t")
    return whole, dirty


def units(extents: list[tuple[int, bytes]]) -> set[int]:
    return {
        unit
        for start, data in extents
        for unit in range(start // GRANULARITY, -(-(start + len(data)) // GRANULARITY))
    }


@pytest.mark.parametrize("restarts", [False, True])
def test_hybrid_backups_of_a_writing_guest_lose_nothing(tmp_path: Path, restarts: bool) -> None:
    """Each backup is a snapshot that is read and merged; each starts from the one before, and from the first."""

    async def scenario() -> None:
        async with running_rig(tmp_path) as rig:
            volume = await rig.volume("disk", 24 * MIB + 548 * KIB)
            guest = rig.guest("disk", 2 * MIB, 16 * MIB)
            await rig.hypervisor.start_vm("vm", [volume], guest)
            await until_written(guest.journal, 100)
            contents: dict[str, bytes] = {}
            lasts: dict[str, int] = {}
            names: list[str] = []
            for number in range(1, 5):
                name = f"cp{number}"
                snapshot = on_top(volume)
                before = time.time()
                await rig.hypervisor.take_snapshot("vm", [snapshot], name)
                moment = (before, time.time())
                await until_written(guest.journal, len(journal_entries(guest.journal)) + 60)
                for since in {*names[-1:], *names[:1]}:
                    whole, dirty = await read_frozen(rig, snapshot, since)
                    lasts[name] = assert_point_in_time(whole, guest, journal_entries(guest.journal), moment)
                    point = bytearray(contents[since])
                    for start, data in dirty:
                        point[start : start + len(data)] = data
                    assert bytes(point) == whole
                    written = {
                        entry["offset"] // GRANULARITY
                        for entry in journal_entries(guest.journal)
                        if lasts[since] < entry["seq"] <= lasts[name]
                    }
                    assert units(dirty) == written
                    contents[name] = whole
                if not names:
                    whole, _ = await read_frozen(rig, snapshot, None)
                    lasts[name] = assert_point_in_time(whole, guest, journal_entries(guest.journal), moment)
                    contents[name] = whole
                names.append(name)
                if restarts and number % 2:
                    await rig.hypervisor.stop_vm("vm")
                    if number == 3:
                        await rig.hypervisor.merge_snapshot("vm", snapshot, 0, merged(snapshot))
                        await rig.hypervisor.start_vm("vm", [merged(snapshot)], guest)
                        continue
                    await rig.hypervisor.start_vm("vm", [snapshot], guest)
                await rig.hypervisor.merge_snapshot("vm", snapshot, 0, merged(snapshot))
                assert not snapshot.path.exists()
            await until_written(guest.journal, len(journal_entries(guest.journal)) + 30)
            await rig.hypervisor.stop_vm("vm")
            entries = journal_entries(guest.journal)
            assert_is_prefix(image_bytes(volume), guest, entries, entries[-1]["seq"])
            flags = (await rig.hypervisor.volume_info(volume)).bitmaps
            assert {name: flags[name] for name in names} == {name: frozenset({"auto"}) for name in names}

    asyncio.run(scenario())


def test_a_chain_of_snapshots_is_merged_from_its_middle_and_its_top(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path) as rig:
            first = await rig.volume("disk", 32 * MIB)
            guest = rig.guest("disk", 0, 16 * MIB)
            await rig.hypervisor.start_vm("vm", [first], guest)
            await until_written(guest.journal, 50)
            second = on_top(first)
            await rig.hypervisor.take_snapshot("vm", [second], "cp1")
            await until_written(guest.journal, len(journal_entries(guest.journal)) + 40)
            third = on_top(second)
            await rig.hypervisor.take_snapshot("vm", [third], "cp2")
            await until_written(guest.journal, len(journal_entries(guest.journal)) + 40)
            whole, dirty = await read_frozen(rig, third, "cp1")
            await rig.hypervisor.merge_snapshot("vm", third, 0, replace(third, below=(first,)))
            again, dirty_again = await read_frozen(rig, replace(third, below=(first,)), "cp1")
            assert again == whole and units(dirty_again) == units(dirty)
            assert not second.path.exists()
            await rig.hypervisor.merge_snapshot("vm", replace(third, below=(first,)), 0, first)
            await rig.hypervisor.stop_vm("vm")
            entries = journal_entries(guest.journal)
            assert_is_prefix(image_bytes(first), guest, entries, entries[-1]["seq"])
            assert await rig.hypervisor.has_good_bitmap(first, "cp2")

    asyncio.run(scenario())


def test_snapshots_of_a_stopped_vm(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path) as rig:
            first = await rig.volume("disk", 48 * MIB)
            await write_into(rig, first, {0: os.urandom(MIB), 9 * MIB: os.urandom(MIB)})
            await rig.hypervisor.add_cold_bitmap(first, "cp1")
            await write_into(rig, first, {9 * MIB: os.urandom(64 * KIB)})
            second = on_top(first)
            await rig.hypervisor.take_snapshot("vm", [second], "cp2")
            await write_into(rig, second, {20 * MIB: os.urandom(128 * KIB)})
            third = on_top(second)
            await rig.hypervisor.take_snapshot("vm", [third])
            for since, wanted in (
                ("cp1", [(9 * MIB, 64 * KIB), (20 * MIB, 128 * KIB)]),
                ("cp2", [(20 * MIB, 128 * KIB)]),
            ):
                whole, dirty = await read_frozen(rig, third, since)
                assert [(start, len(data)) for start, data in dirty] == wanted
            assert whole == image_bytes(third)
            await rig.hypervisor.merge_snapshot("vm", third, 0, replace(third, below=(first,)))
            third = replace(third, below=(first,))
            assert image_bytes(third) == whole
            await rig.hypervisor.merge_snapshot("vm", third, 0, first)
            assert image_bytes(first) == whole
            url = await rig.hypervisor.export_volume(first, export_id="t", readonly=True, bitmap="cp2")
            dirty = await rig.through_ticket(url, first.virtual_size, read_dirty, dirty=True)
            assert [(start, len(data)) for start, data in dirty] == [(20 * MIB, 128 * KIB)]
            await rig.hypervisor.close_export("t")

    asyncio.run(scenario())


def test_a_bitmap_with_a_gap_or_none_on_top_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path, imageio=False) as rig:
            first = await rig.volume("disk")
            await rig.hypervisor.add_cold_bitmap(first, "cp1")
            second = on_top(first)
            await rig.hypervisor.take_snapshot("vm", [second])
            third = on_top(second)
            await rig.hypervisor.take_snapshot("vm", [third])
            await rig.hypervisor.remove_bitmap(replace(second, below=()), "cp1")
            for volume, reason in ((third, "missing"), (second, "does not exist")):
                with pytest.raises(BitmapBroken, match=reason):
                    await rig.hypervisor.export_volume(volume, export_id="t", readonly=True, bitmap="cp1")
            assert sorted(p.name for p in first.path.parent.iterdir() if "overlay" in p.name) == []

    asyncio.run(scenario())


def test_a_snapshot_that_fails_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path) as rig:
            one, two = await rig.volume("one"), await rig.volume("two")
            guest = rig.guest("one", 0, MIB)
            await rig.hypervisor.start_vm("vm", [one, two], guest)
            await until_written(guest.journal, 20)
            stranger = replace(on_top(two), disk_id="three")
            with pytest.raises(HypervisorError):
                await rig.hypervisor.take_snapshot("vm", [on_top(one), stranger], "cp1")
            await until_written(guest.journal, len(journal_entries(guest.journal)) + 20)
            assert not await rig.hypervisor.has_good_bitmap(one, "cp1")
            assert sorted(p.name for p in one.path.parent.iterdir()) == ["one", "two"]
            await rig.hypervisor.stop_vm("vm")

    asyncio.run(scenario())


def test_a_snapshot_over_a_raw_volume_becomes_raw_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path) as rig:
            raw = await rig.volume("disk", 16 * MIB, "raw")
            guest = rig.guest("disk", 0, 8 * MIB)
            await rig.hypervisor.start_vm("vm", [raw], guest)
            await until_written(guest.journal, 20)
            snapshot = on_top(raw)
            await rig.hypervisor.take_snapshot("vm", [snapshot], "cp1")
            await until_written(guest.journal, len(journal_entries(guest.journal)) + 20)
            await rig.hypervisor.merge_snapshot("vm", snapshot, 0, raw)
            await rig.hypervisor.stop_vm("vm")
            entries = journal_entries(guest.journal)
            assert_is_prefix(raw.path.read_bytes(), guest, entries, entries[-1]["seq"])

    asyncio.run(scenario())
