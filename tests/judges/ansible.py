# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible with its collection `ovirt.ovirt`, as PyPI's package `ansible` brings them, in an environment of its own."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab_support import PROJECT_DIR, RunningLab

VENV = PROJECT_DIR / ".data" / "judges-venv"
REQUIREMENTS = PROJECT_DIR / "requirements-judges.txt"
PLAYBOOKS = Path(__file__).resolve().parent / "playbooks"


def ansible_playbook() -> Path:
    """The command; its environment is made if it is not there or not the one wanted. Safe to ask for in parallel.

    Raises CalledProcessError if pip cannot install it."""
    VENV.parent.mkdir(parents=True, exist_ok=True)
    wanted = hashlib.sha256(f"{REQUIREMENTS.read_text()}{sys.version}{VENV}".encode()).hexdigest()
    stamp = VENV / ".installed"
    with VENV.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.is_file() or stamp.read_text() != wanted:
            shutil.rmtree(VENV, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
            # Compiling 20,000 files of which a few are run takes longer than all else.
            options = ["--quiet", "--no-input", "--no-compile", "--disable-pip-version-check"]
            pip = [str(VENV / "bin" / "pip"), "install", *options, "-r", str(REQUIREMENTS)]
            subprocess.run(pip, check=True)
            stamp.write_text(wanted)
    return VENV / "bin" / "ansible-playbook"


@dataclass(frozen=True)
class Played:
    """A run of a playbook: how often a task failed, changed something, was fine; what each task answered, by name."""

    failed: int
    changed: int
    ok: int
    results: Mapping[str, Mapping[str, Any]]


class Ansible:
    """Runs playbooks on localhost against one lab. The modules run in the Python that has the SDK and imageio."""

    def __init__(self, lab: RunningLab, home: Path) -> None:
        self._home = home
        self._command = ansible_playbook()
        self._environment = {
            **os.environ,
            "HOME": str(home),
            "ANSIBLE_HOME": str(home / "ansible"),
            "ANSIBLE_LOCAL_TEMP": str(home / "ansible-local"),
            "ANSIBLE_REMOTE_TEMP": str(home / "ansible-remote"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_DEPRECATION_WARNINGS": "false",
            "ANSIBLE_NOCOLOR": "true",
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": "",
            "OVIRT_URL": lab.api,
            "OVIRT_USERNAME": lab.username,
            "OVIRT_PASSWORD": lab.password,
            "OVIRT_CAFILE": lab.ca_file,
        }

    def play(self, name: str, **values: str) -> Played:
        """Run `playbooks/NAME.yml`. Raises AssertionError with its output if a task failed."""
        argv = [str(self._command), "--inventory", "localhost,", "--connection", "local"]
        extra = {"ansible_python_interpreter": sys.executable, **values}
        argv += ["--extra-vars", json.dumps(extra), str(PLAYBOOKS / f"{name}.yml")]
        result = subprocess.run(
            argv, cwd=self._home, env=self._environment, capture_output=True, text=True, timeout=240
        )
        start = result.stdout.find("{")
        assert start >= 0, f"{name}.yml:\n{result.stdout}\n{result.stderr}"
        told = json.loads(result.stdout[start:])
        stats = told["stats"]["localhost"]
        tasks = [task for play in told["plays"] for task in play["tasks"]]
        answers = {task["task"]["name"]: task["hosts"]["localhost"] for task in tasks}
        failed = stats["failures"] + stats["unreachable"]
        assert failed == result.returncode == 0, (
            f"{name}.yml:\n{json.dumps(answers, indent=1)}\n{result.stderr}"
        )
        return Played(failed, stats["changed"], stats["ok"], answers)
