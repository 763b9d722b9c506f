# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening an archive for restore and verify: unpack, hash, version, config, members (reference 1.5, 1.6, 1.8)."""

import hashlib
import re
import subprocess
from pathlib import Path

from lab.hosts.commands.backup_options import FAMILIES, Fatal
from lab.hosts.commands.common import shell_assignments
from lab.hosts.commands.run import Run

PAIRS = {("4.3", "4.5"), ("4.4", "4.5")}
OLD_PAIRS = {("4.3", "4.4")}
MEMBERS = {family.scope: f"db/{family.member}" for family in FAMILIES}
MEMBERS |= {"files": "files", "grafanadb": "db/grafana.db"}


class Archive:
    """What was unpacked: `content` its folder, `scopes` those asked for that are in it, `config` its settings."""

    def __init__(self, run: Run) -> None:
        self.content = run.folder / "content"
        self.content.mkdir()
        run.output(f"- Unpacking file '{run.options.file}'")
        done = subprocess.run(
            ["tar", "-C", str(self.content), "-xf", run.options.file], capture_output=True, text=True
        )
        if done.returncode != 0:
            run.log(done.stderr)
            raise Fatal(f"cannot open {run.folder}")
        self._check_hash(run)
        self._check_version(run)
        self._source_config()
        asked = run.options.all_scopes
        self.scopes = {scope for scope in asked if self._holds(MEMBERS[scope])}
        names = "".join(f"SCOPE_{scope.upper()}:1\n" for scope in sorted(self.scopes))
        run.log(f"Scope after checking backup content:\n{names}")

    def member(self, scope: str) -> Path:
        return self.content / MEMBERS[scope]

    def _holds(self, name: str) -> bool:
        path = self.content / name
        return path.is_file() and path.stat().st_size > 0

    def _check_hash(self, run: Run) -> None:
        for name, hasher in (("sha256sum", hashlib.sha256), ("md5sum", hashlib.md5)):
            sums = self.content / name
            if not sums.exists():
                continue
            for line in sums.read_text().splitlines():
                digest, _, member = line.partition("  ")
                path = self.content / member
                if not path.is_file() or hasher(path.read_bytes()).hexdigest() != digest:
                    run.log(f"{member}: FAILED")
                    raise Fatal("Checksum verification failed")
            return
        raise Fatal("No supported hash file found")

    def _check_version(self, run: Run) -> None:
        made = (self.content / "version").read_text().strip()
        if not acceptable(made, run.version):
            raise Fatal(
                f"Backup was created by version '{made}' and can not be restored using the installed version {run.version}"
            )

    def _source_config(self) -> None:
        """Sourced as shell, whatever stands in it (reference 1.5 and trap 15)."""
        script = f". '{self.content / 'config'}' && set -o posix && set"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
        told = self.content.parent / "settings"
        told.write_text(done.stdout)
        self.config = shell_assignments([told])


def acceptable(made: str, installed: str) -> bool:
    """The version rule of reference 1.8."""
    mine, its = _xy(installed), _xy(made)
    pairs = OLD_PAIRS if mine == "4.4" else PAIRS
    if its == "4.3" and not _at_least(made, "4.3.10"):
        return False
    return (its, mine) in pairs or (its == mine and _at_least(installed, made))


def _xy(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _at_least(version: str, other: str) -> bool:
    """LooseVersion's order; numbers against letters cannot be compared, which refuses."""
    try:
        return _parts(version) >= _parts(other)
    except TypeError:
        return False


def _parts(version: str) -> list[int | str]:
    found = [part for part in re.split(r"(\d+|[a-z]+|\.)", version) if part and part != "."]
    return [int(part) if part.isdecimal() else part for part in found]
