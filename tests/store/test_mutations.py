# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository that was hurt at random: verify names exactly what was hurt.

Harmless, and not told: chunks missing that no point needs; bits of a chunk file that decode to the same content; spaces in `repository.json` and a
checksum that is no longer in it; whole lines missing at the end of the marks (only the portal's rows know of
them: tests/backups/test_upkeep.py); names and files that the store does not look at, such as in `tmp/`.
"""

import shutil
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backups.store import Repository
from backups.store.errors import StoreError
from backups.store.verify import verify_repository
from tests.store.mutations import World, damage, make_template, mutate, mutations


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    path = make_template(tmp_path_factory.mktemp("template") / "repository")
    return path, World.of(path)


def test_an_unhurt_repository_is_good(template):
    path, world = template
    result = verify_repository(Repository.open(path, expected_uuid=None))
    assert result.good and result.chunks == 6 and len(world.points) == 3


def hurt_and_verify(template, tmp_path_factory, data, most):
    path, world = template
    copy = Path(shutil.copytree(path, tmp_path_factory.getbasetemp() / uuid.uuid4().hex))
    try:
        known = sorted(world.files)
        for each in data.draw(st.lists(mutations(known), min_size=1, max_size=most)):
            mutate(copy, *each)
        check(copy, world)
    finally:
        shutil.rmtree(copy)


def check(copy, world):
    expected = damage(world, copy)
    try:
        result = verify_repository(Repository.open(copy, expected_uuid=None))
    except StoreError:
        assert expected.description, "it can only be refused for what it says of itself"
        return
    hurt = {point.ref for point in result.points if not point.good}
    assert hurt | expected.forgotten == expected.points | expected.forgotten
    # What only a point that cannot be read needs is named if its name can be read.
    readable = {point.ref for point in result.points if not point.problem}
    read = {Path(name).stem for ref in readable for name in world.points.get(ref, ("", ()))[1]}
    assert expected.bad_chunks | (expected.gone_chunks & read) <= set(result.bad)
    assert set(result.bad) <= expected.bad_chunks | expected.gone_chunks
    told = {point.ref for point in result.points if point.damaged_marks}
    # The marks of a point that cannot be opened are not looked at: it is named anyway.
    assert expected.marks - expected.points <= told <= expected.marks
    assert set(result.changed_files) == expected.texts
    for name, refs in result.hurt.items():
        using = {ref for ref, (_, chunks) in world.points.items() if any(name in chunk for chunk in chunks)}
        assert using & readable <= set(refs) <= using


@settings(
    max_examples=80,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_verify_names_exactly_what_was_hurt(template, tmp_path_factory, data):
    hurt_and_verify(template, tmp_path_factory, data, 1)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_verify_names_exactly_what_was_hurt_for_long(template, tmp_path_factory, data):
    hurt_and_verify(template, tmp_path_factory, data, 4)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_every_single_byte_that_changes_is_found(template, tmp_path):
    """A bit of every byte of every file, one after the other."""
    path, world = template
    copy = Path(shutil.copytree(path, tmp_path / "copy"))
    tried = 0
    for name, raw in world.files.items():
        for at in range(0, len(raw), 1 if len(raw) < 2000 else 29):
            (copy / name).parent.mkdir(exist_ok=True)
            mutate(copy, "flip", name, name, at * 8 + at % 8)
            check(copy, world)
            (copy / name).write_bytes(raw)
            tried += 1
    assert tried > 2000
