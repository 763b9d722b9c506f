# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets which event, in which order, how it is signed, and what happens when nobody takes it."""

import datetime as dt
import json
import uuid

import pytest
from django.conf import settings
from django.utils import timezone

from portal.errors import NotAllowed
from portal.events import delivering, posting, services, signing, tasks, webhooks
from portal.events.kinds import EventKind
from portal.events.models import Delivery, DeliveryAttempt, DeliveryState, Event, EventCounter, Webhook
from portal.events.webhooks import NothingToSendAgain
from tests.events.receiver import Receiver
from tests.factories import JobFactory, TeamFactory, VmFactory

pytestmark = pytest.mark.django_db


class Killed(BaseException):
    """As if the process ended here: nothing after it is carried out."""


def told(vm=None, job=None, kind=EventKind.JOB_STARTED) -> Event:
    event = services.emit(kind, vm=vm, job=job, data={"job": {"ticket": "INC1"}})
    services.number_events()
    event.refresh_from_db()
    return event


def webhook_to(receiver: Receiver, root, **fields) -> Webhook:
    given = {"name": "Tickets", "team": None, "kinds": list(EventKind.values), **fields}
    return webhooks.add_webhook(actor=root, url=receiver.url, allow_private=True, allow_http=True, **given)[0]


def work(webhook: Webhook) -> int:
    """The courier's part, as if all waiting were over."""
    Webhook.objects.filter(pk=webhook.pk).update(quiet_until=None)
    Delivery.objects.filter(webhook=webhook).update(next_at=timezone.now())
    delivering.fan_out(Webhook.objects.get(pk=webhook.pk))
    return delivering.deliver(webhook.pk)


def kinds_heard(receiver: Receiver) -> list[str]:
    return [json.loads(request.body)["kind"] for request in receiver.requests]


@pytest.mark.embedded
def test_an_event_arrives_signed_with_id_sequence_and_timestamp(people, listening):
    webhook, secret = webhooks.add_webhook(
        actor=people.root,
        name="Tickets",
        url=listening.url,
        kinds=[EventKind.JOB_STARTED],
        team=None,
        allow_private=True,
        allow_http=True,
    )
    event = told()
    assert work(webhook) == 1
    [request] = listening.requests
    headers, body = request.headers, json.loads(request.body)
    assert body == event.payload()
    assert body["sequence"] == event.sequence == 1
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.attempts_made) == (DeliveryState.DELIVERED, 1)
    assert headers["X-Portal-Delivery"] == str(delivery.uuid)
    assert (headers["X-Portal-Event"], headers["X-Portal-Sequence"]) == ("job.started", "1")
    assert headers["Content-Type"] == "application/json"
    assert abs(int(headers["X-Portal-Timestamp"]) - timezone.now().timestamp()) < 300
    expected = signing.signature(secret, headers["X-Portal-Timestamp"], request.body)
    assert headers["X-Portal-Signature"] == expected
    attempt = delivery.attempts.get()
    assert (attempt.status, attempt.problem, attempt.number) == (204, "", 1)
    assert attempt.seconds is not None
    assert secret not in Webhook.objects.get().secret_token
    assert work(webhook) == 0


def test_a_team_hears_of_its_own_machines_and_the_chosen_kinds_alone(people, listening):
    ours, theirs = VmFactory(), VmFactory()
    ours.teams.add(people.team)
    theirs.teams.add(TeamFactory())
    webhook = webhook_to(listening, people.root, team=people.team, kinds=["job.failed", "job.started"])
    for vm in (ours, theirs, None):
        told(vm, kind=EventKind.JOB_FAILED)
    told(ours, kind=EventKind.JOB_SUCCEEDED)
    told(ours, kind=EventKind.JOB_STARTED)
    assert work(webhook) == 2
    assert kinds_heard(listening) == ["job.failed", "job.started"]
    assert {delivery.event.vm for delivery in webhook.deliveries.all()} == {ours}


def test_only_what_happens_after_a_webhook_was_added(people, listening):
    told()
    webhook = webhook_to(listening, people.root)
    assert work(webhook) == 0
    told()
    assert work(webhook) == 1


def test_ordering_twice_makes_one_delivery_of_an_event(people, listening):
    webhook = webhook_to(listening, people.root)
    told()
    stale = Webhook.objects.get()
    assert delivering.fan_out(webhook) == 1
    assert delivering.fan_out(stale) == 0
    assert Delivery.objects.count() == 1


def test_events_of_one_job_stay_in_order_and_others_pass_by(people, listening):
    webhook = webhook_to(listening, people.root)
    first, second = JobFactory(), JobFactory()
    listening.answers = [(503, b"busy")]
    told(job=first)
    told(job=second)
    told(job=first, kind=EventKind.JOB_SUCCEEDED)
    delivering.fan_out(webhook)
    assert delivering.deliver(webhook.pk) == 0
    assert kinds_heard(listening) == ["job.started"]
    Webhook.objects.update(quiet_until=None)
    assert delivering.deliver(webhook.pk) == 1, (
        "the other job's event; the first job's end waits for its start"
    )
    assert work(webhook) == 2
    sequences = [json.loads(request.body)["sequence"] for request in listening.requests]
    assert sequences == [1, 2, 1, 3]


