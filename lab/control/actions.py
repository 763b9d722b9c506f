# SPDX-License-Identifier: GPL-3.0-or-later
"""One-shot actions: things that happen to a Manager, its hosts and its storage, now."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lab.api.sso import SignOn
from lab.control import bitmaps, host_actions
from lab.control.outage import Outage
from lab.control.schema import ControlError, Field, Schema
from lab.engine.core import Core
from lab.engine.manager import Manager
from lab.engine.state import Disk, Transfer, Vm
from lab.hosts.hosts import Hosts
from lab.imageio import ImageioError, TicketBusy

Values = Mapping[str, Any]


@dataclass
class Grip:
    """What actions take hold of."""

    manager: Manager
    outage: Outage
    sign_on: SignOn
    hosts: Hosts | None = None

    @property
    def core(self) -> Core:
        return self.manager.core

    def vm(self, name: str) -> Vm:
        """By id or name. Raises ControlError (404)."""
        for vm in self.core.state.vms.values():
            if name in (vm.id, vm.name):
                return vm
        names = ", ".join(vm.name for vm in self.core.state.vms.values())
        raise ControlError(f"There is no VM {name!r}; there are {names}.", 404)

    def disk(self, name: str) -> Disk:
        """By id or alias. Raises ControlError (404)."""
        for disk in self.core.state.disks.values():
            if name in (disk.id, disk.alias):
                return disk
        names = ", ".join(disk.alias for disk in self.core.state.disks.values())
        raise ControlError(f"There is no disk {name!r}; there are {names}.", 404)


@dataclass(frozen=True)
class Action:
    meaning: str
    fields: Schema
    run: Callable[[Grip, Values], Awaitable[dict[str, Any]]]

    def told(self) -> dict[str, Any]:
        return {
            "meaning": self.meaning,
            "fields": {name: field.told() for name, field in self.fields.items()},
        }


async def power_off(grip: Grip, values: Values) -> dict[str, Any]:
    vm = grip.vm(values["vm"])
    if not grip.core.hypervisor.is_running(vm.id):
        raise ControlError(f"VM {vm.name} is not running.", 409)
    await grip.core.hypervisor.stop_vm(vm.id, unclean=True)
    return {"vm": vm.id}


async def break_bitmap(grip: Grip, values: Values) -> dict[str, Any]:
    vm = grip.vm(values["vm"])
    checkpoints = grip.core.state.checkpoints_of_vm(vm.id)
    if not checkpoints:
        raise ControlError(f"VM {vm.name} has no checkpoint, so there is no bitmap to break.", 409)
    wanted = values["checkpoint"] or checkpoints[-1].id
    checkpoint = grip.core.state.checkpoints.get(wanted)
    if checkpoint is None or checkpoint.vm_id != vm.id:
        known = ", ".join(each.id for each in checkpoints)
        raise ControlError(f"VM {vm.name} has no checkpoint {wanted!r}; it has {known}.", 404)
    disk_ids = [grip.disk(values["disk"]).id] if values["disk"] else checkpoint.disk_ids
    disks = [grip.core.state.disks[disk_id] for disk_id in disk_ids if disk_id in checkpoint.disk_ids]
    if not disks:
        raise ControlError(f"Disk {values['disk']!r} is not in checkpoint {checkpoint.id}.", 409)
    for disk in disks:
        await bitmaps.break_bitmap(grip.core, disk, checkpoint.id, values["how"])
    return {"vm": vm.id, "checkpoint": checkpoint.id, "disks": [disk.id for disk in disks]}


async def lock_disk(grip: Grip, values: Values) -> dict[str, Any]:
    disk = grip.disk(values["disk"])
    disk.status = values["status"]
    return {"disk": disk.id, "status": disk.status}


async def unlock_disk(grip: Grip, values: Values) -> dict[str, Any]:
    disk = grip.disk(values["disk"])
    disk.status = "ok"
    return {"disk": disk.id, "status": disk.status}


async def delete_disk(grip: Grip, values: Values) -> dict[str, Any]:
    disk = grip.disk(values["disk"])
    users = [a.vm_id for a in grip.core.state.attachments_of_disk(disk.id)]
    if any(grip.core.hypervisor.is_running(vm_id) for vm_id in users):
        raise ControlError(f"Disk {disk.alias} is in use by a running VM.", 409)
    await grip.manager.disks.destroy(disk)
    return {"disk": disk.id}


RECORDS = {"backup": "backups", "transfer": "transfers", "checkpoint": "checkpoints"}


async def forget_record(grip: Grip, values: Values) -> dict[str, Any]:
    records = getattr(grip.core.state, RECORDS[values["kind"]])
    if values["id"] not in records:
        known = ", ".join(records) or "none"
        raise ControlError(f"There is no {values['kind']} {values['id']!r}; there are: {known}.", 404)
    record = records[values["id"]]
    if values["kind"] != "checkpoint" and not record.over:
        # Its command still works with it, and frees disks and VM at the end.
        raise ControlError(f"The {values['kind']} {values['id']} is not over; end it first.", 409)
    del records[values["id"]]
    return {"kind": values["kind"], "id": values["id"]}


async def end_sessions(grip: Grip, values: Values) -> dict[str, Any]:
    return {"sessions": grip.sign_on.end_all_sessions()}


async def watch_connections(grip: Grip, values: Values) -> dict[str, Any]:
    grip.core.host_link.insert()
    grip.core.proxy_link.insert()
    return {"host": grip.core.host_link.url, "proxy": grip.core.proxy_link.url}


def _transfer(grip: Grip, transfer_id: str) -> Transfer:
    transfer = grip.core.state.transfers.get(transfer_id)
    if transfer is None or transfer.ticket_id is None:
        known = ", ".join(t.id for t in grip.core.state.transfers.values() if t.ticket_id) or "none"
        raise ControlError(f"There is no transfer {transfer_id!r} with a ticket; such are: {known}.", 404)
    return transfer


async def expire_ticket(grip: Grip, values: Values) -> dict[str, Any]:
    transfer = _transfer(grip, values["transfer"])
    assert transfer.ticket_id is not None
    for daemon in (grip.core.proxy_imageio, grip.core.host_imageio):
        try:
            if values["how"] == "expired":
                await daemon.extend_ticket(transfer.ticket_id, 0)
            else:
                await daemon.remove_ticket(transfer.ticket_id)
        except TicketBusy:
            # Cancelled all the same: no new request gets through.
            continue
        except ImageioError as error:
            raise ControlError(f"imageio did not do it: {error}", 409) from error
    return {"transfer": transfer.id, "ticket": transfer.ticket_id}


async def restart_imageio(grip: Grip, values: Values) -> dict[str, Any]:
    daemon = grip.core.host_imageio if values["service"] == "host" else grip.core.proxy_imageio
    await daemon.kill()
    await daemon.start()
    return {"service": values["service"], "url": daemon.url}


async def stop_manager(grip: Grip, values: Values) -> dict[str, Any]:
    await grip.outage.stop()
    return {}


async def start_manager(grip: Grip, values: Values) -> dict[str, Any]:
    return {"orphans": await grip.outage.start(orphan_backups=values["orphan_backups"])}


async def restart_manager(grip: Grip, values: Values) -> dict[str, Any]:
    await grip.outage.restart(values["seconds"], orphan_backups=values["orphan_backups"])
    return {}


def on_host(
    run: Callable[[Hosts, Values], Awaitable[dict[str, Any]]],
) -> Callable[..., Awaitable[dict[str, Any]]]:
    """An action of the Manager's machine, which only a lab with --hosts has."""

    async def act(grip: Grip, values: Values) -> dict[str, Any]:
        if grip.hosts is None:
            raise ControlError("This lab has no machines for SSH; start it with --hosts.", 409)
        return await run(grip.hosts, values)

    return act


