# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's machines that are reached by SSH, from their start to their end."""

import asyncio
import secrets
from pathlib import Path
from typing import Any

from lab.api.sso import SignOn
from lab.engine.core import Core
from lab.hosts import root
from lab.hosts.faults import FaultLine
from lab.hosts.link import EngineLink
from lab.hosts.machine import Machine
from lab.hosts.ssh import USER, SshServer

LOOK_SECONDS = 0.2
# One of each kind that quoting has to survive.
AWKWARD = "p'a\"s $w\\d"


class Hosts:
    """The Manager's machine. `start` first, `close` last."""

    def __init__(self, core: Core, sign_on: SignOn, directory: Path) -> None:
        self._core = core
        self._sign_on = sign_on
        directory.mkdir(parents=True)
        folder = directory / "manager"
        folder.mkdir()
        self.machine = Machine("manager", folder, core.processes)
        passwords = {"engine": AWKWARD, "dwh": secrets.token_urlsafe(12), "reader": secrets.token_urlsafe(12)}
        root.lay(self.machine.root, passwords)
        self.ssh = SshServer(self.machine, folder, core.processes, core.faults)
        self._line = FaultLine(self.machine.root, core.faults)
        self.link = EngineLink(core, self.machine)
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises HostDidNotStart."""
        await self._line.start()
        await self.machine.start()
        await self.link.first_day()
        await self.ssh.start()
        self._core.engine_host = self.link
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """A service that is stopped loses its sessions, and its commands stand still until it is back."""
        was_down = False
        while True:
            down = self.link.is_down
            if down and not was_down:
                self._core.clock.stop()
                self._sign_on.end_all_sessions()
            elif was_down and not down:
                self._core.clock.go()
            was_down = down
            await asyncio.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self.ssh.close()
        await self._line.close()
        await self.machine.close()

    def told(self) -> list[dict[str, Any]]:
        """For the lab's line of JSON."""
        return [
            {
                "name": self.machine.name,
                "role": "manager",
                "fqdn": root.FQDN,
                "address": "127.0.0.1",
                "port": self.ssh.port,
                "user": USER,
                "password": self.ssh.password,
                "key_file": str(self.ssh.client_key_file),
                "fingerprint": self.ssh.fingerprint,
                "host_key": self.ssh.public_key,
                "root": str(self.machine.root),
            }
        ]
