# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL and a Redis of the suite's own: fresh folders, no fixed ports, gone with the test process."""

import atexit
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


class CannotStart(Exception):
    """A server that the tests need is missing or did not come up."""


def start(data_dir: Path) -> None:
    """Start both servers and name them in DATABASE_URL and REDIS_URL."""
    os.environ["DATABASE_URL"] = _start_postgres()
    os.environ["REDIS_URL"] = _start_redis(data_dir)


def remove_at_exit(folder: Path) -> None:
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)


def _start_postgres() -> str:
    programs = _postgres_programs()
    folder = Path(tempfile.mkdtemp(prefix="portal-pg-"))
    remove_at_exit(folder)
    drop = _drop_privileges(folder)
    data = folder / "data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "check": True, "cwd": "/"}
    initdb = [
        str(programs / "initdb"),
        "-D",
        str(data),
        "-U",
        "portal",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--no-sync",
    ]
    subprocess.run([*drop, *initdb, "--no-locale"], **quiet)
    options = ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "listen_addresses="]
    server = [str(programs / "postgres"), "-D", str(data), "-k", str(folder), *options]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [*(drop or ["setpriv"]), "--pdeathsig", "INT", *server], stdout=log, stderr=log, cwd="/"
    )
    _stop_at_exit(process)
    client = [str(programs / "createdb"), "-h", str(folder), "-U", "portal", "portal"]
    _wait(lambda: subprocess.run(client, capture_output=True).returncode == 0, process, folder / "log")
    return f"postgres://portal@{str(folder).replace('/', '%2F')}/portal"


def _postgres_programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if found:
        return found[-1].parent
    if where := shutil.which("postgres"):
        return Path(where).parent
    raise CannotStart("PostgreSQL is not installed: apt-get install postgresql")


def _drop_privileges(folder: Path) -> list[str]:
    """PostgreSQL refuses to run as root: then it runs as somebody who owns nothing else."""
    if os.geteuid() != 0:
        return []
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _start_redis(data_dir: Path) -> str:
    program = shutil.which("redis-server")
    if program is None:
        raise CannotStart("Redis is not installed: apt-get install redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = ["--save", "", "--appendonly", "no", "--dir", str(data_dir)]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", *quiet]
    _redis.append(_Redis(["setpriv", "--pdeathsig", "TERM", *command], port, data_dir / "redis.log"))
    _redis[0].start()
    return f"redis://127.0.0.1:{port}/0"


@dataclass
class _Redis:
    argv: list[str]
    port: int
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(self.argv, stdout=output, stderr=output)
        _stop_at_exit(self.process)
        _wait(self._answers, self.process, self.log)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


_redis: list[_Redis] = []


def restart_redis() -> None:
    """kill -9, then a new and empty one on the same port."""
    for redis in _redis:
        assert redis.process is not None
        redis.process.kill()
        redis.process.wait()
        redis.start()


def _stop_at_exit(process: "subprocess.Popen[bytes]") -> None:
    owner = os.getpid()

    def stop() -> None:
        if os.getpid() == owner and process.poll() is None:
            process.send_signal(2)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    atexit.register(stop)


def _wait(ready, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 30
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise CannotStart(f"A server did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)
