# SPDX-License-Identifier: GPL-3.0-or-later
"""The only names that people's or the Manager's input may give to folders and files: UUIDs."""

from __future__ import annotations

from uuid import UUID

from backups.store.errors import StoreError


def checked_uuid(name: UUID | str) -> str:
    """The canonical text of a UUID; StoreError for anything else, so that no name can leave its folder."""
    try:
        text = str(UUID(str(name)))
    except ValueError:
        text = ""
    if not text or text != str(name).lower():
        raise StoreError(f"{str(name)[:80]!r} is not a UUID, and nothing else names things in a repository.")
    return text


def is_uuid_name(name: str) -> bool:
    """True if a file's name is a UUID exactly as this program writes them."""
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
