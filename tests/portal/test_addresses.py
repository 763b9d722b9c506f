# SPDX-License-Identifier: GPL-3.0-or-later
"""No way into the inside of a network by a URL, however it is written."""

import ipaddress
import socket

import pytest

from portal import addresses
from portal.addresses import AddressRefused, NameNotResolved, Policy

PUBLIC = Policy()
INSIDE = Policy(private=True, http=True)

PRIVATE = [
    "127.0.0.1", "127.8.9.1", "10.0.0.7", "172.16.0.1", "192.168.1.1", "100.64.0.1", "198.18.0.1", "::1",
    "fc00::1", "fd12:3456::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
    "2002:7f00:1::",
]  # fmt: skip
NEVER = [
    "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.1.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::",
    "fe80::1", "ff02::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fd00:ec2::254", "168.63.129.16",
    "100.100.100.200", "2002:a9fe:a9fe::", "64:ff9b::e000:1",
]  # fmt: skip
FINE = ["8.8.8.8", "193.0.6.139", "2001:4860:4860::8888", "64:ff9b::808:808", "::ffff:8.8.8.8"]


def may(text: str, policy: Policy) -> bool:
    try:
        addresses.require_allowed(ipaddress.ip_address(text), policy)
    except AddressRefused:
        return False
    return True


@pytest.mark.parametrize("text", PRIVATE)
def test_private_addresses_only_where_they_are_allowed(text):
    assert not may(text, PUBLIC)
    assert may(text, INSIDE)


@pytest.mark.parametrize("text", NEVER)
def test_addresses_that_are_never_right(text):
    assert not may(text, PUBLIC)
    assert not may(text, INSIDE)


@pytest.mark.parametrize("text", FINE)
def test_public_addresses(text):
    assert may(text, PUBLIC)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "gopher://hooks.example.com/",
        "javascript:alert(1)",
        "//hooks.example.com/",
        "hooks.example.com",
        "https://",
        "https:///path",
        "https://user:secret@hooks.example.com/",
        "https://hooks.example.com@evil.example/",
        "https://hooks.example.com/#part",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com:x/",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\r\nX-Evil: 1",
        "https://hooks.example.com\\@evil.example/",
        "https://１２７.０.０.１/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[oops]/",
    ],
)
def test_what_is_refused_before_dns_is_asked(url):
    with pytest.raises(AddressRefused):
        addresses.parsed(url, PUBLIC)


def test_a_plain_address_keeps_its_parts():
    target = addresses.parsed("https://Hooks.Example.com/a/b?c=d%20e&f", PUBLIC)
    assert (target.host, target.port, target.path) == ("hooks.example.com", 443, "/a/b?c=d%20e&f")
    assert target.url == "https://hooks.example.com:443/a/b?c=d%20e&f"
    assert addresses.parsed("http://[fd00::5]:8080", INSIDE).url == "http://[fd00::5]:8080/"


def answering(monkeypatch, *texts):
    def getaddrinfo(host, port, **_):
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [
            (families[ipaddress.ip_address(text).version], socket.SOCK_STREAM, 6, "", (text, port))
            for text in texts
        ]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", getaddrinfo)


def test_a_name_is_refused_if_any_of_its_addresses_is(monkeypatch):
    target = addresses.parsed("https://hooks.example.com/", PUBLIC)
    answering(monkeypatch, "8.8.8.8", "2001:4860:4860::8888", "8.8.8.8")
    assert addresses.resolved(target, PUBLIC) == ["8.8.8.8", "2001:4860:4860::8888"]
    answering(monkeypatch, "8.8.8.8", "10.0.0.1")
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1"):
        addresses.resolved(target, PUBLIC)
    assert addresses.resolved(target, INSIDE) == ["8.8.8.8", "10.0.0.1"]


def test_a_name_without_an_address_may_have_one_later(monkeypatch):
    def nothing(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(addresses.socket, "getaddrinfo", nothing)
    with pytest.raises(NameNotResolved) as refused:
        addresses.resolved(addresses.parsed("https://nowhere.example/", PUBLIC), PUBLIC)
    assert refused.value.retryable
