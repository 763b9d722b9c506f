# SPDX-License-Identifier: GPL-3.0-or-later
"""Every address of the portal by its route, with the ids of one team's things or with ids of nothing.

A route with a parameter that is not named here fails: a new kind of id must be tried by strangers too.
"""

import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from portal.audit import services as audit
from portal.events.models import DeliveryState
from portal.jobs.states import JobState
from restores.models import Approval, Restore
from tests.conftest import People
from tests.factories import (
    ApiTokenFactory,
    DeliveryFactory,
    DiskFactory,
    JobFactory,
    PointDiskFactory,
    PointFactory,
    UserFactory,
    VmFactory,
)

NOTHING = uuid.UUID("00000000-0000-4000-8000-000000000000")
# What `uuid` means in the API, by the beginning of the route's name.
API_SUBJECTS = ("environment", "vm", "point", "restore", "repository", "team", "audit_entry", "job")


# What a page says of a restore's plan.
PLAN = {
    "disks": [{"size_bytes": 1 << 30}],
    "cluster_name": "Default",
    "storage_domain_name": "data-1",
    "network_plugged": False,
}


@dataclass(frozen=True)
class Route:
    name: str
    parameters: tuple[str, ...]

    @property
    def is_api(self) -> bool:
        return self.name.startswith("api:")


def all_routes() -> list[Route]:
    return list(_walk(get_resolver().url_patterns, "", ()))


def _walk(patterns, prefix: str, known: tuple[str, ...]) -> Iterator[Route]:
    for pattern in patterns:
        parameters = (*known, *pattern.pattern.converters)
        if isinstance(pattern, URLResolver):
            inner = f"{prefix}{pattern.namespace}:" if pattern.namespace else prefix
            yield from _walk(pattern.url_patterns, inner, parameters)
        elif isinstance(pattern, URLPattern):
            yield Route(f"{prefix}{pattern.name}", parameters)


class World:
    """Things of the team of alice, bob and carol; `ids` by what they are."""

    def __init__(self, people: People) -> None:
        self.vm = VmFactory(name="shop")
        self.vm.teams.add(people.team)
        DiskFactory(vm=self.vm)
        self.job = JobFactory(vm=self.vm, state=JobState.FAILED, finished_at=timezone.now())
        self.point = PointFactory(vm=self.vm, job=self.job)
        PointDiskFactory(point=self.point)
        restoring = JobFactory(vm=self.vm, kind="vm_restore", state=JobState.FAILED)
        self.restore = Restore.objects.create(
            job=restoring, point=self.point, method="new_vm", target_name="x", plan=PLAN, plan_hash="0"
        )
        late = timezone.now() + dt.timedelta(days=1)
        approval = Approval.objects.create(restore=self.restore, because="It is asked for.", expires_at=late)
        approval.teams.add(people.team)
        self.delivery = DeliveryFactory(webhook__team=people.team, state=DeliveryState.FAILED)
        service = UserFactory(is_service=True)
        self.ids: dict[str, object] = {
            "vm": self.vm.uuid,
            "environment": self.vm.environment.uuid,
            "job": self.job.uuid,
            "point": self.point.uuid,
            "repository": self.point.repository.uuid,
            "restore": self.restore.uuid,
            "team": people.team.uuid,
            "audit_entry": audit.record("backup.start", actor=people.alice, subject=self.vm).uuid,
            "webhook": self.delivery.webhook.uuid,
            "delivery": self.delivery.uuid,
            "token": ApiTokenFactory(user=service).uuid,
            "service": service.uuid,
            "provider_id": "company",
            "pk": 1,
            "which": "latest",
        }
        self.ids["entry"] = self.ids["audit_entry"]

    def address(self, route: Route, *, nothing: bool = False) -> str:
        """With the ids of the team's things; `nothing`: with ids that nothing has."""
        return reverse(route.name, kwargs={name: self._id(route, name, nothing) for name in route.parameters})

    def _id(self, route: Route, parameter: str, nothing: bool) -> object:
        subject = parameter.removesuffix("_uuid")
        if route.is_api and parameter == "uuid":
            name = route.name.removeprefix("api:")
            subject = next(kind for kind in API_SUBJECTS if name == kind or name.startswith(f"{kind}_"))
        found = self.ids[subject]
        return NOTHING if nothing and isinstance(found, uuid.UUID) else found
