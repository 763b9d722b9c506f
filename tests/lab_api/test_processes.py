# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as a process tree: side by side, as an ordinary user, gone without a trace, records that fade."""

import importlib.metadata
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import ovirtsdk4 as sdk
import psutil  # type: ignore[import-untyped]
import pytest

from lab.engine.clock import parse_lag
from tests.lab_api.support import Client, connect, wait_for
from tests.lab_support import PROJECT_DIR, LabDidNotStart, RunningLab, start_lab
from tests.sdk_examples import Examples

pytestmark = pytest.mark.lab
NEEDED_BY_THE_LAB = ("aiohttp", "asyncssh", "cryptography", "ovirt-imageio", "qemu.qmp")


def tree(lab: RunningLab) -> list[psutil.Process]:
    return psutil.Process(lab.process.pid).children(recursive=True)


def sockets_of(processes: list[psutil.Process]) -> set[str]:
    """Paths of the unix sockets that the processes listen on."""
    paths = (c.laddr for process in processes for c in process.net_connections(kind="unix"))
    return {str(path) for path in paths if path and str(path).startswith("/")}


def volumes(directory: Path) -> list[Path]:
    return [path for path in (directory / "storage").rglob("*") if path.is_file()]


def is_unlocked(path: Path) -> bool:
    """QEMU takes a lock on what it opens, so it must be able to open the file for writing."""
    form = subprocess.check_output(["qemu-img", "info", "-U", "--output=json", str(path)], text=True)
    driver = "qcow2" if '"format": "qcow2"' in form else "raw"
    argv = ["qemu-io", "-f", driver, "-c", "flush", str(path)]
    return subprocess.run(argv, capture_output=True).returncode == 0


