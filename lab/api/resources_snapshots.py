# SPDX-License-Identifier: GPL-3.0-or-later
"""`/vms/{vm}/snapshots`, and the volumes of snapshots below disks and storage domains."""

import xml.etree.ElementTree as ET

from lab.api.answers import collection, created, removed
from lab.api.requests import snapshot_request
from lab.api.routing import Call, Reply, Router
from lab.api.shapes_disks import active_volume_element, disk_element, frozen_volume_element
from lab.api.shapes_vms import active_snapshot_element, nic_element, snapshot_element
from lab.engine.faults import EntityMissing
from lab.engine.state import Disk, Snapshot, Vm


def register(router: Router) -> None:
    add = router.add
    add("GET", "vms/{vm}/snapshots", list_snapshots)
    add("POST", "vms/{vm}/snapshots", add_snapshot)
    add("GET", "vms/{vm}/snapshots/{snapshot}", get_snapshot)
    add("DELETE", "vms/{vm}/snapshots/{snapshot}", remove_snapshot)
    add("GET", "vms/{vm}/snapshots/{snapshot}/disks", list_snapshot_disks)
    add("GET", "vms/{vm}/snapshots/{snapshot}/disks/{disk}", get_snapshot_disk)
    add("GET", "vms/{vm}/snapshots/{snapshot}/nics", list_snapshot_nics)
    add("GET", "vms/{vm}/snapshots/{snapshot}/cdroms", list_snapshot_cdroms)
    add("GET", "disks/{disk}/disksnapshots", list_disk_snapshots)
    add("GET", "disks/{disk}/disksnapshots/{volume}", get_disk_snapshot)
    add("GET", "storagedomains/{domain}/disksnapshots", list_domain_snapshots)
    add("GET", "storagedomains/{domain}/disksnapshots/{volume}", get_domain_snapshot)


def _vm(call: Call) -> Vm:
    return call.manager.core.vm(call.ids["vm"])


def _found(call: Call) -> tuple[Vm, Snapshot | None]:
    vm = _vm(call)
    return vm, call.manager.snapshots.get(vm, call.ids["snapshot"])


async def list_snapshots(call: Call) -> ET.Element:
    """Regular ones, the oldest first, and then the active one, which is always there."""
    vm, core = _vm(call), call.manager.core
    elements = [
        snapshot_element(each, vm, all_content=call.all_content) for each in core.state.snapshots_of_vm(vm.id)
    ]
    return collection(
        "snapshots", [*elements, active_snapshot_element(vm, core, all_content=call.all_content)]
    )


async def get_snapshot(call: Call) -> ET.Element:
    vm, snapshot = _found(call)
    if snapshot is None:
        return active_snapshot_element(vm, call.manager.core, all_content=call.all_content)
    return snapshot_element(snapshot, vm, all_content=call.all_content)


async def add_snapshot(call: Call) -> Reply:
    """The reply is fully populated: it holds the OVF already."""
    vm = _vm(call)
    snapshot = call.manager.snapshots.add(vm, snapshot_request(call.body("snapshot")))
    return created(call, snapshot_element(snapshot, vm, all_content=True), pending=True)


async def remove_snapshot(call: Call) -> Reply:
    vm, snapshot = _found(call)
    if snapshot is None:
        raise EntityMissing(call.ids["snapshot"])
    call.manager.snapshots.remove(vm, snapshot)
    return removed(call)


def _disk_elements(call: Call) -> list[ET.Element]:
    vm, snapshot = _found(call)
    state = call.manager.core.state
    if snapshot is None:
        disks = [state.disks[attachment.disk_id] for attachment in state.attachments_of_vm(vm.id)]
        elements = [(disk_element(disk, state), vm.snapshot_id) for disk in disks]
    else:
        elements = [
            (disk_element(disk, state, volume=layer), snapshot.id)
            for disk in (state.disks[each] for each in snapshot.disk_ids if each in state.disks)
            for layer in disk.below
            if layer.snapshot_id == snapshot.id
        ]
    for element, snapshot_id in elements:
        ET.SubElement(element, "snapshot", {"id": snapshot_id})
    return [element for element, _ in elements]


async def list_snapshot_disks(call: Call) -> ET.Element:
    return collection("disks", _disk_elements(call))


async def get_snapshot_disk(call: Call) -> ET.Element:
    for element in _disk_elements(call):
        if element.get("id") == call.ids["disk"]:
            return element
    raise EntityMissing(call.ids["disk"])


async def list_snapshot_nics(call: Call) -> ET.Element:
    vm, _ = _found(call)
    return collection("nics", [nic_element(nic) for nic in call.manager.core.state.nics_of_vm(vm.id)])


async def list_snapshot_cdroms(call: Call) -> ET.Element:
    _found(call)
    return ET.Element("cdroms")


def _volumes(call: Call, disk: Disk, *, active: bool) -> list[ET.Element]:
    """The oldest first. The active volume is a snapshot's only if the disk is attached somewhere."""
    elements = [frozen_volume_element(disk, at) for at in range(len(disk.below))]
    if not active:
        return elements
    state = call.manager.core.state
    attachment = next(iter(state.attachments_of_disk(disk.id)), None)
    snapshot_id = None if attachment is None else state.vms[attachment.vm_id].snapshot_id
    return [*elements, active_volume_element(disk, snapshot_id)]


async def list_disk_snapshots(call: Call) -> ET.Element:
    """The active volume is left out unless `include_active` is set."""
    disk = call.manager.core.disk(call.ids["disk"])
    return collection("disk_snapshots", _volumes(call, disk, active=call.flag("include_active")))


async def get_disk_snapshot(call: Call) -> ET.Element:
    disk = call.manager.core.disk(call.ids["disk"])
    for element in _volumes(call, disk, active=True):
        if element.get("id") == call.ids["volume"]:
            return element
    raise EntityMissing(call.ids["volume"])


def _domain_volumes(call: Call, *, active: bool) -> list[ET.Element]:
    state = call.manager.core.state
    if call.ids["domain"] not in state.storage_domains:
        raise EntityMissing(call.ids["domain"])
    disks = [disk for disk in state.disks.values() if disk.storage_domain_id == call.ids["domain"]]
    return [element for disk in disks for element in _volumes(call, disk, active=active)]


async def list_domain_snapshots(call: Call) -> ET.Element:
    return collection("disk_snapshots", _domain_volumes(call, active=call.flag("include_active")))


async def get_domain_snapshot(call: Call) -> ET.Element:
    for element in _domain_volumes(call, active=True):
        if element.get("id") == call.ids["volume"]:
            return element
    raise EntityMissing(call.ids["volume"])
