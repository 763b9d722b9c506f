# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that restore a disk by hand, without the portal (docs/store-format.md)."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath

from backups.models import RestorePoint, RestorePointDisk


@dataclass(frozen=True)
class DiskCommand:
    disk: RestorePointDisk
    command: str


def casync_commands(point: RestorePoint, disks: list[RestorePointDisk]) -> list[DiskCommand]:
    """One `casync extract` for each disk, ready to paste."""
    root = PurePosixPath(point.repository.path)
    folder = root / "points" / point.ref.environment_uuid / point.ref.vm_id / point.ref.point_uuid
    return [
        DiskCommand(
            disk,
            shlex.join(
                [
                    "casync",
                    "extract",
                    f"--store={root / 'chunks'}",
                    str(folder / disk.index_file),
                    _file_name(disk.alias),
                ]
            ),
        )
        for disk in disks
    ]


def _file_name(alias: str) -> str:
    """A file in the current folder, named after the disk; never an option, another folder or a control character."""
    plain = "".join(letter if letter.isprintable() and letter != "/" else "_" for letter in alias)
    return f"./{plain}.raw" if plain.startswith("-") else f"{plain}.raw"
