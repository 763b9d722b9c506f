# SPDX-License-Identifier: GPL-3.0-or-later
"""Units of a lab host: what runs is a real process where something looks for one, a file of state elsewhere."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from lab.hosts.commands import postgres
from lab.hosts.commands.common import DATA, DWH_CONF, ENGINE_CONF, ENGINE_UP, UNITS, engine_is_active

KNOWN = (
    "ovirt-engine", "ovirt-engine-dwhd", "ovirt-websocket-proxy", "httpd", "postgresql", "grafana-server", "firewalld",
)  # fmt: skip
ENABLED = Path("/etc/systemd/system/multi-user.target.wants")
ENGINE_PROGRAM = "/.system/lab/lab/hosts/commands/ovirt-engine.py"


class UnitFailed(Exception):
    """A unit did not start."""


def bare(name: str) -> str:
    return name.removesuffix(".service")


def exists(unit: str) -> bool:
    return unit in KNOWN or (UNITS / unit).exists()


def state(unit: str) -> str:
    """`active`, `inactive` or `failed`."""
    if unit == "postgresql":
        return "active" if postgres.is_running() else "inactive"
    if unit == "ovirt-engine":
        return "active" if engine_is_active() else "inactive"
    try:
        return (UNITS / unit).read_text().split()[0]
    except (OSError, IndexError):
        return "inactive"


def start(unit: str) -> None:
    """Raises UnitFailed."""
    if state(unit) == "active":
        return
    if unit == "postgresql":
        if not (DATA / "PG_VERSION").exists():
            raise UnitFailed("the data directory has not been initialised")
        postgres.start()
    elif unit == "ovirt-engine":
        _start_engine()
    elif unit == "ovirt-engine-dwhd" and not (DWH_CONF / "10-setup-database.conf").exists():
        raise UnitFailed("ovirt-engine-dwhd has no configuration")
    UNITS.mkdir(parents=True, exist_ok=True)
    (UNITS / unit).write_text("active\n")


def stop(unit: str) -> None:
    if unit == "postgresql" and postgres.is_running():
        postgres.stop()
    elif unit == "ovirt-engine" and engine_is_active():
        os.kill(int(ENGINE_UP.read_text()), signal.SIGTERM)
        _wait(lambda: not engine_is_active())
        ENGINE_UP.unlink(missing_ok=True)
    UNITS.mkdir(parents=True, exist_ok=True)
    (UNITS / unit).write_text("inactive\n")


def enable(unit: str) -> None:
    ENABLED.mkdir(parents=True, exist_ok=True)
    (ENABLED / f"{unit}.service").touch()


def disable(unit: str) -> None:
    (ENABLED / f"{unit}.service").unlink(missing_ok=True)


def is_enabled(unit: str) -> bool:
    return (ENABLED / f"{unit}.service").exists()


def _start_engine() -> None:
    if not (ENGINE_CONF / "10-setup-database.conf").exists():
        raise UnitFailed("ovirt-engine is not set up")
    ENGINE_UP.parent.mkdir(parents=True, exist_ok=True)
    subprocess.Popen(
        ["/.system/usr/bin/python3", "-s", "-B", ENGINE_PROGRAM, str(ENGINE_UP)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    if not _wait(engine_is_active):
        raise UnitFailed("ovirt-engine did not come up")


def _wait(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False
