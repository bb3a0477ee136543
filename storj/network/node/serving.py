"""A server on one listening socket, and the bounds on what its connections may cost.

Every server of the network starts here. Descriptors belong to the process, so all servers of a
process share one :class:`Connections`::

    silent, or half a head ......... closed after IDLE_SECONDS (by aiohttp)
    more connections than allowed .. the one that has waited longest without a request is closed
    an answer that nobody reads .... closed when the transport was full for STALL_SECONDS

A request under way is never ended in favour of another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
import ssl
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from aiohttp import http_exceptions, web

from storj.exception import NetworkSetupError, ResourceError
from storj.network.node.wire import Handler
from storj.system.hosts import is_loopback

#: Descriptors of a farmer with a process of its own, for some dozens of transfers at a time.
FARMER_DESCRIPTORS = 192

#: Seconds that a connection may stay without a whole head of a request.
IDLE_SECONDS = 75.0

#: Seconds that a client may read nothing of an answer that fills its connection.
STALL_SECONDS = 60.0

#: Seconds after which it is looked for signals at the latest.
WAKE = 0.25

# Of the descriptors of a process, three eighths are for connections that come in: the rest is for
# files, listeners and calls of its own, and for those that are just being closed.
_SHARE = 3 / 8
_MOST = 10_000
_FEWEST = 32
# Used on systems without such limits.
_DESCRIPTORS = 1024

# Connections that may wait to be accepted.
_BACKLOG = 512

# Seconds in which connections are kept open when a server stops: a request may be on its way.
_LINGER = 1.0

# Turns of the event loop from a connection that is accepted to one that the server knows.
_TURNS = 3

logger = logging.getLogger(__name__)


def _limits() -> tuple[float, float]:
    """Return how many descriptors this process may have open, and how high it may set that."""
    try:
        import resource
    except ImportError:  # Windows
        return math.inf, math.inf
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    return math.inf if soft == unlimited else soft, math.inf if hard == unlimited else hard


def need_descriptors(needed: int, what: str) -> None:
    """Raise the limit of this process for open files, if it is too low.

    Args:
        needed (int): descriptors, those of connections included.
        what (str): needs them, for the message.

    Raises:
        ResourceError: If the system does not allow so many.
    """
    soft, hard = _limits()
    if soft >= needed:
        return
    import resource

    try:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))
    except (ValueError, OSError) as error:
        allowed = int(soft if math.isinf(hard) else hard)
        raise ResourceError(
            f'{what} needs {needed} open files at a time, and {allowed} are allowed: raise the '
            f"limit ('ulimit -n {needed}', or 'LimitNOFILE={needed}' for a service of systemd)"
        ) from error


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Bind a port; a taken one is an error now, not a wait later.

    Args:
        host (str): address to listen on; ``::`` stands for those of IPv4 too, where that can be.
        port (int): 0 for any free one.
        shared (bool): whether other processes listen on it, too, as :func:`reserved` allows.

    Raises:
        NetworkSetupError: If it cannot be bound.
    """
    both = host == '::' and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            (host, port), family=_family(host, port), dualstack_ipv6=both, reuse_port=shared
        )
    except OSError as error:
        raise _not_bound(host, port, error) from error


@contextlib.contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """Keep a port for processes that share it, whether one of them listens or not.

    Args:
        host (str): address to listen on.
        port (int): 0 for any free one.

    Yields:
        int: the port.

    Raises:
        NetworkSetupError: If it is taken, or this system cannot share ports.
    """
    if not hasattr(socket, 'SO_REUSEPORT'):
        raise NetworkSetupError('processes cannot share a port on this system')
    # One that others share would not be refused below.
    with listen(host, port) as alone:
        port = alone.getsockname()[1]
    with socket.socket(_family(host, port), socket.SOCK_STREAM) as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if kept.family == socket.AF_INET6:
            only = host != '::' or not socket.has_dualstack_ipv6()
            kept.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only))
        try:
            # Nobody is connected to a socket that does not listen.
            kept.bind((host, port))
        except OSError as error:
            raise _not_bound(host, port, error) from error
        yield port


def _family(host: str, port: int) -> int:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return found[0][0]


def _not_bound(host: str, port: int, error: OSError) -> NetworkSetupError:
    return NetworkSetupError(f'cannot listen on {host}:{port}: {error.strerror or error}')


