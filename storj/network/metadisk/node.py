"""The node itself: uploads and downloads, independent of the transport.

It encrypts, charges, stores with :class:`~storj.network.metadisk.storage.FarmerStorage` and keeps
the catalogue; it knows nothing of requests and answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from aiohttp import web

from storj.crypto.convergent import content_stream
from storj.network.metadisk.catalog import Catalog, StoredFile
from storj.network.metadisk.ledger import InsufficientBalanceError, Ledger
from storj.network.metadisk.names import stored_name
from storj.network.metadisk.spool import Spool
from storj.network.metadisk.storage import SHARD_SIZE, FarmerStorage, ShardsAt, StorageError
from storj.text import count_of

logger = logging.getLogger(__name__)

_UPLOAD_COST = 4


class NodeFullError(Exception):
    """The node's capacity is used up."""


@dataclass(frozen=True)
class Settings:
    """How a node is run.

    Attributes:
        charge (bool): whether uploads cost 4 and downloads 1 byte of balance per byte.
        capacity (int): bytes of files that the node stores at most.
        max_file_size (int): bytes of a file at most.
        spools (int): uploads taken in at a time; more wait for their turn.
        spools_per_client (int): of them, from one client address.
        requests_per_minute (int): of one client address.
    """

    charge: bool = False
    capacity: int = 64 * 1024**3
    max_file_size: int = 2 * 1024**3
    spools: int = 16
    spools_per_client: int = 8
    requests_per_minute: int = 1000


