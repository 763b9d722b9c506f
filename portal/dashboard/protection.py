# SPDX-License-Identifier: GPL-3.0-or-later
"""How well a machine is protected, in one word and one sentence."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from backups.models import RestorePoint, RestorePointQuerySet
from portal import wording
from portal.accounts.models import User
from portal.environments.models import VirtualMachine
from portal.jobs.models import Job, JobQuerySet
from portal.jobs.states import FINISHED, JobState

# A restore point older than this is stale, as long as no policy says otherwise.
FRESH = dt.timedelta(hours=36)
# What the Manager told us longer ago than this is not relied on.
KNOWN = dt.timedelta(minutes=30)
STATUSES = ("protected", "stale", "failing", "unprotected", "unknown")
DEFINITIONS = {
    "protected": "The newest restore point is at most 36 hours old, nothing was found wrong with it, no backup has "
    "failed since, its repository can be read, and the Manager told of the machine in the last 30 minutes.",
    "stale": "The newest restore point is older than 36 hours. No backup has failed since.",
    "failing": "The last backup failed, or the newest restore point was found damaged.",
    "unprotected": "There is no restore point.",
    "unknown": "It cannot be said: the repository of the newest restore point could not be read, or the Manager has "
    "not told of the machine for more than 30 minutes, or no longer lists it.",
}


@dataclass(frozen=True)
class Protection:
    """`status` is protected, stale, failing, unprotected or unknown. `failed_job` is the one to look at, `why` its error."""

    status: str
    sentence: str
    last_point_at: dt.datetime | None
    failed_job: uuid.UUID | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """One of very many machines: as much as counting and sorting need. `pk` and `environment` are primary keys.

    `doubt` is why a status is unknown: gone, unread (the repository) or unheard (the Manager).
    """

    pk: int
    name: str
    status: str
    last_point_at: dt.datetime | None
    environment: int
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class _Point:
    """A machine's newest restore point: `damage` and `unread` (why its repository could not be read) may be empty."""

    taken_at: dt.datetime
    damage: str
    unread: str


def machines_of(person: User) -> QuerySet[VirtualMachine]:
    """What the person may see and that is still there: on its Manager, or at least in a restore point."""
    seen = VirtualMachine.objects.filter(Q(gone_at=None) | Exists(_points_of_outer()))
    if person.reaches_every_machine:
        return seen
    # In a subquery, since its joins would repeat a machine for each of its teams.
    return seen.filter(pk__in=VirtualMachine.objects.visible_to(person).values("pk"))


def with_protection(vms: QuerySet[VirtualMachine]) -> QuerySet[VirtualMachine]:
    """Annotate what `protection` needs, in the same query: for one machine or a page of them."""
    points, backups = _points_of_outer(), _backups_of_outer()
    return vms.annotate(
        last_point_at=Subquery(points.values("taken_at")[:1]),
        last_point_mode=Subquery(points.values("mode")[:1]),
        last_point_verified=Subquery(points.values("verified_at")[:1]),
        last_point_damage=Subquery(points.values("verify_problem")[:1]),
        last_point_unread=Subquery(points.values("repository__problem")[:1]),
        last_backup_uuid=Subquery(backups.values("uuid")[:1]),
        last_backup_state=Subquery(backups.values("state")[:1]),
        last_backup_error=Subquery(backups.values("error_message")[:1]),
        last_backup_ended=Subquery(backups.values("finished_at")[:1]),
    )


def summaries(vms: QuerySet[VirtualMachine]) -> list[Summary]:
    """All of them in three queries without a model made: an index look-up each for its newest point and backup."""
    now = timezone.now()
    newest = vms.annotate(newest=Subquery(_points_of_outer().values("pk")[:1])).values("newest")
    points = {
        vm: _Point(taken_at, damage, unread)
        for vm, taken_at, damage, unread in RestorePoint.objects.filter(pk__in=newest)
        .order_by()
        .values_list("vm_id", "taken_at", "verify_problem", "repository__problem")
    }
    latest = vms.annotate(latest=Subquery(_backups_of_outer().values("pk")[:1])).values("latest")
    failed = dict(
        Job.objects.filter(pk__in=latest, state=JobState.FAILED)
        .order_by()
        .values_list("vm_id", "finished_at")
    )
    found = []
    columns = ("pk", "name", "environment", "gone_at", "seen_at")
    for pk, name, environment, gone_at, seen_at in vms.order_by().values_list(*columns):
        last = points.get(pk)
        status, doubt = _status(gone_at, seen_at, last, failed.get(pk), now)
        found.append(Summary(pk, name, status, last.taken_at if last else None, environment, doubt))
    return found


