# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backups import upkeep
from backups.methods import collect
from backups.models import Repository
from portal.jobs import runner
from portal.jobs.models import Job
from portal.jobs.states import JobState


class Command(BaseCommand):
    help = (
        "Empty the trash of what is past its grace period, then remove chunks that nothing refers to. "
        "Beat does this once a day by itself."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--repository", help="name of one repository; default: all")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = Repository.objects.all()
        if options["repository"]:
            rows = rows.filter(name=options["repository"])
            if not rows:
                raise CommandError(f"There is no repository called {options['repository']}.")
        for row in rows:
            job = upkeep.start_collection(actor=None, repository=row, via=Job.Via.COMMAND)
            runner.execute(job.pk, collect.run)  # here, unless a worker is faster
            job.refresh_from_db()
            if job.state == JobState.SUCCEEDED:
                done = ". ".join(job.steps.exclude(detail="").values_list("detail", flat=True))
                self.stdout.write(f"{row.name}: {done}")
            elif job.is_finished:
                raise CommandError(f"{row.name}: {job.error_message} {job.error_hint}")
            else:
                self.stdout.write(f"{row.name}: job {job.uuid} is {job.get_state_display().lower()}.")
