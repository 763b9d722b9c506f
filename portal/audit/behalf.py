# SPDX-License-Identifier: GPL-3.0-or-later
"""For whom and by which ticket something is done: said once for a request, noted in everything it records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Behalf:
    ticket: str = ""
    requested_for: str = ""


current: ContextVar[Behalf | None] = ContextVar("behalf", default=None)


@contextmanager
def on_behalf(*, ticket: str = "", requested_for: str = "") -> Iterator[None]:
    """Entries recorded inside bear the ticket, unless they name one, and for whom it is done."""
    before = current.set(Behalf(ticket, requested_for))
    try:
        yield
    finally:
        current.reset(before)
