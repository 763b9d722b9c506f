# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed, cancelled, stalled and cut off in the middle; and going on afterwards."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

import pytest

from backups.store import ChunkWriter, writer
from backups.store.errors import ClaimLost, RepositoryFull
from backups.transfer import (
    ImageEndpoint,
    TransferBroken,
    TransferDenied,
    backup_full,
    checksum,
    restore,
)
from tests.store.support import DISK, casync_extract, chunk_files, content_of
from tests.transfer.imageio import MIB, Disk, Told


class Cancelled(Exception):
    """What a cancelled job raises from its progress."""


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    made = Disk.create(tmp_path_factory.mktemp("big") / "big.qcow2", 96 * MIB)
    made.write((0, content_of(80 * MIB, seed=9)))
    return made


def finish(repository, stage, daemon, disk, point):
    """Another worker goes on. Returns (published point, stats)."""
    staged, index = stage(disk.size, point=point, source="backup-1")
    told = Told()
    with disk.served(daemon) as endpoint:
        stats = backup_full(endpoint, index, repository.chunks, progress=told)
    assert told.done == sum(told.planned) == stats.bytes_total
    return staged.publish({}, still_owner=lambda: True), stats


def test_a_backup_killed_with_9_goes_on_where_it_stopped(repository, stage, daemon, big, tmp_path):
    point = str(uuid.uuid4())
    with big.served(daemon) as endpoint:
        argv = [sys.executable, "-m", "tests.transfer.child", str(repository.path), point]
        child = subprocess.Popen(
            [*argv, endpoint.transfer_url, str(big.size)], stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
        )
        assert child.stdout is not None
        done = 0
        for line in child.stdout:
            kind, number = line.split()
            done += int(number) if kind == "advance" else 0
            if done >= 30 * MIB:
                break
        child.send_signal(signal.SIGKILL)
        child.wait()
    stored_before = len(chunk_files(repository))
    assert 8 <= stored_before < 80, "the kill must hit the middle"
    published, stats = finish(repository, stage, daemon, big, point)
    assert stats.bytes_read <= 80 * MIB - (stored_before - 8) * MIB
    out = casync_extract(repository, published.index_path(DISK), tmp_path / "out.raw")
    assert out == bytes(big.content)


def test_what_a_power_cut_took_is_read_again(repository, stage, daemon, big):
    point = str(uuid.uuid4())
    _, index = stage(big.size, point=point, source="backup-1")
    with big.served(daemon) as endpoint, pytest.raises(Cancelled):
        backup_full(endpoint, index, repository.chunks, progress=Told(0, Cancelled()))
    staged, index = stage(big.size, point=point, source="backup-1")
    with ChunkWriter(repository.chunks) as each:
        for number in (0, 1, 2):
            each.add(index, number, memoryview(big.content)[number * MIB : (number + 1) * MIB])
    repository.chunks.path(index.get(1)).unlink()
    staged.close()
    _, again = stage(big.size, point=point, source="backup-1")
    assert again.get(0) is not None and again.get(1) is None and again.get(2) is not None
    published, _ = finish(repository, stage, daemon, big, point)
    with published.index(DISK) as index:
        assert all(repository.chunks.exists(chunk_id) for chunk_id in index)


def test_another_backup_never_goes_on_with_an_earlier_moment(repository, stage, daemon, big):
    point = str(uuid.uuid4())
    staged, index = stage(big.size, point=point, source="backup-1")
    with ChunkWriter(repository.chunks) as each:
        each.add(index, 0, memoryview(content_of(MIB)))
    staged.close()
    _, index = stage(big.size, point=point, source="backup-2")
    assert index.get(0) is None


def test_cancel_stops_within_seconds_and_closes_everything(repository, stage, daemon, big):
    _, index = stage(big.size)
    cancel = Cancelled("by the operator")
    with big.served(daemon) as endpoint:
        began = time.monotonic()
        with pytest.raises(Cancelled) as raised:
            backup_full(endpoint, index, repository.chunks, progress=Told(1, cancel))
        assert time.monotonic() - began < 3
    assert raised.value is cancel
    assert not [p for p in (repository.path / "tmp").iterdir() if p.is_dir()]
    assert not [t for t in threading.enumerate() if t.name.startswith("transfer-")]


def test_progress_that_raises_at_once_leaves_no_connection(repository, stage, daemon, big):
    class Refuses(Told):
        def plan(self, bytes_total):
            raise ClaimLost("taken over")

    _, index = stage(big.size)
    with big.served(daemon) as endpoint, pytest.raises(ClaimLost):
        backup_full(endpoint, index, repository.chunks, progress=Refuses())


def test_progress_is_told_in_the_callers_thread_only(repository, stage, daemon, big):
    class Where(Told):
        threads = set()

        def advance(self, bytes_done):
            self.threads.add(threading.get_ident())

    _, index = stage(big.size)
    with big.served(daemon) as endpoint:
        backup_full(endpoint, index, repository.chunks, progress=Where())
    assert Where.threads == {threading.get_ident()}


def test_cancel_works_while_the_server_is_silent(repository, stage, big):
    """A server that answers OPTIONS and extents and then says nothing must not hold a cancel up."""
    with _SilentServer(big.size) as url:
        _, index = stage(big.size)
        began = time.monotonic()
        with pytest.raises(Cancelled):
            backup_full(ImageEndpoint(url, None, None), index, repository.chunks, progress=_AfterSeconds(0.6))
        with pytest.raises(Cancelled):
            checksum(ImageEndpoint(url, None, None), block_size=MIB, progress=_AfterSeconds(0.3))
        assert time.monotonic() - began < 4


