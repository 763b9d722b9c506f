# SPDX-License-Identifier: GPL-3.0-or-later
"""No address of the portal leads anywhere else, whatever a link to it or the page before it says.

The sign-in with all spellings of other hosts: tests/portal/test_sign_in_hostile.py.
"""

from urllib.parse import urlsplit

import pytest
from django.test import Client

from tests.hostile.world import all_routes

pytestmark = pytest.mark.django_db

EVIL = "evil.example"
# Posting to these ends the session; they are gone through in tests of their own.
ENDING = ("accounts:logout", "account_logout", "accounts:session_end_all")
NAMES = ("next", "url", "to", "return", "return_to", "redirect", "redirect_to", "back", "came_from", "u")


@pytest.mark.parametrize("signed_in", [True, False], ids=["signed-in", "stranger"])
def test_no_route_leads_to_another_host(people, world, signed_in):
    target = f"//{EVIL}/"
    client = Client(headers={"referer": f"https://{EVIL}/page", "accept": "text/html"})
    if signed_in:
        client.force_login(people.root)
    for route in all_routes():
        for method in ("get",) if route.is_api or route.name in ENDING else ("get", "post"):
            given = dict.fromkeys(NAMES, target)
            response = getattr(client, method)(world.address(route), given)
            where = urlsplit(response.headers.get("Location", ""))
            assert where.netloc in ("", "testserver"), (route.name, method)
            for header in ("HX-Redirect", "HX-Location", "Refresh", "Link"):
                assert EVIL not in response.headers.get(header, ""), (route.name, header)
            if "text/html" in response.headers.get("Content-Type", "") and not response.streaming:
                page = response.content.decode()
                for start in ('href="', 'action="', 'hx-get="'):
                    assert f"{start}{target}" not in page, (route.name, method)
                    assert f"{start}https://{EVIL}" not in page, (route.name, method)


def test_after_signing_in_only_addresses_of_this_portal_are_gone_to(people):
    """The page that was asked for is in `next`, also if its own parameters name another host."""
    client = Client()
    asked = client.get("/jobs/", {"q": f"https://{EVIL}/"})
    assert asked.url.startswith("/login/?next=/jobs/")
    answer = client.post(asked.url, {"username": "alice", "password": "correct horse"})
    assert answer.url.startswith("/jobs/?q=")
