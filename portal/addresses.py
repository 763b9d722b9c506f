# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the portal may be sent by what people type: no way into the inside of a network by a URL.

A name is resolved once and the connection goes to the addresses found here, so that a name which answers
differently the second time (DNS rebinding) gains nothing. No Django in here.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from portal.errors import PortalError

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# RFC 6052: where IPv6-only networks reach IPv4. What lies behind counts.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Answer with the machine's own credentials in clouds, and lie outside of the link-local networks:
# AWS (IPv6), Azure's wire server, Alibaba, Oracle's IMDS for VMs.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd20:ce::254")
)
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class AddressRefused(PortalError):
    """The portal does not connect there; nothing was sent."""

    status = 422


class NameNotResolved(PortalError):
    """The name has no address right now."""

    retryable = True


@dataclass(frozen=True)
class Policy:
    """`private` = loopback and private networks are fine too; `http` = without TLS is fine too."""

    private: bool = False
    http: bool = False


@dataclass(frozen=True)
class Target:
    """A URL in its parts, checked as far as it can be without asking DNS. `host` without brackets."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_literal(self) -> bool:
        return _literal(self.host) is not None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def parsed(url: str, policy: Policy) -> Target:
    """The URL's parts. Raises AddressRefused for anything but a plain http(s) URL and for refused literal addresses."""
    if not url.isascii() or any(character <= " " or character in '\\"<>^`{|}\x7f' for character in url):
        raise AddressRefused(
            "The address holds characters that no URL may have; write others as %xx or xn--…."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise AddressRefused("This is not a URL.") from error
    if parts.scheme not in (("https", "http") if policy.http else ("https",)):
        allowed = "http or https" if policy.http else "https"
        raise AddressRefused(f"Only {allowed} addresses are spoken to.")
    if "@" in parts.netloc:
        raise AddressRefused("The address may hold no user name and no password.")
    if parts.fragment or not parts.hostname:
        raise AddressRefused("Only a plain address, please, with a host and without a #fragment.")
    host = parts.hostname
    literal = _literal(host)
    if literal is not None:
        require_allowed(literal, policy)
    query = f"?{parts.query}" if parts.query else ""
    return Target(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], f"{parts.path or '/'}{query}")


def resolved(target: Target, policy: Policy) -> list[str]:
    """All addresses of the target's host. Raises AddressRefused if any is refused, or NameNotResolved."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NameNotResolved(f"The name {target.host} has no address now.") from error
    texts = list(dict.fromkeys(str(item[4][0]).partition("%")[0] for item in found))
    for text in texts:
        require_allowed(ipaddress.ip_address(text), policy)
    return texts


def require_allowed(address: IpAddress, policy: Policy) -> None:
    """Raises AddressRefused. What is wrapped into an IPv6 address counts as what it is."""
    inner = _unwrapped(address)
    if is_never_right(inner):
        raise AddressRefused(
            f"The portal does not connect to {address}: such addresses are never a service of somebody's own."
        )
    if not policy.private and not inner.is_global:
        raise AddressRefused(
            f"The portal does not connect to {address}: it is in a private network, or this machine itself.",
            hint="A platform admin can allow private networks where that is wanted.",
        )


def is_never_right(address: IpAddress) -> bool:
    """Link-local (with the clouds' metadata), multicast, broadcast, unspecified and reserved addresses."""
    inner = _unwrapped(address)
    return (
        inner in _METADATA
        or inner.is_link_local
        or inner.is_multicast
        or inner.is_unspecified
        or (inner.is_reserved and not inner.is_loopback)
        or (inner.version == 4 and inner in _THIS_NETWORK)
    )


def _unwrapped(address: IpAddress) -> IpAddress:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.sixtofour is not None:
            return address.sixtofour
        if address.teredo is not None:
            return address.teredo[1]
    return address


def _literal(host: str) -> IpAddress | None:
    """The address that the host is, also in the odd spellings of IPv4 (`127.1`, `0x7f000001`), or None for a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None
