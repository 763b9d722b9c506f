# SPDX-License-Identifier: GPL-3.0-or-later
"""Ids of another team's things are told from ids of nothing by no answer of any page or address of the API."""

import re

import pytest
from django.core.cache import cache
from django.test import Client

from portal.jobs.models import Job
from tests.api.support import api_of
from tests.factories import PointFactory, VmFactory
from tests.hostile.world import NOTHING, World, all_routes

pytestmark = pytest.mark.django_db

# `pk` is a number of one's own account, `provider_id` the company's sign-in: neither is a team's.
ROUTES = [route for route in all_routes() if set(route.parameters) - {"pk", "provider_id"}]
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PASSING = re.compile(
    r'(name="csrfmiddlewaretoken" value="[^"]+"|"X-CSRFToken": "[^"]+"|"reference":"[^"]*"|[0-9a-f]{16}|Reference [^<]+)'
)


def told(response) -> tuple[int, str, list[str]]:
    """What a client can see, without what differs from request to request and the ids that it knows anyway."""
    text = _PASSING.sub("", _UUID.sub("", response.content.decode()))
    return response.status_code, text, sorted(set(response.headers) - {"Vary"})


@pytest.fixture
def stranger(people) -> Client:
    """dave, admin of another team that has a machine of its own."""
    VmFactory().teams.add(people.dave.memberships.get().team)
    client = Client()
    client.force_login(people.dave)
    return client


@pytest.mark.parametrize("method", ["get", "post"])
def test_pages_answer_404_and_the_same_for_both(stranger, world, method):
    for route in ROUTES:
        if route.is_api:
            continue
        real, nothing = (
            getattr(stranger, method)(world.address(route, nothing=none)) for none in (False, True)
        )
        assert told(real) == told(nothing), route.name
        assert real.status_code in (404, 405), route.name


@pytest.mark.parametrize("method", ["get", "post"])
def test_the_api_answers_the_same_for_both(people, world, method):
    api = api_of(people.dave)
    for route in ROUTES:
        if not route.is_api:
            continue
        cache.clear()
        real, nothing = (getattr(api, method)(world.address(route, nothing=none)) for none in (False, True))
        assert told(real) == told(nothing), route.name
        assert real.status_code in (404, 405, 422), route.name


def bodies(world: World) -> list[tuple[str, dict, dict]]:
    """Orders that name a team's things in their body: address, with the real id or name, and with one of nothing."""
    by_name = {"environment": world.vm.environment.name, "name": "shop"}
    by_id = {"manager_id": str(world.vm.manager_id)}
    vms = [
        (str(world.vm.uuid), str(NOTHING)),
        ({"name": "shop"}, {"name": "nothing"}),
        (by_name, {**by_name, "name": "nothing"}),
        (by_name, {**by_name, "environment": "nothing"}),
        (by_id, {"manager_id": str(NOTHING)}),
    ]
    orders = []
    for real, nothing in vms:
        orders.append(("backups", {"vm": real}, {"vm": nothing}))
        for address, more in (("restores/plan", {}), ("restores", {"plan_hash": "0" * 64})):
            for point in ("latest", "before:2030-01-01T00:00:00Z", str(world.point.uuid)):
                orders.append(
                    (address, {"vm": real, "point": point, **more}, {"vm": nothing, "point": point, **more})
                )
    for address, more in (("restores/plan", {}), ("restores", {"plan_hash": "0" * 64})):
        real, nothing = str(world.point.uuid), str(NOTHING)
        orders.append((address, {"point": real, **more}, {"point": nothing, **more}))
    return orders


def test_orders_that_name_them_answer_the_same_for_both(people, world):
    api = api_of(people.dave)
    for address, real, nothing in bodies(world):
        cache.clear()
        answers = [told(api.post(address, body)) for body in (real, nothing)]
        assert answers[0] == answers[1], (address, real)
        assert answers[0][0] == 404, (address, real)
    assert not Job.objects.filter(requested_by=people.dave).exists()


def test_lists_searches_and_filters_find_none_of_them(people, stranger, world):
    """Also not by a filter that names them exactly."""
    api = api_of(people.dave)
    vm = str(world.vm.uuid)
    for query in ("machines/?q=shop", "search/?q=shop", f"search/?q={vm}", "jobs/?q=shop", "webhooks/"):
        page = stranger.get(f"/{query}").content.decode()
        for address in (world.vm, world.point, world.job, world.delivery.webhook):
            assert address.get_absolute_url() not in page, query
    for path, filters in (
        ("vms", {"name": "shop"}),
        ("vms", {"manager_id": str(world.vm.manager_id)}),
        ("points", {"vm": vm}),
        ("jobs", {"vm": vm}),
        ("restores", {"vm": vm}),
        ("backups", {"vm": vm}),
        ("events", {}),
    ):
        assert api.get(path, filters).json()["results"] == [], (path, filters)


def test_a_cursor_that_points_at_them_leads_to_ones_own_only(people, world):
    """Cursors are not secret and not signed: they widen nothing."""
    for _ in range(3):
        PointFactory(vm=world.vm)
    owners = api_of(people.alice).get("points", {"limit": 1}).json()["next"]
    cache.clear()
    assert api_of(people.dave).get(owners).json()["results"] == []
