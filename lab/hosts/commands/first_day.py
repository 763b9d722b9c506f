# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a Manager's machine that has been in use for a while: engine, Data Warehouse and Grafana set up.

`/etc/lab-host.json`, written by lab/hosts/root.py, says which version and passwords."""

import json
import os
import signal
import sqlite3
import subprocess
from pathlib import Path

from lab.hosts.commands import database, files, postgres, services
from lab.hosts.commands.common import UNITS

PLAN = Path("/etc/lab-host.json")
READERS = {"engine": "inventory_reader", "ovirt_engine_history": "ovirt_engine_history_grafana"}


def prepare() -> None:
    """Bring the machine up; on a blank one nothing is set up yet."""
    plan = json.loads(PLAN.read_text())
    for folder in ("/var/lib/ovirt-engine-backup", "/var/log/ovirt-engine-backup"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder).chmod(0o750)
    UNITS.mkdir(parents=True, exist_ok=True)
    if plan["blank"]:
        return
    postgres.initialise()
    services.start("postgresql")
    services.enable("postgresql")
    fill_databases(plan)
    files.write_all(plan["fqdn"], plan["version"], plan["passwords"])
    _grafana()
    for unit in ("ovirt-engine", "ovirt-engine-dwhd", "httpd", "grafana-server"):
        services.enable(unit)
        services.start(unit)


def fill_databases(plan: dict[str, dict[str, str]]) -> None:
    passwords = plan["passwords"]
    database.provision("engine", passwords["engine"], "engine")
    database.provision("ovirt_engine_history", passwords["dwh"], "ovirt_engine_history")
    engine = database.Database("localhost", "5432", "engine", passwords["engine"], "engine")
    history = database.Database(
        "localhost", "5432", "ovirt_engine_history", passwords["dwh"], "ovirt_engine_history"
    )
    engine.query(schema("engine"))
    engine.query(schema("engine_rows"))
    engine.query(
        f"insert into vdc_options (option_name, option_value) values ('ProductRPMVersion', '{plan['version']}-1.el9')"
    )
    history.query(schema("history"))
    for name, reader in READERS.items():
        database.superuser().query(
            f"create role {reader} login password {database.literal(passwords['reader'])};"
            f"grant connect on database {name} to {reader}"
        )
        (engine if name == "engine" else history).query(
            f"grant usage on schema public to {reader}; grant select on all tables in schema public to {reader}"
        )
        database.admit(name, reader)


def schema(name: str) -> str:
    return (Path(__file__).parent / f"{name}.sql").read_text()


def _grafana() -> None:
    """`/var/lib/grafana/grafana.db`: one SQLite file."""
    path = Path("/var/lib/grafana/grafana.db")
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as grafana:
        grafana.execute("create table dashboard (id integer primary key, title text)")
        grafana.executemany(
            "insert into dashboard (title) values (?)", [("Executive",), ("Inventory",), ("Trend",)]
        )


def main() -> None:
    """Process 1: come up, then reap whatever ends without a parent."""
    os.environ.pop("PYTHONPATH")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["hostname", Path("/etc/hostname").read_text().strip()], check=True)
    prepare()
    print("ready", flush=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            signal.sigwait([signal.SIGCHLD])


if __name__ == "__main__":
    main()
