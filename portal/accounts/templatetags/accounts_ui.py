# SPDX-License-Identifier: GPL-3.0-or-later
"""For the pages of accounts."""

from __future__ import annotations

import json
from typing import Any

from django import template

register = template.Library()


@register.filter
def as_json(value: Any) -> str:
    """For a data attribute: escaped by the template like any text, so it needs no inline script."""
    return json.dumps(value)


@register.filter
def in_fours(text: str) -> str:
    """`ABCD EFGH …`, to be typed off a screen."""
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


@register.filter
def as_lines(words: list[str]) -> str:
    return "\n".join(words)
