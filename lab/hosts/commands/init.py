# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a lab host's root and becomes its process 1 (first_day.py).

Run as `python -m lab.hosts.commands.init ROOT PROJECT` in namespaces of its own (lab/hosts/machine.py). Programs come
from this machine, read-only; /etc, /var, /root, /run and /tmp are the host's own, at their real paths."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

COMMANDS = (
    "engine-backup", "engine-setup", "engine-cleanup", "systemctl", "systemd-run", "rpm", "su", "sudo",
)  # fmt: skip
MS_BIND, MS_REC, MS_REMOUNT, MS_RDONLY, MS_PRIVATE = 4096, 16384, 32, 1, 1 << 18
MNT_DETACH = 2
# Kept by a remount in a user namespace, where the kernel does not let them be taken off (mount_namespaces(7)).
KEPT = {"nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21}

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: Path, kind: str | None = None, flags: int = 0) -> None:
    """mount(2). Raises OSError."""
    given = kind.encode() if kind else None
    if _libc.mount(source.encode(), str(target).encode(), given, ctypes.c_ulong(flags), None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source} at {target}: {os.strerror(number)}")


def bind_read_only(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    mount(str(source), target, flags=MS_BIND | MS_REC)
    flags = 0
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[4] == str(target):
            flags = sum(KEPT.get(option, 0) for option in fields[5].split(","))
    mount(str(source), target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | flags)


def build(root: Path, project: Path) -> None:
    """Everything below `root` that is not the host's own state."""
    mount("none", Path("/"), flags=MS_PRIVATE | MS_REC)
    mount(str(root), root, flags=MS_BIND | MS_REC)
    bind_read_only(Path("/usr"), root / ".system/usr")
    bind_read_only(project / "lab", root / ".system/lab/lab")
    (root / "dev").mkdir(exist_ok=True)
    mount("/dev", root / "dev", flags=MS_BIND | MS_REC)
    (root / "proc").mkdir(exist_ok=True)
    mount("proc", root / "proc", kind="proc")
    programs = root / "usr/bin"
    programs.mkdir(parents=True, exist_ok=True)
    for entry in os.scandir("/usr"):
        if entry.name not in ("bin", "sbin"):
            _link(root / "usr" / entry.name, f"/.system/usr/{entry.name}")
    _link(root / "usr/sbin", "bin")
    for folder in ("/usr/sbin", "/usr/bin"):
        for entry in os.scandir(folder):
            # /etc/alternatives and links from /usr/sbin into /bin would lead nowhere, or round in a circle.
            target = os.path.realpath(entry.path)
            _link(programs / entry.name, f"/.system{target if target.startswith('/usr/') else entry.path}")
    for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/*")):
        _link(programs / path.name, f"/.system{path}")
    for name in ("bin", "sbin", "lib", "lib64"):
        _link(root / name, f"usr/{name}")
    for name in COMMANDS:
        _command(programs / name, name.replace("-", "_"))


def enter(root: Path) -> None:
    """The root of every process in this mount namespace. Not chroot: in one, nested user namespaces are refused."""
    old = root / ".system/old"
    old.mkdir(exist_ok=True)
    subprocess.run(["pivot_root", root, old], check=True)
    os.chdir("/")
    if _libc.umount2(b"/.system/old", MNT_DETACH) != 0:
        raise OSError(ctypes.get_errno(), "the old root cannot be unmounted")


def _link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _command(path: Path, module: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(
        f'#!/bin/sh\nPYTHONPATH=/.system/lab exec /.system/usr/bin/python3 -s -B -m lab.hosts.commands.{module} "$@"\n'
    )
    path.chmod(0o755)


def main() -> None:
    root, project = Path(sys.argv[1]), Path(sys.argv[2])
    build(root, project)
    enter(root)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": "/.system/lab",
    }
    python = "/.system/usr/bin/python3"
    os.execve(python, [python, "-s", "-B", "-m", "lab.hosts.commands.first_day"], environment)


if __name__ == "__main__":
    main()
