# SPDX-License-Identifier: GPL-3.0-or-later
"""What a team may take up: restore points, the bytes that they reference, and restores at once.

Referenced are the bytes of all chunks of a point's disks that are not zeros, before deduplication: the same whether
others keep the same data or not, so a team's use never changes by what another team does.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from backups.errors import QuotaReached
from backups.models import RestorePoint
from backups.store.chunks import zero_chunk_id
from backups.store.errors import StoreError
from backups.store.stored import StoredPoint
from portal import wording
from portal.accounts.models import Team
from portal.environments.models import VirtualMachine
from portal.jobs.models import Job

RESTORE_KIND = "vm_restore"


@dataclass(frozen=True)
class Usage:
    """`restores`: those that are not over, also those that wait."""

    points: int
    bytes: int
    restores: int


def usage_of(team: Team) -> Usage:
    """Two queries."""
    machines = _machines(team)
    kept = RestorePoint.objects.kept().filter(vm__in=machines)
    found = kept.aggregate(total=Sum(Coalesce("referenced_bytes", "bytes_stored")), points=Count("pk"))
    return Usage(found["points"], found["total"] or 0, _restores(team).count())


def _machines(team: Team) -> QuerySet[VirtualMachine]:
    return VirtualMachine.objects.filter(teams=team)


def _restores(team: Team) -> QuerySet[Job]:
    return Job.objects.active().filter(kind=RESTORE_KIND, vm__in=_machines(team))


def require_room_for_a_point(vm: VirtualMachine) -> None:
    """Before a backup of the machine is ordered. Raises QuotaReached."""
    limited = vm.teams.filter(Q(quota_points__isnull=False) | Q(quota_bytes__isnull=False))
    for team in limited:
        usage = usage_of(team)
        if team.quota_points is not None and usage.points >= team.quota_points:
            raise _reached(
                team, f"{wording.counted(usage.points, 'restore point')} of at most {team.quota_points:,}"
            )
        if team.quota_bytes is not None and usage.bytes >= team.quota_bytes:
            raise _reached(
                team,
                f"{wording.size(usage.bytes)} of restore points of at most {wording.size(team.quota_bytes)}",
            )


def require_room_for_a_restore(vm: VirtualMachine) -> None:
    """In the transaction that orders a restore: the teams' rows are locked until it ends. Raises QuotaReached."""
    limited = (
        Team.objects.filter(vms=vm).exclude(quota_restores=None).order_by("pk").values_list("pk", flat=True)
    )
    for team in Team.objects.select_for_update().filter(pk__in=list(limited)).order_by("pk"):
        running = _restores(team).count()
        if team.quota_restores is not None and running >= team.quota_restores:
            raise QuotaReached(
                f"{team.name} has {wording.counted(running, 'restore')} under way of at most "
                f"{team.quota_restores:,} at once; nothing was started.",
                hint="Wait for one to end, or ask a platform admin for more.",
            )


def _reached(team: Team, used: str) -> QuotaReached:
    return QuotaReached(
        f"{team.name} uses {used}, so nothing was started.",
        hint="Delete restore points that are no longer needed, or ask a platform admin for more.",
    )


def referenced_bytes(stored: StoredPoint) -> int | None:
    """Of a published point, from its indexes alone; None if they cannot be read. About a second for 10 TiB."""
    total = 0
    try:
        for disk_id in stored.disk_ids:
            with stored.index(disk_id) as index:
                last = len(index) - 1
                full, zero = index.chunk_size, zero_chunk_id(index.chunk_size)
                last_id = b""
                for last_id in index:
                    total += full if last_id != zero else 0
                if last >= 0:
                    # The last chunk may be shorter, and then has another id when it is all zeros.
                    rest = index.length_of(last)
                    total -= full if last_id != zero else 0
                    total += rest if last_id != zero_chunk_id(rest) else 0
    except StoreError:
        return None
    return total
