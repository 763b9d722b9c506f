# SPDX-License-Identifier: GPL-3.0-or-later
"""engine-backup --mode=verify (reference 1.6 and trap 26)."""

import subprocess
from pathlib import Path

from lab.hosts.commands.archive_reader import Archive
from lab.hosts.commands.backup_options import FAMILIES, Fatal
from lab.hosts.commands.run import Run


def run(run: Run) -> None:
    """Hash, version, and that pg_restore reads the engine's dump. Raises Fatal.

    A missing file is created empty, and then no archive; one that is there gets a new time and mode 0600."""
    path = Path(run.options.file)
    path.touch()
    path.chmod(0o600)
    run.output("Verifying:")
    archive = Archive(run)
    engine = run.database(FAMILIES[0])
    if engine is not None and "db" in archive.scopes:
        run.output(f"- Engine database '{engine.name}'")
        done = subprocess.run(
            ["pg_restore", "-f", "/dev/null", str(archive.member("db"))], capture_output=True, text=True
        )
        if done.returncode != 0:
            run.log(done.stderr)
            raise Fatal("Errors while running pg_restore")
    run.stage("doverify")
