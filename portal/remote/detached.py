# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that outlive the session that started them, each with a private folder on the machine.

The folder holds `run` (what is done), `pid` (number and start time of the process that does it), `output` and, when it
is over, `status`. Starting again is harmless at any moment: the first runner that links its `pid` does the work, any
other ends at once. Whoever knows the id and how far it has read can go on: nothing lives in the portal's memory."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from portal.remote import commands
from portal.remote.connection import CommandFailed, HostAddress, HostUnreachable, Session, connected

FOLDER = "/var/lib/ovirt-backup-portal"
PIECE_BYTES = 256 << 10
POLL_SECONDS = 0.5
RETRY_SECONDS = 2.0

# $1 the folder, standard input what is run, by a unit with a name of its own so that two starts at once do no harm.
# Through systemd-run where there is systemd, else in a session of its own.
START = r"""
set -e
umask 077
mkdir -p "$1"
cd "$1"
cat > run.new.$$
mv run.new.$$ run
[ -e pid ] && exit 0
if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null; then
    systemd-run --quiet --collect --unit="portal-${1##*/}-$$" /bin/sh "$1/run"
else
    setsid /bin/sh "$1/run" </dev/null >/dev/null 2>&1 &
fi
"""
# The 20th field after the name in /proc/PID/stat is the start time, which no later process with that number shares.
BORN = r"""born() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
"""
RUNNER = r"""
umask 077
cd {folder} || exit 1
echo "$$ $(born $$)" > "pid.$$"
ln "pid.$$" pid 2>/dev/null || {{ rm -f "pid.$$"; exit 0; }}
trap : TERM HUP INT
( exec {command} ) </dev/null >output 2>&1
code=$?
echo "$code" > status.new
mv status.new status
"""
# Prints a line of state, then output from byte $2 on, at most $3. The state is read first: after `ended` nothing comes.
LOOK = (
    BORN
    + r"""
cd "$1" 2>/dev/null || { echo absent; exit 0; }
state=waiting
if [ -e pid ]; then
    read -r number time < pid
    state=lost
    [ "$(born "$number")" = "$time" ] && state=running
fi
[ -e status ] && state="ended $(cat status)"
echo "$state"
[ -e output ] && tail -c "+$2" output | head -c "$3"
exit 0
"""
)
STOP = r"""
cd "$1" 2>/dev/null || exit 0
[ -e pid ] && [ ! -e status ] && read -r number time < pid && kill -s TERM -- "-$number"
exit 0
"""


@dataclass(frozen=True)
class Progress:
    """`state` is absent, waiting, running, ended or lost (killed without a status); `code` is set once it ended."""

    state: str
    code: int | None
    output: bytes

    @property
    def over(self) -> bool:
        return self.state in ("ended", "lost", "absent")


async def start(session: Session, command_id: UUID, argv: Sequence[str]) -> None:
    """Start it, unless it was started before. Raises CommandRefused, CommandFailed, HostUnreachable.

    After HostUnreachable it is unknown whether it runs: start it again, which runs nothing twice."""
    run = BORN + RUNNER.format(folder=shlex.quote(_folder(command_id)), command=commands.line(argv))
    await session.script(START, _folder(command_id), data=run.encode())


async def look(session: Session, command_id: UUID, offset: int = 0) -> Progress:
    """Its state, and what it printed (both streams) from byte `offset` on, at most 256 KiB."""
    result = await session.script(LOOK, _folder(command_id), str(offset + 1), str(PIECE_BYTES))
    head, newline, output = result.stdout.partition(b"\n")
    words = head.decode(errors="replace").split()
    if not newline or not words or words[0] not in ("absent", "waiting", "running", "ended", "lost"):
        raise CommandFailed(
            f"{session.host.address} answered with something else than the state of a command.",
            hint="Look at the machine's login scripts: they must print nothing.",
        )
    code = int(words[1]) if len(words) > 1 and words[1].isdecimal() else None
    return Progress(words[0], code, output)


async def stop(session: Session, command_id: UUID) -> None:
    """SIGTERM to it and its children; how it ends is seen by `look`. Nothing happens if it is over."""
    await session.script(STOP, _folder(command_id))


async def forget(session: Session, command_id: UUID) -> None:
    """Remove its folder, once it is over and read."""
    await session.script('rm -rf "$1"', _folder(command_id))


async def follow(
    host: HostAddress, command_id: UUID, offset: int = 0, *, patience_seconds: float = 600.0
) -> AsyncIterator[Progress]:
    """Everything from byte `offset` on, until it is over, over as many connections as that takes.

    The last Progress is over. Raises HostUnreachable after `patience_seconds` without an answer, and at once
    HostKeyChanged or SignInRefused."""
    clock = asyncio.get_running_loop().time
    heard = clock()
    while True:
        try:
            async with connected(host) as session:
                while True:
                    progress = await look(session, command_id, offset)
                    heard = clock()
                    offset += len(progress.output)
                    full = len(progress.output) == PIECE_BYTES
                    if progress.output or progress.over:
                        yield Progress("running", None, progress.output) if full else progress
                    if progress.over and not full:
                        return
                    await asyncio.sleep(0 if full else POLL_SECONDS)
        except HostUnreachable:
            if clock() - heard > patience_seconds:
                raise
            await asyncio.sleep(RETRY_SECONDS)


def _folder(command_id: UUID) -> str:
    return f"{FOLDER}/{command_id}"
