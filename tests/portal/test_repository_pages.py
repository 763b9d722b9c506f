# SPDX-License-Identifier: GPL-3.0-or-later
"""Repositories: how they are and since when that is known, what is in them, what is in their trash."""

import datetime as dt
import uuid
from pathlib import PurePosixPath

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from backups import growth, hurt, repositories
from backups import repository_presenters as presenters
from backups.models import Repository
from backups.store.repository import PointRef
from backups.store.verify import PointResult
from portal.audit.models import AuditEntry
from portal.errors import NotAllowed
from portal.jobs.models import Job
from tests.factories import (
    EnvironmentFactory,
    JobFactory,
    MeasurementFactory,
    PointDiskFactory,
    PointFactory,
    RepositoryFactory,
    VmFactory,
)

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

DAY = dt.timedelta(days=1)
GIB = 1 << 30


@pytest.fixture
def client(people) -> Client:
    client = Client()
    client.force_login(people.root)
    return client


@pytest.fixture
def store(db) -> Repository:
    return RepositoryFactory(name="Main", is_default=True, checked_at=timezone.now())


def text_of(client: Client, address: str, **params: str) -> str:
    response = client.get(address, params)
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.parametrize(
    ("changes", "status", "label"),
    [
        ({"checked_at": None}, "unknown", "Not looked at yet"),
        ({}, "reachable", "Reachable"),
        ({"problem": "Gone.", "problem_code": "repository_missing"}, "unreachable", "Not mounted"),
        (
            {"problem": "Other.", "problem_code": "repository_mismatch"},
            "unreachable",
            "Another repository is there",
        ),
        (
            {"problem": "Slow.", "problem_code": "store_error", "bad_chunks": 1},
            "unreachable",
            "Not reachable",
        ),
        ({"bad_chunks": 2}, "damaged", "Damaged"),
        ({"collect_problem": "An index is damaged."}, "uncollected", "Collection failed"),
        ({"total_bytes": 100 * GIB, "free_bytes": 4 * GIB}, "nearly_full", "Nearly full"),
        ({"total_bytes": 100 * GIB, "free_bytes": 6 * GIB}, "reachable", "Reachable"),
        ({"total_bytes": 100 * GIB, "free_bytes": 0}, "nearly_full", "Nearly full"),
    ],
)
def test_the_worst_is_said_first(changes, status, label):
    found = presenters.state(Repository(**{"name": "x", "checked_at": timezone.now(), **changes}))
    assert (found.status, found.label) == (status, label)


def test_an_old_look_is_said_to_be_old():
    found = presenters.state(Repository(name="x", checked_at=timezone.now() - DAY))
    assert found.sentence == "Looked at yesterday; it should be every hour. Are the workers and beat running?"


def test_the_list_shows_space_points_growth_and_when_it_was_looked_after(client, store):
    now = timezone.now()
    for days in range(10):
        MeasurementFactory(repository=store, at=now - days * DAY, bytes_used=(100 - 2 * days) * GIB)
    Repository.objects.filter(pk=store.pk).update(verified_at=now - 3 * DAY)
    PointFactory.create_batch(3, repository=store)
    PointFactory(repository=store, deleted_at=now)
    RepositoryFactory(name="Offsite")
    text = text_of(client, "/repositories/")
    for words in (
        "Main (default)",
        "900 GiB free of 1 TiB",
        "2 GiB a day",
        "3 days ago",
        "Not looked at yet",
    ):
        assert words in text, words
    rows = client.get("/repositories/").context["rows"]
    assert [row["cells"][3]["value"] for row in rows] == ["3", "0"]


def test_without_any_the_list_says_what_to_do(client):
    assert "Without one nothing can be backed up." in text_of(client, "/repositories/")
    VmFactory()
    assert "There is no repository yet" in text_of(client, "/")


def test_a_page_says_what_is_known_and_what_is_not(client, store):
    text = text_of(client, store.get_absolute_url())
    for words in (
        "It has not been measured yet",
        "None yet",
        "None has ended yet",
        "The folder is all that is needed",
    ):
        assert words in text, words