def test_a_refused_event_is_sent_again_under_the_same_id_later_and_later(people, listening):
    webhook = webhook_to(listening, people.root)
    listening.answers = [(500, b"<b>oops</b>"), (302, b""), (200, b"ok")]
    listening.headers = {"Location": listening.url}
    told()
    for expected in ("The answer was 500", "a redirect (302)"):
        assert work(webhook) == 0
        delivery = Delivery.objects.get()
        assert delivery.state == DeliveryState.PENDING
        assert expected in delivery.problem
        assert delivery.next_at > timezone.now()
        webhook.refresh_from_db()
        assert webhook.quiet_until > timezone.now()
        assert delivering.webhooks_with_work() == []
    assert work(webhook) == 1
    assert len(listening.requests) == 3, "no redirect was followed"
    assert len({request.headers["X-Portal-Delivery"] for request in listening.requests}) == 1
    answers = list(DeliveryAttempt.objects.order_by("number").values_list("status", "answer"))
    assert answers == [(500, "<b>oops</b>"), (302, ""), (200, "ok")]
    webhook.refresh_from_db()
    assert (webhook.failures_in_a_row, webhook.quiet_until) == (0, None)


def test_delays_double_up_to_three_hours_with_some_chance():
    for attempt, planned in ((2, 10), (3, 20), (8, 640), (40, 3 * 3600)):
        for _ in range(20):
            assert 0.8 * planned <= delivering.delay_before(attempt) <= 1.2 * planned


def test_after_a_day_it_is_given_up_with_a_sentence_and_can_be_sent_again(people, listening):
    webhook = webhook_to(listening, people.root)
    told()
    delivering.fan_out(webhook)
    past = timezone.now() - dt.timedelta(seconds=settings.WEBHOOK_GIVE_UP)
    Delivery.objects.update(created_at=past, give_up_at=timezone.now(), attempts_made=16)
    listening.answers = [(503, b"")]
    assert work(webhook) == 0
    delivery = Delivery.objects.get()
    assert delivery.state == DeliveryState.FAILED
    assert delivery.problem.startswith("Given up after 17 attempts in 1 day")
    assert webhook.deliveries.given_up().count() == 1
    assert work(webhook) == 0
    assert len(listening.requests) == 1
    webhooks.send_again(actor=people.root, delivery=delivery)
    with pytest.raises(NothingToSendAgain):
        webhooks.send_again(actor=people.root, delivery=delivery)
    assert work(webhook) == 1
    first, again = listening.requests
    assert first.headers["X-Portal-Delivery"] == again.headers["X-Portal-Delivery"]
    assert not webhook.deliveries.given_up().exists()


def test_given_up_ones_are_sent_again_or_left_all_at_once(people, listening):
    webhook = webhook_to(listening, people.root)
    for _ in range(3):
        told()
    delivering.fan_out(webhook)
    webhook.deliveries.update(state=DeliveryState.FAILED)
    assert webhooks.send_failed_again(actor=people.root, webhook=webhook) == 3
    assert work(webhook) == 3
    webhook.deliveries.update(state=DeliveryState.FAILED)
    assert webhooks.leave_failed(actor=people.root, webhook=webhook) == 3
    assert not webhook.deliveries.given_up().exists()


def test_a_worker_that_dies_after_sending_leaves_it_to_be_sent_again(people, listening, monkeypatch):
    webhook = webhook_to(listening, people.root)
    told()
    delivering.fan_out(webhook)

    def sent_and_killed(*args, **kwargs):
        posting_post(*args, **kwargs)
        raise Killed

    posting_post = posting.post
    with monkeypatch.context() as patched:
        patched.setattr(posting, "post", sent_and_killed)
        with pytest.raises(Killed):
            delivering.deliver(webhook.pk)
    # A killed process gives nothing back: its lease stands until it runs out.
    Webhook.objects.update(busy_token=uuid.uuid4(), busy_until=timezone.now() + dt.timedelta(minutes=1))
    assert delivering.webhooks_with_work() == []
    assert delivering.deliver(webhook.pk) == 0
    Webhook.objects.update(busy_until=timezone.now() - dt.timedelta(seconds=1))
    assert delivering.webhooks_with_work() == [webhook.pk]
    assert delivering.deliver(webhook.pk) == 1
    first, again = listening.requests
    assert first.headers["X-Portal-Delivery"] == again.headers["X-Portal-Delivery"]
    assert json.loads(first.body) == json.loads(again.body)
    unheard, heard = DeliveryAttempt.objects.order_by("number")
    assert (unheard.seconds, unheard.status, heard.status) == (None, None, 204)


