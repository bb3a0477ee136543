"""The scrub of a farmer's disk: every shard is read again, at a bounded rate.

Disks lose bytes silently, and audits ask for some shards only. The scrub reads in the order of the
hashes, continues where it stopped after a restart, and starts again at the end. What it finds
missing or wrong, :class:`~storj.network.farmer.shards.Shards` puts into quarantine and reports to
the bridge.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from storj.network.farmer.index import FarmerIndex
from storj.network.farmer.shards import Shards
from storj.network.farmer.store import StoreError

logger = logging.getLogger(__name__)

#: Bytes a second that the walk reads: a terabyte in a day and a half.
SCRUB_RATE = 8 * 1024 * 1024
#: Seconds between the beginnings of two walks, at the least.
SCRUB_INTERVAL = 86400.0

# Name of the note with the last hash that was checked.
_NOTE = 'scrubbed'
# Cost of opening a shard, in bytes that could be read in that time.
_SEEK = 64 * 1024
# Shards after which the place is written down.
_SAVED_EVERY = 64
# Seconds until the next attempt after the disk refused.
_PAUSE = 60.0


class Scrub:
    """The walk of one farmer.

    Args:
        shards (Shards): of the farmer.
        index (FarmerIndex): keeps the place.
        rate (float): bytes a second.
        interval (float): seconds between the beginnings of two walks.
        monotonic (Callable[[], float]): seconds that nobody sets.
    """

    def __init__(
        self,
        shards: Shards,
        index: FarmerIndex,
        rate: float,
        interval: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._shards = shards
        self._index = index
        self._rate = rate
        self._interval = interval
        self._monotonic = monotonic

    async def run(self) -> None:
        """Walk again and again, until cancelled."""
        while True:
            begun = self._monotonic()
            try:
                await self.walk()
            except StoreError as error:
                logger.warning('the shards cannot be checked: %s', error)
                await asyncio.sleep(_PAUSE)
                continue
            await asyncio.sleep(max(1.0, begun + self._interval - self._monotonic()))

    async def walk(self) -> int:
        """Check the shards from the place of the last walk to the end; return how many were bad.

        Raises:
            StoreError: If the disk refuses.
        """
        place = self._index.note(_NOTE) or ''
        bad = 0
        if not place:
            await self._shards.adopt_strays(self._pace)
        names = sorted(name for name in self._shards.names() if name > place)
        for number, name in enumerate(names, 1):
            if name in self._shards and not self._shards.is_fresh(name, self._interval):
                await self._pace(_SEEK)
                bad += not await self._shards.verify(name, self._pace)
            if number % _SAVED_EVERY == 0:
                self._save(name)
        self._save('')
        return bad

    def _save(self, place: str) -> None:
        try:
            self._index.set_note(_NOTE, place)
        except StoreError as error:
            # After a restart the walk continues where it was before.
            logger.info('the place of the walk is not written down: %s', error)

    async def _pace(self, size: int) -> None:
        """Wait for as long as so many bytes may take."""
        await asyncio.sleep(size / self._rate)
