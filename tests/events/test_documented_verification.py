# SPDX-License-Identifier: GPL-3.0-or-later
"""The verification in docs/webhooks.md, as it is written there, against what the portal sends."""

import time

import pytest

from portal.events import signing
from tests.ticketing.documented import documented

SECRET = "whsec_documented"
BODY = b'{"kind":"job.succeeded"}'


@pytest.fixture
def verified():
    return documented()["verified"]


def headers(*, secrets=(SECRET,), age=0, body=BODY) -> dict[str, str]:
    timestamp = str(int(time.time()) - age)
    return {
        "X-Portal-Timestamp": timestamp,
        "X-Portal-Signature": signing.signatures(secrets, timestamp, body),
        "X-Portal-Delivery": "d-1",
    }


def test_what_the_portal_sends_is_believed(verified):
    assert verified(SECRET, headers(), BODY)
    assert verified(SECRET, headers(secrets=("whsec_new", SECRET)), BODY)
    assert verified("whsec_new", headers(secrets=("whsec_new", SECRET)), BODY)


def test_anything_changed_is_not(verified):
    assert not verified(SECRET, headers(), BODY + b" ")
    assert not verified("whsec_other", headers(), BODY)
    assert not verified(SECRET, {**headers(), "X-Portal-Signature": "v1="}, BODY)
    assert not verified(SECRET, {**headers(), "X-Portal-Timestamp": str(int(time.time()) - 1)}, BODY)
    assert not verified(SECRET, {}, BODY)


def test_a_replayed_request_is_refused_by_its_age(verified):
    """Within the window its id tells it: tests/hostile/test_replayed_webhook.py."""
    window = documented()["REPLAY_WINDOW"]
    recorded = headers(age=window + 5)
    assert not verified(SECRET, recorded, BODY)
    assert not verified(SECRET, headers(age=-window - 5), BODY)
    refreshed = {**recorded, "X-Portal-Timestamp": str(int(time.time()))}
    assert not verified(SECRET, refreshed, BODY), "the timestamp is signed too"