def test_a_page_has_growth_results_jobs_and_the_command(client, store):
    now = timezone.now()
    for days in range(30):
        MeasurementFactory(repository=store, at=now - days * DAY, bytes_used=(100 - days) * GIB)
    Repository.objects.filter(pk=store.pk).update(
        verified_at=now,
        verified_chunks=812_345,
        collected_at=now,
        collected_chunks=1200,
        collected_bytes=3 * GIB,
    )
    PointDiskFactory(point=PointFactory(repository=store, vm__environment=EnvironmentFactory()))
    job = JobFactory(
        vm=None,
        kind="repository_verify",
        state="succeeded",
        subject_label="Main",
        params={"repository": str(store.uuid)},
    )
    other = JobFactory(vm=None, kind="repository_verify", state="succeeded", params={"repository": "other"})
    text = text_of(client, store.get_absolute_url())
    for words in (
        "Stored data went from 71 GiB",
        "812,345 chunks read and found right.",
        "1,200 chunks removed, 3 GiB freed.",
        "At this growth full in 2 years.",
        "casync extract",
        job.get_absolute_url(),
        "+1 GiB",
    ):
        assert words in text, words
    assert other.get_absolute_url() not in text


def test_a_repository_that_is_away_says_so_there_and_on_the_overview(client, people, store):
    Repository.objects.filter(pk=store.pk).update(
        problem="/mnt/x holds no repository.", problem_code="repository_missing"
    )
    VmFactory().teams.add(people.team)
    for address in ("/", store.get_absolute_url()):
        assert "/mnt/x holds no repository." in text_of(client, address)
    for changes in (
        {"verify_problem": "Hurt."},
        {"collect_problem": "Stuck."},
        {"free_bytes": 1, "total_bytes": 99},
    ):
        fresh = {"problem": "", "verify_problem": "", "collect_problem": "", **changes}
        Repository.objects.filter(pk=store.pk).update(**fresh)
        assert "The repository Main" in text_of(client, "/") or "in the repository Main" in text_of(
            client, "/"
        )
    client.force_login(people.alice)
    assert "/mnt/x holds no repository." not in text_of(client, "/"), "others can do nothing about it"


def test_damage_leads_to_the_points_that_it_hurts(client, store):
    PointFactory(repository=store, vm__name="hurt", verify_problem="2 chunks: damaged or missing.")
    PointFactory(repository=store, vm__name="whole")
    address = reverse("backups:repository_points", args=[store.uuid])
    assert "2 chunks: damaged or missing." in text_of(client, store.get_absolute_url())
    PointFactory.create_batch(9, repository=store, verify_problem="Gone.")
    assert f'{address}?state=damaged">All 10 of them' in text_of(client, store.get_absolute_url())
    text = text_of(client, address, state="damaged")
    assert "hurt" in text
    assert "whole" not in text


def test_damaged_chunks_are_named_with_the_points_that_need_them(client, store):
    points = PointFactory.create_batch(2, repository=store, vm__name="hurt")
    Repository.objects.filter(pk=store.pk).update(verify_problem="2 damaged.", verified_at=timezone.now())
    told = {"ab" * 32: [str(point.uuid) for point in points], "cd" * 32: [str(uuid.uuid4())]}
    done = {"vm": None, "kind": "repository_verify", "params": {"repository": str(store.uuid)}}
    JobFactory(**done, state="failed", result={"hurt": {"ef" * 32: []}})
    JobFactory(**done, state="failed", result={"hurt": told})
    response = client.get(store.get_absolute_url())
    found = [(chunk.chunk_id, len(chunk.points)) for chunk in response.context["chunks"]]
    assert found == [("ab" * 32, 2), ("cd" * 32, 0)]
    text = response.content.decode()
    assert points[0].get_absolute_url() in text
    assert "The restore points that needed it are gone." in text
    Repository.objects.filter(pk=store.pk).update(verify_problem="")
    assert "ab" * 32 not in text_of(client, store.get_absolute_url())


def test_no_more_chunks_and_points_are_written_down_than_a_page_shows():
    by_chunk = hurt.HurtByChunk()
    for number in range(30):
        ref = PointRef("e", "v", f"p{number}")
        by_chunk.add(PointResult(ref, missing=[f"{chunk:064x}" for chunk in range(99)]))
    assert len(by_chunk.points) == hurt.CHUNKS_NAMED
    assert {len(points) for points in by_chunk.points.values()} == {hurt.POINTS_NAMED}


