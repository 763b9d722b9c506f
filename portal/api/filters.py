# SPDX-License-Identifier: GPL-3.0-or-later
"""Query parameters: declared, so that the schema names them, and a misspelt one is told instead of passed over."""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import Q
from rest_framework import serializers

from portal.api.pagination import MAX_PAGE_SIZE
from portal.paging import PAGE_SIZE


class Parameters(serializers.Serializer[Any]):
    """Base of all query parameters of an address. Unknown ones are refused."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = sorted(set(data) - set(self.fields))
        if unknown:
            raise serializers.ValidationError({name: ["There is no such parameter."] for name in unknown})
        return super().to_internal_value(data)


class Body(serializers.Serializer[Any]):
    """Base of what is sent. Unknown fields are refused, so that a misspelt wish is not passed over."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = sorted(set(data) - set(self.fields)) if isinstance(data, dict) else []
        if unknown:
            raise serializers.ValidationError({name: ["There is no such field."] for name in unknown})
        return super().to_internal_value(data)


class OrderBody(Body):
    """For whom, by which ticket and why: kept with the job and in the history, and found again by them."""

    requested_for = serializers.CharField(
        required=False, default="", allow_blank=True, max_length=150, help_text="Who wants it."
    )
    ticket = serializers.CharField(
        required=False, default="", allow_blank=True, max_length=100, help_text="Like INC0012345."
    )
    reason = serializers.CharField(required=False, default="", allow_blank=True, max_length=500)


class ListParameters(Parameters):
    limit = serializers.IntegerField(
        min_value=1,
        max_value=MAX_PAGE_SIZE,
        required=False,
        help_text=f"Rows in a page; {PAGE_SIZE} if not said.",
    )
    cursor = serializers.CharField(required=False, help_text="From `next` or `previous` of another page.")


class WaitParameters(Parameters):
    wait = serializers.IntegerField(
        min_value=0,
        max_value=30,
        required=False,
        help_text="Seconds to wait for the job to end, or with If-None-Match to change. The answer may come earlier.",
    )


def only(parameters: dict[str, Any], *names: str) -> dict[str, Any]:
    """Those of the parameters that were given, for `filter`."""
    return {name: parameters[name] for name in names if name in parameters}


def named_or_uuid(field: str, given: str) -> Q:
    """A related object by its uuid, else by its exact name."""
    try:
        return Q(**{f"{field}__uuid": uuid.UUID(given)})
    except ValueError:
        return Q(**{f"{field}__name": given})
