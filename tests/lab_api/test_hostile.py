# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that mean no good: the lab answers with a 4xx and lives on."""

import itertools
import socket
import ssl
import uuid
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.api import resources_backups, resources_disks, resources_inventory, resources_log, resources_vms
from lab.api.routing import Router
from lab.api.search import parse_search, select
from lab.engine.faults import EngineFault
from lab.engine.ovf_reader import BadOvf, read_ovf
from lab.xmlsafe import BadXml, parse
from tests.lab_api.support import Rest
from tests.lab_support import RunningLab

pytestmark = pytest.mark.lab
BODIES = (
    b"",
    b"\xff\xfe\x00",
    b"<vm>",
    b"<a/>",
    b'<?xml version="1.0" encoding="nonsense"?><vm/>',
    b'<!DOCTYPE vm [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><vm><name>&b;</name></vm>',
    b"<vm>" + b"<x>" * 5000,
)


def routes() -> list[tuple[str, str]]:
    """Every route as (method, path), with unknown ids."""
    found = []

    class Recorder(Router):
        def add(self, method: str, pattern: str, handler: Any) -> None:
            found.append((method, pattern))

    recorder = Recorder()
    for module in (resources_inventory, resources_vms, resources_backups, resources_disks, resources_log):
        module.register(recorder)
    return found


def path_of(pattern: str, value: str) -> str:
    return "/" + "/".join(value if part.startswith("{") else part for part in pattern.split("/"))


def test_every_route_survives_unknown_ids_and_nonsense(rest: Rest) -> None:
    values = (str(uuid.uuid4()), "x" * 300, "%00", "..%2f..%2fetc")
    for (method, pattern), value in itertools.product(routes(), values):
        answer = rest.call(method, path_of(pattern, value), b"<action/>" if method != "GET" else None)
        assert answer.status < 500, (method, pattern, value)


def test_every_writing_route_survives_bad_bodies(rest: Rest) -> None:
    unknown = str(uuid.uuid4())
    for (method, pattern), body in itertools.product(routes(), BODIES):
        if method in ("POST", "PUT"):
            answer = rest.call(method, path_of(pattern, unknown), body)
            assert answer.status < 500, (method, pattern, body[:40])


@pytest.mark.parametrize("tag", ["name", "memory", "disks", "provisioned_size", "id"])
def test_strange_values_in_known_elements(api_lab: RunningLab, rest: Rest, tag: str) -> None:
    vm_id = api_lab.vm("legacy-01").id
    for value in ("", "-1", "9" * 40, "1e9", "\u202e", "{b}%s", "<x/>" * 50, "true"):
        for path, root in (("/vms", "vm"), ("/disks", "disk"), (f"/vms/{vm_id}/backups", "backup")):
            cluster = "<cluster><name>Default</name></cluster><template><name>Blank</name></template>"
            body = f"<{root}>{cluster}<{tag}>{value}</{tag}></{root}>"
            answer = rest.call("POST", path, body.encode())
            assert answer.status < 500, (path, body)
            if answer.status in (201, 202):
                rest.delete(f"{path}/{answer.xml.get('id')}")


def test_oversized_body_is_refused(rest: Rest) -> None:
    answer = rest.call("POST", "/vms", b"<vm><name>" + b"a" * (65 << 20) + b"</name></vm>")
    assert answer.status == 413


def test_broken_http_is_no_end(api_lab: RunningLab, rest: Rest) -> None:
    host, _, port = api_lab.engine_url.removeprefix("https://").partition(":")
    context = ssl.create_default_context(cafile=api_lab.ca_file)
    for data in (
        b"\0\0\0",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /ovirt-engine/api/vms HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    ):
        with socket.create_connection((host, int(port))) as plain:
            plain.sendall(data)
        with context.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host) as secure:
            secure.sendall(data)
    assert rest.get("").status == 200


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_search_text_is_read_or_refused(text: str) -> None:
    fields = {"name": lambda item: item, "status": lambda item: [item, None]}
    try:
        parse_search(text)
        found = select(["web-01", "db-01"], fields, search=text, maximum=None, case_sensitive=False)
    except EngineFault as error:
        assert error.status == 400
    else:
        assert set(found) <= {"web-01", "db-01"}


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_xml_or_refused(data: bytes) -> None:
    try:
        element = parse(data)
    except BadXml:
        return
    assert element.tag


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_text_is_an_ovf_or_refused(text: str) -> None:
    with pytest.raises(BadOvf):
        read_ovf(text)


def test_search_quotes_survive_the_url(rest: Rest) -> None:
    for text in (
        '"',
        "name=",
        "=",
        "name=[",
        "page 0",
        "sortby",
        "a and or b",
        "name~x",
        "*",
        "page 99999999999",
    ):
        assert rest.get(f"/vms?search={quote(text)}").status in (200, 400), text
