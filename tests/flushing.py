# SPDX-License-Identifier: GPL-3.0-or-later
"""Emptying the test database while real workers still use it.

TRUNCATE locks every table. A worker that is in the middle of a transaction may hold one and want the next, and
PostgreSQL ends one of the two (deadlock detected). If it was the test that lost, it tries again.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError
from django.db.backends.base.operations import BaseDatabaseOperations

TRIES = 5


@contextmanager
def repeated_after_a_deadlock() -> Iterator[None]:
    once = BaseDatabaseOperations.execute_sql_flush
    BaseDatabaseOperations.execute_sql_flush = repeating(once)
    try:
        yield
    finally:
        BaseDatabaseOperations.execute_sql_flush = once


def repeating(flush: Callable[..., None]) -> Callable[..., None]:
    """Calls `flush` up to TRIES times while the database refuses it for what others do at that moment."""

    def flush_patiently(operations: Any, statements: list[str]) -> None:
        for left in reversed(range(TRIES)):
            try:
                return flush(operations, statements)
            except OperationalError:
                if not left:
                    raise
                time.sleep(0.2)

    return flush_patiently
