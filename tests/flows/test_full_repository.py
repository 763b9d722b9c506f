# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository that fills up under a backup of real workers: told clearly, nothing left anywhere, and room mends it."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backups import services as backups
from backups.models import Repository
from backups.store.verify import verify_point
from tests.flows import support
from tests.flows.support import back_up
from tests.worker_support import Workers, finished

pytestmark = [pytest.mark.flow, pytest.mark.lab, pytest.mark.slow]

# Less than one stored chunk of a file system's data, more than a log's line.
MOST_BYTES = 16 << 10


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += _descendants(int(child))
    return found


@contextmanager
def no_room(workers: Workers) -> Iterator[None]:
    """The workers' files may not grow: the kernel's own EFBIG, which the store takes like ENOSPC and EDQUOT."""
    running = [child.process for child in workers.supervisor.children if child.process is not None]
    pids = [pid for process in running for pid in _descendants(process.pid)]
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (MOST_BYTES, hard))
    try:
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def _judge(environment, repository: Repository, vm, job, before: support.OnManager) -> None:
    assert (job.state, job.error_code) == ("failed", "repository_full"), support.told(job)
    assert "No space is left in the repository" in job.error_message
    assert "Free space or raise the quota" in job.error_hint
    assert not job.warnings
    assert not job.locks.exists()
    support.assert_manager_is_clean(environment, before)
    assert support.staged_points(vm, repository.path) == []
    assert list(repository.open().points()) == []


@pytest.mark.parametrize("name", ["files-01", "web-01"])
def test_no_more_can_be_written(lab, environment, repository, workers, people, name):
    vm = environment.vms.get(name=name)
    before = support.on_manager(environment)
    with no_room(workers):
        job = finished(backups.start_vm_backup(actor=people.bob, vm=vm))
    _judge(environment, repository, vm, job, before)
    point = back_up(people.bob, vm)
    stored = repository.open().open_point(environment.uuid, vm.manager_id, point.uuid)
    assert verify_point(stored).good


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size=24m,uid={os.getuid()}", "tmpfs", str(place)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip(
            "mounting a file system needs root; the test above fills it by the kernel's file size limit"
        )
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_the_file_system_is_full(lab, environment, small_disk, workers, people):
    repository = backups.create_repository(actor=None, name="Small", path=small_disk / "repository")
    vm = environment.vms.get(name="files-01")
    before = support.on_manager(environment)
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file, pytest.raises(OSError, match="No space left"):
        while file.write(bytes(1 << 16)):
            file.flush()
    job = finished(backups.start_vm_backup(actor=people.bob, vm=vm))
    _judge(environment, repository, vm, job, before)
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=512m", str(small_disk)], check=True)
    support.assert_equals_volumes(lab, back_up(people.bob, vm))
