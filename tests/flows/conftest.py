# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab, one restore point in it, and what to try on it."""

from collections.abc import Iterator

import pytest

from portal.jobs.models import Job
from tests.flows.bad_restores import Day
from tests.flows.support import back_up
from tests.worker_support import finished


@pytest.fixture
def day(lab, environment, repository, workers, people) -> Iterator[Day]:
    point = back_up(people.bob, environment.vms.get(name="legacy-01"))
    yield Day(lab, point, people.bob)
    lab.control.clear()
    for job in Job.objects.active():
        finished(job, seconds=240)  # else it would be in the way of the next day
