# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds disk images as an ordinary user: a GPT, real file systems, and files of this very machine in them."""

import asyncio
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lab.processes import ProcessGroup

MIB = 1 << 20
SECTOR = 512
LINUX_DATA = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
BASIC_DATA = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
MAX_FILES = 6000
COPY_BYTES = 8 * MIB


@dataclass(frozen=True)
class Partition:
    """`data_bytes` of files from `roots` go into the file system; a `writer` partition has no file system."""

    kind: Literal["ext4", "xfs", "vfat", "writer"]
    label: str
    size_mib: int
    data_bytes: int = 0
    roots: Sequence[str] = ()

    @property
    def gpt_type(self) -> str:
        return BASIC_DATA if self.kind == "vfat" else LINUX_DATA


@dataclass(frozen=True)
class DiskLayout:
    """A whole disk; partitions follow each other from 1 MiB on, aligned to 1 MiB."""

    hostname: str
    virtual_size: int
    format: Literal["raw", "cow"]
    sparse: bool
    partitions: Sequence[Partition]

    def offsets(self) -> list[int]:
        """Where each partition begins, in bytes."""
        offsets, position = [], MIB
        for partition in self.partitions:
            offsets.append(position)
            position += partition.size_mib * MIB
        return offsets


@dataclass(frozen=True)
class WriterArea:
    """Where a guest may write without touching a file system; bytes from the beginning of the disk."""

    offset: int
    length: int


