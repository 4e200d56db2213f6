"""Which addresses a webhook may go to: none by which a tenant could reach what is not public.

May import asyncio's resolver and the error tree. A name is resolved and checked at every connect,
and the address that was checked is the one that is connected to.
"""

from __future__ import annotations

import asyncio
import re
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from geo.errors import InvalidValue

URL_CHARS_MAX = 2_000
HOST_CHARS_MAX = 253
RESOLVE_LIMIT_S = 5.0
ADDRESSES_MAX = 4

# Stricter than RFC 3986 on purpose: no user, no fragment, no zone, no escape or foreign letter in
# the host, nothing that two parsers could read differently.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# WHATWG: a host that ends in a number is an IPv4 address, in decimal, octal or hexadecimal.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

_GLOBAL_V6 = IPv6Network("2000::/3")
_REFUSED = tuple(
    ip_network(n)
    for n in (
        "192.0.0.0/24",  # protocol assignments, and a metadata server
        "168.63.129.16/32",  # the metadata server of Azure has a public address
        "192.88.99.0/24",  # relays to IPv6
        "2001::/23",  # Teredo and other tunnels
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",
    )
)


class Target(NamedTuple):
    """Where a URL points: host in lower case (IPv6 without brackets)."""

    scheme: str
    host: str
    port: int


class RefusedAddress(Exception):
    """The host is, or resolves to, an address that a webhook may not go to."""


def check_url(url: str, *, allow_private: bool) -> Target:
    """The target of a well-formed URL. Raises InvalidValue for `url`; resolves nothing."""

    def wrong(expected: str) -> InvalidValue:
        # What follows the host may hold a token of the receiver's.
        return InvalidValue("url", url[:30] + ("..." if len(url) > 30 else ""), expected)

    found = _URL.fullmatch(url) if len(url) <= URL_CHARS_MAX else None
    if found is None:
        raise wrong(
            f"https://host/path of {URL_CHARS_MAX} plain characters at most, without user, "
            "password and fragment"
        )
    scheme, host = found["scheme"], found["host"].lower()
    if scheme != "https" and not allow_private:
        raise wrong("https")
    port = int(found["port"] or (443 if scheme == "https" else 80))
    if not _port_is_sane(port, allow_private):
        raise wrong("port 80, 443 or 1024 to 65535")
    labels = host.split(".")
    if not host.startswith("[") and not _NUMBER.fullmatch(labels[-1]):
        if len(host) > HOST_CHARS_MAX or not all(_LABEL.fullmatch(part) for part in labels):
            raise wrong("the name of a host in ASCII (xn-- for others)")
        if len(labels) == 1 and not allow_private:
            raise wrong("a full name such as hooks.example.com")
        return Target(scheme, host, port)
    try:
        address = IPv6Address(host[1:-1]) if host.startswith("[") else IPv4Address(host)
    except ValueError:
        raise wrong("an IPv4 address as four decimal numbers, or IPv6 in brackets") from None
    if not allow_private and not is_public(address):
        raise wrong("a public address")
    return Target(scheme, str(address), port)


def _port_is_sane(port: int, allow_private: bool) -> bool:
    return 0 < port <= 65_535 and (allow_private or port in (80, 443) or port >= 1_024)


async def check_target(target: Target, *, allow_private: bool) -> None:
    """Raises InvalidValue for `url` when its host has no address or one that is not public."""
    try:
        await addresses_of(target.host, target.port, allow_private=allow_private)
    except RefusedAddress as error:
        raise InvalidValue("url", target.host, f"a public address: {error}") from None
    except OSError as error:
        raise InvalidValue("url", target.host, f"a host that can be found: {error}") from None


async def addresses_of(host: str, port: int, *, allow_private: bool) -> list[str]:
    """The host's addresses, a few of them, each one checked.

    Raises:
        RefusedAddress: one of them is not public: then none is used.
        OSError: the name cannot be resolved (TimeoutError: not soon enough).
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(RESOLVE_LIMIT_S):
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not addresses:
        raise OSError("the name has no address")
    if not allow_private:
        for address in addresses:
            # A zone (fe80::1%eth0) makes it link-local.
            if "%" in address or not is_public(ip_address(address)):
                raise RefusedAddress("it is private, local, reserved or a metadata server's")
    return addresses[:ADDRESSES_MAX]


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether anybody on the internet may reach it, and nothing else hides in it."""
    if isinstance(address, IPv6Address) and address not in _GLOBAL_V6:
        # Mapped and compatible IPv4, NAT64, loopback, unique and site local, multicast, ...
        return False
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    return not any(address in network for network in _REFUSED)
