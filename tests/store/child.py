# SPDX-License-Identifier: GPL-3.0-or-later
"""A process of another machine: `python -m tests.store.child backup REPOSITORY POINT SEED` or `… collect REPOSITORY TOKEN`.

`backup` stores the mebibytes of `PARTS` in an order of its own and publishes them; `collect` collects garbage again
and again until its standard input ends, and tells how much it removed after each.
"""

import random
import sys
import threading
import time
from pathlib import Path

from backups.store import ChunkWriter, Repository
from backups.store.gc import collect
from tests.store.support import DISK, ENVIRONMENT, MIB, VM, content_of

AGE = 3600.0
PARTS = 24


def part(number: int) -> bytes:
    return content_of(2 * MIB, seed=100 + number)[MIB:]


def backup(repository: Repository, point: str, seed: int) -> None:
    order = random.Random(seed).sample(range(PARTS), PARTS)
    staged = repository.stage_point(ENVIRONMENT, VM, point)
    index = staged.disk_index(DISK, PARTS * MIB, MIB, source="b")
    with ChunkWriter(repository.chunks, batch_bytes=1000) as writer:
        for number in order:
            writer.add(index, number, memoryview(part(number)))
            time.sleep(0.01)
    staged.publish({}, still_owner=lambda: True)
    print("published", writer.chunks_new, flush=True)


def collect_until_told(repository: Repository, token: str) -> None:
    stopped = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stopped.set()), daemon=True).start()
    while not stopped.is_set():
        print("removed", collect(repository, older_than_seconds=AGE, token=token).chunks_removed, flush=True)


def main() -> None:
    what, path, name, *more = sys.argv[1:]
    repository = Repository.open(Path(path), expected_uuid=None)
    if what == "backup":
        backup(repository, name, int(more[0]))
    else:
        collect_until_told(repository, name)


if __name__ == "__main__":
    main()
