# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to a Manager through the official SDK."""

from __future__ import annotations

import hashlib
import json
import logging
import ssl
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import ovirtsdk4 as sdk
import pycurl

from portal.ovirt.errors import (
    ManagerError,
    ManagerTooSlow,
    ManagerUntrusted,
    calling,
    was_not_answered,
)

log = logging.getLogger(__name__)

Pause = Callable[[float], None]
T = TypeVar("T")
_MAX_SSO_ANSWER = 1 << 20
# Seconds before the second look at something that takes the Manager a moment; doubled up to a second.
_FIRST_LOOK = 0.1


@dataclass(frozen=True)
class ManagerAddress:
    """Where a Manager is and how to log in. `url` ends in /ovirt-engine/api; empty `ca_pem` = the system's CAs."""

    url: str
    username: str
    password: str = field(repr=False)
    ca_pem: str = field(repr=False)
    timeout_seconds: int
    cache_dir: Path

    def ca_file(self) -> Path | None:
        """The CA as a file, as libcurl and imageio's client want it; written once, by content."""
        if not self.ca_pem.strip():
            return None
        path = self.cache_dir / f"{hashlib.sha256(self.ca_pem.encode()).hexdigest()[:32]}.pem"
        if not path.exists():
            self.cache_dir.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.cache_dir, delete=False) as draft:
                draft.write(self.ca_pem)
            Path(draft.name).replace(path)
        return path


class Patience:
    """Waits while a Manager does not answer, as while it is restarted; `tell` is called once an outage.

    After `seconds` without any answer it is used up, until the Manager answers again. `pause` may raise to stop.
    """

    def __init__(self, seconds: float, pause: Pause, tell: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._pause = pause
        self._tell = tell
        self._since: float | None = None

    def answered(self) -> None:
        self._since = None

    def wait(self) -> bool:
        """Wait before another try; False if there is to be none."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            if self._seconds > 0:
                self._tell("The Manager does not answer; waiting for it.")
        if now - self._since >= self._seconds:
            return False
        self._pause(min(5.0, max(0.5, (now - self._since) / 4)))
        return True


# The web server answers so in place of an engine that is being started.
_ENGINE_AWAY = (502, 503, 504)


class _Connection(sdk.Connection):
    """The SDK's, with a time limit for the login (it has none: reference 1.1) and patience with a Manager that is away.

    Repeated is only what cannot have been carried out: what could not be sent, and questions.
    """

    def __init__(self, *, sso_timeout: int, patience: Patience | None, **kwargs: Any) -> None:
        self._sso_timeout = sso_timeout
        self._patience = patience
        super().__init__(**kwargs)

    def wait(self, context: Any, failed_auth: bool = False) -> Any:
        request = context[3]
        while True:
            try:
                response = super().wait(context, failed_auth)
            except sdk.Error as error:
                with suppress(pycurl.error):
                    self._multi.remove_handle(context[0])  # the SDK forgets to
                if not (was_not_answered(error, never_sent=request.method != "GET") and self._waits()):
                    raise
            else:
                away = response.code in _ENGINE_AWAY and request.method == "GET"
                if not (away and self._waits()):
                    if self._patience and not away:
                        self._patience.answered()
                    return response
            context = self._send_again(request)

    def _send_again(self, request: Any) -> Any:
        """Sending logs in again if it must, which may fail in the same way."""
        while True:
            try:
                return self.send(request)
            except sdk.ConnectionError:
                if not self._waits():
                    raise

    def _waits(self) -> bool:
        return self._patience is not None and self._patience.wait()

    def log_in(self) -> None:
        while True:
            try:
                self.authenticate()
            except sdk.ConnectionError:
                if not self._waits():
                    raise
            else:
                return

    def _get_sso_response(self, url: str, params: Mapping[str, str]) -> Any:
        data = urllib.parse.urlencode(params).encode()
        headers = {"Accept": "application/json", "User-Agent": f"PythonSDK/{sdk.get_version()}"}
        request = urllib.request.Request(url, data=data, headers=headers, method="POST")  # noqa: S310
        context = ssl.create_default_context(cafile=self._ca_file)
        try:
            with _opener(context).open(request, timeout=self._sso_timeout) as answer:
                body = answer.read(_MAX_SSO_ANSWER)
        except urllib.error.HTTPError as error:
            if error.code in _ENGINE_AWAY:
                raise sdk.ConnectionError("The login service is not there.") from error
            body = error.read(_MAX_SSO_ANSWER)  # a refused login answers 400 with JSON
        except ssl.SSLCertVerificationError as error:
            raise _untrusted() from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLError):
                raise _untrusted() from error
            raise sdk.ConnectionError("The login service could not be reached.") from error
        except (TimeoutError, ConnectionError) as error:
            raise sdk.ConnectionError("The login service did not answer.") from error
        return json.loads(body.decode())


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The login is not sent on to wherever an answer points; the redirect itself is then a refused login."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _opener(context: ssl.SSLContext) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_NoRedirects, urllib.request.HTTPSHandler(context=context))


def _untrusted() -> ManagerUntrusted:
    return ManagerUntrusted(
        "The Manager's certificate is not signed by the CA stored for it; nothing was sent to it.",
        hint="Fetch the CA again from the Manager, compare its fingerprint, and store it.",
    )


@contextmanager
def connect(
    address: ManagerAddress, *, correlation_id: str | None = None, patience: Patience | None = None
) -> Iterator[sdk.Connection]:
    """A logged-in connection; `correlation_id` (at most 36 of [0-9A-Za-z_-]) stands in the Manager's events.

    With `patience` a Manager that is away for a while is waited for. Raises the errors of portal.ovirt.errors. Logging out never hides the body's own error.
    """
    ca_file = address.ca_file()
    with calling("answer"):
        connection = _Connection(
            url=address.url,
            username=address.username,
            password=address.password,
            ca_file=str(ca_file) if ca_file else None,
            timeout=address.timeout_seconds,
            sso_timeout=address.timeout_seconds,
            patience=patience,
            headers={"Correlation-Id": correlation_id} if correlation_id else {},
        )
        connection.log_in()
    try:
        yield connection
    finally:
        try:
            with calling("log the portal out"):
                connection.close()
        except ManagerError as error:
            log.info("%s", error.message)


def wait_until(
    look: Callable[[], T | None], *, what: str, pause: Pause, timeout_seconds: float, every: float = 1.0
) -> T:
    """Ask `look`, soon at first and then every second, until it answers something.

    Raises ManagerTooSlow; `pause` may raise to stop.
    """
    waited, delay = 0.0, min(every, _FIRST_LOOK)
    while True:
        answer = look()
        if answer is not None:
            return answer
        if waited >= timeout_seconds:
            raise ManagerTooSlow(
                f"The Manager did not {what} within {timeout_seconds:.0f} seconds.",
                hint="Look at the Manager's tasks and events; a slow storage or a stuck task may be the cause.",
            )
        pause(delay)
        waited, delay = waited + delay, min(every, delay * 2)
