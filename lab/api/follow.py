# SPDX-License-Identifier: GPL-3.0-or-later
"""`follow=a,b.c`: links and references replaced by what they lead to."""

import xml.etree.ElementTree as ET

from lab.api.routing import Call, Router, internal_get
from lab.api.xmlio import API

MAX_DEPTH = 6


def parse_follow(text: str) -> list[list[str]]:
    """`nics.vnic_profile, disk` → [["nics", "vnicprofile"], ["disk"]]; names without case and underscores."""
    paths = []
    for path in text.split(","):
        names = [_plain(name) for name in path.strip().split(".") if name.strip()]
        if names:
            paths.append(names[:MAX_DEPTH])
    return paths


def _plain(name: str) -> str:
    return name.strip().replace("_", "").lower()


async def expand(router: Router, call: Call, element: ET.Element, paths: list[list[str]]) -> None:
    """Expand in place. A collection expands in each of its members."""
    members = [element] if element.get("href") or element.tag == "api" else list(element)
    for member in members:
        for name in dict.fromkeys(path[0] for path in paths):
            deeper = [path[1:] for path in paths if path[0] == name and len(path) > 1]
            await _expand_one(router, call, member, name, deeper)


async def _expand_one(
    router: Router, call: Call, parent: ET.Element, name: str, deeper: list[list[str]]
) -> None:
    for index, child in enumerate(list(parent)):
        rel = child.get("rel") if child.tag == "link" else None
        if _plain(rel or child.tag) != name:
            continue
        if child.tag != "link" and not child.get("href"):
            # Already inline: only what lies deeper is left to do.
            await expand(router, call, child, deeper)
            continue
        found = await internal_get(router, call, _relative(child.get("href", "")))
        if found is None:
            continue
        await expand(router, call, found, deeper)
        if rel is None:
            found.tag = child.tag
        parent[index] = found


def _relative(href: str) -> str:
    return href.removeprefix(API)
