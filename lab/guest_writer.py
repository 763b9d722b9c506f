# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that keeps writing inside a running guest: `python -m lab.guest_writer`.

One block at a time, at places that follow from its sequence number, through the writable NBD export of the
guest's disk. Each finished write is a line of JSON in the journal: `seq`, `offset` (bytes from the beginning of
the disk), `length`, `started` and `finished` (seconds since 1970) and `sha256` of the block. Going on with an
existing journal continues its numbering. SIGTERM ends it between two blocks.
"""

import argparse
import hashlib
import json
import os
import signal
import struct
import sys
import time
from pathlib import Path

from lab.nbd_client import NbdClient, NbdError

MAGIC = b"OVBPSEQ1"
HEADER_BYTES = 16
FLUSH_EVERY = 64
STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}


def block_content(seq: int, block_size: int) -> bytes:
    """The block number `seq`: 8 bytes magic, `seq` as little-endian uint64, then bytes that follow from `seq`.

    The first half does not compress, the second half does. `block_size` at least 16 bytes."""
    header = MAGIC + struct.pack("<Q", seq)
    noise = hashlib.shake_128(header).digest(max(block_size // 2 - HEADER_BYTES, 0))
    line = b"entry %020d of the guest's journal\n" % seq
    text = line * (block_size // len(line) + 1)
    return (header + noise + text)[:block_size]


def block_seq(block: bytes) -> int | None:
    """The sequence number in a block's first 16 bytes; None if the writer never wrote it."""
    if block[:8] != MAGIC:
        return None
    return int(struct.unpack("<Q", block[8:HEADER_BYTES])[0])


def block_offset(seq: int, area_offset: int, area_length: int, block_size: int) -> int:
    """Where the block number `seq` is written, in bytes from the beginning of the disk."""
    digest = hashlib.sha256(b"place" + struct.pack("<Q", seq)).digest()
    index = int.from_bytes(digest[:8], "little") % (area_length // block_size)
    return area_offset + index * block_size


def next_seq(journal: Path) -> int:
    """One more than the last whole line of the journal tells; 1 without a journal."""
    last = 0
    if journal.exists():
        with journal.open("rb") as stream:
            stream.seek(max(stream.seek(0, os.SEEK_END) - 4096, 0))
            lines = stream.read().split(b"\n")[:-1]
        for line in lines:
            try:
                last = max(last, int(json.loads(line)["seq"]))
            except (ValueError, KeyError, TypeError):
                continue
    return last + 1


def write_forever(client: NbdClient, options: argparse.Namespace) -> None:
    """Write until SIGTERM or SIGINT (both must be blocked), which are taken between two blocks."""
    seq = next_seq(options.journal)
    _end_torn_line(options.journal)
    with options.journal.open("ab", buffering=0) as journal:
        while signal.sigtimedwait(STOP_SIGNALS, options.interval) is None:
            data = block_content(seq, options.block_size)
            offset = block_offset(seq, options.area_offset, options.area_length, options.block_size)
            started = time.time()
            client.write(offset, data)
            journal.write(_line(seq, offset, data, started))
            if seq % FLUSH_EVERY == 0:
                client.flush()
            seq += 1
    client.flush()


def _line(seq: int, offset: int, data: bytes, started: float) -> bytes:
    entry = {
        "seq": seq,
        "offset": offset,
        "length": len(data),
        "started": started,
        "finished": time.time(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def _end_torn_line(journal: Path) -> None:
    """A writer that was killed may have left half a line: drop it, so that the next one begins at a line."""
    if journal.exists():
        content = journal.read_bytes()
        if content and not content.endswith(b"\n"):
            os.truncate(journal, content.rfind(b"\n") + 1)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.guest_writer")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--export", required=True)
    parser.add_argument("--area-offset", type=int, required=True)
    parser.add_argument("--area-length", type=int, required=True)
    parser.add_argument("--block-size", type=int, required=True)
    parser.add_argument("--interval", type=float, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    options = parser.parse_args(arguments)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        with NbdClient(options.socket, options.export) as client:
            write_forever(client, options)
    except (NbdError, OSError) as error:
        print(f"the guest's disk is gone: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
