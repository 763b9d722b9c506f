# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of an NBD client as a guest's writer needs: one connection, one request at a time.

Protocol: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md (fixed newstyle, NBD_OPT_GO, simple
replies); all numbers are big-endian.
"""

import socket
import struct
from pathlib import Path

IHAVEOPT = 0x49484156454F5054
OPTION_REPLY = 0x3E889045565A9
REQUEST = 0x25609513
REPLY = 0x67446698
OPT_GO = 7
REP_ACK, REP_INFO = 1, 3
REP_ERROR_BIT = 1 << 31
INFO_EXPORT = 0
CMD_READ, CMD_WRITE, CMD_DISCONNECT, CMD_FLUSH = 0, 1, 2, 3
# NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES
CLIENT_FLAGS = 3


class NbdError(Exception):
    """The server refused, answered nonsense or went away."""


class NbdClient:
    """Connects at once; `size` is that of the export in bytes. Raises NbdError and OSError."""

    def __init__(self, path: Path | str, export: str = "", timeout: float = 30.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._handle = 0
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(str(path))
            self._handshake()
            self.size = self._go(export)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> "NbdClient":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def read(self, offset: int, length: int) -> bytes:
        self._request(CMD_READ, offset, length)
        return self._receive(length)

    def write(self, offset: int, data: bytes) -> None:
        """Returns once the server has completed the write (not: made it durable, see `flush`)."""
        self._request(CMD_WRITE, offset, len(data), data)

    def flush(self) -> None:
        self._request(CMD_FLUSH, 0, 0)

    def close(self) -> None:
        """Say good-bye and close; may be called again."""
        try:
            self._socket.sendall(struct.pack(">IHHQQI", REQUEST, 0, CMD_DISCONNECT, 0, 0, 0))
        except OSError:
            pass
        self._socket.close()

    def _handshake(self) -> None:
        greeting = self._receive(18)
        if greeting[:8] != b"NBDMAGIC" or greeting[8:16] != b"IHAVEOPT":
            raise NbdError("the server does not speak newstyle NBD")
        self._socket.sendall(struct.pack(">I", CLIENT_FLAGS))

    def _go(self, export: str) -> int:
        name = export.encode()
        data = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
        self._socket.sendall(struct.pack(">QII", IHAVEOPT, OPT_GO, len(data)) + data)
        size = None
        while True:
            magic, _, kind, length = struct.unpack(">QIII", self._receive(20))
            payload = self._receive(length)
            if magic != OPTION_REPLY or kind & REP_ERROR_BIT:
                raise NbdError(f"export {export!r} refused: {payload.decode(errors='replace')}")
            if kind == REP_INFO and struct.unpack(">H", payload[:2])[0] == INFO_EXPORT:
                size = int(struct.unpack(">Q", payload[2:10])[0])
            if kind == REP_ACK and size is not None:
                return size

    def _request(self, command: int, offset: int, length: int, data: bytes = b"") -> None:
        self._handle += 1
        header = struct.pack(">IHHQQI", REQUEST, 0, command, self._handle, offset, length)
        self._socket.sendall(header + data)
        magic, error, handle = struct.unpack(">IIQ", self._receive(16))
        if magic != REPLY or handle != self._handle:
            raise NbdError("the answer does not belong to the request")
        if error:
            raise NbdError(f"command {command} at {offset} failed with error {error}")

    def _receive(self, length: int) -> bytes:
        buffer = bytearray(length)
        view, filled = memoryview(buffer), 0
        while filled < length:
            count = self._socket.recv_into(view[filled:])
            if count == 0:
                raise NbdError("the server closed the connection")
            filled += count
        return bytes(buffer)
