# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups: started here, and their jobs."""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import Q, QuerySet
from django.http import Http404
from rest_framework import serializers
from rest_framework.response import Response

from backups import services
from backups.models import Repository
from portal.api.filters import OrderBody
from portal.api.naming import VmField, vm_named
from portal.api.resources.jobs import JobParameters, JobSerializer, job_rows, narrowed_jobs
from portal.api.scopes import Scope
from portal.api.views import ActionView, ListView
from portal.jobs.models import Job


class BackupBody(OrderBody):
    vm = VmField()
    repository = serializers.CharField(
        required=False, help_text="A repository's uuid or exact name; the default one if not said."
    )
    full = serializers.BooleanField(
        required=False, default=False, help_text="In full, also where less would do."
    )


class Backups(ListView, ActionView):
    """Jobs that back up, with the same filters as all jobs."""

    scope = Scope.BACKUP
    serializer_class = JobSerializer
    parameters_class = JobParameters
    body_class = BackupBody

    def rows(self) -> QuerySet[Any]:
        return job_rows(self.person).filter(kind="vm_backup")

    def narrowed(self, rows: QuerySet[Any], parameters: dict[str, Any]) -> QuerySet[Any]:
        return narrowed_jobs(rows, parameters)  # type: ignore[arg-type]

    def act(self, said: dict[str, Any], **where: Any) -> Response:
        """Start a backup of all of a machine's disks that can be backed up."""
        job = services.start_vm_backup(
            actor=self.person,
            vm=vm_named(self.person, said["vm"]),
            repository=_repository(said["repository"]) if "repository" in said else None,
            full=said["full"],
            requested_for=said["requested_for"],
            ticket=said["ticket"],
            reason=said["reason"],
            via=Job.Via.API,
        )
        return self.accepted(self.get_serializer(job).data, job)


def _repository(given: str) -> Repository:
    """By uuid or name. Raises Http404."""
    try:
        wanted = Q(uuid=uuid.UUID(given))
    except ValueError:
        wanted = Q(name=given)
    found = Repository.objects.filter(wanted).first()
    if found is None:
        raise Http404
    return found
