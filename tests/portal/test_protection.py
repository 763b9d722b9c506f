# SPDX-License-Identifier: GPL-3.0-or-later
"""How well machines are protected: one by one with a sentence, and all of them at once for counting and sorting."""

import datetime as dt

import pytest
from django.utils import timezone

from portal.dashboard.protection import machines_of, protection, summaries, with_protection
from portal.environments.models import VirtualMachine
from tests.factories import JobFactory, MembershipFactory, PointFactory, TeamFactory, VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

HOUR = dt.timedelta(hours=1)


def backup(vm, *, hours_ago: float, state: str = "succeeded", **changes):
    ended = timezone.now() - hours_ago * HOUR
    return JobFactory(vm=vm, state=state, finished_at=ended, **changes)


def point(vm, *, hours_ago: float, **changes):
    return PointFactory(vm=vm, taken_at=timezone.now() - hours_ago * HOUR, **changes)


def a_good_one(vm):
    point(vm, hours_ago=30, verify_problem="1 of 9 chunks: damaged or missing.")
    backup(vm, hours_ago=20, state="failed", error_message="Long forgotten.")
    point(vm, hours_ago=2)
    backup(vm, hours_ago=1.9)


def an_old_one(vm):
    point(vm, hours_ago=40)


def a_failed_one(vm):
    point(vm, hours_ago=3)
    backup(vm, hours_ago=2, state="failed", error_message="The disk was locked.")


def only_failed(vm):
    backup(vm, hours_ago=2, state="failed", error_message="The disk was locked.")


def cancelled_after_failing(vm):
    point(vm, hours_ago=3)
    backup(vm, hours_ago=2, state="failed")
    backup(vm, hours_ago=1, state="cancelled")


def a_failed_restore(vm):
    point(vm, hours_ago=3)
    backup(vm, hours_ago=2, state="failed", kind="vm_restore")


def a_damaged_one(vm):
    point(vm, hours_ago=30)
    point(vm, hours_ago=2, verify_problem="1 of 9 chunks: damaged or missing.")


def nothing(vm):
    point(vm, hours_ago=2, deleted_at=timezone.now())


def not_heard_of(vm):
    point(vm, hours_ago=2)
    VirtualMachine.objects.filter(pk=vm.pk).update(seen_at=timezone.now() - HOUR)


def away(vm):
    """A repository that cannot be read: who knows whether the point is still there."""
    point(vm, hours_ago=2, repository__problem="It is not mounted.")


def away_and_old(vm):
    point(vm, hours_ago=40, repository__problem="It is not mounted.")


def gone(vm):
    point(vm, hours_ago=2)
    VirtualMachine.objects.filter(pk=vm.pk).update(gone_at=timezone.now())


@pytest.mark.parametrize(
    ("story", "status"),
    [
        (a_good_one, "protected"),
        (an_old_one, "stale"),
        (a_failed_one, "failing"),
        (only_failed, "failing"),
        (cancelled_after_failing, "protected"),
        (a_failed_restore, "protected"),
        (a_damaged_one, "failing"),
        (nothing, "unprotected"),
        (not_heard_of, "unknown"),
        (gone, "unknown"),
        (away, "unknown"),
        (away_and_old, "stale"),
    ],
)
def test_both_ways_come_to_the_same(story, status):
    vm = VmFactory()
    a_good_one(VmFactory(environment=vm.environment))
    story(vm)
    [one] = with_protection(VirtualMachine.objects.filter(pk=vm.pk))
    spoken = protection(one)
    [summary] = [item for item in summaries(VirtualMachine.objects.all()) if item.pk == vm.pk]
    assert (spoken.status, summary.status) == (status, status)
    assert summary.last_point_at == spoken.last_point_at
    assert spoken.sentence
    assert (spoken.failed_job is not None) == (story in (a_failed_one, only_failed))


def test_a_machine_of_two_teams_is_listed_once_and_one_that_is_gone_only_with_a_point(people):
    second = TeamFactory()
    MembershipFactory(team=second, user=people.bob, role="viewer")
    vm, lost, kept = VmFactory(name="here"), VmFactory(name="lost"), VmFactory(name="kept")
    for machine in (vm, lost, kept):
        machine.teams.add(people.team, second)
    VirtualMachine.objects.exclude(pk=vm.pk).update(gone_at=timezone.now())
    point(kept, hours_ago=1)
    point(kept, hours_ago=2)
    assert sorted(item.name for item in summaries(machines_of(people.bob))) == ["here", "kept"]
    assert sorted(item.name for item in summaries(machines_of(people.root))) == ["here", "kept"]
    assert summaries(machines_of(people.dave)) == []
