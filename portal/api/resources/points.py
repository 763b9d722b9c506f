# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore points."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from backups import services
from backups.models import RestorePoint, RestorePointQuerySet
from portal.accounts.models import User
from portal.api.fields import LinkField, Reference, address_of
from portal.api.filters import ListParameters, named_or_uuid
from portal.api.naming import point_of_vm
from portal.api.resources.jobs import JobSerializer
from portal.api.scopes import Scope
from portal.api.views import ActionView, ApiView, DetailView, ListView
from portal.environments.models import VirtualMachine
from portal.jobs.models import Job
from portal.paging import Order


class Mark(serializers.Serializer[Any]):
    """A pin or a legal hold, or the deletion."""

    at = serializers.DateTimeField()
    by = serializers.CharField()
    why = serializers.CharField(allow_blank=True)


class ExcludedDisk(serializers.Serializer[Any]):
    disk_id = serializers.CharField()
    alias = serializers.CharField()
    reason = serializers.CharField()


class PointSerializer(serializers.Serializer[Any]):
    url = LinkField("points")
    uuid = serializers.UUIDField()
    vm = Reference("vms")
    repository = serializers.CharField(source="repository.name", help_text="The repository's name.")
    taken_at = serializers.DateTimeField()
    method = serializers.CharField()
    mode = serializers.ChoiceField(choices=RestorePoint.Mode.choices)
    reason = serializers.CharField(help_text="Why it was read in full or incrementally.")
    consistency = serializers.CharField()
    size_bytes = serializers.IntegerField()
    bytes_read = serializers.IntegerField()
    bytes_stored = serializers.IntegerField()
    duration_seconds = serializers.FloatField()
    excluded_disks = ExcludedDisk(many=True)
    job = serializers.SerializerMethodField(
        help_text="The address of the job that made it, if it is still known."
    )
    verified_at = serializers.DateTimeField(allow_null=True)
    verify_problem = serializers.CharField(
        help_text="What the last verification found damaged; empty if nothing."
    )
    pinned = serializers.SerializerMethodField()
    held = serializers.SerializerMethodField()
    deleted = serializers.SerializerMethodField()
    purged_at = serializers.DateTimeField(allow_null=True)

    def get_job(self, point: RestorePoint) -> str | None:
        return address_of("jobs", point.job.uuid) if point.job else None

    @extend_schema_field(Mark(allow_null=True))
    def get_pinned(self, point: RestorePoint) -> dict[str, Any] | None:
        return _mark(point.pinned_at, point.pinned_by, point.pinned_why)

    @extend_schema_field(Mark(allow_null=True))
    def get_held(self, point: RestorePoint) -> dict[str, Any] | None:
        return _mark(point.held_at, point.held_by, point.held_why)

    @extend_schema_field(Mark(allow_null=True))
    def get_deleted(self, point: RestorePoint) -> dict[str, Any] | None:
        return _mark(point.deleted_at, point.deleted_by, point.deleted_why)


def _mark(at: dt.datetime | None, by: str, why: str) -> dict[str, Any] | None:
    return dict(Mark({"at": at, "by": by, "why": why}).data) if at else None


class PointDiskSerializer(serializers.Serializer[Any]):
    manager_id = serializers.UUIDField()
    alias = serializers.CharField()
    size_bytes = serializers.IntegerField()
    format = serializers.CharField()
    bootable = serializers.BooleanField()
    mode = serializers.ChoiceField(choices=RestorePoint.Mode.choices)
    reason = serializers.CharField()
    bytes_read = serializers.IntegerField()
    bytes_stored = serializers.IntegerField()
    digest = serializers.CharField(help_text="Proves equality after a restore (docs/store-format.md).")


class PointDetailSerializer(PointSerializer):
    disks = PointDiskSerializer(many=True)


