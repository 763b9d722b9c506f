# SPDX-License-Identifier: GPL-3.0-or-later
"""How well a machine is protected, in one word and one sentence."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

from django.db.models import OuterRef, QuerySet, Subquery
from django.utils import timezone

from backups.models import RestorePoint
from portal import wording
from portal.environments.models import VirtualMachine
from portal.jobs.models import Job
from portal.jobs.states import FINISHED

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


def with_protection(vms: QuerySet[VirtualMachine]) -> QuerySet[VirtualMachine]:
    """Annotate what `protection` needs, in the same query."""
    points = RestorePoint.objects.kept().filter(vm=OuterRef("pk")).order_by("-taken_at")
    backups = Job.objects.filter(vm=OuterRef("pk"), kind="vm_backup", state__in=FINISHED).order_by("-id")
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


def protection(vm: VirtualMachine) -> Protection:
    """Of a machine annotated by `with_protection`."""
    last: dt.datetime | None = vm.last_point_at  # type: ignore[attr-defined]
    damage: str = vm.last_point_damage or ""  # type: ignore[attr-defined]
    failed = vm.last_backup_state == "failed"  # type: ignore[attr-defined]
    now = timezone.now()
    newest = _newest(vm, now)
    if vm.gone_at is not None:
        return Protection("unknown", f"The Manager no longer lists this machine. {newest}", last)
    if failed and (last is None or vm.last_backup_ended > last):  # type: ignore[attr-defined]
        error: str = vm.last_backup_error  # type: ignore[attr-defined]
        job: uuid.UUID = vm.last_backup_uuid  # type: ignore[attr-defined]
        return Protection("failing", f"The last backup failed: {error} {newest}", last, job, error)
    if last is None:
        return Protection("unprotected", newest, None)
    if damage:
        return Protection("failing", f"The newest restore point is damaged: {damage}", last)
    if now - last > FRESH:
        return Protection("stale", newest, last)
    if now - vm.seen_at > KNOWN:
        seen = wording.ago(vm.seen_at, now)
        return Protection("unknown", f"The Manager last told of this machine {seen}. {newest}", last)
    return Protection("protected", newest, last)


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
