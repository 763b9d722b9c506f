# SPDX-License-Identifier: GPL-3.0-or-later
"""A second person's consent, where a team asks for it: who must be asked, who may decide, what follows.

A team may ask for it for every restore of its machines, or only for those of restore points that were made while the
machine was another team's: then the admins of that other team decide. The job waits, without any lock, and nothing is
made until somebody else agrees; a worker looks once more before it begins.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from backups.models import RestorePoint
from portal import wording
from portal.accounts.models import Team
from portal.accounts.roles import Capability
from portal.audit import services as audit
from portal.errors import NotAllowed
from portal.jobs import services as jobs
from portal.jobs.models import Job
from restores.errors import AlreadyDecided, ApprovalExpired, ApprovalMissing, ApprovalRefused
from restores.models import Approval, Restore

MAX_WHY = 500


@dataclass(frozen=True)
class Needed:
    """Why a second person must agree, and the teams whose admins may."""

    because: str
    teams: Sequence[Team]


def needed_for(point: RestorePoint) -> Needed | None:
    """Whether a restore of this point waits for a second person. Two queries at most."""
    now = list(point.vm.teams.all())
    then = list(Team.objects.filter(uuid__in=point.teams_then)) if point.teams_then else []
    crossing = bool(point.teams_then) and not {str(team.uuid) for team in now} & set(point.teams_then)
    if crossing and any(team.approval != Team.Approval.NEVER for team in [*now, *then]):
        whose = ", ".join(team.name for team in then) or "a team that is no longer here"
        return Needed(f"The machine belonged to {whose} when this restore point was made.", then)
    strict = [team for team in now if team.approval == Team.Approval.EVERY]
    if strict:
        names = ", ".join(team.name for team in strict)
        return Needed(f"{names} asks for a second person's consent to every restore.", strict)
    return None


def ask(restore: Restore, needed: Needed) -> Approval:
    """Write down that the restore's waiting job needs consent. In the transaction that makes the job."""
    expires_at = timezone.now() + dt.timedelta(hours=settings.APPROVAL_HOURS)
    approval = Approval.objects.create(restore=restore, because=needed.because, expires_at=expires_at)
    approval.teams.set(needed.teams)
    Job.objects.filter(pk=restore.job_id).update(waiting_url=approval.get_absolute_url())
    return approval


def waiting_for(needed: Needed) -> str:
    """What the job says that it waits for."""
    who = (
        f"an admin of {', '.join(team.name for team in needed.teams)}" if needed.teams else "a platform admin"
    )
    return f"Waiting for {who} to approve it: {needed.because}"[:300]


def approve(*, actor: Any, restore: Restore, why: str = "", via: str = Job.Via.PAGE) -> Job:
    """Let the restore begin. Raises NotAllowed, AlreadyDecided, ApprovalMissing (its requester lost the right)."""
    with transaction.atomic():
        approval = _decidable(actor, restore)
        _require_still_allowed(restore)
        _decide(approval, Approval.Decision.APPROVED, actor, why)
        if not jobs.go_on(restore.job):
            raise _over()
        _record("restore.approve", actor, restore, why, via)
    restore.job.refresh_from_db()
    return restore.job


def refuse(*, actor: Any, restore: Restore, why: str, via: str = Job.Via.PAGE) -> Job:
    """End the restore before it began. `why` is told to its requester. Raises NotAllowed, AlreadyDecided."""
    why = why.strip()[:MAX_WHY]
    with transaction.atomic():
        approval = _decidable(actor, restore)
        _decide(approval, Approval.Decision.REFUSED, actor, why)
        said = f": {why}" if why else "."
        problem = ApprovalRefused(
            f"{actor.get_username()} did not approve this restore{said} Nothing was made.",
            hint="Speak with them, then order it again.",
        )
        if not jobs.end_waiting(restore.job, problem):
            raise _over()
        _record("restore.refuse", actor, restore, why, via)
    restore.job.refresh_from_db()
    return restore.job


def expire() -> int:
    """End restores that nobody decided in time; for beat. Returns how many."""
    late = Approval.objects.undecided().filter(expires_at__lte=timezone.now())
    return sum(_expire(approval) for approval in late.select_related("restore__job__vm", "restore__point"))


def _expire(approval: Approval) -> bool:
    with transaction.atomic():
        row = Approval.objects.select_for_update().undecided().filter(pk=approval.pk).first()
        if row is None:
            return False
        _decide(row, Approval.Decision.EXPIRED, None, "")
        asked = wording.duration((row.expires_at - row.asked_at).total_seconds())
        problem = ApprovalExpired(
            f"Nobody approved this restore within {asked}. Nothing was made.",
            hint="Order it again and tell those who may approve it.",
        )
        if jobs.end_waiting(approval.restore.job, problem):
            _record("restore.expire", None, approval.restore, "", "schedule")
    return True


def require_consent(restore: Restore) -> None:
    """Before a worker makes anything: no way around the second person, also not by repeating a job.

    A repeated job goes on by the consent to the one that it repeats: its plan is the same. Raises ApprovalMissing.
    """
    if needed_for(restore.point) is None and not hasattr(restore, "approval"):
        return
    job: Job | None = restore.job
    while job is not None:
        found = Approval.objects.filter(restore__job=job).first()
        if found is not None:
            if found.decision == Approval.Decision.APPROVED:
                return
            break
        job = job.retry_of
    raise ApprovalMissing(
        "This restore needs a second person's consent and has none, so nothing was made.",
        hint="Order it again from its restore point; it then waits for somebody to approve it.",
    )


def _decidable(actor: Any, restore: Restore) -> Approval:
    """The restore's approval, locked, if `actor` may decide it now. Raises NotAllowed, AlreadyDecided."""
    approval = Approval.objects.select_for_update().filter(restore=restore).first()
    if approval is None:
        raise AlreadyDecided("This restore needs nobody's consent.", hint="Look at its job.")
    if not Approval.objects.filter(pk=approval.pk).decidable_by(actor).exists():
        own = restore.job.requested_by_id == actor.pk
        raise NotAllowed(
            "Nobody approves their own restore; it still waits."
            if own
            else "Your role does not allow to decide this restore; it still waits.",
            hint="Ask another admin of the team, or a platform admin.",
        )
    if approval.decided_at is not None or approval.expires_at <= timezone.now():
        raise _over()
    return approval


def _over() -> AlreadyDecided:
    return AlreadyDecided(
        "This restore no longer waits: somebody else decided, it was cancelled, or its time ran out.",
        hint="Look at its job.",
    )


def _require_still_allowed(restore: Restore) -> None:
    """Who ordered it must still be allowed to: else consent would give what a role no longer does."""
    person = restore.job.requested_by
    if person is not None and not restore.point.allows(person, Capability.RESTORE):
        raise ApprovalMissing(
            f"{person.get_username()} may no longer restore this machine, so nothing was started.",
            hint="Refuse it; who still may can order it anew.",
        )


def _decide(approval: Approval, decision: str, actor: Any, why: str) -> None:
    Approval.objects.filter(pk=approval.pk).update(
        decision=decision,
        decided_at=timezone.now(),
        decided_by=actor.get_username() if actor is not None else "",
        decided_why=why.strip()[:MAX_WHY],
    )


def _record(action: str, actor: Any, restore: Restore, why: str, via: str) -> None:
    job = restore.job
    audit.record(
        action,
        actor=actor,
        subject=restore.point,
        via=via,
        ticket=job.ticket,
        job=str(job.uuid),
        target=restore.target_name,
        plan_hash=restore.plan_hash,
        requested_by=job.requested_by_name,
        reason=why,
    )
