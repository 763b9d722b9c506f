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
    """One of very many machines: as much as counting and sorting need. `pk` is the machine's."""

    pk: int
    name: str
    status: str
    last_point_at: dt.datetime | None


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
        vm: (taken_at, damage)
        for vm, taken_at, damage in RestorePoint.objects.filter(pk__in=newest)
        .order_by()
        .values_list("vm_id", "taken_at", "verify_problem")
    }
    latest = vms.annotate(latest=Subquery(_backups_of_outer().values("pk")[:1])).values("latest")
    failed = dict(
        Job.objects.filter(pk__in=latest, state=JobState.FAILED)
        .order_by()
        .values_list("vm_id", "finished_at")
    )
    found = []
    for pk, name, gone_at, seen_at in vms.order_by().values_list("pk", "name", "gone_at", "seen_at"):
        last, damage = points.get(pk, (None, ""))
        status = _status(gone_at, seen_at, last, damage, failed.get(pk), now)
        found.append(Summary(pk, name, status, last))
    return found


def _points_of_outer() -> RestorePointQuerySet:
    return RestorePoint.objects.kept().filter(vm=OuterRef("pk")).order_by("-taken_at")


def _backups_of_outer() -> JobQuerySet:
    return Job.objects.filter(vm=OuterRef("pk"), kind="vm_backup", state__in=FINISHED).order_by("-id")


def _status(
    gone_at: dt.datetime | None,
    seen_at: dt.datetime,
    last: dt.datetime | None,
    damage: str,
    failed_at: dt.datetime | None,
    now: dt.datetime,
) -> str:
    """`last` and `damage` are of the newest restore point; `failed_at` is None unless the last backup failed."""
    if gone_at is not None:
        return "unknown"
    if failed_at is not None and (last is None or failed_at > last):
        return "failing"
    if last is None:
        return "unprotected"
    if damage:
        return "failing"
    if now - last > FRESH:
        return "stale"
    return "unknown" if now - seen_at > KNOWN else "protected"


def protection(vm: VirtualMachine) -> Protection:
    """Of a machine annotated by `with_protection`."""
    now = timezone.now()
    last: dt.datetime | None = vm.last_point_at  # type: ignore[attr-defined]
    damage: str = vm.last_point_damage or ""  # type: ignore[attr-defined]
    failed = vm.last_backup_state == JobState.FAILED  # type: ignore[attr-defined]
    failed_at: dt.datetime | None = vm.last_backup_ended if failed else None  # type: ignore[attr-defined]
    status = _status(vm.gone_at, vm.seen_at, last, damage, failed_at, now)
    newest = _newest(vm, now)
    if vm.gone_at is not None:
        return Protection(status, f"The Manager no longer lists this machine. {newest}", last)
    if status == "failing" and failed_at is not None and (last is None or failed_at > last):
        error: str = vm.last_backup_error  # type: ignore[attr-defined]
        job: uuid.UUID = vm.last_backup_uuid  # type: ignore[attr-defined]
        return Protection(status, f"The last backup failed: {error} {newest}", last, job, error)
    if status == "failing":
        return Protection(status, f"The newest restore point is damaged: {damage}", last)
    if status == "unknown":
        seen = wording.ago(vm.seen_at, now)
        return Protection(status, f"The Manager last told of this machine {seen}. {newest}", last)
    return Protection(status, newest, last)


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
