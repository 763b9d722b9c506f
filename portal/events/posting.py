# SPDX-License-Identifier: GPL-3.0-or-later
"""One POST to an address that somebody typed in: bounded in time and size, to the checked addresses only.

libcurl, because it has one time limit over everything (a server that drips is cut off as well), connects to
addresses that it is given, and asks before each socket.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pycurl

from portal import addresses
from portal.addresses import AddressRefused, Policy
from portal.errors import PortalError

KEPT_BYTES = 1024
_MOST_BYTES = 256 * 1024
_CONNECT_SECONDS = 5


class NotDelivered(PortalError):
    """No answer was had; `message` says why."""

    retryable = True


@dataclass(frozen=True)
class Answer:
    """`text` is the first KiB, whatever it was made readable."""

    status: int
    text: str
    seconds: float


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    policy: Policy,
    timeout_seconds: int,
    ca_file: str = "",
) -> Answer:
    """Send `body` and hear the answer; redirects are answers, not followed; no proxy of the environment is used.

    Raises AddressRefused (nothing was sent), NameNotResolved or NotDelivered.
    """
    target = addresses.parsed(url, policy)
    found = addresses.resolved(target, policy)
    refused: list[str] = []
    kept = bytearray()
    heard = 0

    def open_socket(_: int, address: Any) -> Any:
        """The last word: whatever libcurl made of the URL, this is where it wants to go."""
        try:
            addresses.require_allowed(ipaddress.ip_address(address.addr[0].partition("%")[0]), policy)
        except (AddressRefused, ValueError) as error:
            refused.append(str(error))
            return pycurl.SOCKET_BAD
        return socket.socket(address.family, address.socktype, address.protocol)

    def hear(piece: bytes) -> int:
        nonlocal heard
        heard += len(piece)
        kept.extend(piece[: KEPT_BYTES - len(kept)])
        return len(piece) if heard <= _MOST_BYTES else -1

    curl = pycurl.Curl()
    try:
        curl.setopt(pycurl.URL, target.url)
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTPS | (pycurl.PROTO_HTTP if policy.http else 0))
        if not target.is_literal:
            curl.setopt(pycurl.RESOLVE, [f"{target.host}:{target.port}:{','.join(found)}"])
        curl.setopt(pycurl.OPENSOCKETFUNCTION, open_socket)
        curl.setopt(pycurl.FOLLOWLOCATION, 0)
        curl.setopt(pycurl.PROXY, "")
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.CONNECTTIMEOUT, min(_CONNECT_SECONDS, timeout_seconds))
        curl.setopt(pycurl.TIMEOUT, timeout_seconds)
        if authorities := ca_file or _system_authorities():
            curl.setopt(pycurl.CAINFO, authorities)
        curl.setopt(pycurl.POST, 1)
        curl.setopt(pycurl.POSTFIELDS, body)
        curl.setopt(pycurl.HTTPHEADER, ["Expect:", *(f"{name}: {value}" for name, value in headers.items())])
        curl.setopt(pycurl.WRITEFUNCTION, hear)
        began = time.monotonic()
        try:
            curl.perform()
        except pycurl.error as error:
            if refused:
                raise AddressRefused(refused[0]) from error
            cut_off = error.args[0] == pycurl.E_WRITE_ERROR and heard > _MOST_BYTES
            if not cut_off:
                raise NotDelivered(_why(error, timeout_seconds)) from error
        seconds = time.monotonic() - began
        status = int(curl.getinfo(pycurl.RESPONSE_CODE))
    finally:
        curl.close()
    return Answer(status, _readable(bytes(kept)), seconds)


def _system_authorities() -> str:
    paths = ssl.get_default_verify_paths()
    return next(
        (
            path
            for path in (paths.cafile, "/etc/ssl/certs/ca-certificates.crt")
            if path and Path(path).exists()
        ),
        "",
    )


_WORDS = {
    pycurl.E_COULDNT_CONNECT: "Nobody answered at the address: the connection was refused or not possible.",
    pycurl.E_PEER_FAILED_VERIFICATION: "The certificate is not one that is trusted here; nothing was sent.",
    pycurl.E_SSL_CONNECT_ERROR: "No TLS connection could be made; nothing was sent.",
    pycurl.E_GOT_NOTHING: "The connection was closed without an answer.",
    pycurl.E_RECV_ERROR: "The connection broke before there was an answer.",
    pycurl.E_SEND_ERROR: "The connection broke while the request was sent.",
}


def _why(error: pycurl.error, timeout_seconds: int) -> str:
    code = error.args[0]
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return f"There was no whole answer within {timeout_seconds} seconds."
    return _WORDS.get(code, f"The request failed (libcurl {code}).")


def _readable(raw: bytes) -> str:
    """Text for a page: no control characters but line ends and tabs, no NUL."""
    text = raw.decode("utf-8", errors="replace")
    return "".join(
        character if character in "\n\t" or character.isprintable() else "\ufffd" for character in text
    )
