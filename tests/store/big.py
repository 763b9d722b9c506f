# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes of very large disks, made up, and what working with them takes: `python -m tests.store.big TIB CHUNK_MIB COPIES`.

Writes COPIES indexes of a disk of TIB tebibytes (a thousandth of the chunks of each are its own), opens, iterates,
compares and digests them, collects garbage and looks for missing chunks. No chunk is stored: the names of those of
the first index are listed from one file. Prints one JSON object with seconds and the peak of the process's memory.
"""

import hashlib
import json
import multiprocessing
import os
import struct
import sys
import tempfile
import time
import uuid
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backups.store import PartialIndex, Repository
from backups.store.gc import collect
from backups.store.idset import PREFIXES
from backups.store.index import IndexReader
from backups.store.marking import needed_ids
from backups.store.verify import verify_points
from tests.store.support import DISK, ENVIRONMENT, VM

MIB, TIB = 1 << 20, 1 << 40
AT_ONCE = 4096


def main() -> None:
    size, chunk_size, copies = int(float(sys.argv[1]) * TIB), int(sys.argv[2]) * MIB, int(sys.argv[3])
    took: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("BIG_DIR")) as folder:
        repository = Repository.create(Path(folder) / "repository", owner="tests", gc_age_seconds=3600)
        with timed(took, "write"):
            paths = [publish(repository, size, chunk_size, copy) for copy in range(copies)]
        with timed(took, "iterate"), IndexReader.open(paths[-1]) as index:
            count = sum(1 for _ in index)
        with timed(took, "at random"), IndexReader.open(paths[-1]) as index:
            some = [index.chunk_id(number * 7919 % len(index)) for number in range(100_000)]
        with timed(took, "compare"), IndexReader.open(paths[0]) as one, IndexReader.open(paths[-1]) as other:
            differ = sum(a != b for a, b in zip(one, other, strict=True))
        with timed(took, "digest"), IndexReader.open(paths[0]) as index:
            index.digest_hex()
        with timed(took, "needed by all"):
            passes, needed = reachable(repository)
        listed = list_chunks(repository, Path(folder) / "listing", count)
        with timed(took, "collect"):
            collected = collect(repository, older_than_seconds=3600)
        with timed(took, "verify's listing"):
            results = list(verify_points(repository))
    told = {
        "entries": count,
        "indexes": copies,
        "differ": differ,
        "looked_at": len(set(some)),
        "needed": needed,
        "passes": passes,
        "listed": listed,
        "used": collected.chunks_used,
        "removed": collected.chunks_removed,
        "missing": sorted(len(result.missing) for result in results),
        "peak_mib": round(peak_mib(), 1),
        "seconds": {key: round(value, 2) for key, value in took.items()},
    }
    print(json.dumps(told))


def publish(repository: Repository, size: int, chunk_size: int, copy: int) -> Path:
    """A published point whose chunks were never stored."""
    staged = repository.stage_point(ENVIRONMENT, VM, uuid.uuid5(uuid.NAMESPACE_OID, str(copy)))
    index = staged.disk_index(DISK, size, chunk_size)
    fill(index, copy)
    return staged.publish({}, still_owner=lambda: True).index_path(DISK)


def fill(index: PartialIndex, copy: int) -> None:
    """Ids as good as hashes; those of every thousandth chunk differ from copy to copy."""
    for first in range(0, len(index), AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, len(index)))
        index.set_run(first, [made_up(number, copy if number % 1000 == 0 else 0) for number in numbers])


def made_up(number: int, copy: int) -> bytes:
    return hashlib.sha256(struct.pack("<QQ", number, copy)).digest()


def list_chunks(repository: Repository, listing: Path, count: int) -> int:
    """Let the repository list the chunks of the first index, from a file that another process sorts."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=write_listing, args=(listing, count))
    process.start()
    process.join()
    assert process.exitcode == 0
    starts = array("Q", (listing.with_suffix(".starts")).read_bytes())
    file = listing.open("rb")

    def names_under(prefix: str) -> Iterator[bytes]:
        number = int(prefix, 16)
        content = os.pread(file.fileno(), starts[number + 1] - starts[number], starts[number])
        for at in range(0, len(content), 32):
            yield content[at : at + 32]

    repository.chunks.names_under = names_under
    repository.chunks.prefixes = lambda: (f"{number:04x}" for number in range(PREFIXES))
    return sum(1 for number in range(PREFIXES) for _ in names_under(f"{number:04x}"))


def write_listing(listing: Path, count: int) -> None:
    buckets = [bytearray() for _ in range(PREFIXES)]
    for number in range(count):
        chunk_id = made_up(number, 0)
        buckets[chunk_id[0] << 8 | chunk_id[1]] += chunk_id
    starts = array("Q", [0])
    with listing.open("wb") as file:
        for bucket in buckets:
            starts.append(starts[-1] + file.write(bucket))
    listing.with_suffix(".starts").write_bytes(starts.tobytes())


def reachable(repository: Repository) -> tuple[int, int]:
    """(passes, different ids), as a collection computes them."""
    first = passes = total = 0
    while first < PREFIXES:
        _, needed = needed_ids(repository, first=first)
        total += len(needed)
        first = needed.end
        passes += 1
        del needed
    return passes, total


def peak_mib() -> float:
    """Of this program alone; getrusage would count the process that started it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


@contextmanager
def timed(took: dict[str, float], what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    took[what] = time.monotonic() - began


if __name__ == "__main__":
    main()
