"""Hosts by their text: addresses, and what means the machine itself. Looks up nothing."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Mapping
from typing import TypeAlias

Ip: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Addresses that mean all of the machine's, and by which of it a server reaches itself.
EVERYWHERE: Mapping[str, str] = {'': '127.0.0.1', '0.0.0.0': '127.0.0.1', '::': '::1'}  # noqa: S104

_NUMERIC = re.compile(r'(?:^|\.)(?:[0-9]+|0[xX][0-9a-fA-F]*)\Z')
_HOST = re.compile(r'(?!-)[0-9A-Za-z-]{1,63}(?:\.[0-9A-Za-z-]{1,63}){0,31}\Z')
# Texts that are remembered: servers see those of few hosts with every request.
_REMEMBERED = 1024


@functools.lru_cache(maxsize=_REMEMBERED)
def ip_of(text: str) -> Ip | None:
    """Return an address that is written as one, an IPv4 one in the guise of IPv6 as itself."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(ip, 'ipv4_mapped', None) or ip


def is_loopback(host: str) -> bool:
    """Return whether an address, or a name by its form, means the machine itself."""
    name = host.lower().rstrip('.')
    if name == 'localhost' or name.endswith('.localhost'):
        return True
    ip = ip_of(host)
    return ip is not None and ip.is_loopback


def is_host(text: str) -> bool:
    """Return whether nodes may tell each other a text as the address of one of them."""
    if ip_of(text) is None:
        # A name that ends in a number is an IPv4 address to resolvers, in disguise: 127.1, 0x7f01.
        return _HOST.match(text) is not None and not _NUMERIC.search(text)
    # A zone (fe80::1%eth0) names an interface of one machine.
    return '%' not in text


def check_announced(address: str) -> None:
    """Check the address that a node is about to announce: the others refuse one that is none.

    Raises:
        ValueError: If others could not reach a node by it.
    """
    if address in EVERYWHERE:
        raise ValueError(f'a server that listens on {address!r} needs an address to announce')
    if not is_host(address):
        raise ValueError(
            'an address to announce is an IP address or a name of letters, digits, hyphens and'
            f' dots, without port or brackets, not {address!r}'
        )