def check_gone(processes: list[psutil.Process], sockets: set[str]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []
    assert [path for path in sockets if Path(path).exists()] == []


def test_two_labs_side_by_side_and_sigterm_leaves_nothing(tmp_path: Path) -> None:
    one = start_lab(tmp_path / "one")
    # A path too long for unix sockets needs other places for them.
    two = start_lab(tmp_path / ("two" * 30), arguments=["--retention", "0"])
    children = {lab.api: tree(lab) for lab in (one, two)}
    sockets = {lab.api: sockets_of(children[lab.api]) for lab in (one, two)}
    try:
        assert one.api != two.api and one.imageio != two.imageio and one.password != two.password
        assert one.vms[0].status == two.vms[0].status == "up"
        with connect(one) as first, connect(two) as second:
            ids = [{vm.id for vm in c.system_service().vms_service().list()} for c in (first, second)]
            assert not ids[0] & ids[1]
            _check_retention(Client(second), two)
        assert one.stop() == 0
        check_gone(children[one.api], sockets[one.api])
        assert all(is_unlocked(path) for path in volumes(one.dir))
        with connect(two) as second:
            assert second.system_service().vms_service().list(search="status=up")
    finally:
        for lab in (one, two):
            lab.stop()
    check_gone(children[two.api], sockets[two.api])
    assert len(volumes(two.dir)) == 7
    assert all(is_unlocked(path) for path in volumes(two.dir))


def _check_retention(client: Client, lab: RunningLab) -> None:
    """With 15 minutes shrunk to nothing, records are gone as soon as their work is over; the events stay."""
    vm_id = lab.vm("files-01").id
    backup = client.start_backup(vm_id)
    transfer = client.download(client.disk_ids(vm_id)[0], backup_id=backup.id)
    client.transfer(transfer.id).finalize()
    wait_for(lambda: client.is_gone(client.transfer(transfer.id)), "the transfer's record is gone")
    service = client.vm(vm_id).backups_service().backup_service(backup.id)
    service.finalize()
    wait_for(lambda: client.is_gone(service), "the backup's record is gone")
    assert client.events(backup.id)[0][0] == 10793
    assert client.vm(vm_id).checkpoints_service().list()[0].id == backup.to_checkpoint_id


def test_used_folder_taken_port_and_bad_arguments_are_refused(api_lab: RunningLab, tmp_path: Path) -> None:
    with pytest.raises(LabDidNotStart, match="already holds a lab"):
        start_lab(api_lab.dir)
    port = re.findall(r":(\d+)/", api_lab.api)[0]
    with pytest.raises(LabDidNotStart, match="could not run"):
        start_lab(tmp_path / "other", arguments=["--api-port", port])
    with pytest.raises(LabDidNotStart, match="argument --lag"):
        start_lab(tmp_path / "third", lag="-3")


def test_lag_can_be_real_fast_or_a_factor() -> None:
    assert [parse_lag(text) for text in ("real", "fast", "0.5")] == [1.0, 0.02, 0.5]
    for text in ("slow", "-1", "1000", "nan"):
        with pytest.raises(ValueError):
            parse_lag(text)


def test_phases_take_their_time_and_a_killed_lab_takes_its_processes_along(tmp_path: Path) -> None:
    lab = start_lab(tmp_path / "lab", lag="0.1")
    with connect(lab) as connection:
        client = Client(connection)
        began = time.monotonic()
        client.start_backup(lab.vm("web-01").id)
        # Polls after 1, 2, and 4 s of engine time lie before `ready`.
        assert 0.7 <= time.monotonic() - began < 10
    children = tree(lab)
    assert len(children) >= 5
    lab.process.send_signal(signal.SIGKILL)
    lab.process.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def closure(names: tuple[str, ...]) -> set[str]:
    """The installed distributions that these ones need, by name."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            requirements = importlib.metadata.distribution(name).requires or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
        waiting += [re.split(r"[ ;<>=!~\[(]", r)[0] for r in requirements if "extra ==" not in r]
    return found


def copy_packages(target: Path) -> None:
    """Whole packages: what an installer lists of a package built on the spot may lack its compiled modules."""
    target.mkdir(parents=True, exist_ok=True)
    for name in closure(NEEDED_BY_THE_LAB):
        distribution = importlib.metadata.distribution(name)
        site = Path(str(distribution.locate_file("")))
        tops = {file.parts[0] for file in distribution.files or [] if ".." not in file.parts}
        tops |= set((distribution.read_text("top_level.txt") or "").split())
        for top in tops:
            if (site / top).is_dir():
                shutil.copytree(site / top, target / top, dirs_exist_ok=True)
            elif (site / top).is_file():
                shutil.copy(site / top, target / top)


def python_for(user: int) -> str:
    """An interpreter of this version that the user may run."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = (os.path.realpath(sys.executable), f"/usr/bin/{version}", f"/usr/local/bin/{version}")
    check = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]!r})"
    for candidate in candidates:
        try:
            if subprocess.run([candidate, "-c", check], user=user, cwd="/").returncode == 0:
                return candidate
        except OSError:
            continue
    pytest.skip(f"no {version} that an ordinary user may run")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="lab-nobody-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody; others are ordinary users anyway")
def test_lab_runs_as_nobody_and_a_backup_is_taken_through_it(open_folder: Path, tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    python = python_for(nobody)
    code, packages, home = open_folder / "code", open_folder / "packages", open_folder / "home"
    shutil.copytree(PROJECT_DIR / "lab", code / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    copy_packages(packages)
    subprocess.run(["chmod", "-R", "a+rX", str(code), str(packages)], check=True)
    home.mkdir()
    os.chown(home, nobody, -1)
    environment = {"PYTHONPATH": str(packages), "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    lab = start_lab(home / "lab", user=nobody, python=python, cwd=code, environment=environment)
    try:
        assert {process.uids().effective for process in [psutil.Process(lab.process.pid), *tree(lab)]} == {
            nobody
        }
        Examples(lab, tmp_path).backup("full", lab.vm("mail-01").id)
        assert len(list(tmp_path.glob("*.qcow2"))) == 2
        with connect(lab) as connection, pytest.raises(sdk.NotFoundError):
            Client(connection).vm("00000000-0000-0000-0000-0000000000ff").get()
    finally:
        children = tree(lab)
        assert lab.stop() == 0
    check_gone(children, set())
