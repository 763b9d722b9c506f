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
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


def write_client_config(home: Path, name: str, section: str, lab: "RunningLab") -> None:
    """`~/.config/NAME` with the lab as SECTION, as the SDK's examples and `ovirt-img` read it."""
    config = home / ".config" / name
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(
        f"[{section}]\n"
        f"engine_url = {lab.engine_url}\n"
        f"username = {lab.username}\n"
        f"password = {lab.password}\n"
        f"cafile = {lab.ca_file}\n"
    )


class ControlRefused(Exception):
    """The control endpoint said no; the text is its own."""


class LabControl:
    """The lab's control endpoint: faults that lie in wait, and actions that happen at once.

    `GET url` (or `describe`) tells all faults and actions with their fields."""

    def __init__(self, url: str) -> None:
        self.url = url

    def fault(self, kind: str, **fields: Any) -> "LabFault":
        """Lay a fault; use it with `with`, which removes it at the end. Raises ControlRefused."""
        return LabFault(self, self._request("POST", "/faults", {"fault": kind, **fields})["id"])

    def act(self, action: str, **fields: Any) -> dict[str, Any]:
        """Do something once. Raises ControlRefused."""
        return self._request("POST", f"/actions/{action}", fields)

    def faults(self) -> list[dict[str, Any]]:
        """All faults that are laid, oldest first."""
        return self._request("GET", "/faults")["faults"]

    def clear(self) -> None:
        """Remove every fault."""
        self._request("DELETE", "/faults")

    def describe(self) -> dict[str, Any]:
        return self._request("GET", "/")

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            raise ControlRefused(json.loads(error.read())["error"]) from None


class LabFault:
    """One fault of a lab, from its laying to its removal."""

    def __init__(self, control: LabControl, fault_id: str) -> None:
        self._control = control
        self.id = fault_id

    def __enter__(self) -> "LabFault":
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    @property
    def struck(self) -> int:
        """How often so far. Raises ControlRefused after its removal."""
        return int(self._control._request("GET", f"/faults/{self.id}")["struck"])

    def wait_struck(self, times: int = 1, seconds: float = 60.0) -> None:
        """Until it has struck so often. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while self.struck < times:
            if time.monotonic() > deadline:
                raise TimeoutError(f"fault {self.id} did not strike {times} times in {seconds:.0f} s")
            time.sleep(0.02)

    def remove(self) -> None:
        """What it holds goes on; nothing happens if it is gone."""
        if any(fault["id"] == self.id for fault in self._control.faults()):
            self._control._request("DELETE", f"/faults/{self.id}")


@dataclass(frozen=True)
class LabHost:
    """A machine that is reached by SSH (`--hosts`); `root` is its file system as this side sees it."""

    name: str
    role: str
    fqdn: str
    address: str
    port: int
    user: str
    password: str = field(repr=False)
    key_file: str
    fingerprint: str
    host_key: str
    root: str


@dataclass(frozen=True)
class RunningLab:
    """A lab that answers. `api` ends in `/ovirt-engine/api`; `imageio` is the host daemon's base URL.
    `control` breaks things in it, see LabControl."""

    api: str
    ca_file: str
    username: str
    password: str
    imageio: str
    control: "LabControl"
    dir: Path
    vms: Sequence[LabVm]
    hosts: Sequence["LabHost"]
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
        control=LabControl(told["control"]),
        dir=Path(told["dir"]),
        vms=tuple(LabVm(vm["name"], vm["id"], vm["status"]) for vm in told["vms"]),
        hosts=tuple(LabHost(**host) for host in told["hosts"]),
        process=process,
    )
