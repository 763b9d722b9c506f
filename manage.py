#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line of the portal."""

import os
import sys
from pathlib import Path


def main() -> None:
    if sys.argv[1:2] == ["lab"]:
        _become_the_lab()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


def _become_the_lab() -> None:
    """The lab is a process tree of its own and knows nothing of Django or the portal's settings."""
    root = str(Path(__file__).resolve().parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path}
    os.execve(sys.executable, [sys.executable, "-m", "lab", *sys.argv[2:]], environment)  # noqa: S606


if __name__ == "__main__":
    main()
