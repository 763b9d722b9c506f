# SPDX-License-Identifier: GPL-3.0-or-later
"""A Manager's address leads to a Manager or nowhere: not to metadata services, not along a redirect."""

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.test import Client

from lab.pki import make_pki
from portal.addresses import AddressRefused
from portal.environments import services
from portal.environments.models import Environment
from portal.ovirt.errors import ManagerError
from tests.portal.test_addresses import answering

pytestmark = pytest.mark.django_db

NEVER = [
    "https://169.254.169.254/ovirt-engine/api",
    "https://[fe80::1]/ovirt-engine/api",
    "https://[::ffff:169.254.169.254]/ovirt-engine/api",
    "https://0.0.0.0/ovirt-engine/api",
    "https://224.0.0.1/ovirt-engine/api",
    "https://168.63.129.16/ovirt-engine/api",
    "https://2852039166/ovirt-engine/api",
]


def add(root, url, ca_pem=""):
    return services.add_environment(
        actor=root, name="Inside", api_url=url, username="u@internal", password="hunter2", ca_pem=ca_pem
    )


@pytest.mark.parametrize("url", NEVER)
def test_addresses_that_can_be_no_manager_are_refused_before_anything_is_sent(people, url, monkeypatch):
    monkeypatch.setattr(services, "_read", lambda environment: pytest.fail("a connection was made"))
    with pytest.raises(AddressRefused):
        add(people.root, url)
    client = Client()
    client.force_login(people.root)
    given = {"name": "Inside", "api_url": url, "username": "u@internal", "password": "hunter2"}
    answer = client.post("/managers/add/", given)
    assert answer.status_code == 422
    assert "hunter2" not in answer.content.decode()
    assert not Environment.objects.exists()


def test_a_name_for_such_an_address_is_refused_too(people, monkeypatch):
    answering(monkeypatch, "10.0.0.7", "169.254.169.254")
    monkeypatch.setattr(services, "_read", lambda environment: pytest.fail("a connection was made"))
    with pytest.raises(AddressRefused):
        add(people.root, "https://manager.example.com/ovirt-engine/api")


@pytest.fixture
def elsewhere(tmp_path):
    """A server that sends every request on to a second one, over TLS that is trusted; yields both."""
    pki = make_pki(tmp_path)
    heard: list[str] = []

    def serve(handler):
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki.cert_file, pki.key_file)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    class Second(BaseHTTPRequestHandler):
        def do_GET(self):
            heard.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_):
            pass

    second = serve(Second)

    class First(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            heard.append("first")
            self.send_response(302)
            self.send_header("Location", f"https://localhost:{second.server_port}/stolen")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_):
            pass

    first = serve(First)
    yield f"https://127.0.0.1:{first.server_port}/ovirt-engine/api", pki.ca_file.read_text(), heard
    for server in (first, second):
        server.shutdown()
        server.server_close()


def test_a_redirect_to_another_host_is_not_followed(people, elsewhere):
    url, ca_pem, heard = elsewhere
    with pytest.raises(ManagerError):
        add(people.root, url, ca_pem)
    assert heard == ["first"]
    assert not Environment.objects.exists()
