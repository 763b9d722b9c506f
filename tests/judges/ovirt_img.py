# SPDX-License-Identifier: GPL-3.0-or-later
"""`ovirt-img`, the command that comes with ovirt-imageio; it reads a section of `~/.config/ovirt-img.conf`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.lab_support import RunningLab, write_client_config

SECTION = "lab"
COMMAND = Path(sys.executable).with_name("ovirt-img")


class OvirtImg:
    """Runs the command, unmodified, against one lab."""

    def __init__(self, lab: RunningLab, home: Path) -> None:
        self._home = home
        write_client_config(home, "ovirt-img.conf", SECTION, lab)

    def run(self, command: str, *arguments: str) -> list[dict[str, Any]]:
        """`ovirt-img COMMAND -c lab --output json …`: what it told of its progress.

        Raises AssertionError with its output."""
        argv = [str(COMMAND), command, "-c", SECTION, "--output", "json", *arguments]
        environment = {**os.environ, "HOME": str(self._home), "XDG_CONFIG_HOME": ""}
        result = subprocess.run(
            argv, cwd=self._home, env=environment, capture_output=True, text=True, timeout=120
        )
        assert result.returncode == 0, f"{' '.join(argv)}:\n{result.stdout}\n{result.stderr}"
        return [json.loads(line) for line in result.stdout.splitlines() if line.strip()]
