# SPDX-License-Identifier: GPL-3.0-or-later
"""engine-cleanup of a lab host (reference 2.5)."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from lab.hosts.commands import guard, services
from lab.hosts.commands.common import (
    DWH_CONF,
    ENGINE_CONF,
    POST_FILE,
    engine_config,
    packages,
    setup_state,
    stamp,
)  # fmt: skip
from lab.hosts.commands.database import Database, DatabaseError, configured
from lab.hosts.commands.files import PKI
from lab.hosts.commands.otopi import Abort, Otopi, must_be_root

OPTIONS = {
    "--log": True, "--config": True, "--config-append": True, "--generate-answer": True, "--otopi-environment": True,
}  # fmt: skip
GRAFANA = Path("/var/lib/grafana/grafana.db")
DUMPS = {
    "Engine": "/var/lib/ovirt-engine/backups/engine-{stamp}.{pid}.dump",
    "DWH": "/var/lib/ovirt-engine-dwh/backups/dwh-{stamp}.{pid}.dump",
}


class Cleanup:
    """What a run finds and does."""

    def __init__(self, otopi: Otopi) -> None:
        self.otopi = otopi
        config = engine_config()
        self.databases = {"Engine": configured(config, "ENGINE"), "DWH": configured(config, "DWH")}

    def detect(self) -> None:
        """Raises Abort (code 11) if nothing is set up here."""
        if not POST_FILE.exists():
            self.otopi.error("Could not detect a completed product setup")
            raise Abort("Could not detect product setup", 11)
        made = setup_state().get("OVESETUP_CORE/generatedByVersion", "")
        mine = packages()["ovirt-engine-setup"][0]
        if made.split(".")[:2] != mine.split(".")[:2]:
            raise Abort("Cleanup utility version mismatch")

    def customize(self) -> None:
        ask = self.otopi.ask
        if services.state("ovirt-engine") == "active":
            text = "During execution engine service will be stopped (OK, Cancel)"
            if ask("OVESETUP_CORE_ENGINE_STOP", text, "OVESETUP_CORE/engineStop", "True") != "True":
                raise Abort("Aborted by user")

    def validate(self) -> None:
        engine = self.databases["Engine"]
        if engine is not None:
            guard.check(self.otopi, engine)
        text = "All the installed ovirt components are about to be removed, data will be lost (OK, Cancel)"
        if self.otopi.ask("OVESETUP_CORE_REMOVE", text, "OVESETUP_CORE/remove", "False") != "True":
            raise Abort("Aborted by user")

    def apply(self) -> None:
        """Stop, save, empty, remove; a database that cannot be cleared is only a warning (exit 0)."""
        for unit in ("ovirt-engine", "ovirt-engine-dwhd", "ovirt-websocket-proxy", "grafana-server"):
            services.stop(unit)
            services.disable(unit)
        self.otopi.summary.append("Engine setup successfully cleaned up")
        backup = Path(f"/var/lib/ovirt-engine/backups/engine-pki-{stamp()}.tar.gz")
        backup.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["tar", "-C", "/", "-czf", str(backup), "etc/pki/ovirt-engine"], check=True)
        self.otopi.summary.append(f"A backup of PKI configuration and keys is available at {backup}")
        self.otopi.summary.append("ovirt-engine has been removed")
        for name, database in self.databases.items():
            if database is not None:
                self._clear(name, database)
        if GRAFANA.exists():
            GRAFANA.rename(f"{GRAFANA}.{stamp()}")

    def _clear(self, name: str, database: Database) -> None:
        dump = Path(DUMPS[name].format(stamp=stamp(), pid=time.monotonic_ns() % 100000))
        dump.parent.mkdir(parents=True, exist_ok=True)
        try:
            database.run("pg_dump", "-E", "UTF8", "--format=custom", f"--file={dump}", database.name)
            database.query(CONTENT_CLEAR)
        except DatabaseError as error:
            self.otopi.warn(f"Cannot clear {name} database: {str(error).splitlines()[0]}")
            return
        self.otopi.summary.append(f"A backup of the {name} database is available at {dump}")

    def close(self) -> None:
        """Configuration and keys go; databases and roles stay."""
        for path in (POST_FILE, *ENGINE_CONF.glob("*.conf"), *DWH_CONF.glob("*.conf")):
            path.unlink(missing_ok=True)
        for folder in (PKI, Path("/etc/ovirt-engine/uninstall.d")):
            shutil.rmtree(folder, ignore_errors=True)


# All that belongs to the role, one by one: it does not own the schema.
CONTENT_CLEAR = """
do $$ declare r record; begin
  for r in select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = 'public' and c.relkind = 'r' loop
    execute format('drop table if exists public.%I cascade', r.relname);
  end loop;
  for r in select p.oid::regprocedure as sign from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname = 'public' and not exists (select 1 from pg_depend d where d.objid = p.oid and d.deptype = 'e') loop
    execute 'drop function if exists ' || r.sign || ' cascade';
  end loop;
end $$
"""


def main() -> int:
    if not must_be_root():
        return 1
    otopi = Otopi("cleanup", "remove", OPTIONS)
    try:
        otopi.parse(sys.argv[1:])
    except Abort as error:
        print(error, file=sys.stderr)
        return 1
    cleanup = Cleanup(otopi)
    return otopi.run(
        {
            "Environment setup": cleanup.detect,
            "Environment customization": cleanup.customize,
            "Setup validation": cleanup.validate,
            "Misc configuration": cleanup.apply,
            "Closing up": cleanup.close,
        }
    )


if __name__ == "__main__":
    sys.exit(main())
