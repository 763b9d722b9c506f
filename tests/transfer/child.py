# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker to be killed: `python -m tests.transfer.child REPOSITORY POINT URL SIZE` backs up slowly."""

import sys
import time
from pathlib import Path

from backups.store import Repository, chunk_size_for, writer
from backups.transfer import ImageEndpoint, backup_full, workers
from tests.store.support import DISK, ENVIRONMENT, VM


class Slow:
    """Tells on standard output how far it is; the sleep gives the test time to kill in the middle."""

    def plan(self, bytes_total: int) -> None:
        print("plan", bytes_total, flush=True)

    def advance(self, bytes_done: int) -> None:
        print("advance", bytes_done, flush=True)


def main() -> None:
    repository_path, point, url, size = sys.argv[1:]
    repository = Repository.open(Path(repository_path), expected_uuid=None)
    staged = repository.stage_point(ENVIRONMENT, VM, point)
    index = staged.disk_index(DISK, int(size), chunk_size_for(int(size)), source="backup-1")
    real_write_all = writer.write_all

    def write_all(fd, data):
        time.sleep(0.02)
        real_write_all(fd, data)

    writer.write_all = write_all
    writer.BATCH_CHUNKS = 4
    workers.TELL_EVERY_SECONDS = 0.02
    endpoint = ImageEndpoint(url, None, None)
    backup_full(endpoint, index, repository.chunks, progress=Slow())


if __name__ == "__main__":
    main()
