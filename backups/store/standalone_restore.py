# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a disk of a restore point into a raw image file. Needs Python 3.7 or later and the program `zstd`.

    python3 restore.py points/ENVIRONMENT/VM/POINT/DISK.caibx disk.raw

Every chunk's SHA-256 is checked; the first damaged or missing chunk ends the script with exit code 1.
`--chunks FOLDER` names the chunk folder if it is not the one beside this script.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HEADER = struct.Struct("<8Q")
ITEM = struct.Struct("<Q32s")
TAIL_BYTES = 40


class Damaged(Exception):
    """Something in the repository is not as it should be."""


def read_index(path: Path) -> Iterator[tuple[int, int, str]]:
    """Yield (start, stop, hex id) of each chunk of a `.caibx` file."""
    with path.open("rb") as file:
        head = file.read(HEADER.size)
        if len(head) < HEADER.size:
            raise Damaged(f"{path} is too short for an index")
        fields = HEADER.unpack(head)
        if fields[0] != 48 or fields[1] != 0x96824D9C7B129FF9 or fields[7] != 0xE75B9E112F17417D:
            raise Damaged(f"{path} is not a casync index")
        if fields[2] & 0x2000000000000000:
            raise Damaged(f"{path} has chunks named by SHA-512/256")
        count, rest = divmod(path.stat().st_size - HEADER.size - TAIL_BYTES, ITEM.size)
        if count < 0 or rest:
            raise Damaged(f"{path} has a wrong length")
        start = 0
        for _ in range(count):
            stop, digest = ITEM.unpack(file.read(ITEM.size))
            if not start < stop <= start + fields[5]:
                raise Damaged(f"{path} has chunks out of order")
            yield start, stop, digest.hex()
            start = stop


def read_chunk(folder: Path, name: str, size: int) -> bytes:
    """The content of a chunk, checked."""
    path = folder / name[:4] / f"{name}.cacnk"
    if not path.exists():
        raise Damaged(f"chunk {name} is missing")
    done = subprocess.run(["zstd", "-dcq", str(path)], stdout=subprocess.PIPE, check=False)
    if done.returncode != 0 or len(done.stdout) != size:
        raise Damaged(f"chunk {name} cannot be decompressed to {size} bytes")
    if hashlib.sha256(done.stdout).hexdigest() != name:
        raise Damaged(f"chunk {name} is damaged")
    return done.stdout


def restore(index: Path, folder: Path, output: Path) -> int:
    """Write the image and return its size in bytes; chunks that are all zero become holes."""
    zero_names = {}
    size = 0
    with output.open("wb") as image:
        for start, stop, name in read_index(index):
            size = stop
            length = stop - start
            if length not in zero_names:
                zero_names[length] = hashlib.sha256(bytes(length)).hexdigest()
            if name != zero_names[length]:
                image.seek(start)
                image.write(read_chunk(folder, name, length))
        image.truncate(size)
        image.flush()
        os.fsync(image.fileno())
    return size


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write a disk of a restore point into a raw image file.")
    parser.add_argument("index", type=Path, help="the disk's .caibx file")
    parser.add_argument("output", type=Path, help="the raw image to write; an existing file is replaced")
    beside = Path(__file__).resolve().parent / "chunks"
    parser.add_argument("--chunks", type=Path, default=beside, help="chunk folder (%(default)s)")
    arguments = parser.parse_args()
    try:
        size = restore(arguments.index, arguments.chunks, arguments.output)
    except (Damaged, OSError) as error:
        sys.stderr.write(f"restore.py: {error}\n")
        return 1
    sys.stdout.write(f"{arguments.output}: {size} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
