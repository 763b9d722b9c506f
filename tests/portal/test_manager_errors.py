# SPDX-License-Identifier: GPL-3.0-or-later
"""The SDK's exceptions, as a person is told of them."""

import json

import ovirtsdk4 as sdk
import pycurl
import pytest
from ovirtsdk4 import types

from portal.errors import PortalError
from portal.ovirt.connection import wait_until
from portal.ovirt.errors import (
    ManagerAnswerUnreadable,
    ManagerBusy,
    ManagerForbids,
    ManagerLoginRefused,
    ManagerObjectMissing,
    ManagerRefused,
    ManagerTooSlow,
    ManagerUnreachable,
    ManagerUntrusted,
    calling,
)

pytestmark = pytest.mark.embedded

FAULT = types.Fault(detail="[Cannot start backup. VM is locked.]", reason="Operation Failed")


def sdk_error(kind, code=None, fault=None, text="HTTP response code is not right"):
    """As the SDK makes it: the code and fault are set afterwards."""
    error = kind(text)
    error.code, error.fault = code, fault
    return error


def multi_error(code: int) -> sdk.Error:
    """Connection.__wait of 4.6.3: the list of curl's multi interface as text."""
    return sdk_error(
        sdk.Error, text=f"Failed to read response: [(<pycurl.Curl object at 0x7f00>, {code}, 'of curl')]"
    )


@pytest.mark.parametrize(
    ("raised", "expected", "retryable"),
    [
        (sdk_error(sdk.NotFoundError, 404), ManagerObjectMissing, False),
        (sdk_error(sdk.AuthError, 401), ManagerLoginRefused, False),
        (sdk_error(sdk.AuthError, None), ManagerLoginRefused, False),
        (sdk_error(sdk.AuthError, 403, FAULT), ManagerForbids, False),
        (sdk_error(sdk.ConnectionError), ManagerUnreachable, True),
        (sdk_error(sdk.TimeoutError), ManagerUnreachable, True),
        (sdk_error(sdk.Error, 409, FAULT), ManagerBusy, True),
        (sdk_error(sdk.Error, 400, FAULT), ManagerRefused, False),
        (sdk_error(sdk.Error, 500), ManagerUnreachable, True),
        (sdk_error(sdk.Error, 503), ManagerUnreachable, True),
        (multi_error(7), ManagerUnreachable, True),
        (multi_error(28), ManagerUnreachable, True),
        (multi_error(60), ManagerUntrusted, False),
        (multi_error(77), ManagerUntrusted, False),
        (sdk_error(sdk.Error, text="Error while sending HTTP request: (60, 'SSL')"), ManagerUntrusted, False),
        (
            sdk_error(sdk.Error, text="Error while sending HTTP request: (52, 'Empty')"),
            ManagerUnreachable,
            True,
        ),
        (pycurl.error(7, "refused"), ManagerUnreachable, True),
        (pycurl.error(60, "certificate"), ManagerUntrusted, False),
        (sdk_error(sdk.Error, text="The response content type is not XML"), ManagerAnswerUnreadable, True),
        (json.JSONDecodeError("x", "doc", 0), ManagerAnswerUnreadable, True),
        (ValueError("The text 'x' isn't a valid boolean value"), ManagerAnswerUnreadable, True),
        (AttributeError("'NoneType' object has no attribute 'id'"), ManagerAnswerUnreadable, True),
        (KeyError("access_token"), ManagerAnswerUnreadable, True),
        (ConnectionResetError("reset"), ManagerAnswerUnreadable, True),
    ],
    ids=lambda value: repr(value)[:60] if isinstance(value, Exception) else None,
)
def test_each_failure_is_one_that_a_person_can_understand(raised, expected, retryable):
    with pytest.raises(PortalError) as caught, calling("start the backup"):
        raise raised
    error = caught.value
    assert type(error) is expected
    assert error.retryable is retryable
    assert "The Manager did not start the backup" in error.message
    assert error.hint or isinstance(error, ManagerRefused)
    assert error.__cause__ is raised


def test_the_managers_own_words_are_passed_on():
    with pytest.raises(ManagerBusy) as caught, calling("start the backup"):
        raise sdk_error(sdk.Error, 409, FAULT)
    assert caught.value.detail == "Cannot start backup. VM is locked."
    assert caught.value.message.endswith("Cannot start backup. VM is locked.")
    assert caught.value.http_status == 409
    assert caught.value.code == "manager_busy"


def test_a_known_error_passes_unchanged():
    known = ManagerTooSlow("slow")
    with pytest.raises(ManagerTooSlow) as caught, calling("start the backup"):
        raise known
    assert caught.value is known


def test_stopping_is_not_an_answer_of_the_manager():
    with pytest.raises(KeyboardInterrupt), calling("start the backup"):
        raise KeyboardInterrupt


def test_waiting_looks_soon_and_then_every_second_until_it_is_too_long():
    pauses: list[float] = []
    with pytest.raises(ManagerTooSlow, match="within 3 seconds"):
        wait_until(lambda: None, what="end the backup", pause=pauses.append, timeout_seconds=3)
    assert pauses[0] == 0.1
    assert max(pauses) == 1.0
    assert 3 <= sum(pauses) < 4.1
    answers = iter([None, None, "ready"])
    assert wait_until(lambda: next(answers), what="x", pause=pauses.append, timeout_seconds=3) == "ready"
