"""Connections to bridges and MetaDisk nodes that end in time, and at once on demand.

requests bounds the wait for each piece of an answer, so one that comes byte by byte lasts forever,
and nothing ends a request from outside. Here every request under way is a :class:`Call`, which the
connection that carries it knows:

* the head of an answer is whole within the time to read, and everything within the call's time;
* :meth:`Calls.end` shuts down the sockets of all calls, whatever they wait for.
* A name may have several addresses, those of bridges that share their work. One where nobody
  answers, or whose connection breaks, comes last the next time.

Connections to farmers (:class:`storj.farmer_connection.FarmerSocket`) are of another kind:

* TLS takes the descriptor of a socket over, and with it goes whatever a subclass of ``socket`` does
  while it waits, as theirs does. What is left is a limit for each wait and, to end it from outside,
  a second descriptor that can be shut down. Farmers speak no TLS.
* A push to a farmer waits for two things at once, space to send and an early refusal. It also ends
  when the farmer is too slow over some seconds, or when a function of the caller says so; no moment
  that is known before expresses that.

Knows urllib3 and sockets; knows nothing of bridges.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NewConnectionError,
)
from urllib3.poolmanager import PoolManager, pool_classes_by_scheme

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: Seconds for a connection to an address while the name has others.
_NEXT_ADDRESS = 2.0
# Addresses whose failures are remembered.
_REMEMBERED = 64
# Bytes of a request that are put together before they are sent.
_TOGETHER = 64 * 1024


class Call:
    """One request under way.

    Args:
        patience (float): seconds for the whole head of the answer, and for each piece of its body.
        limit (float): seconds for making the connection, and again for the whole body.
        clock (Callable[[], float]): seconds of a monotonic clock.
        failed (dict | None): address -> when it failed last; shared by the calls of a client.
    """

    def __init__(
        self,
        patience: float,
        limit: float,
        clock: Callable[[], float] = time.monotonic,
        failed: dict[Any, float] | None = None,
    ) -> None:
        self._failed = {} if failed is None else failed
        self._address: Any = None
        self._patience = patience
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._aborted = False
        self._ends = clock() + limit

    def expect_head(self) -> None:
        """Begin to wait for the head of an answer."""
        self._ends = self._clock() + self._patience

    def expect_body(self) -> None:
        """Begin to wait for the body of an answer."""
        self._ends = self._clock() + self._limit

    def left(self) -> float:
        """Return the seconds that are left for what is waited for.

        Raises:
            TimeoutError: If none are.
        """
        left = self._ends - self._clock()
        if left <= 0:
            raise TimeoutError('timed out')
        return left

    def piece(self) -> float:
        """Return the seconds in which another piece of the answer must come.

        Raises:
            TimeoutError: If it is too late for any.
        """
        return min(self._patience, self.left())

    def use(self, sock: Any) -> None:
        """Take note of the socket that the request goes over from now on.

        Raises:
            ConnectionAbortedError: If the call was ended meanwhile.
        """
        # A socket of its own: TLS takes over the other one before its handshake.
        handle = socket.fromfd(sock.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        with self._lock:
            before, self._handle = self._handle, handle
        if before is not None:
            before.close()
        with suppress(OSError):
            # Unknown as long as there is no connection.
            self._address = sock.getpeername()
        self.check()

    def in_order(self, found: Iterable[Any]) -> list[Any]:
        """Return addresses as ``getaddrinfo`` gives them, those that failed last at the end."""
        return sorted(found, key=lambda it: self._failed.get(it[4], 0.0))

    def note_failure(self, address: Any = None) -> None:
        """Remember that an address failed, by default that of the connection in use."""
        address = address or self._address
        if address is not None:
            if len(self._failed) >= _REMEMBERED:
                self._failed.clear()
            self._failed[address] = time.monotonic()

    def check(self) -> None:
        """Raise ConnectionAbortedError if the call was ended from outside."""
        if self._aborted:
            raise ConnectionAbortedError('the call was ended')

    def abort(self) -> None:
        """End the call: a thread that waits for its socket gets an end of file."""
        with self._lock:
            self._aborted = True
            if self._handle is not None:
                with suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Forget the socket; the call has ended."""
        with self._lock:
            if self._handle is not None:
                self._handle.close()


