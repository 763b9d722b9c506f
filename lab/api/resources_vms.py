# SPDX-License-Identifier: GPL-3.0-or-later
"""`/vms` and what lies directly below a VM, but backups and checkpoints."""

import xml.etree.ElementTree as ET

from lab.api.answers import created, done, listing, nested, removed
from lab.api.requests import attachment_request, disk_request, nic_request, vm_request
from lab.api.routing import Call, Handler, Reply, Router
from lab.api.search import Fields
from lab.api.shapes_disks import attachment_element
from lab.api.shapes_vms import nic_element, vm_element
from lab.api.xmlio import flag_of, text_of
from lab.engine.faults import incomplete
from lab.engine.state import State, Vm
from lab.engine.tags import names_found_by

# Collections that exist below every VM and are empty in the lab.
EMPTY = {
    "affinitylabels": "affinity_labels",
    "applications": "applications",
    "graphicsconsoles": "graphics_consoles",
    "hostdevices": "host_devices",
    "numanodes": "vm_numa_nodes",
    "reporteddevices": "reported_devices",
    "sessions": "sessions",
    "statistics": "statistics",
    "watchdogs": "watchdogs",
}


def register(router: Router) -> None:
    add = router.add
    add("GET", "vms", list_vms)
    add("POST", "vms", add_vm)
    add("GET", "vms/{vm}", get_vm)
    add("PUT", "vms/{vm}", update_vm)
    add("DELETE", "vms/{vm}", remove_vm)
    add("POST", "vms/{vm}/start", start_vm)
    add("POST", "vms/{vm}/stop", stop_vm)
    add("POST", "vms/{vm}/shutdown", shutdown_vm)
    add("GET", "vms/{vm}/diskattachments", list_attachments)
    add("POST", "vms/{vm}/diskattachments", add_attachment)
    add("GET", "vms/{vm}/diskattachments/{disk}", get_attachment)
    add("PUT", "vms/{vm}/diskattachments/{disk}", update_attachment)
    add("DELETE", "vms/{vm}/diskattachments/{disk}", remove_attachment)
    add("GET", "vms/{vm}/nics", list_nics)
    add("POST", "vms/{vm}/nics", add_nic)
    add("GET", "vms/{vm}/nics/{nic}", get_nic)
    add("PUT", "vms/{vm}/nics/{nic}", update_nic)
    add("DELETE", "vms/{vm}/nics/{nic}", remove_nic)
    filters = "vms/{vm}/nics/{nic}/networkfilterparameters"
    add("GET", filters, _empty("network_filter_parameters"))
    add("GET", "vms/{vm}/nics/{nic}/statistics", _empty("statistics"))
    add("GET", "vms/{vm}/nics/{nic}/reporteddevices", _empty("reported_devices"))
    for path, tag in EMPTY.items():
        add("GET", f"vms/{{vm}}/{path}", _empty(tag))


def _empty(tag: str) -> Handler:
    async def handler(call: Call) -> ET.Element:
        _vm(call)
        return ET.Element(tag)

    return handler


def _vm(call: Call) -> Vm:
    return call.manager.core.vm(call.ids["vm"])


def vm_fields(state: State) -> Fields[Vm]:
    return {
        "id": lambda vm: vm.id,
        "name": lambda vm: vm.name,
        "vm.name": lambda vm: vm.name,
        "description": lambda vm: vm.description,
        "comment": lambda vm: vm.comment,
        "status": lambda vm: vm.status,
        "cluster": lambda vm: state.clusters[vm.cluster_id].name,
        "datacenter": lambda vm: [center.name for center in state.data_centers.values()],
        "host": lambda vm: state.hosts[vm.host_id].name if vm.host_id else None,
        "tag": lambda vm: names_found_by(state, vm.tag_ids),
        "type": lambda vm: vm.vm_type,
        "os": lambda vm: vm.os_type,
        "template": lambda vm: "Blank",
        "memory": lambda vm: vm.memory >> 20,
        "creationdate": lambda vm: vm.created,
        "storage": lambda vm: [
            state.storage_domains[state.disks[a.disk_id].storage_domain_id].name
            for a in state.attachments_of_vm(vm.id)
        ],
    }


async def list_vms(call: Call) -> ET.Element:
    core = call.manager.core
    everything = call.all_content
    return listing(
        call,
        "vms",
        list(core.state.vms.values()),
        lambda vm: vm_element(vm, core, all_content=everything),
        vm_fields(core.state),
    )


