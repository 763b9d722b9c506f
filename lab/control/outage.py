# SPDX-License-Identifier: GPL-3.0-or-later
"""The Manager goes away and comes back, while its hosts and VMs go on."""

import asyncio

from lab.api.server import ApiServer
from lab.control.schema import ControlError
from lab.engine.manager import Manager


class Outage:
    """ovirt-engine as a service that can be stopped and started.

    While it is down its port refuses connections and its commands stand still. They are kept in its database and go
    on afterwards; its sessions are not."""

    def __init__(self, manager: Manager, server: ApiServer) -> None:
        self._manager = manager
        self._server = server
        self._down = False
        self._coming_back: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Raises ControlError if it is down already."""
        if self._down:
            raise ControlError("The Manager is down already.", 409)
        self._down = True
        self._manager.core.clock.stop()
        self._server.sign_on.end_all_sessions()
        await self._server.go_down()

    async def start(self, *, orphan_backups: bool) -> list[str]:
        """Returns the backups that nobody watches any more. Raises ControlError if it is up."""
        if not self._down:
            raise ControlError("The Manager is up.", 409)
        if self._coming_back is not None and self._coming_back is not asyncio.current_task():
            self._coming_back.cancel()
        orphans = self._manager.backups.orphan_all() if orphan_backups else []
        await self._server.start()
        self._manager.core.clock.go()
        self._down = False
        return orphans

    async def restart(self, seconds: float, *, orphan_backups: bool) -> None:
        """Down when this returns, up again `seconds` later."""
        await self.stop()

        async def come_back() -> None:
            await asyncio.sleep(seconds)
            await self.start(orphan_backups=orphan_backups)

        self._coming_back = asyncio.create_task(come_back())

    async def close(self) -> None:
        """No coming back from here."""
        if self._coming_back is not None:
            self._coming_back.cancel()
            await asyncio.gather(self._coming_back, return_exceptions=True)
