# SPDX-License-Identifier: GPL-3.0-or-later
"""The row that belongs to a restore job."""

from __future__ import annotations

from backups.models import RestorePoint
from portal.jobs.models import Job
from restores.models import Restore


def restore_of(job: Job) -> Restore:
    """The row of a restore job; a repeated job gets its own, with the plan of the first."""
    plan = job.params["plan"]
    restore, _ = Restore.objects.select_related(
        "point__vm__environment", "point__repository", "job"
    ).get_or_create(
        job=job,
        defaults={
            "point": RestorePoint.objects.get(uuid=job.params["point"]),
            "method": "new_vm",
            "target_name": plan["name"],
            "plan": plan,
            "plan_hash": job.params["plan_hash"],
        },
    )
    return restore
