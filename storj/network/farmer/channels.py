"""The data channels of a farmer: WebSocket at ``/`` and HTTP at ``/shards/HASH``, on one port.

Both are complete on every farmer; which of them its clients use depends on the protocol version
that it announces. Rules: protocol reference, sections 4.1 (as core 5.1.2 behaves) and 4.2 (core 6
to 8). They differ where those releases differ: a WebSocket transfer marks its token busy, and a
failed one leaves it unusable; over HTTP the token is good until a transfer has succeeded.

A shard passes in pieces: neither side of a transfer is ever held in memory whole, but for a
WebSocket frame, which may have 100 MiB by the rules of the time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from storj.exception import StorjError
from storj.network.farmer.shard_store import ShardWriter
from storj.network.farmer.shards import FarmerParts
from storj.network.farmer.store import NoSpaceLeftError, StoreError
from storj.network.farmer.tokens import FarmerToken
from storj.network.faults import Disturbance, FaultPlan
from storj.network.node.identity import is_node_id
from storj.network.node.opening import Opening

logger = logging.getLogger(__name__)

#: Bytes of one WebSocket frame that are taken at the most (section 8.1).
FRAME_LIMIT = 104857600
#: Bytes of one binary frame of a download (protocol reference, section 10.15).
PULL_FRAME = 131072
#: Bytes that are hashed, written or read in one go.
PIECE = 1024 * 1024
#: Seconds without a byte after which a transfer is given up. The originals wait without a limit.
IDLE_LIMIT = 600.0
#: Seconds that a client has to answer a close frame.
CLOSE_TIMEOUT = 10.0
#: Bytes of the first frame; whole pointers are sent in it.
FIRST_FRAME_LIMIT = 65536
#: Transfers at one time.
MAX_TRANSFERS = 256

INVALID_MESSAGE = 3100
UNAUTHORIZED_TOKEN = 3101
FAILED_INTEGRITY = 3102
INVALID_OPERATION = 3103

_STORED = 'Consignment completed'
_SENT = 'File transfer complete'
_TOO_LONG_FIRST = 'The authorization is too long'
_TOO_LONG_WEB_SOCKET = 'The data transferred exceeds the amount defined in the contract'
_TOO_LONG_HTTP = 'Shard exceeds the amount defined in the contract'
_WRONG_HASH = 'Calculated hash does not match the expected result'
_NO_CONTRACT = 'Contract not found for shard'
_NO_DATA = 'Shard data not found'
_CORS = {'Access-Control-Allow-Origin': '*'}


class Reporter(Protocol):
    """Takes note of a transfer that ended (protocol reference, section 9)."""

    def __call__(self, data_hash: str, begun: float, message: str) -> None:
        """Report.

        Args:
            data_hash (str): the shard.
            begun (float): seconds since 1970.
            message (str): e.g. ``SHARD_UPLOADED``.
        """


class _RefusedError(StorjError):
    """A transfer is not allowed; the text is the answer."""


class _TooLongError(StorjError):
    """More bytes came than the contract allows."""


@dataclass(eq=False)
class _Transfer:
    """One up- or download in progress."""

    token: FarmerToken
    size: int
    begun: float
    disturbance: Disturbance
    request: web.Request
    progressed: float
    task: asyncio.Task[Any] | None = field(default_factory=asyncio.current_task)

    @property
    def data_hash(self) -> str:
        return self.token.data_hash


class DataChannels:
    """Serves shards to those who bring a token.

    Args:
        number (int): of the farmer, for the selection of faults.
        node_id (str): of the farmer.
        parts (FarmerParts): of the farmer.
        report (Reporter): is told of each transfer that ended.
        faults (FaultPlan): faults to cause.
    """

    def __init__(
        self,
        number: int,
        node_id: str,
        parts: FarmerParts,
        report: Reporter,
        faults: FaultPlan,
    ) -> None:
        self._number = number
        self._node_id = node_id
        self._store, self._shards, self._index = parts.store, parts.shards, parts.index
        self._tokens, self._clock, self.run = parts.tokens, parts.clock, parts.run
        self._report = report
        self._faults = faults
        self._transfers: set[_Transfer] = set()
        # Sockets whose first message has not come yet.
        self._opening = 0

    @property
    def active(self) -> int:
        """Transfers in progress."""
        return len(self._transfers)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of both channels."""
        return [
            web.get('/', self.web_socket, allow_head=False),
            web.post('/shards/{hash}', self.push),
            web.get('/shards/{hash}', self.pull, allow_head=False),
        ]

    def abort_idle(self) -> None:
        """Cut transfers that have not moved for a long time."""
        limit = time.monotonic() - IDLE_LIMIT
        for transfer in list(self._transfers):
            if transfer.progressed < limit and transfer.request.transport is not None:
                transfer.request.transport.abort()

    async def close(self) -> None:
        """Give up what the server has left under way: it cancels, and does not wait."""
        tasks = {transfer.task for transfer in self._transfers if transfer.task is not None}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------------ HTTP

    @staticmethod
    def preflight(request: web.Request) -> web.Response:
        """Answer ``OPTIONS``, which browsers ask before they send a shard (core >= 6.0.12)."""
        asked = request.headers
        return web.Response(
            headers={
                **_CORS,
                'Access-Control-Allow-Methods': asked.get('Access-Control-Request-Method', ''),
                'Access-Control-Allow-Headers': asked.get('Access-Control-Request-Headers', ''),
            }
        )

    async def push(self, request: web.Request) -> web.StreamResponse:
        """Answer ``POST /shards/HASH?token=TOKEN``: take a shard."""
        disturbance = self._faults.at_farmer(self._number, self._node_id, 'push')
        if disturbance:
            answer = await disturbance.before(request, field_name='result')
            if answer is not None:
                return answer
        transfer = self._admit(request, disturbance)
        if isinstance(transfer, web.Response):
            return transfer
        try:
            if await self._shards.holds(transfer.data_hash, hashed=True):
                self._end(transfer, 'SHARD_EXISTS')
                return await self._wave_through(transfer)
            return await self._take_body(transfer)
        except StoreError as error:
            return _refused(error)
        finally:
            self._transfers.discard(transfer)

    async def _wave_through(self, transfer: _Transfer) -> web.StreamResponse:
        """Answer 304 at once, then let the body pass: clients take a cut connection for failure."""
        response = web.Response(status=304, headers=_CORS)
        await response.prepare(transfer.request)
        await response.write_eof()
        received = 0
        while received <= transfer.size and (chunk := await transfer.request.content.readany()):
            received += len(chunk)
            transfer.progressed = time.monotonic()
        return response

    async def _take_body(self, transfer: _Transfer) -> web.StreamResponse:
        request = transfer.request
        writer = self._store.writer(transfer.data_hash, transfer.size)
        self._tokens.redeem(transfer.data_hash)
        try:
            pieces = _Pieces(self, writer, transfer)
            while chunk := await request.content.readany():
                event = await pieces.add(chunk)
                if event is not None:
                    return await transfer.disturbance.interrupt(
                        request, event, web.StreamResponse()
                    )
            if not await pieces.finish():
                self._end(transfer, 'FAILED_INTEGRITY')
                return _answer(400, _WRONG_HASH)
            await self._shards.keep(writer)
        except _TooLongError:
            self._end(transfer, 'FAILED_INTEGRITY')
            return _answer(400, _TOO_LONG_HTTP)
        finally:
            writer.close()
        self._tokens.reject(transfer.token.token)
        self._end(transfer, 'SHARD_UPLOADED')
        return _answer(200, _STORED)

    async def pull(self, request: web.Request) -> web.StreamResponse:
        """Answer ``GET /shards/HASH?token=TOKEN``: hand out a shard, whole."""
        disturbance = self._faults.at_farmer(self._number, self._node_id, 'pull')
        if disturbance:
            answer = await disturbance.before(request, field_name='result')
            if answer is not None:
                return answer
        transfer = self._admit(request, disturbance)
        if isinstance(transfer, web.Response):
            return transfer
        response = web.StreamResponse(headers={'Content-Type': 'application/octet-stream', **_CORS})
        response.enable_chunked_encoding()
        try:
            if not await self._shards.holds(transfer.data_hash):
                return _answer(404, _NO_DATA)
            event = await self._send(transfer, response.write, partial(response.prepare, request))
            if event in ('drop', 'stall'):
                return await disturbance.interrupt(request, event, response)
            await response.write_eof()
            self._tokens.reject(transfer.token.token)
        except StoreError as error:
            self._end(transfer, 'READ_FAILED')
            if response.prepared:
                return disturbance.reset(request)
            return _refused(error)
        finally:
            self._transfers.discard(transfer)
        self._end(transfer, 'SHARD_DOWNLOADED')
        return response

    def _admit(self, request: web.Request, disturbance: Disturbance) -> _Transfer | web.Response:
        """Register a transfer, or return the answer to one that is not allowed."""
        try:
            token = self._authorize(
                request.query.get('token'), request.match_info['hash'], disturbance
            )
        except _RefusedError as error:
            return _answer(401, str(error))
        if self.active >= MAX_TRANSFERS:
            return _answer(503, 'Too many transfers')
        return self._begin(request, token, disturbance) or _answer(404, _NO_CONTRACT)

    # ------------------------------------------------------------- WebSocket

    async def web_socket(self, request: web.Request) -> web.StreamResponse:
        """Answer ``GET /`` with an upgrade: one transfer, told by the first frame."""
        socket = web.WebSocketResponse(
            max_msg_size=FRAME_LIMIT, compress=False, timeout=CLOSE_TIMEOUT
        )
        if not socket.can_prepare(request):
            # The originals give no answer at all here (protocol reference, section 10.15).
            return web.json_response(
                {'code': 'MethodNotAllowed', 'message': 'GET is not allowed'}, status=405
            )
        if self.active + self._opening >= MAX_TRANSFERS:
            return _answer(503, 'Too many transfers')
        self._opening += 1
        try:
            first = await _first_frame(request, socket)
        except asyncio.TimeoutError:
            return socket
        finally:
            self._opening -= 1
        if first.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            return socket
        try:
            code, reason = await self._serve(request, socket, first.data)
        except StoreError as error:
            logger.warning('a transfer failed: %s', error)
            code, reason = WSCloseCode.INTERNAL_ERROR, str(error)
        if code:
            # A close frame has 125 bytes, two of them for the code.
            await socket.close(code=code, message=reason.encode()[:123])
        return socket

    async def _serve(
        self, request: web.Request, socket: web.WebSocketResponse, first: str | bytes
    ) -> tuple[int, str]:
        """Do what the first frame says; return how to close, or 0 when the connection is gone."""
        if len(first) > FIRST_FRAME_LIMIT:
            return UNAUTHORIZED_TOKEN, _TOO_LONG_FIRST
        try:
            message = json.loads(first)
        except (ValueError, RecursionError):
            return INVALID_MESSAGE, 'Failed to parse message'
        if not isinstance(message, dict):
            message = {}
        operation = message.get('operation')
        disturbance = self._faults.at_farmer(
            self._number, self._node_id, operation.lower() if operation in ('PUSH', 'PULL') else ''
        )
        if disturbance:
            answer = await disturbance.before(request, field_name='result')
            if answer is not None:
                # There is no HTTP status any more to answer with.
                gone = request.transport is None or request.transport.is_closing()
                return 0 if gone else WSCloseCode.INTERNAL_ERROR, 'Service Unavailable'
        try:
            token = self._authorize(
                message.get('token'), message.get('hash'), disturbance, web_socket=True
            )
        except _RefusedError as error:
            return UNAUTHORIZED_TOKEN, str(error)
        if operation not in ('PUSH', 'PULL'):
            self._tokens.reject(token.token)
            return INVALID_OPERATION, 'Failed to handle the defined operation'
        # Never set back: after a broken transfer the client needs a new pointer (section 4.1).
        token.busy = True
        transfer = self._begin(request, token, disturbance)
        if transfer is None:
            self._tokens.reject(token.token)
            return WSCloseCode.INTERNAL_ERROR, _NO_CONTRACT
        try:
            if operation == 'PUSH':
                return await self._push_frames(transfer, socket)
            return await self._pull_frames(transfer, socket)
        except StoreError as error:
            self._tokens.reject(token.token)
            return WSCloseCode.INTERNAL_ERROR, str(error)
        finally:
            self._transfers.discard(transfer)

    async def _push_frames(
        self, transfer: _Transfer, socket: web.WebSocketResponse
    ) -> tuple[int, str]:
        token = transfer.token.token
        if await self._shards.holds(transfer.data_hash, hashed=True):
            self._tokens.reject(token)
            self._end(transfer, 'SHARD_EXISTS')
            return WSCloseCode.OK, _STORED
        writer = self._store.writer(transfer.data_hash, transfer.size)
        self._tokens.redeem(transfer.data_hash)
        try:
            pieces = _Pieces(self, writer, transfer)
            # There is no end-of-data frame: the contract's size ends the upload (section 4.1).
            #
            #   client  text {token, hash, operation}  binary ...  binary ...
            #   farmer                                                        close 1000 or 3102
            while pieces.received < transfer.size:
                message = await socket.receive()
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    # The client has gone: the token stays busy, a new pointer is needed.
                    return 0, ''
                data = message.data
                event = await pieces.add(data.encode() if isinstance(data, str) else data)
                if event is not None:
                    await transfer.disturbance.interrupt(
                        transfer.request, event, web.StreamResponse()
                    )
                    return 0, ''
            stored = await pieces.finish()
            if stored:
                await self._shards.keep(writer)
        except _TooLongError:
            self._end(transfer, 'FAILED_INTEGRITY')
            return FAILED_INTEGRITY, _TOO_LONG_WEB_SOCKET
        finally:
            writer.close()
        self._tokens.reject(token)
        if not stored:
            self._end(transfer, 'FAILED_INTEGRITY')
            return FAILED_INTEGRITY, _WRONG_HASH
        self._end(transfer, 'SHARD_UPLOADED')
        return WSCloseCode.OK, _STORED

    async def _pull_frames(
        self, transfer: _Transfer, socket: web.WebSocketResponse
    ) -> tuple[int, str]:
        # Reading goes on beside the sending: it answers pings, and notices a client that leaves.
        reading = asyncio.ensure_future(_drain(socket))
        sending = asyncio.ensure_future(self._send_frames(transfer, socket, reading))
        try:
            await asyncio.wait((reading, sending), return_when=asyncio.FIRST_COMPLETED)
            return await sending if sending.done() else (0, '')
        finally:
            for task in (reading, sending):
                task.cancel()
            await asyncio.wait((reading, sending))

    async def _send_frames(
        self,
        transfer: _Transfer,
        socket: web.WebSocketResponse,
        reading: asyncio.Future[None],
    ) -> tuple[int, str]:
        if not await self._shards.holds(transfer.data_hash):
            # Core 5.1 neither sends nor closes here; the client gives up.
            await reading
            return 0, ''

        # Frames as large as the original's (section 10.15).
        async def send(piece: bytes) -> None:
            for start in range(0, len(piece), PULL_FRAME):
                await socket.send_bytes(piece[start : start + PULL_FRAME])

        try:
            event = await self._send(transfer, send)
        except StoreError:
            self._end(transfer, 'READ_FAILED')
            raise
        except ConnectionError:
            return 0, ''
        if event in ('drop', 'stall'):
            await transfer.disturbance.interrupt(transfer.request, event, web.StreamResponse())
            return 0, ''
        self._tokens.reject(transfer.token.token)
        self._end(transfer, 'SHARD_DOWNLOADED')
        return WSCloseCode.OK, _SENT

    # ------------------------------------------------------------------ both

    def _authorize(
        self,
        token: object,
        data_hash: object,
        disturbance: Disturbance,
        *,
        web_socket: bool = False,
    ) -> FarmerToken:
        """Return the token if a transfer may begin with it; checks in the order of section 4."""
        # The order of the original's checks (section 4.1): a client sees the first one that fails.
        if not token:
            raise _RefusedError('You did not supply a token')
        known = self._tokens.get(token) if isinstance(token, str) else None
        if known is None:
            raise _RefusedError('The supplied token is not accepted')
        if not data_hash:
            raise _RefusedError('You did not supply the data hash')
        if self._tokens.expired(known) or 'expire' in disturbance:
            raise _RefusedError('Token has expired')
        # Over HTTP a failed upload may use its token again, over WebSocket not (section 4.2).
        if known.busy and web_socket:
            raise _RefusedError('Channel is already active')
        if known.data_hash != data_hash:
            raise _RefusedError('Token not valid for hash')
        return known

    def _begin(
        self, request: web.Request, token: FarmerToken, disturbance: Disturbance
    ) -> _Transfer | None:
        """Register a transfer; return None when there is no contract for it."""
        if not is_node_id(token.data_hash):
            return None
        size = self._index.contract_size(token.data_hash, token.owner)
        if size is None:
            return None
        transfer = _Transfer(token, size, self._clock(), disturbance, request, time.monotonic())
        self._transfers.add(transfer)
        return transfer

    def _end(self, transfer: _Transfer, message: str) -> None:
        """Count and report a transfer that came to an end."""
        self._index.count(message.lower())
        if message == 'SHARD_UPLOADED':
            self._index.count('bytes_received', transfer.size)
        elif message == 'SHARD_DOWNLOADED':
            self._index.count('bytes_sent', transfer.size)
        logger.debug('%s %s, %d bytes', message, transfer.data_hash, transfer.size)
        if message == 'SHARD_DOWNLOADED' and transfer.token.copy:
            # Our bridge, the only one that asks for such tokens, hears of it from the other farmer.
            return
        self._report(transfer.data_hash, transfer.begun, message)

    async def _send(
        self,
        transfer: _Transfer,
        write: Callable[[bytes], Any],
        before: Callable[[], Any] | None = None,
    ) -> str | None:
        """Send a shard piece by piece; return the event of a fault that cut it short."""
        reader = self._store.reader(transfer.data_hash)
        try:
            if before is not None:
                await before()
            position, last, read = 0, False, partial(reader.read, PIECE)
            while not last and (piece := await self.run(min(PIECE, transfer.size), read)):
                # A reader gives less than it is asked for at the end only.
                last, event = len(piece) < PIECE, None
                if transfer.disturbance:
                    piece, event = transfer.disturbance.passing(piece, position)
                await write(piece)
                position += len(piece)
                transfer.progressed = time.monotonic()
                if event is not None:
                    return event
            return None
        finally:
            reader.close()


