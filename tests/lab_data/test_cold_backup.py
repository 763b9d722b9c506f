# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs that are down: their volumes served by qemu-nbd, with and without a bitmap, for reading and writing."""

import asyncio
import os
from pathlib import Path

import pytest
from ovirt_imageio.client import ImageioClient

from lab.hypervisor import BitmapBroken, HypervisorError, Volume
from tests.lab_data.support import (
    KIB,
    MIB,
    Rig,
    image_bytes,
    read_all,
    read_dirty,
    read_parallel,
    running_rig,
    sockets_under,
)

pytestmark = pytest.mark.timeout(60)


async def write_into(rig: Rig, volume: Volume, pieces: dict[int, bytes]) -> None:
    """Write through a writable export, as an upload does."""

    def work(client: ImageioClient) -> None:
        for offset, data in pieces.items():
            client.write(offset, data)
        client.flush()

    url = await rig.hypervisor.export_volume(volume, export_id="writing", readonly=False)
    await rig.through_ticket(url, volume.virtual_size, work, write=True)
    await rig.hypervisor.close_export("writing")


def test_dirty_blocks_of_a_stopped_vm_by_eight_connections(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path) as rig:
            volume = await rig.volume("disk", 48 * MIB)
            await write_into(rig, volume, {0: os.urandom(MIB), 5 * MIB: os.urandom(MIB)})
            await rig.hypervisor.add_cold_bitmap(volume, "cp1")
            assert await rig.hypervisor.has_good_bitmap(volume, "cp1")
            pieces = {5 * MIB + 64 * KIB: os.urandom(4 * KIB), 40 * MIB: os.urandom(128 * KIB)}
            await write_into(rig, volume, pieces)
            assert await rig.hypervisor.has_good_bitmap(volume, "cp1")
            await rig.hypervisor.add_cold_bitmap(volume, "cp2")

            url = await rig.hypervisor.export_volume(volume, export_id="t", readonly=True, bitmap="cp1")
            dirty = await rig.through_ticket(url, volume.virtual_size, read_dirty, dirty=True)
            assert [(start, len(data)) for start, data in dirty] == [
                (5 * MIB + 64 * KIB, 64 * KIB),
                (40 * MIB, 128 * KIB),
            ]
            transfer = await rig.ticket(url, volume.virtual_size, dirty=True)
            content = await asyncio.to_thread(read_parallel, transfer, rig.pki, 8, 2)
            await rig.hypervisor.close_export("t")
            await rig.hypervisor.close_export("t")
            assert content == image_bytes(volume)
            for offset, data in pieces.items():
                assert content[offset : offset + len(data)] == data

    asyncio.run(scenario())


def test_a_bitmap_that_is_not_there_or_a_second_writer_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path, imageio=False) as rig:
            volume, raw = await rig.volume("disk"), await rig.volume("raw", 3 * MIB, "raw")
            for wrong in (volume, raw):
                with pytest.raises(BitmapBroken):
                    await rig.hypervisor.export_volume(wrong, export_id="t", readonly=True, bitmap="cp9")
            await rig.hypervisor.export_volume(volume, export_id="w", readonly=False)
            with pytest.raises(HypervisorError, match="lock"):
                await rig.hypervisor.export_volume(volume, export_id="t", readonly=True)
            with pytest.raises(HypervisorError, match="lock"):
                await rig.hypervisor.start_vm("vm", [volume], None)
            assert not rig.hypervisor.is_running("vm")
            await rig.hypervisor.close_export("w")
            await rig.hypervisor.start_vm("vm", [volume], None)
            with pytest.raises(HypervisorError):
                await rig.hypervisor.delete_volume(volume)
            await rig.hypervisor.stop_vm("vm")
            await rig.hypervisor.delete_volume(volume)
            await rig.hypervisor.delete_volume(volume)
            assert not volume.path.exists()
        assert sockets_under(tmp_path) == []

    asyncio.run(scenario())


@pytest.mark.parametrize("format", ["cow", "raw"])
@pytest.mark.parametrize("sparse", [True, False])
def test_what_is_uploaded_is_what_is_read(tmp_path: Path, format: str, sparse: bool) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path) as rig:
            size = 24 * MIB + 548 * KIB
            volume = await rig.volume("disk", size, format, sparse)
            before = await rig.hypervisor.volume_info(volume)
            assert before.virtual_size == size
            assert (before.actual_size >= size) == (not sparse)
            tail = os.urandom(3 * KIB * 4)
            await write_into(rig, volume, {MIB: os.urandom(2 * MIB), size - len(tail): tail})

            def zero(client: ImageioClient) -> None:
                client.zero(MIB + 512 * KIB, MIB)
                client.flush()

            url = await rig.hypervisor.export_volume(volume, export_id="z", readonly=False)
            await rig.through_ticket(url, size, zero, write=True)
            await rig.hypervisor.close_export("z")

            url = await rig.hypervisor.export_volume(volume, export_id="r", readonly=True)
            content = await rig.through_ticket(url, size, read_all)
            await rig.hypervisor.close_export("r")
            assert content == image_bytes(volume)
            assert content.endswith(tail)
            assert content[MIB + 512 * KIB : 2 * MIB + 512 * KIB] == bytes(MIB)
            assert content[MIB : MIB + 512 * KIB] != bytes(512 * KIB)

    asyncio.run(scenario())


def test_the_proxy_serves_the_same_ticket(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path, proxy=True) as rig:
            assert rig.host is not None and rig.proxy is not None
            volume = await rig.volume("disk", 8 * MIB)
            data = os.urandom(MIB)
            await write_into(rig, volume, {3 * MIB: data})
            url = await rig.hypervisor.export_volume(volume, export_id="t", readonly=True)
            direct = await rig.ticket(url, volume.virtual_size)
            ticket_id = direct.rsplit("/", 1)[1]
            ticket = {
                "uuid": ticket_id,
                "size": volume.virtual_size,
                "url": direct,
                "timeout": 300,
                "ops": ["read"],
            }
            await rig.proxy.add_ticket(ticket)

            def read(address: str) -> bytes:
                with ImageioClient(address, cafile=str(rig.pki.ca_file), secure=True) as client:
                    return read_all(client)

            content = await asyncio.to_thread(read, direct)
            assert content[3 * MIB : 4 * MIB] == data
            assert await asyncio.to_thread(read, f"{rig.proxy.url}/images/{ticket_id}") == content
            for daemon in (rig.proxy, rig.host):
                told = await daemon.get_ticket(ticket_id)
                assert told is not None and told["uuid"] == ticket_id
                await daemon.extend_ticket(ticket_id, 600)
                await daemon.remove_ticket(ticket_id)
                await daemon.remove_ticket(ticket_id)
                assert await daemon.get_ticket(ticket_id) is None

    asyncio.run(scenario())