class Calls:
    """The requests that a client has under way, until it is closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: set[Call] = set()
        self._failed: dict[Any, float] = {}
        self._ended = threading.Event()

    @property
    def ended(self) -> bool:
        """Whether they were ended, so that no other may begin."""
        return self._ended.is_set()

    @contextmanager
    def begin(
        self, patience: float, limit: float, clock: Callable[[], float] = time.monotonic
    ) -> Iterator[Call]:
        """Make what the calling thread requests a call; arguments as of :class:`Call`.

        Raises:
            ConnectionAbortedError: If the calls were ended.
        """
        call = Call(patience, limit, clock, self._failed)
        with self._lock:
            if self.ended:
                raise ConnectionAbortedError('the calls were ended')
            self._under_way.add(call)
        token = _CALL.set(call)
        try:
            yield call
            # What ended with the connection may be only the beginning of an answer.
            call.check()
        except (OSError, HTTPError):
            if not self.ended:
                call.note_failure()
            raise
        finally:
            _CALL.reset(token)
            with self._lock:
                self._under_way.remove(call)
            call.close()

    def pause(self, seconds: float) -> None:
        """Wait for so long, or until the calls are ended."""
        self._ended.wait(seconds)

    def end(self) -> None:
        """End what is under way, and all pauses."""
        with self._lock:
            self._ended.set()
            under_way = list(self._under_way)
        for call in under_way:
            call.abort()


#: What the calling thread is at: connections are made deep within requests, which hands nothing on.
_CALL: ContextVar[Call | None] = ContextVar('call', default=None)


class _Pieces(io.RawIOBase):
    """What comes out of a socket, for as long as the call has time."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, call: Call) -> None:
        self._raw = raw
        self._socket = sock
        self._call = call

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._socket.settimeout(self._call.piece())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer that is read in the time of the call under way."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._call = _CALL.get()
        if self._call is not None:
            self._call.expect_head()
            self.fp = io.BufferedReader(_Pieces(self.fp.detach(), sock, self._call))

    def begin(self) -> None:
        super().begin()
        if self._call is not None:
            self._call.expect_body()


class _Timed(HTTPConnection):
    """A connection that knows the call that it works for."""

    response_class = _Response
    # The beginning of a request, until it is sent.
    _unsent: bytearray | None = None

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request: head and body of a small one at once, which saves both sides a step."""
        self._unsent = bytearray()
        try:
            super().request(*args, **kwargs)
            self._send_beginning()
        finally:
            self._unsent = None

    def send(self, data: Any) -> None:
        if self._unsent is None:
            super().send(data)
            return
        self._unsent += data
        if len(self._unsent) > _TOGETHER:
            self._send_beginning()

    def _send_beginning(self) -> None:
        beginning, self._unsent = self._unsent, None
        if beginning:
            super().send(beginning)

    def _new_conn(self) -> socket.socket:
        call = _CALL.get()
        if call is None:
            return super()._new_conn()
        try:
            return self._dial(call)
        except UnicodeError:
            raise LocationParseError(f'{self.host!r} is no name of a host') from None
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f'{self.host} takes no connection in time') from error
        except OSError as error:
            raise NewConnectionError(self, f'no connection to {self.host}: {error}') from error

    def _dial(self, call: Call) -> socket.socket:
        """Connect as urllib3 does, by a socket that the call can shut down meanwhile."""
        failure = OSError('it has no address')
        found = socket.getaddrinfo(self._dns_host.strip('[]'), self.port, type=socket.SOCK_STREAM)
        addresses = call.in_order(found)
        for number, (family, kind, protocol, _, address) in enumerate(addresses, 1):
            # One that hangs must not take the time of those after it.
            longest = math.inf if number == len(addresses) else _NEXT_ADDRESS
            try:
                sock = socket.socket(family, kind, protocol)
                return self._reach(address, sock, call, longest)
            except OSError as error:
                call.check()
                call.note_failure(address)
                failure = error
        raise failure

    def _reach(
        self, address: Any, sock: socket.socket, call: Call, longest: float
    ) -> socket.socket:
        try:
            call.use(sock)
            for option in self.socket_options or ():
                sock.setsockopt(*option)
            left = min(call.left(), longest)
            sock.settimeout(left if self.timeout is None else min(self.timeout, left))
            if self.source_address:
                sock.bind(self.source_address)
            sock.connect(address)
            call.check()
        except BaseException:
            sock.close()
            raise
        return sock

    def connect(self) -> None:
        super().connect()
        self._go_over()

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            self._go_over()
        super().putrequest(*args, **kwargs)

    def _go_over(self) -> None:
        call = _CALL.get()
        if call is not None:
            call.use(self.sock)


class _TimedTLS(_Timed, HTTPSConnection):
    """The same, encrypted."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Timed


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TimedTLS


def _with_our_pools(manager: PoolManager) -> PoolManager:
    # A proxy of another kind (SOCKS) has connections of its own.
    if manager.pool_classes_by_scheme is pool_classes_by_scheme:
        manager.pool_classes_by_scheme = {'http': _Pool, 'https': _TLSPool}
    return manager


class Adapter(HTTPAdapter):
    """What sends the requests of a client's session."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        _with_our_pools(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pools of connections to a proxy."""
        return _with_our_pools(super().proxy_manager_for(*args, **kwargs))
