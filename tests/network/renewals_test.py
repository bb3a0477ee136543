"""Renewals: what a file needs outlives its contract, what no file needs does not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from storj.digest import ShardDigest, new_challenges
from storj.network.bridge.app import create_app
from storj.network.bridge.copies import DOUBTFUL
from storj.network.bridge.renter import RenterNode
from storj.network.bridge.state import BRIDGE, BridgeSettings
from storj.network.bridge.tables import Challenge, Contract
from storj.network.bridge.upkeep.renewals import renewal_round
from storj.network.bridge.upkeep.rounds import sweep
from storj.network.bridge.users import open_account
from storj.network.farmer.expiry import ASK_AGAIN, GRACE
from storj.network.farmer.farmer import Farmer
from storj.network.farmer.settings import FarmerSettings
from storj.network.farmer.shards import QUARANTINE
from storj.network.node.identity import ExtendedKey
from tests.network.bridges import Account, RunningBridge
from tests.network.nodes import DAY, SHARD, SHARD_HASH, Clock, run

LIFE = 90 * DAY
#: Days after which a contract of 90 is renewed.
DUE = 60 * DAY


def renew(bridge: RunningBridge) -> tuple[int, list[str]]:
    """Run a round; return how many contracts farmers were asked to renew, and what is lost."""
    bridge.farmers.calls.clear()
    lost = bridge.call(lambda: renewal_round(bridge.state))
    return [method for method, _ in bridge.farmers.calls].count('renew'), lost


def contracts(bridge: RunningBridge) -> list[Contract]:
    with bridge.state.database.begin() as session:
        return list(session.query(Contract))


def ends(bridge: RunningBridge) -> list[float]:
    """Return in how many seconds contracts end, the next one first."""
    return sorted(contract.store_end / 1000 - bridge.clock.now for contract in contracts(bridge))


def test_contract_is_renewed_before_its_end_and_not_sooner(
    bridge: RunningBridge, alice: Account
) -> None:
    bridge.farmer()
    bridge.file(alice, bridge.bucket(alice), [b'testshard'])
    bridge.clock.now += DUE - 1
    assert renew(bridge) == (0, [])
    bridge.clock.now += 1
    assert ends(bridge) == [30 * DAY]
    assert renew(bridge) == (1, [])
    assert ends(bridge) == [LIFE]
    assert renew(bridge) == (0, [])
    for _ in range(5):
        bridge.clock.now += DUE
        assert renew(bridge) == (1, [])
    assert ends(bridge) == [LIFE]


def test_copies_are_renewed_with_the_first(bridge: RunningBridge, alice: Account) -> None:
    farmers = [bridge.farmer(port) for port in (4000, 4001, 4002)]
    bucket = bridge.bucket(alice)
    file = bridge.file(alice, bucket, [b'testshard'])
    for farmer in farmers:
        farmer.trees.setdefault(SHARD_HASH, [])
    answer = bridge.request(
        'POST', f'/buckets/{bucket}/mirrors', {'file': file, 'redundancy': 2}, by=alice
    )
    assert len(answer.json[0]) == 2
    bridge.clock.now += DUE
    assert renew(bridge) == (3, [])
    assert ends(bridge) == [LIFE] * 3


def test_contracts_of_a_removed_file_end_with_it(bridge: RunningBridge, alice: Account) -> None:
    bridge.farmer()
    bucket = bridge.bucket(alice)
    file = bridge.file(alice, bucket, [b'testshard'])
    # The same shard in a second file keeps it needed.
    other = bridge.file(alice, bucket, [b'testshard'], filename='dog.jpg')
    assert bridge.request('DELETE', f'/buckets/{bucket}/files/{file}', by=alice).status == 204
    bridge.clock.now += DUE
    assert renew(bridge) == (1, [])
    assert bridge.request('DELETE', f'/buckets/{bucket}/files/{other}', by=alice).status == 204
    bridge.clock.now += DUE
    # The last file is gone: the farmer is told that the contract ends now.
    assert renew(bridge) == (1, [])
    assert ends(bridge) == [0]
    assert renew(bridge) == (0, [])
    # The farmer asks before it drops the shard, so the bridge remembers for a while.
    bridge.clock.now += LIFE - 1
    assert renew(bridge) == (0, [])
    assert len(ends(bridge)) == 1
    bridge.clock.now += 1
    assert renew(bridge) == (0, [])
    with bridge.state.database.begin() as session:
        assert session.query(Contract).count() == session.query(Challenge).count() == 0


def test_file_that_comes_back_is_renewed_again(bridge: RunningBridge, alice: Account) -> None:
    bridge.farmer()
    bucket = bridge.bucket(alice)
    frame = bridge.frame(alice)
    bridge.add_shard(alice, frame)
    bridge.clock.now += DUE
    assert renew(bridge) == (0, [])
    body = {'frame': frame, 'filename': 'late.jpg'}
    assert bridge.request('POST', f'/buckets/{bucket}/files', body, by=alice).status == 200
    bridge.clock.now += DAY
    assert renew(bridge) == (1, [])


def test_farmer_that_is_away_is_asked_when_it_is_back(
    bridge: RunningBridge, alice: Account
) -> None:
    away = bridge.farmer(4000)
    bucket = bridge.bucket(alice)
    for number in range(3):
        bridge.file(alice, bucket, [bytes([number])], filename=f'{number}')
    away.away = True
    bridge.clock.now += DUE
    # The first that is not answered tells about the others.
    assert renew(bridge) == (1, [])
    assert renew(bridge) == (0, [])
    away.away = False
    bridge.clock.now += LIFE
    assert ends(bridge) == [-DUE] * 3
    assert renew(bridge) == (3, [])
    assert ends(bridge) == [LIFE] * 3


def test_copy_is_doubted_whose_ended_contract_is_not_renewed(
    bridge: RunningBridge, alice: Account, caplog: pytest.LogCaptureFixture
) -> None:
    farmer = bridge.farmer()
    bridge.file(alice, bridge.bucket(alice), [b'testshard'])
    farmer.refuses = True
    bridge.clock.now += DUE
    assert renew(bridge) == (1, [])
    assert 'does not renew the contract for shard' in caplog.text
    assert renew(bridge) == (0, [])
    bridge.clock.now += DAY
    assert renew(bridge) == (1, [])
    bridge.clock.now += 29 * DAY
    assert renew(bridge) == (1, [SHARD_HASH])
    # It ended by a clock, so it is audited before it is given up.
    (contract,) = contracts(bridge)
    assert (contract.verified, contract.failed) == (DOUBTFUL, False)
    assert contract.next_audit == bridge.state.now()
    bridge.clock.now += DAY
    assert renew(bridge) == (1, [SHARD_HASH])
    assert len(contracts(bridge)) == 1


def test_damaged_contract_does_not_keep_others_from_their_renewal(
    bridge: RunningBridge, alice: Account
) -> None:
    bridge.farmer()
    bucket = bridge.bucket(alice)
    for number in range(2):
        bridge.file(alice, bucket, [bytes([number])], filename=f'{number}')
    with bridge.state.database.begin() as session:
        session.query(Contract).order_by(Contract.shard_hash).first().document = {}
    bridge.clock.now += DUE
    assert renew(bridge) == (1, [])
    assert ends(bridge) == [30 * DAY, LIFE]


def test_contract_that_is_made_anew_meanwhile_stays(bridge: RunningBridge, alice: Account) -> None:
    farmer = bridge.farmer()
    frame = bridge.frame(alice)
    bridge.file(alice, bridge.bucket(alice), [b'testshard'])
    bridge.clock.now += DUE
    farmer.hangs = asyncio.Event()
    rounds = bridge.begin(lambda: renewal_round(bridge.state))

    async def make_anew() -> None:
        farmer.hangs = None

    while ('renew', farmer.identity.node_id) not in bridge.farmers.calls:
        bridge.call(lambda: asyncio.sleep(0))
    hanging = farmer.hangs
    bridge.call(make_anew)
    bridge.clock.now += 5
    bridge.add_shard(alice, frame)
    bridge.set(hanging)
    assert rounds.result(10) == []
    assert ends(bridge) == [LIFE]


def test_renewals_can_be_switched_off(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='renewal_ahead'):
        BridgeSettings('sqlite://', tmp_path, renewal_ahead=-1)
    assert BridgeSettings('sqlite://', tmp_path, renewal_ahead=0).renewal_of(1000) == 1000


# ---------------------------------------------------------------- a bridge and a real farmer

OWNER = Account('owner@example.org')


@dataclass
class Pair:
    """A bridge and a farmer on one clock, and a client of both."""

    clock: Clock
    app: web.Application
    url: str
    farmer: Farmer
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        async with self.session.request(
            method, self.url + path, json=body, headers=OWNER.headers
        ) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json() if answer.status != 204 else None

    async def upload(self) -> tuple[str, str]:
        """Store a shard as a file; return the ids of its bucket and of itself."""
        return await self.finish(await self.begin())

    async def begin(self) -> str:
        """Bring a shard to its farmer; return the id of its frame."""
        challenges = new_challenges(3)
        digest = ShardDigest(challenges)
        digest.update(SHARD)
        body = {'hash': SHARD_HASH, 'size': len(SHARD), 'index': 0}
        audits = {'challenges': challenges, 'tree': digest.leaves()}
        frame = await self.ask('POST', '/frames', {})
        pointer = await self.ask('PUT', f'/frames/{frame["id"]}', {**body, **audits})
        url = f'{self.farmer.contact().url}/shards/{SHARD_HASH}'
        token = {'token': pointer['token']}
        async with self.session.post(url, params=token, data=SHARD) as answer:
            assert answer.status == 200
        return str(frame['id'])

    async def finish(self, frame: str) -> tuple[str, str]:
        """Make a file of a frame; return the ids of its bucket and of itself."""
        bucket = await self.ask('POST', '/buckets', {'name': 'photos'})
        path = f'/buckets/{bucket["id"]}/files'
        file = await self.ask('POST', path, {'frame': frame, 'filename': 'cat.jpg'})
        return bucket['id'], file['id']

    async def download(self, bucket: str, file: str) -> bytes:
        (pointer,) = await self.ask('GET', f'/buckets/{bucket}/files/{file}')
        url = f'{self.farmer.contact().url}/shards/{SHARD_HASH}'
        async with self.session.get(url, params={'token': pointer['token']}) as answer:
            return await answer.read()

    async def upkeep(self) -> None:
        """Do what both do from time to time."""
        await sweep(self.app[BRIDGE])
        await renewal_round(self.app[BRIDGE])
        await self.farmer.forget()


@contextlib.asynccontextmanager
async def pair(
    path: Path, clock: Clock, port: int = 0, *, farmers: Clock | None = None
) -> AsyncIterator[Pair]:
    """Run both; the farmer has the bridge's clock, unless it gets one of its own."""
    farmers = farmers or clock
    renter = RenterNode(ExtendedKey.renter(b's' * 32), clock=clock)
    settings = BridgeSettings(
        f'sqlite:///{path / "bridge.db"}', path, audit_interval=0, ping_interval=0, mirrors=0
    )
    app = create_app(settings, renter, clock=clock, monotonic=clock.monotonic)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, '127.0.0.1', port).start()
    url = f'http://127.0.0.1:{runner.addresses[0][1]}'
    farmer = Farmer(
        FarmerSettings(path / 'farmer', url, durable=False),
        clock=farmers,
        monotonic=farmers.monotonic,
    )
    async with aiohttp.ClientSession() as session:
        try:
            await open_account(app[BRIDGE], OWNER.email, OWNER.password)
            await farmer.start()
            await farmer.wait_registered()
            yield Pair(clock, app, url, farmer, session)
        finally:
            await farmer.stop()
            await runner.cleanup()
            await renter.close()


