# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs: everything that takes longer than an answer."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from portal.accounts.models import User
from portal.accounts.roles import Capability
from portal.api.errors import ScopeMissing
from portal.api.etags import tag_of_data
from portal.api.fields import LinkField, Reference, address_of
from portal.api.filters import ListParameters, WaitParameters
from portal.api.views import ActionView, ApiView, ListView
from portal.api.waiting import wait_until
from portal.jobs import services
from portal.jobs.models import Job, JobQuerySet
from portal.jobs.states import ACTIVE, FINISHED, JobState, StepState

ENDED_OR_WAITING = FINISHED | {JobState.WAITING}


class JobErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(source="error_code")
    message = serializers.CharField(source="error_message")
    hint = serializers.CharField(source="error_hint")
    retryable = serializers.BooleanField(source="error_retryable")
    reference = serializers.CharField(source="error_reference")


class JobSerializer(serializers.Serializer[Any]):
    url = LinkField("jobs")
    page = serializers.CharField(source="get_absolute_url", help_text="Its page for people.")
    uuid = serializers.UUIDField()
    kind = serializers.CharField(help_text="Like vm_backup, vm_restore, point_verify.")
    title = serializers.CharField()
    state = serializers.ChoiceField(choices=JobState.choices)
    waiting_for = serializers.CharField()
    environment = Reference("environments", allow_null=True)
    vm = Reference("vms", allow_null=True)
    requested_by = serializers.CharField(source="requested_by_name")
    requested_for = serializers.CharField()
    ticket = serializers.CharField()
    reason = serializers.CharField()
    via = serializers.ChoiceField(choices=Job.Via.choices)
    phase = serializers.CharField()
    bytes_done = serializers.IntegerField()
    bytes_total = serializers.IntegerField(allow_null=True)
    bytes_per_second = serializers.FloatField(allow_null=True)
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    cancel_requested_at = serializers.DateTimeField(allow_null=True)
    warnings = serializers.ListField(child=serializers.CharField())
    error = serializers.SerializerMethodField()
    points = serializers.SerializerMethodField(help_text="Addresses of the restore points that it made.")
    retry_of = serializers.SerializerMethodField(help_text="The address of the job that this one repeats.")

    @extend_schema_field(JobErrorSerializer(allow_null=True))
    def get_error(self, job: Job) -> dict[str, Any] | None:
        return dict(JobErrorSerializer(job).data) if job.error_code or job.error_message else None

    def get_points(self, job: Job) -> list[str]:
        return [address_of("points", point.uuid) for point in job.points.all()]

    def get_retry_of(self, job: Job) -> str | None:
        return address_of("jobs", job.retry_of.uuid) if job.retry_of else None


class StepSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    title = serializers.CharField()
    state = serializers.ChoiceField(choices=StepState.choices)
    detail = serializers.CharField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class JobDetailSerializer(JobSerializer):
    steps = StepSerializer(many=True)


class JobParameters(ListParameters):
    state = serializers.ChoiceField(choices=[("active", "Unfinished"), *JobState.choices], required=False)
    kind = serializers.CharField(required=False)
    vm = serializers.UUIDField(required=False)
    ticket = serializers.CharField(required=False, help_text="Exactly this ticket.")
    requested_by = serializers.CharField(required=False, help_text="Who asked: a user name.")
    requested_for = serializers.CharField(required=False, help_text="For whom: exactly what was said then.")
    reason = serializers.CharField(required=False, help_text="A part of the reason.")
    created_after = serializers.DateTimeField(required=False)
    created_before = serializers.DateTimeField(required=False)


_LOOKUPS = {
    "kind": "kind",
    "vm": "vm__uuid",
    "ticket": "ticket",
    "requested_by": "requested_by_name",
    "requested_for": "requested_for",
    "reason": "reason__icontains",
    "created_after": "created_at__gt",
    "created_before": "created_at__lt",
}


def job_rows(person: User) -> JobQuerySet:
    """What the serializers read, of everything that the person may see."""
    rows = Job.objects.visible_to(person).select_related("vm", "environment", "retry_of")
    return rows.prefetch_related("points")


def narrowed_jobs(rows: JobQuerySet, parameters: dict[str, Any]) -> JobQuerySet:
    wanted = Q(**{lookup: parameters[name] for name, lookup in _LOOKUPS.items() if name in parameters})
    state = parameters.get("state")
    if state:
        wanted &= Q(state__in=ACTIVE) if state == "active" else Q(state=state)
    return rows.filter(wanted)


class _Rows(ApiView):
    def rows(self) -> QuerySet[Any]:
        return job_rows(self.person)


class Jobs(_Rows, ListView):
    """Jobs on machines that you may see and those that you asked for, the newest first."""

    serializer_class = JobSerializer
    parameters_class = JobParameters

    def narrowed(self, rows: QuerySet[Any], parameters: dict[str, Any]) -> QuerySet[Any]:
        return narrowed_jobs(rows, parameters)  # type: ignore[arg-type]


class JobDetail(_Rows):
    """One job with its steps. With `wait` the answer comes when the job has ended or waits for a person; with
    If-None-Match too, as soon as anything about it has changed."""

    serializer_class = JobDetailSerializer
    parameters_class = WaitParameters

    def get(self, request: Request, uuid: UUID) -> Response:
        known = request.headers.get("If-None-Match", "")

        def look() -> dict[str, Any]:
            return dict(self.get_serializer(self.get_object()).data)

        def done(seen: dict[str, Any]) -> bool:
            return tag_of_data(seen) not in known if known else seen["state"] in ENDED_OR_WAITING

        seen, waited = wait_until(look, done, seconds=self.parameters.get("wait", 0))
        return Response(seen, headers={} if waited else {"Retry-After": "5"})


class _Steering(_Rows, ActionView):
    """What a job may be steered by needs the token's scope for the job's own kind of work."""

    serializer_class = JobSerializer

    def steered(self) -> Job:
        """Raises Http404, ScopeMissing."""
        job: Job = self.get_object()
        if job.vm is not None and not self.person.keeps(Capability(job.capability)):
            raise ScopeMissing(
                "This token does not have the scope that a job of this kind needs; nothing was changed.",
                hint="Make a token with that scope.",
            )
        return job


class JobCancel(_Steering):
    """Ends a job that has not begun at once, asks a running one to clean up and end. Gives the job as it is then."""

    answers = 200

    def act(self, said: dict[str, Any], **where: Any) -> Response:
        services.cancel_job(actor=self.person, job=self.steered(), via=Job.Via.API)
        return Response(self.get_serializer(self.get_object()).data)


class JobRetry(_Steering):
    """A new job with the order of one that failed or was cancelled."""

    def act(self, said: dict[str, Any], **where: Any) -> Response:
        job = services.retry_job(actor=self.person, job=self.steered(), via=Job.Via.API)
        return self.accepted(self.get_serializer(job).data, job)