def test_a_ticket_cancelled_in_the_middle_is_denied(repository, stage, daemon, big, monkeypatch):
    _, index = stage(big.size)
    real = writer.ChunkWriter.add

    with big.exported() as url:
        ticket = daemon.add_ticket(url, big.size)
        gone = threading.Event()

        def add(self, *args):
            if not gone.is_set():
                gone.set()
                daemon.remove_ticket(ticket)
            real(self, *args)

        monkeypatch.setattr(writer.ChunkWriter, "add", add)
        with pytest.raises(TransferDenied):
            backup_full(daemon.endpoint(ticket), index, repository.chunks, progress=Told())
    assert not index.complete


def test_a_disk_server_that_dies_is_a_broken_transfer_and_can_be_retried(
    repository, stage, daemon, big, monkeypatch
):
    point = str(uuid.uuid4())
    _, index = stage(big.size, point=point, source="backup-1")
    real = writer.ChunkWriter.add
    with big.exported() as url:
        ticket = daemon.add_ticket(url, big.size)
        killed = threading.Event()

        def add(self, *args):
            real(self, *args)
            if not killed.is_set():
                killed.set()
                assert big.server is not None
                big.server.kill()

        monkeypatch.setattr(writer.ChunkWriter, "add", add)
        with pytest.raises(TransferBroken) as raised:
            backup_full(daemon.endpoint(ticket), index, repository.chunks, progress=Told())
        monkeypatch.undo()
        daemon.remove_ticket(ticket)
    assert raised.value.retryable
    published, _ = finish(repository, stage, daemon, big, point)
    assert published.disk_ids == [DISK]


def test_a_full_repository_stops_the_backup_and_a_retry_goes_on(
    repository, stage, daemon, big, monkeypatch, tmp_path
):
    point = str(uuid.uuid4())
    _, index = stage(big.size, point=point, source="backup-1")
    room = [12 * MIB]

    def write_all(fd, data):
        room[0] -= len(data)
        if room[0] < 0:
            raise OSError(28, "No space left on device")
        os.write(fd, data)

    monkeypatch.setattr(writer, "write_all", write_all)
    monkeypatch.setattr(writer, "BATCH_CHUNKS", 2)
    with big.served(daemon) as endpoint, pytest.raises(RepositoryFull):
        backup_full(endpoint, index, repository.chunks, progress=Told())
    monkeypatch.undo()
    published, stats = finish(repository, stage, daemon, big, point)
    assert stats.bytes_read < 80 * MIB
    assert casync_extract(repository, published.index_path(DISK), tmp_path / "o.raw") == bytes(big.content)


def test_a_cancelled_restore_leaves_no_connection(repository, stage, daemon, big, tmp_path):
    published, _ = finish(repository, stage, daemon, big, str(uuid.uuid4()))
    target = Disk.create(tmp_path / "target.qcow2", big.size)
    with (
        target.served(daemon, writable=True) as endpoint,
        published.index(DISK) as index,
        pytest.raises(Cancelled),
    ):
        restore(endpoint, index, repository.chunks, progress=Told(0, Cancelled()), disk_is_zero=True)
    with target.served(daemon, writable=True) as endpoint, published.index(DISK) as index:
        restore(endpoint, index, repository.chunks, progress=Told(), disk_is_zero=False)
    assert target.read() == bytes(big.content)


class _AfterSeconds(Told):
    """Cancels some seconds after it was made, whether or not anything moves."""

    def __init__(self, seconds):
        super().__init__()
        self._until = time.monotonic() + seconds

    def advance(self, bytes_done):
        if time.monotonic() > self._until:
            raise Cancelled


class _SilentServer:
    """Speaks just enough HTTP for a client to begin, then leaves every read unanswered."""

    def __init__(self, size):
        options = b'{"features": ["extents"], "max_readers": 4}'
        extents = b'[{"start": 0, "length": %d, "zero": false, "hole": false}]' % size
        self._answers = {b"OPTIONS": options, b"GET-extents": extents}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = []

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/images/t"

    def __exit__(self, *_):
        self._listener.close()
        for each in self._open:
            each.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection.makefile("rb") as lines:
            while request := lines.readline():
                while lines.readline().strip():
                    pass
                key = b"GET-extents" if b"/extents" in request else request.split()[0]
                if body := self._answers.get(key):
                    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
                    connection.sendall(head + body)


def test_what_became_durable_is_told_over_all_attempts(repository, stage, daemon, big, monkeypatch):
    """Also by an attempt that fails: the sum is what lies in the repository."""
    monkeypatch.setattr(writer, "BATCH_CHUNKS", 8)
    told: list[tuple[int, int]] = []
    point = str(uuid.uuid4())

    def on_stored(chunks: int, size: int) -> None:
        told.append((chunks, size))

    with big.served(daemon) as endpoint:
        _, index = stage(big.size, point=point, source="backup-1")
        with pytest.raises(Cancelled):
            backup_full(
                endpoint, index, repository.chunks, progress=Told(30 * MIB, Cancelled()), on_stored=on_stored
            )
        first = sum(chunks for chunks, _ in told)
        assert first
        _, index = stage(big.size, point=point, source="backup-1")
        backup_full(endpoint, index, repository.chunks, progress=Told(), on_stored=on_stored)
    stored = chunk_files(repository)
    assert first < sum(chunks for chunks, _ in told) == len(stored)
    assert sum(size for _, size in told) == sum(file.stat().st_size for file in stored)
