# SPDX-License-Identifier: GPL-3.0-or-later
"""One real ovirt-imageio daemon over TLS with its local socket off, and qemu-nbd as vdsm starts it."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from ovirt_imageio import admin

from lab.pki import make_pki

CONFIG = """\
[daemon]
drop_privileges = false
systemd_enable = false
run_dir = {run}
[tls]
enable = true
ca_file = {pki.ca_file}
cert_file = {pki.cert_file}
key_file = {pki.key_file}
[remote]
host = 127.0.0.1
port = {port}
[local]
enable = false
[control]
transport = unix
socket = {run}/control
[handlers]
keys = stderr
[logger_root]
level = INFO
handlers = stderr
"""
START_SECONDS = 30


class Daemon:
    """The daemon and the exports it reads from or writes to."""

    def __init__(self) -> None:
        # Not in the benchmark's folder: a socket's path may be at most 107 bytes long.
        self._folder = Path(tempfile.mkdtemp(prefix="bench-imageio-"))
        pki = make_pki(self._folder / "pki")
        self.ca_file = pki.ca_file
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        run = self._folder / "run"
        run.mkdir()
        (self._folder / "conf.d").mkdir()
        config = CONFIG.format(run=run, pki=pki, port=self._port)
        (self._folder / "conf.d" / "bench.conf").write_text(config)
        program = Path(sys.executable).with_name("ovirt-imageio")
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen([program, "-c", self._folder], stdout=log, stderr=log)
        self._config = admin.load_config(str(self._folder))
        self._wait(self._answers, "The imageio daemon")

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"The imageio daemon ended: {(self._folder / 'log').read_text()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
            return (self._folder / "run" / "control").exists()
        return False

    def _wait(self, ready: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what} did not start in {START_SECONDS} s.")
            time.sleep(0.02)

    @contextlib.contextmanager
    def serving(
        self, image: Path, size: int, *, bitmap: str | None = None, writable: bool = False
    ) -> Iterator["Transfer"]:
        """A transfer of `image` as the Manager would have opened it."""
        where = self._folder / f"{uuid.uuid4().hex[:8]}.sock"
        export = subprocess.Popen(_qemu_nbd(image, where, bitmap, writable))
        ticket = str(uuid.uuid4())
        try:
            self._wait(where.exists, "qemu-nbd")
            facts = {
                "uuid": ticket,
                "transfer_id": ticket,
                "size": size,
                "url": f"nbd:unix:{where}",
                "timeout": 3600,
                "ops": ["read", "write"] if writable else ["read"],
                "dirty": bitmap is not None,
                "sparse": True,
            }
            with admin.Client(self._config) as control:
                control.add_ticket(facts)
            url = f"https://127.0.0.1:{self._port}/images/{ticket}"
            yield Transfer(url, [psutil.Process(self._process.pid), psutil.Process(export.pid)])
            with admin.Client(self._config) as control:
                control.del_ticket(ticket)
        finally:
            export.terminate()
            export.wait()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class Transfer:
    """Its URL, and the CPU time of the server's side."""

    def __init__(self, url: str, servers: list[psutil.Process]) -> None:
        self.url = url
        self._servers = servers

    def cpu_seconds(self) -> float:
        times = [process.cpu_times() for process in self._servers]
        return float(sum(each.user + each.system for each in times))


def _qemu_nbd(image: Path, where: Path, bitmap: str | None, writable: bool) -> list[str]:
    """As vdsm's storage/nbd.py starts it; without direct I/O where the file system has none (tmpfs)."""
    direct = _has_direct_io(image)
    node = {"driver": "qcow2", "file": {"driver": "file", "filename": str(image)}}
    argv = ["qemu-nbd", "--socket", str(where), "--persistent", "--shared=8", "--export-name="]
    argv += ["--cache=none", "--aio=native"] if direct else ["--cache=writeback", "--aio=threads"]
    argv += ["--allocation-depth"]
    argv += ["--discard=unmap", "--detect-zeroes=unmap"] if writable else ["--read-only"]
    argv += [f"--bitmap={bitmap}"] if bitmap else []
    return [*argv, f"json:{json.dumps(node)}"]


def _has_direct_io(image: Path) -> bool:
    try:
        os.close(os.open(image, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        return False
    return True
