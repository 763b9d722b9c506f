# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that outlives sessions and whoever follows it: no line lost, nothing started twice."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from portal.remote import detached
from portal.remote.connection import CommandFailed, HostAddress, connected, shown_host_key
from tests.lab_support import RunningLab

# Counts, waiting for a file that lets it go on after the 500th line; notes each run.
COUNT = "echo ran >> $0.runs; i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo line $i; [ $i = 500 ] && while [ ! -e $0 ]; do sleep 0.1; done; done; exit 7"
EXPECTED = "".join(f"line {i}\n" for i in range(1, 1001)).encode()


def wait(condition: Callable[[], object], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


@pytest.fixture
def pinned(host: HostAddress) -> HostAddress:
    """By the key that the machine has now."""
    return replace(host, host_key=asyncio.run(shown_host_key(host.address, host.port)))


@pytest.fixture(params=["systemd", "setsid"])
def way(request: pytest.FixtureRequest, hosts_lab: RunningLab):
    """With systemd, or with a session of its own."""
    mark = Path(hosts_lab.hosts[0].root) / "run/systemd/system"
    if request.param == "setsid":
        mark.rmdir()
    yield request.param
    mark.mkdir(parents=True, exist_ok=True)


async def start(host: HostAddress, command_id: UUID, *argv: str) -> None:
    async with connected(host) as session:
        await detached.start(session, command_id, argv)


async def collect(host: HostAddress, command_id: UUID, offset: int = 0) -> tuple[bytes, detached.Progress]:
    pieces = []
    async for progress in detached.follow(host, command_id, offset):
        pieces.append(progress.output)
    return b"".join(pieces), progress


def test_a_dropped_session_loses_no_line_and_starts_nothing_twice(
    pinned: HostAddress, hosts_lab: RunningLab, way: str
) -> None:
    command, go = uuid4(), f"/root/{uuid4()}"
    root = Path(hosts_lab.hosts[0].root)

    async def start_again_and_again() -> None:
        """The first start's session ends at some moment, then two come at once."""
        lost = asyncio.create_task(start(pinned, command, "sh", "-c", COUNT, go))
        await asyncio.sleep(0.1)
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)
        await asyncio.gather(*(start(pinned, command, "sh", "-c", COUNT, go) for _ in range(2)))

    asyncio.run(start_again_and_again())

    async def follow() -> tuple[bytes, detached.Progress]:
        following = asyncio.create_task(collect(pinned, command))
        drop = {"fault": "host_ssh", "how": "drop", "command": "*head*", "bytes": 900, "times": 3}
        hosts_lab.control._request("POST", "/faults", drop)
        (root / go[1:]).touch()
        return await following

    output, last = asyncio.run(follow())
    assert output == EXPECTED
    assert (last.state, last.code) == ("ended", 7)
    assert (root / f"{go[1:]}.runs").read_text() == "ran\n"


def test_a_killed_follower_is_followed_by_another_from_its_offset(
    pinned: HostAddress, hosts_lab: RunningLab, tmp_path: Path
) -> None:
    command, go = uuid4(), f"/root/{uuid4()}"
    asyncio.run(start(pinned, command, "sh", "-c", COUNT, go))
    (tmp_path / "address").write_text(json.dumps(asdict(pinned)))
    kept = tmp_path / "kept"
    follower = [
        sys.executable,
        "-m",
        "tests.remote.follower",
        str(tmp_path / "address"),
        str(command),
        str(kept),
    ]
    first = subprocess.Popen(follower, env=dict(os.environ), stdout=subprocess.PIPE)
    wait(lambda: kept.exists() and kept.stat().st_size > 1000)
    first.kill()
    first.wait()
    (Path(hosts_lab.hosts[0].root) / go[1:]).touch()
    done = subprocess.run(follower, capture_output=True, timeout=120)
    assert done.stdout == b"ended 7\n", done.stderr.decode()[-2000:]
    assert kept.read_bytes() == EXPECTED


def test_killed_stopped_and_unknown_commands_are_told_apart(pinned: HostAddress, way: str) -> None:
    async def work() -> None:
        killed, stopped = uuid4(), uuid4()
        await start(pinned, killed, "sh", "-c", "echo begun; sleep 600")
        await start(pinned, stopped, "sh", "-c", "echo begun; sleep 600")
        async with connected(pinned) as session:
            assert (await detached.look(session, uuid4())).state == "absent"
            for command in (killed, stopped):
                while not (progress := await detached.look(session, command)).output:
                    await asyncio.sleep(0.05)
                assert (progress.state, progress.output) == ("running", b"begun\n")
            await session.script(
                f'read -r number time < {detached.FOLDER}/{killed}/pid; kill -s KILL -- "-$number"'
            )
            await detached.stop(session, stopped)
        assert (await collect(pinned, killed))[1].state == "lost"
        last = (await collect(pinned, stopped))[1]
        assert (last.state, last.code) == ("ended", 143)
        async with connected(pinned) as session:
            await detached.forget(session, stopped)
            assert (await detached.look(session, stopped)).state == "absent"

    asyncio.run(work())


def test_a_backup_of_the_manager_outlives_its_session(pinned: HostAddress, hosts_lab: RunningLab) -> None:
    command = uuid4()
    with hosts_lab.control.fault("host_command", command="engine-backup", line="- DWH*", how="hold") as fault:
        asyncio.run(start(pinned, command, "engine-backup", "--file=/var/tmp/detached"))
        fault.wait_struck()
    output, last = asyncio.run(collect(pinned, command))
    assert (last.state, last.code) == ("ended", 0)
    assert output.splitlines()[-1] == b"Done."


def test_garbage_is_no_state(pinned: HostAddress, hosts_lab: RunningLab) -> None:
    async def work() -> None:
        async with connected(pinned) as session:
            await detached.look(session, uuid4())

    with hosts_lab.control.fault("host_ssh", how="garbage", times=1), pytest.raises(CommandFailed):
        asyncio.run(work())
