# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists that leave the portal as CSV or JSON Lines: written row by row, and harmless to the program that opens them."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from portal import spreadsheet

CSV = "text/csv; charset=utf-8"
_LINES = 200
JSON_LINES = "application/jsonl; charset=utf-8"


def csv_lines(rows: Iterable[Mapping[str, Any]], names: Iterable[str]) -> Iterator[str]:
    """A line for the header (`names`) and each row, which has all of them."""
    header = list(names)
    yield _line(header)
    for row in rows:
        yield _line(spreadsheet.cell(row[name]) for name in header)


def json_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield json.dumps(row, ensure_ascii=False, default=_as_json) + "\n"


def in_pieces(lines: Iterator[str]) -> Iterator[str]:
    """Some hundred lines at once: a server sends each piece by itself."""
    while piece := "".join(islice(lines, _LINES)):
        yield piece


def _line(cells: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()


def _as_json(value: Any) -> str:
    return value.isoformat(timespec="seconds") if isinstance(value, dt.datetime) else str(value)
