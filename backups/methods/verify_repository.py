# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a whole repository again: every chunk against its name, every restore point against its manifest."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from backups import upkeep
from backups.errors import RepositoryDamaged
from backups.hurt import HurtByChunk
from backups.models import OTHER_MANIFEST, Repository, RestorePoint
from backups.store import usage, verify
from backups.store.errors import RepositoryBusy, RepositoryMismatch, RepositoryMissing
from backups.store.repository import PointRef
from backups.store.repository import Repository as Store
from backups.store.verify import PointResult
from portal.errors import PortalError
from portal.jobs import runner
from portal.jobs.context import JobContext

REMEMBER_EVERY_SECONDS = 5.0


def run(context: JobContext) -> None:
    """Goes on after an interruption with the chunk folder where it stopped.

    Raises RepositoryDamaged, with the damage on each point that it hurts, if anything is bad or missing.
    """
    repository = Repository.objects.get(uuid=context.params["repository"])
    if context.giving_up:
        raise runner.give_up(context)
    rows = Repository.objects.filter(pk=repository.pk)
    try:
        store = repository.open()
        _read_chunks(context, store)
        by_chunk = HurtByChunk()
        hurt = _look_at_points(context, repository, store, by_chunk)
    except (RepositoryMissing, RepositoryMismatch, RepositoryBusy):
        raise  # says nothing of the data; that it is away is noted by the next measuring
    except PortalError as error:
        if not context.will_try_again(error):
            rows.update(verify_problem=error.message, verified_at=timezone.now())
        raise
    chunks, bad = context.memory.get("chunks", 0), context.memory.get("bad", 0)
    problem = _problem(bad, hurt)
    rows.update(verified_at=timezone.now(), verified_chunks=chunks, bad_chunks=bad, verify_problem=problem)
    context.write(result={"chunks": chunks, "bad": bad, "points_hurt": hurt, "hurt": by_chunk.points})
    upkeep.measure(repository)
    if problem:
        raise RepositoryDamaged(
            f"{problem} Damaged chunks were set aside; nothing else was changed.",
            hint="Back the machines up again: the next backup writes damaged chunks anew if the data still exists.",
        )


def _read_chunks(context: JobContext, store: Store) -> None:
    with context.step("chunks", "Reading and re-hashing every chunk") as step:
        memory = context.memory
        if not memory.get("chunks_done"):
            pace = _Pace(context)
            context.progress.plan(
                max(usage.measure(store).bytes, memory.get("bytes", 0)), done_before=memory.get("bytes", 0)
            )
            tally: dict[str, Any] = {key: memory.get(key, 0) for key in ("chunks", "bytes", "bad")}
            tally["after"] = memory.get("after", "")
            told = time.monotonic()
            for folder in verify.verify_chunks(store, after=tally["after"], on_progress=pace.advance):
                tally = {
                    "after": folder.prefix,
                    "chunks": tally["chunks"] + folder.chunks,
                    "bytes": tally["bytes"] + folder.bytes,
                    "bad": tally["bad"] + len(folder.bad),
                }
                if folder.bad or time.monotonic() - told > REMEMBER_EVERY_SECONDS:
                    context.remember(**tally)
                    told = time.monotonic()
            context.remember(**tally, chunks_done=True)
        step.detail = f"{context.memory['chunks']} chunks, {context.memory['bad']} bad"


class _Pace:
    """Tells of progress, and waits where reading would go faster than the settings allow."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._began = time.monotonic()
        self._read = 0

    def advance(self, stored_bytes: int) -> None:
        self._context.progress.advance(stored_bytes)
        self._read += stored_bytes
        if settings.VERIFY_RATE:
            due = self._began + self._read / (settings.VERIFY_RATE << 20)
            ahead = due - time.monotonic()
            if ahead > 0:
                self._context.pause(ahead)


def _look_at_points(context: JobContext, repository: Repository, store: Store, by_chunk: HurtByChunk) -> int:
    """Write what was found on each point, in its marks and its row. Returns how many points are hurt."""
    hurt = 0
    with context.step("points", "Comparing every restore point with its manifest") as step:
        count = 0
        known = RestorePoint.objects.filter(repository=repository, purged_at=None)
        missed = set(known.values_list("uuid", flat=True))
        for found in verify.verify_points(store, watch=lambda *_: context.check()):
            count += 1
            point = RestorePoint.objects.filter(repository=repository, uuid=found.ref.point_uuid).first()
            found = _compared(found, point)
            hurt += not found.good
            by_chunk.add(found)
            _note(context, store, found, point)
            missed.discard(UUID(found.ref.point_uuid))
        hurt += _note_gone(store, known.filter(uuid__in=missed))
        for name in store.changed_files():
            context.warn(f"{name} in the repository is not as it was written: do not use it.")
        step.detail = f"{count} restore points, {hurt} hurt"
    return hurt


def _note_gone(store: Store, rows: QuerySet[RestorePoint]) -> int:
    """Points of which nothing is there any more: only the rows know of them."""
    gone = 0
    for point in rows.select_related("vm__environment"):
        if not any(store.has_point(replace(point.ref, trashed=trashed)) for trashed in (True, False)):
            problem = "The files of this restore point are gone from the repository."
            RestorePoint.objects.filter(pk=point.pk).update(
                verify_problem=problem, verified_at=timezone.now()
            )
            gone += 1
    return gone


def _compared(found: PointResult, point: RestorePoint | None) -> PointResult:
    """With what only the row can tell: that the files of a point were exchanged, all of them together."""
    if point is None or found.problem or found.manifest_sha256 == point.manifest_sha256:
        return found
    return replace(found, problem=OTHER_MANIFEST)


def _note(context: JobContext, store: Store, found: PointResult, point: RestorePoint | None) -> None:
    ref = found.ref
    problem = describe(found)
    if not ref.trashed and store.has_point(ref):
        # A mark on a point in the trash would begin its grace period anew.
        by = context.job.requested_by_name
        if problem:
            store.mark_point(ref, "damaged", by=by, problem=problem[:1000])
        else:
            store.mark_point(ref, "verified", by=by)
    if point is None:
        return
    RestorePoint.objects.filter(pk=point.pk).update(verify_problem=problem, verified_at=timezone.now())
    _compare_marks(context, store, point, ref, found)


def _compare_marks(
    context: JobContext, store: Store, point: RestorePoint, ref: PointRef, found: PointResult
) -> None:
    """Marks that were lost show only here: the rows remember what was said."""
    if found.problem:
        return
    standing = store.open_ref(ref).standing()
    lost = []
    if point.held_at is not None and standing.held is None:
        lost.append("its legal hold")
    if point.pinned_at is not None and standing.pinned is None:
        lost.append("its pin")
    if lost:
        context.warn(
            f"The marks of the restore point of {point} have lost {' and '.join(lost)}: set it again."
        )
    elif found.damaged_marks:
        context.warn(
            f"The marks of the restore point of {point} have {found.damaged_marks} lines that are damaged or missing."
        )


def describe(found: PointResult) -> str:
    """What is wrong with a point, in one sentence, or an empty string."""
    if found.problem:
        return found.problem
    more = " or more" if len(found.missing) >= verify.MISSING_NAMED else ""
    damaged = [f"{len(found.missing)}{more} chunks"] if found.missing else []
    damaged += found.damaged_files
    return f"{' and '.join(damaged)}: damaged or missing." if damaged else ""


def _problem(bad: int, hurt: int) -> str:
    if not bad and not hurt:
        return ""
    return f"{bad} damaged chunks were found, and {hurt} restore points are hurt."