async def get_vm(call: Call) -> ET.Element:
    return vm_element(_vm(call), call.manager.core, all_content=call.all_content)


async def add_vm(call: Call) -> Reply:
    """From an OVF in `<initialization>` (blocking), else from the Blank template."""
    body = call.body("vm")
    request = vm_request(body)
    configuration = body.find("initialization/configuration")
    if configuration is None:
        vm = await call.manager.vms.add_blank(request)
    else:
        kind, data = text_of(configuration, "type"), text_of(configuration, "data")
        if kind != "ovf" or not data:
            raise incomplete("Vm", "initialization.configuration.type, initialization.configuration.data")
        regenerate = flag_of(body, "initialization/regenerate_ids")
        vm = await call.manager.imports.add(request, data, regenerate_ids=bool(regenerate))
    return created(call, vm_element(vm, call.manager.core, all_content=True))


async def update_vm(call: Call) -> ET.Element:
    vm = _vm(call)
    call.manager.vms.update(vm, vm_request(call.body("vm")))
    return vm_element(vm, call.manager.core, all_content=True)


async def remove_vm(call: Call) -> Reply:
    call.manager.vms.remove(_vm(call), detach_only=call.flag("detach_only"))
    return removed(call)


async def start_vm(call: Call) -> Reply:
    call.manager.vms.start(_vm(call))
    return done()


async def stop_vm(call: Call) -> Reply:
    return _stop(call, shutdown=False)


async def shutdown_vm(call: Call) -> Reply:
    return _stop(call, shutdown=True)


def _stop(call: Call, *, shutdown: bool) -> Reply:
    force = flag_of(call.optional_body("action"), "force") or call.flag("force")
    call.manager.vms.stop(_vm(call), shutdown=shutdown, force=bool(force))
    return done()


async def list_attachments(call: Call) -> ET.Element:
    attachments = call.manager.core.state.attachments_of_vm(_vm(call).id)
    return nested(call, "disk_attachments", attachments, attachment_element)


async def get_attachment(call: Call) -> ET.Element:
    return attachment_element(call.manager.attachments.get(_vm(call), call.ids["disk"]))


async def add_attachment(call: Call) -> Reply:
    """An existing disk by its id, else a new one described inside."""
    vm, body = _vm(call), call.body("disk_attachment")
    disk = body.find("disk")
    if disk is None:
        raise incomplete("DiskAttachment", "disk")
    request, wanted = attachment_request(body), disk_request(disk)
    exists = wanted.id is not None and (
        wanted.id in call.manager.core.state.disks or wanted.provisioned_size is None
    )
    if exists:
        assert wanted.id is not None
        attachment = await call.manager.attachments.attach(vm, wanted.id, request)
        return created(call, attachment_element(attachment))
    attachment = call.manager.attachments.create(vm, wanted, request)
    return created(call, attachment_element(attachment), pending=True)


async def update_attachment(call: Call) -> ET.Element:
    vm, body = _vm(call), call.body("disk_attachment")
    attachment = call.manager.attachments.get(vm, call.ids["disk"])
    disk = body.find("disk")
    if disk is not None and len(disk):
        await call.manager.disks.update(call.manager.core.disk(attachment.disk_id), disk_request(disk))
    await call.manager.attachments.update(vm, attachment, attachment_request(body))
    return attachment_element(attachment)


async def remove_attachment(call: Call) -> Reply:
    """`detach_only` defaults to true; false removes the disk."""
    vm = _vm(call)
    attachment = call.manager.attachments.get(vm, call.ids["disk"])
    await call.manager.attachments.detach(vm, attachment, detach_only=call.flag("detach_only", True))
    return removed(call)


async def list_nics(call: Call) -> ET.Element:
    return nested(call, "nics", call.manager.core.state.nics_of_vm(_vm(call).id), nic_element)


async def get_nic(call: Call) -> ET.Element:
    return nic_element(call.manager.nics.get(_vm(call), call.ids["nic"]))


async def add_nic(call: Call) -> Reply:
    return created(call, nic_element(call.manager.nics.add(_vm(call), nic_request(call.body("nic")))))


async def update_nic(call: Call) -> ET.Element:
    vm = _vm(call)
    nic = call.manager.nics.get(vm, call.ids["nic"])
    call.manager.nics.update(vm, nic, nic_request(call.body("nic")))
    return nic_element(nic)


async def remove_nic(call: Call) -> Reply:
    vm = _vm(call)
    call.manager.nics.remove(vm, call.manager.nics.get(vm, call.ids["nic"]))
    return removed(call)
