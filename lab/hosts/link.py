# SPDX-License-Identifier: GPL-3.0-or-later
"""What the API and its Manager's machine know of each other."""

import fcntl
import logging
import os
from datetime import datetime

from lab.engine.core import Core
from lab.hosts.machine import Machine
from lab.processes import CommandFailed

log = logging.getLogger(__name__)

SEVERITIES = {"0": "normal", "1": "warning", "2": "error", "10": "alert"}
# Fields of the API's EngineBackupInfo (ovirt-engine-api-model types/EngineBackupInfo.java) and the scope that each
# tells of; that the engine's own part is `files` is inferred.
FIELDS = {
    "last_engine_backup": "files",
    "last_db_backup": "db",
    "last_dwh_backup": "dwhdb",
    "last_cinder_backup": "cinderlib",
    "last_keycloak_backup": "keycloak",
    "last_grafana_backup": "grafanadb",
}
# The engine writes them when `db` and `files` have no success in a day (reference 1.10); texts inferred.
ALERTS = """
insert into audit_log (log_type_name, log_type, severity, message)
  select case when last is null then 'ENGINE_NO_FULL_BACKUP' else 'ENGINE_NO_WARM_BACKUP' end,
         case when last is null then 9022 else 9023 end, 10,
         case when last is null
           then 'There is no full backup available, please run engine-backup to prevent data loss in case of corruption.'
           else 'Full backup was created on ' || last || ' and it''s too old. Please run engine-backup to prevent data loss in case of corruption.' end
  from (select case when count(distinct scope) = 2 then min(done) end as last from
          (select scope, max(done_at) as done from engine_backup_log
             where is_passed and scope in ('db', 'files') group by scope) as each_scope) as newest
  where (last is null or last < now() - interval '1 day')
    and not exists (select 1 from audit_log where log_type in (9022, 9023) and not deleted)
"""
# A restored database goes back in its numbers: rows are told apart by their times too.
EVENTS = """
select audit_log_id, log_time, log_type, severity, message from audit_log
  where log_type between 9022 and 9026 order by audit_log_id
"""


class EngineLink:
    """Looks at the host when the API is asked; `is_down` says that the engine's service does not run."""

    def __init__(self, core: Core, machine: Machine) -> None:
        self._core = core
        self._machine = machine
        self._up = machine.root / "var/lib/ovirt-engine/engine.up"
        self._seen: set[tuple[str, str]] = set()
        self.version = ""
        self.last_backups: dict[str, datetime] = {}

    async def first_day(self) -> None:
        """Tell the database which machines there are."""
        values = ", ".join(f"('{vm.id}', '{vm.name}', '')" for vm in self._core.state.vms.values())
        await self._machine.query(f"insert into vm_static (vm_guid, vm_name, description) values {values}")
        await self.look()

    @property
    def is_down(self) -> bool:
        """The engine's process holds a lock on its engine.up for as long as it lives."""
        try:
            descriptor = os.open(self._up, os.O_RDONLY)
        except OSError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    async def look(self) -> None:
        """Version, times of backups and new events, from the engine's database; nothing changes if it is down."""
        try:
            await self._machine.query(ALERTS)
            self.version = await self._machine.query(
                "select option_value from vdc_options where option_name = 'ProductRPMVersion'"
            )
            times = await self._machine.query(
                "select scope, max(done_at) from engine_backup_log where is_passed group by scope"
            )
            events = await self._machine.query(EVENTS)
        except CommandFailed as error:
            log.info("the engine's database does not answer: %s", error.stderr.strip()[-200:])
            return
        by_scope = dict(line.split("|") for line in times.splitlines())
        self.last_backups = {
            name: datetime.fromisoformat(by_scope[scope])
            for name, scope in FIELDS.items()
            if scope in by_scope
        }
        for line in events.splitlines():
            number, time, code, severity, message = line.split("|", 4)
            if (number, time) not in self._seen:
                self._seen.add((number, time))
                self._core.events.add(int(code), message, SEVERITIES.get(severity, "normal"))
