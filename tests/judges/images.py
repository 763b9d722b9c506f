# SPDX-License-Identifier: GPL-3.0-or-later
"""What the images of disks really hold, by QEMU's tools and imageio's checksum."""

import subprocess
from pathlib import Path

from ovirt_imageio import client as imageio
from ovirtsdk4 import types

from tests.lab_api.support import Client
from tests.lab_support import RunningLab


def volume_file(lab: RunningLab, client: Client, disk_id: str) -> tuple[Path, str]:
    """The image file in the lab's storage, and its format in QEMU's words."""
    disk = client.system.disks_service().disk_service(disk_id).get()
    path = lab.dir / "storage" / disk.storage_domains[0].id / disk.id / disk.image_id
    return path, "qcow2" if disk.format == types.DiskFormat.COW else "raw"


def assert_equal(one: Path, two: Path, formats: tuple[str, str]) -> None:
    argv = ["qemu-img", "compare", "-f", formats[0], "-F", formats[1], str(one), str(two)]
    result = subprocess.run(argv, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def file_checksum(path: Path) -> str:
    return str(imageio.checksum(str(path))["checksum"])
