# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder for unix sockets whose paths are short enough for the kernel."""

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

# sun_path in unix(7): 108 bytes with the closing zero.
MAX_SOCKET_PATH = 107
MAX_SOCKET_NAME = 24
PREFIX = "lab-sockets-"
LOCK_NAME = "owner.lock"
# A folder this young may belong to a process that has not taken its lock yet.
MIN_STALE_SECONDS = 30.0


class SocketDir:
    """Names sockets inside `run_dir`, or inside a private folder under the system's temporary folder.

    The private folder is used if a path would be too long, or holds a character that means something in a QEMU
    option or an imageio url (`,` and `:`). Its owner holds a lock on a file in it, so that folders whose owner
    was killed can be told and removed by whoever comes next.
    """

    def __init__(self, run_dir: Path) -> None:
        run_dir = run_dir.absolute()
        self._lock_fd: int | None = None
        sweep_stale()
        if _fits(run_dir):
            run_dir.mkdir(parents=True, exist_ok=True)
            self.directory = run_dir
        else:
            self.directory = Path(tempfile.mkdtemp(prefix=PREFIX))
            self._lock_fd = os.open(self.directory / LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        self._given: set[Path] = set()

    def path(self, name: str) -> Path:
        """The path of the socket `name` (at most 24 characters); a left-over file is removed first."""
        if len(name) > MAX_SOCKET_NAME:
            raise ValueError(f"socket name too long: {name}")
        path = self.directory / name
        path.unlink(missing_ok=True)
        self._given.add(path)
        return path

    def release(self, path: Path) -> None:
        """Remove one socket file; nothing happens if it is gone."""
        path.unlink(missing_ok=True)
        self._given.discard(path)

    def close(self) -> None:
        """Remove all sockets given out, and the private folder. May be called again."""
        for path in list(self._given):
            self.release(path)
        if self._lock_fd is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            os.close(self._lock_fd)
            self._lock_fd = None


def sweep_stale(parent: Path | None = None) -> list[Path]:
    """Remove private folders of this user that nobody owns any more; returns those removed."""
    removed = []
    for folder in (parent or Path(tempfile.gettempdir())).glob(f"{PREFIX}*"):
        if _is_stale(folder):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed


def _fits(run_dir: Path) -> bool:
    text = str(run_dir)
    return len(os.fsencode(text)) + 1 + MAX_SOCKET_NAME <= MAX_SOCKET_PATH and not set(text) & {",", ":"}


def _is_stale(folder: Path) -> bool:
    try:
        status = folder.lstat()
        if status.st_uid != os.geteuid() or time.time() - status.st_mtime < MIN_STALE_SECONDS:
            return False
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return folder.is_dir()
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
