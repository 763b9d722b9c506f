# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases are judged by one clock: the database's."""

from __future__ import annotations

import datetime as dt

from django.db import connection
from django.utils import timezone


def database_now() -> dt.datetime:
    """The database server's time (UTC, aware). SQLite has no clock but this machine's."""
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        row = cursor.fetchone()
    assert row is not None
    now: dt.datetime = row[0]
    return now