VM = Field(str, "id or name", required=True)
DISK = Field(str, "id or alias", required=True)

ORPHANS = Field(bool, "open backups have lost their commands: failed, event 10814, disks left locked", False)

HOST_ACTIONS: dict[str, Action] = {
    "change_host_key": Action(
        "The Manager's machine shows another SSH host key from now on, as after a new installation.",
        {},
        on_host(host_actions.change_host_key),
    ),
    "host_service": Action(
        "A service of the Manager's machine is started or stopped; postgresql stopped: its databases are down.",
        {
            "unit": Field(str, "of systemd", "postgresql"),
            "state": Field(str, "what is done", "stop", ("stop", "start", "restart")),
        },
        on_host(host_actions.host_service),
    ),
    "host_version": Action(
        "Other packages of the Manager are installed; its databases stay as they are.",
        {"version": Field(str, "like 4.5.6", required=True)},
        on_host(host_actions.host_version),
    ),
    "break_database": Action(
        "Something is wrong with a database of the Manager's machine.",
        {
            "database": Field(str, "which", "engine", tuple(host_actions.DATABASES)),
            "how": Field(
                str,
                "password: its role has another one; password_back: the configured one again; not_empty: a table is left in it; emptied: nothing is in it; "
                "lc_messages: its messages are not en_US.UTF-8",
                required=True,
                choices=tuple(host_actions.BREAKAGES),
            ),
        },
        on_host(host_actions.break_database),
    ),
    "fill_host_disk": Action(
        "A folder of the Manager's machine has room for so many bytes; what it held is hidden meanwhile, and SFTP "
        "does not see what is written to it.",
        {"folder": Field(str, "its path", "/tmp"), "bytes": Field(int, "that fit", 4096)},
        on_host(host_actions.fill_host_disk),
    ),
    "free_host_disk": Action(
        "The end of fill_host_disk.",
        {"folder": Field(str, "its path", "/tmp")},
        on_host(host_actions.free_host_disk),
    ),
}

