# SPDX-License-Identifier: GPL-3.0-or-later
"""Equality of a Manager's disk and an index, without moving the disk's bytes."""

from __future__ import annotations

from backups.transfer.connection import Connection, connect, explained
from backups.transfer.endpoint import ImageEndpoint, Progress
from backups.transfer.workers import Crew, Tally


def checksum(endpoint: ImageEndpoint, *, block_size: int, progress: Progress | None = None) -> str:
    """The image server's SHA-256 of the disk in hex, equal to `IndexReader.digest_hex()` of an equal disk.

    `block_size` is the index's chunk size. May take as long as reading the disk; `progress.advance(0)` is called
    meanwhile and may raise to stop it. It counts as a full read, so an old server may end the transfer after it:
    ask for it last. Raises TransferError.
    """
    found: list[str] = []

    def ask(connection: Connection) -> None:
        found.append(connection.checksum(block_size=block_size))

    connection = connect(endpoint)
    crew = Crew(connection, threads=1, jobs=iter((block_size,)), prepare=lambda each: lambda _: ask(each))
    with explained(endpoint):
        crew.run(progress or _Silent(), Tally())
    return found[0]


class _Silent:
    """For callers that do not want to be told."""

    def plan(self, bytes_total: int) -> None:
        """Nothing to tell."""

    def advance(self, bytes_done: int) -> None:
        """Nothing to tell."""
