# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing outlives a lab, labs do not meet, certificates are beyond reproach, and no privilege is needed."""

import asyncio
import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.imageio import ImageioDaemon, ImageioError, TicketBusy
from lab.pki import make_pki
from lab.processes import CommandFailed, ProcessGroup
from lab.sockets import LOCK_NAME, PREFIX, SocketDir, sweep_stale
from tests.lab_data.support import (
    MIB,
    journal_entries,
    processes_with,
    read_all,
    running_rig,
    sockets_under,
    until_written,
)

pytestmark = pytest.mark.timeout(60)
PROJECT_DIR = Path(__file__).resolve().parents[2]
NOBODY = 65534
LAB = """
import asyncio, sys
from pathlib import Path
from lab.hypervisor import LiveBackupDisk
from tests.lab_data.support import MIB, running_rig, until_written

async def main(directory):
    async with running_rig(directory, proxy=True) as rig:
        volume, cold = await rig.volume("disk"), await rig.volume("cold")
        guest = rig.guest("disk", 0, MIB)
        await rig.hypervisor.start_vm("vm", [volume], guest)
        await until_written(guest.journal, 3)
        wanted = [LiveBackupDisk(volume, None, True)]
        await rig.hypervisor.begin_live_backup("vm", "b", wanted, "cp1", directory / "scratch")
        await rig.hypervisor.export_volume(cold, export_id="t", readonly=True)
        print("ready", flush=True)
        await asyncio.sleep(600)

asyncio.run(main(Path(sys.argv[1])))
"""