ACTIONS: dict[str, Action] = {
    **HOST_ACTIONS,
    "stop_manager": Action(
        "The Manager's API refuses connections and its commands stand still; hosts and VMs go on.",
        {},
        stop_manager,
    ),
    "start_manager": Action(
        "The Manager comes back: commands go on, sessions are lost.",
        {"orphan_backups": ORPHANS},
        start_manager,
    ),
    "restart_manager": Action(
        "stop_manager now, start_manager some seconds later.",
        {"seconds": Field(float, "how long it is down", 3.0), "orphan_backups": ORPHANS},
        restart_manager,
    ),
    "power_off": Action(
        "Cut a VM's power: its qemu and the writer inside are killed, its bitmaps stay in-use. "
        "The engine notices within its next round (5 s of engine time).",
        {"vm": VM},
        power_off,
    ),
    "break_bitmap": Action(
        "Make the bitmap of a checkpoint unusable. The VM may be up or down.",
        {
            "vm": VM,
            "how": Field(
                str,
                "missing: it is removed; in_use: on a VM that is down every bitmap of the disk is inconsistent, as "
                "after a power cut; on one that is up this one is held by another operation until the VM stops",
                "in_use",
                ("in_use", "missing"),
            ),
            "checkpoint": Field(str, "its id; by default the VM's newest"),
            "disk": Field(str, "id or alias; by default all disks of the checkpoint"),
        },
        break_bitmap,
    ),
    "lock_disk": Action(
        "Leave a disk locked (or illegal), as a task that died does.",
        {"disk": DISK, "status": Field(str, "what it then is", "locked", ("locked", "illegal"))},
        lock_disk,
    ),
    "unlock_disk": Action("Make a disk ok again, as unlock_entity.sh does.", {"disk": DISK}, unlock_disk),
    "delete_disk": Action(
        "Take a disk away behind everybody's back, with its file; its VM must not run.",
        {"disk": DISK},
        delete_disk,
    ),
    "forget_record": Action(
        "Drop the record of a backup or transfer that is over, or of a checkpoint (its bitmap stays).",
        {
            "kind": Field(str, "of record", required=True, choices=tuple(RECORDS)),
            "id": Field(str, "of the record", required=True),
        },
        forget_record,
    ),
    "expire_ticket": Action(
        "Make imageio refuse a transfer (403), at the host and at the proxy.",
        {
            "transfer": Field(str, "its id", required=True),
            "how": Field(
                str,
                "expired: until the engine renews the ticket, within a minute; gone: the engine finds it missing",
                "expired",
                ("expired", "gone"),
            ),
        },
        expire_ticket,
    ),
    "restart_imageio": Action(
        "Kill the imageio daemon and start it again: connections break, all its tickets are lost.",
        {"service": Field(str, "which", "host", ("host", "proxy"))},
        restart_imageio,
    ),
    "watch_connections": Action(
        "Lead transfers that begin from now on through the layer that faults of connections need.",
        {},
        watch_connections,
    ),
    "end_sessions": Action(
        "Make every token and session cookie invalid: 401 until the next login.", {}, end_sessions
    ),
}
