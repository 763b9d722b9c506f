# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of VMs that are down, served by qemu-nbd as a host's vdsm runs it."""

import asyncio
import contextlib
import json
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from lab.hypervisor.images import Images, file_node
from lab.hypervisor.model import BitmapBroken, HypervisorError, Volume
from lab.processes import CommandFailed, ProcessGroup, kill, terminate
from lab.sockets import SocketDir

START_SECONDS = 20.0
STOP_SECONDS = 30.0
RETRY_SECONDS = 0.01
GREETING = b"NBDMAGICIHAVEOPT"
# vdsm's limit of connections, and what imageio tells its clients; connection 9 would wait, not be refused.
MAX_CONNECTIONS = 8


@dataclass(frozen=True)
class NbdExport:
    process: asyncio.subprocess.Process
    socket: Path
    url: str
    scratch: Path | None = None


class NbdExports:
    """The running qemu-nbd processes by export id."""

    def __init__(self, processes: ProcessGroup, sockets: SocketDir) -> None:
        self._processes = processes
        self._sockets = sockets
        self._exports: dict[str, NbdExport] = {}
        self._numbers = count(1)

    async def open(
        self,
        volume: Volume,
        export_id: str,
        *,
        readonly: bool,
        bitmap: str | None,
        room: int | None = None,
        shallow: bool = False,
        scratch: Path | None = None,
    ) -> str:
        """Serve the volume, whose file may grow by `room` bytes; returns the url for an imageio ticket. The file
        `scratch` is removed when the export is closed.

        Raises BitmapBroken if the bitmap cannot be served, HypervisorError for anything else."""
        if export_id in self._exports:
            raise HypervisorError(f"export {export_id} is open already")
        if bitmap is not None and volume.format == "raw":
            raise BitmapBroken(volume.disk_id, bitmap, "a raw image has no bitmaps")
        socket = self._sockets.path(f"export{next(self._numbers)}.nbd")
        name = f"qemu-nbd-{export_id}"
        offset = _size(self._processes.log_file(name))
        try:
            process = await self._processes.spawn(
                name, *_command(volume, socket, readonly, bitmap, room, shallow)
            )
        except CommandFailed as error:
            raise HypervisorError(str(error)) from error
        try:
            if not await wait_for_greeting(socket, process):
                raise self._refusal(volume, bitmap, self._processes.log_tail(name, offset))
        except BaseException:
            await kill(process)
            self._sockets.release(socket)
            raise
        self._exports[export_id] = NbdExport(process, socket, f"nbd:unix:{socket}", scratch)
        return self._exports[export_id].url

    async def close(self, export_id: str) -> None:
        """Stop serving, writing everything out; an unknown id is no error."""
        export = self._exports.pop(export_id, None)
        if export is None:
            return
        # qemu-nbd closes its image on SIGTERM: data flushed, bitmaps stored.
        await terminate(export.process, STOP_SECONDS)
        self._sockets.release(export.socket)
        if export.scratch is not None:
            export.scratch.unlink(missing_ok=True)

    async def open_overlay(self, volume: Volume, export_id: str, images: Images, bitmap: str) -> str:
        """Serve a disk of several volumes, read-only, with what its bitmap has in all of them together: an empty overlay
        holds the sum (vdsm's storage/bitmaps.py and nbd.py do the same).

        Raises BitmapBroken or HypervisorError."""
        await self._check_bitmaps(volume, images, bitmap)
        overlay = replace(
            volume,
            path=volume.path.with_name(f"{export_id}.overlay"),
            format="cow",
            below=volume.chain,
        )
        await images.create_overlay(overlay)
        try:
            await images.add_bitmap(overlay, bitmap)
            for layer in volume.chain:
                if layer.format == "cow" and bitmap in (await images.info(layer)).bitmaps:
                    await images.merge_bitmap(overlay, layer, bitmap)
            return await self.open(overlay, export_id, readonly=True, bitmap=bitmap, scratch=overlay.path)
        except BaseException:
            overlay.path.unlink(missing_ok=True)
            raise

    async def _check_bitmaps(self, volume: Volume, images: Images, bitmap: str) -> None:
        """It must be in the top volume and go down without a gap, whole everywhere (vdsm: bitmaps.py,
        _validate_bitmap)."""
        ended = False
        for layer in reversed(volume.chain):
            flags = None if layer.format == "raw" else (await images.info(layer)).bitmaps.get(bitmap)
            if flags is None:
                if layer is volume:
                    raise BitmapBroken(volume.disk_id, bitmap, "it does not exist")
                ended = True
            elif ended:
                raise BitmapBroken(volume.disk_id, bitmap, "it is missing in a volume in between")
            elif "auto" not in flags or "in-use" in flags:
                raise BitmapBroken(volume.disk_id, bitmap, "it is inconsistent")

    async def close_all(self) -> None:
        await asyncio.gather(*(self.close(export_id) for export_id in list(self._exports)))

    def _refusal(self, volume: Volume, bitmap: str | None, words: str) -> Exception:
        # QEMU's block/dirty-bitmap.c and nbd/server.c: "Bitmap 'x' is inconsistent and cannot be used",
        # "Bitmap 'x' is not found".
        if bitmap is not None and f"Bitmap '{bitmap}'" in words:
            return BitmapBroken(volume.disk_id, bitmap, words)
        return HypervisorError(f"qemu-nbd did not serve {volume.path.name}: {words}")


async def wait_for_greeting(socket: Path, process: asyncio.subprocess.Process) -> bool:
    """True as soon as the NBD server behind `socket` greets; False if its process ends first.

    Raises HypervisorError after 20 seconds."""
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while process.returncode is None:
        if asyncio.get_running_loop().time() > deadline:
            raise HypervisorError(f"no greeting from {socket} within {START_SECONDS:.0f} s")
        if await _greets(socket):
            return True
        await asyncio.sleep(RETRY_SECONDS)
    return False


async def _greets(socket: Path) -> bool:
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    try:
        return await asyncio.wait_for(reader.readexactly(len(GREETING)), 1.0) == GREETING
    except (OSError, EOFError, TimeoutError):
        return False
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _command(
    volume: Volume, socket: Path, readonly: bool, bitmap: str | None, room: int | None, shallow: bool
) -> list[str]:
    node: dict[str, Any] = {"driver": volume.driver, "file": file_node(volume.path, room)}
    if shallow and volume.format == "cow":
        node["backing"] = None
    argv = ["qemu-nbd", f"--socket={socket}", "--persistent", f"--shared={MAX_CONNECTIONS}", "--export-name="]
    # Not --cache=none --aio=native as on a host: O_DIRECT is refused by tmpfs and some overlays.
    argv += ["--cache=writeback", "--aio=threads"]
    if volume.format == "cow":
        argv.append("--allocation-depth")
    if readonly:
        argv.append("--read-only")
    else:
        argv += ["--discard=unmap", f"--detect-zeroes={'unmap' if volume.sparse else 'on'}"]
    if bitmap is not None:
        argv.append(f"--bitmap={bitmap}")
    return [*argv, f"json:{json.dumps(node)}"]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
