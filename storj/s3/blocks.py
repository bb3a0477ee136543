"""Blocks of large objects, kept while clients read the object range by range.

aws, boto3 and rclone read a large object in many small ranges at once. Farmers give nothing smaller
than a shard, so without this each range would fetch the same shard again. Blocks lie in a spool of
their own, encrypted, and the oldest ones give way.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from storj.s3.spool import Spool, Stored, Writer

Fetch = Callable[[Writer], Awaitable[None]]


@dataclass(eq=False)
class _Block:
    file: str
    size: int
    fetching: asyncio.Task[None]
    readers: int = 0


class Blocks:
    """Blocks by object and number; used in the thread of the event loop.

    Args:
        spool (Spool): theirs; its limit is that of all blocks.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._blocks: OrderedDict[tuple[str, int], _Block] = OrderedDict()

    async def close(self) -> None:
        """End what is being fetched, and remove all blocks."""
        tasks = [block.fetching for block in self._blocks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._spool.drop([block.file for block in self._blocks.values()])
        self._blocks.clear()

    @contextlib.asynccontextmanager
    async def opened(self, key: tuple[str, int], size: int, fetch: Fetch) -> AsyncIterator[Stored]:
        """Open a block; one that is not there is fetched, by one of all that ask for it.

        Args:
            key (tuple[str, int]): version of the object, and number of the block.
            size (int): bytes of the block.
            fetch (Callable): writes it.

        Raises:
            S3Error: If it cannot be fetched, or there is no space for it.
        """
        block = self._blocks.get(key)
        if block is None:
            self.make_space(size)
            file = secrets.token_hex(16)
            task = asyncio.create_task(self._fetched(key, file, size, fetch))
            block = self._blocks[key] = _Block(file, size, task)
        self._blocks.move_to_end(key)
        block.readers += 1
        try:
            # A reader that goes away does not end it: others may wait for the same block.
            await asyncio.shield(block.fetching)
            with self._spool.open([(block.file, block.size)]) as source:
                yield source
        finally:
            block.readers -= 1

    async def _fetched(self, key: tuple[str, int], file: str, size: int, fetch: Fetch) -> None:
        try:
            with self._spool.writing(file, size) as writer:
                await fetch(writer)
        except BaseException:
            self._blocks.pop(key, None)
            raise

    def make_space(self, size: int) -> bool:
        """Remove the oldest blocks that nobody reads, as far as new ones need it.

        Returns:
            bool: whether there is space for so many bytes now.
        """
        for key, block in list(self._blocks.items()):
            if self._spool.has_space(size):
                break
            if not block.readers and block.fetching.done():
                self._spool.drop([block.file])
                del self._blocks[key]
        return self._spool.has_space(size)
