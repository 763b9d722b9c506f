# SPDX-License-Identifier: GPL-3.0-or-later
"""The way from clients to an imageio daemon. Direct and free of cost, until the first fault of connections is laid."""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from lab.control.book import Fault, FaultBook
from lab.imageio import HOST, ImageioDaemon

log = logging.getLogger(__name__)

CHUNK = 64 << 10
BACKLOG = 64
# close(2) of a socket that lingers 0 seconds sends a reset.
RESET = struct.pack("ii", 1, 0)
CLOSING = ("refuse", "blackhole")
# A slow connection moves its share of the rate so many times a second.
STEPS = 20


class Link:
    """A TCP port in front of one daemon: what comes in goes to the daemon, whose own port stays as it is.

    `url` is what clients are told. It is the daemon's own until `insert`, and the layer's from then on, so that what
    began before keeps its way. The port stays reserved while it is closed to clients."""

    def __init__(self, service: str, daemon: ImageioDaemon, book: FaultBook) -> None:
        self._service = service
        self._daemon = daemon
        self._book = book
        self._guard: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._fillers: list[socket.socket] = []
        self._mode: str | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Task[None]] = set()
        book.on_change.append(self._changed)

    @property
    def url(self) -> str:
        """`https://127.0.0.1:PORT`, without a slash at the end."""
        if self._guard is None:
            return self._daemon.url
        return f"https://{HOST}:{self._guard.getsockname()[1]}"

    def insert(self) -> None:
        """From now on `url` leads through here."""
        if self._guard is not None:
            return
        # Bound and never listening: reserves the port, as two sockets may share one that nobody listens on.
        self._guard = socket.socket()
        self._guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._guard.bind((HOST, 0))
        self._open("serve")

    async def close(self) -> None:
        """Close the port and cut what goes through it."""
        self._shut()
        tasks = [*self._connections, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._guard is not None:
            self._guard.close()

    def _changed(self, fault: Fault) -> None:
        if fault.kind != "connection" or not self._mine(fault):
            return
        self.insert()
        closing = [f for f in self._book.waiting("connection") if f["how"] in CLOSING and self._mine(f)]
        mode = closing[-1]["how"] if closing else "serve"
        if mode != self._mode:
            self._shut()
            self._open(mode)
        if fault["how"] in CLOSING and not fault.gone.is_set():
            # What the kernel refuses nobody sees: the closing itself is counted.
            fault.seen = fault.struck = 1

    def _mine(self, fault: Fault) -> bool:
        return fault["service"] in (self._service, "both")

    def _open(self, mode: str) -> None:
        self._mode = mode
        if mode == "refuse":
            return
        assert self._guard is not None
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(self._guard.getsockname())
        self._listener.setblocking(False)
        if mode == "blackhole":
            self._fill(self._listener)
            return
        self._listener.listen(BACKLOG)
        self._accepting = asyncio.get_running_loop().create_task(self._accept(self._listener))

    def _fill(self, listener: socket.socket) -> None:
        """A queue of accepted connections that is full: the kernel drops what else arrives, as a firewall does."""
        listener.listen(0)
        for _ in range(2):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            self._fillers.append(filler)

    def _shut(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None
        for each in [*self._fillers, *([self._listener] if self._listener else [])]:
            each.close()
        self._fillers.clear()
        self._listener = None

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listener)
            task = loop.create_task(self._serve(client))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _serve(self, client: socket.socket) -> None:
        port = int(self._daemon.url.rpartition(":")[2])
        try:
            near = await asyncio.open_connection(sock=client)
            far = await asyncio.open_connection(HOST, port)
        except OSError as error:
            log.info("%s: %s", self._service, error)
            client.close()
            return
        await _Through(self._book, self._mine).run(near, far)


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Dropped(Exception):
    """This connection ends now."""


class _Through:
    """One connection, and the fault that has struck it, if any."""

    def __init__(self, book: FaultBook, mine: Callable[[Fault], bool]) -> None:
        self._book = book
        self._mine = mine
        self._asked: set[str] = set()
        self._fault: Fault | None = None
        self._moved = 0

    async def run(self, near: Streams, far: Streams) -> None:
        """Move bytes both ways until one side ends or a fault drops the connection."""
        pumps = {
            asyncio.create_task(self._pump("up", near[0], far[1])),
            asyncio.create_task(self._pump("down", far[0], near[1])),
        }
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if any(isinstance(task.exception(), _Dropped) for task in done):
                for _, writer in (near, far):
                    raw = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for _, writer in (near, far):
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    async def _pump(self, direction: str, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(CHUNK):
                fault = self._struck()
                if fault is not None and fault["direction"] in (direction, "both"):
                    await self._faulty(fault, data, target)
                else:
                    target.write(data)
                    await target.drain()
        except OSError as error:
            log.debug("%s: %s", direction, error)

    def _struck(self) -> Fault | None:
        """The fault that this connection suffers now; each new one is asked once whether it takes this one."""
        if self._fault is not None and not self._fault.gone.is_set():
            return self._fault
        self._fault, self._moved = None, 0
        for fault in self._book.waiting("connection"):
            if fault["how"] in CLOSING or fault.id in self._asked or not self._mine(fault):
                continue
            self._asked.add(fault.id)
            if self._book.turn(fault):
                self._fault = fault
                return fault
        return None

    async def _faulty(self, fault: Fault, data: bytes, target: asyncio.StreamWriter) -> None:
        if fault["how"] == "slow":
            await self._slowly(fault, data, target)
            return
        left = max(fault["bytes"] - self._moved, 0)
        target.write(data[:left])
        await target.drain()
        self._moved += len(data[:left])
        if len(data) <= left:
            return
        if fault["how"] == "drop":
            raise _Dropped
        await fault.gone.wait()
        target.write(data[left:])
        await target.drain()

    async def _slowly(self, fault: Fault, data: bytes, target: asyncio.StreamWriter) -> None:
        step = max(fault["rate"] // STEPS, 1)
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            target.write(piece)
            await target.drain()
            if not fault.gone.is_set():
                await asyncio.sleep(len(piece) / fault["rate"])
