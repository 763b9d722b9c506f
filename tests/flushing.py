# SPDX-License-Identifier: GPL-3.0-or-later
"""Emptying the test database while real workers still use it.

TRUNCATE locks every table. A worker that is in the middle of a transaction may hold one and want the next, and
PostgreSQL ends one of the two (deadlock detected). If it was the test that lost, it tries again.

The audit tables refuse to be emptied. Only here, and only for the transaction of the flush, their guards are down;
the portal itself has no such way (ADR 0005).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError
from django.db.backends.base.operations import BaseDatabaseOperations

from portal.audit import guards

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
        if any(guards.TABLES[0] in statement for statement in statements):
            statements = with_guards_down(operations.connection.vendor, statements)
        for left in reversed(range(TRIES)):
            try:
                return flush(operations, statements)
            except OperationalError:
                if not left:
                    raise
                time.sleep(0.2)

    return flush_patiently


def with_guards_down(vendor: str, statements: list[str]) -> list[str]:
    """`statements` between those that take the guards of the audit tables down and put them up again."""
    if vendor == "postgresql":
        triggers = [(table, guards.name(table, "truncate")) for table in guards.TABLES]
        down = [f"ALTER TABLE {table} DISABLE TRIGGER {trigger}" for table, trigger in triggers]
        up = [f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}" for table, trigger in triggers]
        return [*down, *statements, *up]
    down = [
        f"DROP TRIGGER {guards.name(table, operation)}"
        for table in guards.TABLES
        for operation in ("update", "delete")
    ]
    return [*down, *statements, *guards.statements(vendor)]
