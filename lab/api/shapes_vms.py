# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs, their NICs and snapshots as XML."""

import xml.etree.ElementTree as ET

from lab.api.xmlio import actions, add, entity, group, links, reference
from lab.engine.core import Core
from lab.engine.ovf import ovf_of
from lab.engine.state import Nic, Snapshot, Vm

VM_LINKS = (
    "affinitylabels",
    "applications",
    "backups",
    "cdroms",
    "checkpoints",
    "diskattachments",
    "graphicsconsoles",
    "hostdevices",
    "nics",
    "numanodes",
    "permissions",
    "reporteddevices",
    "sessions",
    "snapshots",
    "statistics",
    "tags",
    "watchdogs",
)


def vm_element(vm: Vm, core: Core, *, all_content: bool = False) -> ET.Element:
    element = entity("vm", vm.id, f"vms/{vm.id}")
    add(element, "name", vm.name)
    add(element, "description", vm.description)
    add(element, "comment", vm.comment)
    add(element, "status", vm.status)
    add(element, "stop_reason", vm.stop_reason or "")
    _configuration(element, vm)
    add(element, "creation_time", vm.created)
    add(element, "start_time", vm.start_time)
    add(element, "stop_time", vm.stop_time)
    add(element, "next_run_configuration_exists", vm.next_version is not None)
    add(element, "run_once", False)
    add(element, "has_illegal_images", _has_illegal_images(vm, core))
    reference(element, "host", "hosts", vm.host_id)
    if all_content:
        _initialization(element, vm, core)
    links(element, f"vms/{vm.id}", *VM_LINKS)
    actions(element, f"vms/{vm.id}", "shutdown", "start", "stop")
    return element


def _configuration(element: ET.Element, vm: Vm) -> None:
    """What a VM and its snapshots have in common."""
    add(element, "origin", vm.origin)
    add(element, "type", vm.vm_type)
    add(element, "stateless", vm.stateless)
    add(element, "delete_protected", vm.delete_protected)
    add(element, "memory", vm.memory)
    policy = group(element, "memory_policy", guaranteed=vm.memory_guaranteed, max=vm.max_memory)
    add(policy, "ballooning", True)
    cpu = group(element, "cpu", architecture="x86_64")
    group(cpu, "topology", sockets=vm.sockets, cores=vm.cores, threads=vm.threads)
    system = group(element, "os", type=vm.os_type)
    devices = group(group(system, "boot"), "devices")
    for device in vm.boot_devices:
        add(devices, "device", device)
    bios = group(element, "bios", type=vm.bios_type)
    group(bios, "boot_menu", enabled=False)
    group(element, "high_availability", enabled=vm.high_availability, priority=vm.ha_priority)
    group(element, "time_zone", name="Etc/GMT")
    group(element, "placement_policy", affinity="migratable")
    if vm.custom_version is not None:
        major, minor = vm.custom_version
        group(element, "custom_compatibility_version", major=major, minor=minor)
    reference(element, "cluster", "clusters", vm.cluster_id)
    reference(element, "template", "templates", vm.template_id)
    reference(element, "original_template", "templates", vm.original_template_id)


def _has_illegal_images(vm: Vm, core: Core) -> bool:
    state = core.state
    return any(state.disks[a.disk_id].status == "illegal" for a in state.attachments_of_vm(vm.id))


def _initialization(element: ET.Element, vm: Vm, core: Core) -> None:
    user_id = next(iter(core.state.users))
    level = ".".join(str(part) for part in core.level_of(vm))
    text = ovf_of(vm, core.state, core.clock.now(), compat=level, user_id=user_id)
    group(group(element, "initialization"), "configuration", type="ovf", data=text)


def snapshot_element(snapshot: Snapshot, vm: Vm, *, all_content: bool = False) -> ET.Element:
    """A regular snapshot. Of the VM's fields it shows those of now; those of then are in its OVF."""
    path = f"vms/{vm.id}/snapshots/{snapshot.id}"
    element = entity("snapshot", snapshot.id, path)
    add(element, "description", snapshot.description)
    add(element, "date", snapshot.created)
    add(element, "persist_memorystate", snapshot.persist_memory)
    add(element, "snapshot_status", snapshot.status)
    add(element, "snapshot_type", "regular")
    _configuration(element, vm)
    reference(element, "vm", "vms", vm.id)
    if all_content:
        group(group(element, "initialization"), "configuration", type="ovf", data=snapshot.ovf)
    links(element, path, "cdroms", "disks", "nics")
    return element


def active_snapshot_element(vm: Vm, core: Core, *, all_content: bool = False) -> ET.Element:
    """What runs now; it stands among the snapshots of every VM."""
    path = f"vms/{vm.id}/snapshots/{vm.snapshot_id}"
    element = entity("snapshot", vm.snapshot_id, path)
    add(element, "description", "Active VM")
    add(element, "date", vm.created)
    add(element, "persist_memorystate", False)
    add(element, "snapshot_status", "ok")
    add(element, "snapshot_type", "active")
    _configuration(element, vm)
    reference(element, "vm", "vms", vm.id)
    if all_content:
        _initialization(element, vm, core)
    links(element, path, "cdroms", "disks", "nics")
    return element


def nic_element(nic: Nic) -> ET.Element:
    element = entity("nic", nic.id, f"vms/{nic.vm_id}/nics/{nic.id}")
    add(element, "name", nic.name)
    add(element, "interface", nic.interface)
    add(element, "linked", nic.linked)
    add(element, "plugged", nic.plugged)
    add(element, "synced", True)
    group(element, "mac", address=nic.mac)
    reference(element, "vm", "vms", nic.vm_id)
    reference(element, "vnic_profile", "vnicprofiles", nic.vnic_profile_id)
    rels = ("networkfilterparameters", "reporteddevices", "statistics")
    links(element, f"vms/{nic.vm_id}/nics/{nic.id}", *rels)
    return element
