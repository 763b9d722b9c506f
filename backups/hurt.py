# SPDX-License-Identifier: GPL-3.0-or-later
"""Which restore points need a chunk that is damaged or missing: found by a verification, told on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backups.models import RestorePoint
from backups.store.verify import PointResult

# More than a person reads: what is left out here still stands on each point.
CHUNKS_NAMED = 50
POINTS_NAMED = 20


@dataclass
class HurtByChunk:
    """Uuids of points by chunk id, JSON; no more of it than CHUNKS_NAMED and POINTS_NAMED."""

    points: dict[str, list[str]] = field(default_factory=dict)

    def add(self, found: PointResult) -> None:
        for chunk_id in found.missing:
            if chunk_id not in self.points and len(self.points) >= CHUNKS_NAMED:
                continue  # a later one may be named already
            named = self.points.setdefault(chunk_id, [])
            if len(named) < POINTS_NAMED:
                named.append(found.ref.point_uuid)


@dataclass(frozen=True)
class HurtChunk:
    """A chunk, and the points that need it as far as there still are rows of them."""

    chunk_id: str
    points: list[RestorePoint]


def chunks_of(result: Mapping[str, Any]) -> list[HurtChunk]:
    """What a verification job wrote down as `hurt`, in its order. One query."""
    told: Mapping[str, Sequence[str]] = result.get("hurt", {})
    wanted = {uuid for uuids in told.values() for uuid in uuids}
    rows = RestorePoint.objects.filter(uuid__in=wanted) if wanted else RestorePoint.objects.none()
    found = {str(point.uuid): point for point in rows}
    return [
        HurtChunk(chunk_id, [found[uuid] for uuid in uuids if uuid in found])
        for chunk_id, uuids in told.items()
    ]
