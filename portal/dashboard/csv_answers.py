# SPDX-License-Identifier: GPL-3.0-or-later
"""A list as CSV: the same rows as the table shows, on all its pages."""

from __future__ import annotations

import csv
import datetime as dt
from typing import Any

from django.http import HttpResponse

# A cell that begins so is run as a formula by spreadsheets; a machine's name may be anything.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_answer(filename: str, columns: list[dict[str, Any]], rows: list[dict[str, Any]]) -> HttpResponse:
    """`columns` and `rows` as components/_table.html takes them; moments in ISO 8601 (UTC), sizes in bytes."""
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{filename}"'
    writer = csv.writer(response)
    writer.writerow(column["label"] for column in columns)
    for row in rows:
        writer.writerow(_text(cell["value"]) for cell in row["cells"])
    return response


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.isoformat(timespec="seconds")
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
