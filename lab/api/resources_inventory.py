# SPDX-License-Identifier: GPL-3.0-or-later
"""The root and the collections around the VMs: data centers, clusters, hosts, storage, networks."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

from lab.api.answers import listing, nested
from lab.api.routing import Call, Handler, Router
from lab.api.shapes_disks import disk_element
from lab.api.shapes_inventory import (
    cluster_element,
    data_center_element,
    host_element,
    network_element,
    storage_domain_element,
    template_element,
    vnic_profile_element,
)
from lab.api.shapes_vms import vm_element
from lab.api.xmlio import add, entity, group, reference
from lab.engine.core import Core
from lab.engine.faults import EntityMissing
from lab.engine.state import BLANK_TEMPLATE_ID, ROOT_TAG_ID, StorageDomain
from lab.engine.tags import names_found_by

VERSION = "4.5.6-1.el9"
TOP = (
    "clusters",
    "datacenters",
    "diskprofiles",
    "disks",
    "domains",
    "events",
    "groups",
    "hosts",
    "imagetransfers",
    "jobs",
    "networks",
    "permissions",
    "roles",
    "storagedomains",
    "tags",
    "templates",
    "users",
    "vms",
    "vnicprofiles",
)
Shape = Callable[[Any, Core], ET.Element]


def _named(**more: Callable[[Any], object]) -> dict[str, Callable[[Any], object]]:
    return {"id": lambda x: x.id, "name": lambda x: x.name, "description": lambda x: x.description, **more}


def register(router: Router) -> None:
    router.add("GET", "", get_root)
    router.add("HEAD", "", get_root)
    _plain(router, "clusters", "clusters", lambda c, core: cluster_element(c))
    _plain(router, "networks", "networks", lambda n, core: network_element(n))
    _plain(router, "vnicprofiles", "vnic_profiles", lambda p, core: vnic_profile_element(p))
    add_route = router.add
    add_route("GET", "datacenters", list_data_centers)
    add_route("GET", "datacenters/{center}", get_data_center)
    add_route("GET", "datacenters/{center}/storagedomains", list_attached_domains)
    add_route("GET", "datacenters/{center}/storagedomains/{domain}", get_attached_domain)
    add_route(
        "GET", "datacenters/{center}/clusters", _of_center("clusters", lambda c, core: cluster_element(c))
    )
    add_route(
        "GET", "datacenters/{center}/networks", _of_center("networks", lambda n, core: network_element(n))
    )
    add_route("GET", "hosts", list_hosts)
    add_route("GET", "hosts/{host}", get_host)
    add_route("GET", "storagedomains", list_domains)
    add_route("GET", "storagedomains/{domain}", get_domain)
    add_route("GET", "storagedomains/{domain}/disks", list_domain_disks)
    add_route("GET", "storagedomains/{domain}/vms", list_domain_vms)
    add_route("GET", "clusters/{cluster}/networks", list_cluster_networks)
    add_route("GET", "networks/{network}/vnicprofiles", list_network_profiles)
    add_route("GET", "diskprofiles", list_disk_profiles)
    add_route("GET", "diskprofiles/{domain}", get_disk_profile)
    add_route("GET", "templates", list_templates)
    add_route("GET", "templates/{template}", get_template)
    for name, tag in (("diskattachments", "disk_attachments"), ("nics", "nics"), ("cdroms", "cdroms")):
        add_route("GET", f"templates/{{template}}/{name}", _empty(tag))


def _empty(tag: str) -> Handler:
    async def handler(call: Call) -> ET.Element:
        return ET.Element(tag)

    return handler


def _plain(router: Router, name: str, tag: str, shape: Shape) -> None:
    """A top collection and its members, found by id and name; the state's dictionary is called like the tag."""

    async def list_all(call: Call) -> ET.Element:
        core = call.manager.core
        objects = list(getattr(core.state, tag).values())
        return listing(call, tag, objects, lambda item: shape(item, core), _named())

    async def get_one(call: Call) -> ET.Element:
        return shape(_member(call, tag, "object"), call.manager.core)

    router.add("GET", name, list_all)
    router.add("GET", f"{name}/{{object}}", get_one)


