# SPDX-License-Identifier: GPL-3.0-or-later
"""Keyset paging of restore points by a moment: a page is named by the point it starts after, not by a number."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.db.models import Q
from django.http import QueryDict

from backups.models import RestorePoint, RestorePointQuerySet

PAGE_SIZE = 50


@dataclass(frozen=True)
class PointPage:
    """`points` newest first; the addresses are query strings, empty where there is no such page."""

    points: list[RestorePoint]
    shown: str
    newer_url: str
    older_url: str


def page_of(matching: RestorePointQuerySet, params: QueryDict, *, field: str = "taken_at") -> PointPage:
    """The page after the point `before` (older ones) or up to the point `after` (newer ones), both uuids.

    `field` is the moment by which they are ordered; it must not be empty in `matching`.
    """
    total = matching.count()
    before, after = _key(params.get("before"), field), _key(params.get("after"), field)
    if after is not None:
        rows = matching.filter(_beyond(field, "gt", after)).order_by(field, "id")
        found = list(rows[: PAGE_SIZE + 1])
        has_newer, has_older = len(found) > PAGE_SIZE, True
        points = found[:PAGE_SIZE][::-1]
    else:
        rows = matching.filter(_beyond(field, "lt", before)) if before is not None else matching
        found = list(rows.order_by(f"-{field}", "-id")[: PAGE_SIZE + 1])
        has_newer, has_older = before is not None, len(found) > PAGE_SIZE
        points = found[:PAGE_SIZE]
    shown = f"{total:,} restore point{'' if total == 1 else 's'}"
    if len(points) < total:
        shown = f"{len(points)} of {shown}"
    return PointPage(
        points=points,
        shown=shown,
        newer_url=_url(params, "after", points[0]) if points and has_newer else "",
        older_url=_url(params, "before", points[-1]) if points and has_older else "",
    )


def _key(given: str | None, field: str) -> tuple[Any, int] | None:
    """Moment and id of the point of that uuid; None without one or for nonsense."""
    try:
        wanted = uuid.UUID(given) if given else None
    except ValueError:
        return None
    if wanted is None:
        return None
    return (
        RestorePoint.objects.filter(uuid=wanted, **{f"{field}__isnull": False})
        .values_list(field, "id")
        .first()
    )


def _beyond(field: str, than: str, key: tuple[Any, int]) -> Q:
    moment, number = key
    return Q(**{f"{field}__{than}": moment}) | Q(**{field: moment, f"id__{than}": number})


def _url(params: QueryDict, key: str, point: RestorePoint) -> str:
    kept = params.copy()
    kept.pop("before", None)
    kept.pop("after", None)
    kept[key] = str(point.uuid)
    return f"?{kept.urlencode()}"
