# SPDX-License-Identifier: GPL-3.0-or-later
"""My machines: where somebody without a team lands, what is said of each machine, and what can be done."""

import datetime as dt

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from portal import wording
from portal.accounts.roles import Role
from portal.environments.models import VirtualMachine, VmGrant
from portal.jobs.states import JobState
from tests.factories import JobFactory, PointDiskFactory, PointFactory, UserFactory, VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]
MINE = "/mine/"


@pytest.fixture
def owner():
    return UserFactory(username="oscar")


@pytest.fixture
def vm(owner):
    machine = VmFactory(name="shop")
    VmGrant.objects.create(vm=machine, user=owner, role=Role.OPERATOR, source="manager")
    return machine


@pytest.fixture
def browser(owner) -> Client:
    client = Client()
    client.force_login(owner)
    return client


def text(client: Client, address: str = MINE) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_an_owner_lands_on_the_machines_and_nothing_else_is_offered(browser, vm) -> None:
    assert browser.get("/").url == MINE
    page = text(browser)
    assert "shop" in page and "because the Manager names you its owner" in page
    rail = page[page.index('aria-label="Main"') : page.index("</nav>", page.index('aria-label="Main"'))]
    assert [name for name in ("My machines", "My restores", "Settings") if name in rail] == [
        "My machines",
        "My restores",
        "Settings",
    ]
    assert "Virtual machines" not in rail and "Overview<" not in rail


def test_who_is_in_a_team_still_lands_on_the_overview(people) -> None:
    client = Client()
    for person in (people.alice, people.root):
        client.force_login(person)
        assert client.get("/").status_code == 200


def test_the_last_good_point_in_words(browser, vm) -> None:
    at = timezone.now() - dt.timedelta(hours=14)
    good = PointFactory(vm=vm, taken_at=at)
    PointDiskFactory.create_batch(2, point=good)
    damaged = PointFactory(vm=vm, verify_problem="A chunk is missing.")
    page = text(browser)
    said = wording.day_and_time(timezone.localtime(at), timezone.localtime())
    assert f">{said}</time>" in page and ">14 hours ago</time>; 2 disks" in page
    assert reverse("restores:restore", args=[good.uuid]) in page
    assert reverse("restores:restore", args=[damaged.uuid]) not in page
    assert "newest restore point is damaged" in page


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("never", "It was never backed up"),
        ("old", "It was not backed up since 3 days ago"),
        ("failed", "The last backup failed: The storage was full."),
        ("gone", "It can still be restored as a new machine."),
        ("silent", "The Manager last told of this machine 2 hours ago"),
    ],
)
def test_what_is_wrong_in_words(browser, vm, state, words) -> None:
    now = timezone.now()
    if state != "never":
        PointFactory(vm=vm, taken_at=now - dt.timedelta(days=3 if state == "old" else 1))
    if state == "failed":
        ended = {"finished_at": now, "error_message": "The storage was full."}
        JobFactory(vm=vm, state=JobState.FAILED, **ended)
    if state == "gone":
        VirtualMachine.objects.filter(pk=vm.pk).update(gone_at=now)
    if state == "silent":
        VirtualMachine.objects.filter(pk=vm.pk).update(seen_at=now - dt.timedelta(hours=2))
    page = text(browser)
    assert words in page
    assert ("Back up now" in page) is (state != "gone")


def test_other_moments_and_what_runs(browser, vm) -> None:
    points = [PointFactory(vm=vm, taken_at=timezone.now() - dt.timedelta(days=day)) for day in range(12)]
    JobFactory(vm=vm, state=JobState.RUNNING, phase="Reading disk 1 of 2")
    page = text(browser)
    offered = [point for point in points if reverse("restores:restore", args=[point.uuid]) in page]
    assert offered == points[:8]
    assert "Reading disk 1 of 2" in page
    assert "Back up now" not in page


def test_a_viewer_may_look_and_is_told_whom_to_ask(browser, vm) -> None:
    VmGrant.objects.update(role=Role.VIEWER, source="hand")
    point = PointFactory(vm=vm)
    page = text(browser)
    assert "You may look at it, but not restore it" in page
    assert reverse("restores:restore", args=[point.uuid]) not in page


def test_nothing_is_mine_yet(browser) -> None:
    page = text(browser)
    assert "No machine is yours yet" in page and "UserVmManager" in page
    assert "No restore yet" in text(browser, "/mine/restores/")


def test_my_restores(browser, owner, vm) -> None:
    JobFactory(vm=vm, kind="vm_restore", params={"plan": {"name": "shop-2"}})
    JobFactory(vm=vm)
    JobFactory(vm__name="another", kind="vm_restore", params={"plan": {"name": "another-2"}})
    page = text(browser, "/mine/restores/")
    assert "shop-2" in page and "another" not in page and "Back up shop" not in page


def test_every_page_of_the_way_leads_back_to_my_machines(browser, vm, owner) -> None:
    point = PointFactory(vm=vm)
    job = JobFactory(vm=vm, kind="vm_restore")
    for address in (vm.get_absolute_url(), point.get_absolute_url(), f"{point.get_absolute_url()}restore/"):
        assert f'<a href="{MINE}">My machines</a>' in text(browser, address), address
    assert '<a href="/mine/restores/">My restores</a>' in text(browser, job.get_absolute_url())


def test_as_many_queries_for_many_machines(browser, owner, vm) -> None:
    def grow(machines: int) -> None:
        for _ in range(machines):
            each = VmFactory(environment=vm.environment)
            VmGrant.objects.create(vm=each, user=owner, role=Role.OPERATOR)
            for _ in range(3):
                PointDiskFactory(point__vm=each, point__repository__name=f"r{each.pk}{_}")
            JobFactory(vm=each, state=JobState.RUNNING)

    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            text(browser)
        return len(queries)

    grow(3)
    count()  # the first request of a session asks more
    few = count()
    grow(12)
    assert count() == few
    assert few <= 20
    grow(10)
    assert "Next" in text(browser)
    assert text(browser, f"{MINE}?page=2").count("Back up now") == 0


def test_moments_in_words() -> None:
    now = dt.datetime(2026, 3, 14, 12, 0)

    def said(**back: int) -> str:
        return wording.day_and_time(now - dt.timedelta(**back), now)

    assert said(hours=6) == "today 06:00"
    assert said(hours=14) == "yesterday 22:00"
    assert said(days=5) == "Monday 12:00"
    assert said(days=7) == "7 March 12:00"
    assert said(days=400) == "7 February 2025 12:00"
    assert said(hours=-24) == "15 March 12:00"


def test_the_plan_needs_no_choices_on_the_way(people, browser, vm, monkeypatch) -> None:
    """What is proposed is folded away; it opens with a choice, or with something that stands in the way."""
    point = PointFactory(vm=vm)
    address = reverse("restores:restore", args=[point.uuid])
    words = "Change where it goes"
    monkeypatch.setattr("restores.plans._manifest", lambda point, blockers: {})
    assert words in text(browser, address)
    assert words not in text(browser, f"{address}?network=plugged")
    assert words not in text(browser, f"{address}?name=%20")
    client = Client()
    client.force_login(people.root)
    assert words not in text(client, address)
