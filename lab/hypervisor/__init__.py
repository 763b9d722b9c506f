# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs, disks and bitmaps: real images in real QEMU processes, without any privilege."""

from lab.hypervisor.hypervisor import Hypervisor
from lab.hypervisor.model import (
    BitmapBroken,
    HypervisorError,
    LiveBackupDisk,
    Volume,
    VolumeInfo,
)

__all__ = [
    "BitmapBroken",
    "Hypervisor",
    "HypervisorError",
    "LiveBackupDisk",
    "Volume",
    "VolumeInfo",
]
