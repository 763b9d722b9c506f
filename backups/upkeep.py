# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking after repositories: garbage collection, verification, how full they are; by page, command or beat."""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Count, Q, Sum
from django.utils import timezone

from backups import access
from backups.models import Repository, RepositoryMeasurement, RestorePoint
from backups.store import usage
from portal.errors import PortalError
from portal.jobs import locks
from portal.jobs import services as jobs
from portal.jobs.models import Job

log = logging.getLogger(__name__)

COLLECT_TASK = "backups.collect_garbage"
VERIFY_REPOSITORY_TASK = "backups.verify_repository"
# After a job a repository is measured again, unless that was done so recently.
MEASURED_RECENTLY = dt.timedelta(minutes=5)
# Measurements kept in full, then one a day, then none.
KEEP_ALL = dt.timedelta(days=7)
KEEP_DAILY = dt.timedelta(days=730)
GROWTH_OVER = dt.timedelta(days=30)


@dataclass(frozen=True)
class _Upkeep:
    """A kind of job that looks after a whole repository; `doing` ends the sentence that refuses it."""

    kind: str
    task: str
    title: str
    doing: str
    action: str


_COLLECTION = _Upkeep(
    "collect_garbage",
    COLLECT_TASK,
    "Remove unused data from repository",
    "collect garbage",
    "repository.collect",
)
_VERIFICATION = _Upkeep(
    "repository_verify",
    VERIFY_REPOSITORY_TASK,
    "Verify repository",
    "verify a repository",
    "repository.verify",
)


def start_collection(*, actor: Any, repository: Repository, via: str = Job.Via.PAGE) -> Job:
    """Order a garbage collection, or return the one that is under way. `actor` None: the portal. Raises NotAllowed."""
    return _order(_COLLECTION, repository, repository.collect_lock_key, actor=actor, via=via)


def verify_repository(*, actor: Any, repository: Repository, via: str = Job.Via.PAGE) -> Job:
    """Order a re-hash of everything, or return the job that is at it. `actor` None: the portal. Raises NotAllowed."""
    return _order(_VERIFICATION, repository, repository.verify_lock_key, actor=actor, via=via)


def _order(upkeep: _Upkeep, repository: Repository, own_lock: str, *, actor: Any, via: str) -> Job:
    """Two orders at once make two jobs, of which the lock lets one run at a time."""
    access.require_platform_admin(actor, upkeep.doing)
    of_this = Job.objects.active().filter(kind=upkeep.kind, params__repository=str(repository.uuid))
    under_way = of_this.first()
    if under_way is not None:
        return under_way
    return jobs.order_job(
        upkeep.action,
        actor=actor,
        via=via,
        about=repository,
        kind=upkeep.kind,
        task=upkeep.task,
        title=f"{upkeep.title} {repository}",
        locks=[locks.exclusive(own_lock), locks.shared(f"repository:{repository.uuid}")],
        params={"repository": str(repository.uuid)},
        subject_label=repository.name,
        subject_url=repository.get_absolute_url(),
    )


def measure(repository: Repository) -> RepositoryMeasurement | None:
    """Look how full the repository is and write it down; None if it cannot be reached, which the row then says."""
    now = timezone.now()
    rows = Repository.objects.filter(pk=repository.pk)
    try:
        store = repository.open()
        total, free = store.space()
        found = usage.measure(store)
    except PortalError as error:
        log.warning("Repository %s cannot be measured: %s", repository.uuid, error)
        rows.update(problem=str(error), problem_code=error.code, checked_at=now)
        return None
    rows.update(problem="", problem_code="", checked_at=now, total_bytes=total, free_bytes=free)
    return RepositoryMeasurement.objects.create(
        repository=repository,
        at=now,
        bytes_used=found.bytes,
        bytes_free=free,
        bytes_total=total,
        points=RestorePoint.objects.kept().filter(repository=repository).count(),
        chunks=found.chunks,
    )


def measure_after(job_id: int) -> None:
    """Measure the repository of a job that has just ended, unless that was done minutes ago."""
    known = Job.objects.finished().filter(pk=job_id).values_list("params__repository", flat=True).first()
    repository = Repository.objects.filter(uuid=known).first() if known else None
    if repository is None:
        return
    since = timezone.now() - MEASURED_RECENTLY
    if not repository.measurements.filter(at__gte=since).exists():
        measure(repository)


