# SPDX-License-Identifier: GPL-3.0-or-later
"""Teams with their people."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers

from portal.accounts.models import Team
from portal.accounts.roles import Role
from portal.api.fields import LinkField
from portal.api.filters import ListParameters, only
from portal.api.views import ApiView, DetailView, ListView
from portal.paging import Order


class Member(serializers.Serializer[Any]):
    username = serializers.CharField(source="user.username")
    name = serializers.CharField(source="user.display_name")
    role = serializers.ChoiceField(choices=Role.choices)


class TeamSerializer(serializers.Serializer[Any]):
    url = LinkField("teams")
    uuid = serializers.UUIDField()
    name = serializers.CharField()
    members = Member(many=True, source="memberships")


class TeamParameters(ListParameters):
    name = serializers.CharField(required=False, help_text="Exactly this name.")


class _Rows(ApiView):
    serializer_class = TeamSerializer

    def rows(self) -> QuerySet[Any]:
        return Team.objects.visible_to(self.person).prefetch_related("memberships__user")


class Teams(_Rows, ListView):
    """Teams that you are in; platform admins see all."""

    parameters_class = TeamParameters
    order = Order(("name", "id"), descending=False)

    def narrowed(self, rows: QuerySet[Any], parameters: dict[str, Any]) -> QuerySet[Any]:
        return rows.filter(**only(parameters, "name"))


class TeamDetail(_Rows, DetailView):
    """One team."""
