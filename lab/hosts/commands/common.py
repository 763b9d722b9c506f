# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands of a lab host share: configuration files, the fault line, installed packages, services.

Section numbers in this package are those of the Manager host reference (docs/lab.md names it)."""

import json
import os
import re
import shlex
import signal
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path

CONTROL = "/run/lab/control.sock"
PACKAGES = Path("/var/lib/rpm/lab.json")
POST_FILE = Path("/etc/ovirt-engine-setup.conf.d/20-setup-ovirt-post.conf")
UNITS = Path("/run/lab/units")
ENGINE_CONF = Path("/etc/ovirt-engine/engine.conf.d")
DWH_CONF = Path("/etc/ovirt-engine-dwh/ovirt-engine-dwhd.conf.d")
ENGINE_UP = Path("/var/lib/ovirt-engine/engine.up")
DATA = Path("/var/lib/pgsql/data")
ASSIGNMENT = re.compile(r"^\s*([A-Za-z_][A-Za-z0-9_]*)=(.*)$")


def shell_assignments(files: Iterable[Path]) -> dict[str, str]:
    """NAME=VALUE lines of configuration files, quoted as the shell quotes; later ones win. Unreadable: skipped."""
    values: dict[str, str] = {}
    for file in files:
        try:
            text = file.read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if found := ASSIGNMENT.match(line):
                values[found[1]] = unquoted(found[2])
    return values


def unquoted(text: str) -> str:
    """One word as the shell reads it: in double quotes a backslash guards `"`, `$`, a backtick and itself."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        return re.sub(r'\\(["$`\\])', r"\1", text[1:-1])
    try:
        return "".join(shlex.split(text))
    except ValueError:
        return text


def engine_config() -> dict[str, str]:
    """The Manager's configuration as engine-backup loads it: engine.conf.d and the Data Warehouse's."""
    folders = (ENGINE_CONF, DWH_CONF)
    return shell_assignments(file for folder in folders for file in sorted(folder.glob("*.conf")))


def setup_state() -> dict[str, str]:
    """`KEY=type:value` of /etc/ovirt-engine-setup.conf.d, the values without their types."""
    values = {}
    for file in sorted(POST_FILE.parent.glob("*.conf")):
        for line in file.read_text().splitlines():
            key, equals, value = line.partition("=")
            if equals and not key.startswith(("#", "[")):
                values[key.strip()] = value.partition(":")[2]
    return values


def packages() -> dict[str, list[str]]:
    """Name to [version, release]."""
    found: dict[str, list[str]] = json.loads(PACKAGES.read_text())
    return found


def stamp() -> str:
    return time.strftime("%Y%m%d%H%M%S")


def passes(command: str, line: str) -> None:
    """Here a fault may strike (lab/hosts/faults.py): it kills this command's process group, or holds it."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(CONTROL)
            connection.sendall(json.dumps({"command": command, "line": line}).encode() + b"\n")
            answer = connection.makefile().readline().strip()
    except OSError:
        return
    if answer in ("KILL", "TERM"):
        os.kill(os.getpid(), signal.SIGKILL if answer == "KILL" else signal.SIGTERM)
        time.sleep(0.2)


def write_private(path: Path, text: str) -> None:
    """A file of mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
    path.chmod(0o600)


def engine_is_active() -> bool:
    """The engine.up file names a process of ovirt-engine.py (reference 1.6, restore step 1)."""
    try:
        pid = ENGINE_UP.read_text().strip()
        return b"ovirt-engine.py" in Path(f"/proc/{int(pid)}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False


def fail(text: str, code: int = 1) -> int:
    print(text, file=sys.stderr)
    return code
