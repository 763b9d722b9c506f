# SPDX-License-Identifier: GPL-3.0-or-later
"""Triggers by which the database itself refuses to change, delete or empty what was recorded (ADR 0005).

They stop a slip of the hand, a bug, and everybody who is not the owner of the tables. Who owns them can drop a
trigger; that is what the chain and its anchors are for. SQLite drops the triggers of a table that a migration
rebuilds: a migration that alters one of TABLES there has to call `put_up` again.
"""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

TABLES = (
    "audit_auditentry",
    "audit_auditentryteam",
    "audit_auditseal",
    "audit_auditanchor",
    "audit_auditverification",
)
REFUSAL = "The audit history is only ever added to; nothing was changed."
_FUNCTION = "audit_refuse"
_OPERATIONS = {"postgresql": ("update", "delete", "truncate"), "sqlite": ("update", "delete")}


def put_up(connection: BaseDatabaseWrapper) -> None:
    """Safe to repeat. Does nothing on a database that is neither PostgreSQL nor SQLite."""
    with connection.cursor() as cursor:
        for statement in statements(connection.vendor):
            cursor.execute(statement)


def take_down(connection: BaseDatabaseWrapper) -> None:
    """For going back to a migration before this one."""
    with connection.cursor() as cursor:
        for table in TABLES:
            for operation in _OPERATIONS.get(connection.vendor, ()):
                on = f" ON {table}" if connection.vendor == "postgresql" else ""
                cursor.execute(f"DROP TRIGGER IF EXISTS {name(table, operation)}{on}")


def missing(connection: BaseDatabaseWrapper) -> list[str]:
    """Names of the triggers that are not there or switched off; what verify_audit and `doctor` complain about."""
    if connection.vendor == "postgresql":
        query = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'A'"
    elif connection.vendor == "sqlite":
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    else:
        return ["all"]
    with connection.cursor() as cursor:
        cursor.execute(query)
        there = {found for (found,) in cursor.fetchall()}
    wanted = [name(table, operation) for table in TABLES for operation in _OPERATIONS[connection.vendor]]
    return [trigger for trigger in wanted if trigger not in there]


def name(table: str, operation: str) -> str:
    return f"{table}_no_{operation}"


def statements(vendor: str) -> list[str]:
    found = []
    if vendor == "postgresql":
        # By statement: also a change that would hit no row is refused. ALWAYS: also while replication applies rows.
        found.append(
            f"CREATE OR REPLACE FUNCTION {_FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"RAISE EXCEPTION '{REFUSAL}' USING ERRCODE = 'insufficient_privilege'; END $$"
        )
    for table in TABLES:
        for operation in _OPERATIONS.get(vendor, ()):
            trigger = name(table, operation)
            if vendor == "postgresql":
                found += [
                    f"CREATE OR REPLACE TRIGGER {trigger} BEFORE {operation.upper()} ON {table} "
                    f"FOR EACH STATEMENT EXECUTE FUNCTION {_FUNCTION}()",
                    f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}",
                ]
            else:
                found.append(
                    f"CREATE TRIGGER IF NOT EXISTS {trigger} BEFORE {operation.upper()} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
                )
    return found
