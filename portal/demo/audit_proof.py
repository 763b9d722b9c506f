# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demo proves about its own audit history: it is whole, and a copy that lost its end is told from it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from backups import anchoring
from backups.models import default_repository
from portal.audit import guards, sealing
from portal.demo.stage import DemoFailed

CUT = 3


def figures() -> dict[str, Any]:
    """`entries` that were verified, `chain_ok` with at least one anchor, `cut_tail_found` on a copy. Raises DemoFailed."""
    repository = default_repository()
    sealing.seal_all()
    anchor = anchoring.write_anchor(repository) if repository else None
    if anchor is None:
        raise DemoFailed("The audit history could not be anchored in the repository.")
    verdict = anchoring.verify_history()
    return {
        "entries": verdict.entries,
        "chain_ok": verdict.ok and verdict.anchors > 0,
        "cut_tail_found": _cut_tail_is_found(anchor.sequence),
    }


def _cut_tail_is_found(last: int) -> bool:
    """Copy the database, remove the last entries with all that belongs to them, and let the command look at both."""
    with tempfile.TemporaryDirectory(dir=settings.DATA_DIR) as folder:
        copy = Path(folder) / "copy.sqlite3"
        with (
            closing(sqlite3.connect(connection.settings_dict["NAME"])) as source,
            closing(sqlite3.connect(copy)) as to,
        ):
            source.backup(to)
        whole = _verify(copy)
        with closing(sqlite3.connect(copy)) as database, database:
            _cut(database, first=last - CUT + 1)
        cut = _verify(copy)
    named = f"Entries {last - CUT + 1:,} to {last:,} are missing"
    return whole.returncode == 0 and cut.returncode != 0 and named in cut.stderr


def _cut(database: sqlite3.Connection, *, first: int) -> None:
    """What somebody would do who owns the database: seals, queue and all."""
    for table in guards.TABLES:
        for operation in ("update", "delete"):
            database.execute(f"DROP TRIGGER {guards.name(table, operation)}")
    lost = "SELECT entry_id FROM audit_auditseal WHERE sequence >= ?"
    kept = "SELECT entry_id FROM audit_auditseal WHERE sequence < ?"
    database.execute(f"DELETE FROM audit_auditentryteam WHERE entry_id IN ({lost})", (first,))  # noqa: S608
    database.execute("DELETE FROM audit_auditunsealed")
    database.execute(f"DELETE FROM audit_auditentry WHERE id NOT IN ({kept})", (first,))  # noqa: S608
    database.execute("DELETE FROM audit_auditseal WHERE sequence >= ?", (first,))


def _verify(database: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "verify_audit"]
    environment = {**os.environ, "DATABASE_URL": f"sqlite:///{database}"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
