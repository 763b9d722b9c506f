# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping restore points: pins, legal holds, the way back out of the trash, and the end of the grace period.

The truth is in the point's marks, which are written first; rows mirror it. Each verb may be repeated: after a
crash between the two, doing it again mends the row.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from backups import access
from backups.errors import PointHeld, PointPinned, PointPurged, ReasonNeeded
from backups.models import Repository, RestorePoint
from backups.store.errors import PointNotFound
from backups.store.repository import PointRef
from portal.accounts.roles import Capability
from portal.audit import services as audit
from portal.jobs.models import Job

log = logging.getLogger(__name__)


def pin_point(*, actor: Any, point: RestorePoint, reason: str = "", via: str = Job.Via.PAGE) -> None:
    """Keep the point from retention. A person may still delete it. Raises NotAllowed, PointPurged, StoreError."""
    access.require(actor, point.vm, Capability.PIN_POINTS)
    row = {"pinned_at": Now(), "pinned_by": actor.get_username(), "pinned_why": reason}
    _say(point, "pinned", "point.pin", row, actor=actor, reason=reason, via=via)


def unpin_point(*, actor: Any, point: RestorePoint, reason: str = "", via: str = Job.Via.PAGE) -> None:
    """Leave the point to retention again. Raises NotAllowed, PointPurged, StoreError."""
    access.require(actor, point.vm, Capability.PIN_POINTS)
    row = {"pinned_at": None, "pinned_by": "", "pinned_why": ""}
    _say(point, "unpinned", "point.unpin", row, actor=actor, reason=reason, via=via)


def hold_point(*, actor: Any, point: RestorePoint, reason: str, via: str = Job.Via.PAGE) -> None:
    """A legal hold: until it is released neither rules nor people delete the point, and it never leaves the trash
    for good. Raises NotAllowed, ReasonNeeded, PointPurged, StoreError."""
    access.require(actor, point.vm, Capability.HOLD_POINTS)
    _require_reason(reason, "A legal hold")
    row = {"held_at": Now(), "held_by": actor.get_username(), "held_why": reason}
    _say(point, "held", "point.hold", row, actor=actor, reason=reason, via=via)


def release_hold(*, actor: Any, point: RestorePoint, reason: str, via: str = Job.Via.PAGE) -> None:
    """End a legal hold. Raises NotAllowed, ReasonNeeded, PointPurged, StoreError."""
    access.require(actor, point.vm, Capability.HOLD_POINTS)
    _require_reason(reason, "Releasing a legal hold")
    row = {"held_at": None, "held_by": "", "held_why": ""}
    _say(point, "released", "point.release", row, actor=actor, reason=reason, via=via)


def undelete_point(*, actor: Any, point: RestorePoint, reason: str = "", via: str = Job.Via.PAGE) -> None:
    """Take the point back out of the trash. Raises NotAllowed, PointPurged, RepositoryBusy during a collection."""
    access.require(actor, point.vm, Capability.DELETE_POINTS)
    if point.deleted_at is None:
        return
    store = point.repository.open()
    try:
        store.undelete_point(point.ref, by=actor.get_username())
    except PointNotFound:
        # Out of the trash already: only the row was not written. Else it is gone for good.
        try:
            store.open_ref(replace(point.ref, trashed=False))
        except PointNotFound:
            raise _purged() from None
    with transaction.atomic():
        RestorePoint.objects.filter(pk=point.pk).update(deleted_at=None, deleted_by="", deleted_why="")
        audit.record("point.undelete", actor=actor, subject=point, via=via, reason=reason)
    point.refresh_from_db()


def refuse_deletion(point: RestorePoint, *, via: str) -> None:
    """Raises PointHeld; for a rule (`via` schedule) also PointPinned."""
    if point.held_at is not None:
        raise PointHeld(
            f"{point.held_by} laid a legal hold on this restore point ({point.held_why}), so it was not deleted.",
            hint="The hold has to be released first, by an admin of the machine's team.",
        )
    if point.pinned_at is not None and via == Job.Via.SCHEDULE:
        raise PointPinned(f"{point.pinned_by} pinned this restore point, so no rule deletes it.")


def purge_trash(
    *, repository: Repository, keep: Collection[str] = (), actor: Any = None, via: str = Job.Via.SCHEDULE
) -> int:
    """Remove for good what has lain in the trash longer than the repository's `trash_days`; rows stay as tombstones.

    Held points stay, and those whose uuids are in `keep`. Returns how many points went. Raises StoreError.
    """
    store = repository.open()
    seconds = repository.trash_days * 86400
    store.purge_trash(older_than_seconds=seconds, keep=keep)
    count = 0
    waiting = RestorePoint.objects.in_trash().filter(repository=repository).select_related("vm__environment")
    for point in waiting.iterator():
        # By what is there, not by what was removed now: an earlier purge may have died before the row was written.
        places = [replace(point.ref, trashed=trashed) for trashed in (True, False)]
        if any(store.has_point(place) or store.lost_manifest(place) for place in places):
            continue
        # A share that went away meanwhile has no points at all.
        store.check()
        with transaction.atomic():
            if not RestorePoint.objects.filter(pk=point.pk, purged_at=None).update(purged_at=Now()):
                continue
            count += 1
            audit.record(
                "point.purge",
                actor=actor,
                subject=point,
                via=via,
                rule=f"{repository.trash_days} days in the trash",
                deleted_at=point.deleted_at,
                deleted_by=point.deleted_by,
                why=point.deleted_why,
            )
    return count


def _say(
    point: RestorePoint,
    kind: str,
    action: str,
    row: dict[str, Any],
    *,
    actor: Any,
    reason: str,
    via: str,
) -> None:
    if point.purged_at is not None:
        raise _purged()
    ref: PointRef = point.ref
    point.repository.open().mark_point(ref, kind, by=actor.get_username(), reason=reason)
    with transaction.atomic():
        RestorePoint.objects.filter(pk=point.pk).update(**row)
        audit.record(action, actor=actor, subject=point, via=via, reason=reason)
    point.refresh_from_db()


def _require_reason(reason: str, what: str) -> None:
    if not reason.strip():
        raise ReasonNeeded(f"{what} needs a reason that is written down; nothing was changed.")


def _purged() -> PointPurged:
    return PointPurged(
        "This restore point has left the trash for good, so nothing was changed.",
        hint="Only the record of it remains. Choose another restore point.",
    )
