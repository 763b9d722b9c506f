# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk with real data: an ext4 file system in a qcow2, filled with files of this very machine."""

import hashlib
import os
import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ovirt_imageio import client

MIB = 1 << 20
GIB = 1 << 30
CHANGE_BYTES = 64 << 10
SEED = 20


class NotEnoughFiles(Exception):
    """This machine has fewer bytes of readable files under the given folders than the disk should hold."""


def run(*argv: str | Path, stdin: str | None = None) -> str:
    """Run a program; its output. Raises RuntimeError with what it said."""
    done = subprocess.run([str(each) for each in argv], input=stdin, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{argv[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def build(path: Path, data_bytes: int, roots: Sequence[Path]) -> None:
    """Make the qcow2 `path` with `data_bytes` of files in it; half of the file system stays empty."""
    tree, raw = path.with_suffix(".tree"), path.with_suffix(".raw")
    shutil.rmtree(tree, ignore_errors=True)
    try:
        for source in sample(data_bytes, roots):
            target = tree / source.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        with raw.open("wb") as stream:
            stream.truncate(-(-2 * data_bytes // GIB) * GIB)
        run("mkfs.ext4", "-q", "-F", "-L", "bench", "-d", tree, raw)
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "compat=1.1", raw, path)
    finally:
        shutil.rmtree(tree, ignore_errors=True)
        raw.unlink(missing_ok=True)


def sample(data_bytes: int, roots: Sequence[Path]) -> list[Path]:
    """Files from all over `roots`, each once, together about `data_bytes`, the same ones at every call.

    No file is more than an eighth of the whole: one large library must not decide the result.
    """
    found = [each for root in roots for each in files_under(root) if each[1] <= data_bytes // 8]
    found.sort(key=lambda each: hashlib.sha256(os.fsencode(each[0])).digest())
    chosen: list[Path] = []
    size = 0
    for path, length in found:
        if size >= data_bytes:
            return chosen
        chosen.append(path)
        size += length
    if size < data_bytes:
        raise NotEnoughFiles(
            f"Only {size // MIB} MiB of files were found under {', '.join(map(str, roots))}: name more folders."
        )
    return chosen


def files_under(root: Path) -> list[tuple[Path, int]]:
    """(path, size) of the readable ordinary files, hard links once."""
    found: dict[int, tuple[Path, int]] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
                continue
            status = path.stat()
            found.setdefault(status.st_ino, (path, status.st_size))
    return list(found.values())


def data_extents(path: Path, bitmap: str | None = None) -> list[tuple[int, int]]:
    """(start, length) of what holds data; with `bitmap` of what is dirty."""
    found = client.extents(str(path), bitmap=bitmap)
    return [(e.start, e.length) for e in found if (e.dirty if bitmap else not e.zero)]


def data_bytes(path: Path, bitmap: str | None = None) -> int:
    return sum(length for _, length in data_extents(path, bitmap))


def change(path: Path, share: float) -> int:
    """Write `share` of the data anew in scattered blocks of 64 KiB; how many. The new content is from elsewhere
    on the same disk, so that it compresses like the rest."""
    places = [
        at
        for start, length in data_extents(path)
        for at in range(-(-start // CHANGE_BYTES) * CHANGE_BYTES, start + length - CHANGE_BYTES, CHANGE_BYTES)
    ]
    wanted = max(1, round(data_bytes(path) * share / CHANGE_BYTES))
    chance = random.Random(SEED)
    targets, sources = chance.sample(places, wanted), chance.sample(places, wanted)
    raw, block = path.with_suffix(".raw"), path.with_suffix(".block")
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
    try:
        commands = []
        with raw.open("rb") as disk, block.open("wb") as blocks:
            for number, (target, source) in enumerate(zip(targets, sources, strict=True)):
                # One byte of its own in each: what was there before must not come back by chance.
                blocks.write(number.to_bytes(8, "big") + os.pread(disk.fileno(), CHANGE_BYTES, source)[8:])
                commands.append(f"write -q -s {block}.{number} {target} {CHANGE_BYTES}")
        _write_blocks(path, block, commands)
    finally:
        raw.unlink(missing_ok=True)
        block.unlink(missing_ok=True)
    return wanted


def _write_blocks(path: Path, blocks: Path, commands: Sequence[str]) -> None:
    parts = []
    with blocks.open("rb") as stream:
        for number in range(len(commands)):
            part = Path(f"{blocks}.{number}")
            part.write_bytes(stream.read(CHANGE_BYTES))
            parts.append(part)
    try:
        run("qemu-io", "-f", "qcow2", path, stdin="\n".join(commands) + "\n")
    finally:
        for part in parts:
            part.unlink()


def digest(path: Path, block_size: int) -> str:
    """What a restore point's index of an equal disk answers as its digest."""
    return str(client.checksum(str(path), block_size=block_size, algorithm="sha256")["checksum"])
