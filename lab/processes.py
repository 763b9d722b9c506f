# SPDX-License-Identifier: GPL-3.0-or-later
"""Child processes of the lab: short commands, and long-lived ones that never outlive it."""

import asyncio
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

TERMINATE_SECONDS = 5.0
LOG_TAIL_BYTES = 4096
# An ordinary user's PATH lacks the folders where Debian keeps mkfs and sfdisk.
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class CommandFailed(Exception):
    """A command ended with another code than 0, or could not be started (`rc` 127)."""

    def __init__(self, argv: Sequence[str], rc: int, stderr: str) -> None:
        self.argv = tuple(argv)
        self.rc = rc
        self.stderr = stderr
        super().__init__(f"{Path(argv[0]).name} ended with code {rc}: {stderr.strip()[-800:]}")


class ProcessGroup:
    """Starts processes whose output goes to `log_dir/<name>.log`.

    Each child gets SIGKILL from the kernel when this process dies, however it dies (`setpriv --pdeathsig`,
    prctl(2) PR_SET_PDEATHSIG), and has a session of its own, so that Ctrl-C reaches only the lab, which then
    stops everything in the right order. To be used from the main thread: the kernel's signal is bound to the
    thread that started the child.
    """

    def __init__(self, log_dir: Path) -> None:
        self.log_dir = log_dir
        log_dir.mkdir(parents=True, exist_ok=True)
        path = os.environ.get("PATH", os.defpath).split(":")
        self._path = ":".join([*path, *(folder for folder in SYSTEM_FOLDERS if folder not in path)])
        self._setpriv = shutil.which("setpriv", path=self._path)
        self._children: dict[asyncio.subprocess.Process, str] = {}
        self._running: set[asyncio.subprocess.Process] = set()

    def log_file(self, name: str) -> Path:
        """Where the output of the child `name` is appended."""
        return self.log_dir / f"{name}.log"

    def log_tail(self, name: str, offset: int = 0) -> str:
        """The end of that log, at most 4 KiB, nothing from before `offset` bytes."""
        try:
            with self.log_file(name).open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(max(offset, size - LOG_TAIL_BYTES))
                return stream.read().decode(errors="replace").strip()
        except FileNotFoundError:
            return ""

    async def spawn(self, name: str, *argv: str, **kw: Any) -> asyncio.subprocess.Process:
        """Start a long-lived child; `kw` goes to `asyncio.create_subprocess_exec`. Raises CommandFailed."""
        with self.log_file(name).open("ab") as output:
            options = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, **kw}
            child = await self._start(argv, options)
        log.info("started %s, pid %d", name, child.pid)
        self._forget_ended()
        self._children[child] = name
        return child

    async def run(
        self, *argv: str, input: str | bytes | None = None, check: bool = True, **kw: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. Raises CommandFailed if `check` and its code is not 0."""
        data = input.encode() if isinstance(input, str) else input
        options = {
            "stdin": subprocess.DEVNULL if data is None else subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **kw,
        }
        child = await self._start(argv, options)
        self._running.add(child)
        try:
            out, err = await child.communicate(data)
        except BaseException:
            await kill(child)
            raise
        finally:
            self._running.discard(child)
        rc = child.returncode if child.returncode is not None else -1
        stderr = (err or b"").decode(errors="replace")
        if check and rc != 0:
            raise CommandFailed(argv, rc, stderr)
        return subprocess.CompletedProcess(argv, rc, (out or b"").decode(errors="replace"), stderr)

    async def close(self) -> None:
        """Stop every child that still runs: SIGTERM, and SIGKILL some seconds later."""
        children = [*self._children, *self._running]
        await asyncio.gather(*(terminate(child) for child in children))
        self._children.clear()

    async def _start(self, argv: Sequence[str], options: dict[str, Any]) -> asyncio.subprocess.Process:
        if self._setpriv is None:
            raise CommandFailed(argv, 127, "setpriv (package util-linux) is not installed")
        if shutil.which(argv[0], path=self._path) is None:
            raise CommandFailed(argv, 127, f"{argv[0]} is not installed")
        environment = {**os.environ, "LC_ALL": "C.UTF-8", **(options.pop("env", None) or {})}
        environment["PATH"] = self._path
        return await asyncio.create_subprocess_exec(
            self._setpriv,
            "--pdeathsig=KILL",
            *argv,
            env=environment,
            start_new_session=True,
            **options,
        )

    def _forget_ended(self) -> None:
        for child in [child for child in self._children if child.returncode is not None]:
            del self._children[child]


async def terminate(child: asyncio.subprocess.Process, seconds: float = TERMINATE_SECONDS) -> bool:
    """SIGTERM, then SIGKILL after `seconds`. True if the child ended by itself or on SIGTERM."""
    # Asked twice: a Python program that sleeps in signal.pause() misses a signal that came just before it.
    for _ in range(2):
        _signal(child, signal.SIGTERM)
        try:
            await asyncio.wait_for(child.wait(), seconds / 2)
            return True
        except TimeoutError:
            continue
    await kill(child)
    return False


async def kill(child: asyncio.subprocess.Process) -> None:
    """SIGKILL and reap; nothing happens if the child has already ended."""
    _signal(child, signal.SIGKILL)
    await child.wait()


def _signal(child: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if child.returncode is not None:
        return
    try:
        child.send_signal(number)
    except ProcessLookupError:
        log.debug("pid %d has already ended", child.pid)