class Connections:
    """The connections of a process that have come in, and how many there may be.

    Args:
        limit (int | None): of all; by default three eighths of the descriptors of
            the process.
        per_address (int | None): of one address; by default a quarter of all. Addresses of this
            machine have no bound of their own: a proxy and all local clients share one.
        stall_seconds (float): that a client may read nothing.
    """

    def __init__(
        self,
        limit: int | None = None,
        per_address: int | None = None,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._limit = limit
        self._per_address = per_address
        self.stall_seconds = stall_seconds
        self._idle: OrderedDict[_Connection, None] = OrderedDict()
        self._open: dict[asyncio.BaseTransport, _Connection] = {}
        self._by_address: Counter[str] = Counter()

    @property
    def limit(self) -> int:
        """How many there may be."""
        # Asked late: programs raise the limit of their descriptors when they start.
        soft, _ = _limits()
        descriptors = _DESCRIPTORS if math.isinf(soft) else soft
        return self._limit or max(_FEWEST, min(_MOST, int(descriptors * _SHARE)))

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: _Connection) -> bool:
        """Take a new connection; if there are too many, close the one that has waited longest.

        Returns:
            bool: False if all others are at work.
        """
        own = self._per_address or max(1, self.limit // 4)
        candidates: Iterable[_Connection]
        if not connection.is_local and self._by_address[connection.address] >= own:
            address = connection.address
            full, candidates = True, [each for each in self._idle if each.address == address]
        else:
            full, candidates = len(self._open) >= self.limit, self._idle
        if full:
            waiting = next(iter(candidates), None)
            if waiting is None:
                return False
            logger.debug('closing an idle connection of %s for a new one', waiting.address)
            self.forget(waiting)
            waiting.abort()
        self._open[connection.transport] = connection
        self._by_address[connection.address] += 1
        self._idle[connection] = None
        return True

    def forget(self, connection: _Connection) -> None:
        """Count a connection no more; nothing happens if it is not counted."""
        if self._open.pop(connection.transport, None) is not None:
            self._by_address[connection.address] -= 1
            if not self._by_address[connection.address]:
                del self._by_address[connection.address]
        self._idle.pop(connection, None)

    def begin(self, transport: asyncio.BaseTransport | None) -> None:
        """Count a request that has begun on a connection."""
        connection = None if transport is None else self._open.get(transport)
        if connection is not None:
            connection.requests += 1
            self._idle.pop(connection, None)

    def end(self, transport: asyncio.BaseTransport | None) -> None:
        """Count a request that has ended."""
        connection = None if transport is None else self._open.get(transport)
        if connection is not None:
            connection.requests -= 1
            if not connection.requests:
                connection.quiet = True
                self._idle[connection] = None


#: Those of this process.
CONNECTIONS = Connections()


class _Connection(asyncio.Protocol):
    """Wraps the protocol of one HTTP connection, from its start to its end."""

    def __init__(self, connections: Connections, inner: asyncio.Protocol, server: Server) -> None:
        self._connections = connections
        self._server = server
        self._inner: Any = inner
        self._admitted = False
        # Whether nothing has come since the start, or since the last request.
        self.quiet = True
        self._stalled: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport
        self.address = ''
        self.is_local = False
        self.requests = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast('asyncio.Transport', transport)
        peer = transport.get_extra_info('peername')
        self.address = peer[0] if isinstance(peer, tuple) and peer else ''
        # A socket for both families gives addresses of IPv4 in the guise of IPv6.
        self.is_local = not self.address or is_loopback(self.address)
        self._server.note_opened(self)
        self._admitted = self._connections.admit(self)
        if self._admitted:
            self._inner.connection_made(transport)
        else:
            self.transport.abort()

    def abort(self) -> None:
        """Close the connection now."""
        self.transport.abort()

    def close(self) -> None:
        """Close the connection as soon as the last answer is written."""
        self._inner.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._set_stalled(None)
        self._connections.forget(self)
        self._server.note_closed(self)
        if self._admitted:
            self._inner.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        self.quiet = False
        if self._admitted:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        keep: bool | None = self._inner.eof_received() if self._admitted else None
        return keep

    def pause_writing(self) -> None:
        loop = asyncio.get_running_loop()
        self._set_stalled(loop.call_later(self._connections.stall_seconds, self._give_up))
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._set_stalled(None)
        self._inner.resume_writing()

    def _set_stalled(self, handle: asyncio.TimerHandle | None) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
        self._stalled = handle

    def _give_up(self) -> None:
        logger.debug('%s reads nothing of its answer; closing the connection', self.address)
        self.transport.abort()


class _NoRequestHeads(logging.Filter):
    """Keeps request heads out of the log: they may hold a password or a token."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, http_exceptions.HttpProcessingError):
            record.exc_info, record.exc_text = None, None
            record.msg, record.args = 'a request that is not HTTP', ()
            record.levelno, record.levelname = logging.DEBUG, 'DEBUG'
            return logger.isEnabledFor(logging.DEBUG)
        return True


_server_log = logging.getLogger(f'{__name__}.http')
_server_log.addFilter(_NoRequestHeads())


class Server:
    """A web application on one listening socket.

    Args:
        app (web.Application): not started yet.
        connections (Connections): bounds, shared by all servers of the process.
        shutdown_timeout (float): seconds that answers under way have when it stops; bodies of
            requests are read no more.
        grace (float): seconds before that, in which requests under way are finished.
        **options (Any): of aiohttp's ``AppRunner``.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        connections: Connections = CONNECTIONS,
        shutdown_timeout: float = 1.0,
        grace: float = 0.0,
        **options: Any,
    ) -> None:
        self._connections = connections
        self._grace = grace
        self._shutdown_timeout = shutdown_timeout
        self._open: set[_Connection] = set()
        # The tasks that answer requests.
        self._requests: dict[asyncio.Task[Any] | None, web.Request] = {}
        # Once it stops, set when a request or a connection has ended.
        self._ended: asyncio.Event | None = None
        self._tls: ssl.SSLContext | None = None
        app.middlewares.insert(0, self._counted)
        # Before the application closes what its requests use.
        app.on_cleanup.insert(0, self._end)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_server_log,
            keepalive_timeout=IDLE_SECONDS,
            # Bodies are not decompressed: their size is bounded as it is sent.
            auto_decompress=False,
            shutdown_timeout=shutdown_timeout,
            **options,
        )
        self._server: asyncio.Server | None = None
        self._listening: socket.socket | None = None

    @web.middleware
    async def _counted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        transport, task = request.transport, asyncio.current_task()
        self._connections.begin(transport)
        self._requests[task] = request
        try:
            response = await handler(request)
            if self._ended is not None:
                response.force_close()
            return response
        finally:
            self._connections.end(transport)
            del self._requests[task]
            if self._ended is not None:
                self._ended.set()

    def note_opened(self, connection: _Connection) -> None:
        """Count a connection that has come in."""
        self._open.add(connection)

    def note_closed(self, connection: _Connection) -> None:
        """Count a connection no more."""
        self._open.discard(connection)
        if self._ended is not None:
            self._ended.set()

    async def start(self, listening: socket.socket, *, tls: ssl.SSLContext | None = None) -> None:
        """Serve on a socket that is bound; it belongs to the server from now on."""
        await self._runner.setup()
        self._listening, self._tls = listening, tls
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._guarded, sock=listening, backlog=_BACKLOG, ssl=tls
        )

    def _guarded(self) -> _Connection:
        """Return the protocol of a new connection."""
        make: Any = self._runner.server
        return _Connection(self._connections, make(), self)

    def break_off(self) -> None:
        """Reset all connections, as the end of a process would."""
        served = self._runner.server
        for connection in () if served is None else served.connections:
            transport = connection.transport
            connection.force_close()
            if transport is not None:
                transport.abort()

    async def stop(self) -> None:
        """Accept no more connections, finish requests, and close all connections.

        asyncio loses a connection that it has accepted, unclosed, if its server was closed before
        the connection got there; so first no more are accepted.
        """
        listening, self._listening = self._listening, None
        last: list[socket.socket] = []
        self._ended = asyncio.Event()
        if listening is not None and listening.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(listening)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            last = _accepted(listening) if self._grace else []
        if self._server is not None:
            self._server.close()
        if self._grace:
            await self._finish(last)
        await self._runner.cleanup()

    async def _finish(self, last: Iterable[socket.socket]) -> None:
        """Answer the requests under way; aiohttp would read no more of their bodies.

        Args:
            last (Iterable[socket.socket]): connections that came in at the end.
        """
        loop = asyncio.get_running_loop()
        works = [loop.connect_accepted_socket(self._guarded, each, ssl=self._tls) for each in last]
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.gather(*works, return_exceptions=True), _LINGER)
        # Each closes with its next answer: one that is closed before may lose a request.
        await self._wait_while(lambda: bool(self._open), min(_LINGER, self._grace))
        for connection in list(self._open):
            if connection.quiet:
                connection.close()
        await self._wait_while(lambda: bool(self._requests), self._grace)

    async def _end(self, app: web.Application) -> None:
        """End what aiohttp leaves: requests whose client has gone, and answers that nobody reads.

        An event loop that ends after it would lose both, unclosed.
        """
        for task, request in self._requests.items():
            if task is not None and request.transport is None:
                task.cancel()
        await self._wait_while(lambda: bool(self._requests or self._open), self._shutdown_timeout)
        for connection in self._open:
            connection.abort()
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def _wait_while(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait, for some seconds at the most, while what ends may change a condition."""
        ended = self._ended

        async def wait() -> None:
            while ended is not None and condition():
                ended.clear()
                await ended.wait()

        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(wait(), seconds)


def _accepted(listening: socket.socket) -> list[socket.socket]:
    """Return the connections that nobody has accepted yet."""
    found = []
    with contextlib.suppress(OSError):
        while True:
            found.append(listening.accept()[0])
    return found
