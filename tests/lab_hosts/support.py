# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands on a lab host by SSH."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import asyncssh

from tests.lab_support import LabHost, RunningLab

T = TypeVar("T")


def run_now(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def connect(host: LabHost, **more: Any) -> asyncssh.SSHClientConnection:
    options = {
        "username": host.user,
        "client_keys": [host.key_file],
        "known_hosts": None,
        "config": None,
        **more,
    }
    return await asyncssh.connect(host.address, host.port, **options)


class Shell:
    """`shell("command")` runs it on the host and returns (exit code, stdout, stderr)."""

    def __init__(self, lab: RunningLab) -> None:
        self.lab = lab
        self.host = lab.hosts[0]

    def __call__(self, command: str, **more: Any) -> tuple[int, str, str]:
        async def work() -> tuple[int, str, str]:
            async with await connect(self.host) as connection:
                done = await connection.run(command, stdin=asyncssh.DEVNULL, **more)
                code = done.exit_status if done.exit_status is not None else -1
                return code, str(done.stdout), str(done.stderr)

        return run_now(work())

    def ok(self, command: str) -> str:
        """Its output; it has to end well."""
        code, out, err = self(command)
        assert code == 0, f"{command}: {code}\n{out}\n{err}"
        return out
