# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a lab host has before its first start."""

import json
from collections.abc import Mapping
from pathlib import Path

FQDN = "manager.lab.example"
VERSION = "4.5.7"
RELEASE = "1.el9"
PACKAGES = (
    "ovirt-engine", "ovirt-engine-backend", "ovirt-engine-tools-backup", "ovirt-engine-setup", "ovirt-engine-dwh",
    "ovirt-engine-setup-base",
)  # fmt: skip
FOLDERS = (
    "run/systemd/system", "dev", "proc", "root", "run/lab", "tmp", "home", "var/tmp", "var/lib/rpm", "var/lib/pgsql",
    "var/lib/ovirt-engine/setup/answers", "var/log/ovirt-engine/setup", "var/log/ovirt-engine-backup",
    "var/lib/ovirt-engine-dwh/backups", "etc/ovirt-engine/engine.conf.d", "etc/ovirt-engine-backup",
    "etc/ovirt-engine-dwh/ovirt-engine-dwhd.conf.d", "etc/ovirt-engine-setup.conf.d", "etc/pki/ovirt-engine",
)  # fmt: skip
USERS = "root:x:0:0:root:/root:/bin/bash\npostgres:x:26:26:PostgreSQL Server:/var/lib/pgsql:/bin/bash\n"
GROUP = "root:x:0:\npostgres:x:26:\n"
OS_RELEASE = 'NAME="CentOS Stream"\nVERSION="9"\nID="centos"\nVERSION_ID="9"\n'


def lay(root: Path, passwords: Mapping[str, str], *, blank: bool = False) -> None:
    """Folders, users, installed packages, and the plan of commands/first_day.py. `blank`: nothing is set up."""
    for name in FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "var/run").symlink_to("../run")
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    etc = {
        "passwd": USERS,
        "group": GROUP,
        "os-release": OS_RELEASE,
        "hostname": f"{FQDN}\n",
        "hosts": f"127.0.0.1 localhost\n::1 localhost\n127.0.0.1 {FQDN}\n",
        "chrony.conf": "pool 2.centos.pool.ntp.org iburst\n",
    }
    for name, text in etc.items():
        (root / "etc" / name).write_text(text)
    set_version(root, VERSION)
    plan = {"fqdn": FQDN, "version": VERSION, "passwords": dict(passwords), "blank": blank}
    (root / "etc/lab-host.json").write_text(json.dumps(plan))


def set_version(root: Path, version: str) -> None:
    """The installed packages' version; the databases keep that of their last setup (reference section 5)."""
    installed = {name: [version, RELEASE] for name in PACKAGES} | {"postgresql-server": ["15.18", RELEASE]}
    (root / "var/lib/rpm/lab.json").write_text(json.dumps(installed))
