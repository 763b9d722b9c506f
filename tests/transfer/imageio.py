# SPDX-License-Identifier: GPL-3.0-or-later
"""A real ovirt-imageio daemon and real disks (qcow2 behind qemu-nbd) for tests of the transfer engine."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from ovirt_imageio import admin

from backups.transfer import ImageEndpoint

MIB = 1 << 20
CONFIG = """\
[daemon]
poll_interval = 0.1
drop_privileges = false
systemd_enable = false
run_dir = {run}
[tls]
enable = false
[remote]
host = 127.0.0.1
port = {port}
[local]
enable = false
[control]
transport = unix
socket = {run}/control
remove_timeout = 5
[handlers]
keys = stderr
[logger_root]
level = INFO
handlers = stderr
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, seconds: float = 20.0, what: str = "something") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen in {seconds} s")
        time.sleep(0.02)


class Daemon:
    """One daemon. Tickets come and go over its control socket, as the host's vdsm does it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        run = folder / "run"
        run.mkdir(parents=True)
        (folder / "conf.d").mkdir()
        (folder / "conf.d" / "test.conf").write_text(CONFIG.format(run=run, port=self.port))
        self.log = (folder / "daemon.log").open("wb")
        # The package installs the daemon's program beside the interpreter.
        program = Path(sys.executable).with_name("ovirt-imageio")
        argv = [str(program), "-c", str(folder)]
        self.process = subprocess.Popen(argv, stderr=self.log, stdout=self.log)
        self._config = admin.load_config(str(folder))
        wait_for(self._answers, what="the imageio daemon")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return (self.folder / "run" / "control").exists()
        assert self.process.poll() is None, (self.folder / "daemon.log").read_text()
        return False

    def add_ticket(self, url: str, size: int, *, ops=("read", "write"), dirty=False, timeout=300) -> str:
        ticket = str(uuid.uuid4())
        facts = {
            "uuid": ticket,
            "size": size,
            "url": url,
            "timeout": timeout,
            "ops": list(ops),
            "dirty": dirty,
        }
        with admin.Client(self._config) as client:
            client.add_ticket({**facts, "sparse": True, "transfer_id": ticket})
        return ticket

    def ticket(self, ticket: str) -> dict:
        with admin.Client(self._config) as client:
            return client.get_ticket(ticket)

    def remove_ticket(self, ticket: str) -> None:
        with admin.Client(self._config) as client:
            client.del_ticket(ticket)

    def endpoint(self, ticket: str, **kwargs) -> ImageEndpoint:
        url = f"http://127.0.0.1:{self.port}/images/{ticket}"
        return ImageEndpoint(**{"transfer_url": url, "proxy_url": None, "ca_file": None, **kwargs})

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


@dataclass
class Disk:
    """A qcow2 image with a bitmap, changed with qemu-io and shown to the daemon through qemu-nbd."""

    path: Path
    size: int
    content: bytearray = field(repr=False)
    server: subprocess.Popen | None = None

    @classmethod
    def create(cls, path: Path, size: int) -> "Disk":
        _run("qemu-img", "create", "-q", "-f", "qcow2", str(path), str(size))
        return cls(path, size, bytearray(size))

    def write(self, *changes: tuple[int, bytes]) -> None:
        """Write bytes at offsets, both into the image and into `content`, the truth to compare with."""
        commands = []
        with contextlib.ExitStack() as stack:
            for number, (offset, data) in enumerate(changes):
                source = self.path.with_suffix(f".{number}.in")
                source.write_bytes(data)
                stack.callback(source.unlink)
                commands += ["-c", f"write -s {source} {offset} {len(data)}"]
                self.content[offset : offset + len(data)] = data
            _run("qemu-io", "-f", "qcow2", *commands, str(self.path))

    def zero(self, offset: int, length: int) -> None:
        _run("qemu-io", "-f", "qcow2", "-c", f"write -z -u {offset} {length}", str(self.path))
        self.content[offset : offset + length] = bytes(length)

    def add_bitmap(self, name: str) -> None:
        _run("qemu-img", "bitmap", "--add", "-f", "qcow2", str(self.path), name)

    @contextlib.contextmanager
    def served(self, daemon: Daemon, *, bitmap: str | None = None, writable: bool = False, **kwargs):
        """Yield the endpoint of a new transfer of this disk; afterwards no connection may be left open."""
        with self.exported(bitmap=bitmap, writable=writable) as url:
            ops = ("read", "write") if writable else ("read",)
            ticket = daemon.add_ticket(url, self.size, ops=ops, dirty=bitmap is not None)
            try:
                yield daemon.endpoint(ticket, **kwargs)
                wait_for(lambda: daemon.ticket(ticket)["connections"] == 0, 3, "closing all connections")
            finally:
                daemon.remove_ticket(ticket)

    @contextlib.contextmanager
    def exported(self, *, bitmap: str | None = None, writable: bool = False):
        where = self.path.with_suffix(f".{uuid.uuid4().hex[:8]}.sock")
        argv = ["qemu-nbd", "-t", "-e", "8", "-f", "qcow2", "-k", str(where), "--allocation-depth"]
        argv += ["--discard=unmap", "--detect-zeroes=unmap"] if writable else ["-r"]
        argv += ["-B", bitmap] if bitmap else []
        process = self.server = subprocess.Popen([*argv, str(self.path)])
        try:
            wait_for(where.exists, what="qemu-nbd")
            yield f"nbd:unix:{where}"
        finally:
            process.terminate()
            process.wait(20)

    def read(self) -> bytes:
        raw = self.path.with_suffix(".raw")
        _run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(self.path), str(raw))
        data = raw.read_bytes()
        raw.unlink()
        return data

    def allocated(self) -> int:
        """Bytes that the image maps as data."""
        argv = ["qemu-img", "map", "--output=json", "-f", "qcow2", str(self.path)]
        found = json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)
        return sum(each["length"] for each in found if each["data"])


def _run(*argv: str) -> None:
    assert shutil.which(argv[0]), f"{argv[0]} is needed"
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{argv}: {done.stderr or done.stdout}"


class Told:
    """A Progress that remembers; `raise_after` bytes it raises, as a cancelled job's does."""

    def __init__(self, raise_after: int | None = None, error: BaseException | None = None) -> None:
        self.planned: list[int] = []
        self.done = 0
        self.calls = 0
        self._raise_after = raise_after
        self._error = error

    def plan(self, bytes_total: int) -> None:
        self.planned.append(bytes_total)

    def advance(self, bytes_done: int) -> None:
        self.done += bytes_done
        self.calls += 1
        if self._raise_after is not None and self.done >= self._raise_after and self._error:
            raise self._error