async def build_image(layout: DiskLayout, path: Path, processes: ProcessGroup) -> WriterArea | None:
    """Write the disk to `path`, raw or qcow2; returns the area of its `writer` partition. Raises CommandFailed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".build-", dir=path.parent))
    area = None
    try:
        raw = work / "disk.raw"
        await _partition(layout, raw, processes)
        for number, (offset, partition) in enumerate(zip(layout.offsets(), layout.partitions, strict=True)):
            if partition.kind == "writer":
                area = WriterArea(offset, partition.size_mib * MIB)
                continue
            image = await _file_system(layout.hostname, partition, work / f"part{number}", processes)
            await asyncio.to_thread(copy_sparse, image, raw, offset)
            image.unlink()
        await _finish(layout, raw, path, processes)
    finally:
        await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
    return area


async def _partition(layout: DiskLayout, raw: Path, processes: ProcessGroup) -> None:
    with raw.open("wb") as stream:
        stream.truncate(layout.virtual_size)
    lines = ["label: gpt"]
    for offset, partition in zip(layout.offsets(), layout.partitions, strict=True):
        size = partition.size_mib * MIB // SECTOR
        lines.append(
            f'start={offset // SECTOR}, size={size}, type={partition.gpt_type}, name="{partition.label}"'
        )
    await processes.run(
        "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(raw), input="\n".join(lines)
    )


async def _finish(layout: DiskLayout, raw: Path, path: Path, processes: ProcessGroup) -> None:
    if layout.format == "raw" and layout.sparse:
        raw.rename(path)
        return
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2" if layout.format == "cow" else "raw"]
    options = ["compat=1.1"] if layout.format == "cow" else []
    if not layout.sparse:
        options.append("preallocation=falloc")
    await processes.run(*argv, "-o", ",".join(options), str(raw), str(path))


async def _file_system(hostname: str, partition: Partition, work: Path, processes: ProcessGroup) -> Path:
    """An image of the partition, as large as the partition."""
    tree = work / "tree"
    tree.mkdir(parents=True)
    await asyncio.to_thread(fill_tree, tree, hostname, partition)
    image = work / "image"
    with image.open("wb") as stream:
        stream.truncate(partition.size_mib * MIB)
    if partition.kind == "ext4":
        await processes.run("mkfs.ext4", "-q", "-F", "-L", partition.label, "-d", str(tree), str(image))
    elif partition.kind == "xfs":
        protofile = work / "protofile"
        protofile.write_text(xfs_protofile(tree))
        await processes.run("mkfs.xfs", "-q", "-L", partition.label, "-p", str(protofile), str(image))
    else:
        await processes.run("mkfs.vfat", "-n", partition.label, str(image))
        top = [str(entry) for entry in sorted(tree.iterdir())]
        await processes.run("mcopy", "-s", "-Q", "-i", str(image), *top, "::/")
    await asyncio.to_thread(shutil.rmtree, tree)
    return image


def fill_tree(tree: Path, hostname: str, partition: Partition) -> None:
    """Copy files of this machine under `tree` until there are `data_bytes` of them, and write a few of its own."""
    _write(
        tree / "README.txt", f"{partition.label} of {hostname}\nThis disk was made for trying things out.\n"
    )
    if partition.kind == "ext4":
        _write(tree / "etc/hostname", f"{hostname}\n")
        _write(tree / "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {hostname}.example.org {hostname}\n")
        _write(tree / "etc/fstab", f"LABEL={partition.label} / ext4 defaults 0 1\n")
        _write(tree / f"srv/{hostname}/notes.txt", "".join(f"{hostname} note {n}\n" for n in range(2000)))
    left, copied = partition.data_bytes, 0
    for source in _sources(partition):
        size = source.lstat().st_size
        if size > left:
            continue
        target = tree / source.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(source, target)
        left -= size
        copied += 1
        if left < partition.data_bytes // 50 or copied >= MAX_FILES:
            return


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _copy(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
    else:
        shutil.copyfile(source, target)
        target.chmod(stat.S_IMODE(source.stat().st_mode) & 0o755 | 0o600)


def _sources(partition: Partition) -> Iterator[Path]:
    """Files worth copying: readable, neither tiny nor most of the disk, each once."""
    seen: set[Path] = set()
    sizes = range(max(3000, partition.data_bytes // 20000), max(partition.data_bytes // 6, 3001))
    for root in partition.roots:
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if path not in seen and _is_worth_copying(path, partition.kind, sizes):
                    seen.add(path)
                    yield path


def _is_worth_copying(path: Path, kind: str, sizes: range) -> bool:
    # Blanks end a word in an XFS prototype file, and FAT knows few characters and no links.
    if (
        not all(character.isalnum() or character in "._+-/" for character in str(path))
        or not str(path).isascii()
    ):
        return False
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return kind == "ext4"
    return stat.S_ISREG(status.st_mode) and status.st_size in sizes and os.access(path, os.R_OK)


def xfs_protofile(tree: Path) -> str:
    """A prototype for `mkfs.xfs -p` (mkfs.xfs(8)) that copies `tree`, owned by root."""
    lines = ["none", "0 0", "d--755 0 0"]

    def add(folder: Path) -> None:
        for entry in sorted(folder.iterdir()):
            if entry.is_dir():
                lines.append(f"{entry.name} d--755 0 0")
                add(entry)
            else:
                lines.append(f"{entry.name} ---{stat.S_IMODE(entry.stat().st_mode) & 0o777:03o} 0 0 {entry}")
        lines.append("$")

    add(tree)
    return "\n".join(lines) + "\n"


def copy_sparse(source: Path, target: Path, offset: int) -> int:
    """Copy the data of `source`, but not its holes, into the existing file `target` at `offset`; bytes copied."""
    copied = 0
    with source.open("rb") as reader, target.open("r+b") as writer:
        for start, end in _data_ranges(reader.fileno()):
            position = start
            while position < end:
                wanted = min(end - position, COPY_BYTES)
                data = os.pread(reader.fileno(), wanted, position)
                os.pwrite(writer.fileno(), data, offset + position)
                position += len(data)
            copied += end - start
    return copied


def _data_ranges(fd: int) -> Iterator[tuple[int, int]]:
    position, size = 0, os.fstat(fd).st_size
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        position = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, position
