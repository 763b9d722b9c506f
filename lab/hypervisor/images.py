# SPDX-License-Identifier: GPL-3.0-or-later
"""Image files that no process has open: everything `qemu-img` does for the lab."""

import json
import os
from pathlib import Path
from typing import Any

from lab.hypervisor.model import HypervisorError, Volume, VolumeInfo
from lab.processes import CommandFailed, ProcessGroup

SECTOR = 512


def file_node(path: Path, room: int | None = None) -> dict[str, Any]:
    """The protocol layer of an image. With `room` the file cannot grow by more bytes than that: QEMU's raw driver then
    answers ENOSPC, as a full storage does (block/raw-format.c, raw_adjust_offset)."""
    file = {"driver": "file", "filename": str(path)}
    if room is None:
        return file
    size = -(-(path.stat().st_size + room) // SECTOR) * SECTOR
    # The driver wants its size to be there already; a hole at the end of a qcow2 means nothing.
    os.truncate(path, size)
    return {"driver": "raw", "size": size, "file": file}


class Images:
    """Each method raises HypervisorError with qemu-img's own words."""

    def __init__(self, processes: ProcessGroup) -> None:
        self._processes = processes

    async def create(self, volume: Volume) -> None:
        """A new empty image: thin, or with its space reserved unless `sparse`. Refuses to overwrite."""
        if volume.path.exists():
            raise HypervisorError(f"{volume.path} exists already")
        volume.path.parent.mkdir(parents=True, exist_ok=True)
        options = ["compat=1.1"] if volume.format == "cow" else []
        if not volume.sparse:
            options.append("preallocation=falloc")
        argv = ["create", "-q", "-f", volume.driver]
        if options:
            argv += ["-o", ",".join(options)]
        try:
            await self._qemu_img(*argv, str(volume.path), str(volume.virtual_size))
        except BaseException:
            volume.path.unlink(missing_ok=True)
            raise

    async def create_scratch(self, path: Path, size: int) -> None:
        """An empty thin qcow2 for a live backup, `size` bytes large; overwrites."""
        await self._qemu_img("create", "-q", "-f", "qcow2", "-o", "compat=1.1", str(path), str(size))

    async def create_overlay(self, volume: Volume) -> None:
        """An empty qcow2 on top of the last of `volume.below`, which may be open elsewhere (`-u`)."""
        base = volume.below[-1]
        argv = [
            "create",
            "-q",
            "-u",
            "-f",
            "qcow2",
            "-o",
            "compat=1.1",
            "-b",
            str(base.path),
            "-F",
            base.driver,
        ]
        await self._qemu_img(*argv, str(volume.path), str(volume.virtual_size))

    async def merge_bitmap(self, target: Volume, source: Volume, name: str) -> None:
        """Add what a bitmap of `source` has to the one of the same name in `target`."""
        argv = ["bitmap", "--merge", name, "-b", str(source.path), "-F", "qcow2", "-f", "qcow2"]
        await self._qemu_img(*argv, str(target.path), name)

    async def commit(self, top: Volume, base: Volume) -> None:
        """Write the content of `top` into the volume right below it; nobody has either open."""
        await self._qemu_img("commit", "-q", "-d", "-f", "qcow2", "-b", str(base.path), str(top.path))

    async def rebase(self, volume: Volume, base: Volume) -> None:
        """Only the name of the backing file is changed: both have the same content there."""
        argv = ["rebase", "-q", "-u", "-f", "qcow2", "-b", str(base.path), "-F", base.driver]
        await self._qemu_img(*argv, str(volume.path))

    async def info(self, volume: Volume) -> VolumeInfo:
        """Also of an image that a running VM has open (`-U`), as far as its file tells."""
        output = await self._qemu_img("info", "-U", "--output=json", "-f", volume.driver, str(volume.path))
        told = json.loads(output)
        bitmaps = told.get("format-specific", {}).get("data", {}).get("bitmaps", [])
        return VolumeInfo(
            virtual_size=told["virtual-size"],
            actual_size=told["actual-size"],
            bitmaps={bitmap["name"]: frozenset(bitmap["flags"]) for bitmap in bitmaps},
        )

    async def add_bitmap(self, volume: Volume, name: str) -> None:
        """A persistent, recording bitmap in a qcow2 that nobody has open."""
        await self._qemu_img("bitmap", "--add", "-f", "qcow2", str(volume.path), name)

    async def remove_bitmap(self, volume: Volume, name: str) -> None:
        """Works on an inconsistent bitmap too; one that is not there is no error."""
        if volume.format == "raw" or name not in (await self.info(volume)).bitmaps:
            return
        await self._qemu_img("bitmap", "--remove", "-f", "qcow2", str(volume.path), name)

    async def _qemu_img(self, *argv: str) -> str:
        try:
            return (await self._processes.run("qemu-img", *argv)).stdout
        except CommandFailed as error:
            raise HypervisorError(str(error)) from error
