# SPDX-License-Identifier: GPL-3.0-or-later
"""systemctl of a lab host: the verbs that procedures use, with its exit codes (3: not active, 4: no such unit)."""

import os
import signal
import sys

from lab.hosts.commands import services
from lab.hosts.commands.common import UNITS, fail


def main() -> int:
    now = "--now" in sys.argv
    quiet = "-q" in sys.argv or "--quiet" in sys.argv
    properties: list[str] = []
    words = []
    arguments = iter(sys.argv[1:])
    for argument in arguments:
        if argument in ("-p", "--property"):
            properties += next(arguments, "").split(",")
        elif argument.startswith("--property="):
            properties += argument.partition("=")[2].split(",")
        elif not argument.startswith("-"):
            words.append(argument)
    if not words:
        return fail("Too few arguments.")
    verb, units = words[0], [services.bare(name) for name in words[1:]]
    if verb in ("daemon-reload", "reset-failed"):
        for unit in units:
            if unit not in services.KNOWN and services.state(unit) == "failed":
                (UNITS / unit).unlink(missing_ok=True)
        return 0
    codes = [_one(verb, unit, now=now, quiet=quiet, properties=properties) for unit in units]
    return max(codes, default=1)


def _one(verb: str, unit: str, *, now: bool, quiet: bool, properties: list[str]) -> int:
    if verb in ("is-active", "is-failed"):
        state = services.state(unit)
        if not quiet:
            print(state)
        wanted = "active" if verb == "is-active" else "failed"
        return 0 if state == wanted else (3 if verb == "is-active" else 1)
    if verb == "show":
        return _show(unit, properties)
    if not services.exists(unit):
        return fail(f"Failed to {verb} {unit}.service: Unit {unit}.service not found.", 5)
    if verb == "status":
        state = services.state(unit)
        print(f"● {unit}.service\n     Active: {state}")
        return 0 if state == "active" else 3
    if verb == "is-enabled":
        print("enabled" if services.is_enabled(unit) else "disabled")
        return 0 if services.is_enabled(unit) else 1
    return _change(verb, unit, now=now)


def _change(verb: str, unit: str, *, now: bool) -> int:
    try:
        if verb == "enable":
            services.enable(unit)
        elif verb == "disable":
            services.disable(unit)
        if verb in ("stop", "restart") or (verb == "disable" and now):
            _stop(unit)
        if verb in ("start", "restart") or (verb == "enable" and now):
            services.start(unit)
    except (services.UnitFailed, RuntimeError) as error:
        print(
            f"Job for {unit}.service failed because the control process exited with error code.",
            file=sys.stderr,
        )
        return fail(str(error))
    return 0


def _stop(unit: str) -> None:
    if unit in services.KNOWN:
        services.stop(unit)
    elif pid := _main_pid(unit):
        os.killpg(pid, signal.SIGTERM)


def _main_pid(unit: str) -> int:
    try:
        words = (UNITS / unit).read_text().split()
    except OSError:
        return 0
    return int(words[1]) if len(words) > 1 else 0


def _show(unit: str, properties: list[str]) -> int:
    state = services.state(unit)
    loaded = services.exists(unit)
    values = {
        "Id": f"{unit}.service",
        "LoadState": "loaded" if loaded else "not-found",
        "ActiveState": state,
        "SubState": "running" if state == "active" else ("failed" if state == "failed" else "dead"),
        "MainPID": str(_main_pid(unit)),
        "UnitFileState": "enabled" if services.is_enabled(unit) else "disabled",
    }
    for name in properties or values:
        if name in values:
            print(f"{name}={values[name]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
