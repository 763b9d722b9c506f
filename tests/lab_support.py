# SPDX-License-Identifier: GPL-3.0-or-later
"""Start and stop a lab (`python -m lab`) for a test session."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

START_TIMEOUT_SECONDS = 120.0
STOP_TIMEOUT_SECONDS = 30.0
PROJECT_DIR = Path(__file__).resolve().parent.parent


class LabDidNotStart(Exception):
    """The lab ended, or was silent, before it printed its line; the text holds its standard error."""


@dataclass(frozen=True)
class LabVm:
    """One VM as the lab announced it; `status` is the state at start."""

    name: str
    id: str
    status: str


@dataclass(frozen=True)
class RunningLab:
    """A lab that answers. `api` ends in `/ovirt-engine/api`; `imageio` is the host daemon's base URL."""

    api: str
    ca_file: str
    username: str
    password: str
    imageio: str
    dir: Path
    vms: Sequence[LabVm]
    process: subprocess.Popen[str] = field(repr=False)

    @property
    def engine_url(self) -> str:
        """Scheme, host and port alone, as the SDK's example scripts want it in `engine_url`."""
        return self.api.removesuffix("/ovirt-engine/api")

    def vm(self, name: str) -> LabVm:
        """The announced VM of that name; KeyError if there is none."""
        for vm in self.vms:
            if vm.name == name:
                return vm
        raise KeyError(name)

    def stop(self, timeout: float = STOP_TIMEOUT_SECONDS) -> int:
        """Ask the lab to end (SIGTERM), wait, and return its exit code; kills it after `timeout` seconds."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def start_lab(
    directory: Path | str,
    *,
    lag: str = "fast",
    profile: str = "small",
    user: int | None = None,
    python: str = sys.executable,
    cwd: Path = PROJECT_DIR,
    environment: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
    timeout: float = START_TIMEOUT_SECONDS,
) -> RunningLab:
    """Run `python -m lab` and wait for its line of JSON.

    `user` is a numeric uid to run as (needs root). `cwd` is the folder that holds the package `lab`.
    Raises LabDidNotStart with the end of the lab's standard error.
    """
    directory = Path(directory)
    if not directory.exists():
        directory.mkdir(parents=True)
        if user is not None:
            os.chown(directory, user, -1)
    argv = [python, "-m", "lab", "--dir", str(directory), "--lag", lag, "--profile", profile, *arguments]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        line = _first_line(process, timeout)
        errors.seek(0)
        message = errors.read()[-4000:]
    if not line:
        process.kill()
        process.wait()
        raise LabDidNotStart(f"no line from {' '.join(argv)} (exit code {process.returncode}):\n{message}")
    return _running(json.loads(line), process)


def _first_line(process: subprocess.Popen[str], timeout: float) -> str:
    assert process.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: lines.put(process.stdout.readline()), daemon=True).start()  # type: ignore[union-attr]
    try:
        return lines.get(timeout=timeout).strip()
    except queue.Empty:
        return ""


def _running(told: dict, process: subprocess.Popen[str]) -> RunningLab:
    return RunningLab(
        api=told["api"],
        ca_file=told["ca_file"],
        username=told["username"],
        password=told["password"],
        imageio=told["imageio"],
        dir=Path(told["dir"]),
        vms=tuple(LabVm(vm["name"], vm["id"], vm["status"]) for vm in told["vms"]),
        process=process,
    )
