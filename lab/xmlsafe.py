# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing of XML that comes from outside."""

import xml.etree.ElementTree as ET
from xml.parsers import expat

MAX_DEPTH = 64


class BadXml(ValueError):
    """The text is not well-formed XML, or uses a document type, or nests too deep."""


def parse(data: bytes) -> ET.Element:
    """The root element. Document types are refused, so that no entity can grow. Raises BadXml."""
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise BadXml("elements nest too deep")
        builder.start(_clark(tag), {_clark(name): value for name, value in attributes.items()})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_clark(tag))

    def doctype(*_: object) -> None:
        raise BadXml("document types are not accepted")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, AssertionError, ValueError, LookupError) as error:
        raise BadXml(str(error)) from error


def _clark(name: str) -> str:
    return "{" + name if "}" in name else name
