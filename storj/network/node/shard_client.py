"""A client of farmers: shards to and from them, over the channel that each speaks (section 4).

Small and asynchronous, for farmers that copy from each other, for the bridge and the MetaDisk node.
It is the network's own, so that an error in the package's other clients cannot hide in both ends
of a test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import aiohttp

from storj.exception import StorjError
from storj.network.node.addresses import NETWORK_ERRORS, may_call, open_session
from storj.network.node.identity import is_node_id
from storj.network.node.rpc import NodeContact
from storj.text import count_of

#: Seconds to connect, and without a byte after which a transfer is given up.
CONNECT, STALL = 10.0, 30.0
#: Seconds for a farmer to confirm that it has all.
ACKNOWLEDGE = 30.0

_BUFFER = 1024 * 1024
_PIECE = 64 * 1024
# Bytes of one frame, which is in memory as a whole.
_FRAME_LIMIT = 64 * 1024 * 1024
_TEXT_LIMIT = 500
_STORED = (200, 201, 304)


class ShardClientError(StorjError):
    """A farmer did not take or give a shard.

    Another farmer is tried by itself.
    """


class TransferBrokenError(ShardClientError):
    """The connection to a farmer could not be opened, or broke off.

    Nothing is known about the shard.
    """


class ShardClient:
    """Moves shards; for use in one event loop."""

    def __init__(self) -> None:
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Close all connections."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def push(self, farmer: NodeContact, data_hash: str, token: str, data: bytes) -> None:
        """Send a shard to a farmer.

        Args:
            farmer (NodeContact): whom.
            data_hash (str): shard hash, 40 hex characters.
            token (str): for this transfer.
            data (bytes): the shard.

        Raises:
            ShardClientError: If it was not taken.
        """
        session = self._session(farmer, data_hash)
        push = self._push_body if _speaks_http(farmer) else self._push_frames
        try:
            await push(session, farmer, data_hash, token, data)
        except NETWORK_ERRORS as error:
            raise TransferBrokenError(repr(error)) from error

    async def pull(
        self,
        farmer: NodeContact,
        data_hash: str,
        token: str,
        size: int,
        sink: Callable[[bytes], Awaitable[object]],
    ) -> None:
        """Get a shard from a farmer; its hash is the caller's to check.

        Args:
            farmer (NodeContact): from whom.
            data_hash (str): shard hash, 40 hex characters.
            token (str): for this transfer.
            size (int): bytes that it has.
            sink (Callable[[bytes], Awaitable[object]]): takes the pieces, in order.

        Raises:
            ShardClientError: If it was not had, or not with this size.
        """
        session = self._session(farmer, data_hash)
        pieces = self._body if _speaks_http(farmer) else self._frames
        received = 0
        try:
            async with aclosing(pieces(session, farmer, data_hash, token, size)) as arriving:
                async for piece in arriving:
                    received += len(piece)
                    if received > size:
                        raise ShardClientError('the farmer sent too much')
                    await sink(piece)
        except NETWORK_ERRORS as error:
            raise TransferBrokenError(repr(error)) from error
        if received != size:
            raise ShardClientError(f'the farmer sent {received} of {count_of(size, "byte")}')

    def _session(self, farmer: NodeContact, data_hash: str) -> aiohttp.ClientSession:
        """Return the session for calls to a farmer, if there may be one."""
        if not is_node_id(data_hash):
            raise ShardClientError('a shard hash has 40 hex characters')
        if not may_call(farmer.address, local=farmer.local):
            raise ShardClientError(f'{farmer.address} must not be called from here')
        # Two sessions: only the local one may resolve names to addresses of this machine.
        if farmer.local not in self._sessions:
            self._sessions[farmer.local] = open_session(
                local=farmer.local,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=STALL),
                read_bufsize=_BUFFER,
            )
        return self._sessions[farmer.local]

    # ------------------------------------------------------------------ HTTP (section 4.2)

    async def _push_body(
        self,
        session: aiohttp.ClientSession,
        farmer: NodeContact,
        data_hash: str,
        token: str,
        data: bytes,
    ) -> None:
        async with session.post(
            f'{farmer.url}/shards/{data_hash}',
            params={'token': token},
            headers=_headers(farmer),
            data=_pieces(data),
        ) as response:
            # 304: the farmer has the shard already (section 10.14); libstorj takes 201 too.
            if response.status not in _STORED:
                raise ShardClientError(await _text_of(response))

    async def _body(
        self,
        session: aiohttp.ClientSession,
        farmer: NodeContact,
        data_hash: str,
        token: str,
        size: int,
    ) -> AsyncGenerator[bytes, None]:
        async with session.get(
            f'{farmer.url}/shards/{data_hash}',
            params={'token': token},
            headers=_headers(farmer),
        ) as response:
            if response.status != 200:
                raise ShardClientError(await _text_of(response))
            while piece := await response.content.readany():
                yield piece

    # ------------------------------------------------------------- WebSocket (section 4.1)

    async def _push_frames(
        self,
        session: aiohttp.ClientSession,
        farmer: NodeContact,
        data_hash: str,
        token: str,
        data: bytes,
    ) -> None:
        async with session.ws_connect(f'{farmer.url}/', compress=0) as channel:
            await channel.send_json({'token': token, 'hash': data_hash, 'operation': 'PUSH'})
            async for piece in _pieces(data):
                if channel.closed:
                    break
                await asyncio.wait_for(channel.send_bytes(piece), STALL)
            # The close frame is the only answer to a PUSH (section 4.1).
            message = await channel.receive(ACKNOWLEDGE)
            _check_end(message.type, message.data, message.extra)

    async def _frames(
        self,
        session: aiohttp.ClientSession,
        farmer: NodeContact,
        data_hash: str,
        token: str,
        size: int,
    ) -> AsyncGenerator[bytes, None]:
        # The library refuses a frame of the limit itself.
        async with session.ws_connect(
            f'{farmer.url}/', max_msg_size=min(size, _FRAME_LIMIT) + 1, compress=0
        ) as channel:
            await channel.send_json({'token': token, 'hash': data_hash, 'operation': 'PULL'})
            while (message := await channel.receive(STALL)).type is aiohttp.WSMsgType.BINARY:
                yield message.data
            _check_end(message.type, message.data, message.extra)


def _speaks_http(farmer: NodeContact) -> bool:
    return not farmer.protocol.startswith('0.')


def _headers(farmer: NodeContact) -> dict[str, str]:
    return {'Content-Type': 'application/octet-stream', 'x-storj-node-id': farmer.node_id}


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _PIECE):
        yield data[start : start + _PIECE]


async def _text_of(response: aiohttp.ClientResponse) -> str:
    """Return status and beginning of an answer."""
    text = await response.content.read(_TEXT_LIMIT)
    return f'the farmer answered {response.status}: {text.decode("utf-8", "replace")}'


def _check_end(kind: aiohttp.WSMsgType, code: object, reason: object) -> None:
    if kind is not aiohttp.WSMsgType.CLOSE or code != 1000:
        raise ShardClientError(f'the farmer closed with {code}: {reason}')
