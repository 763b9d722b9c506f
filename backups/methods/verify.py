# SPDX-License-Identifier: GPL-3.0-or-later
"""Read every chunk of a restore point again and compare it with its name."""

from __future__ import annotations

from django.utils import timezone

from backups.errors import PointDamaged
from backups.models import RestorePoint
from backups.store.errors import IndexCorrupt, PointCorrupt
from backups.store.verify import points_using, verify_point
from portal.jobs.context import JobContext


def run(context: JobContext) -> None:
    """Raises PointDamaged, with the damage also on the point, if any chunk is bad or missing."""
    point = RestorePoint.objects.select_related("vm__environment", "repository").get(
        uuid=context.params["point"]
    )
    store = point.repository.open()
    with context.step("verify", "Reading and re-hashing every chunk") as step:
        context.progress.plan(_stored_bytes(point))
        try:
            stored = point.unchanged(store.open_ref(point.ref))
            result = verify_point(stored, on_progress=context.progress.advance)
        except (IndexCorrupt, PointCorrupt) as error:
            _note_damage([point.pk], error.message)
            raise
        step.detail = f"{result.chunks} chunks, {len(result.bad)} bad"
    if not result.good:
        store.check()  # a share that went away has no chunk at all
        damaged = [f"{len(result.bad)} of {result.chunks} chunks"] if result.bad else []
        problem = f"{' and '.join([*damaged, *result.damaged_files])}: damaged or missing."
        others = points_using(store, {bytes.fromhex(chunk_id) for chunk_id in result.bad})
        sharing = {ref.point_uuid for refs in others.values() for ref in refs}
        hurt = RestorePoint.objects.filter(uuid__in=sharing).exclude(pk=point.pk)
        stored.mark("damaged", by=context.job.requested_by_name, problem=problem[:1000])
        _note_damage([point.pk], problem)
        # Who sees those points may not see this one's machine, so it is not named.
        _note_damage(
            list(hurt.values_list("pk", flat=True)),
            "It shares damaged chunks with another restore point, found when that one was verified.",
        )
        raise PointDamaged(
            f"{problem} Damaged chunks were set aside; nothing else was changed.",
            hint="Back the machine up again: the next backup writes the damaged chunks anew if the data still exists.",
        )
    if result.damaged_marks:
        context.warn(f"{result.damaged_marks} lines of the point's marks are damaged or missing.")
    stored.mark("verified", by=context.job.requested_by_name, chunks=result.chunks)
    RestorePoint.objects.filter(pk=point.pk).update(verify_problem="", verified_at=timezone.now())


def _note_damage(keys: list[int], problem: str) -> None:
    RestorePoint.objects.filter(pk__in=keys).update(verify_problem=problem, verified_at=timezone.now())


def _stored_bytes(point: RestorePoint) -> int:
    """What verifying reads: every chunk once in a row, so at most the virtual size."""
    return point.size_bytes
