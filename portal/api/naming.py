# SPDX-License-Identifier: GPL-3.0-or-later
"""Naming objects as people and ticketing systems do: by uuid, or a machine by its Manager and its name or id there,
and a restore point by `latest` or `before:TIME`. Always among what the person may see."""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import Q
from django.http import Http404
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from backups.models import RestorePoint, RestorePointQuerySet
from portal.accounts.models import User
from portal.api.errors import AmbiguousName, InvalidInput
from portal.api.fields import address_of
from portal.api.filters import named_or_uuid
from portal.environments.models import VirtualMachine

LATEST = "latest"
BEFORE = "before:"


class VmNames(serializers.Serializer[Any]):
    """`name` or `manager_id`; `environment` may be left out where one machine only is meant."""

    environment = serializers.CharField(required=False, help_text="The Manager's uuid or exact name.")
    name = serializers.CharField(required=False, max_length=255, help_text="The machine's exact name.")
    manager_id = serializers.UUIDField(required=False, help_text="The machine's id on the Manager.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("name" in attrs) == ("manager_id" in attrs):
            raise serializers.ValidationError("Give either name or manager_id.")
        unknown = sorted(set(self.initial_data) - set(self.fields))
        if unknown:
            raise serializers.ValidationError({name: ["There is no such field."] for name in unknown})
        return attrs


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "format": "uuid"},
            {
                "type": "object",
                "properties": {
                    "environment": {"type": "string"},
                    "name": {"type": "string", "minLength": 1, "maxLength": 255},
                    "manager_id": {"type": "string", "format": "uuid"},
                },
                "additionalProperties": False,
            },
        ],
        "description": "The machine's uuid, or {environment, name} or {environment, manager_id}.",
    }
)
class VmField(serializers.Field[Any, Any, Any, Any]):
    """A machine by its uuid or its names; `to_vm` finds it."""

    def to_internal_value(self, data: Any) -> Q:
        if isinstance(data, str):
            try:
                return Q(uuid=uuid.UUID(data))
            except ValueError:
                raise serializers.ValidationError("Neither a uuid nor an object of names.") from None
        names = VmNames(data=data)
        names.is_valid(raise_exception=True)
        found = names.validated_data
        wanted = Q(name=found["name"]) if "name" in found else Q(manager_id=found["manager_id"])
        if "environment" in found:
            wanted &= named_or_uuid("environment", found["environment"])
        return wanted

    def to_representation(self, value: Any) -> str:
        return str(value.uuid)


def vm_named(person: User, wanted: Q) -> VirtualMachine:
    """The one machine that is meant. Raises Http404, or AmbiguousName with those that could be.

    A machine that is still there goes before those of that name that are gone.
    """
    seen = VirtualMachine.objects.visible_to(person).order_by().values("pk")
    rows = VirtualMachine.objects.filter(wanted, pk__in=seen).select_related("environment").order_by("id")
    found = list(rows.present()[:_MANY]) or list(rows[:_MANY])
    if not found:
        raise Http404
    if len(found) > 1:
        raise AmbiguousName(
            "Several machines are called that; nothing was changed.",
            hint="Give the environment too, or the uuid.",
            candidates=[
                {
                    "uuid": str(vm.uuid),
                    "name": vm.name,
                    "environment": vm.environment.name,
                    "manager_id": str(vm.manager_id),
                    "url": address_of("vms", vm.uuid),
                }
                for vm in found
            ],
        )
    return found[0]


_MANY = 20


def point_of_vm(rows: RestorePointQuerySet, vm: VirtualMachine, which: str) -> RestorePoint:
    """The machine's restore point among `rows`: `latest`, `before:TIME` or a uuid. Raises Http404, InvalidInput."""
    mine = rows.filter(vm=vm)
    if which == LATEST:
        found = mine.kept().order_by("-taken_at", "-id").first()
    elif which.startswith(BEFORE):
        found = mine.kept().filter(taken_at__lt=_moment(which)).order_by("-taken_at", "-id").first()
    else:
        found = mine.filter(uuid=_uuid(which)).first()
    if found is None:
        raise Http404
    return found


def point_named(person: User, rows: RestorePointQuerySet, wanted: Q | None, which: str) -> RestorePoint:
    """Among `rows` by its uuid alone, or as `point_of_vm` of the machine `wanted`.

    Raises Http404, AmbiguousName, InvalidInput.
    """
    if wanted is not None:
        return point_of_vm(rows, vm_named(person, wanted), which)
    if which == LATEST or which.startswith(BEFORE):
        raise _not_a_point("latest and before:TIME need the machine too, in `vm`.")
    found = rows.filter(uuid=_uuid(which)).first()
    if found is None:
        raise Http404
    return found


def _moment(which: str) -> Any:
    try:
        moment = parse_datetime(which.removeprefix(BEFORE).replace(" ", "+"))
    except ValueError:
        moment = None
    if moment is None or is_naive(moment):
        raise _not_a_point("This is no time with its zone, like before:2026-05-04T12:00:00Z.")
    return moment


def _uuid(which: str) -> uuid.UUID:
    try:
        return uuid.UUID(which)
    except ValueError:
        raise _not_a_point("Give a uuid, latest, or before:TIME.") from None


def _not_a_point(text: str) -> InvalidInput:
    return InvalidInput(
        "This names no restore point; nothing was changed.", errors=[{"pointer": "/point", "detail": text}]
    )
