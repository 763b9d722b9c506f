# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes of disks of many terabytes in little memory; docs/performance.md has the numbers."""

import json
import os
import subprocess
import sys

import pytest

from backups.store.idset import PREFIXES, IdSet, fragment_of
from backups.store.index import ITEM
from tests.store.big import made_up

LIMIT_MIB = 200


def big(tib, chunk_mib, copies, **environment):
    argv = [sys.executable, "-m", "tests.store.big", str(tib), str(chunk_mib), str(copies)]
    env = {**os.environ, **environment}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=3000, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def as_expected(told, entries, copies):
    own = -(-entries // 1000)
    assert told["entries"] == told["listed"] == entries
    assert told["needed"] == told["used"] == entries + own * (copies - 1)
    assert told["removed"] == 0
    # The first index's chunks are listed, each other one lacks its own.
    assert told["missing"] == [0, *[own] * (copies - 1)]
    assert told["differ"] == (own if copies > 1 else 0)


def test_a_large_disk_takes_little_memory():
    told = big(0.05, 1, 3)
    as_expected(told, 52429, 3)
    assert told["peak_mib"] < 100


@pytest.mark.slow
@pytest.mark.parametrize(("chunk_mib", "entries"), [(4, 2_621_440), (1, 10_485_760)])
@pytest.mark.timeout(3000)
def test_ten_tebibytes(chunk_mib, entries):
    """4 MiB is what the chunk-size rule gives for 10 TiB; 1 MiB is what a disk has that grew to that size."""
    told = big(10, chunk_mib, 2)
    assert (told["entries"], told["listed"]) == (entries, entries)
    assert told["needed"] == told["used"] == entries + -(-entries // 1000)
    assert told["peak_mib"] < LIMIT_MIB


def items(ids):
    return b"".join(ITEM.pack(1, each) for each in ids)


def test_a_set_holds_what_was_added_and_nothing_else():
    ids = [made_up(number, 0) for number in range(3000)]
    found = IdSet()
    found.add_items(items(ids[:2000]) + items(ids[:10]))
    assert len(found) == 2000 and found.end == PREFIXES
    for number, each in enumerate(ids):
        assert (fragment_of(each) in found.under(each[0] << 8 | each[1])) == (number < 2000)


@pytest.mark.parametrize("limit", [10, 100, 5000])
def test_with_little_room_all_is_covered_in_several_passes(limit):
    ids = [made_up(number, 0) for number in range(1000)]
    first, seen, passes = 0, set(), 0
    while first < PREFIXES:
        found = IdSet(first=first, limit=limit)
        for _ in range(3):
            for at in range(0, len(ids), 50):
                found.add_items(items(ids[at : at + 50]))
        seen |= {
            number.to_bytes(2, "big") + fragment
            for number in range(found.first, found.end)
            for fragment in found.under(number)
        }
        assert found.end > found.first
        first = found.end
        passes += 1
    assert seen == {each[:10] for each in ids}
    assert (passes == 1) == (limit == 5000)


def test_the_same_id_many_times_takes_no_room():
    found = IdSet(limit=100)
    for _ in range(50):
        found.add_items(items([made_up(1, 0), made_up(2, 0)] * 20))
    assert len(found) == 2 and found.end == PREFIXES
