# SPDX-License-Identifier: GPL-3.0-or-later
"""Building and reading the API's XML. Children are in snake_case, `href` is an absolute path without host."""

import uuid
import xml.etree.ElementTree as ET
from datetime import datetime

from lab.engine.faults import EngineFault, malformed

API = "/ovirt-engine/api"
TRUE = ("true", "t", "yes", "y", "1")
FALSE = ("false", "f", "no", "n", "0")


def entity(tag: str, entity_id: str, path: str) -> ET.Element:
    """An element with `href` and `id`; `path` is relative to the API's root."""
    return ET.Element(tag, {"href": f"{API}/{path}", "id": entity_id})


def add(parent: ET.Element, tag: str, value: object) -> None:
    """A child with text; nothing for None."""
    if value is None:
        return
    ET.SubElement(parent, tag).text = render(value)


def group(parent: ET.Element, tag: str, **values: object) -> ET.Element:
    """A child that has children of its own."""
    child = ET.SubElement(parent, tag)
    for name, value in values.items():
        add(child, name, value)
    return child


def reference(parent: ET.Element, tag: str, path: str, entity_id: str | None) -> None:
    """A child that refers to another object by `href` and `id`; nothing for None."""
    if entity_id is not None:
        ET.SubElement(parent, tag, {"href": f"{API}/{path}/{entity_id}", "id": entity_id})


def links(parent: ET.Element, path: str, *rels: str) -> None:
    for rel in rels:
        ET.SubElement(parent, "link", {"href": f"{API}/{path}/{rel}", "rel": rel})


def actions(parent: ET.Element, path: str, *rels: str) -> None:
    element = ET.SubElement(parent, "actions")
    links(element, path, *rels)


def render(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    return str(value)


def to_bytes(element: ET.Element) -> bytes:
    head = b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
    return head + ET.tostring(element, encoding="utf-8")


def fault_element(error: EngineFault) -> ET.Element:
    element = ET.Element("fault")
    add(element, "detail", error.detail)
    add(element, "reason", error.reason)
    return element


def parse_flag(text: str | None, default: bool | None = None) -> bool | None:
    """The API's booleans; what cannot be read counts as not said."""
    word = (text or "").strip().lower()
    if word in TRUE:
        return True
    return False if word in FALSE else default


def text_of(parent: ET.Element | None, path: str) -> str | None:
    """The text of a descendant, None if it is absent."""
    found = None if parent is None else parent.find(path)
    return None if found is None else (found.text or "").strip()


def flag_of(parent: ET.Element | None, path: str) -> bool | None:
    return parse_flag(text_of(parent, path))


def int_of(parent: ET.Element | None, path: str) -> int | None:
    """Raises EngineFault (400) for what is not a number."""
    text = text_of(parent, path)
    if not text:
        return None
    try:
        value = int(text)
    except ValueError:
        raise malformed(f'For input string: "{text}"') from None
    if abs(value) >= 2**63:
        raise malformed(f'For input string: "{text}"')
    return value


def id_of(parent: ET.Element | None, path: str) -> str | None:
    """The `id` attribute of a descendant (`.` for the element itself), as a normal UUID, None if absent."""
    found = None if parent is None else parent.find(path)
    value = None if found is None else found.get("id")
    return None if value is None else uuid_text(value)


def uuid_text(value: str) -> str:
    """Raises EngineFault (400)."""
    try:
        return str(uuid.UUID(value.strip()))
    except ValueError:
        raise malformed(f"Invalid UUID string: {value}") from None


def choice_of(parent: ET.Element | None, path: str, choices: tuple[str, ...]) -> str | None:
    """The text of an enumeration. Raises EngineFault (400) for a value that is not one of them."""
    text = text_of(parent, path)
    if text is None or text == "":
        return None
    if text.lower() not in choices:
        raise EngineFault(
            400,
            f"{text} is not a member of {path}. Possible values are: {', '.join(choices)}",
            "Invalid value",
        )
    return text.lower()
