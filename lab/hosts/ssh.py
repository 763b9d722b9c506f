# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH into a lab host: asyncssh's server, whose sessions run inside the host and whose SFTP sees its root."""

import asyncio
import fnmatch
import logging
import os
import secrets
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh

from lab.control.book import Fault, FaultBook
from lab.hosts.machine import Machine
from lab.processes import ProcessGroup

log = logging.getLogger(__name__)

CHUNK = 32 << 10
USER = "root"


class SshServer:
    """Listens on 127.0.0.1 once started. `port`, `password` and `public_key` tell how to come in."""

    def __init__(self, machine: Machine, directory: Path, processes: ProcessGroup, book: FaultBook) -> None:
        self._machine = machine
        self._processes = processes
        self._book = book
        self._listener: asyncssh.SSHAcceptor | None = None
        self._key = asyncssh.generate_private_key("ssh-ed25519")
        self.password = secrets.token_urlsafe(12)
        self.port = 0
        self.client_key_file = directory / "client_key"
        client = asyncssh.generate_private_key("ssh-ed25519")
        self.client_key_file.write_bytes(client.export_private_key())
        self.client_key_file.chmod(0o600)
        self._authorized = machine.root / "root/.ssh/authorized_keys"
        self._authorized.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._authorized.write_bytes(client.export_public_key())

    @property
    def fingerprint(self) -> str:
        return self._key.get_fingerprint()

    @property
    def public_key(self) -> str:
        return self._key.export_public_key().decode().strip()

    async def start(self) -> None:
        """On the port it had before, if any."""

        async def run(process: asyncssh.SSHServerProcess[bytes]) -> None:
            await self._run(process)

        self._listener = await asyncssh.listen(
            "127.0.0.1",
            self.port,
            server_host_keys=[self._key],
            server_factory=lambda: _Door(self.password, self._authorized, self._refuses),
            process_factory=run,
            sftp_factory=lambda channel: _Sftp(channel, self._machine.root, self._strikes),
            encoding=None,
            allow_scp=True,
            reuse_address=True,
        )
        self.port = self._listener.get_port()

    async def change_key(self) -> None:
        """As after a new installation: same port, another host key."""
        self._key = asyncssh.generate_private_key("ssh-ed25519")
        assert self._listener is not None
        self._listener.close()
        await self._listener.wait_closed()
        await self.start()

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            await self._listener.wait_closed()

    def _refuses(self) -> bool:
        return self._book.strike("host_ssh", lambda fault: fault["how"] == "refuse") is not None

    def _strikes(self, command: str) -> Fault | None:
        """A fault for this command; SFTP asks with `sftp`."""

        def fits(fault: Fault) -> bool:
            return fault["how"] != "refuse" and fnmatch.fnmatchcase(command, fault["command"])

        return self._book.strike("host_ssh", fits)

    async def _run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """One command, as sshd runs it: by the user's shell; a session that ends hangs it up."""
        command = process.command or "echo 'a command is needed here'; false"
        fault = self._strikes(command)
        if fault is not None and fault["how"] == "garbage":
            process.stdout.write(os.urandom(4096))
            process.exit(0)
            return
        environment = {
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": "/root",
            "USER": USER,
            "LOGNAME": USER,
        }
        asked = {k: v for k, v in process.env.items() if k.startswith(("LC_", "LANG"))}
        words = [f"{name}={value}" for name, value in {**environment, **asked}.items()]
        child = await self._processes.spawn(
            "ssh-sessions",
            *self._machine.entering("env", "-i", *words, "/bin/bash", "-c", command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        feeding = asyncio.create_task(_feed(process, child.stdin))
        leaving = asyncio.create_task(_hang_up_at_the_end(process, child))
        try:
            drop = fault if fault is not None and fault["how"] == "drop" else None
            await asyncio.gather(
                _pump(child.stdout, process.stdout, process, drop),
                _pump(child.stderr, process.stderr, process, None),
            )
            code = await child.wait()
            if code < 0 or code > 128:
                process.exit_with_signal(signal.Signals(-code if code < 0 else code - 128).name[3:])
            else:
                process.exit(code)
        except (OSError, asyncssh.Error):
            log.info("session of %s ended early", shlex.split(command)[:1])
        finally:
            feeding.cancel()
            leaving.cancel()
            if child.returncode is None:
                _hang_up(child.pid)


class _Door(asyncssh.SSHServer):
    """Root by password, or by a key of its authorized_keys as they are now."""

    def __init__(self, password: str, authorized: Path, refuses: Callable[[], bool]) -> None:
        self._password = password
        self._authorized = authorized
        self._refuses = refuses

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        if self._refuses():
            conn.abort()
            return
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        if self._authorized.exists() and self._authorized.read_text().strip():
            self._connection.set_authorized_keys(
                asyncssh.import_authorized_keys(self._authorized.read_text())
            )
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return username == USER and secrets.compare_digest(password.encode(), self._password.encode())


class _Sftp(asyncssh.SFTPServer):
    """The host's root, and a connection that breaks after so many bytes read."""

    def __init__(
        self, channel: asyncssh.SSHServerChannel[bytes], root: Path, strikes: Callable[[str], Fault | None]
    ) -> None:
        super().__init__(channel, chroot=str(root).encode())
        self._fault = strikes("sftp")
        self._read = 0

    def read(self, file_obj: object, offset: int, size: int) -> Any:
        fault = self._fault
        if fault is not None and fault["how"] == "drop":
            self._read += size
            if self._read > fault["bytes"]:
                self.connection.abort()
        return super().read(file_obj, offset, size)


async def _feed(process: asyncssh.SSHServerProcess[bytes], stdin: asyncio.StreamWriter) -> None:
    try:
        while data := await process.stdin.read(CHUNK):
            stdin.write(data)
            await stdin.drain()
    except (OSError, asyncssh.Error):
        log.debug("a session's input ended")
    finally:
        stdin.close()


async def _pump(
    source: asyncio.StreamReader,
    target: Any,
    process: asyncssh.SSHServerProcess[bytes],
    drop: Fault | None,
) -> None:
    moved = 0
    while data := await source.read(CHUNK):
        if drop is not None and moved + len(data) > drop["bytes"]:
            target.write(data[: max(drop["bytes"] - moved, 0)])
            await target.drain()
            process.channel.get_connection().abort()
            raise ConnectionAbortedError("dropped by a fault")
        moved += len(data)
        target.write(data)
        await target.drain()


async def _hang_up_at_the_end(
    process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process
) -> None:
    """A session that goes away takes its processes with it, but not those with a session of their own."""
    await process.channel.wait_closed()
    if child.returncode is None:
        _hang_up(child.pid)


def _hang_up(group: int) -> None:
    try:
        os.killpg(group, signal.SIGHUP)
    except ProcessLookupError:
        log.debug("group %d has already ended", group)
