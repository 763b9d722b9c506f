# SPDX-License-Identifier: GPL-3.0-or-later
"""Quoting, pinned host keys, secrets that do not stay."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from portal.remote import commands
from portal.remote.connection import (
    CommandFailed,
    HostAddress,
    HostKeyChanged,
    HostUnreachable,
    SignInRefused,
    connected,
    fingerprint,
    make_key,
    shown_host_key,
)
from tests.lab_support import RunningLab

AWKWARD = ["a b", "it's", 'say "no"', "$HOME", "`id`", "back\\slash", "*", "; rm x", "new\nline", "-n", "ä€"]


async def run(host: HostAddress, *argv: str) -> bytes:
    async with connected(host) as session:
        result = await session.run(argv)
        assert result.code == 0, result
        return result.stdout


def test_every_argument_arrives_as_it_is(host: HostAddress) -> None:
    out = asyncio.run(run(host, "printf", "%s\\0", *AWKWARD))
    assert out.decode().split("\0")[:-1] == AWKWARD
    by_sudo = commands.line(["printf", "%s", *AWKWARD], sudo=True)
    assert by_sudo.startswith("sudo -n LC_ALL=C.UTF-8 printf ")
    assert (
        asyncio.run(run(host, "sh", "-c", f"{by_sudo} | wc -c")).strip()
        == str(len("".join(AWKWARD).encode())).encode()
    )


@pytest.mark.parametrize("argv", [[], ["engine-backup", "", "--mode=restore"], ["echo", "a\0b"]])
def test_an_empty_argument_is_refused(argv: list[str]) -> None:
    with pytest.raises(commands.CommandRefused):
        commands.line(argv)


def test_the_locale_is_set_whatever_the_session_has(host: HostAddress) -> None:
    assert asyncio.run(run(host, "sh", "-c", "echo $LC_ALL")) == b"C.UTF-8\n"


def test_a_key_is_shown_before_it_is_trusted(host: HostAddress, hosts_lab: RunningLab) -> None:
    shown = asyncio.run(shown_host_key(host.address, host.port))
    assert fingerprint(shown) == hosts_lab.hosts[0].fingerprint
    assert fingerprint(shown).startswith("SHA256:")


def test_only_an_authorized_key_comes_in(host: HostAddress, hosts_lab: RunningLab) -> None:
    private, public = make_key()
    mine = replace(host, private_key=private)
    with pytest.raises(SignInRefused):
        asyncio.run(run(mine, "true"))
    authorized = Path(hosts_lab.hosts[0].root) / "root/.ssh/authorized_keys"
    before = authorized.read_text()
    authorized.write_text(f"{before}{public}\n")
    try:
        assert asyncio.run(run(mine, "id", "-u")) == b"0\n"
    finally:
        authorized.write_text(before)
    assert private not in repr(mine)


def test_nobody_there(host: HostAddress, hosts_lab: RunningLab) -> None:
    with hosts_lab.control.fault("host_ssh", how="refuse"), pytest.raises(HostUnreachable):
        asyncio.run(run(host, "true"))


def test_a_password_is_in_a_private_file_only_and_is_removed_also_after_a_failure(
    host: HostAddress, hosts_lab: RunningLab
) -> None:
    secret = "s3'c\"r $e\\t"

    async def work() -> tuple[str, bytes, bytes]:
        async with connected(host) as session:
            async with session.secret_file(secret) as path:
                mode = await session.run(["stat", "-c", "%a", path])
                content = await session.run(["cat", path])
                listing = await session.run(["ps", "ax", "-o", "args"])
                assert b"s3'c" not in listing.stdout
            return path, mode.stdout, content.stdout

    path, mode, content = asyncio.run(work())
    assert (mode, content.decode()) == (b"600\n", secret)
    there = Path(hosts_lab.hosts[0].root)
    assert not (there / path[1:]).exists()

    async def fail(command: list[str], error: type[Exception]) -> None:
        async with connected(host) as session:
            with pytest.raises(error):
                async with session.secret_file(secret) as kept:
                    assert (there / kept[1:]).read_text() == secret
                    result = await session.run(command)
                    raise CommandFailed(f"code {result.code}")

    asyncio.run(fail(["false"], CommandFailed))
    assert not list((there / "run").glob("portal-*"))
    with hosts_lab.control.fault("host_ssh", how="drop", command="*whoami*", times=1):
        asyncio.run(fail(["whoami"], HostUnreachable))
    assert not list((there / "run").glob("portal-*"))


def test_another_host_key_stops_with_both_fingerprints(host: HostAddress, hosts_lab: RunningLab) -> None:
    told = hosts_lab.control.act("change_host_key")
    with pytest.raises(HostKeyChanged) as refusal:
        asyncio.run(run(host, "touch", "/root/must-not-be"))
    assert refusal.value.pinned == fingerprint(host.host_key)
    assert refusal.value.shown == told["fingerprint"]
    assert refusal.value.pinned in str(refusal.value) and refusal.value.shown in str(refusal.value)
    assert not (Path(hosts_lab.hosts[0].root) / "root/must-not-be").exists()
    assert asyncio.run(run(replace(host, host_key=told["host_key"]), "true")) == b""
