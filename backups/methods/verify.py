# SPDX-License-Identifier: GPL-3.0-or-later
"""Read every chunk of a restore point again and compare it with its name."""

from __future__ import annotations

from django.utils import timezone

from backups.errors import PointDamaged
from backups.models import RestorePoint
from backups.store.verify import verify_point
from portal.jobs.context import JobContext


def run(context: JobContext) -> None:
    """Raises PointDamaged, with the damage also on the point, if any chunk is bad or missing."""
    point = RestorePoint.objects.select_related("vm__environment", "repository").get(
        uuid=context.params["point"]
    )
    store = point.repository.open()
    with context.step("verify", "Reading and re-hashing every chunk") as step:
        stored = store.open_point(point.vm.environment.uuid, str(point.vm.manager_id), point.uuid)
        context.progress.plan(_stored_bytes(point))
        result = verify_point(stored, on_progress=context.progress.advance)
        step.detail = f"{result.chunks} chunks, {len(result.bad)} bad"
    if not result.good:
        damaged = [f"{len(result.bad)} of {result.chunks} chunks"] if result.bad else []
        problem = f"{' and '.join([*damaged, *result.damaged_files])}: damaged or missing."
        RestorePoint.objects.filter(pk=point.pk).update(verify_problem=problem, verified_at=timezone.now())
        raise PointDamaged(
            f"{problem} Damaged chunks were set aside; nothing else was changed.",
            hint="Back the machine up again: the next backup writes the damaged chunks anew if the data still exists.",
        )
    stored.mark("verified", by=context.job.requested_by_name, chunks=result.chunks)
    RestorePoint.objects.filter(pk=point.pk).update(verify_problem="", verified_at=timezone.now())


def _stored_bytes(point: RestorePoint) -> int:
    """What verifying reads: every chunk once in a row, so at most the virtual size."""
    return point.size_bytes
