# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong between the portal and a Manager, translated at the driver's edge.

Source of the SDK's error shapes: ovirtsdk4 4.6.3, Connection and Service (AuthError for 401/403,
NotFoundError for 404, curl codes 7 and 28 inside the text of a plain Error).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import ovirtsdk4 as sdk
import pycurl

from portal.errors import PortalError


class ManagerError(PortalError):
    """Base of all below."""


class ManagerUnreachable(ManagerError):
    """No answer, or none in time."""

    retryable = True
    status = 503


class ManagerUntrusted(ManagerError):
    """The Manager's certificate does not fit the CA that the environment was given."""


class ManagerLoginRefused(ManagerError):
    """User name or password refused."""


class ManagerRefused(ManagerError):
    """The Manager understood and said no. `http_status` and `detail` are its own words."""

    def __init__(self, message: str, *, detail: str, http_status: int | None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.detail = detail
        self.http_status = http_status


class ManagerBusy(ManagerRefused):
    """409: something else is going on with that object."""

    retryable = True


class ManagerForbids(ManagerRefused):
    """403: the portal's account lacks a right on the Manager."""


class ManagerObjectMissing(ManagerError):
    """404: the object is not (or no longer) on the Manager."""


class ManagerAnswerUnreadable(ManagerError):
    """The answer was not what a Manager sends."""

    retryable = True


class ManagerTooSlow(ManagerError):
    """The Manager did not come to the expected state in time."""

    retryable = True


# `Failed to read response: [(<pycurl.Curl object …>, 60, '…')]`, `Error while sending HTTP request: (60, '…')`.
_CURL_CODE = re.compile(r"<(?:pycurl|curl)[^>]*>, (\d+),|HTTP request: \((\d+),")
_TLS_CODES = {pycurl.E_SSL_CACERT, 60, pycurl.E_SSL_CONNECT_ERROR, pycurl.E_SSL_CERTPROBLEM, 77}


# Codes of libcurl: nothing was sent (name not found, connection refused); no answer came (timeout, cut).
_NEVER_SENT = {6, 7}
_NO_ANSWER = _NEVER_SENT | {28, 52, 55, 56}


def was_not_answered(error: sdk.Error, *, never_sent: bool) -> bool:
    """Whether the Manager gave no answer at all; with `never_sent`, only if it cannot have got the request."""
    if isinstance(error, sdk.ConnectionError):
        return True  # from the login too, which comes before the request
    found = _CURL_CODE.search(str(error)) if error.code is None else None
    if found is None:
        return False
    return int(found.group(1) or found.group(2)) in (_NEVER_SENT if never_sent else _NO_ANSWER)


@contextmanager
def calling(what: str) -> Iterator[None]:
    """Translate the SDK's exceptions; `what` completes “The Manager did not …”, like “start the backup”."""
    try:
        yield
    except sdk.NotFoundError as error:
        raise ManagerObjectMissing(
            f"The Manager did not {what}: it does not know that object (any more).",
            hint="Refresh the inventory and look whether it was deleted.",
        ) from error
    except sdk.AuthError as error:
        raise _auth_error(what, error) from error
    except (sdk.ConnectionError, sdk.TimeoutError) as error:
        raise _unreachable(what) from error
    except sdk.Error as error:
        raise _translate(what, error) from error
    except pycurl.error as error:
        raise _from_curl(what, int(error.args[0]) if error.args else 0) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _unreadable(what, f" ({type(error).__name__})") from error
    except Exception as error:
        # Broken XML: the SDK's reader raises a bare Exception (ovirtsdk4 4.6.3, ext/ov_xml_reader.c).
        if type(error) is not Exception:
            raise
        raise _unreadable(what) from error


def _unreadable(what: str, why: str = "") -> ManagerAnswerUnreadable:
    return ManagerAnswerUnreadable(
        f"The Manager did not {what}: its answer could not be read{why}.",
        hint="Look whether the address is that of an oVirt Manager and its services are healthy.",
    )


def _auth_error(what: str, error: sdk.Error) -> ManagerError:
    if error.code == 403:
        return ManagerForbids(
            f"The Manager did not {what}: the portal's account has no right to do that.",
            detail=_detail(error),
            http_status=403,
            hint="Give the account the role it needs on the Manager (docs/operations.md lists them).",
        )
    return ManagerLoginRefused(
        f"The Manager did not {what}: it refused the portal's user name or password.",
        hint="Check the user (with its profile, like admin@internal) and password of this Manager.",
    )


def _translate(what: str, error: sdk.Error) -> ManagerError:
    if error.code is None:
        found = _CURL_CODE.search(str(error))
        if found:
            return _from_curl(what, int(found.group(1) or found.group(2)))
        return _unreadable(what)
    detail = _detail(error)
    if error.code >= 500:
        return ManagerUnreachable(
            f"The Manager did not {what}: it answered with an error of its own ({error.code}). {detail}".strip(),
            hint="Look at the Manager's engine.log, then try again.",
        )
    kind = ManagerBusy if error.code == 409 else ManagerRefused
    return kind(
        f"The Manager did not {what}: {detail or f'it answered {error.code}'}",
        detail=detail,
        http_status=error.code,
    )


def _from_curl(what: str, code: int) -> ManagerError:
    if code in _TLS_CODES:
        return ManagerUntrusted(
            f"The Manager did not {what}: its certificate is not signed by the CA stored for it.",
            hint="Fetch the CA again from the Manager, compare its fingerprint, and store it.",
        )
    return _unreachable(what)


def _unreachable(what: str) -> ManagerUnreachable:
    return ManagerUnreachable(
        f"The Manager did not {what}: it could not be reached.",
        hint="Look whether the Manager is up and the portal's machine can reach its HTTPS port.",
    )


def _detail(error: sdk.Error) -> str:
    detail = (error.fault.detail if error.fault else "") or ""
    return detail.strip().removeprefix("[").removesuffix("]")[:1000]
