# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's own PostgreSQL server: made, started and stopped as the user postgres.

It refuses to run as root; a nested user namespace makes this process's user its user 26. Both are one user to the
kernel, so that `local` connections cannot tell root from postgres: pg_hba.conf trusts them (inferred: the real one
asks for peer)."""

import os
import shutil
import subprocess
from pathlib import Path

from lab.hosts.commands.common import DATA

AS_POSTGRES = ("unshare", "--user", "--map-user=26", "--map-group=26")
LOCALES = Path("/var/lib/lab-locale")
SETTINGS = """
listen_addresses = '*'
unix_socket_directories = '/var/run/postgresql'
lc_messages = 'en_US.UTF-8'
max_connections = 150
fsync = off
logging_collector = off
"""
HBA = """
local all all trust
host postgres postgres 127.0.0.1/32 reject
"""


def environment() -> dict[str, str]:
    return {**os.environ, "LOCPATH": str(LOCALES), "LC_ALL": ""}


def initialise() -> None:
    """`initdb`, with the settings that setup would make (reference 1.7)."""
    if not LOCALES.exists():
        # Messages stay English: the C locale under the name that the Manager's tools ask for.
        shutil.copytree("/usr/lib/locale/C.utf8", LOCALES / "en_US.utf8")
    DATA.mkdir(parents=True, exist_ok=True)
    DATA.chmod(0o700)
    arguments = ["-D", str(DATA), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=en_US.UTF-8"]
    run("initdb", *arguments, "--no-sync")
    with (DATA / "postgresql.conf").open("a") as stream:
        stream.write(SETTINGS)
    (DATA / "pg_hba.conf").write_text(HBA.lstrip())


def start() -> None:
    Path("/var/run/postgresql").mkdir(parents=True, exist_ok=True)
    run("pg_ctl", "-D", str(DATA), "-l", "/var/lib/pgsql/server.log", "-w", "start")


def stop() -> None:
    run("pg_ctl", "-D", str(DATA), "-m", "fast", "-w", "stop")


def is_running() -> bool:
    done = subprocess.run([*AS_POSTGRES, "pg_ctl", "-D", str(DATA), "status"], capture_output=True)
    return done.returncode == 0


def run(*argv: str) -> None:
    """Raises RuntimeError with what the program said."""
    done = subprocess.run(
        [*AS_POSTGRES, *argv],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        cwd="/",
    )
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}: {done.stdout.decode(errors='replace')}")
