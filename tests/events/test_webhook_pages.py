# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages of webhooks: who sees them, what they show once, what they never run, and how often they ask the database."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from portal.audit.models import AuditEntry
from portal.events.models import Delivery, DeliveryState, Webhook
from tests.factories import DeliveryFactory, EventFactory, VmFactory, WebhookFactory

pytestmark = pytest.mark.django_db

NASTY = "<script>window.pwned = 1</script>"


def client_of(person) -> Client:
    client = Client()
    client.force_login(person)
    return client


@pytest.fixture
def mine(people) -> Webhook:
    return WebhookFactory(team=people.team, name="Tickets")


def addresses_of(webhook: Webhook, delivery: Delivery) -> list[str]:
    base = webhook.get_absolute_url()
    return ["/webhooks/", "/webhooks/add/", base, f"{base}change/", delivery.get_absolute_url()]


def test_admins_of_the_team_and_platform_admins_have_these_pages_and_nobody_else(people, mine):
    delivery = DeliveryFactory(webhook=mine)
    platforms = WebhookFactory(team=None)
    for address in addresses_of(mine, delivery):
        for name, status in (("alice", 200), ("root", 200), ("bob", 404), ("carol", 404)):
            assert client_of(getattr(people, name)).get(address).status_code == status, (name, address)
    dave = client_of(people.dave)
    for address in addresses_of(mine, delivery)[2:]:
        assert dave.get(address).status_code == 404
    assert client_of(people.alice).get(platforms.get_absolute_url()).status_code == 404
    assert "Tickets" not in dave.get("/webhooks/").content.decode()
    for path in ("secret/", "switch/", "remove/", "test/", "failed/"):
        assert dave.post(f"{mine.get_absolute_url()}{path}").status_code == 404
        assert client_of(people.bob).post(f"{mine.get_absolute_url()}{path}").status_code == 404
    assert dave.post(f"{delivery.get_absolute_url()}again/").status_code == 404
    assert Webhook.objects.filter(pk=mine.pk, enabled=True).exists()


def test_a_webhook_is_added_and_its_secret_shown_once(people):
    alice = client_of(people.alice)
    given = {
        "name": "Tickets",
        "url": "https://hooks.example.com/x",
        "team": people.team.pk,
        "kinds": ["job.failed"],
    }
    answer = alice.post("/webhooks/add/", given)
    assert (answer.status_code, answer["Cache-Control"]) == (201, "no-store")
    webhook = Webhook.objects.get()
    [secret] = webhook.signing_secrets()
    assert secret in answer.content.decode()
    assert secret not in alice.get(webhook.get_absolute_url()).content.decode()
    assert (webhook.team, webhook.kinds, webhook.allow_private) == (people.team, ["job.failed"], False)
    rotated = alice.post(f"{webhook.get_absolute_url()}secret/")
    webhook.refresh_from_db()
    new, old = webhook.signing_secrets()
    assert new in rotated.content.decode()
    assert old == secret
    recorded = str(list(AuditEntry.objects.values_list("action", "data")))
    assert "webhook.add" in recorded
    assert "webhook.rotate_secret" in recorded
    assert secret not in recorded
    assert new not in recorded


@pytest.mark.parametrize(
    ("person", "wrong"),
    [
        ("alice", {"url": "http://hooks.example.com/"}),
        ("alice", {"url": "https://127.0.0.1/"}),
        ("alice", {"url": "https://169.254.169.254/", "allow_private": "on"}),
        ("root", {"url": "https://169.254.169.254/", "allow_private": "on"}),
        ("alice", {"url": "https://user:pw@hooks.example.com/"}),
        ("alice", {"url": "https://10.0.0.1/", "allow_private": "on"}),
        ("alice", {"team": ""}),
        ("alice", {"team": "other"}),
        ("alice", {"kinds": ["job.unknown"]}),
        ("alice", {"name": "   "}),
    ],
)
def test_what_is_not_right_is_said_and_kept_in_the_form(people, person, wrong):
    other = people.dave.memberships.get().team
    given = {
        "name": "Tickets",
        "url": "https://hooks.example.com/x",
        "team": people.team.pk,
        "kinds": ["job.failed"],
    }
    given |= {key: other.pk if value == "other" else value for key, value in wrong.items()}
    answer = client_of(getattr(people, person)).post("/webhooks/add/", given)
    assert answer.status_code == 422
    assert not Webhook.objects.exists()


