# SPDX-License-Identifier: GPL-3.0-or-later
"""Data centers, clusters, hosts, storage, networks, tags, jobs and events as XML."""

import xml.etree.ElementTree as ET

from lab.api.xmlio import add, entity, group, links, reference
from lab.engine.core import Core
from lab.engine.events import Event
from lab.engine.jobs import Job, Step
from lab.engine.state import (
    BLANK_TEMPLATE_ID,
    GIB,
    Cluster,
    DataCenter,
    Host,
    Network,
    StorageDomain,
    Tag,
    VnicProfile,
)


def data_center_element(center: DataCenter, core: Core) -> ET.Element:
    element = entity("data_center", center.id, f"datacenters/{center.id}")
    add(element, "name", center.name)
    add(element, "description", center.description)
    add(element, "local", False)
    add(element, "quota_mode", "disabled")
    add(element, "status", center.status)
    add(element, "storage_format", "v5")
    major, minor = core.compat
    group(group(element, "supported_versions"), "version", major=major, minor=minor)
    group(element, "version", major=major, minor=minor)
    links(
        element, f"datacenters/{center.id}", "clusters", "networks", "permissions", "quotas", "storagedomains"
    )
    return element


def cluster_element(cluster: Cluster) -> ET.Element:
    element = entity("cluster", cluster.id, f"clusters/{cluster.id}")
    add(element, "name", cluster.name)
    add(element, "description", cluster.description)
    group(element, "cpu", architecture="x86_64", type=cluster.cpu_type)
    add(element, "bios_type", "q35_sea_bios")
    add(element, "virt_service", True)
    add(element, "gluster_service", False)
    group(element, "version", major=cluster.version[0], minor=cluster.version[1])
    reference(element, "data_center", "datacenters", cluster.data_center_id)
    links(element, f"clusters/{cluster.id}", "networks", "permissions", "cpuprofiles")
    return element


def host_element(host: Host, core: Core) -> ET.Element:
    element = entity("host", host.id, f"hosts/{host.id}")
    add(element, "name", host.name)
    add(element, "address", host.address)
    add(element, "status", host.status)
    add(element, "type", "ovirt_node")
    add(element, "memory", host.memory)
    hardware = group(element, "hardware_information", uuid=host.hardware_id)
    add(hardware, "manufacturer", "oVirt lab")
    group(element, "version", major=4, minor=50, build=5, revision=1, full_version="vdsm-4.50.5.1-1.el9")
    active = sum(vm.host_id == host.id for vm in core.state.vms.values())
    group(element, "summary", active=active, migrating=0, total=active)
    group(element, "spm", priority=5, status="spm")
    reference(element, "cluster", "clusters", host.cluster_id)
    links(element, f"hosts/{host.id}", "permissions", "tags")
    return element


def used_bytes(domain: StorageDomain, core: Core) -> int:
    return sum(d.actual_size for d in core.state.disks.values() if d.storage_domain_id == domain.id)


