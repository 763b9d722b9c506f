# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are still there after a power cut, and the file server's own clock."""

from __future__ import annotations

import ctypes
import errno
import os
import uuid
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


def sync_filesystem(fd: int) -> None:
    """Make everything written to the file system of `fd` durable: syncfs(2), one call for any number of files.

    Write errors are told since Linux 5.8 if `fd` was opened before the writes. Raises OSError; ENOSYS where
    the call does not exist, so that the caller can sync file by file.
    """
    call = getattr(_libc, "syncfs", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """write(2) until everything is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_all(fd: int, size: int) -> bytes:
    """read(2) until `size` bytes are read or the file ends."""
    data = os.read(fd, size)
    while len(data) < size and (more := os.read(fd, size - len(data))):
        data += more
    return data


def write_file(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Write a file so that its name shows either nothing (or the old content) or all of `data`, durably.

    With `replace` false an existing file stays as it is and FileExistsError is raised.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        if replace:
            temporary.replace(path)
        else:
            _rename_to_new_name(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def _rename_to_new_name(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        # No hard links here (SMB, FAT): the check leaves a tiny gap, which the caller's claim covers.
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        temporary.rename(path)


def make_directory(path: Path) -> None:
    """mkdir, durable; an existing folder is fine. The parent must exist: a vanished mount is never rebuilt."""
    try:
        path.mkdir(mode=0o750)
    except FileExistsError:
        return
    sync_directory(path.parent)


def server_now(directory: Path) -> float:
    """Seconds since the epoch by the clock of the machine that stores `directory` (not ours, if it is a share)."""
    probe = directory / f".clock.{uuid.uuid4().hex}"
    fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    try:
        # The data write makes the server, not the client, stamp the time.
        os.write(fd, b".")
        os.fsync(fd)
        return os.fstat(fd).st_mtime
    finally:
        os.close(fd)
        probe.unlink(missing_ok=True)
