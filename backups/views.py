# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting a backup, and one restore point."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from backups import presenters, services
from backups.commands import casync_commands
from backups.models import Repository, RestorePoint
from portal.accounts.models import User
from portal.accounts.roles import Capability
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
    deleted = found.deleted_at is not None
    context = {
        "point": found,
        "vm": found.vm,
        "verdict": presenters.verdict(found, len(disks)),
        "facts": presenters.facts(found),
        "disk_columns": presenters.DISK_COLUMNS,
        "disk_rows": presenters.disk_rows(disks),
        "warnings": found.job.warnings if found.job else [],
        "commands": [] if deleted else casync_commands(found, disks),
        "may_restore": not deleted and found.allows(person, Capability.RESTORE),
        "may_verify": not deleted and found.allows(person, Capability.VERIFY),
        "may_delete": not deleted and found.allows(person, Capability.DELETE_POINTS),
        "restores": list(found.restores.select_related("job")[:10]),
    }
    return render(request, "backups/point.html", context)


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
    services.delete_restore_point(
        actor=_person(request), point=found, reason=request.POST.get("reason", "")[:500]
    )
    messages.success(request, "The restore point was moved to the repository's trash.")
    return redirect(found.vm)
