# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTTP connection to ovirt-imageio, by its own client; every error is told as TransferError.

The client's public methods copy each request through a buffer of their own, or ask for all extents first, once
a connection; and they cannot be interrupted. Its backend object has none of these faults: it is what the
client's own `download()` and `upload()` use. All that is used of it is used in this file, and a test says so
if another version lacks it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ovirt_imageio.client import ImageioClient

from backups.transfer.endpoint import ImageEndpoint
from backups.transfer.errors import (
    DirtyExtentsUnavailable,
    DiskFull,
    TransferBroken,
    TransferDenied,
    TransferError,
)

log = logging.getLogger(__name__)

CHECKSUM_TIMEOUT_SECONDS = 24 * 3600.0
# Linger for no time at all: close(2) then resets the connection (socket(7), SO_LINGER).
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
NO_SPACE = ("No space left", "Disk quota exceeded")


@dataclass(frozen=True)
class Extent:
    """A range of the disk in bytes; `dirty` is True throughout where extents are not of a dirty bitmap."""

    start: int
    length: int
    zero: bool
    dirty: bool = True

    @property
    def stop(self) -> int:
        return self.start + self.length


class Connection:
    """Used by one thread at a time; `abort` may be called by any thread and wakes the one that waits."""

    def __init__(self, backend: Any, via: str) -> None:
        self._backend = backend
        self.via = via
        self.max_readers: int = backend.max_readers
        self.max_writers: int = backend.max_writers

    def extents(self, context: str) -> list[Extent]:
        """All extents, ascending, covering the disk. `context`: `zero` or `dirty`.

        Raises DirtyExtentsUnavailable where the ticket has no dirty bitmap.
        """
        with transfer_errors("listing extents"):
            found = list(self._backend.extents(context))
        if context == "zero":
            extents = [Extent(e.start, e.length, bool(e.zero)) for e in found]
        else:
            extents = [Extent(e.start, e.length, bool(e.zero), bool(e.dirty)) for e in found]
        _check_cover(extents)
        # Else the backend would list all extents once more to learn the size before its first read.
        self._backend._size = extents[-1].stop if extents else 0
        return extents

    def size(self) -> int:
        """The disk's virtual size in bytes."""
        with transfer_errors("asking for the size"):
            return int(self._backend.size())

    def clone(self) -> Connection:
        """Another connection to the same server, without asking for options and extents again."""
        with transfer_errors("connecting"):
            return Connection(self._backend.clone(), self.via)

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill `view` from `offset` on, in one request."""
        with transfer_errors("reading"):
            self._backend.seek(offset)
            _fill(self._backend._get(len(view)), self._backend._con.sock, view)

    def write(self, offset: int, view: memoryview) -> None:
        """Write `view` at `offset` in one request, without flushing."""
        with transfer_errors("writing"):
            self._backend.seek(offset)
            self._backend.write(view)

    def zero(self, offset: int, length: int) -> None:
        with transfer_errors("zeroing"):
            self._backend.seek(offset)
            self._backend.zero(length)

    def flush(self) -> None:
        with transfer_errors("flushing"):
            self._backend.flush()

    def checksum(self, *, block_size: int) -> str:
        """The server's SHA-256 over the SHA-256 of each block; nothing comes before it has read the whole disk."""
        with transfer_errors("asking for the checksum"):
            connection = self._backend._con
            connection.sock.settimeout(CHECKSUM_TIMEOUT_SECONDS)
            # A path that is silent for minutes must not be dropped by a firewall.
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            path = f"{self._backend.url.path}/checksum?algorithm=sha256&block_size={block_size}"
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        if response.status != http.client.OK:
            raise from_status(response.status, body.decode(errors="replace"), "asking for the checksum")
        return _parse_checksum(body, block_size)

    def abort(self) -> None:
        """Cut the connection under a thread that may be waiting on it.

        Its end is a reset: else a server that is in the middle of an answer, while our buffers are full, hears
        nothing but a closed window from our kernel until tcp_fin_timeout, and holds the ticket for that minute.
        """
        with contextlib.suppress(OSError, ValueError, AttributeError):
            connection = self._backend._con.sock
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._backend.close()


