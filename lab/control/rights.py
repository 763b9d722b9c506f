# SPDX-License-Identifier: GPL-3.0-or-later
"""An account whose rights do not suffice: things that it cannot see, and actions that it may not do."""

from collections.abc import Iterable

from lab.api.xmlio import to_bytes
from lab.control.permits import ON_SYSTEM_ALONE, PERMITS
from lab.xmlsafe import parse


def asked(permit: str, on: str) -> Iterable[tuple[str, str]]:
    """The requests that need the permit; with `on` system only those that need it there."""
    return ON_SYSTEM_ALONE.get(permit, ()) if on == "system" else PERMITS[permit]


def emptied(body: bytes, which: str | None) -> bytes:
    """A collection without what cannot be seen: all of its members, or the one of that id."""
    root = parse(body)
    for member in list(root):
        if which in (None, member.get("id")):
            root.remove(member)
    return to_bytes(root)
