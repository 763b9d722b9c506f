# SPDX-License-Identifier: GPL-3.0-or-later
"""Real worker processes on the test database, which can be killed."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from portal.jobs.models import Job
from portal.supervisor import Supervisor, portal_children


class JobDidNotEnd(AssertionError):
    """A job was still unfinished after the wait; the text says where it stood."""


@dataclass
class Workers:
    supervisor: Supervisor
    watcher: threading.Thread

    @classmethod
    def start(
        cls,
        database: dict[str, Any],
        log_dir: Path,
        names: Sequence[str] = ("worker-1", "worker-2", "beat"),
    ) -> "Workers":
        """`names` of a portal's children; `courier` sends webhooks."""
        environment = {
            **os.environ,
            "DATABASE_URL": database_url(database),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
        }
        children = [
            child
            for child in portal_children(
                bind="127.0.0.1:0", workers=2, concurrency=2, data_dir=settings.DATA_DIR
            )
            if child.name in names
        ]
        supervisor = Supervisor(children, environment, log_dir=log_dir)
        supervisor.start()
        watcher = threading.Thread(target=supervisor.watch, daemon=True)
        watcher.start()
        return cls(supervisor, watcher)

    def stop(self) -> None:
        self.supervisor.stop()
        self.watcher.join(40)

    def mend(self) -> None:
        """Wait until every child is alive."""
        deadline = time.monotonic() + 20
        while any(
            child.process is None or child.process.poll() is not None for child in self.supervisor.children
        ):
            assert time.monotonic() < deadline, "a worker did not come back"
            time.sleep(0.1)

    @staticmethod
    def kill_worker_of(job: Job, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process that runs the job's newest attempt."""
        os.kill(int(job.attempts.latest("number").worker.rpartition(":")[2]), number)


def database_url(database: dict[str, Any]) -> str:
    """The test database (not the one that the settings name) as a URL for child processes."""
    if database["ENGINE"].endswith("sqlite3"):
        return f"sqlite:///{database['NAME']}"
    host = str(database["HOST"]).replace("/", "%2F")
    return f"postgres://{database['USER']}@{host}/{database['NAME']}"


def wait_for(condition, *, what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise JobDidNotEnd(f"waited {seconds:.0f} s for: {what}")
        time.sleep(0.05)


def finished(job: Job, *, seconds: float = 90) -> Job:
    """Wait until the job has ended, whichever way."""
    deadline = time.monotonic() + seconds
    while True:
        job.refresh_from_db()
        if job.is_finished:
            return job
        if time.monotonic() > deadline:
            lines = "\n".join(job.log_lines.order_by("id").values_list("text", flat=True))
            raise JobDidNotEnd(
                f"{job.title} is still {job.state}, {job.phase!r} {job.waiting_for!r}\n{lines}"
            )
        time.sleep(0.05)
