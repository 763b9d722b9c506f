# SPDX-License-Identifier: GPL-3.0-or-later
"""The CD drive of a VM: always one, with or without a disc, its id all zeros.

Sources: ovirt-engine restapi BackendVmCdromsResource, BackendVmCdromResource, CdRomMapper. `current=true` is the disc in
the running VM, else the one of the next start."""

import xml.etree.ElementTree as ET

from lab.api.answers import collection
from lab.api.routing import Call, Router
from lab.api.xmlio import entity, reference
from lab.engine.faults import EntityMissing, incomplete, refused
from lab.engine.state import Vm

CDROM_ID = "00000000-0000-0000-0000-000000000000"


def register(router: Router) -> None:
    router.add("GET", "vms/{vm}/cdroms", list_cdroms)
    router.add("GET", "vms/{vm}/cdroms/{cdrom}", get_cdrom)
    router.add("PUT", "vms/{vm}/cdroms/{cdrom}", update_cdrom)


def _vm(call: Call) -> Vm:
    vm = call.manager.core.vm(call.ids["vm"])
    if call.ids.get("cdrom", CDROM_ID) != CDROM_ID:
        raise EntityMissing(call.ids["cdrom"])
    return vm


def _element(vm: Vm, disc: str | None) -> ET.Element:
    element = entity("cdrom", CDROM_ID, f"vms/{vm.id}/cdroms/{CDROM_ID}")
    if disc:
        ET.SubElement(element, "file", {"id": disc})
    reference(element, "vm", "vms", vm.id)
    return element


async def list_cdroms(call: Call) -> ET.Element:
    vm = _vm(call)
    return collection("cdroms", [_element(vm, vm.disc)])


async def get_cdrom(call: Call) -> ET.Element:
    vm = _vm(call)
    return _element(vm, vm.current_disc if call.flag("current") else vm.disc)


async def update_cdrom(call: Call) -> ET.Element:
    """A file with an empty id ejects. Raises EngineFault; the wording of the refusals is inferred."""
    vm, file = _vm(call), call.body("cdrom").find("file")
    if file is None:
        raise incomplete("Cdrom", "file", "update")
    disc = file.get("id") or None
    disk = None if disc is None else call.manager.core.state.disks.get(disc)
    if disc is not None and (disk is None or disk.content_type != "iso"):
        raise refused("change CD", "The ISO image does not exist.", 400)
    if call.flag("current"):
        if vm.status not in ("up", "paused"):
            raise refused("change CD", "VM is not running.")
        vm.current_disc = disc
    else:
        vm.disc = disc
    return await get_cdrom(call)
