# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder as broker: nothing half-read, nothing delivered twice."""

import json
import threading
from queue import Empty

import pytest
from kombu import Connection
from kombu.exceptions import ChannelError

pytestmark = pytest.mark.embedded


@pytest.fixture
def open_channel(tmp_path):
    (tmp_path / "messages").mkdir()
    connections = []

    def make():
        connection = Connection(
            "folder://",
            transport_options={
                "data_folder_in": str(tmp_path / "messages"),
                "data_folder_out": str(tmp_path / "messages"),
                "control_folder": str(tmp_path / "control"),
            },
        )
        connections.append(connection)
        return connection.channel()

    yield make
    for connection in connections:
        connection.release()


def test_many_messages_between_threads_are_all_read_whole_and_once(open_channel, tmp_path):
    total, got, failures = 300, [], []
    done = threading.Event()
    channels = [open_channel() for _ in range(4)]

    def publish(channel, start):
        for number in range(start, total, 2):
            channel._put("celery", {"number": number, "filling": "x" * 20_000})

    def consume(channel):
        while True:
            all_published = done.is_set()
            try:
                got.append(channel._get("celery")["number"])
            except Empty:
                if all_published:
                    return
            except Exception as error:
                failures.append(error)
                return

    publishers = [threading.Thread(target=publish, args=(channels[n], n)) for n in range(2)]
    consumers = [threading.Thread(target=consume, args=(channels[n],)) for n in (2, 3)]
    for thread in (*consumers, *publishers):
        thread.start()
    for thread in publishers:
        thread.join(30)
    done.set()
    for thread in consumers:
        thread.join(30)
    assert failures == []
    assert sorted(got) == list(range(total))
    assert list((tmp_path / "messages").iterdir()) == []


def test_messages_come_in_order_and_to_their_own_queue(open_channel):
    channel = open_channel()
    for number in range(3):
        channel._put("celery", {"number": number})
    channel._put("other.celery", {"number": 99})
    assert channel._size("celery") == 3
    assert [channel._get("celery")["number"] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(Empty):
        channel._get("celery")


def test_drafts_are_not_messages(open_channel, tmp_path):
    channel = open_channel()
    (tmp_path / "messages" / ".000000000000001_x.celery.msg.draft").write_text("{half")
    (tmp_path / "messages" / ".000000000000001_x.celery.msg.taken").write_text("{half")
    assert channel._size("celery") == 0
    with pytest.raises(Empty):
        channel._get("celery")


def test_binding_from_many_threads_loses_no_queue(open_channel, tmp_path):
    channels = [open_channel() for _ in range(6)]
    together = threading.Barrier(6)

    def bind(number):
        together.wait(5)
        channels[number]._queue_bind("celery", "key", "", f"queue-{number}")

    threads = [threading.Thread(target=bind, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    table = json.loads((tmp_path / "control" / "celery.exchange").read_text())
    assert sorted(entry[2] for entry in table) == [f"queue-{number}" for number in range(6)]


def test_a_folder_that_takes_no_messages_is_told(open_channel, tmp_path):
    channel = open_channel()
    (tmp_path / "messages").rmdir()
    with pytest.raises(ChannelError, match="does not take messages"):
        channel._put("celery", {"number": 1})
