# SPDX-License-Identifier: GPL-3.0-or-later
"""Web, workers and beat as children of one process, for machines without a service manager and for the demo.

A child that dies is started again after a moment; all children die with their parent, however it ends.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
# Seconds: a child that lived shorter than the first is started again only after the second.
_QUICK_DEATH = 5.0
_WAIT = 2.0


def die_with_parent() -> None:
    """In the child, before exec: SIGTERM when the parent is gone."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Child:
    name: str
    argv: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    not_before: float = 0.0


@dataclass
class Supervisor:
    """`start`, then `watch` until `stop` is called (from a signal handler or another thread)."""

    children: list[Child]
    environment: Mapping[str, str]
    log_dir: Path | None = None
    stopping: bool = False

    def start(self) -> None:
        for child in self.children:
            self._start(child)

    def watch(self) -> None:
        while not self.stopping:
            self.mend()
            time.sleep(0.2)
        self._end()

    def mend(self) -> None:
        """Start again whatever has died."""
        for child in self.children:
            if child.process is None or child.process.poll() is None:
                continue
            now = time.monotonic()
            if child.not_before == 0.0:
                log.warning("%s ended with %s; starting it again.", child.name, child.process.returncode)
                child.not_before = now + (_WAIT if now - child.started < _QUICK_DEATH else 0.0)
            if now >= child.not_before:
                self._start(child)

    def stop(self) -> None:
        self.stopping = True

    def _start(self, child: Child) -> None:
        output: IO[bytes] | None = None
        if self.log_dir is not None:
            self.log_dir.mkdir(parents=True, exist_ok=True)
            output = (self.log_dir / f"{child.name}.log").open("ab")
        child.process = subprocess.Popen(
            child.argv,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            preexec_fn=die_with_parent,
        )
        if output is not None:
            output.close()  # the child has its own
        child.started, child.not_before = time.monotonic(), 0.0

    def _end(self) -> None:
        """SIGTERM: running jobs stop at their next chunk and stay resumable; SIGKILL for what does not end."""
        for child in self.children:
            if child.process is not None and child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + 20
        for child in self.children:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()


def portal_children(*, bind: str, workers: int, concurrency: int, data_dir: Path) -> list[Child]:
    """The processes of a whole portal."""
    celery = [sys.executable, "-m", "celery", "-A", "portal.celery:app"]
    children = [
        Child(
            "web",
            [
                sys.executable,
                "-m",
                "gunicorn",
                "portal.wsgi:application",
                "--bind",
                bind,
                "--worker-class",
                "gthread",
                "--threads",
                "8",
                "--workers",
                str(max(1, min(4, os.cpu_count() or 1) // 2)),
                "--access-logfile",
                "-",
            ],
        )
    ]
    children += [
        Child(f"worker-{number}", worker_command(f"worker-{number}", concurrency))
        for number in range(1, workers + 1)
    ]
    children.append(Child("courier", worker_command("courier", 4, queue="events")))
    schedule = str(data_dir / "beat-schedule")
    beat = [*celery, "beat", "--loglevel", "INFO", "--schedule", schedule, "--pidfile="]
    return [*children, Child("beat", beat)]


def worker_command(name: str, concurrency: int, *, queue: str = "celery") -> list[str]:
    """`queue`: celery for jobs, events for webhooks. Threads, not processes: hashing, compression and sockets leave the interpreter lock, one SIGTERM tells
    all running jobs, and a killed worker takes nothing half-alive with it."""
    return [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "portal.celery:app",
        "worker",
        "--queues",
        queue,
        "--loglevel",
        "INFO",
        "--pool",
        "threads",
        "--concurrency",
        str(concurrency),
        "--hostname",
        f"{name}@%h",
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
    ]