def _points_of_outer() -> RestorePointQuerySet:
    return RestorePoint.objects.kept().filter(vm=OuterRef("pk")).order_by("-taken_at")


def _backups_of_outer() -> JobQuerySet:
    return Job.objects.filter(vm=OuterRef("pk"), kind="vm_backup", state__in=FINISHED).order_by("-id")


def _status(
    gone_at: dt.datetime | None,
    seen_at: dt.datetime,
    last: _Point | None,
    failed_at: dt.datetime | None,
    now: dt.datetime,
) -> tuple[str, str]:
    """The status as DEFINITIONS has it, and the doubt of one that is unknown.

    `last` is the newest restore point; `failed_at` is None unless the last backup failed.
    """
    if gone_at is not None:
        return "unknown", "gone"
    if failed_at is not None and (last is None or failed_at > last.taken_at):
        return "failing", ""
    if last is None:
        return "unprotected", ""
    if last.damage:
        return "failing", ""
    if now - last.taken_at > FRESH:
        return "stale", ""
    if last.unread:
        return "unknown", "unread"
    return ("unknown", "unheard") if now - seen_at > KNOWN else ("protected", "")


def protection(vm: VirtualMachine) -> Protection:
    """Of a machine annotated by `with_protection`."""
    now = timezone.now()
    last = _last_point(vm)
    failed = vm.last_backup_state == JobState.FAILED  # type: ignore[attr-defined]
    failed_at: dt.datetime | None = vm.last_backup_ended if failed else None  # type: ignore[attr-defined]
    status, doubt = _status(vm.gone_at, vm.seen_at, last, failed_at, now)
    newest, at = _newest(vm, now), last.taken_at if last else None
    if status == "failing" and failed_at is not None and (last is None or failed_at > last.taken_at):
        error: str = vm.last_backup_error  # type: ignore[attr-defined]
        job: uuid.UUID = vm.last_backup_uuid  # type: ignore[attr-defined]
        return Protection(status, f"The last backup failed: {error} {newest}", at, job, error)
    if status == "failing" and last is not None:
        return Protection(status, f"The newest restore point is damaged: {last.damage}", at)
    if status == "unknown":
        return Protection(status, f"{_doubt(vm, doubt, last, now)} {newest}", at)
    return Protection(status, newest, at)


def _last_point(vm: VirtualMachine) -> _Point | None:
    taken_at: dt.datetime | None = vm.last_point_at  # type: ignore[attr-defined]
    if taken_at is None:
        return None
    return _Point(taken_at, vm.last_point_damage, vm.last_point_unread)  # type: ignore[attr-defined]


def _doubt(vm: VirtualMachine, doubt: str, last: _Point | None, now: dt.datetime) -> str:
    """Why it cannot be said how well the machine is protected."""
    if doubt == "gone":
        return "The Manager no longer lists this machine."
    if doubt == "unread" and last is not None:
        return "The repository of its newest restore point could not be read when it was last looked at."
    return f"The Manager last told of this machine {wording.ago(vm.seen_at, now)}."


def _newest(vm: VirtualMachine, now: dt.datetime) -> str:
    """`Last restore point 2 hours ago, incremental, verified yesterday.`"""
    last: dt.datetime | None = vm.last_point_at  # type: ignore[attr-defined]
    if last is None:
        return "There is no restore point yet."
    verified: dt.datetime | None = vm.last_point_verified  # type: ignore[attr-defined]
    mode: str = vm.last_point_mode  # type: ignore[attr-defined]
    proof = f"verified {wording.ago(verified, now)}" if verified else "not verified yet"
    if vm.last_point_damage:  # type: ignore[attr-defined]
        proof = "found damaged"
    return f"Last restore point {wording.ago(last, now)}, {mode}, {proof}."
