# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab's data plane for a test: processes, a hypervisor, the two imageio daemons; and ways to look at disks."""

import asyncio
import contextlib
import json
import mmap
import os
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ovirt_imageio.client import ImageioClient

from lab.guest_writer import block_content, block_seq
from lab.guests import GuestSpec
from lab.hypervisor import Hypervisor, Volume
from lab.imageio import ImageioDaemon
from lab.pki import Pki, make_pki
from lab.processes import ProcessGroup

T = TypeVar("T")
KIB = 1 << 10
MIB = 1 << 20


@dataclass
class Rig:
    directory: Path
    processes: ProcessGroup
    hypervisor: Hypervisor
    pki: Pki
    host: ImageioDaemon | None
    proxy: ImageioDaemon | None

    async def volume(
        self, name: str, size: int = 64 * MIB, format: str = "cow", sparse: bool = True
    ) -> Volume:
        """A new empty volume."""
        volume = Volume(name, str(uuid.uuid4()), self.directory / "disks" / name, format, size, sparse)  # type: ignore[arg-type]
        await self.hypervisor.create_volume(volume)
        return volume

    def guest(self, disk_id: str, offset: int, length: int, **options: Any) -> GuestSpec:
        settings = {"block_size": 16 * KIB, "interval_seconds": 0.001, **options}
        return GuestSpec(disk_id, offset, length, journal=self.directory / f"{disk_id}.journal", **settings)

    async def ticket(self, url: str, size: int, *, write: bool = False, dirty: bool = False) -> str:
        """Install a ticket on the host's daemon; returns the transfer url."""
        assert self.host is not None
        ticket_id = str(uuid.uuid4())
        ops = ["read", "write"] if write else ["read"]
        await self.host.add_ticket(
            {"uuid": ticket_id, "size": size, "url": url, "timeout": 300, "ops": ops, "dirty": dirty}
        )
        return f"{self.host.url}/images/{ticket_id}"

    async def through_ticket(
        self, url: str, size: int, work: Callable[[ImageioClient], T], **options: Any
    ) -> T:
        """Do something with the official client through a ticket of the host's daemon, then remove the ticket."""
        transfer = await self.ticket(url, size, **options)
        try:
            return await asyncio.to_thread(with_client, transfer, self.pki, work)
        finally:
            assert self.host is not None
            await self.host.remove_ticket(transfer.rsplit("/", 1)[1])


@contextlib.asynccontextmanager
async def running_rig(directory: Path, *, imageio: bool = True, proxy: bool = False) -> AsyncIterator[Rig]:
    directory.mkdir(parents=True, exist_ok=True)
    processes = ProcessGroup(directory / "log")
    pki = make_pki(directory / "pki")
    run = directory / "run"
    rig = Rig(directory, processes, Hypervisor(run, processes), pki, None, None)
    try:
        if imageio:
            rig.host = ImageioDaemon(run, pki, processes, name="imageio")
            await rig.host.start()
        if proxy:
            rig.proxy = ImageioDaemon(run, pki, processes, name="proxy", backend_http_ca=pki.ca_file)
            await rig.proxy.start()
        yield rig
    finally:
        for daemon in (rig.proxy, rig.host):
            if daemon is not None:
                await daemon.stop()
        await rig.hypervisor.close()
        await processes.close()


def with_client(transfer: str, pki: Pki, work: Callable[[ImageioClient], T]) -> T:
    with ImageioClient(transfer, cafile=str(pki.ca_file), secure=True) as client:
        return work(client)


def read_all(client: ImageioClient) -> bytes:
    """The whole image, by the extents that hold data."""
    content = bytearray(client.size())
    for extent in client.extents("zero"):
        if not extent.zero:
            content[extent.start : extent.start + extent.length] = read_range(
                client, extent.start, extent.length
            )
    return bytes(content)


