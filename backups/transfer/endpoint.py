# SPDX-License-Identifier: GPL-3.0-or-later
"""What a transfer is given and what it tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class ImageEndpoint:
    """Where the bytes are. The URLs carry the ticket: they are secrets, never logged, and not in the repr.

    `ca_file` None trusts the system's authorities. `max_connections` caps what the server allows.
    """

    transfer_url: str = field(repr=False)
    proxy_url: str | None = field(repr=False)
    ca_file: Path | None
    max_connections: int = 4


@dataclass(frozen=True)
class TransferStats:
    """What one transfer did, in bytes and chunks.

    `bytes_total`: allocated or dirty data that was planned (by this run: a resumed one plans the rest).
    `bytes_read`: bytes fetched from the Manager; in a restore, bytes sent to it.
    `bytes_stored`: compressed bytes of new chunks. `dirty_bytes`: what the dirty bitmap covers, zero or not.
    """

    bytes_total: int
    bytes_read: int
    bytes_stored: int
    chunks_new: int
    chunks_reused: int
    dirty_bytes: int
    via: str


class Progress(Protocol):
    """Told of progress, always from the thread that called the transfer, a few times a second even when
    nothing moves (`advance(0)`). Either may raise (cancel, lost claim): the transfer stops, closes its
    connections, and the exception comes out unchanged."""

    def plan(self, bytes_total: int) -> None: ...

    def advance(self, bytes_done: int) -> None: ...
