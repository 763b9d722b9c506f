# SPDX-License-Identifier: GPL-3.0-or-later
"""`/vms/{vm}/backups` and `/vms/{vm}/checkpoints`.

A single backup or checkpoint is found by its own id alone: the VM in the path is not compared, as in the engine."""

import xml.etree.ElementTree as ET
from dataclasses import replace

from lab.api.answers import collection, created, done, nested, removed
from lab.api.requests import backup_request
from lab.api.routing import Call, Reply, Router
from lab.api.shapes_backups import backup_element, checkpoint_element
from lab.api.shapes_disks import backup_disk_element, plain_disk_element
from lab.engine.faults import EntityMissing
from lab.engine.state import Backup, Vm


def register(router: Router) -> None:
    add = router.add
    add("GET", "vms/{vm}/backups", list_backups)
    add("POST", "vms/{vm}/backups", add_backup)
    add("GET", "vms/{vm}/backups/{backup}", get_backup)
    add("POST", "vms/{vm}/backups/{backup}/finalize", finalize_backup)
    add("GET", "vms/{vm}/backups/{backup}/disks", list_backup_disks)
    add("GET", "vms/{vm}/backups/{backup}/disks/{disk}", get_backup_disk)
    add("GET", "vms/{vm}/checkpoints", list_checkpoints)
    add("GET", "vms/{vm}/checkpoints/{checkpoint}", get_checkpoint)
    add("DELETE", "vms/{vm}/checkpoints/{checkpoint}", remove_checkpoint)
    add("GET", "vms/{vm}/checkpoints/{checkpoint}/disks", list_checkpoint_disks)
    add("GET", "vms/{vm}/checkpoints/{checkpoint}/disks/{disk}", get_checkpoint_disk)


def _vm(call: Call) -> Vm:
    return call.manager.core.vm(call.ids["vm"])


def _backup(call: Call) -> Backup:
    call.manager.backups.forget_old()
    return call.manager.core.backup(call.ids["backup"])


async def list_backups(call: Call) -> ET.Element:
    call.manager.backups.forget_old()
    vm = _vm(call)
    backups = [b for b in call.manager.core.state.backups.values() if b.vm_id == vm.id]
    return nested(call, "backups", backups, backup_element)


async def get_backup(call: Call) -> ET.Element:
    return backup_element(_backup(call))


async def add_backup(call: Call) -> Reply:
    """`require_consistency` is accepted; a bare `?legacy` counts as false, as in the engine."""
    call.manager.backups.forget_old()
    legacy = (call.query.get("legacy") or "").lower() == "true"
    request = replace(backup_request(call.body("backup")), legacy=legacy)
    backup = call.manager.backups.start(_vm(call), request)
    return created(call, backup_element(backup))


async def finalize_backup(call: Call) -> Reply:
    call.optional_body("action")
    backup = _backup(call)
    vm = call.manager.core.state.vms.get(backup.vm_id)
    if vm is None:
        raise EntityMissing(backup.vm_id)
    call.manager.backups.finalize(vm, backup)
    return done()


async def list_backup_disks(call: Call) -> ET.Element:
    backup, disks = _backup(call), call.manager.core.state.disks
    members = [member for member in backup.disks if member.disk_id in disks]
    return collection("disks", [backup_disk_element(disks[m.disk_id], m, backup) for m in members])


async def get_backup_disk(call: Call) -> ET.Element:
    """The plain disk, without `backup_mode`."""
    backup = _backup(call)
    if all(member.disk_id != call.ids["disk"] for member in backup.disks):
        raise EntityMissing(call.ids["disk"])
    return plain_disk_element(call.manager.core.disk(call.ids["disk"]))


async def list_checkpoints(call: Call) -> ET.Element:
    return nested(
        call, "checkpoints", call.manager.core.state.checkpoints_of_vm(_vm(call).id), checkpoint_element
    )


async def get_checkpoint(call: Call) -> ET.Element:
    return checkpoint_element(call.manager.checkpoints.get(call.ids["checkpoint"]))


async def remove_checkpoint(call: Call) -> Reply:
    checkpoint = call.manager.checkpoints.get(call.ids["checkpoint"])
    call.manager.checkpoints.remove(call.manager.core.vm(checkpoint.vm_id), checkpoint)
    return removed(call)


async def list_checkpoint_disks(call: Call) -> ET.Element:
    checkpoint, disks = call.manager.checkpoints.get(call.ids["checkpoint"]), call.manager.core.state.disks
    return collection("disks", [plain_disk_element(disks[d]) for d in checkpoint.disk_ids if d in disks])


async def get_checkpoint_disk(call: Call) -> ET.Element:
    checkpoint = call.manager.checkpoints.get(call.ids["checkpoint"])
    if call.ids["disk"] not in checkpoint.disk_ids:
        raise EntityMissing(call.ids["disk"])
    return plain_disk_element(call.manager.core.disk(call.ids["disk"]))
