# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at every part and says what to do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from backups.models import Repository
from portal.accounts.models import User
from portal.audit import guards
from portal.audit.models import AuditAnchor, AuditVerification
from portal.environments.models import Environment
from portal.errors import PortalError
from portal.jobs.models import Job
from portal.jobs.states import JobState


class Finding(NamedTuple):
    """`good` None = worth knowing."""

    good: bool | None
    text: str


class Command(BaseCommand):
    help = "Check keys, database, broker, repositories, Managers and jobs. Exits 1 if anything is wrong."

    def handle(self, *args: Any, **options: Any) -> None:
        bad = 0
        for finding in findings():
            mark = {True: "ok  ", None: "note", False: "BAD "}[finding.good]
            self.stdout.write(f"{mark} {finding.text}")
            bad += finding.good is False
        if bad:
            raise CommandError(f"{bad} of these need attention.")


def findings() -> Iterator[Finding]:
    yield from _keys()
    try:
        plan = MigrationExecutor(connection).migration_plan(
            MigrationExecutor(connection).loader.graph.leaf_nodes()
        )
    except DatabaseError as error:
        yield Finding(False, f"The database cannot be used: {error}")
        return
    if plan:
        yield Finding(False, f"{len(plan)} migrations are missing: run manage.py migrate.")
        return
    yield Finding(True, f"Database: {connection.vendor}, up to date.")
    yield Finding(None, "Broker: Redis." if settings.REDIS_URL else "Broker: a folder; for one machine only.")
    if not User.objects.filter(is_superuser=True, is_active=True).exists():
        yield Finding(False, "There is no platform admin: run manage.py createsuperuser.")
    yield from _repositories()
    yield from _environments()
    yield from _jobs()
    yield from _audit()


def _keys() -> Iterator[Finding]:
    for name in ("session.key", "credentials.key"):
        path = settings.DATA_DIR / name
        if not path.exists():
            continue
        if path.stat().st_mode & 0o077:
            yield Finding(False, f"{path} can be read by others: chmod 600.")
        else:
            yield Finding(None, f"{path} was made here; keep a copy of it apart from the database.")


def _repositories() -> Iterator[Finding]:
    rows = list(Repository.objects.all())
    if not rows:
        yield Finding(None, "No repository yet: manage.py create_repository, or start manage.py run.")
    for row in rows:
        try:
            store = row.open()
            total, free = store.space()
        except PortalError as error:
            yield Finding(False, f"Repository {row.name}: {error}")
            continue
        enough = free > total // 20
        yield Finding(enough, f"Repository {row.name}: {free >> 30} of {total >> 30} GiB free.")


def _environments() -> Iterator[Finding]:
    for row in Environment.objects.all():
        if row.problem:
            yield Finding(False, f"Manager {row.name}: {row.problem}")
        else:
            yield Finding(
                True, f"Manager {row.name}: {row.version}, last seen {row.reached_at:%Y-%m-%d %H:%M} UTC."
            )


def _audit() -> Iterator[Finding]:
    if away := guards.missing(connection):
        yield Finding(
            False, f"The database would let the audit history be changed: {len(away)} triggers are missing."
        )
    seen = AuditVerification.objects.first()
    if seen is None:
        yield Finding(
            None, "The audit history has not been verified yet: manage.py verify_audit, or wait for beat."
        )
    elif seen.problem:
        yield Finding(False, f"The audit history is not whole: {seen.problem}")
    else:
        yield Finding(
            True, f"Audit history: {seen.entries:,} entries, whole on {seen.at:%Y-%m-%d %H:%M} UTC."
        )
    if Repository.objects.exists() and not AuditAnchor.objects.exists():
        yield Finding(None, "The audit history is not anchored in any repository yet; beat does it.")


def _jobs() -> Iterator[Finding]:
    limit = timezone.now() - dt.timedelta(minutes=5)
    stuck = Job.objects.filter(state=JobState.PENDING, waiting_for="", created_at__lt=limit).count()
    if stuck:
        yield Finding(False, f"{stuck} jobs wait for a worker: are workers and beat running?")
    else:
        yield Finding(True, "No job waits for a worker.")
