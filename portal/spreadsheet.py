# SPDX-License-Identifier: GPL-3.0-or-later
"""Cells that a spreadsheet shows and never runs."""

from __future__ import annotations

import datetime as dt
from typing import Any

# A cell that begins so is run as a formula by spreadsheets; a machine's name may be anything.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def cell(value: Any) -> str:
    """Moments in ISO 8601; texts that would be taken for a formula get an apostrophe in front."""
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.isoformat(timespec="seconds")
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
