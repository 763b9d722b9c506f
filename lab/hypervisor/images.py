# SPDX-License-Identifier: GPL-3.0-or-later
"""Image files that no process has open: everything `qemu-img` does for the lab."""

import json
from pathlib import Path

from lab.hypervisor.model import HypervisorError, Volume, VolumeInfo
from lab.processes import CommandFailed, ProcessGroup


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
