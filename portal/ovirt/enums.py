# SPDX-License-Identifier: GPL-3.0-or-later
"""The SDK's enumerations."""

from __future__ import annotations

from typing import Any


def text_of(value: Any) -> str:
    """An SDK enum's text as the API spells it; empty for None, which is also what unknown texts become."""
    return getattr(value, "value", None) or ""
