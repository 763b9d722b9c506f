# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong between us and ovirt-imageio. Messages never contain a URL: it carries the ticket."""

from __future__ import annotations

from portal.errors import PortalError


class TransferError(PortalError):
    """Something about moving a disk's bytes; the subclasses say what."""


class TransferDenied(TransferError):
    """403: the ticket is gone, expired or does not allow this. The Manager must be asked for a new transfer."""


class TransferBroken(TransferError):
    """Network, short read, or an error inside the image server; a new attempt goes on where this one stopped."""

    retryable = True


class DirtyExtentsUnavailable(TransferError):
    """404: this transfer has no dirty bitmap, so only a full read is possible."""


class DiskFull(TransferError):
    """The disk's storage on the Manager's side has no space left for what is restored."""


class SizeMismatch(TransferError):
    """The disk is not of the size that the index has; it was resized, or it is another disk."""
