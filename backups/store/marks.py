# SPDX-License-Identifier: GPL-3.0-or-later
"""What was said of a restore point after it was published: `marks.jsonl`, one checked line a fact.

Each line begins with the first 16 hex digits of the SHA-256 of what follows them, and then names those of the
line before it, or the point itself: a changed line is told from a true one, and a gap is seen. Lines are only ever appended; what
counts is the last word on each matter. What cannot be seen from this file alone is that its last lines are gone.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from backups.store.durable import write_all
from backups.store.errors import PointNotFound, storage_errors

MARKS = "marks.jsonl"
MARKS_LIMIT = 64 << 20
_SUM = b'{"sum": "%s", '
_SUM_BYTES = len(_SUM) - 2 + 16
_SUM_AT = slice(9, 25)
# More than any line is long.
_TAIL = 1 << 20

Mark = dict[str, Any]


@dataclass(frozen=True)
class Standing:
    """How a point stands by its marks; each is the mark that says so, or None.

    `hold_uncertain`: a line is damaged that may have been a hold, and nobody has held or released since.
    """

    pinned: Mark | None = None
    held: Mark | None = None
    trashed: Mark | None = None
    verified: Mark | None = None
    damaged: Mark | None = None
    hold_uncertain: bool = False

    @property
    def may_be_held(self) -> bool:
        return self.held is not None or self.hold_uncertain


@dataclass(frozen=True)
class Marks:
    """`lines` in the order of writing, None where a line is torn, was changed, or is not there any more."""

    lines: tuple[Mark | None, ...]

    @property
    def good(self) -> list[Mark]:
        return [mark for mark in self.lines if mark is not None]

    @property
    def damaged(self) -> int:
        """Lines that a crash cut short, or that somebody or the storage changed or removed."""
        return sum(mark is None for mark in self.lines)

    def standing(self) -> Standing:
        found: dict[str, Any] = {}
        for mark in self.lines:
            found.update(_said(mark))
        return Standing(**found)


def _said(mark: Mark | None) -> dict[str, Any]:
    """What one line changes in the standing."""
    if mark is None:
        return {"hold_uncertain": True}
    match mark["kind"]:
        case "pinned" | "trashed":
            return {mark["kind"]: mark}
        case "unpinned":
            return {"pinned": None}
        case "undeleted":
            return {"trashed": None}
        case "held":
            return {"held": mark, "hold_uncertain": False}
        case "released":
            return {"held": None, "hold_uncertain": False}
        case "verified":
            return {"verified": mark, "damaged": None}
        case "damaged":
            return {"verified": None, "damaged": mark}
    return {}


class MarksFile:
    """The marks of one point, opened and locked against other writers, on any machine where the share has locks.

    Raises PointNotFound if the folder is gone.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / MARKS

    def __enter__(self) -> Self:
        with storage_errors("opening a restore point's marks"):
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
                self._fd = os.open(self._path, flags, 0o640)
            except (FileNotFoundError, NotADirectoryError):
                raise PointNotFound(
                    f"There is no restore point {self._path.parent.name} in this place any more."
                ) from None
            try:
                _lock(self._fd)
            except OSError:
                os.close(self._fd)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def read(self) -> Marks:
        with storage_errors("reading a restore point's marks"):
            size = os.fstat(self._fd).st_size
            return _parse(os.pread(self._fd, min(size, MARKS_LIMIT + 1), 0), self._path.parent.name)

    def append(self, kind: str, **facts: Any) -> None:
        """Add a line, durably; `at` (UTC) is added."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        with storage_errors("marking a restore point"):
            size = os.fstat(self._fd).st_size
            tail = os.pread(self._fd, _TAIL, max(0, size - _TAIL))
            torn = bool(tail) and not tail.endswith(b"\n")
            last = tail.rstrip(b"\n").rpartition(b"\n")[2]
            after = _sum_of(last) if last else self._path.parent.name
            mark = {"after": after, "at": at, "kind": kind, **facts}
            body = json.dumps(mark, ensure_ascii=False)[1:].encode()
            write_all(self._fd, (b"\n" if torn else b"") + _SUM % _sum(body) + body + b"\n")
            os.fsync(self._fd)


def read_marks(folder: Path) -> Marks:
    """The marks of the point in `folder`; none if there is no such file. Raises StoreError."""
    with storage_errors("reading a restore point's marks"):
        try:
            fd = os.open(folder / MARKS, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return Marks(())
        with os.fdopen(fd, "rb") as file:
            return _parse(file.read(MARKS_LIMIT + 1), folder.name)


def _parse(raw: bytes, before: str) -> Marks:
    """`before`: what the first line names instead of a line before it, the point's uuid."""
    marks: list[Mark | None] = []
    lines = raw[:MARKS_LIMIT].removesuffix(b"\n").split(b"\n") if raw else []
    whole = True
    for line in lines:
        mark = _parse_line(line)
        if mark is not None and whole and mark["after"] != before:
            marks.append(None)  # at least one line is missing here
        marks.append(mark)
        before, whole = _sum_of(line), mark is not None
    if len(raw) > MARKS_LIMIT or (lines and not raw.endswith(b"\n") and marks[-1] is not None):
        # What lies beyond the limit is not known; a last line without its end was cut short by one byte.
        marks.append(None)
    return Marks(tuple(marks))


def _parse_line(line: bytes) -> Mark | None:
    head, body = line[:_SUM_BYTES], line[_SUM_BYTES:]
    if head != _SUM % _sum(body):
        return None
    try:
        mark = json.loads(b"{" + body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(mark, dict) or not all(
        isinstance(mark.get(key), str) for key in ("after", "at", "kind")
    ):
        return None
    return mark


def _sum_of(line: bytes) -> str:
    """The checksum that a line bears, right or not."""
    return line[_SUM_AT].decode("ascii", "replace")


def _sum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:16].encode()


def _lock(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as error:
        # A share without locks: one line is still written in one piece.
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
