"""A farmer as a client of another: it copies shards when a renter node says so (section 4.3).

The client here is the network's own, small and asynchronous, so that an error in the package's
other clients cannot hide in both ends of a test.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import aiohttp

from storj.network.channels import FRAME_LIMIT, PIECE
from storj.network.contract import Contract
from storj.network.rpc import NodeContact, NodeError
from storj.network.store import ShardStore, ShardWriter, StoreError

__all__ = ('Copies', 'Run')

logger = logging.getLogger(__name__)

#: Shards that are copied from other farmers at one time.
AT_ONCE = 8
#: Seconds without a byte from another farmer after which a copy is given up.
STALL = 30.0


class Run(Protocol):
    """Does blocking work about so many bytes, in a thread if it is worth it."""

    def __call__(self, size: int, work: Callable[[], bool | None], /) -> Awaitable[bool | None]:
        """Do it and return what it returns."""


class Copies:
    """The copies that a farmer is making.

    Args:
        store (ShardStore): where they go.
        run (Run): does blocking work.
        ended (Callable[[Contract, NodeContact, float, bool], object]): told of each copy that
            ended: contract, source, begin (seconds since 1970), and whether it succeeded.
        clock (Callable[[], float]): seconds since 1970.

    Attributes:
        running (dict[str, asyncio.Task[None]]): by shard hash.
    """

    def __init__(
        self,
        store: ShardStore,
        run: Run,
        ended: Callable[[Contract, NodeContact, float, bool], object],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._run = run
        self._ended = ended
        self._clock = clock
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=STALL),
            read_bufsize=PIECE,
            auto_decompress=False,
        )
        self.running: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    def begin(self, contract: Contract, source: NodeContact, token: str) -> None:
        """Begin to copy a shard, unless it is here or on its way already.

        Args:
            contract (Contract): of this farmer, about the shard.
            source (NodeContact): the farmer that has it.
            token (str): for one download there.

        Raises:
            NodeError: there is no room, too much to do, or the farmer stops.
        """
        if self._closed:
            raise NodeError('Not accepting copies')
        name = contract.data_hash
        if name in self._store or name in self.running:
            return
        if len(self.running) >= AT_ONCE:
            raise NodeError('Too many transfers')
        try:
            writer = self._store.writer(name, contract.data_size)
        except StoreError as error:
            raise NodeError(str(error)) from error
        task = asyncio.ensure_future(self._copy(contract, writer, source, token))
        self.running[name] = task
        task.add_done_callback(lambda _: self.running.pop(name, None))
        # A task that is cancelled before its first step never gets to its own clean-up.
        task.add_done_callback(lambda _: writer.close())

    async def close(self) -> None:
        """Give up what is under way, take nothing more, and close the connections."""
        self._closed = True
        tasks = list(self.running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._session.close()

    async def _copy(
        self, contract: Contract, writer: ShardWriter, source: NodeContact, token: str
    ) -> None:
        begun = self._clock()
        stored = False
        fetch = self._frames if source.protocol.startswith('0.') else self._body
        try:
            await fetch(contract, writer, source, token)
            if writer.received == contract.data_size:
                stored = bool(await self._run(PIECE, writer.finish))
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, NodeError, StoreError) as error:
            logger.warning('copy of %s failed: %s', contract.data_hash, error)
        finally:
            writer.close()
        self._ended(contract, source, begun, stored)

    async def _body(
        self, contract: Contract, writer: ShardWriter, source: NodeContact, token: str
    ) -> None:
        """Fetch a shard over HTTP (section 4.2)."""
        async with self._session.get(
            f'{source.url}/shards/{contract.data_hash}',
            params={'token': token},
            headers={
                'content-type': 'application/octet-stream',
                'x-storj-node-id': source.node_id,
            },
            allow_redirects=False,
        ) as response:
            if response.status != 200:
                raise NodeError(f'the other farmer answered with status {response.status}')
            while piece := await response.content.readany():
                await self._write(contract, writer, piece)

    async def _frames(
        self, contract: Contract, writer: ShardWriter, source: NodeContact, token: str
    ) -> None:
        """Fetch a shard over the WebSocket channel (section 4.1)."""
        async with self._session.ws_connect(
            f'{source.url}/', max_msg_size=FRAME_LIMIT, compress=0
        ) as channel:
            await channel.send_json(
                {'token': token, 'hash': contract.data_hash, 'operation': 'PULL'}
            )
            while True:
                message = await channel.receive(timeout=STALL)
                if message.type is not aiohttp.WSMsgType.BINARY:
                    break
                await self._write(contract, writer, message.data)
            if channel.close_code != 1000:
                raise NodeError(f'the other farmer closed with code {channel.close_code}')

    async def _write(self, contract: Contract, writer: ShardWriter, piece: bytes) -> None:
        if writer.received + len(piece) > contract.data_size:
            raise NodeError('the other farmer sent too much')
        await self._run(len(piece), partial(writer.write, [piece]))
