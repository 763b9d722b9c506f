# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosted-engine guard of engine-setup and engine-cleanup (reference 2.4)."""

from lab.hosts.commands.database import Database, DatabaseError
from lab.hosts.commands.otopi import Abort, Otopi

HOSTED = """
select coalesce(s.ha_global_maintenance, false) from vm_static v
  left join vm_dynamic d using (vm_guid) left join vds_statistics s on s.vds_id = d.run_on_vds
  where v.vm_name = 'HostedEngine'
"""


def check(otopi: Otopi, engine: Database) -> None:
    """Raises Abort if a hosted engine's hosts are not in global maintenance."""
    if otopi.value("OVESETUP_CONFIG/continueSetupOnHEVM") == "True":
        return
    try:
        restored = engine.query("select option_value from vdc_options where option_name = 'DbJustRestored'")
        found = engine.query(HOSTED)
    except DatabaseError:
        return
    if restored == "1" or not found:
        return
    if found == "t":
        otopi.info("Hosted Engine HA is in Global Maintenance mode.")
        return
    otopi.error(
        'It seems that you are running your engine inside of the hosted-engine VM and are not in "Global Maintenance" mode.'
    )
    raise Abort("Hosted Engine setup detected, but Global Maintenance is not set.")
