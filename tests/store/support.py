# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of the repository share: content, points made from it, and the judges casync and restore.py."""

import os
import random
import subprocess
import uuid
from pathlib import Path

from backups.store import ChunkWriter, PointRef, Repository, StoredPoint

MIB = 1 << 20
ENVIRONMENT = "0e3fe1c4-3f0c-4d3e-9d5c-0d3b3cdb4f01"
VM = "7b1f1d5e-2a60-4a3e-8f39-56c1b5a9e002"
DISK = "c0ffee00-1111-4222-8333-444455556666"


def content_of(size: int, *, seed: int = 1, zero_from: int = 0, zero_to: int = 0) -> bytes:
    """Reproducible bytes, incompressible in the first half and compressible in the second."""
    half = size // 2
    noise = random.Random(seed).randbytes(half)
    text = (b"%08d some text of a log file\n" % seed) * (size // 20)
    data = bytearray((noise + text)[:size])
    data[zero_from:zero_to] = bytes(zero_to - zero_from)
    return bytes(data)


def store_disk(
    repository: Repository, staged, data: bytes, *, disk: str = DISK, chunk_size: int = MIB, source=""
):
    """Put `data` into the staged point as one disk."""
    index = staged.disk_index(disk, len(data), chunk_size, source=source)
    with ChunkWriter(repository.chunks) as writer:
        for number in index.missing():
            start = number * chunk_size
            writer.add(index, number, memoryview(data)[start : start + chunk_size])
    return index


def publish_point(repository: Repository, data: bytes, *, point: str | None = None, **kwargs) -> StoredPoint:
    staged = repository.stage_point(ENVIRONMENT, VM, point or str(uuid.uuid4()))
    store_disk(repository, staged, data, **kwargs)
    staged.write_text("vm.ovf", b"<Envelope/>")
    return staged.publish({"taken_at": "2026-01-02T03:04:05Z"}, still_owner=lambda: True)


def ref_of(point: StoredPoint) -> PointRef:
    folder = point.folder
    return PointRef(folder.parent.parent.name, folder.parent.name, folder.name)


def casync_extract(repository: Repository, index: Path, out: Path) -> bytes:
    """Debian's casync, told only where the chunks are."""
    argv = ["casync", "extract", f"--store={repository.path}/chunks", str(index), str(out)]
    subprocess.run(argv, check=True, capture_output=True, timeout=120)
    return out.read_bytes()


def chunk_files(repository: Repository) -> list[Path]:
    return sorted((repository.path / "chunks").glob("*/*.cacnk"))


def make_old(path: Path, seconds: float) -> None:
    stamp = path.stat().st_mtime - seconds
    os.utime(path, (stamp, stamp))