def _member(call: Call, kind: str, name: str) -> Any:
    found = getattr(call.manager.core.state, kind).get(call.ids[name])
    if found is None:
        raise EntityMissing(call.ids[name])
    return found


async def get_root(call: Call) -> ET.Element:
    core = call.manager.core
    element = ET.Element("api")
    product = group(
        element, "product_info", instance_id=core.host.hardware_id, name="oVirt Engine", vendor="ovirt.org"
    )
    full = core.engine_host.version if core.engine_host else VERSION
    major, minor, build = (int(part) for part in full.partition("-")[0].split(".")[:3])
    # revision is 0 for every version that can be parsed (Manager host reference, section 5).
    group(product, "version", major=major, minor=minor, build=build, revision=0, full_version=full)
    if core.engine_host:
        group(element, "engine_backup", **core.engine_host.last_backups)
    special = group(element, "special_objects")
    reference(special, "blank_template", "templates", BLANK_TEMPLATE_ID)
    reference(special, "root_tag", "tags", ROOT_TAG_ID)
    summary = group(element, "summary")
    up = sum(vm.status == "up" for vm in core.state.vms.values())
    for name, total in (
        ("hosts", len(core.state.hosts)),
        ("storage_domains", len(core.state.storage_domains)),
        ("users", len(core.state.users)),
    ):
        group(summary, name, active=total, total=total)
    group(summary, "vms", active=up, total=len(core.state.vms))
    add(element, "time", core.clock.now())
    reference(element, "authenticated_user", "users", call.manager.user.id)
    reference(element, "effective_user", "users", call.manager.user.id)
    for rel in TOP:
        ET.SubElement(element, "link", {"href": f"/ovirt-engine/api/{rel}", "rel": rel})
    return element


async def list_data_centers(call: Call) -> ET.Element:
    core = call.manager.core

    def storage(center: Any) -> list[str]:
        return [d.name for d in core.state.storage_domains.values() if d.data_center_id == center.id]

    def clusters(center: Any) -> list[str]:
        return [c.name for c in core.state.clusters.values() if c.data_center_id == center.id]

    more = {"storage.name": storage, "clusters.name": clusters, "cluster.name": clusters}
    fields = _named(status=lambda c: c.status, storage=storage, **more)
    objects = list(core.state.data_centers.values())
    return listing(call, "data_centers", objects, lambda c: data_center_element(c, core), fields)


async def get_data_center(call: Call) -> ET.Element:
    return data_center_element(_member(call, "data_centers", "center"), call.manager.core)


def _of_center(kind: str, shape: Shape) -> Handler:
    async def handler(call: Call) -> ET.Element:
        center, core = _member(call, "data_centers", "center"), call.manager.core
        objects = [x for x in getattr(core.state, kind).values() if x.data_center_id == center.id]
        return nested(call, kind, objects, lambda item: shape(item, core))

    return handler


async def list_attached_domains(call: Call) -> ET.Element:
    center, core = _member(call, "data_centers", "center"), call.manager.core
    domains = [d for d in core.state.storage_domains.values() if d.data_center_id == center.id]
    shape = lambda d: storage_domain_element(d, core, in_data_center=True)  # noqa: E731
    return nested(call, "storage_domains", domains, shape)


async def get_attached_domain(call: Call) -> ET.Element:
    center, domain = _member(call, "data_centers", "center"), _domain(call)
    if domain.data_center_id != center.id:
        raise EntityMissing(domain.id)
    return storage_domain_element(domain, call.manager.core, in_data_center=True)


