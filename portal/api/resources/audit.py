# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit history (docs/audit.md), for who may read it."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers

from portal.accounts.roles import Capability
from portal.api.errors import ScopeMissing
from portal.api.fields import LinkField
from portal.api.filters import ListParameters
from portal.api.views import ApiView, DetailView, ListView
from portal.trail import access
from portal.trail.filters import LONGEST, Asked


class SealSerializer(serializers.Serializer[Any]):
    """The entry's link of the chain."""

    sequence = serializers.IntegerField()
    hash = serializers.CharField()


class AuditEntrySerializer(serializers.Serializer[Any]):
    url = LinkField("audit")
    uuid = serializers.UUIDField()
    at = serializers.DateTimeField()
    actor = serializers.CharField(source="actor_name")
    via = serializers.CharField()
    action = serializers.CharField(help_text="Like backup.start or point.delete.")
    object_type = serializers.CharField()
    object_id = serializers.CharField()
    object_label = serializers.CharField()
    vm = serializers.UUIDField(allow_null=True, help_text="The machine that it is about.")
    ticket = serializers.CharField()
    address = serializers.CharField(allow_null=True)
    request_id = serializers.CharField()
    details = serializers.DictField(
        source="data", help_text="The rest, by action; changes have `before` and `after`."
    )
    seal = SealSerializer(
        allow_null=True, default=None, help_text="Missing for a moment after the entry was made."
    )


class AuditParameters(ListParameters):
    who = serializers.CharField(required=False, max_length=LONGEST, help_text="A user name.")
    action = serializers.CharField(
        required=False, max_length=LONGEST, help_text="The beginning of one, like `point.`."
    )
    object = serializers.CharField(
        required=False, max_length=LONGEST, help_text="A uuid, or a part of the object's name."
    )
    ticket = serializers.CharField(required=False, max_length=LONGEST, help_text="Exactly this ticket.")
    via = serializers.CharField(
        required=False, max_length=LONGEST, help_text="page, api, command or schedule."
    )
    since = serializers.DateField(required=False, help_text="From this day on.")
    until = serializers.DateField(required=False, help_text="Up to this day, included.")


class _Rows(ApiView):
    serializer_class = AuditEntrySerializer

    def rows(self) -> QuerySet[Any]:
        """Raises ScopeMissing, NotAllowed."""
        if not self.person.keeps(Capability.READ_AUDIT):
            raise ScopeMissing(
                "This token does not have the scope “read” that the history needs.",
                hint="Make a token with that scope.",
            )
        access.require_reader(self.person)
        return access.visible_to(self.person).select_related("seal")


class AuditEntries(_Rows, ListView):
    """What was done about the teams and machines whose history you may read, the newest first."""

    parameters_class = AuditParameters

    def narrowed(self, rows: QuerySet[Any], parameters: dict[str, Any]) -> QuerySet[Any]:
        asked = {name: value for name, value in parameters.items() if name not in ("limit", "cursor")}
        return Asked(**asked).narrow(rows)


class AuditEntryDetail(_Rows, DetailView):
    """One entry."""
