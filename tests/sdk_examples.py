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
from pathlib import Path

from tests.lab_support import RunningLab

SDK = "ovirt-engine-sdk-python"
SDK_VERSION = "4.6.3"
ROOT = f"ovirt_engine_sdk_python-{SDK_VERSION}"
PROJECT_DIR = Path(__file__).resolve().parent.parent
SECTION = "lab"


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
    """Runs example scripts, unmodified, against one lab; they find it in `~/.config/ovirt.conf`."""

    def __init__(self, lab: RunningLab, home: Path) -> None:
        self._home = home
        self._folder = sdk_examples_dir()
        config = home / ".config" / "ovirt.conf"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(
            f"[{SECTION}]\n"
            f"engine_url = {lab.engine_url}\n"
            f"username = {lab.username}\n"
            f"password = {lab.password}\n"
            f"cafile = {lab.ca_file}\n"
        )

    def run(
        self, script: str, *arguments: str, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run `script`; the section of the configuration is named for it. Raises AssertionError with its output."""
        argv = [sys.executable, str(self._folder / script), *arguments]
        environment = {**os.environ, "HOME": str(self._home), "PYTHONPATH": ""}
        result = subprocess.run(
            argv, cwd=self._home, env=environment, capture_output=True, text=True, timeout=timeout
        )
        if check and result.returncode != 0:
            raise AssertionError(f"{script} {' '.join(arguments)}:\n{result.stdout}\n{result.stderr}")
        return result

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
