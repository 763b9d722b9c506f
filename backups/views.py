# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting a backup, and one restore point."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from backups import presenters, services
from backups.commands import casync_commands
from backups.models import Repository, RestorePoint
from portal.accounts.models import User
from portal.accounts.roles import Capability
from portal.audit.models import AuditEntry
from portal.environments.models import VirtualMachine


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


def _point(request: HttpRequest, point_uuid: uuid.UUID) -> RestorePoint:
    rows = RestorePoint.objects.visible_to(_person(request)).select_related(
        "vm__environment", "repository", "job__vm"
    )
    return get_object_or_404(rows, uuid=point_uuid)


@require_POST
def back_up(request: HttpRequest, vm_uuid: uuid.UUID) -> HttpResponse:
    vm = get_object_or_404(VirtualMachine.objects.visible_to(_person(request)), uuid=vm_uuid)
    job = services.start_vm_backup(
        actor=_person(request),
        vm=vm,
        repository=_repository(request.POST.get("repository", "")),
        full=request.POST.get("full") == "yes",
        ticket=request.POST.get("ticket", "")[:100],
        reason=request.POST.get("reason", ""),
    )
    return redirect(job)


def _repository(given: str) -> Repository | None:
    """The chosen one; None, which is the default, where nothing was chosen. Raises Http404."""
    if not given:
        return None
    try:
        return get_object_or_404(Repository, uuid=uuid.UUID(given))
    except ValueError as error:
        raise Http404 from error


@require_safe
def point(request: HttpRequest, point_uuid: uuid.UUID) -> HttpResponse:
    found = _point(request, point_uuid)
    person = _person(request)
    disks = list(found.disks.all())
    restores = list(found.restores.select_related("job")[:10])
    deleted = found.deleted_at is not None
    base = _base_of(found)
    context = {
        "point": found,
        "vm": found.vm,
        "verdict": presenters.verdict(found, len(disks)),
        "facts": presenters.facts(found, base, repository_page=person.is_platform_admin),
        "disk_columns": presenters.DISK_COLUMNS,
        "disk_rows": presenters.disk_rows(disks),
        "excluded": found.excluded_disks,
        "warnings": found.job.warnings if found.job else [],
        "commands": [] if deleted else casync_commands(found, disks),
        "may": _may(found, person),
        "restores": restores,
        "history": presenters.history(found, restores, _recorded(found, person)),
    }
    return render(request, "backups/point.html", context)


def _base_of(point: RestorePoint) -> RestorePoint | None:
    """The restore point that this one went on from, also if it was deleted since: it is complete without it."""
    if point.from_checkpoint_id is None:
        return None
    return RestorePoint.objects.filter(vm=point.vm, checkpoint_id=point.from_checkpoint_id).first()


def _may(point: RestorePoint, person: User) -> dict[str, bool]:
    """Which actions the page offers: what the role allows and the point's state makes sense of."""
    kept, there = point.deleted_at is None, point.purged_at is None
    holds = there and point.allows(person, Capability.HOLD_POINTS)
    pins = kept and point.allows(person, Capability.PIN_POINTS)
    deletes = there and point.allows(person, Capability.DELETE_POINTS)
    return {
        "restore": kept and point.allows(person, Capability.RESTORE),
        "verify": kept and point.allows(person, Capability.VERIFY),
        "pin": pins and point.pinned_at is None,
        "unpin": pins and point.pinned_at is not None,
        "hold": holds and point.held_at is None,
        "release": holds and point.held_at is not None,
        "delete": kept and deletes and point.held_at is None,
        "undelete": not kept and deletes,
    }


def _recorded(point: RestorePoint, person: User) -> list[AuditEntry]:
    """What was done to the point and by whom, for those who may read the history."""
    if not point.allows(person, Capability.READ_AUDIT):
        return []
    return list(AuditEntry.objects.filter(object_id=str(point.uuid), action__startswith="point.")[:50])


@require_POST
def verify(request: HttpRequest, point_uuid: uuid.UUID) -> HttpResponse:
    return redirect(services.verify_restore_point(actor=_person(request), point=_point(request, point_uuid)))


@require_POST
def delete(request: HttpRequest, point_uuid: uuid.UUID) -> HttpResponse:
    """Asks for the machine's name typed, since the grace period in the trash ends."""
    found = _point(request, point_uuid)
    if request.POST.get("confirm_name", "").strip() != found.vm_name:
        messages.error(request, f"To delete the restore point, type the machine's name: {found.vm_name}.")
        return redirect(found)
    services.delete_restore_point(actor=_person(request), point=found, reason=_reason(request))
    messages.success(request, "The restore point was moved to the repository's trash.")
    return redirect(found.vm)


def _reason(request: HttpRequest) -> str:
    return request.POST.get("reason", "").strip()[:500]


def _mark(
    request: HttpRequest, point_uuid: uuid.UUID, change: Callable[..., None], told: str
) -> HttpResponse:
    """Change what is said about the point, for the reason given, and tell so on its page."""
    found = _point(request, point_uuid)
    change(actor=_person(request), point=found, reason=_reason(request))
    messages.success(request, told)
    return redirect(found)


@require_POST
def pin(request: HttpRequest, point_uuid: uuid.UUID) -> HttpResponse:
    return _mark(request, point_uuid, services.pin_point, "The restore point is pinned: no rule deletes it.")


@require_POST
def unpin(request: HttpRequest, point_uuid: uuid.UUID) -> HttpResponse:
    told = "The restore point is no longer pinned: rules may delete it again."
    return _mark(request, point_uuid, services.unpin_point, told)


@require_POST
def hold(request: HttpRequest, point_uuid: uuid.UUID) -> HttpResponse:
    told = "The restore point is held: nobody deletes it until the hold is released."
    return _mark(request, point_uuid, services.hold_point, told)


@require_POST
def release(request: HttpRequest, point_uuid: uuid.UUID) -> HttpResponse:
    return _mark(request, point_uuid, services.release_hold, "The hold was released.")


@require_POST
def undelete(request: HttpRequest, point_uuid: uuid.UUID) -> HttpResponse:
    told = "The restore point was taken back out of the trash."
    return _mark(request, point_uuid, services.undelete_point, told)
