# SPDX-License-Identifier: GPL-3.0-or-later
import uuid

import pytest

from backups.store import Repository, chunk_size_for
from tests.store.support import DISK, ENVIRONMENT, VM, content_of
from tests.transfer.imageio import MIB, Daemon, Disk


@pytest.fixture(scope="session")
def daemon(tmp_path_factory):
    """A real ovirt-imageio daemon without TLS on a port of its own."""
    running = Daemon(tmp_path_factory.mktemp("imageio"))
    yield running
    running.stop()


@pytest.fixture
def repository(tmp_path):
    return Repository.create(tmp_path / "repository", owner="tests", gc_age_seconds=3600)


@pytest.fixture
def stage(repository):
    """Begin a restore point with one index; returns (staged point, index)."""

    def begin(size, *, point=None, chunk_size=None, source=""):
        staged = repository.stage_point(ENVIRONMENT, VM, point or str(uuid.uuid4()))
        return staged, staged.disk_index(DISK, size, chunk_size or chunk_size_for(size), source=source)

    return begin


@pytest.fixture
def disk(tmp_path):
    """A disk of 40 MiB and a bit, with data, holes, data in part of a chunk, and written zeros."""
    made = Disk.create(tmp_path / "source.qcow2", 40 * MIB + 192 * 1024)
    made.write(
        (0, content_of(9 * MIB, seed=3)),
        (12 * MIB + 65536, content_of(131072, seed=4)),
        (20 * MIB, content_of(MIB, seed=5)),
        (21 * MIB, content_of(MIB, seed=5)),
        (40 * MIB + 131072, b"the end".ljust(65536, b".")),
    )
    made.zero(5 * MIB, 2 * MIB)
    return made
