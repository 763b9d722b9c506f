# SPDX-License-Identifier: GPL-3.0-or-later
"""Repositories, for platform admins: they hold the machines of all teams."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers

from backups.models import Repository
from portal.api.fields import LinkField
from portal.api.filters import ListParameters, only
from portal.api.views import ApiView, DetailView, ListView
from portal.paging import Order


class RepositorySerializer(serializers.Serializer[Any]):
    url = LinkField("repositories")
    uuid = serializers.UUIDField()
    name = serializers.CharField()
    path = serializers.CharField()
    is_default = serializers.BooleanField()
    total_bytes = serializers.IntegerField(allow_null=True, help_text="Of its file system.")
    free_bytes = serializers.IntegerField(allow_null=True, help_text="Of its file system.")
    checked_at = serializers.DateTimeField(allow_null=True, help_text="When it was last looked at.")
    problem = serializers.CharField(help_text="Why it could not be looked at then; empty if it could.")
    trash_days = serializers.IntegerField()
    collected_at = serializers.DateTimeField(allow_null=True)
    collect_problem = serializers.CharField()
    verified_at = serializers.DateTimeField(allow_null=True)
    verify_problem = serializers.CharField()
    bad_chunks = serializers.IntegerField(allow_null=True)


class RepositoryParameters(ListParameters):
    name = serializers.CharField(required=False, help_text="Exactly this name.")


class _Rows(ApiView):
    serializer_class = RepositorySerializer

    def rows(self) -> QuerySet[Any]:
        found = Repository.objects.all()
        return found if self.person.is_platform_admin else found.none()


class Repositories(_Rows, ListView):
    """Repositories; an empty list for all but platform admins (with the scope `admin`)."""

    parameters_class = RepositoryParameters
    order = Order(("name", "id"), descending=False)

    def narrowed(self, rows: QuerySet[Any], parameters: dict[str, Any]) -> QuerySet[Any]:
        return rows.filter(**only(parameters, "name"))


class RepositoryDetail(_Rows, DetailView):
    """One repository."""
