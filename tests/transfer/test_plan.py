# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic of extents, against a plain model of one cell per block."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backups.store.index import Layout
from backups.transfer.connection import Extent
from backups.transfer.plan import Quiet, chunks_in_a_request, jobs, reads, runs, total_data_bytes, walk

MIB = 1 << 20
BLOCK = 32 * 1024
CLEAN, DATA, ZERO = range(3)


@st.composite
def disks(draw):
    """(layout, extents, kind of each block, chunks to do)."""
    spans = draw(st.lists(st.tuples(st.integers(1, 90), st.sampled_from((CLEAN, DATA, ZERO))), min_size=1))
    kinds = [kind for length, kind in spans for _ in range(length)]
    extents, at = [], 0
    for length, kind in spans:
        extents.append(Extent(at * BLOCK, length * BLOCK, kind == ZERO, kind != CLEAN))
        at += length
    layout = Layout(at * BLOCK, MIB)
    todo = draw(st.lists(st.integers(0, layout.count - 1), unique=True).map(sorted))
    return layout, extents, kinds, todo


@settings(max_examples=200, deadline=None)
@given(disks())
def test_every_block_is_met_once_with_its_kind(case):
    layout, extents, kinds, todo = case
    met = {}
    for each in walk(layout, extents, todo):
        if isinstance(each, Quiet):
            for number in range(each.first, each.first + each.count):
                met[number] = [ZERO if each.zero else CLEAN] * (layout.length_of(number) // BLOCK)
            continue
        blocks = [CLEAN] * ((each.stop - each.start) // BLOCK)
        for kind, spans in ((DATA, each.data), (ZERO, each.zeros)):
            for start, stop in spans:
                for at in range((start - each.start) // BLOCK, (stop - each.start) // BLOCK):
                    blocks[at] = kind
        met[each.number] = blocks
    per_chunk = MIB // BLOCK
    assert list(met) == todo
    assert all(met[number] == kinds[number * per_chunk : (number + 1) * per_chunk] for number in todo)
    in_todo = [kind for number in todo for kind in kinds[number * per_chunk : (number + 1) * per_chunk]]
    assert total_data_bytes(layout, extents, todo) == in_todo.count(DATA) * BLOCK


@settings(max_examples=200, deadline=None)
@given(disks(), st.integers(1, 8))
def test_requests_cover_the_data_and_at_most_as_much_again(case, most):
    layout, extents, _, todo = case
    for job in jobs(walk(layout, extents, todo), most):
        if isinstance(job, Quiet):
            continue
        assert len(job) <= most and [piece.number for piece in job] == list(
            range(job[0].number, job[0].number + len(job))
        )
        wanted = {at for piece in job for start, stop in piece.data for at in range(start, stop, BLOCK)}
        got = [at for start, stop in reads(job) for at in range(start, stop, BLOCK)]
        assert wanted <= set(got) and len(set(got)) == len(got) and len(got) <= 2 * len(wanted)
        assert all(job[0].start <= at < job[-1].stop for at in got)


def test_numbers_become_runs():
    assert list(runs([])) == []
    assert list(runs([0, 1, 2, 5, 7, 8])) == [range(3), range(5, 6), range(7, 9)]


def test_a_huge_empty_disk_takes_few_steps():
    layout = Layout(10 << 40, 4 * MIB)
    steps = list(walk(layout, [Extent(0, 10 << 40, True)], range(layout.count)))
    assert all(isinstance(step, Quiet) and step.zero for step in steps)
    assert sum(step.count for step in steps if isinstance(step, Quiet)) == layout.count
    assert len(steps) < 1000


@pytest.mark.parametrize("chunk_mib", [1, 2, 4, 8, 16])
def test_a_request_is_bounded_in_bytes(chunk_mib):
    """Each connection has a buffer of this size, and four of them must leave room below 200 MiB."""
    count = chunks_in_a_request(chunk_mib << 20)
    assert 1 <= count <= 8
    assert count * chunk_mib <= 16
