# SPDX-License-Identifier: GPL-3.0-or-later
"""A recorded webhook request, sent again: a receiver that does as docs/webhooks.md says is not fooled."""

import json
import threading
import time
import urllib.error
import urllib.request
from http.server import ThreadingHTTPServer

import pytest

from portal.events import signing
from tests.ticketing.__main__ import handler_of
from tests.ticketing.desk import Desk, Portal
from tests.ticketing.documented import documented

SECRET = "whsec_of_the_desk"
EVENT = {"id": "e-1", "kind": "job.succeeded", "job": {"ticket": "INC1"}, "result": {"point": "p-1"}}


@pytest.fixture
def desk(tmp_path):
    """A ticketing system with one ticket, listening."""
    desk = Desk(tmp_path / "tickets.json", Portal("http://127.0.0.1:1", "none"))
    desk.tickets["INC1"] = {"state": "ordered", "notes": [], "answers": []}
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(desk, SECRET))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield desk, f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()
    server.server_close()
    thread.join(30)


def request(*, age: int = 0, delivery: str = "d-1", event: dict = EVENT) -> tuple[dict[str, str], bytes]:
    """As the portal made it, `age` seconds ago."""
    body, timestamp = json.dumps(event).encode(), str(int(time.time()) - age)
    headers = {
        "X-Portal-Timestamp": timestamp,
        "X-Portal-Delivery": delivery,
        "X-Portal-Signature": signing.signature(SECRET, timestamp, body),
    }
    return headers, body


def send(url: str, headers: dict[str, str], body: bytes) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_an_old_request_is_refused_and_does_nothing(desk):
    known, url = desk
    assert send(url, *request(age=documented()["REPLAY_WINDOW"] + 60)) == 401
    assert known.tickets["INC1"]["state"] == "ordered"
    assert known.deliveries == []


def test_a_recent_one_is_known_by_its_id_and_does_nothing_twice(desk):
    known, url = desk
    recorded = request()
    assert [send(url, *recorded) for _ in range(3)] == [200, 200, 200]
    assert (known.tickets["INC1"]["notes"], known.repeated) == (["job.succeeded"], 2)


def test_an_event_is_known_by_its_id_also_under_another_delivery(desk):
    known, url = desk
    assert [send(url, *request(delivery=name)) for name in ("d-1", "d-2")] == [200, 200]
    assert known.tickets["INC1"]["notes"] == ["job.succeeded"]


@pytest.mark.parametrize("part", ["body", "timestamp", "signature", "secret"])
def test_what_was_changed_on_the_way_is_refused(desk, part):
    known, url = desk
    headers, body = request()
    if part == "body":
        body = body.replace(b"p-1", b"p-2")
    elif part == "timestamp":
        headers["X-Portal-Timestamp"] = str(int(headers["X-Portal-Timestamp"]) + 1)
    elif part == "signature":
        headers["X-Portal-Signature"] = headers["X-Portal-Signature"][:-1] + "x"
    else:
        headers["X-Portal-Signature"] = signing.signature(
            "whsec_guessed", headers["X-Portal-Timestamp"], body
        )
    assert send(url, headers, body) == 401
    assert known.tickets["INC1"]["state"] == "ordered"