def test_file_outlives_its_contracts_and_a_removed_one_is_dropped(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path, Clock()) as both:
            bucket, file = await both.upload()
            await both.upkeep()
            for _ in range(4):
                both.clock.now += 80 * DAY
                await both.upkeep()
                assert await both.download(bucket, file) == SHARD
            await both.ask('DELETE', f'/buckets/{bucket}/files/{file}')
            both.clock.now += LIFE + 1
            await both.upkeep()
            assert both.farmer.status()['shards'] == 0
            assert not list((tmp_path / 'farmer' / 'shards').glob('*/*'))
            assert list((tmp_path / 'farmer' / 'quarantine').rglob(SHARD_HASH))
            both.clock.now += QUARANTINE + 1
            await both.upkeep()
            assert not list((tmp_path / 'farmer').rglob(SHARD_HASH))

    run(test)


def test_network_that_was_off_for_long_has_its_files(tmp_path: Path) -> None:
    clock = Clock()

    async def test() -> None:
        async with pair(tmp_path, clock) as both:
            bucket, file = await both.upload()
        clock.now += 3 * LIFE
        async with pair(tmp_path, clock) as both:
            # The farmer looks first, and waits for its bridge.
            await both.farmer.forget()
            assert both.farmer.status()['shards'] == 1
            clock.now += GRACE - 1
            await both.farmer.forget()
            await both.upkeep()
            clock.now += GRACE
            await both.upkeep()
            assert await both.download(bucket, file) == SHARD

    run(test)


