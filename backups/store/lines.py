# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of facts that are only ever added to: one checked JSON line a fact.

Each line begins with the first 16 hex digits of the SHA-256 of what follows them, and then names those of the
line before it, or a word that the file's place gives: a changed line is told from a true one, and a gap is seen.
What cannot be seen from the file alone is that its last lines are gone.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from backups.store.durable import write_all
from backups.store.errors import StoreError, storage_errors

LIMIT = 64 << 20
_SUM = b'{"sum": "%s", '
_SUM_BYTES = len(_SUM) - 2 + 16
_SUM_AT = slice(9, 25)
# More than any line is long.
_TAIL = 1 << 20

Line = dict[str, Any]


class LinesFile:
    """The file, opened (and made, if its folder exists) and locked against other writers, on any machine where the
    share has locks. `first`: what the first line names; `what`: the file in words, for errors."""

    def __init__(self, path: Path, *, first: str, what: str) -> None:
        self._path, self._first, self._what = path, first, what

    def __enter__(self) -> Self:
        with storage_errors(f"opening {self._what}"):
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
                self._fd = os.open(self._path, flags, 0o640)
            except (FileNotFoundError, NotADirectoryError):
                raise self.no_folder() from None
            try:
                _lock(self._fd)
            except OSError:
                os.close(self._fd)
                raise
        return self

    def no_folder(self) -> StoreError:
        """What is raised if the folder is gone."""
        return StoreError(f"There is no folder for {self._what}.")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def lines(self) -> tuple[Line | None, ...]:
        """In the order of writing, None where a line is torn, was changed, or is not there any more."""
        with storage_errors(f"reading {self._what}"):
            size = os.fstat(self._fd).st_size
            return _parse(os.pread(self._fd, min(size, LIMIT + 1), 0), self._first)

    def append(self, kind: str, **facts: Any) -> None:
        """Add a line, durably; `at` (UTC) is added."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        with storage_errors(f"writing {self._what}"):
            size = os.fstat(self._fd).st_size
            tail = os.pread(self._fd, _TAIL, max(0, size - _TAIL))
            torn = bool(tail) and not tail.endswith(b"\n")
            last = tail.rstrip(b"\n").rpartition(b"\n")[2]
            after = _sum_of(last) if last else self._first
            line = {"after": after, "at": at, "kind": kind, **facts}
            body = json.dumps(line, ensure_ascii=False)[1:].encode()
            write_all(self._fd, (b"\n" if torn else b"") + _SUM % _sum(body) + body + b"\n")
            os.fsync(self._fd)


def read_lines(path: Path, *, first: str, what: str) -> tuple[Line | None, ...]:
    """Of a file that nobody has to lock; none if there is no such file. Raises StoreError."""
    with storage_errors(f"reading {what}"):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return ()
        with os.fdopen(fd, "rb") as file:
            return _parse(file.read(LIMIT + 1), first)


def _parse(raw: bytes, before: str) -> tuple[Line | None, ...]:
    """`before`: what the first line names instead of a line before it."""
    found: list[Line | None] = []
    lines = raw[:LIMIT].removesuffix(b"\n").split(b"\n") if raw else []
    whole = True
    for text in lines:
        line = _parse_line(text)
        if line is not None and whole and line["after"] != before:
            found.append(None)  # at least one line is missing here
        found.append(line)
        before, whole = _sum_of(text), line is not None
    if len(raw) > LIMIT or (lines and not raw.endswith(b"\n") and found[-1] is not None):
        # What lies beyond the limit is not known; a last line without its end was cut short by one byte.
        found.append(None)
    return tuple(found)


def _parse_line(text: bytes) -> Line | None:
    head, body = text[:_SUM_BYTES], text[_SUM_BYTES:]
    if head != _SUM % _sum(body):
        return None
    try:
        line = json.loads(b"{" + body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not all(
        isinstance(line.get(key), str) for key in ("after", "at", "kind")
    ):
        return None
    return line


def _sum_of(text: bytes) -> str:
    """The checksum that a line bears, right or not."""
    return text[_SUM_AT].decode("ascii", "replace")


def _sum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:16].encode()


def _lock(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as error:
        # A share without locks: one line is still written in one piece.
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