def test_a_chunk_that_is_named_names_its_points_also_behind_one_for_which_no_room_is_left():
    by_chunk = hurt.HurtByChunk()
    named = [f"{chunk:064x}" for chunk in range(1, hurt.CHUNKS_NAMED + 1)]
    by_chunk.add(PointResult(PointRef("e", "v", "first"), missing=named))
    by_chunk.add(PointResult(PointRef("e", "v", "second"), missing=["0" * 64, *named]))
    assert by_chunk.points == {chunk_id: ["first", "second"] for chunk_id in named}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("", ["bad", "fine", "held", "new", "pinned"]),
        ("verified", ["fine"]),
        ("unverified", ["held", "new", "pinned"]),
        ("pinned", ["pinned"]),
        ("held", ["held"]),
        ("nonsense", ["bad", "fine", "held", "new", "pinned"]),
    ],
)
def test_points_are_filtered_by_state(client, store, state, expected):
    now = timezone.now()
    PointFactory(repository=store, vm__name="bad", verified_at=now, verify_problem="Damaged.")
    PointFactory(repository=store, vm__name="fine", verified_at=now)
    PointFactory(repository=store, vm__name="new")
    PointFactory(repository=store, vm__name="pinned", pinned_at=now)
    PointFactory(repository=store, vm__name="held", held_at=now)
    PointFactory(repository=store, vm__name="deleted", deleted_at=now)
    PointFactory(vm__name="elsewhere")
    response = client.get(reverse("backups:repository_points", args=[store.uuid]), {"state": state})
    assert sorted(row["cells"][0]["value"] for row in response.context["rows"]) == expected


def test_points_are_paged_without_losing_or_repeating_one(client, store):
    """Also where many were taken in the same instant."""
    at, vm = timezone.now() - DAY, VmFactory()
    points = PointFactory.create_batch(130, repository=store, vm=vm, taken_at=at)
    address = reverse("backups:repository_points", args=[store.uuid])
    found, page, back = [], client.get(address).context["page"], []
    found.append([point.pk for point in page.rows])
    while page.older_url:
        page = client.get(address + page.older_url).context["page"]
        found.append([point.pk for point in page.rows])
    assert [len(part) for part in found] == [50, 50, 30]
    assert sorted(key for part in found for key in part) == sorted(point.pk for point in points)
    while page.newer_url:
        page = client.get(address + page.newer_url).context["page"]
        back.append([point.pk for point in page.rows])
    assert back == [found[1], found[0]]
    assert client.get(address, {"cursor": "nonsense"}).context["page"].shown == "50 of 130 restore points"


def test_the_trash_says_how_long_each_can_be_had_back(client, store):
    now = timezone.now()
    deleted = {"repository": store, "deleted_by": "alice", "deleted_why": "Too old"}
    PointFactory(**deleted, vm__name="fresh", deleted_at=now - 4 * DAY)
    PointFactory(**deleted, vm__name="due", deleted_at=now - 15 * DAY)
    PointFactory(**deleted, vm__name="held", deleted_at=now - 15 * DAY, held_at=now)
    PointFactory(**deleted, vm__name="purged", deleted_at=now - 30 * DAY, purged_at=now)
    response = client.get(reverse("backups:repository_trash", args=[store.uuid]))
    assert [(row.point.vm_name, row.left) for row in response.context["rows"]] == [
        ("fresh", "For 10 days"),
        ("held", "As long as it is held"),
        ("due", "Until the next collection"),
    ]
    assert "Too old" in response.content.decode()


def test_verify_and_collect_are_jobs_that_are_ordered_once(client, store, rings):
    for route, kind in (("verify", "repository_verify"), ("collect", "collect_garbage")):
        address = reverse(f"backups:repository_{route}", args=[store.uuid])
        first, second = client.post(address), client.post(address)
        job = Job.objects.get(kind=kind)
        assert first.url == second.url == job.get_absolute_url()
        assert job.subject_url == store.get_absolute_url()
        assert "Main" in text_of(client, store.get_absolute_url())


