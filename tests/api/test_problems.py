# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is refused below /api/ is a problem document with a code."""

import pytest
from django.test import Client

from portal.api import waiting
from portal.api.resources import vms
from portal.api.waiting import wait_until
from portal.errors import PortalError
from tests.api.support import Api, api_of

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

FIELDS = {"type", "title", "status", "code", "detail", "hint", "retryable", "reference"}


def _told(answer) -> tuple[int, str]:
    assert answer["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert body.keys() >= FIELDS
    assert body["status"] == answer.status_code
    assert body["type"] == f"/api/v1/docs#{body['code']}"
    assert body["reference"] == answer["X-Request-Id"]
    return answer.status_code, body["code"]


@pytest.mark.parametrize("path", ["nothing", "vms/", "vms/not-a-uuid", "jobs/1", "", "vms/%00"])
def test_an_address_that_is_none(alice, path):
    for api in (alice, Api()):
        assert _told(api.get(path)) == (404, "not_found")


def test_a_method_that_is_none(alice):
    answer = alice.send("PUT", "vms", "{}")
    assert _told(answer) == (405, "method_not_allowed")
    assert "GET" in answer["Allow"]
    assert _told(alice.send("OPTIONS", "vms", "")) == (405, "method_not_allowed")
    assert _told(alice.send("TRACE", "vms", "")) == (405, "method_not_allowed")


def test_an_answer_in_another_form(alice):
    assert _told(alice.get("vms", accept="text/html")) == (406, "not_acceptable")
    assert alice.get("vms", accept="application/json, text/html;q=0.5").status_code == 200


def test_parameters_that_are_none(alice):
    answer = alice.get("jobs", {"tikcet": "INC-7", "limit": "0"})
    assert _told(answer) == (422, "invalid_input")
    assert answer.json()["errors"] == [{"pointer": "/tikcet", "detail": "There is no such parameter."}]
    wrong = alice.get("jobs", {"limit": "0", "vm": "x"}).json()["errors"]
    assert [item["pointer"] for item in wrong] == ["/limit", "/vm"]
    assert _told(alice.get("vms?q=%00")) == (400, "bad_request")


def test_a_precondition_that_does_not_hold(alice):
    assert _told(alice.get("vms", if_match='"another"')) == (412, "precondition_failed")


def test_a_failure_of_the_portal_tells_no_detail(alice, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr(vms.Vms, "narrowed", fail)
    answer = alice.get("vms")
    assert _told(answer) == (500, "internal_error")
    assert "swordfish" not in answer.text
    assert "swordfish" in caplog.text


def test_an_error_of_the_portal_keeps_its_words(alice, monkeypatch):
    def refuse(*_):
        raise PortalError("It is full.", hint="Make room.", code="storage_full", retryable=True)

    monkeypatch.setattr(vms.Vms, "narrowed", refuse)
    answer = alice.get("vms")
    assert _told(answer) == (409, "storage_full")
    assert answer.json() | {"detail": "It is full.", "hint": "Make room.", "retryable": True} == answer.json()


def test_a_host_that_is_not_ours(people):
    api = api_of(people.alice)
    api.client = Client(raise_request_exception=False, SERVER_NAME="evil.example")
    assert _told(api.get("vms")) == (400, "bad_request")


def test_a_place_to_wait_is_given_back_after_a_failure(settings, monkeypatch):
    monkeypatch.setattr(waiting.time, "sleep", lambda _: None)
    settings.API_WAITERS = 1
    for _ in range(3):
        looks = iter([1])
        with pytest.raises(StopIteration):
            wait_until(lambda looks=looks: next(looks), lambda _: False, seconds=9)
