"""The shards of a farmer: the bytes in its store and the claims in its index, kept in agreement.

The store decides whether a shard exists, never memory: a file may be damaged, cut or deleted at any
time. Every query looks into the store; what is missing or wrong goes into quarantine, counts as not
stored from then on, and is reported to the bridge.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

from storj.network.farmer.index import FarmerIndex, Quarantined
from storj.network.farmer.shard_store import ShardStore, ShardWriter
from storj.network.farmer.store import StoreError
from storj.network.farmer.tokens import Tokens

logger = logging.getLogger(__name__)

T = TypeVar('T')

#: Seconds of running for which a shard stays in quarantine before it is removed.
QUARANTINE = 7 * 86400.0

# Up to so many bytes a shard that is offered again is hashed each time, beyond that once a day.
_CHEAP = 64 * 1024 * 1024
_FRESH = 86400.0
_PIECE = 1024 * 1024
# Entries of a listing in one request, and bytes of each.
_PAGE, _ENTRY = 1000, 300
# Below this many bytes a worker thread costs more than the work.
_INLINE = 32 * 1024

Pause = Callable[[int], Awaitable[object]]


class Run(Protocol):
    """Does blocking work about so many bytes, in a thread if it is worth it."""

    def __call__(self, size: int, work: Callable[[], T], /) -> Awaitable[T]:
        """Do it and return what it returns."""


def in_threads(workers: Executor, *, always: bool = False) -> Run:
    """Return a function that runs blocking work in threads, except small work.

    Args:
        workers (Executor): the threads.
        always (bool): run small work in threads too, because it waits for a network.
    """
    inline = -1 if always else _INLINE

    async def run(size: int, work: Callable[[], T], /) -> T:
        if size <= inline:
            return work()
        return await asyncio.get_running_loop().run_in_executor(workers, work)

    return run


class Shards:
    """The shards of one farmer; its methods belong to one event loop.

    Args:
        store (ShardStore): their bytes.
        index (FarmerIndex): the claims.
        run (Run): does blocking work.
        monotonic (Callable[[], float]): seconds that nobody sets.

    Attributes:
        found_bad (Callable[[], object]): called after a shard was found missing or wrong.

    Raises:
        LostStateError: If the index knows of shards and the store has none.
    """

    def __init__(
        self,
        store: ShardStore,
        index: FarmerIndex,
        run: Run,
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._index = index
        self._run = run
        self._monotonic = monotonic
        # When each was hashed last.
        self._checked: dict[str, float] = {}
        # Locks by hash; each is gone with the last one who holds or awaits it.
        self._moving: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.found_bad: Callable[[], object] = lambda: None
        if store.keeps_data:
            self._agree()

    def __contains__(self, data_hash: object) -> bool:
        return data_hash in self._store

    def __len__(self) -> int:
        return len(self._store)

    def names(self) -> list[str]:
        """Return the hashes of all shards."""
        return list(self._store.sizes())

    def _agree(self) -> None:
        """Bring the index into agreement with what lies in the store."""
        # The life of a shard. Each arrow is a rename and then a record, so that after a crash
        # between both the disk says what happened:
        #
        #   incoming --keep--> shards --drop-----> quarantine/ended --7 days--> deleted
        #                         ^                      |
        #                         '----- take back ------'
        #                      shards --condemn--> quarantine/bad ----7 days--> deleted
        known = self._index.shards()
        self.look(len(known or {}))
        if not self._store.is_local:
            self._believe_index(known)
            return
        there = self._store.sizes()
        if known is None:
            self._index.adopt(there)
            known = there
        for data_hash, kind in self._store.quarantined:
            if kind == 'ended' and data_hash in known and data_hash not in there:
                # The farmer ended between both steps.
                self._index.dropped(data_hash, QUARANTINE)
                known.pop(data_hash)
        new = {name: size for name, size in there.items() if name not in known}
        if new:
            # Written only if necessary: the disk may be full.
            self._index.adopt(new)
        for name, size in known.items():
            if there.get(name) != size:
                reason = 'missing' if name not in there else 'of another size'
                self._condemned(name, reason, self._set_apart(name))
        self._index.agree_quarantine(self._store.quarantined, QUARANTINE)

    def _believe_index(self, known: Mapping[str, int] | None) -> None:
        """Count what the index knows: there is too much to list, and the scrub finds out."""
        if known is None:
            self._index.adopt({})
        for name, size in (known or {}).items():
            self._store.count(name, size)
        for shard, size in self._index.quarantined():
            self._store.count(shard.data_hash, size, shard.kind)

    def look(self, count: int | None = None) -> None:
        """Find out whether the store answers and is the farmer's; waits for it.

        Args:
            count (int | None): shards that should be there; those that are counted by default.

        Raises:
            NetworkSetupError: If it is another farmer's, or empty.
            StoreError: If it does not answer.
        """
        count = len(self._store) if count is None else count
        self._store.expect(count, self._index.note('node_id') or '')

    # ------------------------------------------------------------- what is there

    async def holds(self, data_hash: str, *, hashed: bool = False) -> bool:
        """Return whether a shard is there, after a look into the store.

        A shard that was dropped and is in quarantine is restored: somebody needs it.

        Args:
            data_hash (str): 40 hex characters.
            hashed (bool): read it again, unless it is large and that was done lately; else its
                size is looked at.

        Raises:
            StoreError: If the store refuses.
        """
        async with self._alone(data_hash):
            if data_hash not in self._store and not await self._take_back(data_hash):
                return False
        size = self._store.size_of(data_hash)
        if not self._store.keeps_data or size is None:
            return size is not None
        if not await self._has_size(data_hash):
            return False
        if not hashed or (size > _CHEAP and self.is_fresh(data_hash, _FRESH)):
            return True
        return await self.verify(data_hash)

    def is_fresh(self, data_hash: str, seconds: float) -> bool:
        """Return whether a shard was hashed within the last so many seconds."""
        checked = self._checked.get(data_hash)
        return checked is not None and self._monotonic() - checked < seconds

    async def _has_size(self, data_hash: str) -> bool:
        """Return whether what lies under a hash has the size of the shard; condemn it if not."""
        async with self._alone(data_hash):
            found = await self._run(0, partial(self._store.find, data_hash))
            if found is None and await self._take_back(data_hash, look=True):
                # The farmer ended in the middle of a drop.
                return True
            if found is not None and found.size == self._store.size_of(data_hash):
                return True
            if data_hash not in self._store:
                return False
            await self._condemn(data_hash, 'missing' if found is None else 'of another size')
        return False

    async def verify(self, data_hash: str, pause: Pause | None = None) -> bool:
        """Read a shard again and return whether it is right; it goes into quarantine if not.

        Args:
            data_hash (str): of a shard that was stored.
            pause (Pause | None): awaited with the bytes of each piece that was read.

        Raises:
            StoreError: If the store refuses.
        """
        if not await self._has_size(data_hash):
            return False
        # Reading takes minutes for a large shard, and an upload may replace it meanwhile.
        before = await self._run(0, partial(self._store.find, data_hash))
        piece = min(_PIECE, self._store.size_of(data_hash) or 0)
        with closing(self._store.check(data_hash)) as check:
            while size := await self._run(piece, check.step):
                if pause is not None:
                    await pause(size)
            right = check.is_right()
        if right:
            self._checked[data_hash] = self._monotonic()
            return True
        async with self._alone(data_hash):
            if before is None or before != await self._run(0, partial(self._store.find, data_hash)):
                # It was replaced or dropped in between.
                return data_hash in self._store
            await self._condemn(data_hash, 'damaged')
        return False

    async def _condemn(self, data_hash: str, reason: str) -> None:
        left = await self._run(0, partial(self._set_apart, data_hash))
        self._condemned(data_hash, reason, left)

    def _set_apart(self, data_hash: str) -> bool:
        """Put a bad shard into quarantine; return whether there is something left of it."""
        try:
            return self._store.quarantine(data_hash, 'bad')
        except StoreError as error:
            logger.warning('shard %s cannot be put into quarantine: %s', data_hash, error)
            self._store.forget(data_hash)
            return False

    def _condemned(self, data_hash: str, reason: str, left: bool) -> None:
        """Write down that a shard is bad, and have the bridge told."""
        logger.error('shard %s is %s; the bridge is told', data_hash, reason)
        self._checked.pop(data_hash, None)
        try:
            self._index.lost(data_hash, reason, waits=QUARANTINE if left else None)
        except StoreError as error:
            # The next start finds out again.
            logger.warning('shard %s is not written down as %s: %s', data_hash, reason, error)
        self.found_bad()

    async def adopt_strays(self, pause: Pause) -> None:
        """Look for shards that a store has and the index does not know, page by page.

        A farmer that ended between a shard and its claim leaves them. A local store was listed at
        the start.

        Args:
            pause (Pause): awaited with the cost of each page, in bytes that could be read.

        Raises:
            StoreError: If the store refuses.
        """
        if self._store.is_local:
            return
        listing = self._store.listing()
        while page := await self._run(0, lambda: list(itertools.islice(listing, _PAGE))):
            for place, name, size in page:
                if name in self._store or self._store.kinds_in_quarantine(name):
                    continue
                if place == 'stored':
                    self._index.adopt({name: size})
                elif place == 'ended':
                    self._index.dropped(name, QUARANTINE)
                self._store.count(name, size, None if place == 'stored' else place)
            await pause(_PAGE * _ENTRY)

    # ------------------------------------------------------------- what comes and goes

    async def keep(self, writer: ShardWriter) -> None:
        """Count a shard that has arrived as stored, so that it outlives a power failure.

        Args:
            writer (ShardWriter): finished; closed here.

        Raises:
            StoreError: If the store refuses; the shard is not stored then.
        """
        data_hash = writer.data_hash
        known = data_hash in self._store
        writer.close(stored=True)
        if not self._store.keeps_data:
            return
        try:
            self._index.stored(data_hash, writer.received)
            await self._index.synced()
        except StoreError:
            # The bytes of an earlier upload stay, whatever becomes of this one.
            if not known:
                async with self._alone(data_hash):
                    await self._run(0, partial(self._store.discard, data_hash))
            raise
        self._checked[data_hash] = self._monotonic()
        for kind in self._store.kinds_in_quarantine(data_hash):
            await self._remove(Quarantined(data_hash, kind))

    async def drop(self, data_hash: str, waits: float) -> None:
        """Put a shard that nobody needs into quarantine.

        Args:
            data_hash (str): 40 hex characters.
            waits (float): seconds of running until it is removed.

        Raises:
            StoreError: If the store refuses.
        """
        self._checked.pop(data_hash, None)
        async with self._alone(data_hash):
            await self._run(0, partial(self._store.quarantine, data_hash, 'ended'))
            self._index.dropped(data_hash, waits)

    async def _take_back(self, data_hash: str, *, look: bool = False) -> bool:
        if not look and 'ended' not in self._store.kinds_in_quarantine(data_hash):
            return False
        size = await self._run(0, partial(self._store.take_back, data_hash))
        if size is None:
            return False
        logger.warning('shard %s is wanted: taken back from quarantine', data_hash)
        self._index.taken_back(data_hash, size)
        return True

    async def age(self, seconds: float) -> None:
        """Let what is in quarantine wait for some seconds less, and remove what waits no longer.

        Raises:
            StoreError: If the store refuses.
        """
        for shard in self._index.wait(seconds):
            await self._remove(shard, contracts=shard.kind == 'ended')

    async def _remove(self, shard: Quarantined, *, contracts: bool = False) -> None:
        async with self._alone(shard.data_hash):
            if shard.kind not in self._store.kinds_in_quarantine(shard.data_hash):
                # It was taken back while this waited.
                contracts = False
            await self._run(0, partial(self._store.remove_quarantined, shard.data_hash, shard.kind))
            self._index.removed(shard, contracts=contracts)

    @asynccontextmanager
    async def _alone(self, data_hash: str) -> AsyncIterator[None]:
        """Keep others from moving a shard meanwhile, for a move may wait for a network."""
        lock = self._moving.setdefault(data_hash, asyncio.Lock())
        async with lock:
            yield


@dataclass(frozen=True)
class FarmerParts:
    """What channels, RPC methods and copies of one farmer share.

    Attributes:
        store (ShardStore): the bytes of its shards.
        shards (Shards): which of them are there.
        index (FarmerIndex): its contracts.
        tokens (Tokens): of those who may bring and fetch shards.
        run (Run): does blocking work about hashes and files.
        clock (Callable[[], float]): seconds since 1970.
    """

    store: ShardStore
    shards: Shards
    index: FarmerIndex
    tokens: Tokens
    run: Run
    clock: Callable[[], float]
