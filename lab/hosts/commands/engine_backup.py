# SPDX-License-Identifier: GPL-3.0-or-later
"""engine-backup of a lab host: written from reference section 1, in its own words and its own way.

Texts that a program has to match are the reference's; where it is silent the code says `inferred`."""

import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from lab.hosts.commands import backup_mode, backup_options, restore_mode, verify_mode
from lab.hosts.commands.backup_options import Fatal, Options
from lab.hosts.commands.common import engine_config, packages
from lab.hosts.commands.run import Run

USAGE = """engine-backup: back up and restore the Manager's environment
USAGE:
    engine-backup [--mode=MODE] [--scope=SCOPE] [--file=FILE] [--log=FILE] …
See the manual page engine-backup(8).
"""
LEAST_FREE_KIB = 10_000  # reference 1.9, from 4.5 on


def main() -> int:
    if not os.environ.get("BACKUP_ENV_CLEAN"):
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        os.environ.clear()
        os.environ.update(kept, BACKUP_ENV_CLEAN="1")
    os.umask(0o077)
    options = Options()
    try:
        backup_options.parse(sys.argv[1:], options)
        if options.help:
            print(USAGE, end="")
            return 0
        backup_options.settle(options)
    except Fatal as error:
        print(f"FATAL: {error}", file=sys.stderr)
        return 1
    return _work(options)


def _work(options: Options) -> int:
    folder = Path(tempfile.mkdtemp(prefix="engine-backup.", dir=options.tmpdir))
    run = Run(options, folder, engine_config(), packages()["ovirt-engine-tools-backup"][0])
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _interrupted)
    keep = False
    try:
        run.stage("init")
        run.stage("defaults")
        _check_space(options)
        _announce(run)
        {"backup": backup_mode.run, "restore": restore_mode.run, "verify": verify_mode.run}[options.mode](run)
        run.output("Done.")
        return 0
    except Fatal as error:
        if str(error):
            run.fatal(str(error))
        if options.mode == "backup":
            backup_mode.failed(run, str(error))
        return 1
    except _Interrupted as error:
        return 128 + error.number
    finally:
        run.stage("cleanup")
        keep = bool(run.hooks.get("KEEP_TEMP_FOLDER"))
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


class _Interrupted(Exception):
    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"signal {number}")


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise _Interrupted(number)


def _check_space(options: Options) -> None:
    free = shutil.disk_usage(options.tmpdir).free // 1024
    if free < LEAST_FREE_KIB:
        print(f"ERROR: Low free space on {options.tmpdir}: {free}KiB")
        raise Fatal("")


def _announce(run: Run) -> None:
    """The lines of reference 1.6; the default log folder is the package's own."""
    options = run.options
    run.open_log()
    if options.mode == "backup" and "plain" in options.dump_format.values():
        box = "#" * 60
        print(f"{box}\nPlain dumps carry no owners and no permissions (inferred text)\n{box}")
    run.output(f"Start of engine-backup with mode '{options.mode}'")
    run.output(f"scope: {','.join(options.scopes)}")
    run.output(f"archive file: {options.file}")
    run.output(f"log file: {options.log}")
    run.log(f"installed version {run.version}, {time.strftime('%Z')}")
    run.stage("config")


if __name__ == "__main__":
    sys.exit(main())
