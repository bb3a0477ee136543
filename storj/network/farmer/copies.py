"""A farmer as a client of another: it copies shards when a renter node says so (section 4.3)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from storj.network.farmer.channels import PIECE
from storj.network.farmer.shard_store import ShardWriter
from storj.network.farmer.shards import FarmerParts
from storj.network.farmer.store import StoreError
from storj.network.node.contract import Contract
from storj.network.node.rpc import NodeContact, NodeError
from storj.network.node.shard_client import ShardClient, ShardClientError
from storj.network.node.tasks import Tasks

logger = logging.getLogger(__name__)

#: Shards that are copied from other farmers at one time.
AT_ONCE = 8
#: Seconds for which the answer to a contract waits for the copy of its shard.
PATIENCE = 1.0


class Copies:
    """The copies that a farmer is making.

    Args:
        parts (FarmerParts): of the farmer.
        ended (Callable[[Contract, NodeContact, float, bool, bool], object]): told of each copy that
            ended: contract, source, begin (seconds since 1970), whether it succeeded, and whether
            the renter node is still to be told.
        tasks (Tasks): of the farmer; hear of copies that fail without a reason.

    Attributes:
        running (dict[str, asyncio.Task[None]]): by shard hash.
    """

    def __init__(
        self,
        parts: FarmerParts,
        ended: Callable[[Contract, NodeContact, float, bool, bool], object],
        tasks: Tasks,
    ) -> None:
        self._store, self._shards, self._tokens = parts.store, parts.shards, parts.tokens
        self._run, self._clock = parts.run, parts.clock
        self._ended = ended
        self._tasks = tasks
        self._client = ShardClient()
        self.running: dict[str, asyncio.Task[None]] = {}
        # Those that an answer waits for.
        self._awaited: dict[str, asyncio.Future[bool]] = {}
        self._closed = False

    async def begin(self, contract: Contract, source: NodeContact, token: str) -> None:
        """Begin to copy a shard, unless an intact one is here or arriving already.

        Args:
            contract (Contract): of this farmer, about the shard.
            source (NodeContact): the farmer that has it.
            token (str): for one download there.

        Raises:
            NodeError: If there is no space, too much to do, or the farmer stops.
            StoreError: If the disk refuses.
        """
        if self._closed:
            raise NodeError('Not accepting copies')
        name = contract.data_hash
        if name in self.running or await self._shards.holds(name, hashed=True):
            return
        if self._closed or name in self.running:
            return
        if len(self.running) >= AT_ONCE:
            raise NodeError('Too many transfers')
        try:
            writer = self._store.writer(name, contract.data_size)
        except StoreError as error:
            raise NodeError(str(error)) from error
        self._tokens.redeem(name)
        task = self._tasks.once('a copy', self._copy(contract, writer, source, token))
        self.running[name] = task
        task.add_done_callback(lambda _: self.running.pop(name, None))
        # A task that is cancelled before its first step never gets to its own clean-up.
        task.add_done_callback(lambda _: writer.close())

    async def make(self, contract: Contract, source: NodeContact, token: str) -> bool | None:
        """Copy a shard and wait a moment for it; see :meth:`begin`.

        Returns:
            bool | None: whether it is here; None if that takes longer, and is told at its end.
        """
        name = contract.data_hash
        await self.begin(contract, source, token)
        if name not in self.running:
            return True
        made: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._awaited[name] = made
        await asyncio.wait((made,), timeout=PATIENCE)
        if made.done():
            return made.result()
        if self._awaited.get(name) is made:
            del self._awaited[name]
        return None

    async def close(self) -> None:
        """Give up what is under way, take nothing more, and close the connections."""
        self._closed = True
        tasks = list(self.running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    async def _copy(
        self, contract: Contract, writer: ShardWriter, source: NodeContact, token: str
    ) -> None:
        begun = self._clock()
        stored = False

        async def write(piece: bytes) -> None:
            await self._run(len(piece), partial(writer.write, [piece]))

        try:
            await self._client.pull(source, contract.data_hash, token, contract.data_size, write)
            stored = bool(await self._run(PIECE, writer.finish))
            if stored:
                await self._shards.keep(writer)
        except (ShardClientError, StoreError) as error:
            stored = False
            logger.warning('copy of %s failed: %s', contract.data_hash, error)
        finally:
            writer.close()
        made = self._awaited.pop(contract.data_hash, None)
        if made is not None:
            made.set_result(stored)
        self._ended(contract, source, begun, stored, made is None)
