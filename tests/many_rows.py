# SPDX-License-Identifier: GPL-3.0-or-later
"""Very many jobs and restore points on PostgreSQL, made by the database itself from one row of each."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import connection
from django.db.models import Model

from backups.models import RestorePoint
from portal.jobs.models import Job


def multiply(row: Model, numbers: str, values: Mapping[str, str]) -> None:
    """Insert copies of `row`, one for each `n` of the SQL expression `numbers`; `values` are SQL by column."""
    columns = [field.column for field in row._meta.concrete_fields if not field.primary_key]
    table = row._meta.db_table
    chosen = ", ".join(values.get(column, f"origin.{column}") for column in columns).replace("%", "%%")
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {chosen} "
            f"FROM {table} origin, {numbers} n WHERE origin.id = %s",
            [row.pk],
        )
        cursor.execute(f"ANALYZE {table}")


def jobs(row: Job, vms: list[int], rows: int, *, days: int = 365) -> None:
    """`rows` backups and restores of the machines `vms` over the last `days`, of many people, with all endings."""
    machine = f"(ARRAY{vms})[1 + n % {len(vms)}]"
    at = f"now() - n * interval '{days} days' / {rows}"
    multiply(
        row,
        f"generate_series(1, {rows})",
        {
            "uuid": "gen_random_uuid()",
            "kind": "CASE WHEN n % 20 = 0 THEN 'vm_restore' ELSE 'vm_backup' END",
            "vm_id": machine,
            "vm_name": f"'vm-' || {machine}",
            "state": "CASE WHEN n % 50 = 0 THEN 'failed' WHEN n % 997 = 0 THEN 'cancelled' "
            "WHEN n < 5 THEN 'running' ELSE 'succeeded' END",
            "warnings": "CASE WHEN n % 30 = 0 THEN '[\"Left.\"]'::jsonb ELSE '[]'::jsonb END",
            "requested_by_name": "CASE WHEN n % 10 = 0 THEN 'person' || n % 300 ELSE 'portal' END",
            "requested_for": "CASE WHEN n % 100 = 0 THEN 'owner' || n % 70 ELSE '' END",
            "ticket": "CASE WHEN n % 40 = 0 THEN 'INC' || n ELSE '' END",
            "method": "CASE WHEN n % 20 = 0 THEN 'new_vm' WHEN n % 1001 = 0 THEN 'snapshot_attach' "
            "ELSE 'incremental' END",
            "mode": "CASE WHEN n % 20 = 0 THEN '' WHEN n % 19 = 0 THEN 'full' WHEN n % 501 = 0 THEN 'mixed' "
            "ELSE 'incremental' END",
            "created_at": at,
            "started_at": f"{at} + interval '10 seconds'",
            "finished_at": f"CASE WHEN n < 5 THEN NULL ELSE {at} + interval '5 minutes' END",
        },
    )


def points(row: RestorePoint, vms: list[int], rows: int, *, days: int = 365) -> None:
    """`rows` restore points of the machines `vms` over the last `days`."""
    multiply(
        row,
        f"generate_series(1, {rows})",
        {
            "uuid": "gen_random_uuid()",
            "vm_id": f"(ARRAY{vms})[1 + n % {len(vms)}]",
            "checkpoint_id": "gen_random_uuid()",
            "taken_at": f"now() - n * interval '{days} days' / {rows}",
        },
    )
