# SPDX-License-Identifier: GPL-3.0-or-later
"""One measured run, in a process of its own: `python -m bench.measured`, a task as JSON on standard input.

Prints one JSON object: seconds of the work without the start of the interpreter, CPU seconds of the process and of
what it started (the client's own qemu-nbd), peak of resident memory with everything that is imported.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.sampler import Sampler

DISK = "c0ffee00-1111-4222-8333-444455556666"
ENVIRONMENT = "0e3fe1c4-3f0c-4d3e-9d5c-0d3b3cdb4f01"
VM = "7b1f1d5e-2a60-4a3e-8f39-56c1b5a9e002"
WORKERS = 4

Facts = dict[str, Any]
Work = Callable[[], Facts]


class Silent:
    """A Progress that nobody looks at."""

    def plan(self, bytes_total: int) -> None: ...

    def advance(self, bytes_done: int) -> None: ...


def our_backup(task: Facts) -> Work:
    """As the portal does it: stage, read, publish durably; incremental if the task names a base point."""
    from backups.store import Repository, chunk_size_for
    from backups.transfer import ImageEndpoint, backup_full, backup_incremental

    endpoint = ImageEndpoint(task["url"], None, Path(task["ca_file"]), WORKERS)

    def work() -> Facts:
        repository = Repository.open(Path(task["repository"]), expected_uuid=None)
        staged = repository.stage_point(ENVIRONMENT, VM, task["point"])
        size = task["size_bytes"]
        index = staged.disk_index(DISK, size, chunk_size_for(size), source="bench")
        if task.get("base"):
            with repository.open_point(ENVIRONMENT, VM, task["base"]).index(DISK) as base:
                stats = backup_incremental(endpoint, index, base, repository.chunks, progress=Silent())
        else:
            stats = backup_full(endpoint, index, repository.chunks, progress=Silent())
        staged.publish({"taken_at": "2026-01-01T00:00:00Z"}, still_owner=lambda: True)
        return {"bytes_read": stats.bytes_read, "dirty_bytes": stats.dirty_bytes}

    return work


def our_restore(task: Facts) -> Work:
    """As the portal does it; the checksum of the whole disk that proves it afterwards is not in the time (the peer
    proves nothing)."""
    from backups.store import Repository
    from backups.transfer import ImageEndpoint, restore

    endpoint = ImageEndpoint(task["url"], None, Path(task["ca_file"]), WORKERS)

    def work() -> Facts:
        repository = Repository.open(Path(task["repository"]), expected_uuid=None)
        with repository.open_point(ENVIRONMENT, VM, task["point"]).index(DISK) as index:
            restore(endpoint, index, repository.chunks, progress=Silent(), disk_is_zero=True, hashed=False)
        return {}

    return work


def peer_backup(task: Facts) -> Work:
    from ovirt_imageio import client

    base = task.get("base")

    def work() -> Facts:
        client.download(
            task["url"],
            task["file"],
            task["ca_file"],
            fmt="qcow2",
            incremental=base is not None,
            max_workers=WORKERS,
            backing_file=base,
            backing_format="qcow2" if base else None,
        )
        return {}

    return work


def peer_restore(task: Facts) -> Work:
    from ovirt_imageio import client

    def work() -> Facts:
        client.upload(task["file"], task["url"], task["ca_file"], max_workers=WORKERS, disk_is_zero=True)
        return {}

    return work


TASKS = {
    ("ours", "full"): our_backup,
    ("ours", "incremental"): our_backup,
    ("ours", "restore"): our_restore,
    ("peer", "full"): peer_backup,
    ("peer", "incremental"): peer_backup,
    ("peer", "restore"): peer_restore,
}


def cpu_seconds() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def peak_mib() -> float:
    """VmHWM: ru_maxrss would also count what the parent had when it started this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("The kernel tells no VmHWM.")


def main() -> None:
    task = json.load(sys.stdin)
    work = TASKS[task["side"], task["kind"]](task)
    sampler = Sampler() if task.get("profile") else None
    began, cpu_before = time.monotonic(), cpu_seconds()
    facts = work()
    facts |= {"seconds": time.monotonic() - began, "cpu_seconds": cpu_seconds() - cpu_before}
    facts["peak_mib"] = peak_mib()
    if sampler:
        facts["profile"] = sampler.stop()
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
