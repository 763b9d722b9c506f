# SPDX-License-Identifier: GPL-3.0-or-later
"""The Python SDK's own example scripts, from its source distribution on PyPI, and a way to run them as they are."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab_support import RunningLab, write_client_config

SDK = "ovirt-engine-sdk-python"
SDK_VERSION = "4.6.3"
ROOT = f"ovirt_engine_sdk_python-{SDK_VERSION}"
PROJECT_DIR = Path(__file__).resolve().parent.parent
SECTION = "lab"
RUNNER = PROJECT_DIR / "tests" / "judges" / "run_example.py"


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/ovirt-backup-portal`, else `.data/cache` in the project."""
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base) / "ovirt-backup-portal" if base else PROJECT_DIR / ".data" / "cache"


def sdk_examples_dir() -> Path:
    """The folder `examples` of the SDK's source distribution; downloaded once, safe to ask for in parallel.

    Raises CalledProcessError if pip cannot get it."""
    examples = cache_dir() / ROOT / "examples"
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / "sdk.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not examples.is_dir():
            _download(examples.parent)
    return examples


def _download(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", SDK]
        subprocess.run([*argv, "--dest", work, f"{SDK}=={SDK_VERSION}"], check=True, capture_output=True)
        archive = next(Path(work).glob("*.tar.gz"))
        with tarfile.open(archive) as bundle:
            _extract_examples(bundle, Path(work))
        shutil.move(Path(work) / ROOT, target)


def _extract_examples(bundle: tarfile.TarFile, folder: Path) -> None:
    """Plain files below `examples`, nowhere else (extractall's filters came only with Python 3.11.4)."""
    for member in bundle.getmembers():
        parts = Path(member.name).parts
        if not member.isfile() or parts[:2] != (ROOT, "examples") or ".." in parts:
            continue
        content = bundle.extractfile(member)
        assert content is not None
        target = folder / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.read())


class Examples:
    """Runs example scripts against one lab, unmodified; they find it in `~/.config/ovirt.conf`.

    Those that hard-code a host and names are run with these replaced, and nothing else (`judges/run_example.py`)."""

    def __init__(self, lab: RunningLab, home: Path) -> None:
        self._home = home
        self._folder = sdk_examples_dir()
        self._connection = {
            "url": lab.api,
            "username": lab.username,
            "password": lab.password,
            "ca_file": lab.ca_file,
        }
        write_client_config(home, "ovirt.conf", SECTION, lab)

    def run(
        self, script: str, *arguments: str, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run `script`; the section of the configuration is named for it. Raises AssertionError with its output."""
        return self._run([str(self._folder / script), *arguments], check=check, timeout=timeout)

    def run_as_if(
        self, script: str, literals: Mapping[str, str] | None = None, *, timeout: float = 120
    ) -> list[str]:
        """Run a script that names its objects in its text, with other ones; the lines it prints.

        `literals` maps whole string literals of the script. Raises AssertionError with its output."""
        return self._run(self._as_if(script, literals), timeout=timeout).stdout.splitlines()

    @contextmanager
    def running(self, script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """`script` while it runs; its output is a pipe. It is killed if it is still there at the end."""
        with self._popen([str(self._folder / script), *arguments]) as process:
            yield process

    @contextmanager
    def running_as_if(
        self, script: str, literals: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """Like `running`, for a script that names its objects in its text."""
        with self._popen(self._as_if(script, literals)) as process:
            yield process

    def _as_if(self, script: str, literals: Mapping[str, str] | None) -> list[str]:
        plan = self._home / "plan.json"
        plan.write_text(json.dumps({"connection": self._connection, "literals": dict(literals or {})}))
        return [str(RUNNER), str(plan), str(self._folder / script)]

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self._home), "PYTHONPATH": "", "PYTHONUNBUFFERED": "1"}

    def _run(
        self, argv: Sequence[str], *, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [sys.executable, *argv],
            cwd=self._home,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and result.returncode != 0:
            raise AssertionError(f"{' '.join(argv)}:\n{result.stdout}\n{result.stderr}")
        return result

    @contextmanager
    def _popen(self, argv: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [sys.executable, *argv],
            cwd=self._home,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def backup(self, command: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`backup_vm.py -c lab COMMAND …`"""
        return self.run("backup_vm.py", "-c", SECTION, command, *arguments, check=check)

    def checkpoints(self, vm_id: str) -> list[dict[str, str]]:
        return json.loads(self.run("checkpoints.py", "-c", SECTION, "list", vm_id).stdout)

    def checksum(self, disk_id: str) -> dict[str, str | int]:
        return json.loads(self.run("checksum_disk.py", "-c", SECTION, disk_id).stdout)

    def download(self, disk_id: str, target: Path, *arguments: str) -> None:
        self.run("download_disk.py", "-c", SECTION, disk_id, str(target), *arguments)

    def upload(self, source: Path, *arguments: str, sd_name: str = "data-01") -> str:
        """The new disk's id."""
        result = self.run("upload_disk.py", "-c", SECTION, "--sd-name", sd_name, *arguments, str(source))
        return next(line for line in result.stdout.splitlines() if "Disk ID:" in line).split()[-1]
