# SPDX-License-Identifier: GPL-3.0-or-later
"""The verification in docs/webhooks.md, as it is written there, against what the portal sends."""

import re
import time
from pathlib import Path

import pytest
from django.conf import settings

from portal.events import signing

SECRET = "whsec_documented"
BODY = b'{"kind":"job.succeeded"}'


def documented() -> dict:
    text = (Path(settings.BASE_DIR) / "docs/webhooks.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    namespace: dict = {}
    exec(code, namespace)
    return namespace


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
    assert verified(SECRET, headers(), BODY, set())
    assert verified(SECRET, headers(secrets=("whsec_new", SECRET)), BODY, set())
    assert verified("whsec_new", headers(secrets=("whsec_new", SECRET)), BODY, set())


def test_anything_changed_is_not(verified):
    assert not verified(SECRET, headers(), BODY + b" ", set())
    assert not verified("whsec_other", headers(), BODY, set())
    assert not verified(SECRET, {**headers(), "X-Portal-Signature": "v1="}, BODY, set())
    assert not verified(SECRET, {**headers(), "X-Portal-Timestamp": str(int(time.time()) - 1)}, BODY, set())
    assert not verified(SECRET, {}, BODY, set())


def test_a_replayed_request_is_refused_by_its_age_and_by_its_id(verified):
    window = documented()["REPLAY_WINDOW"]
    recorded = headers(age=window + 5)
    assert not verified(SECRET, recorded, BODY, set())
    assert not verified(SECRET, headers(age=-window - 5), BODY, set())
    refreshed = {**recorded, "X-Portal-Timestamp": str(int(time.time()))}
    assert not verified(SECRET, refreshed, BODY, set()), "the timestamp is signed too"
    assert not verified(SECRET, headers(), BODY, {"d-1"})
