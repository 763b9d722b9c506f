# SPDX-License-Identifier: GPL-3.0-or-later
"""A webhook is no way into the network that the portal stands in: not by its address, its name, nor its answers."""

import pytest
from django.test import Client

from portal.events import delivering, services, webhooks
from portal.events.kinds import EventKind
from portal.events.models import Delivery, DeliveryAttempt, Webhook
from tests.events.receiver import receiver
from tests.factories import WebhookFactory
from tests.portal.test_addresses import NEVER, PRIVATE, answering

pytestmark = pytest.mark.django_db


def host(text: str) -> str:
    return f"[{text}]" if ":" in text else text


@pytest.fixture
def listening():
    with receiver() as found:
        yield found


def sent(webhook: Webhook) -> Delivery:
    """One event, tried once."""
    services.emit(EventKind.JOB_FAILED, data={})
    services.number_events()
    delivering.fan_out(webhook)
    delivering.deliver(webhook.pk)
    return webhook.deliveries.get()


def test_a_team_admin_cannot_enter_an_address_inside(people):
    client = Client()
    client.force_login(people.alice)
    given = {
        "name": "x",
        "team": people.team.pk,
        "kinds": ["job.failed"],
        "allow_private": "on",
        "allow_http": "on",
    }
    for text in [*PRIVATE, *NEVER]:
        for scheme in ("https", "http"):
            answer = client.post("/webhooks/add/", {**given, "url": f"{scheme}://{host(text)}/"})
            assert answer.status_code == 422, (scheme, text)
    assert not Webhook.objects.exists()


def test_nobody_can_enter_metadata_services(people):
    client = Client()
    client.force_login(people.root)
    given = {"name": "x", "team": "", "kinds": ["job.failed"], "allow_private": "on", "allow_http": "on"}
    for text in NEVER:
        assert client.post("/webhooks/add/", {**given, "url": f"http://{host(text)}/"}).status_code == 422, (
            text
        )


@pytest.mark.parametrize("inside", ["127.0.0.1", "10.0.0.7", "169.254.169.254", "::1", "::ffff:127.0.0.1"])
def test_a_name_that_leads_inside_gets_nothing(people, monkeypatch, inside):
    """Also one that led outside when it was entered."""
    webhook = WebhookFactory(url="https://hooks.example.com/")
    answering(monkeypatch, "93.184.216.34", inside)
    delivery = sent(webhook)
    assert delivery.state == "pending"
    assert "does not connect to" in delivery.problem
    attempt = delivery.attempts.get()
    assert (attempt.status, attempt.answer) == (None, "")


def test_leave_that_was_taken_back_counts_for_what_is_still_to_be_sent(people, listening):
    webhook, _ = webhooks.add_webhook(
        actor=people.root, name="x", url=listening.url, kinds=["job.failed"], team=None, allow_private=True,
        allow_http=True,
    )  # fmt: skip
    Webhook.objects.update(allow_private=False)
    webhook.refresh_from_db()
    assert "private network" in sent(webhook).problem
    assert listening.requests == []


def test_what_lies_inside_is_not_shown_by_a_redirect(people, listening):
    listening.answers = [(302, b"")]
    with receiver() as secret:
        secret.answers = [(200, b"internal secret")] * 3
        listening.headers = {"Location": secret.url}
        webhook, _ = webhooks.add_webhook(
            actor=people.root, name="x", url=listening.url, kinds=["job.failed"], team=None, allow_private=True,
            allow_http=True,
        )  # fmt: skip
        delivery = sent(webhook)
        assert secret.requests == []
    assert "not followed" in delivery.problem
    assert not DeliveryAttempt.objects.filter(answer__contains="internal").exists()
