# SPDX-License-Identifier: GPL-3.0-or-later
"""A list as CSV: the same rows as the table shows, on all its pages."""

from __future__ import annotations

import csv
from typing import Any

from django.http import HttpResponse

from portal import spreadsheet


def csv_answer(filename: str, columns: list[dict[str, Any]], rows: list[dict[str, Any]]) -> HttpResponse:
    """`columns` and `rows` as components/_table.html takes them; moments in ISO 8601 (UTC), sizes in bytes."""
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{filename}"'
    writer = csv.writer(response)
    writer.writerow(column["label"] for column in columns)
    for row in rows:
        writer.writerow(spreadsheet.cell(cell["value"]) for cell in row["cells"])
    return response
