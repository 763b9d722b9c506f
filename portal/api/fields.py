# SPDX-License-Identifier: GPL-3.0-or-later
"""Pieces that several resources show in the same way."""

from __future__ import annotations

from typing import Any

from django.db.models import Model
from rest_framework import serializers


def address_of(kind: str, identity: object) -> str:
    """`/api/v1/jobs/…`: addresses in answers are without the host."""
    return f"/api/v1/{kind}/{identity}"


class LinkField(serializers.CharField):
    """`url` of an object itself, or of another one whose uuid `source` names."""

    def __init__(self, kind: str, **more: Any) -> None:
        defaults = {"source": "uuid", "help_text": "The object's own address below the portal's."}
        super().__init__(read_only=True, **{**defaults, **more})
        self.kind = kind

    def to_representation(self, value: Any) -> str:
        return address_of(self.kind, value)


class Reference(serializers.Serializer[Any]):
    """A related object: where it is, and what people call it."""

    uuid = serializers.UUIDField()
    name = serializers.CharField()
    url = serializers.CharField(help_text="Its address below the portal's.")

    def __init__(self, kind: str, **more: Any) -> None:
        super().__init__(read_only=True, **more)
        self.kind = kind

    def to_representation(self, instance: Model) -> dict[str, Any]:
        identity = instance.uuid  # type: ignore[attr-defined]
        return {"uuid": str(identity), "name": str(instance), "url": address_of(self.kind, identity)}
