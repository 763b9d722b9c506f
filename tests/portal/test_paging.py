# SPDX-License-Identifier: GPL-3.0-or-later
"""Keyset paging: both directions, equal moments, rows that go meanwhile, cursors that somebody made up."""

import base64
import datetime as dt
import json

import pytest
from django.http import QueryDict
from django.utils import timezone

from portal.environments.models import VirtualMachine
from portal.jobs.models import Job
from portal.paging import COUNTED, BadCursor, Order, counted, in_words, list_page, page_of
from tests.factories import EnvironmentFactory, JobFactory, VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

BY_TIME = Order(("created_at", "id"))


def made_up(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@pytest.fixture
def jobs(db) -> list[int]:
    """Newest first; three share each moment."""
    now = timezone.now()
    made = JobFactory.create_batch(20)
    for number, job in enumerate(made):
        Job.objects.filter(pk=job.pk).update(created_at=now - dt.timedelta(hours=number // 3))
    rows = Job.objects.order_by("-created_at", "-id")
    return list(rows.values_list("pk", flat=True))


def test_there_and_back_every_row_comes_once(jobs):
    page = page_of(Job.objects.all(), order=BY_TIME, size=7)
    parts = [[row.pk for row in page.rows]]
    assert page.newer == ""
    while page.older:
        page = page_of(Job.objects.all(), page.older, order=BY_TIME, size=7)
        parts.append([row.pk for row in page.rows])
    assert [key for part in parts for key in part] == jobs
    back = []
    while page.newer:
        page = page_of(Job.objects.all(), page.newer, order=BY_TIME, size=7)
        back.append([row.pk for row in page.rows])
    assert back == [parts[1], parts[0]]


def test_the_row_that_a_cursor_names_may_be_gone(jobs):
    page = page_of(Job.objects.all(), order=BY_TIME, size=7)
    Job.objects.filter(pk=page.rows[-1].pk).delete()
    assert [row.pk for row in page_of(Job.objects.all(), page.older, order=BY_TIME, size=7).rows] == jobs[
        7:14
    ]


def test_an_ascending_order_by_name(db):
    environment = EnvironmentFactory()
    for name in ("b", "a", "d", "c", "c"):
        VmFactory(name=name, environment=environment)
    order = Order(("name", "id"), descending=False)
    first = page_of(VirtualMachine.objects.all(), order=order, size=3)
    second = page_of(VirtualMachine.objects.all(), first.older, order=order, size=3)
    assert [vm.name for vm in [*first.rows, *second.rows]] == ["a", "b", "c", "c", "d"]
    assert page_of(VirtualMachine.objects.all(), second.newer, order=order, size=3).rows == first.rows


@pytest.mark.parametrize(
    "cursor",
    [
        "nonsense",
        "ü",
        "=",
        "x" * 501,
        made_up(17),
        made_up(["older"]),
        made_up(["sideways", ["2026-03-01T00:00:00+00:00", 1]]),
        made_up(["older", [1]]),
        made_up(["older", ["2026-03-01T00:00:00+00:00", 1, 1]]),
        made_up(["older", ["2026-03-01T00:00:00", 1]]),
        made_up(["older", ["2026-03-01T00:00:00+00:00", 10**30]]),
        made_up(["older", ["2026-03-01T00:00:00+00:00", True]]),
        made_up(["older", ["2026-03-01T00:00:00+00:00", {"id": 1}]]),
        made_up(["older", ["2026-13-01T00:00:00+00:00", 1]]),
        made_up(["older", ["9999-12-31T23:59:59-12:00", 1]]),
        made_up(["older", ["\0", 1]]),
        base64.urlsafe_b64encode(b"[" * 300).decode(),
    ],
)
def test_a_made_up_cursor_is_refused_and_on_a_page_leads_to_the_first(jobs, cursor):
    with pytest.raises(BadCursor):
        page_of(Job.objects.all(), cursor, order=BY_TIME)
    params = QueryDict(mutable=True)
    params["cursor"] = cursor
    assert [row.pk for row in list_page(Job.objects.all(), params, "job", order=BY_TIME).rows] == jobs


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_no_database_takes_is_refused(text):
    order = Order(("name", "id"), descending=False)
    with pytest.raises(BadCursor):
        page_of(VirtualMachine.objects.all(), made_up(["older", [text, 1]]), order=order)


def test_a_page_keeps_the_filters_and_says_how_many_there_are(jobs):
    JobFactory.create_batch(40)
    page = list_page(Job.objects.all(), QueryDict("state=active&cursor=old"), "job")
    assert page.shown == "50 of 60 jobs"
    assert page.older_url.startswith("?state=active&cursor=") and "old" not in page.older_url
    last = list_page(Job.objects.all(), QueryDict(page.older_url[1:]), "job")
    assert (len(last.rows), last.older_url) == (10, "")


def test_counting_ends_where_it_would_take_long(jobs):
    assert counted(Job.objects.all()) == 20
    assert in_words(1, "job") == "1 job"
    assert in_words(COUNTED, "job") == "1,000 jobs"
    assert in_words(COUNTED + 1, "job") == "1,000+ jobs"
