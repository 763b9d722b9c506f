# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores: planned, then started by the plan's hash."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.response import Response

from backups.models import RestorePoint
from portal.api.fields import LinkField
from portal.api.filters import ListParameters, OrderBody
from portal.api.naming import VmField, point_named
from portal.api.resources.jobs import JobSerializer
from portal.api.resources.points import point_rows
from portal.api.scopes import Scope
from portal.api.views import ActionView, ApiView, DetailView, ListView
from portal.jobs.models import Job
from portal.jobs.states import ACTIVE, JobState
from portal.ovirt.new_vm import MAX_VM_NAME
from restores import access, approvals, services
from restores.models import Approval, Restore
from restores.plans import RestorePlan, plan_new_vm, suggested_name


class PlanBody(OrderBody):
    """What to restore and how. Send the same again, with the plan's hash, to start it."""

    vm = VmField(required=False)
    point = serializers.CharField(
        max_length=80, help_text="A restore point's uuid; with `vm` also `latest` or `before:TIME`."
    )
    name = serializers.CharField(
        required=False,
        max_length=MAX_VM_NAME,
        help_text="Of the new machine; a free one is found if not said.",
    )
    cluster = serializers.CharField(
        required=False, default="", help_text="A cluster's id; as before if not said."
    )
    storage_domain = serializers.CharField(
        required=False, default="", help_text="A storage domain's id; as before if not said."
    )
    network = serializers.ChoiceField(
        choices=["unplugged", "plugged"],
        required=False,
        default="unplugged",
        help_text="Unplugged, the new machine cannot disturb the old one.",
    )
    macs = serializers.ChoiceField(choices=["new", "original"], required=False, default="new")
    people = serializers.ChoiceField(
        choices=["same", "nobody"],
        required=False,
        default="same",
        help_text="Whether the same people have the same rights on the new machine, on the Manager and here.",
    )


class RestoreBody(PlanBody):
    plan_hash = serializers.CharField(max_length=64, help_text="Of the plan that was looked at.")


class PlanDocument(serializers.Serializer[Any]):
    """Nothing can be started while there is a blocker."""

    plan_hash = serializers.CharField()
    point = serializers.UUIDField()
    name = serializers.CharField()
    blockers = serializers.ListField(child=serializers.CharField())
    warnings = serializers.ListField(child=serializers.CharField())
    total_bytes = serializers.IntegerField()
    plan = serializers.DictField(help_text="All that the hash is of.")


class ApprovalSerializer(serializers.Serializer[Any]):
    """Whose consent a restore waits for, or what was decided. `decision` is empty until then."""

    because = serializers.CharField()
    asked_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    decision = serializers.CharField(help_text="approved, refused, expired, or empty.")
    decided_at = serializers.DateTimeField(allow_null=True)
    decided_by = serializers.CharField()
    decided_why = serializers.CharField()


class RestoreSerializer(serializers.Serializer[Any]):
    url = LinkField("restores")
    uuid = serializers.UUIDField()
    point = LinkField("points", source="point.uuid", help_text="The restore point's address.")
    method = serializers.CharField()
    target_name = serializers.CharField()
    plan_hash = serializers.CharField()
    new_vm_id = serializers.UUIDField(allow_null=True, help_text="The new machine's id on the Manager.")
    proven_at = serializers.DateTimeField(
        allow_null=True, help_text="When all disks were proven equal to the restore point."
    )
    created_at = serializers.DateTimeField()
    approval = ApprovalSerializer(
        allow_null=True, default=None, help_text="The second person's consent, where a team asks for it."
    )
    job = JobSerializer()


class RestoreParameters(ListParameters):
    state = serializers.ChoiceField(choices=[("active", "Unfinished"), *JobState.choices], required=False)
    vm = serializers.UUIDField(required=False, help_text="Restored from this machine's points.")
    ticket = serializers.CharField(required=False, help_text="Exactly this ticket.")
    requested_by = serializers.CharField(required=False)
    requested_for = serializers.CharField(required=False)
    created_after = serializers.DateTimeField(required=False)
    created_before = serializers.DateTimeField(required=False)


_LOOKUPS = {
    "vm": "point__vm__uuid",
    "ticket": "job__ticket",
    "requested_by": "job__requested_by_name",
    "requested_for": "job__requested_for",
    "created_after": "created_at__gt",
    "created_before": "created_at__lt",
}


