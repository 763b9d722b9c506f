# SPDX-License-Identifier: GPL-3.0-or-later
"""Managers, as far as their machines' people need to know them."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers

from portal.api.fields import LinkField
from portal.api.filters import ListParameters, only
from portal.api.views import ApiView, DetailView, ListView
from portal.environments.models import Environment
from portal.environments.presenters import reachability
from portal.paging import Order


class Cluster(serializers.Serializer[Any]):
    id = serializers.CharField(source="cluster_id")
    name = serializers.CharField()
    version = serializers.CharField(help_text="Its compatibility version, like 4.6.")


class StorageDomain(serializers.Serializer[Any]):
    id = serializers.CharField(source="domain_id")
    name = serializers.CharField()
    kind = serializers.CharField(help_text="Like nfs, iscsi or fcp.")
    status = serializers.CharField()
    available_bytes = serializers.IntegerField(allow_null=True)


class EnvironmentSerializer(serializers.Serializer[Any]):
    url = LinkField("environments")
    uuid = serializers.UUIDField()
    name = serializers.CharField()
    state = serializers.SerializerMethodField(help_text="reachable, unreachable or unknown.")
    product = serializers.CharField()
    version = serializers.CharField()
    refreshed_at = serializers.DateTimeField(allow_null=True, help_text="When its machines were last listed.")
    clusters = Cluster(many=True)
    storage_domains = StorageDomain(many=True)

    def get_state(self, environment: Environment) -> str:
        return reachability(environment)


class EnvironmentParameters(ListParameters):
    name = serializers.CharField(required=False, help_text="Exactly this name.")


class _Rows(ApiView):
    serializer_class = EnvironmentSerializer

    def rows(self) -> QuerySet[Any]:
        return Environment.objects.visible_to(self.person)


class Environments(_Rows, ListView):
    """Managers with a machine that you may see; platform admins see all."""

    parameters_class = EnvironmentParameters
    order = Order(("name", "id"), descending=False)

    def narrowed(self, rows: QuerySet[Any], parameters: dict[str, Any]) -> QuerySet[Any]:
        return rows.filter(**only(parameters, "name"))


class EnvironmentDetail(_Rows, DetailView):
    """One Manager."""
