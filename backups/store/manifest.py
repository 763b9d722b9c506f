# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading manifests, which are hostile input: a repository may come from anywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backups.store.errors import IndexCorrupt, PointCorrupt, RepositoryUnsupported
from backups.store.index import Layout
from backups.store.names import is_uuid_name

MANIFEST_FORMAT = 1
MANIFEST_LIMIT = 16 << 20
HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
FILE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\.(ovf|xml|json|txt|caibx)")


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 of a file beside the manifest."""

    size: int
    sha256: str


@dataclass(frozen=True)
class IndexEntry:
    """What the manifest says of one disk's index; `digest` is imageio's checksum of the disk."""

    size_bytes: int
    chunk_size_bytes: int
    digest: str


@dataclass(frozen=True)
class Manifest:
    """A manifest that has been checked: `content` whole, and the parts that the store relies on."""

    content: dict[str, Any]
    files: Mapping[str, FileEntry]
    indexes: Mapping[str, IndexEntry]


def parse_manifest(raw: bytes, names: Mapping[str, str]) -> Manifest:
    """Check a manifest. `names`: the environment, vm and point that its folder's path says.

    Raises PointCorrupt if anything is not as docs/store-format.md has it, RepositoryUnsupported if it is newer.
    """
    if len(raw) > MANIFEST_LIMIT:
        raise PointCorrupt("The manifest is longer than any that was ever written.")
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise PointCorrupt("The manifest is not valid JSON.") from error
    if not isinstance(content, dict):
        raise PointCorrupt("The manifest is not a JSON object.")
    if content.get("format") != MANIFEST_FORMAT or content.get("encryption") != "none":
        raise RepositoryUnsupported(
            f"The restore point's manifest has format {str(content.get('format'))[:40]!r}, "
            f"encryption {str(content.get('encryption'))[:40]!r}; this version reads format 1 without encryption.",
            hint="Use a newer version of the portal.",
        )
    for key, name in names.items():
        if content.get(key) != name:
            raise PointCorrupt(f"The manifest belongs to another {key} than the folder that it lies in.")
    files = {name: _file(name, entry) for name, entry in _object(content, "files").items()}
    indexes = {disk: _index(disk, entry) for disk, entry in _object(content, "indexes").items()}
    if {f"{disk}.caibx" for disk in indexes} != {name for name in files if name.endswith(".caibx")}:
        raise PointCorrupt("The manifest does not list the same disks twice.")
    return Manifest(content, files, indexes)


def _object(content: dict[str, Any], key: str) -> dict[str, Any]:
    found = content.get(key)
    if not isinstance(found, dict):
        raise PointCorrupt(f"The manifest has no list of {key}.")
    return found


def _number(entry: dict[str, Any], key: str) -> int:
    found = entry.get(key)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 1 << 62:
        raise PointCorrupt(f"The manifest has a wrong {key}.")
    return found


def _digest(entry: dict[str, Any], key: str) -> str:
    found = entry.get(key)
    if not isinstance(found, str) or not HEX_SHA256.fullmatch(found):
        raise PointCorrupt(f"The manifest has a wrong {key}.")
    return found


def _file(name: str, entry: object) -> FileEntry:
    if not FILE_NAME.fullmatch(name) or name == "manifest.json" or not isinstance(entry, dict):
        raise PointCorrupt(f"The manifest lists a file that cannot be one: {name[:80]!r}.")
    return FileEntry(_number(entry, "size"), _digest(entry, "sha256"))


def _index(disk_id: str, entry: object) -> IndexEntry:
    if not is_uuid_name(disk_id) or not isinstance(entry, dict):
        raise PointCorrupt(f"The manifest lists a disk that cannot be one: {disk_id[:80]!r}.")
    found = IndexEntry(
        _number(entry, "size_bytes"), _number(entry, "chunk_size_bytes"), _digest(entry, "digest")
    )
    try:
        Layout(found.size_bytes, found.chunk_size_bytes)
    except IndexCorrupt as error:
        raise PointCorrupt(f"The manifest has a wrong size for disk {disk_id}.") from error
    return found
