"""Storj web socket module: the data channel of farmers that run core 0.3 to 5.1.

Three layers: :class:`FrameParser` turns bytes into events and knows no socket (it lies in
``storj/web_socket_frames.py``), :class:`DataChannel` moves one shard over one connection in the
calling thread, and :class:`Client` is the documented class, which does so in a thread of its own::

    client = web_socket.Client(pointer)          # a pointer whose operation is PULL
    client.connect()
    shard = client.result()                      # waits; raises what went wrong

    client = web_socket.Client(pointer, open('shard', 'rb'))         # PUSH
    client.connect()
    client.run_forever()                         # waits; raises what went wrong

The exchange (protocol reference, section 4.1): the client names token, hash and operation in a
text frame, then one side sends the shard in binary frames, then the farmer closes with a code that
tells the outcome. Farmers below core 2.0.5 tell it in a text frame instead.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ws4py import WS_KEY
from ws4py.client.threadedclient import WebSocketClient
from ws4py.messaging import BinaryMessage, Message

from storj import web_socket_frames as frames
from storj.digest import Buffer, ShardDigest
from storj.exception import FarmerError, FarmerUnreachableError, IntegrityError, TransferCancelled
from storj.farmer_connection import (
    ChannelLimits,
    FarmerSocket,
    Ticket,
    Watchdog,
    farmer_error,
    never,
)
from storj.sharding import MAX_SHARD_SIZE
from storj.text import count_of, in_url
from storj.web_socket_frames import (
    FRAME_SIZE,
    Close,
    Data,
    Event,
    FrameParser,
    FrameWriter,
    Ping,
    Text,
)

__all__ = ('FRAME_SIZE', 'Client', 'DataChannel', 'FrameParser')

_MAX_HANDSHAKE = 16 * 1024
_RECEIVE_SIZE = 256 * 1024


class DataChannel:
    """One shard to or from one farmer over a WebSocket, in the calling thread.

    Args:
        ticket (Ticket): the checked pointer.
        limits (ChannelLimits): how long the farmer may take.
        cancelled (Callable[[], bool]): whether to stop; asked at least four times a second.

    Attributes:
        closing (tuple[int, str]): close code and reason of the farmer, once it closed; 1006 if it
            closed the connection without a close frame.
    """

    def __init__(
        self,
        ticket: Ticket,
        limits: ChannelLimits | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        self.closing = Close(frames.ABNORMAL, 'Going away')
        self._ticket = ticket
        self._limits = limits or ChannelLimits()
        self._watch = Watchdog(self._limits, cancelled)
        self._wire: FarmerSocket | None = None
        self._parser = FrameParser()
        self._writer = FrameWriter()
        self._buffer = memoryview(bytearray(_RECEIVE_SIZE))
        # What came together with the answer to the handshake.
        self._early = bytearray()
        self._pong: bytes | None = None

    # --- the connection ---------------------------------------------------------------------

    def connect(self) -> None:
        """Open the connection and the WebSocket on it.

        Raises:
            FarmerError: If there is no farmer, or one that speaks no WebSocket.
            TransferCancelled: If it was cancelled.
        """
        host, port = self._ticket.host, self._ticket.port
        self._wire = FarmerSocket.dial(host, port, self._watch)
        with self.ending():
            key = base64.b64encode(secrets.token_bytes(16))
            self._watch.expect(self._limits.connect, 'the farmer does not answer the handshake')
            self._wire.sendall(
                f'GET / HTTP/1.1\r\nHost: {in_url(host)}:{port}\r\nConnection: Upgrade\r\n'
                'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n'
                f'Sec-WebSocket-Key: {key.decode()}\r\n\r\n'.encode()
            )
            self._check_handshake(key)

    def _check_handshake(self, key: bytes) -> None:
        answer = bytearray()
        while b'\r\n\r\n' not in answer:
            count = self._receive()
            if not count:
                raise FarmerUnreachableError(message='the farmer hung up during the handshake')
            answer += self._buffer[:count]
            if len(answer) > _MAX_HANDSHAKE and b'\r\n\r\n' not in answer[:_MAX_HANDSHAKE]:
                raise FarmerError(message='the handshake of the farmer is too long')
        head, _, self._early = answer.partition(b'\r\n\r\n')
        status, *lines = bytes(head).split(b'\r\n')
        words = status.split(None, 2)
        if len(words) < 2 or not words[0].startswith(b'HTTP/') or words[1] != b'101':
            known = len(words) > 1 and re.fullmatch(b'[0-9]{3}', words[1])
            code = int(words[1]) if known else None
            raise FarmerError(code, 'the farmer does not speak WebSocket')
        fields = {}
        for line in lines:
            name, _, value = line.partition(b':')
            fields[name.strip().lower()] = value.strip()
        expected = base64.b64encode(hashlib.sha1(key + WS_KEY, usedforsecurity=False).digest())
        if not hmac.compare_digest(fields.get(b'sec-websocket-accept', b''), expected):
            raise FarmerError(message='the farmer answered a different handshake')
        if fields.get(b'sec-websocket-extensions') or fields.get(b'sec-websocket-protocol'):
            raise FarmerError(message='the farmer chose an extension that was not offered')

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Close the connection on any error, and translate it into errors of ours."""
        try:
            with self._watch.translating(frames.ABNORMAL):
                yield
        except FarmerError as error:
            # The close code names the rule that the farmer broke.
            own = error.code in (frames.PROTOCOL_ERROR, frames.NOT_UTF8, frames.TOO_BIG)
            self.close(error.code if own and error.code else frames.NORMAL)
            raise
        except BaseException:
            self.close()
            raise

    def close(self, code: int = frames.NORMAL) -> None:
        """Send a close frame, if that needs no waiting, and close the connection.

        Args:
            code (int): close code; 1000 goes out for one that the standard reserves.
        """
        wire, self._wire = self._wire, None
        if wire is None:
            return
        if not 1000 <= code < 5000 or code in frames.UNSENDABLE:
            code = frames.NORMAL
        try:
            wire.send(self._writer.build(frames.CLOSE, struct.pack('!H', code)))
        except OSError:
            # The farmer is gone or not reading; nothing is left to agree on.
            pass
        finally:
            wire.close()

    def _open_wire(self) -> FarmerSocket:
        if self._wire is None:
            raise FarmerUnreachableError(frames.ABNORMAL, 'the connection to the farmer is closed')
        return self._wire

    def _receive(self) -> int:
        return self._open_wire().recv_into(self._buffer)

    # --- frames -----------------------------------------------------------------------------

    def _events(self) -> Iterator[Event]:
        """Yield what the farmer sends, up to its close; pings are answered on the way."""
        while True:
            for event in self._take():
                if isinstance(event, Ping):
                    self._pong = event.payload
                    self._flush_pong()
                    continue
                yield event
                if isinstance(event, Close):
                    return

    def _take(self) -> Iterator[Event]:
        """Yield the events of what comes next."""
        if self._early:
            data, self._early = memoryview(self._early), bytearray()
        else:
            count = self._receive()
            if not count:
                raise FarmerUnreachableError(frames.ABNORMAL, 'the farmer went away')
            data = self._buffer[:count]
        yield from self._parser.feed(data)

    def _flush_pong(self) -> None:
        if self._pong is not None:
            payload, self._pong = self._pong, None
            self._open_wire().sendall(self._writer.build(frames.PONG, payload))

    def send_text(self, text: str) -> None:
        """Send a text message of at most 64 KiB."""
        self._open_wire().sendall(self._writer.build(frames.TEXT, text.encode()))

    def send_data(self, payload: Buffer) -> bool:
        """Send a piece of the shard in one frame.

        Args:
            payload (Buffer): 1 byte to 64 KiB.

        Returns:
            bool: False if the farmer ended the transfer meanwhile, see ``closing``.

        Raises:
            FarmerError: If it did so with an error, or broke the rules.
        """
        wire = self._open_wire()
        frame = self._writer.build(frames.BINARY, payload)
        # Looks once per frame for an answer; a farmer may close before it has read all.
        heard = wire.readable()
        while frame:
            if heard:
                for event in self._take():
                    if isinstance(event, Ping):
                        # Not amid a frame, and only to the last of them.
                        self._pong = event.payload
                    elif self._is_end(event):
                        return False
                heard = False
            try:
                count = wire.write(frame)
            except ConnectionError:
                # The farmer may have said why before it hung up; if not, reading fails as well.
                count = 0
            heard = not count
            frame = frame[count:]
        self._watch.moved(len(payload))
        self._flush_pong()
        return True

    def _is_end(self, event: Event) -> bool:
        """Return whether an event ends the transfer well.

        Raises:
            FarmerError: If it ends it otherwise, or has no place there.
        """
        if isinstance(event, Close):
            self.closing = event
            self.close(event.code)
            if event.code != frames.NORMAL:
                raise farmer_error(event.code, event.reason)
            return True
        if isinstance(event, Text):
            code, message = _status(event.text)
            if code != 200:
                raise farmer_error(code, message)
            self.closing = Close(frames.NORMAL, message)
            self.close()
            return True
        raise FarmerError(frames.PROTOCOL_ERROR, 'the farmer sent data that was not requested')

    # --- the exchange -----------------------------------------------------------------------

    def authorise(self, operation: str) -> None:
        """Name token, hash and operation; the farmer is silent if it agrees.

        Args:
            operation (str): PUSH or PULL.
        """
        with self.ending():
            self._watch.expect(self._limits.connect, 'the farmer does not read')
            self.send_text(
                json.dumps(
                    {'token': self._ticket.token, 'hash': self._ticket.hash, 'operation': operation}
                )
            )

    def send_shard(self, chunks: Iterable[Buffer], size: int | None = None) -> None:
        """Send a shard and wait until the farmer has stored it.

        Args:
            chunks (Iterable[Buffer]): the shard in order, in pieces of any size.
            size (int | None): its bytes; whatever the chunks bring if None.

        Raises:
            FarmerError: If the farmer refuses, or goes away.
            IntegrityError: If the chunks bring another number of bytes.
            TransferCancelled: If it was cancelled.
        """
        if self._wire is None and self.closing.code == frames.NORMAL:
            # The farmer has the shard already, and said so while a subclass was sending.
            return
        with self.ending():
            self._watch.flow()
            sent, source = 0, iter(chunks)
            while True:
                with self._watch.paused():
                    chunk = next(source, None)
                if chunk is None:
                    break
                view = memoryview(chunk).cast('B')
                sent += len(view)
                if size is not None and sent > size:
                    raise IntegrityError(f'the source brings more than {count_of(size, "byte")}')
                for start in range(0, len(view), FRAME_SIZE):
                    if not self.send_data(view[start : start + FRAME_SIZE]):
                        return
            if size is not None and sent < size:
                raise IntegrityError(f'the source brings {sent} of {count_of(size, "byte")}')
            self._watch.expect(
                self._limits.acknowledge,
                'Did not close channel by max Time-To-Write-Acknowledgement',
            )
            for event in self._events():
                if self._is_end(event):
                    return

    def receive_shard(self, size: int | None, sink: Callable[[memoryview], object]) -> None:
        """Receive a shard.

        Args:
            size (int | None): its bytes; any number up to 4 GiB if None.
            sink (Callable[[memoryview], object]): takes the pieces in order; each is its own during
                the call, to be changed as well, and not after it.

        Raises:
            FarmerError: If the farmer refuses, or goes away.
            IntegrityError: If it sends another number of bytes.
            TransferCancelled: If it was cancelled.
        """
        most = MAX_SHARD_SIZE if size is None else size
        received = 0
        with self.ending():
            self._watch.expect(
                self._limits.first_byte, 'Did not receive data within max Time-To-First-Byte'
            )
            for event in self._events():
                if isinstance(event, Data):
                    if not received:
                        self._watch.flow()
                    received += len(event.payload)
                    self._watch.moved(len(event.payload))
                    if received > most:
                        raise IntegrityError(f'the farmer sends more than {count_of(most, "byte")}')
                    with self._watch.paused():
                        sink(event.payload)
                elif self._is_end(event):
                    break
        if size is not None and received != size:
            raise IntegrityError(f'the farmer sent {received} of {count_of(size, "byte")}')

    def push(self, chunks: Iterable[Buffer], size: int | None = None) -> None:
        """Connect, send a shard, and close; see :meth:`send_shard`."""
        self.connect()
        self.authorise('PUSH')
        self.send_shard(chunks, size)

    def pull(self, size: int | None, sink: Callable[[memoryview], object]) -> None:
        """Connect, receive a shard, and close; see :meth:`receive_shard`."""
        self.connect()
        self.authorise('PULL')
        self.receive_shard(size, sink)


