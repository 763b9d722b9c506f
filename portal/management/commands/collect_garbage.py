# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backups.models import Repository
from backups.store import gc
from backups.store.repository import Repository as Store
from portal.errors import PortalError
from portal.jobs.models import Job


class Command(BaseCommand):
    help = "Empty the trash of what is past its grace period, then remove chunks that nothing refers to."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--repository", help="name of one repository; default: all")
        parser.add_argument("--grace-days", type=float, default=14, help="how long deleted points stay (14)")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = Repository.objects.all()
        if options["repository"]:
            rows = rows.filter(name=options["repository"])
            if not rows:
                raise CommandError(f"There is no repository called {options['repository']}.")
        for row in rows:
            try:
                store = row.open()
                purged = store.purge_trash(older_than_seconds=options["grace_days"] * 86400)
                result = gc.collect(
                    store,
                    older_than_seconds=store.gc_age_seconds,
                    protected_index_paths=_bases_of_running_jobs(store),
                )
            except PortalError as error:
                raise CommandError(f"{row.name}: {error}") from error
            self.stdout.write(f"{row.name}: {len(purged)} points left the trash for good; {result}")


def _bases_of_running_jobs(store: Store) -> list[Path]:
    """Indexes from which an incremental backup is going on: kept whole, even if their point was deleted meanwhile."""
    paths: list[Path] = []
    for job in Job.objects.active().filter(vm__isnull=False).select_related("vm__environment"):
        base = job.resume_state.get("base_point")
        if base is None or job.vm is None:
            continue
        for trashed in (False, True):
            folder = store.point_dir(job.vm.environment.uuid, job.vm.manager_id, base, trashed=trashed)
            paths += sorted(folder.glob("*.caibx"))
    return paths
