# SPDX-License-Identifier: GPL-3.0-or-later
"""A person who was removed, or lost a team, has nothing left: no token, no session, no event, also in mid-request."""

import threading

import pytest
from django.db import connection
from django.test import Client

from portal.accounts.models import Membership, User
from portal.events import services as events
from portal.events.kinds import EventKind
from tests.api.support import Api, api_of, token_of
from tests.hostile.world import World


def remove(person: User) -> None:
    """As the pages for people do."""
    User.objects.filter(pk=person.pk).update(is_active=False)


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["alice", "root"])
def test_tokens_and_sessions_of_a_removed_person_are_refused_everywhere(people, world, name):
    person = getattr(people, name)
    client, api = Client(), api_of(person)
    client.force_login(person)
    assert api.get("vms").json()["results"]
    assert client.get(world.vm.get_absolute_url()).status_code == 200
    remove(person)
    for path in ("vms", f"vms/{world.vm.uuid}", "jobs", "events", "points", "restores", "environments"):
        answer = api.get(path)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_owner_removed"), path
    for path, body in (("backups", {"vm": str(world.vm.uuid)}), (f"jobs/{world.job.uuid}/retry", {})):
        assert api.post(path, body).status_code == 401
    for path in ("/", "/machines/", world.vm.get_absolute_url(), "/settings/"):
        answer = client.get(path)
        assert (answer.status_code, answer.url.startswith("/login/")) == (302, True), path


@pytest.mark.django_db
def test_a_service_account_that_was_removed_is_refused_and_cannot_sign_in(people, world):
    service = User.objects.create(username="robot", is_service=True)
    Membership.objects.create(team=people.team, user=service, role="operator")
    api = Api(token_of(service, actor=people.root))
    assert api.get("vms").json()["results"]
    answer = Client().post("/login/", {"username": "robot", "password": ""})
    assert answer.status_code in (200, 422)
    remove(service)
    assert api.get("vms").status_code == 401


@pytest.mark.django_db
def test_who_left_the_team_sees_nothing_of_it_by_an_old_token(people, world):
    api, tied = api_of(people.bob), api_of(people.bob, team=people.team)
    people.bob.memberships.all().delete()
    for found in (api, tied):
        answer = found.get("vms")
        assert answer.status_code == 401 or answer.json()["results"] == []
        assert found.post("backups", {"vm": str(world.vm.uuid)}).status_code in (401, 404)


@pytest.mark.django_db(transaction=True)
def test_a_request_that_waits_tells_nothing_to_a_person_removed_meanwhile(people):
    world = World(people)
    api, answers, asked = api_of(people.alice), [], threading.Event()

    def wait():
        asked.set()
        try:
            answers.append(api.get("events", {"wait": 4}))
        finally:
            connection.close()

    thread = threading.Thread(target=wait)
    thread.start()
    asked.wait(30)
    people.alice.memberships.all().delete()
    remove(people.alice)
    events.Event.objects.create(kind=EventKind.JOB_FAILED, vm=world.vm, data={"secret": "hers no more"})
    events.number_events()
    thread.join(60)
    [answer] = answers
    assert "hers no more" not in answer.content.decode()