class MetaDiskNode:
    """A MetaDisk node on a bridge.

    Args:
        storage (FarmerStorage): the way to the farmers.
        catalog (Catalog): of the node's files.
        ledger (Ledger): of the balances.
        folder (Path): for spools; on a disk with space for ``spools`` of the largest files.
        settings (Settings): how it is run.
        api_key (str): allows deposits and withdrawals.
    """

    def __init__(
        self,
        storage: FarmerStorage,
        catalog: Catalog,
        ledger: Ledger,
        folder: Path,
        settings: Settings,
        api_key: str,
    ) -> None:
        self.catalog = catalog
        self.ledger = ledger
        self.settings = settings
        self.api_key = api_key
        self._storage = storage
        self._folder = folder
        self._spools = asyncio.Semaphore(settings.spools)
        self._clients: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._storing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def spool(self, client: str) -> AsyncIterator[Spool]:
        """Reserve space for one incoming file; waits while too many arrive."""
        limit = asyncio.Semaphore(self.settings.spools_per_client)
        async with self._clients.setdefault(client, limit), self._spools:
            # Here and not in a thread: one that is given up would leave the file open.
            spool = Spool(self._folder)
            try:
                yield spool
            finally:
                spool.close()

    async def store(self, spool: Spool, name: str, token: str | None) -> tuple[str, str]:
        """Encrypt and store what a spool holds.

        Args:
            spool (Spool): the whole file.
            name (str): as the client has it.
            token (str | None): who pays, if the node charges.

        Returns:
            tuple[str, str]: filehash and key. Content that is stored already gives the same pair.

        Raises:
            InsufficientBalanceError: If nothing was taken from the token.
            NodeFullError: If the token has its bytes back.
            StorageError: If the network fails; the token has its bytes back.
        """
        async with self._charged(token, _UPLOAD_COST * spool.size, 'upload'):
            filehash, key = await asyncio.to_thread(spool.seal)
            await self.catalog.note(incoming=spool.size)
            # Uploads of the same content wait for the first of them and then find it stored.
            lock = self._storing.setdefault(filehash, asyncio.Lock())
            async with lock:
                known = await self.catalog.find(filehash)
                if known is None:
                    await self._store(spool, filehash, name)
                elif not await self._gives(known):
                    await self._store_again(spool, known)
            return filehash, key

    async def _gives(self, file: StoredFile) -> bool:
        """Return whether the network gives a file back, after a look at every shard of it."""
        if file.entry is None:
            return True
        try:
            async with aclosing(
                self._storage.fetch(file.entry, file.shard_size, 0, file.size)
            ) as pieces:
                async for _ in pieces:
                    pass
        except StorageError as error:
            logger.warning('%s is no longer available, and is stored again: %s', file.name, error)
            return False
        return True

    async def _store_again(self, spool: Spool, file: StoredFile) -> None:
        entry = await self._storage.store(spool.fileno(), spool.size, file.filehash)
        await self.catalog.move(file.filehash, entry, SHARD_SIZE)

    async def _store(self, spool: Spool, filehash: str, name: str) -> None:
        if await self.catalog.used() + spool.size > self.settings.capacity:
            raise NodeFullError(f'no space for {count_of(spool.size, "byte")}')
        entry = None
        if spool.size:
            entry = await self._storage.store(spool.fileno(), spool.size, filehash)
        await self.catalog.add(filehash, stored_name(filehash, name), spool.size, entry, SHARD_SIZE)
        logger.info('stored %s, %d bytes', filehash, spool.size)

    @asynccontextmanager
    async def read(
        self, file: StoredFile, start: int, end: int, *, key: bytes | None, token: str | None
    ) -> AsyncIterator[AsyncIterator[memoryview]]:
        """Give bytes ``start`` to ``end`` (exclusive) of a file, proved, in pieces.

        Args:
            file (StoredFile): which.
            start (int): first byte.
            end (int): byte after the last one.
            key (bytes | None): decrypts; a wrong key gives other bytes. Ciphertext without it.
            token (str | None): who pays, if the node charges.

        Raises:
            InsufficientBalanceError: If nothing was taken from the token.
            StorageError: If the network fails. Whatever ends it: what was not handed out is not
                charged.
        """
        sent = 0

        async def counted() -> AsyncGenerator[memoryview, None]:
            nonlocal sent
            async with aclosing(self._pieces(file, start, end, key)) as pieces:
                async for piece in pieces:
                    yield piece
                    sent += len(piece)

        def unsent() -> int:
            return end - start - sent

        try:
            async with (
                self._charged(token, end - start, 'download', unsent),
                aclosing(counted()) as pieces,
            ):
                yield pieces
        finally:
            await self.catalog.note(outgoing=sent)

    async def _pieces(
        self, file: StoredFile, start: int, end: int, key: bytes | None
    ) -> AsyncGenerator[memoryview, None]:
        if file.entry is None or start >= end:
            return
        stream = None if key is None else content_stream(key, offset=start)
        async with aclosing(
            self._storage.fetch(file.entry, file.shard_size, start, end)
        ) as fetched:
            async for piece in fetched:
                if stream is not None:
                    stream.process(piece, piece)
                yield piece

    async def relay(
        self,
        node_id: str,
        hash_: str,
        token: str,
        size: int,
        sink: Callable[[bytes], Awaitable[object]],
    ) -> None:
        """Bring a shard from a farmer to a page, as :meth:`FarmerStorage.relay` does.

        Not charged: the file is one of an account's bucket, and none of the node's.

        Raises:
            StorageError: If the farmer does not give it.
        """
        sent = 0

        async def counted(piece: bytes) -> None:
            nonlocal sent
            await sink(piece)
            sent += len(piece)

        try:
            await self._storage.relay(node_id, hash_, token, size, counted)
        finally:
            await self.catalog.note(incoming=sent, outgoing=sent)

    async def places(self, file: StoredFile) -> tuple[int, list[ShardsAt]]:
        """Return how many shards a file has, and which farmers took them.

        Raises:
            StorageError: If the bridge does not say.
        """
        return (0, []) if file.entry is None else await self._storage.places(file.entry)

    @asynccontextmanager
    async def _charged(
        self, token: str | None, cost: int, reason: str, refund: Callable[[], int] | None = None
    ) -> AsyncIterator[None]:
        """Take the cost first; give back what ``refund`` says, or all, if it ends by an error."""
        if not self.settings.charge:
            yield
            return
        if token is None:
            raise InsufficientBalanceError('no token')
        await self.ledger.withdraw(token, cost, reason)
        try:
            yield
        except BaseException:
            amount = cost if refund is None else refund()
            if amount:
                # Also if the client went away, which cancels this.
                await asyncio.shield(self.ledger.deposit(token, amount, f'refund of {reason}'))
            raise

    async def status(self) -> dict[str, Any]:
        """Return the state in the form of ``GET /api/status``; sizes in bytes."""
        current, total = await self.catalog.traffic()
        idle = {'count': 0, 'size': 0}
        return {
            'bandwidth': {
                'current': {'incoming': current.incoming, 'outgoing': current.outgoing},
                'limits': {'incoming': 0, 'outgoing': 0},
                'total': {'incoming': total.incoming, 'outgoing': total.outgoing},
            },
            # A node of the local network writes to no block chain; the block is empty,
            # in the form of the tutorial's time.
            'datacoin': {'address': '', 'balance': 0, 'block': 0},
            'storage': {
                'capacity': self.settings.capacity,
                'max_file_size': self.settings.max_file_size,
                'used': await self.catalog.used(),
            },
            'sync': {'blockchain_queue': idle, 'cloud_queue': idle},
        }


#: Key of the node in the bridge's application.
NODE: web.AppKey[MetaDiskNode] = web.AppKey('metadisk', MetaDiskNode)
