# SPDX-License-Identifier: GPL-3.0-or-later
"""The transfer engine: bytes between ovirt-imageio and a repository, nothing staged in between."""

from backups.transfer.backup import backup_full, backup_incremental
from backups.transfer.checksum import checksum
from backups.transfer.endpoint import ImageEndpoint, Progress, TransferStats
from backups.transfer.errors import (
    DirtyExtentsUnavailable,
    DiskFull,
    SizeMismatch,
    TransferBroken,
    TransferDenied,
    TransferError,
)
from backups.transfer.restore import restore

__all__ = [
    "DirtyExtentsUnavailable",
    "DiskFull",
    "ImageEndpoint",
    "Progress",
    "SizeMismatch",
    "TransferBroken",
    "TransferDenied",
    "TransferError",
    "TransferStats",
    "backup_full",
    "backup_incremental",
    "checksum",
    "restore",
]