def test_farmer_without_its_bridge_drops_nothing(tmp_path: Path) -> None:
    clock = Clock()

    async def test() -> None:
        async with pair(tmp_path, clock) as both:
            bucket, file = await both.upload()
            await both.ask('DELETE', f'/buckets/{bucket}/files/{file}')
            assert both.farmer.link is not None
            await both.farmer.forget()
            both.farmer.link.registered.clear()
            clock.now += 2 * LIFE
            await both.farmer.forget()
            both.farmer.link.registered.set()
            await both.farmer.forget()
            assert both.farmer.status()['shards'] == 1
            clock.now += GRACE
            await both.farmer.forget()
            assert both.farmer.status()['shards'] == 0

    run(test)


YEARS = 3 * 365 * DAY
STEPS = pytest.mark.parametrize('step', [YEARS, -YEARS, 120 * DAY])


async def hours(both: Pair, *clocks: Clock, count: int = 3) -> None:
    """Let some hours pass for a bridge and its farmer."""
    for _ in range(count * 2):
        for clock in clocks:
            clock.now += ASK_AGAIN / 2
        await both.upkeep()


@STEPS
def test_clock_of_the_farmer_that_is_set_drops_nothing(tmp_path: Path, step: float) -> None:
    bridges, farmers = Clock(), Clock()

    async def test() -> None:
        async with pair(tmp_path, bridges, farmers=farmers) as both:
            bucket, file = await both.upload()
            await hours(both, bridges, farmers)
            farmers.step(step)
            await hours(both, bridges, farmers, count=20)
            farmers.step(-step)
            await hours(both, bridges, farmers)
            assert await both.download(bucket, file) == SHARD

    run(test)