def _fill(response: http.client.HTTPResponse, sock: socket.socket, view: memoryview) -> None:
    """Take the body straight from the socket.

    TLS gives at most 16 KiB at a time, and http.client passes each of them through five layers of Python: for
    two thousand MiB that is a second of the interpreter, and all threads wait for it (docs/performance.md).
    """
    # What came along with the headers is in the response's buffer.
    at: int = response.fp.readinto1(view)
    tls = sock if isinstance(sock, ssl.SSLSocket) else None
    while at < len(view):
        got = int(tls.read(len(view) - at, view[at:]) if tls else sock.recv_into(view[at:]))
        if not got:
            raise TransferBroken(f"The image server sent {at} bytes instead of {len(view)}.")
        at += got
    # Nothing is left of this response: the connection is free for the next request.
    response.close()


def connect(endpoint: ImageEndpoint) -> Connection:
    """Connect to the host that has the disk, or through the proxy if the host cannot be reached.

    The way is chosen once for all connections: a firewalled host costs ten seconds a try.
    """
    try:
        return Connection(_client(endpoint, endpoint.transfer_url)._backend, "direct")
    except OSError as error:
        if not endpoint.proxy_url:
            raise TransferBroken(
                f"The image server cannot be reached: {_reason(error)}.",
                hint="Check the network path to the host's port 54322.",
            ) from None
        log.info("The image server cannot be reached directly (%s); going through the proxy", _reason(error))
    except Exception as error:
        raise _translated(error, "connecting") from None
    with transfer_errors("connecting to the proxy"):
        return Connection(_client(endpoint, endpoint.proxy_url)._backend, "proxy")


@contextlib.contextmanager
def explained(endpoint: ImageEndpoint) -> Iterator[None]:
    """Turn a broken transfer into a refused one if the ticket is gone.

    The server cuts connections that are in the middle of a request when the Manager takes the ticket away, so
    the first error seen may be either; asking once more tells them apart.
    """
    try:
        yield
    except TransferBroken as broken:
        with contextlib.suppress(TransferBroken):
            connect(endpoint).close()
        raise broken


def _client(endpoint: ImageEndpoint, url: str) -> ImageioClient:
    # The client's own buffer is not used: see the head of this file.
    cafile = str(endpoint.ca_file) if endpoint.ca_file else None
    return ImageioClient(url, cafile=cafile, buffer_size=1)


@contextlib.contextmanager
def transfer_errors(doing: str) -> Iterator[None]:
    """Tell errors of the client as TransferError. The cause is left out, as its text may hold the ticket."""
    try:
        yield
    except TransferError:
        raise
    except Exception as error:
        raise _translated(error, doing) from None


def _translated(error: Exception, doing: str) -> Exception:
    status = getattr(error, "code", None)
    if isinstance(status, int):
        return from_status(status, str(error), doing)
    if type(error).__name__ == "UnsupportedOperation" and type(error).__module__.startswith("ovirt_imageio"):
        return DirtyExtentsUnavailable("The Manager offers no dirty extents for this transfer.")
    if isinstance(error, OSError | http.client.HTTPException | RuntimeError | ValueError | AttributeError):
        return TransferBroken(f"The connection to the image server broke while {doing}: {_reason(error)}.")
    return error


def from_status(status: int, text: str, doing: str) -> TransferError:
    """The error for an HTTP status other than success; `text` is the server's answer."""
    text = " ".join(text.split())[:200]
    if status == 403:
        return TransferDenied(
            f"The image server refused access while {doing}.", hint="Start the transfer again."
        )
    if any(phrase in text for phrase in NO_SPACE):
        return DiskFull("The storage of the restored disk is full.", hint="Free space on it, then retry.")
    return TransferBroken(
        f"The image server answered {status} while {doing}: {text}.", retryable=status >= 500
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # Texts of other errors are free of URLs in the client, but a ticket must not depend on that.
    return type(error).__name__ if "/images/" in str(error) else str(error) or type(error).__name__


def _parse_checksum(body: bytes, block_size: int) -> str:
    try:
        found = json.loads(body)
        answered = found["algorithm"], found["block_size"]
        checksum = str(found["checksum"])
    except (ValueError, KeyError, TypeError) as error:
        raise TransferBroken("The image server's checksum cannot be understood.") from error
    if answered != ("sha256", block_size):
        raise TransferBroken(
            f"The image server answered a checksum of another kind: {answered}.", retryable=False
        )
    return checksum


def _check_cover(extents: list[Extent]) -> None:
    at = 0
    for extent in extents:
        if extent.start != at or extent.length <= 0:
            raise TransferBroken("The image server's extents do not cover the disk without gaps.")
        at = extent.stop
