"""Hosts by their text: addresses, and what means the machine itself. Looks up nothing."""

from __future__ import annotations

import functools
import ipaddress
from typing import TypeAlias

__all__ = ('Ip', 'ip_of', 'is_loopback')

Ip: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

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
