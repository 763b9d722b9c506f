# SPDX-License-Identifier: GPL-3.0-or-later
"""`/disks` and `/imagetransfers`."""

import xml.etree.ElementTree as ET

from lab.api.answers import created, done, listing, nested, removed, wants_blocking
from lab.api.requests import disk_request, transfer_request
from lab.api.routing import Call, Handler, Reply, Router
from lab.api.search import Fields
from lab.api.shapes_backups import transfer_element
from lab.api.shapes_disks import disk_element
from lab.api.xmlio import add as add_child
from lab.engine.faults import EntityMissing
from lab.engine.state import Disk, State

TRANSFER_ACTIONS = ("extend", "pause", "resume", "cancel", "finalize")


def register(router: Router) -> None:
    add = router.add
    add("GET", "disks", list_disks)
    add("POST", "disks", add_disk)
    add("GET", "disks/{disk}", get_disk)
    add("PUT", "disks/{disk}", update_disk)
    add("DELETE", "disks/{disk}", remove_disk)
    add("GET", "storagedomains/{domain}/disks/{disk}", get_disk_of_domain)
    add("DELETE", "storagedomains/{domain}/disks/{disk}", remove_disk_of_domain)
    add("GET", "disks/{disk}/creation_status/{token}", creation_status)
    add("GET", "disks/{disk}/statistics", list_statistics)
    add("GET", "imagetransfers", list_transfers)
    add("POST", "imagetransfers", add_transfer)
    add("GET", "imagetransfers/{transfer}", get_transfer)
    for action in TRANSFER_ACTIONS:
        add("POST", f"imagetransfers/{{transfer}}/{action}", _transfer_action(action))


def disk_fields(state: State) -> Fields[Disk]:
    return {
        "id": lambda disk: disk.id,
        "name": lambda disk: disk.alias,
        "alias": lambda disk: disk.alias,
        "description": lambda disk: disk.description,
        "disk_type": lambda disk: "image",
        "status": lambda disk: disk.status,
        "format": lambda disk: disk.format,
        "contenttype": lambda disk: disk.content_type,
        "provisioned_size": lambda disk: disk.provisioned_size >> 30,
        "storage": lambda disk: state.storage_domains[disk.storage_domain_id].name,
        "storage.name": lambda disk: state.storage_domains[disk.storage_domain_id].name,
        "vm_names": lambda disk: [state.vms[a.vm_id].name for a in state.attachments_of_disk(disk.id)],
        "vm.name": lambda disk: [state.vms[a.vm_id].name for a in state.attachments_of_disk(disk.id)],
        "number_of_vms": lambda disk: len(state.attachments_of_disk(disk.id)),
    }


async def list_disks(call: Call) -> ET.Element:
    state = call.manager.core.state
    everything = call.all_content
    return listing(
        call,
        "disks",
        list(state.disks.values()),
        lambda disk: disk_element(disk, state, all_content=everything),
        disk_fields(state),
    )


def _disk(call: Call) -> Disk:
    return call.manager.core.disk(call.ids["disk"])


async def get_disk(call: Call) -> ET.Element:
    return disk_element(_disk(call), call.manager.core.state, all_content=call.all_content)


async def add_disk(call: Call) -> Reply:
    disk = call.manager.disks.add(disk_request(call.body("disk")))
    if wants_blocking(call):
        await call.manager.disks.created(disk)
    element = disk_element(disk, call.manager.core.state, all_content=True)
    return created(call, element, pending=disk.status == "locked")


async def update_disk(call: Call) -> ET.Element:
    disk = _disk(call)
    await call.manager.disks.update(disk, disk_request(call.body("disk")))
    return disk_element(disk, call.manager.core.state, all_content=True)


async def remove_disk(call: Call) -> Reply:
    call.manager.disks.remove(_disk(call))
    return removed(call)


def _disk_of_domain(call: Call) -> Disk:
    disk = _disk(call)
    if disk.storage_domain_id != call.ids["domain"]:
        raise EntityMissing(disk.id)
    return disk


async def get_disk_of_domain(call: Call) -> ET.Element:
    return disk_element(_disk_of_domain(call), call.manager.core.state, all_content=call.all_content)


async def remove_disk_of_domain(call: Call) -> Reply:
    call.manager.disks.remove(_disk_of_domain(call))
    return removed(call)


async def creation_status(call: Call) -> ET.Element:
    element = ET.Element("creation")
    add_child(element, "status", "in_progress" if _disk(call).status == "locked" else "complete")
    return element


async def list_statistics(call: Call) -> ET.Element:
    _disk(call)
    return ET.Element("statistics")


async def list_transfers(call: Call) -> ET.Element:
    call.manager.transfers.forget_old()
    return nested(call, "image_transfers", list(call.manager.core.state.transfers.values()), transfer_element)


async def add_transfer(call: Call) -> Reply:
    transfer = call.manager.transfers.add(transfer_request(call.body("image_transfer")))
    return created(call, transfer_element(transfer))


async def get_transfer(call: Call) -> ET.Element:
    call.manager.transfers.forget_old()
    transfer = call.manager.core.state.transfers.get(call.ids["transfer"])
    if transfer is None:
        raise EntityMissing(call.ids["transfer"])
    return transfer_element(transfer)


def _transfer_action(action: str) -> Handler:
    async def handler(call: Call) -> Reply:
        call.optional_body("action")
        call.manager.transfers.act(call.ids["transfer"], action)
        return done()

    return handler