def thin_measurements(repository: Repository) -> None:
    """Keep every measurement of a week, the last of each day before that, and nothing older than two years."""
    now = timezone.now()
    old = repository.measurements.filter(at__lt=now - KEEP_ALL).order_by("-at")
    seen: set[dt.date] = set()
    gone = []
    for key, at in old.values_list("pk", "at"):
        if at.date() in seen or at < now - KEEP_DAILY:
            gone.append(key)
        seen.add(at.date())
    RepositoryMeasurement.objects.filter(pk__in=gone).delete()


def look_after_all() -> None:
    """Beat's hourly round: measure each repository, and order what is due."""
    for repository in Repository.objects.all():
        measure(repository)
        thin_measurements(repository)
        repository.refresh_from_db()
        if repository.problem:
            continue
        if is_due(repository.collected_at or repository.created_at, settings.COLLECT_EVERY):
            start_collection(actor=None, repository=repository, via=Job.Via.SCHEDULE)
        if is_due(repository.verified_at or repository.created_at, settings.VERIFY_EVERY):
            verify_repository(actor=None, repository=repository, via=Job.Via.SCHEDULE)


def is_due(last: dt.datetime, every_seconds: int) -> bool:
    """Whether so long has passed since; never with 0."""
    return every_seconds > 0 and timezone.now() - last >= dt.timedelta(seconds=every_seconds)


@dataclass(frozen=True)
class RepositoryFacts:
    """What is known of a repository, from rows alone. `repository` carries the last check, collection and verification.

    `logical_bytes`: virtual size of the disks of all kept points. `measurements`: newest first.
    `growth_bytes_per_day` over the last month and `days_left` are None until they can be told.
    """

    repository: Repository
    points: int
    points_in_trash: int
    points_pinned: int
    points_held: int
    points_damaged: int
    points_verified: int
    machines: int
    logical_bytes: int
    measurements: list[RepositoryMeasurement]
    growth_bytes_per_day: float | None
    days_left: float | None
    active_jobs: list[Job]

    @property
    def latest(self) -> RepositoryMeasurement | None:
        return self.measurements[0] if self.measurements else None


def repository_facts(repository: Repository, *, measurements: int = 400) -> RepositoryFacts:
    """Three queries, however much there is; nothing is read from the repository itself."""
    kept = Q(deleted_at=None)
    counts = RestorePoint.objects.filter(repository=repository).aggregate(
        points=Count("pk", filter=kept),
        points_in_trash=Count("pk", filter=Q(deleted_at__isnull=False, purged_at=None)),
        points_pinned=Count("pk", filter=kept & Q(pinned_at__isnull=False)),
        points_held=Count("pk", filter=Q(held_at__isnull=False, purged_at=None)),
        points_damaged=Count("pk", filter=kept & ~Q(verify_problem="")),
        points_verified=Count("pk", filter=kept & Q(verify_problem="", verified_at__isnull=False)),
        machines=Count("vm", filter=kept, distinct=True),
        logical_bytes=Sum("size_bytes", filter=kept, default=0),
    )
    history = list(repository.measurements.order_by("-at", "-pk")[:measurements])
    growth = growth_per_day(history)
    free = history[0].bytes_free if history else None
    return RepositoryFacts(
        repository=repository,
        measurements=history,
        growth_bytes_per_day=growth,
        days_left=free / growth if free is not None and growth is not None and growth > 0 else None,
        active_jobs=list(
            Job.objects.active()
            .filter(params__repository=str(repository.uuid))
            .select_related("vm")
            .order_by("-pk")[:50]
        ),
        **counts,
    )


def growth_per_day(history: list[RepositoryMeasurement]) -> float | None:
    """Bytes by which `bytes_used` grew a day, over at most the last month; None before a day has been seen."""
    if not history:
        return None
    newest = history[0]
    first = min(
        (item for item in history if newest.at - item.at <= GROWTH_OVER),
        key=lambda item: item.at,
    )
    days = (newest.at - first.at) / dt.timedelta(days=1)
    return (newest.bytes_used - first.bytes_used) / days if days >= 1 else None
