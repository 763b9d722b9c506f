# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore point's page: why it is as it is, what happened to it, and what each person may do with it."""

import datetime as dt
import shutil

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from backups import services
from backups.models import RestorePoint
from restores.models import Restore
from tests.backups.support import disk_of, publish
from tests.factories import JobFactory, PointFactory

pytestmark = pytest.mark.django_db


def signed_in(person) -> Client:
    client = Client()
    client.force_login(person)
    return client


def text_of(person, point: RestorePoint) -> str:
    return signed_in(person).get(point.get_absolute_url()).content.decode()


def do(person, verb: str, point: RestorePoint, **data: str):
    response = signed_in(person).post(reverse(f"backups:{verb}", args=[point.uuid]), data)
    point.refresh_from_db()
    return response


def test_it_says_why_disk_by_disk_what_was_left_out_and_how_sure_it_is(people, repository, vm):
    disks = [
        disk_of("system", mode="incremental", reason="Incremental since 3 March.", dirty_bytes=3 << 20),
        disk_of("data", reason="Full, because its size has changed."),
    ]
    point = services.record_point(repository, vm, publish(repository, vm, disks=disks), None)
    text = text_of(people.carol, point)
    for words in (
        "Incremental since 3 March.",
        "Full, because its size has changed.",
        "3 MiB",
        "Left out, because it is a lun disk. A restore does not bring it back.",
        "As after a power cut",
        "No agent.",
    ):
        assert words in text, words


def test_it_leads_to_the_point_that_it_goes_on_from_also_to_a_deleted_one(people, vm):
    base = PointFactory(vm=vm)
    point = PointFactory(vm=vm, from_checkpoint_id=base.checkpoint_id)
    assert f'href="{base.get_absolute_url()}"' in text_of(people.carol, point)
    RestorePoint.objects.filter(pk=base.pk).update(deleted_at=timezone.now(), deleted_by="x")
    assert "It was deleted since, which does not matter to this one." in text_of(people.carol, point)
    other_machine = PointFactory(from_checkpoint_id=base.checkpoint_id, vm__environment=vm.environment)
    assert base.get_absolute_url() not in text_of(people.root, other_machine)


OFFERS = {
    "carol": set(),
    "bob": {"Restore", "Verify", "Pin"},
    "alice": {"Restore", "Verify", "Pin", "Hold", "Delete"},
}


@pytest.mark.parametrize(("name", "expected"), OFFERS.items())
def test_only_what_the_role_allows_is_offered(people, point, name, expected):
    response = signed_in(getattr(people, name)).get(point.get_absolute_url())
    offered = {verb.capitalize() for verb, allowed in response.context["may"].items() if allowed}
    assert offered == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pinned_at": 1, "held_at": 1}, {"restore", "verify", "unpin", "release"}),
        ({"deleted_at": 1}, {"hold", "undelete"}),
        ({"deleted_at": 1, "held_at": 1}, {"release", "undelete"}),
        ({"deleted_at": 1, "purged_at": 1}, set()),
    ],
)
def test_only_what_makes_sense_is_offered(people, point, changes, expected):
    RestorePoint.objects.filter(pk=point.pk).update(**dict.fromkeys(changes, timezone.now()))
    response = signed_in(people.alice).get(point.get_absolute_url())
    assert {verb for verb, allowed in response.context["may"].items() if allowed} == expected


def test_a_pin_and_its_reason_show_and_go_again(people, point):
    do(people.bob, "pin", point, reason="Before the upgrade")
    assert (point.pinned_by, point.pinned_why) == ("bob", "Before the upgrade")
    assert "Before the upgrade" in text_of(people.carol, point)
    do(people.bob, "unpin", point)
    assert point.pinned_at is None


def test_a_hold_needs_a_reason_and_stops_deleting(people, point):
    assert do(people.alice, "hold", point, reason="  ").status_code == 422
    assert point.held_at is None
    do(people.alice, "hold", point, reason="Case 4711")
    assert (point.held_by, point.held_why) == ("alice", "Case 4711")
    assert do(people.alice, "delete", point, confirm_name=point.vm_name).status_code == 409
    assert point.deleted_at is None
    do(people.alice, "release", point, reason="Closed")
    assert point.held_at is None


def test_what_was_deleted_is_taken_back_with_its_page(people, point):
    do(people.alice, "delete", point, confirm_name=point.vm_name, reason="By mistake")
    text = text_of(people.alice, point)
    assert "Reason: By mistake. For 14 days it can be had back." in text
    assert "Take back out of the trash" in text
    assert "casync extract" not in text
    assert do(people.alice, "undelete", point).url == point.get_absolute_url()
    assert point.deleted_at is None
    assert point.repository.open().has_point(point.ref)


def test_a_purged_one_says_that_only_the_record_remains(people, point):
    shutil.rmtree(point.repository.open().folder_of(point.ref))
    at = timezone.now() - dt.timedelta(days=20)
    RestorePoint.objects.filter(pk=point.pk).update(
        deleted_at=at, deleted_by="rule", purged_at=timezone.now()
    )
    point.refresh_from_db()
    assert "only this record remains" in text_of(people.alice, point)
    assert do(people.alice, "undelete", point).status_code == 409


def test_its_history_names_people_to_those_who_may_read_it(people, point):
    do(people.bob, "pin", point, reason="First")
    do(people.bob, "unpin", point)
    do(people.alice, "hold", point, reason="Case 4711")
    restoring = JobFactory(vm=point.vm, kind="vm_restore")
    Restore.objects.create(
        job=restoring, point=point, method="new_vm", target_name="copy", proven_at=timezone.now()
    )
    found = {}
    for name in ("alice", "carol"):
        response = signed_in(getattr(people, name)).get(point.get_absolute_url())
        found[name] = [item.title for item in response.context["history"]]
    assert found["alice"] == ["Proven", "Legal hold laid", "No longer pinned", "Pinned", "Made"]
    assert found["carol"] == ["Proven", "Legal hold laid", "Made"]
    assert "By bob. First" in text_of(people.alice, point)
    assert "By bob. First" not in text_of(people.carol, point)


def test_only_platform_admins_are_led_to_the_repository(people, point):
    link = f'href="{point.repository.get_absolute_url()}"'
    assert link in text_of(people.root, point)
    assert link not in text_of(people.alice, point)
