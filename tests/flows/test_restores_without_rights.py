# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores of an account that sees too little, by a wrong clock, with records that vanish, and of slow answers.

`make test` tries one of each kind, `make soak` all of them.
"""

import pytest

from tests.flows import support
from tests.flows.bad_restores import PLACES, ends_cleanly
from tests.worker_support import finished, wait_for

pytestmark = [pytest.mark.flow, pytest.mark.lab]

SLOW_SECONDS = 6
FORGETFUL = {"kind": "forget", "of": "transfer"}
UNVERIFIED = {"of": "transfer", "phase": "finalizing_success", "how": "fail"}


# --- lists that are empty because a right is missing ------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [pytest.param("/datacenters", marks=pytest.mark.slow), "/datacenters/*/storagedomains"],
)
def test_an_account_that_sees_no_storage_is_told_of(day, environment, path):
    job = ends_cleanly(day, environment, {"kind": "hidden", "path": path}, "plan_blocked")
    assert "lost the right to see it" in job.error_hint


@pytest.mark.slow
def test_an_account_that_sees_no_attached_disks_is_told_of(day, environment):
    fault = {"kind": "hidden", "path": "/vms/*/diskattachments"}
    job = ends_cleanly(day, environment, fault, "restore_not_equal")
    assert "right to see" in job.error_hint


@pytest.mark.slow
def test_an_account_that_sees_no_network_cards_does_not_call_them_unplugged(day, environment):
    """The cards of the stored machine come unplugged by its OVF already; nothing is plugged unseen."""
    assert day.goes_well({"kind": "hidden", "path": "/vms/*/nics"}) == []


@pytest.mark.slow
@pytest.mark.parametrize(("path", "what"), [("/vms", "machine"), ("/disks", "disk")])
def test_what_was_made_and_is_not_seen_is_named_for_removal_by_hand(day, environment, path, what):
    """404 on it looks like gone; that its name or id is taken tells the difference."""
    before = support.on_manager(environment)
    with day.control.fault("hidden", path=path):
        job = finished(day.start(), seconds=200)
    now = support.on_manager(environment)
    (left,) = (now.vms - before.vms) | (now.disks - before.disks)
    assert (job.state, job.error_code) == ("failed", "made_unseen"), support.told(job)
    assert f"the {what} " in job.error_message and left in job.error_message
    assert "by hand" in job.error_hint
    assert job.warnings == [job.error_message]
    if what == "machine":
        support.remove_vm(environment, left)
    else:
        with support.manager(environment) as system:
            system.disks_service().disk_service(left).remove()
        wait_for(lambda: support.on_manager(environment) == before, what="the disk is removed")
    assert day.judge(before, finished(support.start_restore(day.actor, day.point, "seen-again"))) == []


# --- clocks -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("hours", [-2, 2])
def test_a_manager_whose_clock_is_wrong(day, hours):
    assert day.goes_well({"kind": "clock", "seconds": hours * 3600}, strikes=False) == []


# --- records that are gone at their end (engines before 4.4.7) --------------------------------------------------


def test_an_upload_whose_record_is_gone_is_judged_by_its_disk(day):
    assert day.goes_well(FORGETFUL) == []


@pytest.mark.slow
def test_an_upload_that_does_not_verify_and_has_no_record_is_made_anew(day):
    with day.control.fault(**FORGETFUL):
        assert day.goes_well({"kind": "phase", **UNVERIFIED, "times": 1}) == []


@pytest.mark.slow
def test_uploads_that_never_verify_and_have_no_record_end_the_restore(day, environment):
    with day.control.fault(**FORGETFUL):
        before = support.on_manager(environment)
        with day.control.fault("phase", **UNVERIFIED):
            job = finished(day.start(), seconds=200)
        assert (job.state, job.error_code) == ("failed", "transfer_failed"), support.told(job)
        assert "did not accept the uploaded disk" in job.error_message
        assert support.on_manager(environment) == before
        assert day.judge(before, finished(day.start())) == []


# --- slow answers -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_answers_that_take_long_are_waited_for_in_every_phase(day):
    found = {
        place: day.goes_well(
            {
                "kind": "answer",
                "method": method,
                "path": path,
                "how": "slow",
                "seconds": SLOW_SECONDS,
                "times": 1,
            }
        )
        for place, (method, path) in PLACES.items()
    }
    assert {place: wrong for place, wrong in found.items() if wrong} == {}


@pytest.mark.slow
def test_a_manager_that_is_slow_all_the_time(day):
    assert day.goes_well({"kind": "answer", "path": "/**", "how": "slow", "seconds": 0.7}) == []
