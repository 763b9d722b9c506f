# SPDX-License-Identifier: GPL-3.0-or-later
"""Events: what jobs did, for those who cannot receive webhooks, or who were away (docs/webhooks.md)."""

from __future__ import annotations

from typing import Any

from django.db.models import Min
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from portal.api.filters import Parameters
from portal.api.pagination import MAX_PAGE_SIZE
from portal.api.views import ApiView
from portal.api.waiting import wait_until
from portal.events.delivering import newest_sequence
from portal.events.kinds import EventKind
from portal.events.models import Event, EventQuerySet
from portal.paging import PAGE_SIZE

# Numbers are of 64 bits, signed.
_MOST = (1 << 63) - 1


class NamedSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()


class EventVmSerializer(NamedSerializer):
    manager_id = serializers.UUIDField(help_text="Its id on the Manager.")


class EventJobSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField(help_text="As in /api/v1/jobs/<id>.")
    kind = serializers.CharField()
    title = serializers.CharField()
    state = serializers.CharField(help_text="When the event happened.")
    waiting_for = serializers.CharField(allow_blank=True)
    requested_by = serializers.CharField(allow_blank=True)
    requested_for = serializers.CharField(allow_blank=True)
    via = serializers.CharField()
    ticket = serializers.CharField(allow_blank=True)
    reason = serializers.CharField(allow_blank=True)
    url = serializers.CharField(help_text="Its page for people.")


class EventProblemSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(allow_blank=True)
    message = serializers.CharField(allow_blank=True)
    hint = serializers.CharField(allow_blank=True)


class EventSerializer(serializers.Serializer[Any]):
    """Exactly what a webhook is sent; keys that a kind does not have are missing."""

    id = serializers.UUIDField()
    sequence = serializers.IntegerField()
    version = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=EventKind.choices)
    at = serializers.DateTimeField()
    environment = NamedSerializer(required=False, allow_null=True)
    vm = EventVmSerializer(required=False, allow_null=True)
    job = EventJobSerializer(required=False)
    result = serializers.DictField(required=False, help_text="Of job.succeeded.")
    problem = EventProblemSerializer(required=False, help_text="Of job.failed.")
    restore_point = serializers.DictField(required=False, help_text="Of restore_point.created.")

    def to_representation(self, instance: Event) -> dict[str, Any]:
        return instance.payload()


class EventsDocument(serializers.Serializer[Any]):
    """Ask again with `after` = `last`."""

    results = EventSerializer(many=True)
    last = serializers.IntegerField(
        help_text="The number of the last event here, or `after` if there is none."
    )
    newest = serializers.IntegerField(
        help_text="The newest number that was given to any event; to begin with now."
    )
    oldest = serializers.IntegerField(
        allow_null=True,
        help_text="The oldest number that is still kept. With an `after` below `oldest` - 1, events may be missing.",
    )


class EventParameters(Parameters):
    after = serializers.IntegerField(
        min_value=0, max_value=_MOST, required=False, default=0, help_text="Events behind this number."
    )
    limit = serializers.IntegerField(
        min_value=1, max_value=MAX_PAGE_SIZE, required=False, default=PAGE_SIZE, help_text="Events at most."
    )
    wait = serializers.IntegerField(
        min_value=0,
        max_value=30,
        required=False,
        default=0,
        help_text="Seconds to wait for an event if there is none.",
    )


class Events(ApiView):
    """Events of machines that you may see and of jobs that you asked for, in the order of their numbers.

    Whoever has read up to a number has missed nothing up to it: events that commit later have greater numbers.
    """

    serializer_class = EventsDocument
    parameters_class = EventParameters

    def rows(self) -> EventQuerySet:
        return Event.objects.visible_to(self.person)

    def get(self, request: Request) -> Response:
        after, limit = self.parameters["after"], self.parameters["limit"]

        def look() -> list[Event]:
            return list(self.rows().after(after)[:limit])

        seen, waited = wait_until(look, bool, seconds=self.parameters["wait"])
        last = (seen[-1].sequence or after) if seen else after
        oldest = Event.objects.aggregate(oldest=Min("sequence"))["oldest"]
        document = {"results": seen, "last": last, "newest": newest_sequence(), "oldest": oldest}
        return Response(self.get_serializer(document).data, headers={} if waited else {"Retry-After": "5"})