def storage_domain_element(domain: StorageDomain, core: Core, *, in_data_center: bool = False) -> ET.Element:
    """`status` of an attached domain is told only below its data center; sizes are whole GiB."""
    path = f"storagedomains/{domain.id}"
    if in_data_center:
        path = f"datacenters/{domain.data_center_id}/{path}"
    element = entity("storage_domain", domain.id, path)
    disks = [d for d in core.state.disks.values() if d.storage_domain_id == domain.id]
    used = -(-used_bytes(domain, core) // GIB) * GIB
    if core.faults.fills(domain.id, domain.name, count=False):
        used = domain.capacity
    for tag, value in (
        ("name", domain.name),
        ("description", domain.description),
        ("comment", domain.comment),
        ("type", "data"),
        ("master", domain.master),
        ("backup", False),
        ("block_size", 512),
        ("storage_format", "v5"),
        ("status", domain.status if in_data_center else None),
        ("external_status", "ok"),
        ("available", max(domain.capacity - used, 0) // GIB * GIB),
        ("used", used),
        ("committed", sum(disk.provisioned_size for disk in disks) // GIB * GIB),
        ("warning_low_space_indicator", 10),
        ("critical_space_action_blocker", 5),
        ("discard_after_delete", False),
        ("wipe_after_delete", False),
        ("supports_discard", False),
        ("supports_discard_zeroes_data", False),
    ):
        add(element, tag, value)
    group(element, "storage", type="nfs", address=domain.address, path=domain.path, nfs_version="auto")
    reference(group(element, "data_centers"), "data_center", "datacenters", domain.data_center_id)
    links(element, f"storagedomains/{domain.id}", "disks", "disksnapshots", "permissions", "vms")
    return element


def network_element(network: Network) -> ET.Element:
    element = entity("network", network.id, f"networks/{network.id}")
    add(element, "name", network.name)
    add(element, "description", network.description)
    add(element, "mtu", 1500)
    add(element, "stp", False)
    if network.vlan is not None:
        ET.SubElement(element, "vlan", {"id": str(network.vlan)})
    add(group(element, "usages"), "usage", "vm")
    reference(element, "data_center", "datacenters", network.data_center_id)
    links(element, f"networks/{network.id}", "permissions", "vnicprofiles")
    return element


def vnic_profile_element(profile: VnicProfile) -> ET.Element:
    element = entity("vnic_profile", profile.id, f"vnicprofiles/{profile.id}")
    add(element, "name", profile.name)
    add(element, "description", profile.description)
    group(element, "pass_through", mode="disabled")
    add(element, "port_mirroring", False)
    reference(element, "network", "networks", profile.network_id)
    links(element, f"vnicprofiles/{profile.id}", "permissions")
    return element


def tag_element(tag: Tag, path: str = "tags") -> ET.Element:
    element = entity("tag", tag.id, f"{path}/{tag.id}")
    add(element, "name", tag.name)
    add(element, "description", tag.description)
    reference(element, "parent", "tags", tag.parent_id)
    return element


def template_element(core: Core) -> ET.Element:
    """The Blank template."""
    element = entity("template", BLANK_TEMPLATE_ID, f"templates/{BLANK_TEMPLATE_ID}")
    add(element, "name", "Blank")
    add(element, "description", "Blank template")
    add(element, "status", "ok")
    add(element, "memory", GIB)
    cpu = group(element, "cpu", architecture="undefined")
    group(cpu, "topology", sockets=1, cores=1, threads=1)
    group(element, "os", type="other")
    add(element, "type", "server")
    version = group(element, "version", version_number=1, version_name="base version")
    reference(version, "base_template", "templates", BLANK_TEMPLATE_ID)
    links(
        element, f"templates/{BLANK_TEMPLATE_ID}", "cdroms", "diskattachments", "nics", "permissions", "tags"
    )
    return element


def event_element(event: Event) -> ET.Element:
    element = entity("event", str(event.index), f"events/{event.index}")
    add(element, "code", event.code)
    add(element, "correlation_id", event.correlation_id)
    add(element, "custom_id", -1 if event.custom_id is None else event.custom_id)
    add(element, "description", event.description)
    add(element, "flood_rate", 30)
    add(element, "index", event.index)
    add(element, "origin", event.origin)
    add(element, "severity", event.severity)
    add(element, "time", event.time)
    reference(element, "vm", "vms", event.vm_id)
    reference(element, "host", "hosts", event.host_id)
    reference(element, "storage_domain", "storagedomains", event.storage_domain_id)
    reference(element, "cluster", "clusters", event.cluster_id)
    reference(element, "data_center", "datacenters", event.data_center_id)
    reference(element, "user", "users", event.user_id)
    return element


def job_element(job: Job, owner_id: str) -> ET.Element:
    element = entity("job", job.id, f"jobs/{job.id}")
    add(element, "description", job.description)
    add(element, "status", job.status)
    add(element, "auto_cleared", True)
    add(element, "external", False)
    add(element, "start_time", job.started)
    add(element, "end_time", job.ended)
    add(element, "last_updated", job.updated)
    reference(element, "owner", "users", owner_id)
    links(element, f"jobs/{job.id}", "steps")
    return element


def step_element(step: Step, job: Job) -> ET.Element:
    element = entity("step", step.id, f"jobs/{job.id}/steps/{step.id}")
    add(element, "description", step.description)
    add(element, "number", step.number)
    add(element, "status", step.status)
    add(element, "type", step.type)
    add(element, "external", False)
    add(element, "start_time", step.started)
    add(element, "end_time", step.ended)
    reference(element, "job", "jobs", job.id)
    return element
