"""Moves a shard to or from one farmer, over either wire.

A channel moves bytes and knows nothing of files; who calls it hashes. Each pushes or pulls one
shard at a time, in the calling thread, in bounded memory and bounded time::

    channel_for(pointer).pull(pointer, size, sink)

Farmers of protocol 0.x are reached over WebSocket (:mod:`storj.web_socket`), later ones over HTTP
(protocol reference, sections 4.1 and 4.2). Farmers are reached directly: a proxy that the
environment names is one for the web.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from storj.api import parse_version
from storj.digest import Buffer
from storj.exception import (
    NO_FARMER,
    FarmerError,
    FarmerUnreachableError,
    IntegrityError,
    StorjBridgeApiError,
    StorjError,
)
from storj.farmer_connection import (
    ChannelLimits,
    FarmerSocket,
    Ticket,
    Watchdog,
    farmer_error,
    never,
)
from storj.metadata import __version__
from storj.text import count_of

if TYPE_CHECKING:
    from storj.web_socket import DataChannel

# Bytes that are sent, or received, at a time: few enough for a core's cache, where they are hashed
# and decrypted, and so many that the steps in between do not count.
_BLOCK: Final = 512 * 1024
_MAX_ANSWER: Final = 64 * 1024
# A farmer that has the shard already answers 304 (section 10.14); libstorj takes 201 too.
_STORED: Final = (200, 201, 304)
_USER_AGENT: Final = f'storj-python/{__version__}'


class Channel(Protocol):
    """One farmer's end of a transfer. Not for two threads at a time."""

    def push(
        self,
        pointer: Any,
        chunks: Iterable[Buffer],
        size: int,
        *,
        limits: ChannelLimits | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        """Send a shard and wait until the farmer has stored it.

        Args:
            pointer (Mapping | FilePointer): from ``PUT /frames/{frame}``.
            chunks (Iterable[Buffer]): the shard in order, in pieces of any size; taken as the
                wire goes, and not to the end if the farmer has the shard already.
            size (int): its bytes.
            limits (ChannelLimits | None): how long the farmer may take.
            cancelled (Callable[[], bool]): whether to stop; asked at least four times a second.

        Raises:
            FarmerError: If the farmer refuses; of a more specific class if it says why.
            FarmerUnreachableError: If there is no connection, it breaks, or is too slow.
            IntegrityError: If the chunks bring another number of bytes than size.
            TransferCancelled: If it was cancelled.
        """

    def pull(
        self,
        pointer: Any,
        size: int,
        sink: Callable[[memoryview], object],
        *,
        limits: ChannelLimits | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        """Receive a shard.

        Args:
            pointer (Mapping | FilePointer): from ``GET /buckets/{id}/files/{file}``.
            size (int): bytes that must come.
            sink (Callable[[memoryview], object]): takes the pieces in order, and never more than
                size bytes; each piece is its own during the call, to be changed as well, and not
                after it.
            limits (ChannelLimits | None): how long the farmer may take.
            cancelled (Callable[[], bool]): whether to stop.

        Raises:
            FarmerError: If the farmer refuses; of a more specific class if it says why.
            FarmerUnreachableError: If there is no connection, it breaks, or is too slow.
            IntegrityError: If another number of bytes comes.
            TransferCancelled: If it was cancelled.
        """


class WebSocketChannel:
    """A channel to farmers of protocol 0.x; see :class:`Channel`."""

    def push(
        self,
        pointer: Any,
        chunks: Iterable[Buffer],
        size: int,
        *,
        limits: ChannelLimits | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        """Send a shard; see :meth:`Channel.push`."""
        self._channel(pointer, limits, cancelled).push(chunks, size)

    def pull(
        self,
        pointer: Any,
        size: int,
        sink: Callable[[memoryview], object],
        *,
        limits: ChannelLimits | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        """Receive a shard; see :meth:`Channel.pull`."""
        self._channel(pointer, limits, cancelled).pull(size, sink)

    @staticmethod
    def _channel(
        pointer: Any, limits: ChannelLimits | None, cancelled: Callable[[], bool]
    ) -> DataChannel:
        # Loaded when the first such farmer is met: it brings a library, and most speak HTTP.
        from storj.web_socket import DataChannel

        return DataChannel(Ticket.of(pointer), limits, cancelled)


class _Response(http.client.HTTPResponse):
    """An answer whose body goes into the caller's buffer without a copy in between."""

    def readinto1(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read what there is of the body, waiting only if there is nothing; 0 at its end."""
        if self.chunked or self.isclosed():
            try:
                return super().readinto1(buffer)
            except (ValueError, OverflowError) as error:
                # So the library says of a chunk of negative length.
                raise http.client.HTTPException('the chunked encoding is invalid') from error
        target = buffer if self.length is None else buffer[: self.length]
        count: int = self.fp.readinto1(target)
        if self.length is not None:
            self.length -= count
        return count


class _Connection(http.client.HTTPConnection):
    """The standard library's HTTP over a :class:`~storj.farmer_connection.FarmerSocket`."""

    response_class = _Response

    def __init__(self, ticket: Ticket, watch: Watchdog) -> None:
        super().__init__(ticket.host, ticket.port)
        self.wire = FarmerSocket.dial(ticket.host, ticket.port, watch)
        self.sock = self.wire

    def connect(self) -> None:
        """Refuse to connect a second time unseen."""
        raise FarmerUnreachableError(message='the connection to the farmer is closed')


class HttpChannel:
    """A channel to farmers of protocol 1.0 and later; see :class:`Channel`."""

    def push(
        self,
        pointer: Any,
        chunks: Iterable[Buffer],
        size: int,
        *,
        limits: ChannelLimits | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        """Send a shard; see :meth:`Channel.push`."""
        ticket = Ticket.of(pointer)
        watch = Watchdog(limits or ChannelLimits(), cancelled)
        with self._connected(ticket, watch) as connection:
            self._request(connection, 'POST', ticket, {'Content-Length': str(size)})
            _send_body(connection.wire, watch, chunks, size)
            watch.expect(watch.limits.acknowledge, 'the farmer does not acknowledge the shard')
            with connection.getresponse() as response:
                status, answer = response.status, _answer(response)
                if status not in _STORED:
                    raise farmer_error(status, answer)

    def pull(
        self,
        pointer: Any,
        size: int,
        sink: Callable[[memoryview], object],
        *,
        limits: ChannelLimits | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        """Receive a shard; see :meth:`Channel.pull`."""
        ticket = Ticket.of(pointer)
        watch = Watchdog(limits or ChannelLimits(), cancelled)
        with self._connected(ticket, watch) as connection:
            self._request(connection, 'GET', ticket, {})
            watch.expect(watch.limits.first_byte, 'the farmer does not send the shard')
            # Closed by itself, as it holds the socket of a connection that ends with it.
            with connection.getresponse() as response:
                if response.status != 200:
                    raise farmer_error(response.status, _answer(response))
                _receive_body(response, watch, size, sink)

    @staticmethod
    @contextmanager
    def _connected(ticket: Ticket, watch: Watchdog) -> Iterator[_Connection]:
        """Open a connection, and close it in the end; say errors in ours."""
        connection = _Connection(ticket, watch)
        try:
            with watch.translating():
                yield connection
        except http.client.IncompleteRead as error:
            raise IntegrityError('the farmer ended the shard too early') from error
        except http.client.HTTPException as error:
            raise FarmerError(message='the farmer does not speak HTTP') from error
        finally:
            connection.close()

    @staticmethod
    def _request(
        connection: _Connection, method: str, ticket: Ticket, fields: dict[str, str]
    ) -> None:
        """Send the head of a request. Every part of it was checked to be harmless."""
        watch = connection.wire.watch
        watch.expect(watch.limits.connect, 'the farmer does not read the request')
        path = f'/shards/{ticket.hash}?token={ticket.token}'
        connection.putrequest(method, path, skip_accept_encoding=True)
        connection.putheader('User-Agent', _USER_AGENT)
        connection.putheader('Content-Type', 'application/octet-stream')
        if ticket.node_id is not None:
            # A relay finds the farmer behind it by this.
            connection.putheader('x-storj-node-id', ticket.node_id)
        for name, value in fields.items():
            connection.putheader(name, value)
        connection.endheaders()


def _send_body(wire: FarmerSocket, watch: Watchdog, chunks: Iterable[Buffer], size: int) -> None:
    """Send a shard until it is over, or the farmer answers before.

    Raises:
        IntegrityError: If the chunks bring another number of bytes.
        OSError: If the connection broke and the farmer left no answer.
    """
    watch.flow()
    sent, source = 0, iter(chunks)
    while True:
        with watch.paused():
            chunk = next(source, None)
        if chunk is None:
            break
        rest = memoryview(chunk).cast('B')
        if sent + len(rest) > size:
            raise IntegrityError(f'the source brings more than {count_of(size, "byte")}')
        while rest:
            # A farmer refuses as soon as it has read the head; the rest would be sent for nothing.
            if wire.readable():
                return
            try:
                count = wire.write(rest[:_BLOCK])
            except ConnectionError:
                # The farmer may have said why before it hung up.
                if wire.readable():
                    return
                raise
            if not count:
                return
            watch.moved(count)
            sent += count
            rest = rest[count:]
    if sent < size:
        raise IntegrityError(f'the source brings {sent} of {count_of(size, "byte")}')


def _receive_body(
    response: http.client.HTTPResponse,
    watch: Watchdog,
    size: int,
    sink: Callable[[memoryview], object],
) -> None:
    """Hand a shard on as it comes.

    Raises:
        IntegrityError: If another number of bytes comes.
    """
    if response.length is not None and response.length != size:
        raise IntegrityError(f'the farmer has {response.length} of {count_of(size, "byte")}')
    # One byte more than the shard has: a farmer that sends too much is noticed at once.
    buffer = memoryview(bytearray(min(size + 1, _BLOCK)))
    received = 0
    while count := response.readinto1(buffer):
        if not received:
            watch.flow()
        watch.moved(count)
        received += count
        if received > size:
            raise IntegrityError(f'the farmer sends more than {count_of(size, "byte")}')
        with watch.paused():
            sink(buffer[:count])
    if received != size:
        raise IntegrityError(f'the farmer sent {received} of {count_of(size, "byte")}')


def _answer(response: http.client.HTTPResponse) -> str:
    """Return a farmer's words: the field ``result`` of its answer, or the answer as it is."""
    raw = b''
    try:
        while len(raw) < _MAX_ANSWER and (piece := response.read1(_MAX_ANSWER - len(raw))):
            raw += piece
    except (OSError, http.client.HTTPException, FarmerUnreachableError):
        # The status is the outcome; a part of the text is better than another error.
        pass
    text = raw.decode('utf-8', 'replace')
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return text
    result = answer.get('result') if isinstance(answer, dict) else None
    return result if isinstance(result, str) else text


def channel_for(pointer: Any) -> WebSocketChannel | HttpChannel:
    """Return a channel of the kind that a pointer's farmer speaks.

    Args:
        pointer (Mapping | FilePointer): as the bridge gave it.

    Raises:
        FarmerError: If it names no farmer, or holds something that cannot be right.
    """
    version = parse_version(Ticket.of(pointer).protocol)
    return WebSocketChannel() if version is not None and version[0] == 0 else HttpChannel()


def node_of(pointer: Mapping[str, Any] | Any) -> str:
    """Return the node id of a pointer's farmer, the empty text if it has none."""
    farmer = pointer.get('farmer')
    node = farmer.get('nodeID') if isinstance(farmer, Mapping) else None
    return node if isinstance(node, str) else ''


def check_pointer(pointer: object) -> Mapping[str, Any]:
    """Return the answer to a contract if it names a farmer and a token.

    Raises:
        StorjBridgeApiError: If the bridge left something out.
    """
    if not isinstance(pointer, Mapping):
        raise StorjBridgeApiError('the bridge did not answer with a contract')
    farmer = pointer.get('farmer')
    if not isinstance(farmer, Mapping) or not pointer.get('token') or not node_of(pointer):
        raise StorjBridgeApiError('the bridge answered with a contract without farmer or token')
    return pointer


def finds_nobody(error: StorjError) -> bool:
    """Return whether a bridge that makes no contract says that it found no farmer.

    A silent bridge may also have missed an offer, or be starting again; a 503 may be of a gateway
    whose bridge is busy, as original bridges send a 400; any other text means something else.
    """
    if not isinstance(error, StorjBridgeApiError) or error.code == 503:
        return False
    return NO_FARMER.search(error.message) is not None