def _status(text: str) -> tuple[int | None, str]:
    """Return code and message of a status frame, as farmers below core 2.0.5 send them."""
    try:
        status = json.loads(text)
    except (ValueError, RecursionError):
        return None, text
    if not isinstance(status, dict):
        return None, text
    code, message = status.get('code'), status.get('message')
    return (
        code if isinstance(code, int) and not isinstance(code, bool) else None,
        message if isinstance(message, str) else '',
    )


_NOWHERE = Ticket('', 0, None, '', '', '', None)


class Client(WebSocketClient):  # type: ignore[misc]
    """Web socket client.

    Moves the shard of one pointer in a thread of its own, which :meth:`connect` starts. What the
    farmer sends is checked against size and hash of the pointer.

    Args:
        pointer (dict | storj.model.FilePointer): names farmer, token, hash and operation.
        file_contents (bytes | BinaryIO | Iterable[bytes] | None): the shard to PUSH, or the file
            that a PULL writes to; None to collect the shard in memory, see :meth:`result`.
        limits (ChannelLimits | None): how long the farmer may take.
        cancelled (Callable[[], bool]): whether to stop.

    Raises:
        TypeError: If a PUSH has nothing to send.

    Attributes:
        json (dict | storj.model.FilePointer): the pointer, as given.
        file_contents: as given.
    """

    def __init__(
        self,
        pointer: Any,
        file_contents: Any = None,
        *,
        limits: ChannelLimits | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        self.json = pointer
        self.file_contents = file_contents
        self._invalid: FarmerError | None = None
        try:
            self.operation, ticket = _operation(pointer), Ticket.of(pointer)
        except FarmerError as error:
            # For connect() to raise: the tests of programs make clients of pointers to nowhere.
            self._invalid = error
            self.operation, ticket = 'PULL', _NOWHERE
        if self.operation == 'PUSH' and file_contents is None:
            raise TypeError('a PUSH needs the contents of the shard')
        # The base class looks the host up and opens a socket that has no limits: it gets a number
        # to look up, and the channel opens a socket of its own when it is time.
        super().__init__('ws://127.0.0.1/')
        self.connection.close()
        self.sock: FarmerSocket | None = None
        self.url = f'ws://{in_url(ticket.host)}:{ticket.port}/'
        self.host, self.port = ticket.host, ticket.port
        self._ticket = ticket
        self._stopped = threading.Event()
        self._channel = DataChannel(ticket, limits, lambda: self._stopped.is_set() or cancelled())
        self._collected = bytearray()
        self._digest = ShardDigest()
        self._failure: BaseException | None = None

    def connect(self) -> None:
        """Open the connection and begin the transfer.

        Raises:
            FarmerError: If there is no farmer, or one that speaks no WebSocket, or if the pointer
                names none or holds something that cannot be right.
        """
        try:
            if self._invalid is not None:
                raise self._invalid
            self._channel.connect()
        except BaseException as error:
            self._failure = error
            raise
        self.handshake_ok()

    def run(self) -> None:
        """Make the exchange; the body of the client's thread."""
        try:
            self.opened()
            if self.operation == 'PUSH':
                chunks, size = _source(self.file_contents)
                self._channel.send_shard(chunks, size)
            else:
                self._channel.receive_shard(self._ticket.size, self._received)
                if not hmac.compare_digest(self._digest.hexdigest(), self._ticket.hash):
                    raise IntegrityError('the shard from the farmer does not have its hash')
        except BaseException as error:
            # Another thread asks for it, in result().
            self._failure = error
        finally:
            self._channel.close()
            self.client_terminated = self.server_terminated = True
            self.closed(*self._channel.closing)

    def _received(self, piece: memoryview) -> None:
        self._digest.update(piece)
        self.received_message(BinaryMessage(bytes(piece)))

    def opened(self) -> None:
        """Name token, hash and operation to the farmer; called once the connection stands."""
        self._channel.authorise(self.operation)

    def closed(self, code: int, reason: str | None = None) -> None:
        """Do nothing; called once after the connection ended, for subclasses.

        Args:
            code (int): close code of the farmer; 1006 if it went away without one.
            reason (str | None): its text.
        """

    def received_message(self, m: Any) -> None:
        """Write what a PULL brings to the file, or collect it.

        Args:
            m (ws4py.messaging.BinaryMessage): a piece of the shard, 256 KiB at most whatever
                frames the farmer sent.
        """
        if self.file_contents is None:
            self._collected += m.data
        else:
            self.file_contents.write(m.data)

    def send(self, payload: Any, binary: bool = False) -> None:
        """Send a message in masked frames of at most 64 KiB.

        Args:
            payload (str | bytes | ws4py.messaging.Message): text, or bytes.
            binary (bool): whether bytes go as binary frames, which carry the shard.

        Raises:
            FarmerError: If the farmer refuses meanwhile, or goes away.
        """
        if isinstance(payload, Message):
            binary, payload = isinstance(payload, BinaryMessage), payload.data
        with self._channel.ending():
            if not binary:
                text = payload if isinstance(payload, str) else bytes(payload).decode()
                self._channel.send_text(text)
                return
            view = memoryview(payload).cast('B')
            for start in range(0, len(view), FRAME_SIZE):
                if not self._channel.send_data(view[start : start + FRAME_SIZE]):
                    return

    def close(self, code: int = frames.NORMAL, reason: str = '') -> None:
        """Stop the transfer; its result is TransferCancelled unless it is over already.

        Args:
            code (int): taken for the base class's sake.
            reason (str): likewise.
        """
        self._stopped.set()

    def run_forever(self) -> None:
        """Wait until the transfer has ended, well or by :meth:`close`.

        Raises:
            FarmerError: If the farmer refused, or went away.
            IntegrityError: If the bytes are not those of the pointer.
            RuntimeError: If :meth:`connect` was not called.
        """
        try:
            self.result()
        except TransferCancelled:
            # The thread that stopped it knows; result() tells the others.
            pass

    def result(self, timeout: float | None = None) -> bytes | None:
        """Wait for the end of the transfer.

        Args:
            timeout (float | None): seconds; as long as it takes if None, which the limits bound.

        Returns:
            bytes | None: the shard, if a PULL collected it; otherwise None.

        Raises:
            TimeoutError: If it takes longer; the transfer continues.
            FarmerError: If the farmer refused, or went away.
            IntegrityError: If the bytes are not those of the pointer.
            TransferCancelled: If it was stopped.
            RuntimeError: If :meth:`connect` was not called.
        """
        if self._th.ident is None:
            raise self._failure or RuntimeError('the transfer was not begun: connect() first')
        self._th.join(timeout)
        if self._th.is_alive():
            raise TimeoutError(f'the transfer is not over after {timeout} s')
        if self._failure is not None:
            raise self._failure
        return bytes(self._collected) if self._collects() else None

    def _collects(self) -> bool:
        return self.operation == 'PULL' and self.file_contents is None


def _operation(pointer: Any) -> str:
    """Return PUSH or PULL; a pointer without an operation is one of a file, and pulled."""
    get = getattr(pointer, 'get', None)
    found = get('operation') if callable(get) else getattr(pointer, 'operation', None)
    if found not in (None, 'PUSH', 'PULL'):
        raise FarmerError(message='the operation in the pointer is neither PUSH nor PULL')
    return found or 'PULL'


def _source(contents: Any) -> tuple[Iterable[Buffer], int | None]:
    """Return the chunks of what is to be sent, and their size in bytes if it is known."""
    if isinstance(contents, (bytes, bytearray, memoryview)):
        return [contents], memoryview(contents).nbytes
    read = getattr(contents, 'read', None)
    if read is None:
        return contents, None
    return iter(lambda: read(_RECEIVE_SIZE), b''), None