def save_all(client: ImageioClient, path: Path) -> None:
    """The whole image as a sparse file."""
    with path.open("wb") as stream:
        stream.truncate(client.size())
        for extent in client.extents("zero"):
            if not extent.zero:
                stream.seek(extent.start)
                stream.write(read_range(client, extent.start, extent.length))


def read_dirty(client: ImageioClient) -> list[tuple[int, bytes]]:
    """Offset and content of each dirty extent."""
    return [
        (
            extent.start,
            bytes(extent.length) if extent.zero else read_range(client, extent.start, extent.length),
        )
        for extent in client.extents("dirty")
        if extent.dirty
    ]


def read_range(client: ImageioClient, start: int, length: int) -> bytes:
    content = bytearray(length)
    for position in range(0, length, MIB):
        view = memoryview(content)[position : position + MIB]
        assert client.read(start + position, view) == len(view)
    return bytes(content)


def read_parallel(transfer: str, pki: Pki, connections: int, rounds: int = 1) -> bytes:
    """The whole image through `connections` clients at once, each with its own connection."""

    def one(index: int) -> list[tuple[int, bytes]]:
        parts = []
        with ImageioClient(transfer, cafile=str(pki.ca_file), secure=True) as client:
            step = -(-client.size() // connections)
            start = index * step
            length = min(step, client.size() - start)
            for _ in range(rounds):
                parts.append((start, read_range(client, start, length)))
        return parts

    with ThreadPoolExecutor(connections) as pool:
        results = list(pool.map(one, range(connections)))
    for parts in results:
        assert all(part == parts[0] for part in parts)
    return b"".join(parts[0][1] for parts in sorted(results))


def journal_entries(journal: Path) -> list[dict[str, Any]]:
    """The whole lines of a guest's journal."""
    if not journal.exists():
        return []
    return [json.loads(line) for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")]


async def until_written(journal: Path, count: int, seconds: float = 20.0) -> None:
    """Wait until the guest has finished `count` writes."""
    async with asyncio.timeout(seconds):
        while len(journal_entries(journal)) < count:
            await asyncio.sleep(0.02)


def last_seq_in(content: bytes | mmap.mmap, guest: GuestSpec) -> int:
    """The highest sequence number in the guest's area; 0 for none."""
    return max((seq for _, seq in blocks_in(content, guest) if seq is not None), default=0)


def blocks_in(content: bytes | mmap.mmap, guest: GuestSpec) -> Iterator[tuple[int, int | None]]:
    """Offset and sequence number of each block of the guest's area."""
    for offset in range(guest.area_offset, guest.area_offset + guest.area_length, guest.block_size):
        yield offset, block_seq(content[offset : offset + 16])


def assert_is_prefix(
    content: bytes | mmap.mmap, guest: GuestSpec, entries: Iterable[dict[str, Any]], last: int
) -> None:
    """The area is just what the first `last` writes leave behind: none is missing, torn, or from later."""
    expected: dict[int, int] = {entry["offset"]: entry["seq"] for entry in entries if entry["seq"] <= last}
    for offset, seq in blocks_in(content, guest):
        assert seq == expected.get(offset), f"block at {offset} is of write {seq}"
        block = content[offset : offset + guest.block_size]
        assert block == (block_content(seq, guest.block_size) if seq else bytes(guest.block_size))


def convert_to_raw(volume: Volume, raw: Path) -> None:
    """The guest-visible content of an image that nobody has open for writing, as a sparse file."""
    command = ["qemu-img", "convert", "-f", volume.driver, "-O", "raw", str(volume.path), str(raw)]
    subprocess.run(command, check=True, timeout=60)


def image_bytes(volume: Volume) -> bytes:
    raw = volume.path.with_suffix(".raw")
    convert_to_raw(volume, raw)
    try:
        return raw.read_bytes()
    finally:
        raw.unlink()


def processes_with(text: str) -> list[str]:
    """Command lines of all living processes that mention `text`, but for this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if text in command:
                found.append(command)
    return found


def sockets_under(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_socket()]