def test_the_page_follows_its_jobs_and_turns_to_their_result(client, store, rings):
    client.post(reverse("backups:repository_verify", args=[store.uuid]))
    fragment = client.get(store.get_absolute_url(), headers={"HX-Target": "live-jobs"})
    assert "Verifying repository Main" in fragment.content.decode()
    assert "HX-Refresh" not in fragment
    Job.objects.update(state="succeeded")
    fragment = client.get(store.get_absolute_url(), headers={"HX-Target": "live-jobs"})
    assert fragment["HX-Refresh"] == "true"


def test_another_default_takes_the_place_of_the_first(client, store, people):
    other = RepositoryFactory(name="Offsite")
    client.post(reverse("backups:repository_default", args=[other.uuid]))
    assert list(Repository.objects.filter(is_default=True)) == [other]
    assert AuditEntry.objects.get(action="repository.default").data["before"] == ["Main"]
    with pytest.raises(NotAllowed):
        repositories.make_default(actor=people.alice, repository=store)


def test_name_and_grace_period_are_changed_with_before_and_after_in_the_history(client, store):
    address = reverse("backups:repository_change", args=[store.uuid])
    RepositoryFactory(name="Offsite")
    refused = client.post(address, {"name": "Offsite", "trash_days": "0"})
    assert refused.status_code == 422
    assert set(refused.context["form"].errors) == {"name", "trash_days"}
    client.post(address, {"name": "Vault", "trash_days": "30"})
    store.refresh_from_db()
    assert (store.name, store.trash_days) == ("Vault", 30)
    entry = AuditEntry.objects.get(action="repository.change")
    assert entry.data["before"] == {"name": "Main", "trash_days": 14}


@pytest.mark.parametrize(
    "path", ["relative", "/", "/mnt/../etc", "/mnt/main", "/mnt/main/inside", "/mnt", ""]
)
def test_a_folder_that_cannot_be_one_is_refused_in_the_form(client, rings, path):
    RepositoryFactory(name="Main", path="/mnt/main")
    data = {"name": "New", "path": path, "trash_days": "14", "existing": "no"}
    response = client.post(reverse("backups:repository_add"), data)
    assert response.status_code == 422
    assert list(response.context["form"].errors) == ["path"]
    assert not Job.objects.exists()


def test_adding_one_is_a_job_that_only_platform_admins_order(client, people, rings):
    data = {"name": "New", "path": "/mnt/new", "trash_days": "30", "default": "on", "existing": "yes"}
    response = client.post(reverse("backups:repository_add"), data)
    job = Job.objects.get(kind="repository_add")
    assert response.url == job.get_absolute_url()
    assert (job.params["path"], job.params["existing"]) == ("/mnt/new", True)
    with pytest.raises(NotAllowed):
        repositories.order_repository(
            actor=people.alice, name="x", path=PurePosixPath("/mnt/x"), trash_days=1
        )


def test_the_curve_spans_its_box_and_ends_at_the_newest():
    now = timezone.now()
    history = [MeasurementFactory.build(at=now - n * DAY, bytes_used=(10 - n) * GIB) for n in range(3)]
    drawn = growth.curve(history)
    xs = [float(pair.split(",")[0]) for pair in drawn.line.split()]
    assert (xs[0], xs[-1]) == (0.0, float(growth.WIDTH))
    assert drawn.top == "10 GiB"
    assert growth.curve(history[:1]) is None


def test_one_row_a_day_with_the_change_since_the_day_before():
    now = timezone.now().replace(hour=12)
    history = [
        MeasurementFactory.build(at=now, bytes_used=5 * GIB),
        MeasurementFactory.build(at=now - DAY / 4, bytes_used=9 * GIB),
        MeasurementFactory.build(at=now - DAY, bytes_used=6 * GIB),
    ]
    rows = growth.rows(history)
    assert [row["cells"][1]["value"] for row in rows] == [5 * GIB, 6 * GIB]
    assert [row["cells"][2]["value"] for row in rows] == ["−1 GiB", ""]


def test_something_small_is_still_drawn():
    space = presenters.Space(ours=1, free=10 * GIB, total=10 * GIB + 1)
    assert (space.ours_width, space.used_width) == ("0.50", "0.50")
    assert presenters.Space(None, None, None).words == "unknown"
