# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines with their protection."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers

from portal.api.fields import LinkField, Reference
from portal.api.filters import ListParameters, named_or_uuid, only
from portal.api.views import ApiView, DetailView, ListView
from portal.dashboard.protection import protection, with_protection
from portal.environments.models import VirtualMachine
from portal.paging import Order


class ProtectionSerializer(serializers.Serializer[Any]):
    status = serializers.CharField(help_text="protected, stale, failing, unprotected or unknown.")
    sentence = serializers.CharField()
    last_point_at = serializers.DateTimeField(allow_null=True)


class VmSerializer(serializers.Serializer[Any]):
    url = LinkField("vms")
    uuid = serializers.UUIDField()
    environment = Reference("environments")
    manager_id = serializers.UUIDField(help_text="Its id on the Manager.")
    name = serializers.CharField()
    description = serializers.CharField()
    status = serializers.CharField(
        help_text="In the Manager's words; gone if it no longer lists the machine."
    )
    cluster = serializers.CharField(source="cluster_name")
    os_type = serializers.CharField()
    memory_bytes = serializers.IntegerField()
    cpu_cores = serializers.IntegerField()
    tags = serializers.ListField(child=serializers.CharField())
    seen_at = serializers.DateTimeField()
    gone_at = serializers.DateTimeField(allow_null=True)
    protection = serializers.SerializerMethodField()

    def get_protection(self, vm: VirtualMachine) -> ProtectionSerializer:
        return ProtectionSerializer(protection(vm)).data  # type: ignore[return-value]


class DiskSerializer(serializers.Serializer[Any]):
    manager_id = serializers.UUIDField()
    alias = serializers.CharField()
    size_bytes = serializers.IntegerField()
    actual_bytes = serializers.IntegerField()
    format = serializers.CharField()
    bootable = serializers.BooleanField()
    storage_domain = serializers.CharField(source="storage_domain_name")
    incremental_enabled = serializers.BooleanField()
    excluded_because = serializers.CharField(help_text="Why backups leave it out; empty if they do not.")


class VmDetailSerializer(VmSerializer):
    disks = DiskSerializer(many=True)


class VmParameters(ListParameters):
    environment = serializers.CharField(required=False, help_text="A Manager's uuid or exact name.")
    name = serializers.CharField(required=False, help_text="Exactly this name.")
    manager_id = serializers.UUIDField(required=False, help_text="Its id on the Manager.")
    q = serializers.CharField(required=False, help_text="A part of the name.")
    gone = serializers.BooleanField(
        required=False, default=False, help_text="Also those that their Manager no longer lists."
    )


class _Rows(ApiView):
    def rows(self) -> QuerySet[Any]:
        # In a subquery, since its joins would repeat a machine for each of its teams.
        seen = VirtualMachine.objects.visible_to(self.person).order_by().values("pk")
        return with_protection(VirtualMachine.objects.filter(pk__in=seen).select_related("environment"))


class Vms(_Rows, ListView):
    """Machines that you may see."""

    serializer_class = VmSerializer
    parameters_class = VmParameters
    order = Order(("name", "id"), descending=False)

    def narrowed(self, rows: QuerySet[Any], parameters: dict[str, Any]) -> QuerySet[Any]:
        rows = rows.filter(**only(parameters, "name", "manager_id"))
        if not parameters["gone"]:
            rows = rows.filter(gone_at=None)
        if "environment" in parameters:
            rows = rows.filter(named_or_uuid("environment", parameters["environment"]))
        if "q" in parameters:
            rows = rows.filter(name__icontains=parameters["q"])
        return rows


class VmDetail(_Rows, DetailView):
    """One machine with its disks."""

    serializer_class = VmDetailSerializer
