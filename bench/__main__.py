# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m bench`: our transfers beside ovirt-imageio's client; docs/performance.md says how it is measured.

Ends with a table of medians and one line of JSON. Exit code 1 if a copy was not equal or the floor is missed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backups.store import Repository, chunk_size_for
from backups.store.verify import verify_point
from bench import disk, report
from bench.measured import DISK, ENVIRONMENT, VM
from bench.report import MIB, Runs
from bench.servers import Daemon

BITMAP = "checkpoint"
BLOCKS = 512
SOURCE = "source.qcow2"


class NotEqual(Exception):
    """A copy has another content than its source."""


class Bench:
    """One folder, one daemon, one source disk; what is measured and what it is compared with."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.options = options
        self.daemon = Daemon()
        self.source = folder / SOURCE
        self.size = 0
        self.digest = ""
        self.repository = folder
        self.peer_file = folder / "peer.qcow2"
        # What incrementals and restores start from: the last full copy of each side.
        self.base_point = ""
        self.base_digest = ""
        # The run that is going on.
        self.point = ""
        self.target = folder

    def prepare(self) -> None:
        say(f"A disk with {self.options.size} MiB of files in {self.folder}")
        if not self.source.exists():
            fresh = self.folder / "fresh.qcow2"
            disk.build(fresh, self.options.size * MIB, self.options.roots)
            fresh.rename(self.source)
        self.size = json.loads(disk.run("qemu-img", "info", "--output=json", self.source))["virtual-size"]
        self.digest = disk.digest(self.source, chunk_size_for(self.size))
        say(f"{self.size // MIB} MiB of disk, {disk.data_bytes(self.source) // MIB} MiB of data in it")

    def full(self) -> Iterator[Runs]:
        yield from self._alternate("full", self._full)

    def incremental(self) -> Iterator[Runs]:
        base, self.source = self.source, self.folder / "changed.qcow2"
        disk.run("cp", "--reflink=auto", base, self.source)
        disk.run("qemu-img", "bitmap", "--add", "-f", "qcow2", self.source, BITMAP)
        blocks = disk.change(self.source, self.options.share)
        say(f"Changed {blocks} scattered blocks of 64 KiB")
        self.digest = disk.digest(self.source, chunk_size_for(self.size))
        yield from self._alternate("incremental", self._incremental)

    def restore(self) -> Iterator[Runs]:
        yield from self._alternate("restore", self._restore)

    def _alternate(self, kind: str, measure: Any) -> Iterator[Runs]:
        """A warm-up of each that does not count, then A B, B A, A B …"""
        runs = {side: Runs(side, kind) for side in ("ours", "peer")}
        for side in runs:
            measure(side)
        for number in range(self.options.runs):
            for side in ("ours", "peer") if number % 2 == 0 else ("peer", "ours"):
                facts = measure(side)
                runs[side].facts.append(facts)
                say(
                    f"  {kind} {number + 1}, {side}: {facts['seconds']:.2f} s, client {facts['cpu_seconds']:.2f} s "
                    f"and server {facts['server_cpu_seconds']:.2f} s of CPU, {facts['peak_mib']:.0f} MiB"
                )
        if self.options.profile:
            say(report.profile(measure("ours", profile=True), f"{kind}, ours"))
        yield from runs.values()

    def _full(self, side: str, **extra: Any) -> dict[str, Any]:
        with self.daemon.serving(self.source, self.size) as transfer:
            facts = self._measure(side, "full", transfer, **self._fresh_target(side), **extra)
        self._check_copy(side)
        if side == "ours":
            self.base_point = self.point
        return facts | {"stored_bytes": self._stored(side), "moved_bytes": disk.data_bytes(self.source)}

    def _fresh_target(self, side: str) -> dict[str, Any]:
        self.point = str(uuid.uuid4())
        if side == "peer":
            self.target = self.peer_file
            self.target.unlink(missing_ok=True)
            return {"file": str(self.target)}
        self.repository = self.target = self._unused("repository")
        Repository.create(self.target, owner="bench")
        return {"repository": str(self.target), "point": self.point}

    def _incremental(self, side: str, **extra: Any) -> dict[str, Any]:
        target = self._copy_of_base(side)
        with self.daemon.serving(self.source, self.size, bitmap=BITMAP) as transfer:
            facts = self._measure(side, "incremental", transfer, **target, **extra)
        self._check_copy(side)
        return facts | {"moved_bytes": disk.data_bytes(self.source, BITMAP)}

    def _copy_of_base(self, side: str) -> dict[str, Any]:
        """What an earlier run stored must not be found again, so each run starts from a copy of the base."""
        self.point = str(uuid.uuid4())
        if side == "peer":
            self.target = self.folder / "peer-incremental.qcow2"
            self.target.unlink(missing_ok=True)
            return {"file": str(self.target), "base": str(self.peer_file)}
        self.target = self._unused("repository-incremental")
        # Files of a repository are never changed in place, so links will do.
        disk.run("cp", "-al", self.repository, self.target)
        return {"repository": str(self.target), "point": self.point, "base": self.base_point}

    def _restore(self, side: str, **extra: Any) -> dict[str, Any]:
        self.target = self.folder / "restored.qcow2"
        self.target.unlink(missing_ok=True)
        disk.run("qemu-img", "create", "-q", "-f", "qcow2", self.target, str(self.size))
        origin = {"repository": str(self.repository), "point": self.base_point, "file": str(self.peer_file)}
        with self.daemon.serving(self.target, self.size, writable=True) as transfer:
            facts = self._measure(side, "restore", transfer, **origin, **extra)
        if disk.digest(self.target, chunk_size_for(self.size)) != self.base_digest:
            raise NotEqual(f"What {side} restored differs from what was backed up.")
        return facts | {"moved_bytes": disk.data_bytes(self.peer_file)}

    def _measure(self, side: str, kind: str, transfer: Any, **task: Any) -> dict[str, Any]:
        """In a process of its own; before it everything unwritten is written, so that no run pays for another."""
        facts = {"side": side, "kind": kind, "url": transfer.url, "ca_file": str(self.daemon.ca_file)}
        facts |= {"size_bytes": self.size, **task}
        os.sync()
        before = transfer.cpu_seconds()
        done = subprocess.run(
            [sys.executable, "-m", "bench.measured"],
            input=json.dumps(facts),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found | {"server_cpu_seconds": transfer.cpu_seconds() - before}

    def _check_copy(self, side: str) -> None:
        """Every byte of the copy is read again."""
        if side == "peer":
            equal = disk.digest(self.target, chunk_size_for(self.size)) == self.digest
        else:
            point = Repository.open(self.target, expected_uuid=None).open_point(ENVIRONMENT, VM, self.point)
            equal = point.digest_hex(DISK) == self.digest and verify_point(point).good
        if not equal:
            raise NotEqual(f"The copy that {side} made differs from its source.")

    def _stored(self, side: str) -> int:
        """Bytes taken on the disk."""
        if side == "peer":
            return self.target.stat().st_blocks * BLOCKS
        return sum(path.stat().st_blocks * BLOCKS for path in self.target.rglob("*") if path.is_file())

    def _unused(self, name: str) -> Path:
        """A new name each time. Old repositories stay until the end: ext4 makes new files much more slowly while
        it remembers that thousands were removed in the last minutes."""
        return self.folder / f"{name}-{uuid.uuid4().hex}"

    def clean(self) -> None:
        """Leave nothing but the disk of files."""
        self.daemon.stop()
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != SOURCE:
                path.unlink()

    def run(self) -> list[Runs]:
        self.prepare()
        self.base_digest = self.digest
        return [*self.full(), *self.restore(), *self.incremental()]


def say(text: str) -> None:
    print(text, flush=True)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--size", type=int, default=1700, help="MiB of files on the disk (default: %(default)s)"
    )
    parser.add_argument(
        "--runs", type=int, default=5, help="measured runs of each side (default: %(default)s)"
    )
    parser.add_argument(
        "--share", type=float, default=0.01, help="share of the data that changes (%(default)s)"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(".data/bench"), help="where (default: %(default)s)"
    )
    parser.add_argument(
        "--from", dest="roots", type=Path, action="append", help="files of this folder (/usr)"
    )
    parser.add_argument("--keep", action="store_true", help="leave the disk of files for the next call")
    parser.add_argument(
        "--profile", action="store_true", help="one more run of ours, with its CPU time by line"
    )
    found = parser.parse_args()
    found.roots = found.roots or [Path("/usr")]
    return found


def main() -> int:
    chosen = options()
    folder = chosen.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(folder, chosen)
    try:
        runs = bench.run()
    except NotEqual as error:
        say(str(error))
        return 1
    finally:
        bench.clean()
        if not chosen.keep:
            shutil.rmtree(folder)
    found = report.ratios(runs)
    beyond = report.missed(found)
    say(f"\nMedians of {chosen.runs} alternating runs")
    say(report.table(runs))
    for line in beyond:
        say(f"Missed: {line}")
    say(json.dumps(found))
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
