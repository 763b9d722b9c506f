# SPDX-License-Identifier: GPL-3.0-or-later
"""My machines and my restores: the pages of a person who is here for single machines, on a bad day or a good one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.core.paginator import Paginator
from django.db.models import F, QuerySet, Window
from django.db.models.functions import RowNumber
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from backups.models import RestorePoint
from portal import wording
from portal.accounts.models import User
from portal.accounts.roles import Capability
from portal.dashboard.presenters import with_params
from portal.dashboard.protection import Protection, machines_of, protection, with_protection
from portal.environments.models import VirtualMachine, VmGrant
from portal.jobs import presenters as job_words
from portal.jobs.models import Job
from portal.paging import list_page

PAGE_SIZE = 20
# Moments offered without another page; all of them are on the machine's own.
MOMENTS = 8


@dataclass
class MyMachine:
    """One machine in words. `good` are its newest restore points that are not known to be damaged, newest first."""

    vm: VirtualMachine
    protection: Protection
    good: list[RestorePoint] = field(default_factory=list)
    running: list[job_words.LiveJob] = field(default_factory=list)
    whose: str = ""
    may_restore: bool = False
    may_back_up: bool = False

    @property
    def last_good(self) -> RestorePoint | None:
        return self.good[0] if self.good else None

    @property
    def others(self) -> list[RestorePoint]:
        return self.good[1:]

    @property
    def trouble(self) -> str:
        return trouble(self.vm, self.protection, self.last_good)

    @property
    def being_backed_up(self) -> bool:
        return any(item.job.kind == "vm_backup" for item in self.running)


@require_safe
def mine(request: HttpRequest) -> HttpResponse:
    """Every machine that I may see, what is its last good restore point, what is wrong, and a button."""
    person = request.user
    assert isinstance(person, User)
    page = Paginator(machines_of(person).order_by("name", "pk"), PAGE_SIZE).get_page(request.GET.get("page"))
    keys = [vm.pk for vm in page]
    context = {
        "machines": _machines(person, keys),
        "page": page,
        "previous_url": _page_url(request, page.number - 1) if page.has_previous() else "",
        "next_url": _page_url(request, page.number + 1) if page.has_next() else "",
    }
    return render(request, "dashboard/mine.html", context)


def _page_url(request: HttpRequest, number: int) -> str:
    return with_params(request.GET, page=str(number))


@require_safe
def my_restores(request: HttpRequest) -> HttpResponse:
    """Restores of my machines and those that I asked for, newest first."""
    person = request.user
    assert isinstance(person, User)
    jobs = Job.objects.visible_to(person).filter(kind="vm_restore").select_related("vm")
    page = list_page(jobs, request.GET, "restore")
    context = {
        "page": page,
        "columns": job_words.LIST_COLUMNS,
        "rows": job_words.list_rows(page.rows),
    }
    return render(request, "dashboard/my_restores.html", context)


def _machines(person: User, keys: Sequence[int]) -> list[MyMachine]:
    """With everything that their words need, in as many queries for many as for one."""
    rows = with_protection(VirtualMachine.objects.filter(pk__in=keys)).select_related("environment")
    found = {vm.pk: MyMachine(vm, protection(vm)) for vm in rows.prefetch_related("teams")}
    for point in _newest_good(keys):
        found[point.vm_id].good.append(point)
    jobs = Job.objects.visible_to(person).active().filter(vm__in=keys).select_related("vm")
    for live in job_words.live(list(jobs)):
        assert live.job.vm_id is not None
        found[live.job.vm_id].running.append(live)
    grants = defaultdict(list)
    for grant in VmGrant.objects.filter(user=person, vm__in=keys):
        grants[grant.vm_id].append(grant)
    restore, back_up = (_allowed(person, capability, keys) for capability in _ACTS)
    for pk, machine in found.items():
        machine.whose = whose(grants[pk], machine.vm)
        machine.may_restore = pk in restore
        machine.may_back_up = pk in back_up and machine.vm.gone_at is None
    return [found[pk] for pk in keys if pk in found]


_ACTS = (Capability.RESTORE, Capability.BACK_UP)


def _allowed(person: User, capability: Capability, keys: Sequence[int]) -> set[int]:
    rows = VirtualMachine.objects.allowing(person, capability).filter(pk__in=keys)
    return set(rows.values_list("pk", flat=True))


def _newest_good(keys: Sequence[int]) -> QuerySet[RestorePoint]:
    newest = Window(RowNumber(), partition_by=F("vm"), order_by=[F("taken_at").desc(), F("pk").desc()])
    found: QuerySet[RestorePoint] = (
        RestorePoint.objects.kept()
        .filter(vm__in=keys, verify_problem="")
        .annotate(place=newest)
        .filter(place__lte=MOMENTS)
        .order_by("vm", "place")
        .prefetch_related("disks")
    )
    return found


def trouble(vm: VirtualMachine, state: Protection, last_good: RestorePoint | None) -> str:
    """What is wrong, and what that means for a restore; empty if nothing is."""
    now = timezone.now()
    if vm.gone_at is not None:
        still = " It can still be restored as a new machine." if last_good else ""
        return f"It was deleted on the Manager, or the Manager hides it.{still}"
    if state.status == "failing" and state.why:
        return f"The last backup failed: {state.why}"
    if state.status == "failing":
        return "Its newest restore point is damaged; the one offered here is older and not known to be."
    if state.status == "unprotected":
        return "It was never backed up, so nothing could be restored."
    if state.status == "stale" and state.last_point_at is not None:
        return f"It was not backed up since {wording.ago(state.last_point_at, now)}. What was written later would be lost."
    if state.status == "unknown":
        return f"The Manager last told of this machine {wording.ago(vm.seen_at, now)}."
    return ""


def whose(grants: Sequence[VmGrant], vm: VirtualMachine) -> str:
    """Why the person sees it: `Yours, because the Manager names you its owner.`"""
    sources = {grant.source for grant in grants}
    if VmGrant.Source.MANAGER in sources:
        return f"Yours, {VmGrant.Source.MANAGER.label}."
    if sources:
        return "You were given it by an administrator."
    teams = sorted(team.name for team in vm.teams.all())
    return f"Of the team{'' if len(teams) == 1 else 's'} {', '.join(teams)}." if teams else ""
