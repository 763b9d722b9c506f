# SPDX-License-Identifier: GPL-3.0-or-later
"""A form on another site, sent by the browser of a platform admin who is signed in here, does nothing anywhere."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.hostile.world import all_routes

pytestmark = pytest.mark.django_db

ROUTES = all_routes()
CHANGING = ("INSERT", "UPDATE", "DELETE")
# Sessions (kept alive, and where from), the cache, refusals in the history, and counted attempts.
HARMLESS = ("django_session", "audit_", "usersessions_", "django_cache", "accounts_attempt")


def changed_tables(queries) -> list[str]:
    tables = [query["sql"].split('"')[1] for query in queries if query["sql"].startswith(CHANGING)]
    return [name for name in tables if not name.startswith(HARMLESS)]


@pytest.mark.parametrize("method", ["post", "delete"])
def test_no_address_takes_a_request_without_the_token(people, world, method):
    client = Client(enforce_csrf_checks=True)
    client.force_login(people.root)
    taken = {}
    for route in ROUTES:
        with CaptureQueriesContext(connection) as queries:
            response = getattr(client, method)(
                world.address(route), {"confirm_name": "shop"} if method == "post" else None
            )
        changes = changed_tables(queries)
        refused = response.status_code == 403 or (route.is_api and response.status_code == 405)
        if not refused or changes:
            taken[route.name] = (response.status_code, changes)
    assert taken == {}


def test_the_token_of_this_site_sent_from_another_one_is_not_enough(people, world):
    client = Client(enforce_csrf_checks=True)
    client.force_login(people.root)
    client.get("/settings/")
    token = client.cookies["csrftoken"].value
    own = {"csrfmiddlewaretoken": token}
    address = f"/jobs/{world.job.uuid}/retry/"
    refused = client.post(address, own, headers={"origin": "https://evil.example"})
    assert refused.status_code == 403
    assert client.post(address, own).status_code == 302


def test_no_page_changes_anything_when_it_is_only_looked_at(people, world):
    """What a link or an image on another site can do: GET."""
    client = Client()
    client.force_login(people.root)
    for route in ROUTES:
        if route.is_api or "logout" in route.name:
            continue
        with CaptureQueriesContext(connection) as queries:
            client.get(world.address(route))
        assert changed_tables(queries) == [], route.name
