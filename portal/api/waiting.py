# SPDX-License-Identifier: GPL-3.0-or-later
"""`?wait=`: an answer that comes when something has changed, without holding what others need.

A waiting request has a thread of its web process and nothing else: between looks the database connection is closed,
and no transaction is open. A process lets so many wait that the other threads serve everybody else
(`PORTAL_API_WAITERS`); who comes on top of those is answered at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from django.conf import settings
from django.db import connection

T = TypeVar("T")

LOOK_EVERY = 1.0
_places_lock = threading.Lock()
_waiting = 0


def wait_until(look: Callable[[], T], done: Callable[[T], bool], *, seconds: float) -> tuple[T, bool]:
    """Look until `done` with what was seen, or until the time is over. Gives the last look, and whether it was
    waited for at all: not if too many wait already."""
    seen = look()
    if seconds <= 0 or done(seen):
        return seen, True
    if not _take_place():
        return seen, False
    try:
        end = time.monotonic() + seconds
        while not done(seen) and (left := end - time.monotonic()) > 0:
            _let_go()
            time.sleep(min(LOOK_EVERY, left))
            seen = look()
    finally:
        _leave_place()
    return seen, True


def _take_place() -> bool:
    global _waiting
    with _places_lock:
        if _waiting >= settings.API_WAITERS:
            return False
        _waiting += 1
        return True


def _leave_place() -> None:
    global _waiting
    with _places_lock:
        _waiting -= 1


def _let_go() -> None:
    """Give the connection back, unless the caller is inside a transaction (which no request is)."""
    if not connection.in_atomic_block:
        connection.close()
