"""Requests that come by a reverse proxy: who really sent them, and to which address.

Anybody can send ``X-Forwarded-*``; they count only from a proxy that was named.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection
from typing import Any

from aiohttp import web

from storj.network.node.wire import Handler
from storj.system.hosts import ip_of

_HOST = re.compile(r'[A-Za-z0-9.\-_\[\]:]{1,255}')

_Net = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_proxies(texts: Collection[str]) -> tuple[_Net, ...]:
    """Return the networks of proxies that are trusted.

    Args:
        texts (Collection[str]): addresses, or networks such as ``10.0.0.0/8``.

    Raises:
        ValueError: If one is neither.
    """
    try:
        return tuple(ipaddress.ip_network(text, strict=False) for text in texts)
    except ValueError as error:
        raise ValueError(f'a proxy is an IP address or a network, {error}') from None


def trusted(networks: Collection[_Net]) -> Callable[[str | None], bool]:
    """Return what tells whether an address is that of a proxy in one of these networks."""

    def is_trusted(address: str | None) -> bool:
        ip = ip_of(address or '') if networks else None
        return ip is not None and any(ip in network for network in networks)

    return is_trusted


def behind_proxies(networks: Collection[_Net]) -> Callable[..., Any]:
    """Return a middleware that lets requests of trusted proxies tell where they come from.

    ``X-Forwarded-For`` names the client, ``X-Forwarded-Proto`` and ``X-Forwarded-Host`` the address
    that it asked for.
    """
    is_trusted = trusted(networks)

    @web.middleware
    async def forwarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_trusted(request.remote):
            return await handler(request)
        changes: dict[str, Any] = {}
        # The last that no trusted proxy added itself: what stands before it is the client's word.
        for name in reversed(_listed(request, 'X-Forwarded-For')):
            if ip_of(name) is None:
                break
            changes['remote'] = name
            if not is_trusted(name):
                break
        scheme = _listed(request, 'X-Forwarded-Proto')[-1:]
        if scheme and scheme[0].lower() in ('http', 'https'):
            changes['scheme'] = scheme[0].lower()
        host = _listed(request, 'X-Forwarded-Host')[-1:]
        if host and _HOST.fullmatch(host[0]):
            changes['host'] = host[0]
        return await handler(request.clone(**changes))

    return forwarded


def _listed(request: web.Request, header: str) -> list[str]:
    """Return the entries of a header that each proxy adds to."""
    text = ','.join(request.headers.getall(header, []))
    return [entry.strip() for entry in text.split(',') if entry.strip()]
