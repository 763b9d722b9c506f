# SPDX-License-Identifier: GPL-3.0-or-later
"""One POST: bounded in time and size, and only ever to an address that was checked."""

import socket
import ssl
import threading
from contextlib import contextmanager

import pytest

from lab.pki import make_pki
from portal import addresses
from portal.addresses import AddressRefused, Policy
from portal.events import posting
from portal.events.posting import NotDelivered

INSIDE = Policy(private=True, http=True)


def post(url, *, policy=INSIDE, seconds=10, **kwargs):
    return posting.post(
        url, b"{}", {"X-Portal-Event": "ping"}, policy=policy, timeout_seconds=seconds, **kwargs
    )


@contextmanager
def raw_server(handle):
    """A server of one connection after the other, which `handle` speaks on."""
    listener = socket.create_server(("127.0.0.1", 0))
    stopping = threading.Event()

    def serve():
        while not stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    handle(connection)
                except OSError:
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        stopping.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(30)


def test_what_is_sent_and_what_is_kept_of_the_answer(listening):
    listening.answers = [(201, b"x" * 5000)]
    answer = post(listening.url)
    assert (answer.status, len(answer.text)) == (201, posting.KEPT_BYTES)
    [request] = listening.requests
    assert (request.body, request.headers["X-Portal-Event"]) == (b"{}", "ping")
    assert "Expect" not in request.headers


def test_control_characters_of_an_answer_are_made_harmless(listening):
    listening.answers = [(200, b"a\x00b\x1b[31m\xff<script>\n")]
    assert post(listening.url).text == "a\ufffdb\ufffd[31m\ufffd<script>\n"


def test_a_redirect_is_an_answer_and_not_followed(listening):
    listening.answers = [(307, b"")]
    listening.headers = {"Location": "http://169.254.169.254/"}
    assert post(listening.url).status == 307
    assert len(listening.requests) == 1


def test_a_private_address_is_refused_and_nothing_is_sent(listening):
    with pytest.raises(AddressRefused):
        post(listening.url, policy=Policy(http=True))
    assert listening.requests == []


def test_a_name_that_answers_differently_the_second_time_gains_nothing(listening, monkeypatch):
    """DNS rebinding: libcurl must go to the address that was checked, and ask before each socket."""
    port = int(listening.url.rpartition(":")[2].partition("/")[0])
    url = f"http://rebind.example:{port}/hook"
    asked = []

    def first_time(host, port, **_):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", first_time)
    assert post(url).status == 204
    assert asked == ["rebind.example"], "resolved once"
    # Should libcurl ever want to go elsewhere than was resolved, its socket is refused.
    monkeypatch.setattr(addresses, "resolved", lambda target, policy: ["127.0.0.1"])
    with pytest.raises(AddressRefused):
        post(url, policy=Policy(http=True))
    assert len(listening.requests) == 1


def test_proxies_of_the_environment_are_not_used(listening, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert post(listening.url).status == 204


def test_an_answer_without_end_is_cut_off():
    def endless(connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    with raw_server(endless) as port:
        answer = post(f"http://127.0.0.1:{port}/", seconds=120)
    assert (answer.status, len(answer.text)) == (200, posting.KEPT_BYTES)


def test_a_server_that_drips_is_cut_off():
    stop = threading.Event()

    def dripping(connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not stop.wait(0.2):
            connection.sendall(b"X-Drop: 1\r\n")

    with raw_server(dripping) as port:
        with pytest.raises(NotDelivered, match="within 1 seconds"):
            post(f"http://127.0.0.1:{port}/", seconds=1)
        stop.set()


def test_a_closed_port_and_a_closed_connection_have_words():
    with (
        raw_server(lambda connection: connection.recv(65536)) as port,
        pytest.raises(NotDelivered, match="without an answer"),
    ):
        post(f"http://127.0.0.1:{port}/")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(NotDelivered, match="Nobody answered"):
            post(f"http://127.0.0.1:{unused.getsockname()[1]}/")


def test_a_certificate_that_is_not_trusted_gets_nothing(tmp_path):
    pki = make_pki(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.cert_file, pki.key_file)
    heard = []

    def over_tls(connection):
        with context.wrap_socket(connection, server_side=True) as secured:
            heard.append(secured.recv(65536))
            secured.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with raw_server(over_tls) as port:
        url = f"https://127.0.0.1:{port}/"
        with pytest.raises(NotDelivered, match="certificate"):
            post(url)
        assert not any(heard), "a handshake at most"
        assert post(url, ca_file=str(pki.ca_file)).status == 204
        assert any(heard)
