# SPDX-License-Identifier: GPL-3.0-or-later
"""engine-backup --mode=backup (reference 1.3, 1.5, 1.6)."""

import hashlib
import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from lab.hosts.commands.backup_options import FAMILIES, Family, Fatal
from lab.hosts.commands.common import setup_state, shell_assignments
from lab.hosts.commands.database import DatabaseError
from lab.hosts.commands.run import Run

GRAFANA = Path("/var/lib/grafana/grafana.db")
PROGRAMS = {"gzip": ["gzip"], "bzip2": ["bzip2"], "xz": ["xz"], "None": ["cat"]}


def run(run: Run) -> None:
    """Raises Fatal."""
    options = run.options
    _touch_archive(Path(options.file))
    run.output("Backing up:")
    if run.database(FAMILIES[0]) is not None:
        run.output("Notifying engine")
    run.notify(0, "Backup Started")
    content = run.folder / "content"
    (content / "db").mkdir(parents=True)
    if "files" in options.all_scopes:
        run.output("- Files")
        _files(run, content / "files")
    for family in FAMILIES:
        if family.scope in options.all_scopes and run.enabled(family):
            _dump(run, family, content / "db" / family.member)
    grafana_on = setup_state().get("OVESETUP_GRAFANA_CORE/enable") == "True"
    if "grafanadb" in options.all_scopes and grafana_on and GRAFANA.exists():
        run.output(f"- Grafana database '{GRAFANA}'")
        _copy_grafana(content / "db/grafana.db")
    run.stage("dobackup")
    _describe(run, content)
    run.output(f"Packing into file '{options.file}'")
    _pack(run, content)
    if run.database(FAMILIES[0]) is not None:
        run.output("Notifying engine")
    run.notify(1, "Backup Finished")


def failed(run: Run, text: str) -> None:
    """The event of a failure; one that cannot be written is told too, misleadingly (reference 1.9)."""
    try:
        run.notify(-1, text)
    except Fatal as error:
        run.fatal(str(error))


def _touch_archive(path: Path) -> None:
    """An existing file is taken without a word, and what fails leaves 0 bytes (reference 1.9)."""
    try:
        path.touch(mode=0o600)
        path.chmod(0o600)
        os.truncate(path, 0)
    except OSError as error:
        raise Fatal(f"Cannot create '{path}'") from error


def _files(run: Run, target: Path) -> None:
    paths = run.hooks["BACKUP_PATHS"].split()
    found = [path.lstrip("/") for path in paths if Path(path).exists()]
    command = ["tar", "--directory=/", "--exclude=*.sock", "-cf", "-", *found]
    if found:
        _through(run, command, run.options.files_compressor, target, "Failed backing up files")


def _through(run: Run, command: list[str], compressor: str, target: Path, failure: str) -> None:
    """`command | compressor > target`. Raises Fatal with `failure`."""
    with target.open("wb") as output:
        packer = subprocess.Popen(
            PROGRAMS[compressor], stdin=subprocess.PIPE, stdout=output, stderr=subprocess.PIPE
        )
        maker = subprocess.run(command, stdout=packer.stdin, stderr=subprocess.PIPE, text=True)
        assert packer.stdin is not None and packer.stderr is not None
        packer.stdin.close()
        said = packer.stderr.read().decode(errors="replace")
        ended = packer.wait()
    if maker.returncode != 0 or ended != 0:
        run.log(maker.stderr + said)
        raise Fatal(failure)


def _dump(run: Run, family: Family, target: Path) -> None:
    """pg_dump: anything on its stderr is a failure (reference 1.5)."""
    database = run.database(family)
    assert database is not None
    run.output(f"- {family.label} database '{database.name}'")
    custom = run.options.dump_format[family.name] == "custom"
    form = ["--format=custom", "--compress=0"] if custom else ["--format=plain"]
    arguments = ["-E", "UTF8", "--disable-dollar-quoting", "--disable-triggers", *form]
    plain = [] if custom else ["--no-owner", "--no-privileges"]
    try:
        database.run("pg_dump", *arguments, *plain, f"--file={target}", database.name, folder=str(run.folder))
    except DatabaseError as error:
        run.log(str(error))
        raise Fatal(f"Database {database.name} backup failed") from error
    compressor = run.options.dump_compressor[family.name]
    if compressor != "None":
        packed = target.with_suffix(".packed")
        _through(run, ["cat", str(target)], compressor, packed, f"Database {database.name} backup failed")
        packed.rename(target)


def _copy_grafana(target: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(f"file:{GRAFANA}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
    except sqlite3.Error as error:
        raise Fatal(f"failed to backup {GRAFANA} with sqlite3") from error


def _describe(run: Run, content: Path) -> None:
    """version, os_version, config, and sha256sum last (reference 1.5)."""
    system = shell_assignments([Path("/etc/os-release")])
    (content / "version").write_text(f"{run.version}\n")
    (content / "os_version").write_text(f"{system['ID']}{system['VERSION_ID'].split('.')[0]}\n")
    lines = []
    for family in FAMILIES:
        prefix = "" if family.name == "engine" else f"{family.variable}_"
        lines.append(f"{prefix}DB_DUMP_COMPRESSOR={run.options.dump_compressor[family.name]}\n")
        lines.append(f"{prefix}DB_DUMP_FORMAT={run.options.dump_format[family.name]}\n")
    (content / "config").write_text("".join(lines))
    members = sorted(path for path in content.rglob("*") if path.is_file())
    sums = [f"{sha256(path)}  {path.relative_to(content)}\n" for path in members]
    (content / "sha256sum").write_text("".join(sums))


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _pack(run: Run, content: Path) -> None:
    target = Path(run.options.file)
    packed = ["tar", f"--directory={content}", "-cf", "-", "."]
    _through(run, packed, run.options.archive_compressor, target, f"Cannot create '{target}'")
    target.chmod(0o600)
