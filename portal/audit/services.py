# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to write history. Called inside the transaction of the change it records."""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import Model

from portal import logs
from portal.audit.models import AuditEntry


def record(
    action: str,
    *,
    actor: Any,
    subject: Model | None = None,
    via: str = "page",
    address: str | None = None,
    **data: Any,
) -> AuditEntry:
    """Append one entry. `actor` is a User or None for the portal itself; `data` must be JSON and free of secrets."""
    person = actor if getattr(actor, "is_authenticated", False) else None
    return AuditEntry.objects.create(
        actor=person,
        actor_name=person.get_username() if person else "portal",
        via=via,
        action=action,
        object_type=subject._meta.label if subject is not None else "",
        object_id=_identity(subject),
        object_label=str(subject)[:255] if subject is not None else "",
        request_id=logs.request_id.get(),
        address=address,
        data=_without_nul(data),
    )


def _identity(subject: Model | None) -> str:
    if subject is None:
        return ""
    value = getattr(subject, "uuid", None)
    return str(value if isinstance(value, uuid.UUID) else subject.pk)


def _without_nul(data: dict[str, Any]) -> dict[str, Any]:
    """PostgreSQL stores no NUL, and a refused login must be recorded whatever was typed."""
    return {
        key: value.replace("\0", "\ufffd") if isinstance(value, str) else value for key, value in data.items()
    }
