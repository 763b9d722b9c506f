# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hypervisor is asked about, and how it says no."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Volume:
    """One image file. `format` in the Manager's words (`cow` is qcow2); `virtual_size` in bytes.

    `below`: the volumes of older snapshots that it lies on, the base first."""

    disk_id: str
    volume_id: str
    path: Path
    format: Literal["raw", "cow"]
    virtual_size: int
    sparse: bool
    below: tuple["Volume", ...] = ()

    @property
    def chain(self) -> tuple["Volume", ...]:
        """All volumes of the disk, the base first, this one last."""
        return (*self.below, self)

    @property
    def driver(self) -> str:
        """The format in QEMU's words."""
        return "qcow2" if self.format == "cow" else "raw"


@dataclass(frozen=True)
class VolumeInfo:
    """What `qemu-img info` tells. Sizes in bytes; `bitmaps`: name → flags, of `auto` and `in-use`.

    While a VM runs its bitmaps are all `in-use` and the newest ones are not in the file yet."""

    virtual_size: int
    actual_size: int
    bitmaps: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class LiveBackupDisk:
    """One disk of a live backup. `from_bitmap`: what changed since that checkpoint; `add_bitmap`: begin a new
    one (qcow2 only); `scratch_room`: the bytes that its scratch disk may take, if there is a limit."""

    volume: Volume
    from_bitmap: str | None
    add_bitmap: bool
    scratch_room: int | None = None


class HypervisorError(Exception):
    """A process refused or died; the text holds its own words."""


class BitmapBroken(Exception):
    """The bitmap that a backup starts from is missing, inconsistent or busy."""

    def __init__(self, disk_id: str, bitmap: str, reason: str = "") -> None:
        self.disk_id = disk_id
        self.bitmap = bitmap
        super().__init__(f"bitmap {bitmap} of disk {disk_id} cannot be used: {reason or 'unknown reason'}")