def test_a_ping_says_what_it_is_and_fails_only_once(people, listening):
    webhook = webhook_to(listening, people.root, kinds=[])
    webhooks.ping(actor=people.root, webhook=webhook)
    assert work(webhook) == 1
    body = json.loads(listening.requests[0].body)
    assert (body["kind"], body["sequence"], body["webhook"]["name"]) == ("ping", None, "Tickets")
    assert listening.requests[0].headers["X-Portal-Sequence"] == "0"
    listening.answers = [(404, b"not here")]
    failed = webhooks.ping(actor=people.root, webhook=webhook)
    assert work(webhook) == 0
    failed.refresh_from_db()
    assert (failed.state, failed.problem) == (
        DeliveryState.FAILED,
        "The answer was 404 instead of 200 to 299.",
    )
    assert not webhook.deliveries.given_up().exists(), "a test that failed has told already"


def test_switched_off_it_sends_nothing_and_on_again_only_what_is_new(people, listening):
    webhook = webhook_to(listening, people.root)
    told()
    delivering.fan_out(webhook)
    webhooks.switch(actor=people.root, webhook=webhook, enabled=False)
    told()
    assert work(webhook) == 0
    assert Delivery.objects.get().state == DeliveryState.DROPPED
    with pytest.raises(NothingToSendAgain):
        webhooks.ping(actor=people.root, webhook=webhook)
    webhooks.switch(actor=people.root, webhook=webhook, enabled=True)
    last = told()
    assert work(webhook) == 1
    assert json.loads(listening.requests[0].body)["id"] == str(last.uuid)


def test_after_a_change_of_secret_the_old_one_signs_for_a_day_more(people, listening):
    webhook, old = webhooks.add_webhook(
        actor=people.root, name="x", url=listening.url, kinds=["job.started"], team=None, allow_private=True,
        allow_http=True,
    )  # fmt: skip
    new = webhooks.rotate_secret(actor=people.root, webhook=webhook)
    assert new != old
    told()
    work(webhook)
    Webhook.objects.update(secret_changed_at=timezone.now() - dt.timedelta(hours=25))
    told()
    work(webhook)
    during, after = listening.requests

    def expected(request, secret):
        return signing.signature(secret, request.headers["X-Portal-Timestamp"], request.body)

    assert during.headers["X-Portal-Signature"] == f"{expected(during, new)},{expected(during, old)}"
    assert after.headers["X-Portal-Signature"] == expected(after, new)


def test_beat_numbers_orders_and_rings(people, listening, monkeypatch):
    webhook = webhook_to(listening, people.root)
    services.emit(EventKind.JOB_STARTED, data={})
    rung = []
    monkeypatch.setattr(tasks.current_app, "send_task", lambda name, args, **_: rung.append((name, args)))
    tasks.hand_on()
    assert EventCounter.objects.get().last == 1
    assert rung == [("events.deliver", [webhook.pk])]
    tasks.deliver(webhook.pk)
    assert kinds_heard(listening) == ["job.started"]


def test_old_events_and_deliveries_are_forgotten_but_not_what_is_still_to_be_sent(people, listening):
    webhook = webhook_to(listening, people.root)
    old, kept = told(), told()
    delivering.fan_out(webhook)
    Event.objects.update(at=timezone.now() - dt.timedelta(days=settings.EVENT_DAYS + 1))
    ended = timezone.now() - dt.timedelta(days=settings.DELIVERY_DAYS + 1)
    old.deliveries.update(state=DeliveryState.DELIVERED, ended_at=ended)
    delivering.forget_old()
    assert list(Event.objects.all()) == [kept]
    assert Delivery.objects.get().event == kept
    assert told().sequence == 3, "numbers are never given twice"


def test_who_may_manage(people, listening):
    ours = {"url": "https://hooks.example.com/", "kinds": [], "name": "x"}
    mine, _ = webhooks.add_webhook(actor=people.alice, team=people.team, **ours)
    for actor, team in ((people.bob, people.team), (people.dave, people.team), (people.alice, None)):
        with pytest.raises(NotAllowed):
            webhooks.add_webhook(actor=actor, team=team, **ours)
    for leave in ({"allow_private": True}, {"allow_http": True}):
        with pytest.raises(NotAllowed):
            webhooks.add_webhook(actor=people.alice, team=people.team, **ours, **leave)
    for act in (webhooks.rotate_secret, webhooks.remove, webhooks.ping, webhooks.leave_failed):
        with pytest.raises(NotAllowed):
            act(actor=people.bob, webhook=mine)
    assert list(Webhook.objects.managed_by(people.alice)) == [mine]
    assert list(Webhook.objects.managed_by(people.root)) == [mine]
    for person in (people.bob, people.carol, people.dave):
        assert not Webhook.objects.managed_by(person).exists()


def test_a_team_admin_cannot_point_a_webhook_with_leave_elsewhere(people):
    both = {"allow_private": True, "allow_http": True}
    inside, _ = webhooks.add_webhook(
        actor=people.root, name="x", url="http://10.0.0.7/", kinds=[], team=people.team, **both
    )
    kept = {"actor": people.alice, "webhook": inside, "name": "y", "kinds": ["job.failed"]}
    webhooks.change_webhook(url="http://10.0.0.7/", **kept, **both)
    with pytest.raises(NotAllowed):
        webhooks.change_webhook(url="http://10.0.0.8/", **kept, **both)
    webhooks.change_webhook(url="https://hooks.example.com/", allow_private=False, allow_http=False, **kept)
    assert Webhook.objects.get().name == "y"
