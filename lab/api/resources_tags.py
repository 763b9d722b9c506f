# SPDX-License-Identifier: GPL-3.0-or-later
"""`/tags`, and the tags below VMs and hosts.

Sources: ovirt-engine restapi BackendTagsResource, BackendTagResource, AbstractBackendAssignedTagsResource."""

import xml.etree.ElementTree as ET
from collections.abc import Callable

from lab.api.answers import created, nested, removed
from lab.api.routing import Call, Handler, Reply, Router
from lab.api.shapes_inventory import tag_element
from lab.api.xmlio import id_of, reference, text_of
from lab.engine.faults import EntityMissing, incomplete
from lab.engine.state import Host, Tag, Vm
from lab.engine.tags import TagRequest

Tagged = Callable[[Call], Vm | Host]


def register(router: Router) -> None:
    add = router.add
    add("GET", "tags", list_tags)
    add("POST", "tags", add_tag)
    add("GET", "tags/{tag}", get_tag)
    add("PUT", "tags/{tag}", update_tag)
    add("DELETE", "tags/{tag}", remove_tag)
    for path, kind, tagged in (("vms", "vm", _vm), ("hosts", "host", _host)):
        for method, suffix, handler in (
            ("GET", "", _list_assigned),
            ("POST", "", _assign),
            ("GET", "/{tag}", _get_assigned),
            ("DELETE", "/{tag}", _take_off),
        ):
            add(method, f"{path}/{{{kind}}}/tags{suffix}", handler(path, kind, tagged))


def _vm(call: Call) -> Vm:
    return call.manager.core.vm(call.ids["vm"])


def _host(call: Call) -> Host:
    host = call.manager.core.state.hosts.get(call.ids["host"])
    if host is None:
        raise EntityMissing(call.ids["host"])
    return host


def _request(body: ET.Element) -> TagRequest:
    return TagRequest(
        id=id_of(body, "."),
        name=text_of(body, "name"),
        description=text_of(body, "description"),
        parent_id=id_of(body, "parent"),
        parent_name=text_of(body, "parent/name"),
    )


async def list_tags(call: Call) -> ET.Element:
    """The root tag comes last."""
    root, *others = call.manager.core.state.tags.values()
    return nested(call, "tags", [*others, root], tag_element)


async def get_tag(call: Call) -> ET.Element:
    return tag_element(call.manager.tags.get(call.ids["tag"]))


async def add_tag(call: Call) -> Reply:
    request = _request(call.body("tag"))
    if not request.name:
        raise incomplete("Tag", "name")
    return created(call, tag_element(call.manager.tags.add(request)))


async def update_tag(call: Call) -> ET.Element:
    tag = call.manager.tags.get(call.ids["tag"])
    call.manager.tags.update(tag, _request(call.body("tag")))
    return tag_element(tag)


async def remove_tag(call: Call) -> Reply:
    call.manager.tags.remove(call.manager.tags.get(call.ids["tag"]))
    return removed(call)


def _assigned(path: str, kind: str, tagged: Vm | Host, tag: Tag) -> ET.Element:
    element = tag_element(tag, f"{path}/{tagged.id}/tags")
    reference(element, kind, path, tagged.id)
    return element


def _list_assigned(path: str, kind: str, tagged: Tagged) -> Handler:
    async def handler(call: Call) -> ET.Element:
        owner = tagged(call)
        tags = [call.manager.tags.get(tag_id) for tag_id in sorted(owner.tag_ids)]
        return nested(call, "tags", tags, lambda tag: _assigned(path, kind, owner, tag))

    return handler


def _assign(path: str, kind: str, tagged: Tagged) -> Handler:
    async def handler(call: Call) -> Reply:
        """An existing tag, named by id or name."""
        owner, request = tagged(call), _request(call.body("tag"))
        if request.id is None and not request.name:
            raise incomplete("Tag", "id|name")
        tag = call.manager.tags.named(request.id, request.name)
        owner.tag_ids.add(tag.id)
        return created(call, _assigned(path, kind, owner, tag))

    return handler


def _get_assigned(path: str, kind: str, tagged: Tagged) -> Handler:
    async def handler(call: Call) -> ET.Element:
        owner = tagged(call)
        return _assigned(path, kind, owner, _tag_of(call, owner))

    return handler


def _take_off(path: str, kind: str, tagged: Tagged) -> Handler:
    async def handler(call: Call) -> Reply:
        owner = tagged(call)
        owner.tag_ids.discard(_tag_of(call, owner).id)
        return removed(call)

    return handler


def _tag_of(call: Call, owner: Vm | Host) -> Tag:
    if call.ids["tag"] not in owner.tag_ids:
        raise EntityMissing(call.ids["tag"])
    return call.manager.tags.get(call.ids["tag"])