@STEPS
def test_clocks_of_both_that_are_set_drop_nothing(tmp_path: Path, step: float) -> None:
    clock = Clock()

    async def test() -> None:
        async with pair(tmp_path, clock) as both:
            bucket, file = await both.upload()
            await hours(both, clock)
            clock.step(step)
            await hours(both, clock, count=20)
            assert await both.download(bucket, file) == SHARD
            clock.step(-step)
            await hours(both, clock, count=20)
            assert await both.download(bucket, file) == SHARD

    run(test)


@STEPS
def test_clocks_that_are_set_during_an_upload_end_nothing(tmp_path: Path, step: float) -> None:
    clock = Clock()

    async def test() -> None:
        async with pair(tmp_path, clock) as both:
            frame = await both.begin()
            clock.step(step)
            await hours(both, clock, count=60)
            dropped = [*(tmp_path / 'farmer' / 'quarantine').rglob(SHARD_HASH)]
            bucket, file = await both.finish(frame)
            for back in (-step, step):
                await hours(both, clock, count=20)
                dropped += (tmp_path / 'farmer' / 'quarantine').rglob(SHARD_HASH)
                assert await both.download(bucket, file) == SHARD
                clock.step(back)
            assert dropped == []

    run(test)


def test_clock_that_is_set_forgets_no_contract_for_days(
    bridge: RunningBridge, alice: Account
) -> None:
    # A farmer with the same clock asks an hour later, and a bridge that forgot would not answer.
    farmer = bridge.farmer()
    bucket = bridge.bucket(alice)
    file = bridge.file(alice, bucket, [b'testshard'])
    assert bridge.request('DELETE', f'/buckets/{bucket}/files/{file}', by=alice).status == 204
    bridge.clock.step(YEARS)
    for _ in range(2):
        assert renew(bridge) == (0, [])
        body = {'ended': [SHARD_HASH]}
        path = f'/contacts/{farmer.identity.node_id}/shards'
        answer = bridge.farmer_request(farmer.identity, 'POST', path, body)
        assert answer.json['unneeded'] == [SHARD_HASH]
        bridge.clock.now += DAY
    assert renew(bridge) == (0, [])
    assert contracts(bridge) == []


def test_renewal_shortens_no_contract(bridge: RunningBridge, alice: Account) -> None:
    bridge.clock.step(YEARS)
    bridge.farmer()
    bridge.file(alice, bridge.bucket(alice), [b'testshard'])
    bridge.clock.step(-YEARS)
    with bridge.state.database.begin() as session:
        session.query(Contract).update({Contract.next_renewal: 0})
    assert renew(bridge) == (1, [])
    assert ends(bridge) == [YEARS + LIFE]


def test_farmer_that_boots_with_an_old_clock_drops_nothing(tmp_path: Path) -> None:
    bridges, farmers = Clock(), Clock()

    async def test() -> None:
        async with pair(tmp_path, bridges, farmers=farmers) as both:
            bucket, file = await both.upload()
        # Off for longer than the contracts last; its clock stood still, and NTP is late.
        bridges.now += 95 * DAY
        async with pair(tmp_path, bridges, farmers=bridges) as both:
            both.farmer._clock = both.farmer._expiry._clock = farmers
            await hours(both, bridges, farmers, count=2)
            farmers.step(95 * DAY)
            await hours(both, bridges, farmers, count=20)
            assert await both.download(bucket, file) == SHARD

    run(test)


# ---------------------------------------------------------------- a shard that is bad


def test_bad_shard_is_told_to_the_bridge(tmp_path: Path) -> None:
    clock = Clock()

    async def test() -> None:
        async with pair(tmp_path, clock) as both:
            await both.upload()
            (path,) = (tmp_path / 'farmer' / 'shards').glob('*/*')
            path.write_bytes(b'testshird')
            assert not await both.farmer.shards.verify(SHARD_HASH)
            while both.farmer.index.bad():
                await asyncio.sleep(0)
            with both.app[BRIDGE].database.begin() as session:
                assert [contract.failed for contract in session.query(Contract)] == [True]

    run(test)
