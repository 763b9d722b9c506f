# SPDX-License-Identifier: GPL-3.0-or-later
"""Two machines back up into one repository while a third collects garbage, and is killed at it."""

import signal
import subprocess
import sys
import uuid

import pytest

from backups.store import Repository
from backups.store.gc import collect
from backups.store.verify import verify_repository
from tests.store.child import AGE, PARTS, part
from tests.store.support import DISK, ENVIRONMENT, MIB, VM, chunk_files, make_old

ROUNDS = 2


def start(*argv, stdin=None):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.store.child", *map(str, argv)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def repository(tmp_path):
    return Repository.create(tmp_path / "repository", owner="tests", gc_age_seconds=AGE)


def delete_everything(repository):
    """All points go, and what they stored is old: so the next backups meet chunks that are about to be removed."""
    for ref in list(repository.points()):
        repository.trash_point(ref, reason="x", by="x")
    for path in [*repository.path.rglob("*.cacnk"), *repository.path.rglob("marks.jsonl")]:
        make_old(path, 100 * AGE)
    repository.purge_trash(older_than_seconds=AGE)


def test_backups_of_two_machines_beside_a_collection_lose_nothing(repository):
    for number in range(ROUNDS):
        delete_everything(repository)
        token = uuid.uuid4().hex
        collector = start("collect", repository.path, token, stdin=subprocess.PIPE)
        points = [str(uuid.uuid4()) for _ in range(2)]
        writers = [
            start("backup", repository.path, point, seed) for seed, point in enumerate(points, 10 * number)
        ]
        assert collector.stdout is not None
        assert collector.stdout.readline().startswith("removed")
        # A collector dies anywhere; the next one has its lease, and puts back what it had moved.
        collector.send_signal(signal.SIGKILL)
        collector.wait()
        second = start("collect", repository.path, token, stdin=subprocess.PIPE)
        for writer in writers:
            assert writer.wait(120) == 0
            writer.stdout.close()
        told, _ = second.communicate("", timeout=120)
        assert (second.returncode, told.startswith("removed")) == (0, True)
        collector.stdout.close()
        collector.stdin.close()
        for point in points:
            stored = repository.open_point(ENVIRONMENT, VM, point)
            with stored.index(DISK) as index:
                for at, chunk_id in enumerate(index):
                    assert repository.chunks.read(chunk_id, MIB) == part(at)
        assert verify_repository(repository).good
        assert len(chunk_files(repository)) == PARTS
    delete_everything(repository)
    collect(repository, older_than_seconds=AGE, token=token)
    assert chunk_files(repository) == []
