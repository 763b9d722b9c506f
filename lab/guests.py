# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's machines: what they are called, which disks they have, what is on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lab.guest_disks import DiskLayout, Partition, WriterArea, build_image
from lab.processes import ProcessGroup

MIB = 1 << 20
GIB = 1 << 30
# Makes a size that is no multiple of 1 MiB, but of the 4 KiB that file systems and imageio work with.
ODD_BYTES = 548 << 10
WRITER_MIB = 64


@dataclass(frozen=True)
class GuestSpec:
    """A program inside a running guest that keeps writing into one area of one disk.

    Offset, length and block size in bytes; each finished write is told in `journal`, a line of JSON each.
    """

    writer_disk_id: str
    area_offset: int
    area_length: int
    block_size: int
    interval_seconds: float
    journal: Path


@dataclass(frozen=True)
class GuestDisk:
    """A disk that has been built: an image file. `writer_area` is the partition its guest keeps writing to."""

    path: Path
    format: Literal["raw", "cow"]
    virtual_size: int
    sparse: bool
    description: str
    writer_area: WriterArea | None


@dataclass(frozen=True)
class PlannedDisk:
    """A disk to be built; `kind` names it for `build_guest_disk`. `virtual_size` in bytes."""

    kind: str
    alias: str
    format: Literal["raw", "cow"]
    virtual_size: int
    sparse: bool
    description: str
    bootable: bool
    writer: bool


@dataclass(frozen=True)
class GuestMachine:
    """A virtual machine as the Manager should know it. `memory` in bytes; the first disk is the boot disk."""

    name: str
    up: bool
    disks: Sequence[PlannedDisk]
    memory: int
    cpus: int
    description: str
    tags: Sequence[str]
    writer_block_size: int = 64 << 10
    writer_interval_seconds: float = 0.05


@dataclass(frozen=True)
class Profile:
    """Sizes of a lab. `data_mib`: how much of this machine's own files goes onto an ordinary file system, and
    `web_data_mib` onto that of web-01."""

    name: str
    data_mib: int
    web_data_mib: int
    system_mib: int
    web_system_mib: int
    virtual_size: int
    web_virtual_size: int


PROFILES = {
    "small": Profile("small", 20, 24, 256, 320, 1 * GIB, 1 * GIB),
    "demo": Profile("demo", 60, 600, 512, 4096, 2 * GIB, 6 * GIB),
}


def guest_machines(profile: str = "small") -> list[GuestMachine]:
    """The machines of a profile, the first of them up. Raises KeyError for an unknown profile."""
    sizes = PROFILES[profile]
    plain, web = sizes.virtual_size, sizes.web_virtual_size
    return [
        GuestMachine(
            "web-01",
            True,
            (_disk("web-system", "web-01_disk1", web, "Web server and its files", boot=True, writer=True),),
            2 * GIB,
            2,
            "Front web server; a program in it never stops writing",
            ("production", "web"),
        ),
        GuestMachine(
            "db-01",
            True,
            (
                _disk("db-system", "db-01_disk1", plain, "System", boot=True),
                _disk("db-data", "db-01_data", plain, "Tables and log, XFS", writer=True),
            ),
            4 * GIB,
            4,
            "Database with a data disk of its own",
            ("production", "database"),
            writer_block_size=16 << 10,
        ),
        GuestMachine(
            "legacy-01",
            False,
            (
                _disk(
                    "legacy-system", "legacy-01_disk1", plain + ODD_BYTES, "System, raw", boot=True, raw=True
                ),
            ),
            1 * GIB,
            1,
            "Old machine with a raw disk",
            ("legacy",),
        ),
        GuestMachine(
            "files-01",
            False,
            (_disk("files-data", "files-01_disk1", plain, "Shared files, ext4 and FAT", boot=True),),
            2 * GIB,
            2,
            "File server, switched off at night",
            ("office",),
        ),
        GuestMachine(
            "mail-01",
            True,
            (
                _disk("mail-system", "mail-01_disk1", plain, "System and queue", boot=True, writer=True),
                _disk("mail-archive", "mail-01_archive", plain, "Archive, raw", raw=True),
            ),
            2 * GIB,
            2,
            "Mail server with a qcow2 and a raw disk",
            ("production", "office"),
        ),
    ]


def _disk(
    kind: str,
    alias: str,
    virtual_size: int,
    description: str,
    *,
    boot: bool = False,
    writer: bool = False,
    raw: bool = False,
) -> PlannedDisk:
    return PlannedDisk(kind, alias, "raw" if raw else "cow", virtual_size, True, description, boot, writer)


def _partitions(kind: str, sizes: Profile) -> list[Partition]:
    system, data = sizes.system_mib, sizes.data_mib * MIB
    writer = Partition("writer", "guest-writes", WRITER_MIB)
    match kind:
        case "web-system":
            roots = ("/usr/share", "/usr/lib", "/usr/bin")
            return [Partition("ext4", "root", sizes.web_system_mib, sizes.web_data_mib * MIB, roots), writer]
        case "db-system":
            return [Partition("ext4", "root", system, data, ("/usr/bin", "/usr/lib", "/usr/share"))]
        case "db-data":
            # mkfs.xfs refuses anything smaller than 300 MiB.
            return [Partition("xfs", "tables", max(system, 320), data, ("/usr/lib", "/usr/share")), writer]
        case "legacy-system":
            return [Partition("ext4", "root", system, data, ("/usr/share/doc", "/usr/share", "/usr/lib"))]
        case "files-data":
            return [
                Partition("ext4", "files", system, data, ("/usr/share", "/usr/lib")),
                Partition("vfat", "EXCHANGE", 64, min(data, 8 * MIB), ("/usr/share/doc",)),
            ]
        case "mail-system":
            return [
                Partition("ext4", "root", system, data, ("/usr/lib/python3", "/usr/lib", "/usr/bin")),
                writer,
            ]
        case "mail-archive":
            return [Partition("ext4", "archive", system, data, ("/usr/share/doc", "/usr/share"))]
    raise KeyError(kind)


def guest_layout(kind: str, profile: str = "small") -> DiskLayout:
    """How a disk is divided. Raises KeyError for an unknown kind or profile."""
    planned = _planned(kind, profile)
    partitions = _partitions(kind, PROFILES[profile])
    hostname = planned.alias.partition("_")[0]
    return DiskLayout(hostname, planned.virtual_size, planned.format, planned.sparse, partitions)


def _planned(kind: str, profile: str) -> PlannedDisk:
    for machine in guest_machines(profile):
        for disk in machine.disks:
            if disk.kind == kind:
                return disk
    raise KeyError(kind)


async def build_guest_disk(
    kind: str, path: Path, processes: ProcessGroup, *, profile: str = "small"
) -> GuestDisk:
    """Build the disk `kind` of `guest_machines(profile)` as a new image at `path`, without any privilege.

    Scratch files lie beside `path` while it is being built. Raises CommandFailed and KeyError."""
    planned = _planned(kind, profile)
    area = await build_image(guest_layout(kind, profile), path, processes)
    return GuestDisk(path, planned.format, planned.virtual_size, planned.sparse, planned.description, area)


def guest_spec(machine: GuestMachine, disk_id: str, disk: GuestDisk, journal: Path) -> GuestSpec | None:
    """The writer of a machine for its built writer disk; None for a disk that has no area for it."""
    if disk.writer_area is None:
        return None
    return GuestSpec(
        writer_disk_id=disk_id,
        area_offset=disk.writer_area.offset,
        area_length=disk.writer_area.length,
        block_size=machine.writer_block_size,
        interval_seconds=machine.writer_interval_seconds,
        journal=journal,
    )
