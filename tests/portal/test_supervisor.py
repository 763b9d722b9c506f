# SPDX-License-Identifier: GPL-3.0-or-later
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from portal import supervisor
from portal.supervisor import Child, Supervisor, portal_children

pytestmark = pytest.mark.embedded


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """Two children that write their ids into files, under a watcher; all are gone at the end."""
    monkeypatch.setattr(supervisor, "_WAIT", 0.2)
    children = [
        Child(name, ["sh", "-c", f"echo $$ >> {tmp_path / name}; echo started; exec sleep 60"])
        for name in "ab"
    ]
    found = Supervisor(children, os.environ, log_dir=tmp_path / "logs")
    found.start()
    thread = threading.Thread(target=found.watch)
    thread.start()
    yield found
    found.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert all(child.process.poll() is not None for child in found.children)


def pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_a_child_that_dies_is_started_again_and_the_others_live_on(watched, tmp_path):
    wait_for(lambda: pids(tmp_path / "a") and pids(tmp_path / "b"))
    os.kill(pids(tmp_path / "a")[0], signal.SIGKILL)
    wait_for(lambda: len(pids(tmp_path / "a")) == 2)
    assert len(pids(tmp_path / "b")) == 1
    wait_for(lambda: (tmp_path / "logs" / "a.log").read_text() == "started\nstarted\n")


def test_restarts_keep_no_files_open(watched, tmp_path):
    def open_logs():
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return [link for link in links if os.readlink(link).startswith(str(tmp_path / "logs"))]

    wait_for(lambda: pids(tmp_path / "a"))
    os.kill(pids(tmp_path / "a")[0], signal.SIGKILL)
    wait_for(lambda: len(pids(tmp_path / "a")) == 2)
    assert open_logs() == []


def test_all_children_die_with_the_supervisor_however_it_ends(tmp_path):
    program = (
        "import os, time\nfrom portal.supervisor import Child, Supervisor\n"
        f"s = Supervisor([Child('a', ['sh', '-c', 'echo $$ > {tmp_path}/a; exec sleep 60'])], os.environ)\n"
        "s.start()\ns.watch()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    wait_for(lambda: pids(tmp_path / "a"))
    child = pids(tmp_path / "a")[0]
    parent.kill()
    parent.wait(10)
    wait_for(lambda: not Path(f"/proc/{child}").exists() or "Z" in _state(child))


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_a_portal_has_web_workers_one_for_webhooks_and_one_beat(tmp_path):
    names = [child.name for child in portal_children(bind="b", workers=2, concurrency=1, data_dir=tmp_path)]
    assert names == ["web", "worker-1", "worker-2", "courier", "beat"]
