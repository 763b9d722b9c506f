# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of older compatibility levels, through real workers, against the lab."""

import pytest

from backups import services as backups
from tests.flows import support
from tests.flows.support import back_up
from tests.worker_support import finished

pytestmark = [pytest.mark.flow, pytest.mark.lab]


def test_at_four_four_a_stopped_machine_is_refused_and_a_running_one_is_backed_up_in_full(
    lab, environment, repository, workers, people
):
    vm = environment.vms.get(name="files-01")
    before = support.on_manager(environment)
    with support.level(environment, vm, 4):
        assert vm.compatibility == "4.4"
        job = finished(backups.start_vm_backup(actor=people.bob, vm=vm))
        assert (job.state, job.error_code, job.attempts_made) == ("failed", "backup_impossible", 1)
        assert "only backs up running machines" in job.error_message
        assert "Start the machine" in job.error_hint
        assert not job.warnings
        support.set_power(environment, vm, up=True)
        try:
            for _ in range(2):
                point = back_up(people.bob, vm)
                assert (point.mode, point.checkpoint_id, point.vm_was_up) == ("full", None, True)
        finally:
            support.set_power(environment, vm, up=False)
        assert "level 4.4 has no incremental backups" in point.reason
    support.assert_manager_is_clean(environment, before)
    assert back_up(people.bob, vm).mode == "full"
    assert back_up(people.bob, vm).mode == "incremental"


@pytest.mark.slow
def test_at_four_five_live_and_cold_incrementals(lab, environment, repository, workers, people):
    vm = environment.vms.get(name="files-01")
    before = support.on_manager(environment)
    with support.level(environment, vm, 5):
        assert [back_up(people.bob, vm).mode for _ in range(2)] == ["full", "incremental"]
        support.set_power(environment, vm, up=True)
        try:
            assert back_up(people.bob, vm).mode == "incremental"
            lab.control.act("break_bitmap", vm=vm.name, how="missing")
            point = back_up(people.bob, vm)
            assert point.mode == "full"
            assert "could not be used" in point.reason
        finally:
            support.set_power(environment, vm, up=False)
        last = back_up(people.bob, vm)
        assert last.mode == "incremental"
        support.assert_equals_volumes(lab, last)
    support.assert_manager_is_clean(environment, before)