class PointParameters(ListParameters):
    vm = serializers.UUIDField(required=False, help_text="Of this machine.")
    environment = serializers.CharField(required=False, help_text="A Manager's uuid or exact name.")
    taken_after = serializers.DateTimeField(required=False)
    taken_before = serializers.DateTimeField(required=False)
    mode = serializers.ChoiceField(choices=RestorePoint.Mode.choices, required=False)
    deleted = serializers.BooleanField(
        required=False, default=False, help_text="Those in the trash and the records of purged ones instead."
    )


def point_rows(person: User) -> RestorePointQuerySet:
    """What the serializers read, of everything that the person may see."""
    return RestorePoint.objects.visible_to(person).select_related("vm__environment", "repository", "job")


class _Rows(ApiView):
    def rows(self) -> QuerySet[Any]:
        return point_rows(self.person)


class Points(_Rows, ListView):
    """Restore points of machines that you may see, the newest first."""

    serializer_class = PointSerializer
    parameters_class = PointParameters
    order = Order(("taken_at", "id"))

    def narrowed(self, rows: QuerySet[Any], parameters: dict[str, Any]) -> QuerySet[Any]:
        rows = rows.filter(deleted_at__isnull=not parameters["deleted"])
        wanted = {
            lookup: parameters[name]
            for name, lookup in (
                ("vm", "vm__uuid"),
                ("taken_after", "taken_at__gt"),
                ("taken_before", "taken_at__lt"),
                ("mode", "mode"),
            )
            if name in parameters
        }
        if "environment" in parameters:
            rows = rows.filter(named_or_uuid("vm__environment", parameters["environment"]))
        return rows.filter(**wanted)


class PointDetail(_Rows, DetailView):
    """One restore point with its disks."""

    serializer_class = PointDetailSerializer


class VmPoint(_Rows):
    """A machine's restore point by `latest`, by `before:TIME` (the newest one taken before then) or by its uuid."""

    serializer_class = PointDetailSerializer

    def get(self, request: Request, uuid: UUID, which: str) -> Response:
        vm = get_object_or_404(VirtualMachine.objects.visible_to(self.person), uuid=uuid)
        point = point_of_vm(self.rows(), vm, which)  # type: ignore[arg-type]
        return Response(self.get_serializer(point).data)


class PointAction(_Rows, ActionView):
    """Something done to one restore point. Gives the point as it is then."""

    serializer_class = PointSerializer
    answers = 200
    verb: Callable[..., None]

    def act(self, said: dict[str, Any], **where: Any) -> Response:
        point = self.get_object()
        type(self).verb(actor=self.person, point=point, reason=said["reason"], via=Job.Via.API)
        return Response(self.get_serializer(self.get_object()).data)


class PointPin(PointAction):
    """No rule deletes it any more; people may."""

    scope = Scope.BACKUP
    verb = services.pin_point


class PointUnpin(PointAction):
    """Rules may delete it again."""

    scope = Scope.BACKUP
    verb = services.unpin_point


class PointHold(PointAction):
    """A legal hold: nobody deletes it until the hold is released. Needs a reason."""

    scope = Scope.ADMIN
    verb = services.hold_point


class PointRelease(PointAction):
    """Ends a legal hold. Needs a reason."""

    scope = Scope.ADMIN
    verb = services.release_hold


class PointDelete(PointAction):
    """Moves it to the repository's trash, from where it can be had back for a while."""

    scope = Scope.ADMIN
    verb = services.delete_restore_point


class PointUndelete(PointAction):
    """Takes it back out of the trash."""

    scope = Scope.ADMIN
    verb = services.undelete_point


class PointVerify(_Rows, ActionView):
    """Reads it again in full and compares; a job."""

    scope = Scope.BACKUP
    serializer_class = JobSerializer

    def act(self, said: dict[str, Any], **where: Any) -> Response:
        job = services.verify_restore_point(
            actor=self.person, point=self.get_object(), via=Job.Via.API, **said
        )
        return self.accepted(self.get_serializer(job).data, job)
