# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backups.models import Repository
from backups.store import gc
from portal.errors import PortalError


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
                result = gc.collect(store, older_than_seconds=store.gc_age_seconds)
            except PortalError as error:
                raise CommandError(f"{row.name}: {error}") from error
            self.stdout.write(f"{row.name}: {len(purged)} points left the trash for good; {result}")
