# SPDX-License-Identifier: GPL-3.0-or-later
"""The way into the lab's Manager machine, its services, and what the API sees of them."""

import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import asyncssh
import pytest

from tests.lab_api.support import Rest
from tests.lab_hosts.support import Shell, connect, run_now
from tests.lab_support import RunningLab, start_lab


def wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def test_services_packages_and_users(shell: Shell) -> None:
    assert shell.ok("systemctl is-active ovirt-engine postgresql").split() == ["active", "active"]
    assert shell("systemctl is-active nothing")[:2] == (3, "inactive\n")
    assert shell.ok("rpm -q --qf '%{VERSION}' ovirt-engine-tools-backup") == "4.5.7"
    assert shell("rpm -q nothing")[:2] == (1, "package nothing is not installed\n")
    assert shell.ok("su - postgres -c 'id -u; pwd'").split() == ["26", "/var/lib/pgsql"]
    assert shell.ok("sudo -n LC_ALL=C.UTF-8 id -u") == "0\n"
    assert shell.ok("hostname") == f"{shell.host.fqdn}\n"


def test_a_detached_command_outlives_its_session(shell: Shell) -> None:
    """The session hangs up what it runs itself (reference trap 11)."""

    async def leave() -> None:
        connection = await connect(shell.host)
        await connection.create_process("sleep 987; touch /var/tmp/attached")
        unit = "systemd-run --unit=later --collect sh -c 'while [ ! -e /var/tmp/go ]; do sleep 0.1; done; echo $$ > /var/tmp/done'"
        assert (await connection.run(unit)).exit_status == 0
        connection.abort()
        await connection.wait_closed()

    run_now(leave())
    wait(lambda: "sleep 987" not in shell.ok("ps ax -o args").replace("ps ax", ""))
    assert shell.ok("systemctl is-active later") == "active\n"
    again = shell("systemd-run --unit=later true")
    assert again[0] == 1 and "was already loaded" in again[2]
    shell.ok("touch /var/tmp/go")
    wait(lambda: shell("systemctl is-active later")[0] == 3)
    assert shell.ok("cat /var/tmp/done").strip().isdecimal()
    assert not Path(shell.host.root + "/var/tmp/attached").exists()


def test_files_travel_by_sftp_and_a_connection_breaks(
    shell: Shell, hosts_lab: RunningLab, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(bytes(range(256)) * 4096)

    async def travel() -> None:
        async with await connect(shell.host) as connection, connection.start_sftp_client() as sftp:
            await sftp.put(tmp_path / "big", "/var/tmp/big")
            await sftp.get("/var/tmp/big", tmp_path / "back")

    run_now(travel())
    assert (tmp_path / "back").read_bytes() == (tmp_path / "big").read_bytes()
    drop = {"how": "drop", "times": 1}
    with (
        hosts_lab.control.fault("host_ssh", command="sftp", bytes=100 << 10, **drop),
        pytest.raises((asyncssh.Error, OSError)),
    ):
        run_now(travel())
    with hosts_lab.control.fault("host_ssh", command="seq *", bytes=1000, **drop):
        code, out, _ = shell("seq 100000")
        assert code == -1 and len(out) <= 1000
    with hosts_lab.control.fault("host_ssh", how="garbage", command="rpm *", times=1):
        code, out, _ = shell("rpm -qa", encoding=None)
        assert code == 0 and "ovirt-engine" not in out
    assert shell.ok("rpm -q ovirt-engine").startswith("ovirt-engine-4.5.7")


def test_another_host_key(shell: Shell, hosts_lab: RunningLab) -> None:
    def come(host_key: str) -> None:
        trusted = asyncssh.import_known_hosts(f"[127.0.0.1]:{shell.host.port} {host_key}\n")

        async def work() -> None:
            async with await connect(shell.host, known_hosts=trusted) as connection:
                assert (await connection.run("true")).exit_status == 0

        run_now(work())

    come(shell.host.host_key)
    told = hosts_lab.control.act("change_host_key")
    assert told["fingerprint"] != shell.host.fingerprint
    with pytest.raises(asyncssh.HostKeyNotVerifiable):
        come(shell.host.host_key)
    come(told["host_key"])


def test_a_password_opens_too_and_a_wrong_one_does_not(shell: Shell) -> None:
    async def come(password: str) -> int | None:
        async with await connect(shell.host, client_keys=None, password=password) as connection:
            return (await connection.run("true")).exit_status

    assert run_now(come(shell.host.password)) == 0
    with pytest.raises(asyncssh.PermissionDenied):
        run_now(come("wrong"))


def test_the_api_shows_the_last_backups_and_their_events(shell: Shell, hosts_lab: RunningLab) -> None:
    api = Rest(hosts_lab)
    shell.ok(
        "psql -h /run/postgresql -U postgres -d engine "
        "-c 'delete from engine_backup_log' -c 'update audit_log set deleted = true'"
    )
    codes = [event.findtext("code") for event in api.get("/events").xml.findall("event")]
    assert codes[0] == "9022"
    assert api.get("").xml.find("engine_backup/last_db_backup") is None
    shell.ok("engine-backup --scope=db --scope=files --file=/var/tmp/api")
    root = api.get("").xml
    assert root.findtext("product_info/version/full_version") == "4.5.7-1.el9"
    assert root.find("engine_backup/last_db_backup") is not None
    codes = [event.findtext("code") for event in api.get("/events").xml.findall("event")]
    assert codes[:4] == ["9025", "9025", "9024", "9024"]


def test_a_stopped_engine_is_told_by_its_web_server(shell: Shell, hosts_lab: RunningLab) -> None:
    url = f"{hosts_lab.engine_url}/ovirt-engine/services/health"
    context = ssl.create_default_context(cafile=hosts_lab.ca_file)

    def health() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(url, context=context, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""

    assert health() == (200, "DB Up!Welcome to Health Status!")
    shell.ok("systemctl stop ovirt-engine")
    assert health()[0] == 503
    shell.ok("systemctl start ovirt-engine")
    assert health()[0] == 200


@pytest.mark.slow
def test_nothing_is_left_running_after_the_lab(tmp_path: Path) -> None:
    lab = start_lab(tmp_path / "lab", arguments=["--hosts"])
    space = next(
        (pid / "ns/pid_for_children").readlink()
        for pid in processes()
        if runs(pid, b"init", str(tmp_path).encode())
    )
    assert inside(space)
    lab.process.kill()
    lab.process.wait()
    wait(lambda: not inside(space))


def processes() -> list[Path]:
    return list(Path("/proc").glob("[0-9]*"))


def runs(pid: Path, *words: bytes) -> bool:
    try:
        line = (pid / "cmdline").read_bytes()
    except OSError:
        return False
    return line.startswith(b"unshare") and all(word in line for word in words)


def inside(space: Path) -> list[Path]:
    """The processes of a process namespace."""
    found = []
    for pid in processes():
        try:
            if (pid / "ns/pid").readlink() == space:
                found.append(pid)
        except OSError:
            continue
    return found
