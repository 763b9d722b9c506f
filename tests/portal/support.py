# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of the portal's own rules share: jobs without a broker, and a claimed one with its context."""

import threading

from portal.jobs import runner
from portal.jobs.context import JobContext
from portal.jobs.models import Job
from tests.factories import JobFactory


def claimed(job: Job | None = None) -> JobContext:
    """A running job and what its procedure would hold."""
    found = runner.claim((job or JobFactory()).pk)
    assert found is not None
    return JobContext(found, threading.Event())


def fresh(job: Job) -> Job:
    return Job.objects.get(pk=job.pk)
