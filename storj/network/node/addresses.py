"""Which addresses a node may be made to call, and by whom.

Bridges call the addresses that farmers announce, farmers those that bridges name. A caller from
another machine must not make them call this machine or its local link, whose services are for their
owner only. A host name does not help: it is resolved for each call, all its addresses are checked,
and the connection goes to one of those.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web
from aiohttp.abc import AbstractResolver

from storj.system.hosts import ip_of, is_loopback

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult

#: What a call by a session may raise when nobody answers, or not to the end. asyncio's TimeoutError
#: is an OSError from Python 3.11 on only.
NETWORK_ERRORS = (aiohttp.ClientError, OSError, asyncio.TimeoutError)

#: Seconds for a name to be looked up when it is announced.
_LOOKUP = 5.0


def why_unreachable(error: BaseException) -> str:
    """Return what one of :data:`NETWORK_ERRORS` says, for people."""
    is_of_tls = isinstance(error, aiohttp.ClientSSLError)
    if isinstance(error, aiohttp.ClientConnectorError) and not is_of_tls:
        # Its own text has the settings for TLS, also where there is none.
        cause = error.os_error
        text = cause.strerror or str(cause)
        # As asyncio says it: "Connect call failed ('127.0.0.1', 6382)".
        failed = cause.errno is not None and text.startswith('Connect call failed')
        return os.strerror(cause.errno or 0) if failed else text
    return str(error) or 'no answer in time'


def comes_from_here(request: web.BaseRequest) -> bool:
    """Return whether a request comes from this machine, and not from elsewhere by a proxy here."""
    if 'X-Forwarded-For' in request.headers or 'Forwarded' in request.headers:
        return False
    # A request without an address came over a socket of this machine's.
    return not request.remote or is_loopback(request.remote)


def may_call(address: str, *, local: bool) -> bool:
    """Return whether an address may be called, as far as its text tells.

    Args:
        address (str): IP address or host name.
        local (bool): whether it was named by somebody on this machine.
    """
    if is_loopback(address):
        return local
    ip = ip_of(address)
    if ip is None:
        return True
    return not (ip.is_unspecified or ip.is_multicast) and (local or not ip.is_link_local)


async def may_announce(address: str, *, local: bool) -> bool:
    """Return whether a farmer may announce an address, looking a name up.

    A name that has no address yet may be announced; it is looked up again when it is called.

    Args:
        address (str): IP address or host name.
        local (bool): whether the farmer is on this machine.
    """
    if not may_call(address, local=local):
        return False
    if local or ip_of(address) is not None:
        return True
    loop = asyncio.get_running_loop()
    try:
        found = await asyncio.wait_for(
            loop.getaddrinfo(address, None, type=socket.SOCK_STREAM), _LOOKUP
        )
    except (OSError, UnicodeError, asyncio.TimeoutError):
        return True
    return all(may_call(str(entry[4][0]).partition('%')[0], local=False) for entry in found)


def open_session(*, local: bool, **options: Any) -> aiohttp.ClientSession:
    """Return a session for calls to nodes.

    An address that is written as such is not looked at: that is for :func:`may_call`.

    Args:
        local (bool): whether what is called was named by somebody on this machine; else names that
            lead here are refused, as if nobody answered.
        options (Any): further ones of the session.
    """
    # Nobody is sent on to an address that was not looked at; a WebSocket has no switch for it.
    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(_refuse_redirect)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=None if local else _Guard()),
        cookie_jar=aiohttp.DummyCookieJar(),
        # What comes is bounded by its size on the wire.
        auto_decompress=False,
        trace_configs=[tracing],
        **options,
    )


async def _refuse_redirect(*_: object) -> None:
    raise aiohttp.ClientConnectionError('the node leads on to another address')


class _Guard(AbstractResolver):
    """Looks names up, and refuses those that lead where nobody elsewhere may send a call."""

    def __init__(self) -> None:
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if not all(may_call(entry['host'].partition('%')[0], local=False) for entry in found):
            raise OSError(
                errno.EHOSTUNREACH, 'the name leads to an address that must not be called'
            )
        return found

    async def close(self) -> None:
        await self._resolver.close()
