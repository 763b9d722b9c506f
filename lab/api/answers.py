# SPDX-License-Identifier: GPL-3.0-or-later
"""The forms an answer can take: listings, creations, actions."""

import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from typing import TypeVar

from lab.api.routing import Call, Reply
from lab.api.search import Fields, select
from lab.api.xmlio import API, add, fault_element
from lab.engine.faults import EngineFault, malformed

T = TypeVar("T")


def maximum(call: Call) -> int | None:
    text = call.query.get("max", "").strip()
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise malformed(f'For input string: "{text}"') from None


def collection(tag: str, elements: Sequence[ET.Element]) -> ET.Element:
    element = ET.Element(tag)
    element.extend(elements)
    return element


def listing(
    call: Call, tag: str, objects: Sequence[T], shape: Callable[[T], ET.Element], fields: Fields[T]
) -> ET.Element:
    """A top collection: searched, sorted, paged."""
    found = select(
        objects,
        fields,
        search=call.query.get("search"),
        maximum=maximum(call),
        case_sensitive=call.flag("case_sensitive"),
    )
    return collection(tag, [shape(item) for item in found])


def nested(call: Call, tag: str, objects: Sequence[T], shape: Callable[[T], ET.Element]) -> ET.Element:
    """A collection below an entity knows `max` but no search."""
    limit = maximum(call)
    chosen = objects if limit is None or limit < 0 else objects[:limit]
    return collection(tag, [shape(item) for item in chosen])


def created(call: Call, element: ET.Element, *, pending: bool = False) -> Reply:
    """201; 202 with a `creation_status` link while the engine's tasks run."""
    if not pending:
        return Reply(201, element)
    href = f"{element.get('href', API)}/creation_status/{uuid.uuid4()}"
    ET.SubElement(element, "link", {"href": href, "rel": "creation_status"})
    add(element, "creation_status", "pending")
    return Reply(202, element)


def done(status: str = "complete") -> Reply:
    """The reply to an action; `complete` often means no more than accepted."""
    element = ET.Element("action")
    add(element, "status", status)
    return Reply(200, element)


def failed_action(error: EngineFault) -> Reply:
    element = ET.Element("action")
    element.append(fault_element(error))
    add(element, "status", "failed")
    return Reply(error.status, element)


def removed(call: Call) -> Reply:
    """200 with an empty action; 202 without a body for `?async=true`."""
    if call.flag("async"):
        return Reply(202)
    return done()


def wants_blocking(call: Call) -> bool:
    """`X-Ovirt-Expect: 201-created` makes a creation wait for its end."""
    wish = call.headers.get("X-Ovirt-Expect") or call.headers.get("Expect") or ""
    return "201-created" in wish.lower()
