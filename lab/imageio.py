# SPDX-License-Identifier: GPL-3.0-or-later
"""The real ovirt-imageio daemon, as a host runs it, and as the Manager runs it for its proxy."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import aiohttp

from lab.pki import Pki
from lab.processes import ProcessGroup, kill, terminate
from lab.sockets import SocketDir

START_SECONDS = 30.0
POLL_SECONDS = 0.02
# Of a host: 60 s. Whoever removes a ticket asks again until it is no longer busy.
REMOVE_SECONDS = 2
LISTENING = re.compile(r"remote\.service listening on \('[^']+', (\d+)")
READY = "Ready for requests"
HOST = "127.0.0.1"
# What the package's script `ovirt-imageio` does; the script itself need not be beside the interpreter.
MAIN = "from ovirt_imageio._internal.server import main; main()"


class ImageioError(Exception):
    """The daemon did not start, or its control service refused a request; `status` is the HTTP status or 0."""

    def __init__(self, message: str, status: int = 0) -> None:
        self.status = status
        super().__init__(message)


class TicketBusy(ImageioError):
    """The ticket is cancelled, but a request still runs on it; remove it again later."""


class ImageioDaemon:
    """One daemon on a port of its own; asked again to start, it takes the same port.

    Configuration and control API: ovirt-imageio's `docs/configuration.md` and
    `ovirt_imageio/_internal/handlers/tickets.py`. `backend_http_ca` makes it fit to be a proxy: its tickets may
    then have `https://` urls of another daemon.
    """

    def __init__(
        self,
        run_dir: Path,
        pki: Pki,
        processes: ProcessGroup,
        *,
        name: str,
        backend_http_ca: Path | None = None,
        local_socket: bool = False,
    ) -> None:
        self._name = name
        self._pki = pki
        self._processes = processes
        self._backend_http_ca = backend_http_ca
        self._conf_dir = run_dir.absolute() / f"{name}.conf"
        self._run_dir = run_dir.absolute()
        self._sockets = SocketDir(run_dir)
        self._control = self._sockets.path(f"{name}.control"[-24:])
        self._local = self._sockets.path(f"{name}.local"[-24:]) if local_socket else None
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """`https://127.0.0.1:PORT`, without a slash at the end. Raises ImageioError before the first start."""
        if self._port == 0:
            raise ImageioError(f"{self._name} has not been started")
        return f"https://{HOST}:{self._port}"

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Run the daemon and wait until it answers. Raises ImageioError with the end of its log."""
        if self.alive:
            return
        self._write_configuration()
        log_file = self._processes.log_file(self._name)
        offset = log_file.stat().st_size if log_file.exists() else 0
        for socket in filter(None, (self._control, self._local)):
            socket.unlink(missing_ok=True)
        self._process = await self._processes.spawn(
            self._name, sys.executable, "-c", MAIN, "-c", str(self._conf_dir)
        )
        try:
            self._port = await self._listening(log_file, offset)
        except BaseException:
            await kill(self._process)
            raise
        self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._control)))

    async def stop(self) -> None:
        """End the daemon and remove its sockets; may be called again."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._process is not None:
            await terminate(self._process)
        self._sockets.close()

    async def kill(self) -> None:
        """End the daemon as a crash would; all its tickets are lost."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._process is not None:
            await kill(self._process)

    async def add_ticket(self, ticket: dict[str, Any]) -> None:
        """Install a ticket (`uuid`, `size`, `url`, `timeout`, `ops`, …). Raises ImageioError."""
        await self._request("PUT", ticket["uuid"], ticket)

    async def get_ticket(self, ticket_id: str) -> dict[str, Any] | None:
        """The ticket with `transferred`, `active`, `idle_time`, `expires` …; None if there is none."""
        try:
            return await self._request("GET", ticket_id)
        except ImageioError as error:
            if error.status == 404:
                return None
            raise

    async def extend_ticket(self, ticket_id: str, timeout: int) -> None:
        """Let the ticket expire `timeout` seconds from now. Raises ImageioError, status 404 if there is none."""
        await self._request("PATCH", ticket_id, {"timeout": timeout})

    async def remove_ticket(self, ticket_id: str) -> None:
        """Cancel and remove; one that is gone is no error. Raises TicketBusy after 2 s of a running request.

        The daemon (2.5.1) also answers 500 when it closes a connection whose last operation is just ending; that
        too passes, and is told as TicketBusy.
        """
        try:
            await self._request("DELETE", ticket_id)
        except ImageioError as error:
            if error.status == 500:
                raise TicketBusy(str(error), error.status) from error
            raise

    async def _request(self, method: str, ticket_id: str, body: dict[str, Any] | None = None) -> Any:
        if self._session is None:
            raise ImageioError(f"{self._name} is not running")
        try:
            async with self._session.request(
                method, f"http://localhost/tickets/{ticket_id}", json=body
            ) as response:
                if response.status >= 400:
                    kind = TicketBusy if response.status == 409 else ImageioError
                    raise kind((await response.text()).strip(), response.status)
                return await response.json() if method == "GET" else None
        except aiohttp.ClientError as error:
            raise ImageioError(f"{self._name} does not answer: {error}") from error

    async def _listening(self, log_file: Path, offset: int) -> int:
        """The port, as soon as the log tells that requests are served."""
        assert self._process is not None
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while True:
            ended = self._process.returncode is not None
            text = log_file.read_bytes()[offset:].decode(errors="replace")
            if (port := LISTENING.search(text)) and READY in text:
                return int(port[1])
            if ended or asyncio.get_running_loop().time() > deadline:
                raise ImageioError(f"{self._name} did not start: {text[-2000:]}")
            await asyncio.sleep(POLL_SECONDS)

    def _write_configuration(self) -> None:
        folder = self._conf_dir / "conf.d"
        folder.mkdir(parents=True, exist_ok=True)
        local: dict[str, object] = {"enable": "false"}
        if self._local:
            local = {"enable": "true", "socket": self._local}
        sections: dict[str, dict[str, object]] = {
            "daemon": {
                "poll_interval": 0.1,
                "drop_privileges": "false",
                "systemd_enable": "false",
                "run_dir": self._run_dir,
            },
            "tls": {
                "enable": "true",
                "key_file": self._pki.key_file,
                "cert_file": self._pki.cert_file,
                "ca_file": self._pki.ca_file,
            },
            "remote": {"host": HOST, "port": self._port},
            "local": local,
            "control": {"transport": "unix", "socket": self._control, "remove_timeout": REMOVE_SECONDS},
            "backend_http": {"ca_file": self._backend_http_ca or ""},
            "handlers": {"keys": "stderr"},
            "logger_root": {"level": "INFO", "handlers": "stderr"},
        }
        lines = []
        for section, values in sections.items():
            lines.append(f"[{section}]")
            lines += [f"{key} = {value}" for key, value in values.items()]
        # The last name wins over whatever the machine's own imageio has configured.
        (folder / "99-lab.conf").write_text("\n".join(lines) + "\n")