def test_a_platform_admin_allows_private_networks(people):
    given = {"name": "Chat", "url": "http://10.0.0.7:8080/", "team": "", "kinds": ["job.failed"]}
    answer = client_of(people.root).post(
        "/webhooks/add/", {**given, "allow_private": "on", "allow_http": "on"}
    )
    assert answer.status_code == 201
    assert Webhook.objects.get().team is None


def test_change_switch_test_send_again_leave_and_remove(people, mine):
    alice, base = client_of(people.alice), mine.get_absolute_url()
    changed = {"name": "New name", "url": "https://other.example.com/", "kinds": ["job.started"]}
    assert alice.post(f"{base}change/", changed).status_code == 302
    mine.refresh_from_db()
    assert (mine.name, mine.kinds) == ("New name", ["job.started"])
    entry = AuditEntry.objects.get(action="webhook.change")
    assert (entry.data["before"]["name"], entry.data["after"]["name"]) == ("Tickets", "New name")
    answer = alice.post(f"{base}test/", follow=True)
    assert "A test" in answer.content.decode()
    ping = Delivery.objects.get()
    assert ping.event is None
    failed = DeliveryFactory(webhook=mine, state=DeliveryState.FAILED, problem="Given up after 17 attempts.")
    VmFactory().teams.add(people.team)
    page = alice.get(base).content.decode()
    assert "1 event was given up" in page
    assert "did not take its events" in alice.get("/").content.decode()
    assert alice.post(f"{failed.get_absolute_url()}again/").status_code == 302
    failed.refresh_from_db()
    assert failed.state == DeliveryState.PENDING
    Delivery.objects.filter(pk=failed.pk).update(state=DeliveryState.FAILED)
    alice.post(f"{base}failed/", {"do": "leave"})
    failed.refresh_from_db()
    assert failed.state == DeliveryState.DROPPED
    alice.post(f"{base}switch/", {"enabled": "no"})
    mine.refresh_from_db()
    assert not mine.enabled
    assert alice.post(f"{base}remove/", follow=True).status_code == 200
    assert not Webhook.objects.exists()


def test_what_receivers_answer_and_machines_are_called_is_text(people):
    mine = WebhookFactory(team=people.team, name=NASTY)
    vm = VmFactory(name=NASTY)
    event = EventFactory(vm=vm, data={"vm": {"name": NASTY}, "job": {"ticket": NASTY}})
    delivery = DeliveryFactory(webhook=mine, event=event)
    delivery.attempts.create(number=1, seconds=0.1, status=500, answer=NASTY, problem=NASTY)
    alice = client_of(people.alice)
    for address in (*addresses_of(mine, delivery), "/"):
        assert NASTY not in alice.get(address).content.decode(), address
    assert "&lt;script&gt;" in alice.get(delivery.get_absolute_url()).content.decode()


@pytest.mark.embedded
def test_pages_ask_the_database_as_often_for_many_rows_as_for_few(people, mine):
    alice = client_of(people.alice)
    shown = DeliveryFactory(webhook=mine)

    def grow():
        for _ in range(15):
            WebhookFactory(team=people.team)
            DeliveryFactory(webhook=mine, state=DeliveryState.FAILED)
            shown.attempts.create(number=1, seconds=0.1, status=200)

    def count() -> dict[str, int]:
        found = {}
        for address in (*addresses_of(mine, shown), "/"):
            with CaptureQueriesContext(connection) as queries:
                assert alice.get(address).status_code == 200
            found[address] = len(queries)
        return found

    grow()
    count()
    few = count()
    grow()
    assert count() == few


def test_deliveries_are_paged(people, mine):
    for _ in range(60):
        DeliveryFactory(webhook=mine)
    alice = client_of(people.alice)
    first = alice.get(mine.get_absolute_url())
    assert len(first.context["rows"]) == 50
    second = alice.get(f"{mine.get_absolute_url()}{first.context['page'].older_url}")
    assert len(second.context["rows"]) == 10
