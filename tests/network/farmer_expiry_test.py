"""No shard is dropped on the word of one clock, nor before the bridge lets it go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from storj.network.farmer.bridge_link import BridgeLinkError
from storj.network.farmer.expiry import ASK_AGAIN, GRACE, UNCONFIRMED, Expiry
from storj.network.farmer.shards import QUARANTINE
from tests.network.nodes import DAY, SHARD_HASH, Site, run, site

LIFE = 90 * DAY
YEARS = 3 * 365 * DAY


class Bridge:
    """Answers as a test wants."""

    def __init__(self) -> None:
        self.in_touch = True
        self.answer: set[str] | None = {SHARD_HASH}
        self.away = False
        self.asked: list[list[str]] = []
        self.meanwhile: Callable[[], Awaitable[object]] = partial(asyncio.sleep, 0)

    async def unneeded(self, names: Sequence[str]) -> set[str] | None:
        self.asked.append(list(names))
        await self.meanwhile()
        if self.away:
            raise BridgeLinkError('no answer in time')
        return self.answer


class Rounds:
    """The rounds of a farmer, one a minute, and what is left after them."""

    def __init__(self, here: Site, bridge: Bridge | None) -> None:
        farmer = here.farmer
        self.here = here
        self.path = farmer.settings.path
        self.expiry = Expiry(farmer.shards, farmer.index, bridge, here.clock, here.clock.monotonic)

    async def run(self, seconds: float, every: float = 60.0) -> str:
        """Let time pass; return where the shard is then."""
        for _ in range(int(seconds // every)):
            self.here.clock.now += every
            await self.expiry.round()
        for place in ('shards/4a', 'quarantine/ended'):
            if (self.path / place / SHARD_HASH).exists():
                return place.partition('/')[0]
        return 'gone'


def test_ended_shard_is_dropped_in_an_hour_and_removed_in_a_week(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            bridge = Bridge()
            rounds = Rounds(here, bridge)
            assert await rounds.run(LIFE - DAY, DAY) == 'shards'
            assert bridge.asked == []
            rounds = Rounds(here, bridge)
            here.clock.now += 2 * DAY
            # As after a start: what ended while the farmer was off.
            rounds = Rounds(here, bridge)
            assert await rounds.run(GRACE) == 'shards'
            assert await rounds.run(60) == 'quarantine'
            assert bridge.asked == [[SHARD_HASH]]
            assert await rounds.run(QUARANTINE - DAY, DAY) == 'quarantine'
            assert await rounds.run(DAY, DAY) == 'gone'
            # Its contract is forgotten with it.
            assert here.farmer.index.ended(here.clock()) == ([], None)

    run(test)


def test_farmer_that_is_off_lets_nothing_in_quarantine_grow_older(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            here.clock.now += LIFE + DAY
            assert await Rounds(here, Bridge()).run(GRACE + 60) == 'quarantine'
            for _ in range(20):
                here.clock.now += YEARS
                assert await Rounds(here, Bridge()).run(60) == 'quarantine'

    run(test)


@pytest.mark.parametrize('step', [YEARS, -YEARS])
def test_clock_that_is_set_drops_nothing_that_is_needed(tmp_path: Path, step: float) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            bridge = Bridge()
            bridge.answer = set()
            rounds = Rounds(here, bridge)
            await rounds.run(GRACE + 60)
            here.clock.step(step)
            assert await rounds.run(DAY) == 'shards'
            assert bool(bridge.asked) == (step > 0)

    run(test)


def test_hour_begins_anew_whenever_the_clock_is_set(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            bridge = Bridge()
            rounds = Rounds(here, bridge)
            for step in (YEARS, -DAY, 7 * DAY, 3600.0):
                here.clock.step(step)
                assert await rounds.run(GRACE) == 'shards'
            assert bridge.asked == []
            # Put right before the hour was over: nothing has happened.
            here.clock.step(-YEARS)
            assert await rounds.run(DAY) == 'shards'
            assert bridge.asked == []

    run(test)


def test_nothing_is_dropped_while_the_bridge_is_away(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            here.clock.now += LIFE + DAY
            bridge = Bridge()
            rounds = Rounds(here, bridge)
            bridge.in_touch = False
            assert await rounds.run(DAY) == 'shards'
            bridge.in_touch = True
            # The bridge has its hour for renewals.
            assert await rounds.run(GRACE) == 'shards'
            bridge.away = True
            assert await rounds.run(600) == 'shards'
            assert bridge.asked
            bridge.away = False
            assert await rounds.run(60) == 'quarantine'

    run(test)


def test_bridge_is_asked_again_about_what_it_keeps(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            here.clock.now += LIFE + DAY
            bridge = Bridge()
            bridge.answer = set()
            rounds = Rounds(here, bridge)
            await rounds.run(GRACE + 60)
            assert len(bridge.asked) == 1
            await rounds.run(10 * ASK_AGAIN)
            assert len(bridge.asked) == 11
            bridge.answer = {SHARD_HASH}
            assert await rounds.run(ASK_AGAIN) == 'quarantine'

    run(test)


@pytest.mark.parametrize('known', [True, False])
def test_what_no_bridge_confirms_waits_longer(tmp_path: Path, known: bool) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            here.clock.now += LIFE + DAY
            bridge = Bridge()
            bridge.answer = None
            rounds = Rounds(here, bridge if known else None)
            assert await rounds.run(GRACE + 60) == 'quarantine'
            assert await rounds.run(UNCONFIRMED - DAY, DAY) == 'quarantine'
            assert await rounds.run(DAY, DAY) == 'gone'

    run(test)


def test_one_bridge_does_not_speak_for_another(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            index = here.farmer.index
            contract = index.contract(SHARD_HASH, here.renter.extended_key or '')
            assert contract is not None
            index.put_contract(contract, 'another bridge', None)
            here.clock.now += LIFE + DAY
            rounds = Rounds(here, Bridge())
            assert await rounds.run(GRACE + 60) == 'quarantine'
            assert await rounds.run(UNCONFIRMED - DAY, DAY) == 'quarantine'
            assert await rounds.run(DAY, DAY) == 'gone'

    run(test)


def test_shard_without_any_contract_is_asked_about_too(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            here.farmer.index.forget_contracts(SHARD_HASH)
            bridge = Bridge()
            bridge.answer = set()
            assert await Rounds(here, bridge).run(DAY) == 'shards'
            assert await Rounds(here, Bridge()).run(GRACE + 60) == 'quarantine'

    run(test)


@pytest.mark.parametrize('covered', [True, False])
def test_shard_with_a_new_contract_is_not_dropped(tmp_path: Path, covered: bool) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            if not covered:
                here.farmer.index.forget_contracts(SHARD_HASH)
            here.clock.now += LIFE + DAY
            bridge = Bridge()
            # While the bridge answers, somebody stores the same content.
            bridge.meanwhile = here.alloc
            assert await Rounds(here, bridge).run(GRACE + 60) == 'shards'
            assert bridge.asked == [[SHARD_HASH]]

    run(test)


def test_contract_that_came_to_nothing_is_forgotten(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.alloc()
            here.clock.now += LIFE + DAY
            bridge = Bridge()
            await Rounds(here, bridge).run(GRACE + 60)
            assert bridge.asked == []
            assert here.farmer.index.ended(here.clock()) == ([], None)

    run(test)
