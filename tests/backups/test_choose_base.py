# SPDX-License-Identifier: GPL-3.0-or-later
"""Incremental from where, and the reason in words."""

import datetime as dt
import uuid

import pytest

from backups.bases import choose_base
from backups.models import RestorePoint

pytestmark = pytest.mark.embedded


def made(day: int, *, checkpoint: bool = True) -> RestorePoint:
    moment = dt.datetime(2026, 3, day, 2, 30, tzinfo=dt.UTC)
    return RestorePoint(taken_at=moment, checkpoint_id=uuid.uuid4() if checkpoint else None)


def choose(points, usable, *, compatibility="4.6", full=False, broken=None):
    return choose_base(
        points,
        {str(point.checkpoint_id) for point in usable},
        compatibility=compatibility,
        full_asked=full,
        broken=broken,
    )


def test_the_newest_point_whose_checkpoint_is_there_is_the_base():
    newest, older = made(9), made(8)
    choice = choose([newest, older], [newest, older])
    assert choice.point is newest
    assert choice.reason == "Incremental since the restore point of 9 March, 02:30."


def test_an_older_point_is_taken_if_the_newest_lost_its_checkpoint():
    newest, older = made(9), made(8)
    choice = choose([newest, older], [older])
    assert choice.point is older
    assert "since the restore point of 8 March" in choice.reason
    assert "the checkpoint of 9 March, 02:30 was no longer on the Manager" in choice.reason


def test_a_point_without_checkpoint_is_passed_over():
    failed_end, older = made(9, checkpoint=False), made(8)
    choice = choose([failed_end, older], [older])
    assert choice.point is older
    assert choice.reason == "Incremental since the restore point of 8 March, 02:30."


@pytest.mark.parametrize(
    ("points", "options", "words"),
    [
        ([made(9)], {"full": True}, "asked for"),
        ([], {}, "first backup"),
        ([made(9)], {"compatibility": "4.4"}, "compatibility level 4.4 has no incremental"),
        ([made(9)], {"compatibility": "3.6"}, "compatibility level 3.6"),
        ([made(9, checkpoint=False)], {}, "left no checkpoint"),
        ([made(9), made(8)], {}, "the checkpoint of 9 March, 02:30 was no longer on the Manager"),
    ],
    ids=["asked", "first", "4.4", "3.6", "raw", "gone"],
)
def test_otherwise_it_is_full_and_says_why(points, options, words):
    choice = choose(points, points if "compatibility" in options or "full" in options else [], **options)
    assert choice.point is None
    assert choice.reason.startswith("Full, because")
    assert words in choice.reason


@pytest.mark.parametrize("compatibility", ["4.5", "4.10", "5.0", "", "nonsense"])
def test_levels_from_four_five_on_and_unknown_ones_try_incremental(compatibility):
    point = made(9)
    assert choose([point], [point], compatibility=compatibility).point is point


def test_a_broken_checkpoint_is_passed_over_for_the_next_older_one():
    newest, older, oldest = made(9), made(8), made(7)
    points = [newest, older, oldest]
    choice = choose(points, points, broken={str(newest.checkpoint_id): "The blocks were not told."})
    assert choice.point is older
    assert choice.reason == (
        "Incremental since the restore point of 8 March, 02:30, because the checkpoint of 9 March, 02:30 "
        "could not be used (The blocks were not told)."
    )


def test_with_every_checkpoint_broken_it_is_full_and_names_them_all():
    newest, older = made(9), made(8)
    broken = {str(newest.checkpoint_id): "One.", str(older.checkpoint_id): "Two."}
    choice = choose([newest, older], [newest, older], broken=broken)
    assert choice.point is None
    assert choice.reason == (
        "Full, because the checkpoint of 9 March, 02:30 could not be used (One), "
        "and the checkpoint of 8 March, 02:30 could not be used (Two)."
    )
    # Live, the Manager has dropped the others too: they are not held against anybody.
    dropped = choose([newest, older], [], broken={str(newest.checkpoint_id): "One."})
    assert dropped.reason == "Full, because the checkpoint of 9 March, 02:30 could not be used (One)."
