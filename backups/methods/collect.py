# SPDX-License-Identifier: GPL-3.0-or-later
"""Garbage collection as a job: empty the trash of what is past its grace period, then remove what nothing needs."""

from __future__ import annotations

import uuid
from pathlib import Path

from django.utils import timezone

from backups import keeping, upkeep
from backups.models import Repository
from backups.store import gc
from backups.store.repository import Repository as Store
from portal.errors import PortalError
from portal.jobs import runner
from portal.jobs.context import JobContext
from portal.jobs.models import Job


def run(context: JobContext) -> None:
    """Safe to repeat; a later attempt takes over the lease of a dead one. Raises RepositoryBusy, StoreError."""
    repository = Repository.objects.get(uuid=context.params["repository"])
    if context.giving_up:
        raise runner.give_up(context)
    try:
        result = _collect(context, repository)
    except PortalError as error:
        if not context.will_try_again(error):
            Repository.objects.filter(pk=repository.pk).update(
                collected_at=timezone.now(), collect_problem=error.message
            )
        raise
    Repository.objects.filter(pk=repository.pk).update(
        collected_at=timezone.now(),
        collect_problem="",
        collected_chunks=result.chunks_removed,
        collected_bytes=result.bytes_freed,
    )
    context.write(result={"chunks_removed": result.chunks_removed, "bytes_freed": result.bytes_freed})
    upkeep.measure(repository)


def _collect(context: JobContext, repository: Repository) -> gc.GcResult:
    store = repository.open()
    points, bases = _in_use()
    with context.step("trash", "Emptying the trash of what is past its grace period") as step:
        gone = keeping.purge_trash(
            repository=repository, keep=bases, actor=context.job.requested_by, via=context.job.via
        )
        begun = store.remove_unfinished(older_than_seconds=store.gc_age_seconds, keep=points)
        step.detail = f"{gone} restore points left for good, {len(begun)} that were never finished"
    with context.step("collect", "Removing what no restore point needs") as step:
        # Chosen before it is used, so that the next attempt can take the lease over if this one dies.
        token = context.memory.get("lease") or uuid.uuid4().hex
        context.remember(lease=token)
        result = gc.collect(
            store,
            older_than_seconds=store.gc_age_seconds,
            protected_index_paths=_indexes_of(store, bases),
            token=token,
            watch=_Watch(context),
        )
        step.detail = (
            f"{result.chunks_removed} chunks removed, {result.chunks_used} needed by {result.indexes} indexes"
        )
    return result


class _Watch:
    """Stops the collection when the job must stop, and says how far it is."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._told = ""

    def __call__(self, doing: str, done: int, total: int) -> None:
        self._context.check()
        phase = f"{doing}: {100 * done // max(total, 1)} %"
        if phase != self._told:
            self._context.write(phase=phase)
            self._told = phase


def _in_use() -> tuple[set[str], set[str]]:
    """Uuids of the points that unfinished jobs are making, and of those that they go on from."""
    memories = list(Job.objects.active().filter(kind="vm_backup").values_list("resume_state", flat=True))
    points = {str(memory["point"]) for memory in memories if memory.get("point")}
    return points, {str(memory["base_point"]) for memory in memories if memory.get("base_point")}


def _indexes_of(store: Store, bases: set[str]) -> list[Path]:
    """Indexes from which an incremental backup is going on: kept whole, even if their point was deleted meanwhile."""
    return [
        path
        for trashed in (False, True)
        for ref in store.points(trashed=trashed)
        if ref.point_uuid in bases
        for path in sorted(store.folder_of(ref).glob("*.caibx"))
    ]