class _Rows(ApiView):
    serializer_class: type[serializers.Serializer[Any]] = RestoreSerializer
    scope = Scope.RESTORE

    def rows(self) -> QuerySet[Any]:
        rows = Restore.objects.visible_to(self.person)
        return rows.select_related(
            "approval", "point", "job__vm", "job__environment", "job__retry_of"
        ).prefetch_related("job__points")

    def point_of(self, said: dict[str, Any]) -> RestorePoint:
        """Raises Http404, AmbiguousName, InvalidInput, NotAllowed."""
        point = point_named(self.person, point_rows(self.person).kept(), said.get("vm"), said["point"])
        access.require_restore(self.person, point)
        return point


class Restores(_Rows, ListView, ActionView):
    """Restores from points of machines that you may see and those that you asked for."""

    parameters_class = RestoreParameters
    body_class = RestoreBody

    def narrowed(self, rows: QuerySet[Any], parameters: dict[str, Any]) -> QuerySet[Any]:
        wanted = {lookup: parameters[name] for name, lookup in _LOOKUPS.items() if name in parameters}
        state = parameters.get("state")
        if state:
            wanted["job__state__in"] = ACTIVE if state == "active" else [state]
        return rows.filter(**wanted)

    def act(self, said: dict[str, Any], **where: Any) -> Response:
        """Start the restore that was planned: the same wishes, with the plan's hash."""
        point = self.point_of(said)
        restore = services.start_restore(
            actor=self.person,
            point=point,
            plan=_plan(point, said),
            plan_hash=said["plan_hash"],
            requested_for=said["requested_for"],
            ticket=said["ticket"],
            reason=said["reason"],
            via=Job.Via.API,
        )
        return self.accepted(self.get_serializer(restore).data, restore.job)


class RestoreDetail(_Rows, DetailView):
    """One restore with its job."""


class _Deciding(_Rows, ActionView):
    """For a second person: also one who may decide a restore without seeing its machine."""

    scope = Scope.ADMIN
    answers = 200

    def rows(self) -> QuerySet[Any]:
        decidable = Approval.objects.visible_to(self.person).order_by().values("restore")
        return Restore.objects.filter(pk__in=decidable).select_related("approval", "point", "job__vm")

    def decided(self, restore: Restore) -> Response:
        fresh = self.rows().get(pk=restore.pk)
        return Response(self.get_serializer(fresh).data)


class RestoreApproval(_Deciding):
    """Lets a restore begin that waits for a second person's consent. Nobody approves their own."""

    def act(self, said: dict[str, Any], **where: Any) -> Response:
        restore = self.get_object()
        approvals.approve(actor=self.person, restore=restore, why=said["reason"], via=Job.Via.API)
        return self.decided(restore)


class RestoreRefusal(_Deciding):
    """Ends a restore that waits for a second person's consent; `reason` is told to who ordered it."""

    def act(self, said: dict[str, Any], **where: Any) -> Response:
        restore = self.get_object()
        approvals.refuse(actor=self.person, restore=restore, why=said["reason"], via=Job.Via.API)
        return self.decided(restore)


class RestorePlanning(_Rows, ActionView):
    """What a restore would do, said before it is done. Changes nothing."""

    serializer_class = PlanDocument
    body_class = PlanBody
    answers = 200

    def act(self, said: dict[str, Any], **where: Any) -> Response:
        plan = _plan(self.point_of(said), said)
        document = {
            "plan_hash": plan.hash,
            "point": plan.point,
            "name": plan.name,
            "blockers": plan.blockers,
            "warnings": plan.notes,
            "total_bytes": plan.total_bytes,
            "plan": plan.as_json(),
        }
        return Response(self.get_serializer(document).data)


def _plan(point: RestorePoint, said: dict[str, Any]) -> RestorePlan:
    return plan_new_vm(
        point,
        name=said["name"] if "name" in said else suggested_name(point),
        cluster_id=said["cluster"],
        storage_domain_id=said["storage_domain"],
        network_plugged=said["network"] == "plugged",
        new_macs=said["macs"] == "new",
        same_people=said["people"] == "same",
    )
