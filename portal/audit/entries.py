# SPDX-License-Identifier: GPL-3.0-or-later
"""An entry and its seal as the objects that are hashed (docs/audit.md has the same in words and as a script)."""

from __future__ import annotations

from typing import Any

from portal.audit.canonical import VERSION, NotCanonical, digest, moment
from portal.audit.models import AuditEntry

GENESIS = "0" * 64


def link_hash(sequence: int, entry_digest: str, previous: str) -> str:
    """Hash of link `sequence`; `previous` is that of the link before, 64 zeros in the first one."""
    return digest({"digest": entry_digest, "previous": previous, "sequence": sequence, "version": VERSION})


def document(entry: AuditEntry) -> dict[str, Any]:
    """Every column of the entry, as it is hashed and exported."""
    return {
        "action": entry.action,
        "actor": entry.actor_id,
        "actor_name": entry.actor_name,
        "address": entry.address,
        "at": moment(entry.at),
        "data": entry.data,
        "id": entry.pk,
        "object_id": entry.object_id,
        "object_label": entry.object_label,
        "object_type": entry.object_type,
        "request_id": entry.request_id,
        "teams": entry.teams,
        "ticket": entry.ticket,
        "uuid": str(entry.uuid),
        "version": entry.version,
        "via": entry.via,
        "vm": str(entry.vm) if entry.vm else None,
    }


def entry_digest(entry: AuditEntry) -> str:
    """Raises NotCanonical for an entry that this portal cannot have written."""
    if entry.version != VERSION:
        raise NotCanonical(f"version {entry.version}, which this portal does not know")
    return digest(document(entry))
