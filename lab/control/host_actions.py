# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to the Manager's machine, at once."""

from collections.abc import Mapping
from typing import Any

from lab.control.schema import ControlError
from lab.hosts import root
from lab.hosts.hosts import Hosts
from lab.processes import CommandFailed

Values = Mapping[str, Any]
BREAKAGES = {
    "password": ("alter role {role} password 'changed behind its back'", "postgres"),
    "password_back": ("alter role {role} password {password}", "postgres"),
    "not_empty": ("create table left_over (id integer)", "{database}"),
    "emptied": (
        "drop schema public cascade; create schema public; grant all on schema public to {role}",
        "{database}",
    ),
    "lc_messages": ("alter database {database} set lc_messages = 'C'", "postgres"),
}
DATABASES = {
    "engine": "/etc/ovirt-engine/engine.conf.d/10-setup-database.conf",
    "ovirt_engine_history": "/etc/ovirt-engine-dwh/ovirt-engine-dwhd.conf.d/10-setup-database.conf",
}
VARIABLES = {"engine": "ENGINE_DB_PASSWORD", "ovirt_engine_history": "DWH_DB_PASSWORD"}


async def run(hosts: Hosts, *argv: str) -> str:
    """Inside the host. Raises ControlError (409) with what the command said."""
    try:
        return await hosts.machine.run(*argv)
    except CommandFailed as error:
        raise ControlError(f"The host did not do it: {error}", 409) from error


async def change_host_key(hosts: Hosts, values: Values) -> dict[str, Any]:
    await hosts.ssh.change_key()
    return {"fingerprint": hosts.ssh.fingerprint, "host_key": hosts.ssh.public_key}


async def host_service(hosts: Hosts, values: Values) -> dict[str, Any]:
    await run(hosts, "systemctl", values["state"], values["unit"])
    return {"unit": values["unit"]}


async def host_version(hosts: Hosts, values: Values) -> dict[str, Any]:
    root.set_version(hosts.machine.root, values["version"])
    return {"version": values["version"]}


async def break_database(hosts: Hosts, values: Values) -> dict[str, Any]:
    name = values["database"]
    sql, where = BREAKAGES[values["how"]]
    configured = await run(hosts, "bash", "-c", f'. {DATABASES[name]}; printf %s "${VARIABLES[name]}"')
    password = "'" + configured.replace("'", "''") + "'"
    names = {"database": name, "role": name, "password": password}
    try:
        await hosts.machine.query(sql.format(**names), where.format(**names))
    except CommandFailed as error:
        raise ControlError(f"The database did not do it: {error}", 409) from error
    return {"database": name}


async def fill_host_disk(hosts: Hosts, values: Values) -> dict[str, Any]:
    """A file system of its own with so many bytes; what the folder held is hidden until it is freed."""
    size = f"size={max(values['bytes'], 4096)}"
    await run(hosts, "mount", "-t", "tmpfs", "-o", f"{size},mode=1777", "tmpfs", values["folder"])
    return {"folder": values["folder"]}


async def free_host_disk(hosts: Hosts, values: Values) -> dict[str, Any]:
    await run(hosts, "umount", "-l", values["folder"])
    return {"folder": values["folder"]}
