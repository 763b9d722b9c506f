# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks of the lab's machines: real partitions and file systems, sound in every backup."""

import asyncio
import json
import mmap
import subprocess
from pathlib import Path

import pytest

from lab.guest_writer import HEADER_BYTES, MAGIC, block_content, block_offset, block_seq
from lab.guests import build_guest_disk, guest_layout, guest_machines, guest_spec
from lab.hypervisor import LiveBackupDisk, Volume
from tests.lab_data.support import (
    MIB,
    assert_is_prefix,
    convert_to_raw,
    journal_entries,
    last_seq_in,
    running_rig,
    save_all,
    until_written,
)

pytestmark = pytest.mark.timeout(90)
CHECKERS = {
    "ext4": ["/usr/sbin/e2fsck", "-fn"],
    "xfs": ["/usr/sbin/xfs_repair", "-n"],
    "vfat": ["/usr/sbin/fsck.vfat", "-n"],
}


def assert_file_systems_are_sound(image: Path, kind: str) -> None:
    """Every partition is where the table says, and its own checker has nothing to repair."""
    table = json.loads(
        subprocess.run(["/usr/sbin/sfdisk", "-J", image], check=True, capture_output=True).stdout
    )
    layout = guest_layout(kind)
    partitions = table["partitiontable"]["partitions"]
    assert [entry["name"] for entry in partitions] == [partition.label for partition in layout.partitions]
    for entry, partition in zip(partitions, layout.partitions, strict=True):
        if partition.kind != "writer":
            assert_is_sound(image, entry["start"], entry["size"], CHECKERS[partition.kind])


def assert_is_sound(image: Path, start: int, size: int, checker: list[str]) -> None:
    """Start and size in sectors of 512 bytes."""
    part = image.with_suffix(".part")
    extent = [f"skip={start // 2048}", f"count={size // 2048}", "bs=1M", "conv=sparse"]
    subprocess.run(["dd", f"if={image}", f"of={part}", *extent, "status=none"], check=True, timeout=60)
    check = subprocess.run([*checker, part], capture_output=True, text=True, timeout=60)
    part.unlink()
    assert check.returncode == 0, check.stdout + check.stderr


@pytest.mark.parametrize("kind", ["web-system", "db-data"])
def test_file_systems_in_a_live_backup_are_sound_while_the_guest_writes(tmp_path: Path, kind: str) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path) as rig:
            machine = next(m for m in guest_machines() if any(d.kind == kind for d in m.disks))
            disk = await build_guest_disk(kind, tmp_path / "disks" / kind, rig.processes)
            guest = guest_spec(machine, "disk", disk, tmp_path / "journal")
            assert guest is not None
            volume = Volume("disk", "volume", disk.path, disk.format, disk.virtual_size, disk.sparse)
            await rig.hypervisor.start_vm("vm", [volume], guest)
            await until_written(guest.journal, 10)
            wanted = [LiveBackupDisk(volume, None, True)]
            await rig.hypervisor.begin_live_backup("vm", "b", wanted, "cp1", tmp_path / "scratch")
            await until_written(guest.journal, 20)
            url = rig.hypervisor.live_backup_url("b", "disk")
            backup, after = tmp_path / "backup.raw", tmp_path / "after.raw"
            await rig.through_ticket(url, disk.virtual_size, lambda client: save_all(client, backup))
            await rig.hypervisor.stop_vm("vm")
            assert_file_systems_are_sound(backup, kind)
            with (
                backup.open("rb") as stream,
                mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
            ):
                last = last_seq_in(content, guest)
                assert last >= 10
                assert_is_prefix(content, guest, journal_entries(guest.journal), last)
            convert_to_raw(volume, after)
            assert_file_systems_are_sound(after, kind)

    asyncio.run(scenario())


def test_every_other_disk_is_sound_and_as_planned(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path, imageio=False) as rig:
            planned = [disk for machine in guest_machines() for disk in machine.disks]
            for plan in (plan for plan in planned if plan.kind not in ("web-system", "db-data")):
                disk = await build_guest_disk(plan.kind, tmp_path / plan.kind, rig.processes)
                volume = Volume("disk", "volume", disk.path, disk.format, disk.virtual_size, disk.sparse)
                info = await rig.hypervisor.volume_info(volume)
                assert info.virtual_size == plan.virtual_size
                assert 10 * MIB < info.actual_size < 60 * MIB
                assert (disk.writer_area is not None) == plan.writer
                raw = tmp_path / "disk.raw"
                convert_to_raw(volume, raw)
                assert_file_systems_are_sound(raw, plan.kind)
                disk.path.unlink()
        assert [path for path in tmp_path.iterdir() if path.name.startswith(".build")] == []

    asyncio.run(scenario())


def test_the_machines_cover_what_a_backup_may_meet() -> None:
    for profile in ("small", "demo"):
        machines = guest_machines(profile)
        disks = [disk for machine in machines for disk in machine.disks]
        assert machines[0].up and len(machines) >= 4
        assert any(len(machine.disks) == 2 for machine in machines)
        assert {disk.format for disk in disks} == {"raw", "cow"}
        assert any(disk.virtual_size % MIB for disk in disks)
        assert len({disk.kind for disk in disks}) == len(disks)
        assert all(sum(disk.writer for disk in m.disks) == (1 if m.up else 0) for m in machines)


def test_a_block_tells_its_number_and_half_of_it_compresses() -> None:
    block = block_content(7, 65536)
    assert block[:HEADER_BYTES] == MAGIC + (7).to_bytes(8, "little")
    assert len(block) == 65536 and block == block_content(7, 65536) != block_content(8, 65536)
    assert block_seq(block) == 7 and block_seq(bytes(16)) is None
    assert block[32768:].count(b"entry") > 400
    offsets = {block_offset(seq, MIB, MIB, 16384) for seq in range(400)}
    assert offsets == set(range(MIB, 2 * MIB, 16384))
