"""When a farmer drops a shard: after a delay, and never because of one clock alone.

A shard is a candidate when all of its contracts have ended. The farmer's clock says so, which may
be wrong; so a candidate is dropped only

- after an hour in which the farmer was in touch with its bridge and its clock was not set (the hour
  is one of the monotonic clock, and begins again when the wall clock jumps), and
- when the bridge confirms: its own clock agrees, and it knows that no file needs the shard.

What is dropped waits in quarantine, by a clock that runs with the farmer only, and is taken back if
anybody asks for it. A farmer without such a bridge can only wait, and waits longer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from storj.network.farmer.bridge_link import BridgeLinkError
from storj.network.farmer.index import Ended, FarmerIndex, Place
from storj.network.farmer.shards import QUARANTINE, Shards
from storj.network.node.clock import StepWatch

logger = logging.getLogger(__name__)

#: Seconds that a bridge which was away has for renewals, before shards are dropped.
GRACE = 3600.0
#: Seconds until the bridge is asked again about shards that it did not release.
ASK_AGAIN = 3600.0
#: Seconds in quarantine of what no bridge has confirmed, or not every bridge that has a contract.
UNCONFIRMED = 30 * 86400.0

# Pages of contracts in one round.
_PAGES = 4


class Bridge(Protocol):
    """What is asked of a bridge."""

    @property
    def in_touch(self) -> bool:
        """Whether it knows the farmer, and answers."""

    async def unneeded(self, names: Sequence[str]) -> set[str] | None:
        """Return which of some shards may be dropped; None if the bridge cannot be asked that.

        Raises:
            BridgeLinkError: If it does not answer.
        """


class Expiry:
    """Drops the shards of one farmer that nobody needs any more.

    Args:
        shards (Shards): of the farmer.
        index (FarmerIndex): its contracts.
        bridge (Bridge | None): that it is registered at.
        clock (Callable[[], float]): seconds since 1970.
        monotonic (Callable[[], float]): seconds that nobody sets.
    """

    def __init__(
        self,
        shards: Shards,
        index: FarmerIndex,
        bridge: Bridge | None,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._shards = shards
        self._index = index
        self._bridge = bridge
        self._clock = clock
        self._monotonic = monotonic
        self._watch = StepWatch(clock, monotonic)
        self._aged = monotonic()
        # Since when the bridge answers and the clock was not set.
        self._calm_since: float | None = None
        self._place: Place | None = None
        self._again = 0.0
        self._uncovered = index.uncovered()
        self._told = False

    async def round(self) -> None:
        """Age what is in quarantine, and drop what may be dropped, up to some pages of contracts.

        Raises:
            StoreError: If the disk refuses.
        """
        now = self._monotonic()
        aged, self._aged = now - self._aged, now
        await self._shards.age(aged)
        if not self._is_calm() or now < self._again:
            return
        uncovered, self._uncovered = self._uncovered, []
        if uncovered and not await self._consider(uncovered):
            self._uncovered = uncovered
            return
        await self._look()

    async def _look(self) -> None:
        for _ in range(_PAGES):
            ended, place = self._index.ended(self._clock(), *filter(None, [self._place]))
            if not await self._consider(ended):
                return
            self._place = place
            if place is None:
                self._again = self._monotonic() + ASK_AGAIN
                return

    def _is_calm(self) -> bool:
        """Return whether an hour has passed in which nothing spoke against the clock."""
        step = self._watch.stepped()
        if step:
            logger.warning('the clock was set by %+.0f s: nothing is dropped for an hour', step)
        if step or not (self._bridge is None or self._bridge.in_touch):
            self._calm_since = None
        if self._bridge is not None and not self._bridge.in_touch:
            return False
        if self._calm_since is None:
            self._calm_since = self._monotonic()
        return self._monotonic() - self._calm_since >= GRACE

    async def _consider(self, ended: Sequence[Ended]) -> bool:
        """Drop those shards that may be; return whether there was an answer."""
        for shard in ended:
            if not shard.held:
                # Nothing came of the contract, or the shard has been lost.
                self._index.forget_contracts(shard.data_hash)
        held = [shard for shard in ended if shard.held]
        try:
            unneeded = await self._ask([shard.data_hash for shard in held])
        except BridgeLinkError as error:
            logger.info('the bridge does not say what is needed: %s', error)
            return False
        for shard in held:
            # The bridge can answer for its own contract only.
            sure = unneeded is not None and len(shard.owners) <= 1
            if self._index.state(shard.data_hash).end >= self._clock() * 1000:
                # There has been a new contract since the question.
                continue
            if unneeded is None or shard.data_hash in unneeded:
                logger.info('shard %s is dropped', shard.data_hash)
                await self._shards.drop(shard.data_hash, QUARANTINE if sure else UNCONFIRMED)
        return True

    async def _ask(self, names: Sequence[str]) -> set[str] | None:
        if not names:
            return set()
        unneeded = None if self._bridge is None else await self._bridge.unneeded(names)
        if unneeded is None and self._bridge is not None and not self._told:
            self._told = True
            logger.warning(
                'the bridge confirms no drops: shards whose contracts have ended are kept for'
                ' %d days of running',
                UNCONFIRMED // 86400,
            )
        return unneeded
