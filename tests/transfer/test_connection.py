# SPDX-License-Identifier: GPL-3.0-or-later
"""How the image server is spoken to: few expensive requests, as many connections as allowed, clear errors."""

import contextlib
import select
import socket
from types import SimpleNamespace

import pytest

from backups.transfer import (
    DiskFull,
    ImageEndpoint,
    TransferBroken,
    TransferDenied,
    backup_full,
    backup_incremental,
    checksum,
)
from backups.transfer.connection import Connection, connect, from_status
from tests.store.support import DISK
from tests.transfer.imageio import MIB, Told


def requests(daemon, endpoint):
    """Lines that the daemon logged for this transfer."""
    ticket = endpoint.transfer_url.rsplit("/", 1)[1]
    return [line for line in (daemon.folder / "daemon.log").read_text().splitlines() if ticket in line]


def test_extents_are_asked_for_once_whatever_the_number_of_connections(repository, stage, daemon, disk):
    """Computing them is the server's dearest answer; the client's own read() asks once a connection."""
    staged, index = stage(disk.size)
    with disk.served(daemon) as endpoint:
        backup_full(endpoint, index, repository.chunks, progress=Told())
        full = [line for line in requests(daemon, endpoint) if "EXTENTS" in line]
    point = staged.publish({}, still_owner=lambda: True)
    disk.add_bitmap("b")
    disk.write((MIB, b"x"), (25 * MIB, b"y"))
    _, index = stage(disk.size)
    with disk.served(daemon, bitmap="b") as endpoint, point.index(DISK) as base:
        backup_incremental(endpoint, index, base, repository.chunks, progress=Told())
        dirty = [line for line in requests(daemon, endpoint) if "EXTENTS" in line]
    assert len(full) == 1 and "context=zero" in full[0]
    assert len(dirty) == 1 and "context=dirty" in dirty[0]


@pytest.mark.parametrize("most", [1, 3, 64])
def test_no_more_connections_than_allowed(repository, stage, daemon, disk, most):
    _, index = stage(disk.size)
    seen = set()

    class Watch(Told):
        def advance(self, bytes_done):
            seen.add(daemon.ticket(ticket)["connections"])

    with disk.served(daemon, max_connections=most) as endpoint:
        ticket = endpoint.transfer_url.rsplit("/", 1)[1]
        backup_full(endpoint, index, repository.chunks, progress=Watch())
    assert index.complete and max(seen) <= min(most, 8)


def test_statuses_become_errors_a_person_can_act_on():
    assert isinstance(from_status(403, "No such ticket abc", "reading"), TransferDenied)
    assert "abc" not in str(from_status(403, "No such ticket abc", "reading"))
    assert isinstance(from_status(500, "[Error 28] No space left on device", "writing"), DiskFull)
    broken = from_status(500, "Server failed to perform the request", "reading")
    assert isinstance(broken, TransferBroken) and broken.retryable
    assert not from_status(416, "Requested range out of allowed range", "reading").retryable


def test_something_else_on_the_port_is_a_broken_transfer(daemon):
    with pytest.raises(TransferBroken):
        connect(ImageEndpoint(f"https://127.0.0.1:{daemon.port}/images/t", None, None))


def test_reads_beyond_the_end_are_told(daemon, disk):
    with disk.served(daemon) as endpoint:
        connection = connect(endpoint)
        connection.extents("zero")
        with pytest.raises(TransferBroken):
            connection.read_into(disk.size - 512, memoryview(bytearray(1024)))
        connection.close()


def test_a_block_size_that_the_server_refuses_is_told(daemon, disk):
    with disk.served(daemon) as endpoint, pytest.raises(TransferBroken) as raised:
        checksum(endpoint, block_size=1000)
    assert not raised.value.retryable


def test_aborted_connection_is_reset_though_our_buffers_were_full():
    """Else the server's write would wait for our kernel's closed window, and the ticket with it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    theirs.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            theirs.send(bytes(1 << 20))
    backend = SimpleNamespace(
        _con=SimpleNamespace(sock=ours), max_readers=1, max_writers=1, close=lambda: ours.close()
    )
    connection = Connection(backend, "direct")
    connection.abort()
    # The thread that was reading takes what is there; nothing unread is left that would cause a reset.
    while ours.recv(1 << 20):
        pass
    connection.close()
    with theirs:
        _, writable, _ = select.select([], [theirs], [], 30)
        assert writable
        with pytest.raises(ConnectionError):
            theirs.send(b"more")
