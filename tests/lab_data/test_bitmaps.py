# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of the bitmaps of a VM that is shut down, or whose host loses power."""

import asyncio
from pathlib import Path

import pytest

from lab.hypervisor import BitmapBroken, LiveBackupDisk
from tests.lab_data.support import (
    MIB,
    assert_is_prefix,
    journal_entries,
    last_seq_in,
    read_all,
    read_dirty,
    running_rig,
    until_written,
)

pytestmark = pytest.mark.timeout(60)


def test_bitmaps_survive_a_clean_stop_and_go_on_recording(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path) as rig:
            hypervisor, scratch = rig.hypervisor, tmp_path / "scratch"
            volume = await rig.volume("disk", 48 * MIB)
            guest = rig.guest("disk", 0, 32 * MIB)
            await hypervisor.start_vm("vm", [volume], guest)
            await until_written(guest.journal, 50)
            await hypervisor.begin_live_backup(
                "vm", "b1", [LiveBackupDisk(volume, None, True)], "cp1", scratch
            )
            point = bytearray(
                await rig.through_ticket(hypervisor.live_backup_url("b1", "disk"), 48 * MIB, read_all)
            )
            await hypervisor.end_live_backup("b1")
            await until_written(guest.journal, 100)

            await hypervisor.stop_vm("vm")
            assert not hypervisor.is_running("vm")
            info = await hypervisor.volume_info(volume)
            assert dict(info.bitmaps) == {"cp1": frozenset({"auto"})}
            stopped_at = journal_entries(guest.journal)[-1]["seq"]

            await hypervisor.start_vm("vm", [volume], guest)
            assert await hypervisor.has_good_bitmap(volume, "cp1")
            await until_written(guest.journal, stopped_at + 50)
            disk = LiveBackupDisk(volume, "cp1", True)
            await hypervisor.begin_live_backup("vm", "b2", [disk], "cp2", scratch)
            url = hypervisor.live_backup_url("b2", "disk")
            for start, data in await rig.through_ticket(url, 48 * MIB, read_dirty, dirty=True):
                point[start : start + len(data)] = data
            assert bytes(point) == await rig.through_ticket(url, 48 * MIB, read_all)
            last = last_seq_in(bytes(point), guest)
            assert last > stopped_at
            assert_is_prefix(bytes(point), guest, journal_entries(guest.journal), last)
            await hypervisor.end_live_backup("b2")
            await hypervisor.remove_bitmap(volume, "cp1")
            await hypervisor.remove_bitmap(volume, "cp1")
            await hypervisor.stop_vm("vm")
            assert set((await hypervisor.volume_info(volume)).bitmaps) == {"cp2"}
            await hypervisor.remove_bitmap(volume, "cp2")
            assert (await hypervisor.volume_info(volume)).bitmaps == {}

    asyncio.run(scenario())


@pytest.mark.parametrize("running", [True, False])
def test_a_power_cut_breaks_the_bitmaps_and_they_can_be_removed(tmp_path: Path, running: bool) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path, imageio=False) as rig:
            hypervisor, scratch = rig.hypervisor, tmp_path / "scratch"
            volume = await rig.volume("disk")
            guest = rig.guest("disk", 0, 16 * MIB)
            await hypervisor.start_vm("vm", [volume], guest)
            await hypervisor.begin_live_backup(
                "vm", "b1", [LiveBackupDisk(volume, None, True)], "cp1", scratch
            )
            await hypervisor.end_live_backup("b1")
            await hypervisor.stop_vm("vm")
            await hypervisor.start_vm("vm", [volume], guest)
            await until_written(guest.journal, 5)
            await hypervisor.stop_vm("vm", unclean=True)
            assert "in-use" in (await hypervisor.volume_info(volume)).bitmaps["cp1"]
            assert not await hypervisor.has_good_bitmap(volume, "cp1")
            with pytest.raises(BitmapBroken):
                await hypervisor.export_volume(volume, export_id="t", readonly=True, bitmap="cp1")

            if running:
                await hypervisor.start_vm("vm", [volume], guest)
                assert not await hypervisor.has_good_bitmap(volume, "cp1")
                with pytest.raises(BitmapBroken) as broken:
                    disk = LiveBackupDisk(volume, "cp1", True)
                    await hypervisor.begin_live_backup("vm", "b2", [disk], "cp2", scratch)
                assert broken.value.bitmap == "cp1"
            await hypervisor.remove_bitmap(volume, "cp1")
            await hypervisor.stop_vm("vm")
            assert (await hypervisor.volume_info(volume)).bitmaps == {}

    asyncio.run(scenario())


def test_a_writer_that_was_cut_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path, imageio=False) as rig:
            volume = await rig.volume("disk")
            guest = rig.guest("disk", 0, 16 * MIB)
            for wanted in (20, 60, 100):
                await rig.hypervisor.start_vm("vm", [volume], guest)
                await until_written(guest.journal, wanted)
                await rig.hypervisor.stop_vm("vm", unclean=True)
                with guest.journal.open("ab") as journal:
                    journal.write(b'{"seq":99')
            numbers = [entry["seq"] for entry in journal_entries(guest.journal)]
            assert numbers == list(range(1, len(numbers) + 1))

    asyncio.run(scenario())