class _Pieces:
    """Collects what arrives into pieces worth a trip to a worker thread."""

    def __init__(self, channels: DataChannels, writer: ShardWriter, transfer: _Transfer) -> None:
        self._channels = channels
        self._writer = writer
        self._transfer = transfer
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self.received = 0

    async def add(self, data: bytes) -> str | None:
        """Take what arrived; return the event of a fault that happens now."""
        transfer, event = self._transfer, None
        transfer.progressed = time.monotonic()
        if transfer.disturbance:
            data, event = transfer.disturbance.passing(data, self.received)
        self.received += len(data)
        if self.received > transfer.size:
            raise _TooLongError(_TOO_LONG_HTTP)
        self._waiting.append(data)
        self._waiting_size += len(data)
        if self._waiting_size >= PIECE and self.received < transfer.size:
            pieces, self._waiting = self._waiting, []
            size, self._waiting_size = self._waiting_size, 0
            await self._channels.run(size, partial(self._writer.write, pieces))
        return event

    async def finish(self) -> bool:
        """Write the rest; return whether the shard is the one of the contract."""
        size = self._waiting_size
        return await self._channels.run(size, partial(self._writer.finish, self._waiting))


async def _first_frame(request: web.Request, socket: web.WebSocketResponse) -> WSMessage:
    """Return the first frame; refuse one that is too long before it is in memory.

    Raises:
        asyncio.TimeoutError: If none came.
    """
    await socket.prepare(request)
    if request.transport is None:
        return WSMessage(WSMsgType.CLOSED, None, None)
    opening = Opening(request.transport, FIRST_FRAME_LIMIT)

    async def receive() -> WSMessage:
        message = await socket.receive(timeout=IDLE_LIMIT)
        # In the very step that takes the message: the loop reads more right after it.
        opening.release()
        return message

    receiving = asyncio.ensure_future(receive())
    try:
        await asyncio.wait((receiving, opening.exceeded), return_when=asyncio.FIRST_COMPLETED)
        if receiving.done():
            return receiving.result()
    finally:
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
    await socket.close(code=UNAUTHORIZED_TOKEN, message=_TOO_LONG_FIRST.encode())
    return WSMessage(WSMsgType.CLOSED, None, None)


async def _drain(socket: web.WebSocketResponse) -> None:
    """Read and forget what a client sends, until it closes or is gone."""
    with suppress(ConnectionError):
        while (await socket.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
            pass


def _refused(error: StoreError) -> web.Response:
    """Return the answer to a transfer that the disk does not allow."""
    return _answer(503 if isinstance(error, NoSpaceLeftError) else 500, str(error))


def _answer(status: int, text: str) -> web.Response:
    return web.json_response({'result': text}, status=status, headers=_CORS)