async def list_hosts(call: Call) -> ET.Element:
    core = call.manager.core
    state = core.state
    fields = _named(
        description=lambda h: "",
        address=lambda h: h.address,
        status=lambda h: h.status,
        hw_id=lambda h: h.hardware_id,
        tag=lambda h: names_found_by(state, h.tag_ids),
        cluster=lambda h: state.clusters[h.cluster_id].name,
        datacenter=lambda h: state.data_centers[state.clusters[h.cluster_id].data_center_id].name,
    )
    return listing(call, "hosts", list(state.hosts.values()), lambda h: host_element(h, core), fields)


async def get_host(call: Call) -> ET.Element:
    return host_element(_member(call, "hosts", "host"), call.manager.core)


def _domain(call: Call) -> StorageDomain:
    found: StorageDomain = _member(call, "storage_domains", "domain")
    return found


async def list_domains(call: Call) -> ET.Element:
    core = call.manager.core
    fields = _named(
        status=lambda d: d.status,
        type=lambda d: "data",
        datacenter=lambda d: core.state.data_centers[d.data_center_id].name,
    )
    domains = list(core.state.storage_domains.values())
    return listing(call, "storage_domains", domains, lambda d: storage_domain_element(d, core), fields)


async def get_domain(call: Call) -> ET.Element:
    return storage_domain_element(_domain(call), call.manager.core)


async def list_domain_disks(call: Call) -> ET.Element:
    """Nothing is ever unregistered in the lab."""
    domain, state = _domain(call), call.manager.core.state
    if call.flag("unregistered"):
        return ET.Element("disks")
    disks = [disk for disk in state.disks.values() if disk.storage_domain_id == domain.id]
    return nested(call, "disks", disks, lambda disk: disk_element(disk, state))


async def list_domain_vms(call: Call) -> ET.Element:
    domain, core = _domain(call), call.manager.core
    if call.flag("unregistered"):
        return ET.Element("vms")
    here = {disk.id for disk in core.state.disks.values() if disk.storage_domain_id == domain.id}
    ids = {a.vm_id for a in core.state.attachments if a.disk_id in here}
    return nested(call, "vms", [core.state.vms[vm_id] for vm_id in ids], lambda vm: vm_element(vm, core))


async def list_cluster_networks(call: Call) -> ET.Element:
    cluster, state = _member(call, "clusters", "cluster"), call.manager.core.state
    networks = [n for n in state.networks.values() if n.data_center_id == cluster.data_center_id]
    return nested(call, "networks", networks, network_element)


async def list_network_profiles(call: Call) -> ET.Element:
    network, state = _member(call, "networks", "network"), call.manager.core.state
    profiles = [p for p in state.vnic_profiles.values() if p.network_id == network.id]
    return nested(call, "vnic_profiles", profiles, vnic_profile_element)


def _disk_profile(domain: StorageDomain) -> ET.Element:
    """Each domain has one profile of its own name; the lab gives it the domain's id."""
    element = entity("disk_profile", domain.id, f"diskprofiles/{domain.id}")
    add(element, "name", domain.name)
    reference(element, "storage_domain", "storagedomains", domain.id)
    return element


async def list_disk_profiles(call: Call) -> ET.Element:
    domains = list(call.manager.core.state.storage_domains.values())
    return listing(call, "disk_profiles", domains, _disk_profile, _named())


async def get_disk_profile(call: Call) -> ET.Element:
    return _disk_profile(_domain(call))


async def list_templates(call: Call) -> ET.Element:
    core = call.manager.core
    fields = {
        "id": lambda t: BLANK_TEMPLATE_ID,
        "name": lambda t: "Blank",
        "status": lambda t: "ok",
        "datacenter": lambda t: [center.name for center in core.state.data_centers.values()],
        "vm.name": lambda t: [vm.name for vm in core.state.vms.values()],
    }
    return listing(call, "templates", ["Blank"], lambda t: template_element(core), fields)


async def get_template(call: Call) -> ET.Element:
    if call.ids["template"] != BLANK_TEMPLATE_ID:
        raise EntityMissing(call.ids["template"])
    return template_element(call.manager.core)
