# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab host: namespaces of its own for users, mounts, processes and network, and a way in."""

import asyncio
import logging
from pathlib import Path

from lab.processes import ProcessGroup, kill

log = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parents[2]
# Of root, inside.
HOME = "/root"
START_SECONDS = 90.0
NAMESPACES = ("--user", "--mount", "--pid", "--net", "--uts", "--ipc")
PYTHON = "/usr/bin/python3"


class HostDidNotStart(Exception):
    """Its process 1 ended; the text is the end of its log."""


class Machine:
    """One host in `directory`: `root` is its file system as this side sees it."""

    def __init__(self, name: str, directory: Path, processes: ProcessGroup) -> None:
        self.name = name
        self.root = directory / "root"
        self._processes = processes
        self._outer: asyncio.subprocess.Process | None = None
        self._pid = 0

    async def start(self) -> None:
        """Raises HostDidNotStart; the caller has laid the root's files."""
        argv = ["unshare", *NAMESPACES, "--map-root-user", "--fork", "--kill-child", PYTHON, "-s", "-B"]
        name = f"host-{self.name}"
        self._outer = await self._processes.spawn(
            name,
            *argv,
            "-m",
            "lab.hosts.commands.init",
            str(self.root),
            str(PROJECT),
            stdout=asyncio.subprocess.PIPE,
            cwd=PROJECT,
            env={"PYTHONPATH": str(PROJECT)},
        )
        assert self._outer.stdout is not None
        try:
            line = await asyncio.wait_for(self._outer.stdout.readline(), START_SECONDS)
        except TimeoutError:
            line = b""
        if line.strip() != b"ready":
            raise HostDidNotStart(f"host {self.name}: {self._processes.log_tail(name)}")
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        self._pid = int(children[0])

    async def close(self) -> None:
        """The kernel kills whatever runs inside when its process 1 ends."""
        if self._outer is not None:
            await kill(self._outer)

    def entering(self, *argv: str) -> list[str]:
        """The command line that runs `argv` as root inside."""
        where = ["--target", str(self._pid), *NAMESPACES, f"--root=/proc/{self._pid}/root"]
        inside = [f"--wd=/proc/{self._pid}/root{HOME}", "--preserve-credentials"]
        return ["nsenter", *where, *inside, *argv]

    async def run(self, *argv: str, input: str | None = None) -> str:
        """What a command inside prints. Raises CommandFailed."""
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": HOME}
        clean = ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]
        return (await self._processes.run(*self.entering(*clean, *argv), input=input)).stdout

    async def query(self, sql: str, database: str = "engine") -> str:
        """The answer of one of its databases; fields apart by `|`. Raises CommandFailed."""
        options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "/var/run/postgresql"]
        return (await self.run("psql", *options, "-U", "postgres", "-d", database, input=sql)).strip()

    @property
    def is_up(self) -> bool:
        return self._outer is not None and self._outer.returncode is None
