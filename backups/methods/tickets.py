# SPDX-License-Identifier: GPL-3.0-or-later
"""Losing a ticket in the middle of a transfer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from backups.transfer.errors import TransferDenied
from portal.ovirt.image_transfer import TransferFailed


@contextmanager
def ticket_may_end() -> Iterator[None]:
    """A refused ticket means that the Manager has paused or ended the transfer: TransferFailed, which may pass."""
    try:
        yield
    except TransferDenied as error:
        raise TransferFailed(
            "The Manager ended the image transfer while data was moving.",
            hint="Look at the Manager's events for the machine and the host: it may have been stopped.",
        ) from error
