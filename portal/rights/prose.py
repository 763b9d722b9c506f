# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of rights as docs/rights.md shows it, between two marks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from portal.rights.cells import Persona, Row
from portal.rights.table import SECTIONS

BEGIN = "<!-- Written by manage.py rights_table from portal/rights/table.py: change it there. -->"
END = "<!-- The end of what is written by manage.py rights_table. -->"


def document() -> Path:
    return settings.BASE_DIR / "docs" / "rights.md"


def table_of(text: str) -> str:
    """What stands between the marks. Raises ValueError without them."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError("The marks around the table are gone.")
    return text.partition(BEGIN)[2].partition(END)[0].strip()


def with_table(text: str) -> str:
    """The document with its table written anew. Raises ValueError without the marks."""
    old = table_of(text)
    return text.replace(old, written(), 1) if old else text.replace(BEGIN, f"{BEGIN}\n\n{written()}\n", 1)


def written() -> str:
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    for number, (title, rows) in enumerate(SECTIONS.items()):
        if number:
            yield ""
        yield f"### {title}"
        yield ""
        yield f"| what | route | method | {' | '.join(Persona)} |"
        yield f"|---|---|---|{'---|' * len(Persona)}"
        for row in rows:
            yield from _lines_of(row)


def _lines_of(row: Row) -> Iterator[str]:
    what = row.what
    for method, cells in row.cells().items():
        yield f"| {what} | `{row.route}` | {method} | {' | '.join(cells.answers)} |"
        what = ""
