# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd-run of a lab host: transient services that outlive the session (reference trap 11).

A supervisor of its own session waits for the command and notes how it ended, as the manager of units does."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

from lab.hosts.commands.common import UNITS, fail

OUTPUT = Path("/run/lab/journal")
WITH_VALUE = ("-u", "--unit", "-p", "--property", "-E", "--setenv", "--description", "--working-directory")


def main() -> int:
    arguments, quiet = sys.argv[1:], False
    unit, collect, environment, folder = f"run-u{uuid.uuid4().hex[:6]}", False, {}, "/"
    while arguments and arguments[0].startswith("-"):
        option = arguments.pop(0)
        if option == "--":
            break
        name, equals, value = option.partition("=")
        if name in WITH_VALUE and not equals:
            value = arguments.pop(0) if arguments else ""
        if name in ("-u", "--unit"):
            unit = value.removesuffix(".service")
        elif name in ("-E", "--setenv"):
            key, _, text = value.partition("=")
            environment[key] = text
        elif name == "--working-directory":
            folder = value
        elif name in ("-G", "--collect"):
            collect = True
        elif name in ("-q", "--quiet"):
            quiet = True
        elif name not in WITH_VALUE and name not in ("--no-block", "--no-ask-password"):
            return fail(f"systemd-run: unrecognized option '{name}'")
    if not arguments:
        return fail("Command line to execute required.")
    state = UNITS / unit
    if state.exists():
        return fail(
            f"Failed to start transient service unit: Unit {unit}.service was already loaded or has a fragment file."
        )
    UNITS.mkdir(parents=True, exist_ok=True)
    state.write_text("active 0\n")
    _supervise(unit, arguments, collect, environment, folder)
    if not quiet:
        print(f"Running as unit: {unit}.service", file=sys.stderr)
    return 0


def _supervise(unit: str, argv: list[str], collect: bool, environment: dict[str, str], folder: str) -> None:
    """In a grandchild, which process 1 inherits."""
    if os.fork():
        os.wait()
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    state = UNITS / unit
    with (OUTPUT / f"{unit}.log").open("ab") as output:
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        clean = {
            "PATH": "/usr/bin:/bin",
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
            "INVOCATION_ID": uuid.uuid4().hex,
        }
        try:
            child = subprocess.Popen(
                argv,
                stdin=nothing,
                stdout=output,
                stderr=output,
                env={**clean, **environment},
                cwd=folder,
                start_new_session=True,
                restore_signals=True,
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL) and None,
            )
        except OSError:
            state.write_text("failed 0 203\n")
            os._exit(0)
        state.write_text(f"active {child.pid}\n")
        code = child.wait()
        if code != 0 and not collect:
            state.write_text(f"failed 0 {code}\n")
        else:
            state.unlink(missing_ok=True)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
