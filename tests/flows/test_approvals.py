# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore that waits for a second person, through real workers, which die meanwhile."""

import signal
import time

import pytest

from portal.accounts.models import Team
from portal.jobs import services as jobs
from portal.teams.services import set_approval
from restores import approvals
from restores.models import Restore
from tests.flows import support
from tests.flows.support import back_up
from tests.worker_support import finished

pytestmark = [pytest.mark.flow, pytest.mark.lab]


def test_nothing_is_made_before_the_consent_and_workers_may_die_meanwhile(
    lab, environment, repository, workers, people
):
    set_approval(actor=people.root, team=people.team, approval=Team.Approval.EVERY)
    point = back_up(people.bob, environment.vms.get(name="files-01"))
    before = support.on_manager(environment)
    job = support.start_restore(people.bob, point, "files-01-approved")
    for child in workers.supervisor.children:
        if child.name.startswith("worker") and child.process is not None:
            child.process.send_signal(signal.SIGKILL)
    time.sleep(1)
    workers.mend()
    time.sleep(3)  # beat rings meanwhile
    job.refresh_from_db()
    assert (job.state, job.attempts_made) == ("waiting", 0)
    assert support.on_manager(environment) == before
    restore = Restore.objects.get(job=job)
    approvals.approve(actor=people.alice, restore=restore)
    support.succeeded(job)
    restore.refresh_from_db()
    try:
        assert restore.proven_at is not None
        support.assert_manager_is_clean(environment, before, new_vm=str(restore.new_vm_id), new_disks=1)
    finally:
        support.remove_vm(environment, str(restore.new_vm_id))


def test_a_refused_restore_that_is_repeated_makes_nothing(lab, environment, repository, workers, people):
    set_approval(actor=people.root, team=people.team, approval=Team.Approval.EVERY)
    point = back_up(people.bob, environment.vms.get(name="files-01"))
    before = support.on_manager(environment)
    job = support.start_restore(people.bob, point, "files-01-refused")
    approvals.refuse(actor=people.alice, restore=Restore.objects.get(job=job), why="Not this one")
    job.refresh_from_db()
    again = jobs.retry_job(actor=people.bob, job=job)
    finished(again)
    assert (again.state, again.error_code) == ("failed", "approval_missing")
    assert support.on_manager(environment) == before