@contextlib.contextmanager
def lab_process(directory: Path, user: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """A data plane with everything running, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", LAB, str(directory)],
        cwd=PROJECT_DIR,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path]), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def until_no_process_with(text: str, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while (left := processes_with(text)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def test_kill_9_of_the_lab_leaves_no_process(tmp_path: Path) -> None:
    with lab_process(tmp_path) as lab:
        names = " ".join(processes_with(str(tmp_path)))
        for program in ("qemu-storage-daemon", "qemu-nbd", "guest_writer", "imageio.conf", "proxy.conf"):
            assert program in names
        lab.send_signal(signal.SIGKILL)
        lab.wait()
        until_no_process_with(str(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_can_run_everything() -> None:
    directory = Path(tempfile.mkdtemp(prefix="lab-nobody-"))
    try:
        os.chown(directory, NOBODY, NOBODY)
        if not _may_run(sys.executable, NOBODY):
            pytest.skip("this interpreter is not for other users")
        with lab_process(directory, NOBODY) as lab:
            assert len(processes_with(str(directory))) >= 5
            lab.send_signal(signal.SIGINT)
            assert lab.wait(20) != 0
            assert processes_with(str(directory)) == []
            assert sockets_under(directory) == []
            assert not (directory / "scratch").exists()
    finally:
        shutil.rmtree(directory)


def _may_run(executable: str, user: int) -> bool:
    try:
        subprocess.run(
            [executable, "-c", "pass"], check=True, user=user, group=user, extra_groups=[], cwd="/"
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def test_two_labs_side_by_side_and_nothing_left_of_either(tmp_path: Path) -> None:
    async def use(directory: Path, letter: bytes) -> None:
        async with running_rig(directory, proxy=True) as rig:
            assert rig.host is not None
            volume, cold = await rig.volume("disk"), await rig.volume("cold", 2 * MIB)
            guest = rig.guest("disk", 0, MIB)
            await rig.hypervisor.start_vm("vm", [volume], guest)
            url = await rig.hypervisor.export_volume(cold, export_id="t", readonly=False)
            await rig.through_ticket(url, 2 * MIB, lambda client: client.write(0, letter * MIB), write=True)
            await until_written(guest.journal, 20)
            content = await rig.through_ticket(url, 2 * MIB, read_all)
            assert content == letter * MIB + bytes(MIB)
            assert journal_entries(guest.journal)[0]["seq"] == 1

    async def scenario() -> None:
        await asyncio.gather(use(tmp_path / "a", b"a"), use(tmp_path / "b", b"b"))

    asyncio.run(scenario())
    assert processes_with(str(tmp_path)) == []
    assert sockets_under(tmp_path) == []


def test_a_long_directory_gets_short_sockets_that_go_away(tmp_path: Path) -> None:
    directory = tmp_path / ("long-" * 20) / "with, comma: and colon"

    async def scenario() -> list[Path]:
        async with running_rig(directory) as rig:
            volume = await rig.volume("disk", 2 * MIB)
            await rig.hypervisor.start_vm("vm", [volume], rig.guest("disk", 0, MIB))
            await rig.hypervisor.stop_vm("vm")
            url = await rig.hypervisor.export_volume(volume, export_id="t", readonly=True)
            assert len(await rig.through_ticket(url, 2 * MIB, read_all)) == 2 * MIB
            return [Path(url.removeprefix("nbd:unix:")).parent]

    (folder,) = asyncio.run(scenario())
    assert folder.name.startswith(PREFIX)
    assert not folder.exists()


def test_socket_folders_of_the_dead_are_swept_and_those_of_the_living_are_not(tmp_path: Path) -> None:
    living = SocketDir(tmp_path / ("x" * 100))
    dead, fresh = tmp_path / f"{PREFIX}dead", tmp_path / f"{PREFIX}fresh"
    held = tmp_path / f"{PREFIX}held"
    held.symlink_to(living.directory)
    for folder in (dead, fresh):
        folder.mkdir()
        (folder / LOCK_NAME).touch()
    long_ago = time.time() - 3600
    os.utime(dead, (long_ago, long_ago))
    os.utime(living.directory, (long_ago, long_ago))
    assert sweep_stale(tmp_path) == [dead]
    assert living.directory not in sweep_stale() and living.directory.is_dir()
    living.close()
    living.close()
    assert fresh.is_dir() and not living.directory.exists()


def test_a_command_that_fails_says_what_it_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        processes = ProcessGroup(tmp_path / "log")
        assert (await processes.run("cat", input="hello")).stdout == "hello"
        assert (await processes.run("false", check=False)).returncode == 1
        with pytest.raises(CommandFailed) as failed:
            await processes.run("ls", "/does/not/exist")
        assert failed.value.rc == 2 and "No such file" in failed.value.stderr
        with pytest.raises(CommandFailed, match="not installed"):
            await processes.run("no-such-program-anywhere")
        child = await processes.spawn(
            "stubborn", "sh", "-c", "trap '' TERM; echo up; sleep 60 & wait; sleep 60"
        )
        while "up" not in processes.log_tail("stubborn"):
            await asyncio.sleep(0.01)
        sleeper = asyncio.create_task(processes.run("sleep", "60"))
        await asyncio.sleep(0.05)
        sleeper.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeper
        await processes.close()
        assert child.returncode == -signal.SIGKILL

    asyncio.run(scenario())


def test_certificates_pass_the_strictest_check_and_only_for_their_names(tmp_path: Path) -> None:
    pki = make_pki(tmp_path, ("127.0.0.1", "localhost"))
    assert pki.key_file.stat().st_mode & 0o777 == 0o600
    verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(pki.ca_file)]
    for name in (["-verify_ip", "127.0.0.1"], ["-verify_hostname", "localhost"]):
        subprocess.run([*verify, *name, str(pki.cert_file)], check=True, capture_output=True)
    other = subprocess.run(
        [*verify, "-verify_hostname", "example.com", str(pki.cert_file)], capture_output=True
    )
    assert other.returncode != 0
    context = ssl.create_default_context(cafile=pki.ca_file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    assert len(context.get_ca_certs()) == 1


def test_a_daemon_that_crashed_comes_back_on_the_same_port(tmp_path: Path) -> None:
    async def scenario() -> None:
        processes = ProcessGroup(tmp_path / "log")
        daemon = ImageioDaemon(
            tmp_path, make_pki(tmp_path / "pki"), processes, name="imageio", local_socket=True
        )
        with pytest.raises(ImageioError):
            _ = daemon.url
        await daemon.start()
        url = daemon.url
        (tmp_path / "disk").write_bytes(bytes(MIB))
        ticket = {"uuid": "t", "size": MIB, "url": f"file://{tmp_path}/disk", "timeout": 60, "ops": ["read"]}
        await daemon.add_ticket(ticket)
        assert (tmp_path / "imageio.local").is_socket()
        await daemon.kill()
        with pytest.raises(ImageioError):
            await daemon.get_ticket("t")
        await daemon.start()
        assert daemon.url == url and await daemon.get_ticket("t") is None
        with pytest.raises(ImageioError) as refused:
            await daemon.add_ticket({"uuid": "t"})
        assert refused.value.status == 400 and not isinstance(refused.value, TicketBusy)
        with pytest.raises(ImageioError):
            await daemon.extend_ticket("t", 60)
        await daemon.stop()
        await daemon.stop()
        await processes.close()

    asyncio.run(scenario())
    assert sockets_under(tmp_path) == []


async def until_stalled(daemon: ImageioDaemon, ticket_id: str) -> None:
    """Wait until all buffers on the way are full: a request is only busy while it cannot go on."""
    before, now = -1, 0
    while now != before:
        await asyncio.sleep(0.3)
        ticket = await daemon.get_ticket(ticket_id)
        assert ticket is not None and ticket["active"]
        before, now = now, ticket["transferred"]


def test_a_reader_that_stalls_keeps_its_ticket_busy(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_rig(tmp_path) as rig:
            assert rig.host is not None
            volume = await rig.volume("disk", 64 * MIB, "raw")
            url = await rig.hypervisor.export_volume(volume, export_id="t", readonly=True)
            transfer = await rig.ticket(url, volume.virtual_size)
            ticket_id = transfer.rsplit("/", 1)[1]
            context = ssl.create_default_context(cafile=rig.pki.ca_file)
            port = int(rig.host.url.rsplit(":", 1)[1])
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, limit=1024)
            writer.write(f"GET /images/{ticket_id} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await reader.readline()
            await until_stalled(rig.host, ticket_id)
            with pytest.raises(TicketBusy):
                await rig.host.remove_ticket(ticket_id)
            told = await rig.host.get_ticket(ticket_id)
            assert told is not None and told["canceled"]
            writer.transport.abort()
            async with asyncio.timeout(10):
                while await rig.host.get_ticket(ticket_id) is not None:
                    with contextlib.suppress(TicketBusy):
                        await rig.host.remove_ticket(ticket_id)

    asyncio.run(scenario())
