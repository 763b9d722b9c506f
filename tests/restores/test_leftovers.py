# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose an unfinished machine is that a restore has left on the Manager."""

from types import SimpleNamespace

import pytest
from ovirtsdk4.types import VmStatus

from portal.ovirt import new_vm
from restores.methods.leftovers import Leftovers
from tests.factories import JobFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


@pytest.mark.parametrize(
    ("status", "ours", "in_use"),
    [
        (VmStatus.DOWN, True, False),
        (VmStatus.IMAGE_LOCKED, True, False),  # the Manager is still creating it
        (VmStatus.UP, True, True),
        (VmStatus.DOWN, False, True),
    ],
)
def test_only_a_machine_that_runs_or_was_renamed_is_somebodys(monkeypatch, status, ours, in_use):
    job = JobFactory(resume_state={"vm_id": "v-1", "disk_ids": {"d": "e"}})
    vm = SimpleNamespace(status=status, comment=f"job {job.uuid}" if ours else "ours now")
    monkeypatch.setattr(new_vm, "read_vm", lambda connection, vm_id: vm)
    assert Leftovers(job, None).is_in_use() is in_use
