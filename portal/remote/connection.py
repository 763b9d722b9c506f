# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH connections that trust one host key, and files of secrets that do not stay."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType

import asyncssh

from portal.errors import PortalError
from portal.remote import commands

CONNECT_SECONDS = 20.0
KEEPALIVE_SECONDS = 15
RUN_FOLDER = "/run"  # a memory file system on the machines in question; SFTP is not needed to write there


class HostUnreachable(PortalError):
    """No connection came about, or it was lost."""


class HostKeyChanged(PortalError):
    """The machine shows another key than the one that was accepted; nothing was sent to it."""

    def __init__(self, address: str, pinned: str, shown: str) -> None:
        self.pinned = pinned
        self.shown = shown
        super().__init__(
            f"{address} shows another SSH host key than the one accepted before; nothing was run there. "
            f"Accepted: {pinned}. Shown now: {shown}.",
            hint="If the machine was installed anew, compare the fingerprint on its console, then accept the new key.",
        )


class SignInRefused(PortalError):
    """The machine does not take the key or the user."""


class CommandFailed(PortalError):
    """A command ended with another code than 0."""


@dataclass(frozen=True)
class HostAddress:
    """Where a machine is and who signs in. `host_key` is the accepted public key, `private_key` OpenSSH's PEM."""

    address: str
    port: int
    user: str
    private_key: str = field(repr=False)
    host_key: str

    @property
    def sudo(self) -> bool:
        return self.user != "root"


@dataclass(frozen=True)
class Result:
    """How a command ended; `code` is None if a signal or the connection ended it."""

    code: int | None
    stdout: bytes
    stderr: bytes


def make_key() -> tuple[str, str]:
    """A new key pair: private (OpenSSH PEM, without a passphrase) and public, as in authorized_keys."""
    key = asyncssh.generate_private_key("ssh-ed25519", comment="ovirt-backup-portal")
    return key.export_private_key().decode(), key.export_public_key().decode().strip()


def fingerprint(host_key: str) -> str:
    """`SHA256:…` of a public key, as ssh-keygen -l shows it."""
    return asyncssh.import_public_key(host_key).get_fingerprint()


async def shown_host_key(address: str, port: int) -> str:
    """The public key that the machine shows now, to be compared and accepted by a person. Raises HostUnreachable."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            key = await asyncssh.get_server_host_key(address, port, config=None)
    except (OSError, asyncssh.Error, TimeoutError) as error:
        raise _unreachable(address, port) from error
    if key is None:
        raise _unreachable(address, port)
    return key.export_public_key().decode().strip()


@asynccontextmanager
async def connected(host: HostAddress) -> AsyncIterator[Session]:
    """A session on the machine. Raises HostUnreachable, HostKeyChanged, SignInRefused."""
    trusted = asyncssh.import_public_key(host.host_key)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await asyncssh.connect(
                host.address,
                host.port,
                username=host.user,
                client_keys=[asyncssh.import_private_key(host.private_key)],
                known_hosts=([trusted], [], []),
                config=None,
                agent_path=None,
                keepalive_interval=KEEPALIVE_SECONDS,
            )
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
        shown = fingerprint(await shown_host_key(host.address, host.port))
        if shown == trusted.get_fingerprint():
            raise _unreachable(host.address, host.port) from error
        raise HostKeyChanged(f"{host.address}:{host.port}", trusted.get_fingerprint(), shown) from error
    except asyncssh.PermissionDenied as error:
        raise SignInRefused(
            f"{host.address}:{host.port} does not let {host.user} in with the portal's key.",
            hint="Add the public key shown on the host's page to ~/.ssh/authorized_keys of that user.",
        ) from error
    except (OSError, asyncssh.Error, TimeoutError) as error:
        raise _unreachable(host.address, host.port) from error
    async with Session(host, connection) as session:
        yield session


class Session:
    """One connection. Whatever breaks it raises HostUnreachable."""

    def __init__(self, host: HostAddress, connection: asyncssh.SSHClientConnection) -> None:
        self.host = host
        self._connection = connection

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.abort()
        await self._connection.wait_closed()

    async def run(self, argv: Sequence[str], data: bytes = b"") -> Result:
        """Run a short command to its end. Raises CommandRefused, HostUnreachable."""
        return await self._run(commands.line(argv, sudo=self.host.sudo), data)

    async def script(self, text: str, *arguments: str, data: bytes = b"") -> Result:
        """Run a short shell script to its end; it has to end with 0. Raises CommandFailed, HostUnreachable."""
        result = await self._run(commands.script(text, *arguments, sudo=self.host.sudo), data)
        if result.code != 0:
            said = result.stderr.decode(errors="replace").strip()[-400:]
            raise CommandFailed(
                f"A command on {self.host.address} ended with code {result.code}: {said or 'it said nothing'}.",
                hint="Look at the machine, then try again.",
            )
        return result

    @asynccontextmanager
    async def secret_file(self, secret: str) -> AsyncIterator[str]:
        """The path of a file of mode 0600 that holds `secret`; removed at the end, also after a failure.

        The secret goes through standard input: it is on no command line."""
        path = f"{RUN_FOLDER}/portal-{secrets.token_hex(8)}"
        try:
            await self.script('umask 077 && cat > "$1"', path, data=secret.encode())
            yield path
        finally:
            await self._remove(path)

    async def _remove(self, path: str) -> None:
        """By a connection of its own if this one is gone."""
        try:
            await self.script('rm -f "$1"', path)
        except HostUnreachable:
            async with connected(self.host) as again:
                await again.script('rm -f "$1"', path)

    async def _run(self, line: str, data: bytes) -> Result:
        try:
            done = await self._connection.run(line, input=data, encoding=None)
        except (OSError, asyncssh.Error) as error:
            raise _unreachable(self.host.address, self.host.port) from error
        if done.exit_status is None and done.exit_signal is None:
            raise _unreachable(self.host.address, self.host.port)
        return Result(done.returncode, _bytes(done.stdout), _bytes(done.stderr))


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _unreachable(address: str, port: int) -> HostUnreachable:
    return HostUnreachable(
        f"The connection to {address}:{port} did not come about or broke.",
        hint="Check that the machine is up and its SSH port is reachable from the portal.",
    )
