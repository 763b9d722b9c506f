# SPDX-License-Identifier: GPL-3.0-or-later
"""What was said of a restore point after it was published: `marks.jsonl`, one checked line a fact (lines.py).

Lines are only ever appended; what counts is the last word on each matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backups.store.errors import PointNotFound
from backups.store.lines import Line, LinesFile, read_lines

MARKS = "marks.jsonl"
_WHAT = "a restore point's marks"

Mark = Line


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


class MarksFile(LinesFile):
    """The marks of one point, opened and locked. The first line names the point's uuid.

    Raises PointNotFound if the folder is gone.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / MARKS, first=folder.name, what=_WHAT)

    def no_folder(self) -> PointNotFound:
        return PointNotFound(f"There is no restore point {self._path.parent.name} in this place any more.")

    def read(self) -> Marks:
        return Marks(self.lines())


def read_marks(folder: Path) -> Marks:
    """The marks of the point in `folder`; none if there is no such file. Raises StoreError."""
    return Marks(read_lines(folder / MARKS, first=folder.name, what=_WHAT))
