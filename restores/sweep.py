# SPDX-License-Identifier: GPL-3.0-or-later
"""What restores could not take away when they ended is taken away later, until it is gone.

A restore that fails or is cancelled while the Manager is away, or whose workers died too often, keeps the ids of
its disks, uploads and machine in its job's memory. Those jobs are looked for here again and again.
"""

from __future__ import annotations

import logging
import time
from itertools import groupby

import ovirtsdk4 as sdk
from django.db import transaction

from portal.audit import services as audit
from portal.environments.models import Environment
from portal.errors import PortalError
from portal.jobs.models import Job, JobLogLine
from portal.jobs.states import JobState
from portal.ovirt.connection import connect
from restores.methods.leftovers import KEYS, LEFT, Leftovers
from restores.services import KIND

log = logging.getLogger(__name__)

# Seconds for one thing to go; the next sweep tries again.
PATIENCE = 60


def sweep() -> int:
    """Try once for every restore that has left something; returns how many have nothing left now."""
    jobs = Job.objects.filter(
        kind=KIND,
        state__in=(JobState.FAILED, JobState.CANCELLED),
        resume_state__has_key="disk_ids",
        environment__isnull=False,
    )
    rows = jobs.select_related("environment").order_by("environment_id", "id")
    return sum(
        _sweep_manager(environment, list(group))
        for environment, group in groupby(rows, lambda job: job.environment)
        if environment is not None
    )


def _sweep_manager(environment: Environment, jobs: list[Job]) -> int:
    try:
        with connect(environment.address()) as connection:
            return sum(_sweep_job(job, connection) for job in jobs)
    except PortalError as error:
        log.warning("What %d restores left on %s is still there: %s", len(jobs), environment.name, error)
        return 0


def _sweep_job(job: Job, connection: sdk.Connection) -> bool:
    leftovers = Leftovers(job, connection)
    try:
        if leftovers.is_in_use():
            _note(
                job, f"The machine {leftovers.target_name} is being used by somebody, so it was left to them."
            )
            return True
        leftovers.remove(pause=time.sleep, timeout_seconds=PATIENCE)
    except PortalError as error:
        log.warning("What restore %s left is still there: %s", job.uuid, error)
        return False
    _note(job, "What this restore had left on the Manager was removed.")
    return True


def _note(job: Job, text: str) -> None:
    """Forget what is gone, take the warning of it back, and say so on the job and in the history."""
    memory = {key: value for key, value in job.resume_state.items() if key not in KEYS}
    warnings = [warning for warning in job.warnings if not warning.startswith(LEFT)]
    with transaction.atomic():
        ended = Job.objects.filter(pk=job.pk, state=job.state, resume_state__has_key="disk_ids")
        if ended.update(
            resume_state=memory, warnings=warnings, warnings_open=job.warnings_open and bool(warnings)
        ):
            JobLogLine.objects.create(job=job, text=text)
            audit.record("restore.swept", actor=None, subject=job, via=Job.Via.SCHEDULE, what=text)
