"""Two bridges on one database of PostgreSQL, asked at the same time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import URL

from storj.network.bridge.contacts import refresh_leaving
from storj.network.bridge.tables import (
    Bucket,
    Challenge,
    Contact,
    Contract,
    Entry,
    Frame,
    Pointer,
    Repair,
)
from storj.network.bridge.upkeep.audits import audit_round
from storj.network.bridge.upkeep.backlog import Backlog, add
from storj.network.bridge.upkeep.leases import release_rounds, take_round
from storj.network.bridge.upkeep.repairs import REPAIRS
from storj.network.bridge.upkeep.rounds import end_given_up, lost_round, ping_round
from storj.network.metadisk.catalog import Catalog
from storj.network.metadisk.ledger import InsufficientBalanceError, Ledger
from storj.network.metadisk.mount import _opened
from tests.network.bridges import Account, RunningBridge, ScriptedFarmer, eventually
from tests.network.postgresql import new_database

T = TypeVar('T')
ROUNDS = range(8)


class Both:
    """Two bridges on a database that was empty, started at the same time, with one farmer."""

    def __init__(self, folder: Path, url: str) -> None:
        self.pair: list[RunningBridge] = []
        for name in ('a', 'b'):
            (folder / name).mkdir()
            self.pair.append(RunningBridge(folder / name, database_url=url, repair_interval=0.0))
        at_once(*(bridge.__enter__ for bridge in self.pair))
        self.first, second = self.pair
        second.farmers.farmers = self.first.farmers.farmers
        self.alice: Account = self.first.account()
        self.farmer: ScriptedFarmer = self.first.farmer()

    def ask(self, method: str, paths: Sequence[str], bodies: Sequence[object]) -> list[int]:
        """Send each bridge its request at the same time; return the statuses."""
        calls = [
            partial(bridge.request, method, path, body, by=self.alice)
            for bridge, path, body in zip(self.pair, paths, bodies, strict=True)
        ]
        return [answer.status for answer in at_once(*calls)]

    def stop(self) -> None:
        at_once(*(partial(bridge.__exit__, None, None, None) for bridge in self.pair))

    def frame(self, data: bytes) -> str:
        """Make a frame with a shard."""
        frame = self.first.frame(self.alice)
        self.first.add_shard(self.alice, frame, data)
        self.first.farmer_report(self.farmer, self.first.shard(data)['hash'], 'SHARD_UPLOADED')
        return frame


def at_once(*calls: Callable[[], T]) -> list[T]:
    """Make calls at the same time; return what they return."""
    with ThreadPoolExecutor(len(calls)) as threads:
        return [future.result() for future in [threads.submit(call) for call in calls]]


@pytest.fixture(scope='module')
def both(postgresql_server: URL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    url = new_database(postgresql_server).render_as_string(hide_password=False)
    both = Both(tmp_path_factory.mktemp('bridges'), url)
    yield both
    both.stop()


def test_one_time_token_is_taken_once(both: Both) -> None:
    bucket = both.first.bucket(both.alice, 'tokens')
    file = both.first.file(both.alice, bucket)
    path = f'/buckets/{bucket}/files/{file}'
    for _ in ROUNDS:
        body = {'operation': 'PULL', 'file': file}
        made = both.first.request('POST', f'/buckets/{bucket}/tokens', body, by=both.alice)
        headers = {'x-token': made.json['token']}
        calls = [partial(bridge.request, 'GET', path, headers=headers) for bridge in both.pair]
        assert sorted(answer.status for answer in at_once(*calls)) == [200, 500]


def test_same_place_of_a_frame_has_one_shard(both: Both) -> None:
    for number in ROUNDS:
        frame = both.first.frame(both.alice)
        bodies = [both.first.shard(bytes([number, each]) * 9, size=20 + each) for each in (0, 1)]
        assert both.ask('PUT', [f'/frames/{frame}'] * 2, bodies) == [200, 200]
        with both.first.state.database.begin() as session:
            (pointer,) = session.query(Pointer).filter(Pointer.frame == frame)
            assert session.get_one(Frame, frame).storage_size == pointer.size


def test_one_shard_has_one_contract_with_a_farmer(both: Both) -> None:
    for number in ROUNDS:
        data = b'the same %d' % number
        paths = [f'/frames/{both.first.frame(both.alice)}' for _ in both.pair]
        bodies = [both.first.shard(data) for _ in both.pair]
        assert both.ask('PUT', paths, bodies) == [200, 200]
        shard = bodies[0]['hash']
        with both.first.state.database.begin() as session:
            (contract,) = session.query(Contract).filter(Contract.shard_hash == shard)
            assert session.query(Challenge).filter(Challenge.shard_hash == shard).count() == 3
            # The farmer proves what the bridges ask for.
            assert both.farmer.trees[shard] == contract.tree


def test_files_of_a_bucket_are_made_at_different_times(both: Both) -> None:
    bucket = both.first.bucket(both.alice, 'times')
    for number in ROUNDS:
        bodies = [
            {'frame': both.frame(b'%d %d' % (number, each)), 'filename': f'{number} {each}'}
            for each in (0, 1)
        ]
        assert both.ask('POST', [f'/buckets/{bucket}/files'] * 2, bodies) == [200, 200]
    with both.first.state.database.begin() as session:
        created = [entry.created for entry in session.query(Entry).filter(Entry.bucket == bucket)]
    assert len(created) == len(set(created)) == 2 * len(ROUNDS)


def test_buckets_of_an_account_are_made_at_different_times(both: Both) -> None:
    for number in ROUNDS:
        bodies = [{'name': f'bucket {number} {each}'} for each in (0, 1)]
        assert both.ask('POST', ['/buckets'] * 2, bodies) == [201, 201]
    with both.first.state.database.begin() as session:
        created = [bucket.created for bucket in session.query(Bucket)]
    assert len(created) == len(set(created))


def test_one_name_is_given_to_one_file(both: Both) -> None:
    bucket = both.first.bucket(both.alice, 'names')
    for number in ROUNDS:
        bodies = [
            {'frame': both.frame(b'name %d %d' % (number, each)), 'filename': f'{number}'}
            for each in (0, 1)
        ]
        statuses = both.ask('POST', [f'/buckets/{bucket}/files'] * 2, bodies)
        assert sorted(statuses) == [200, 409]


def test_bucket_is_removed_while_files_are_made_in_it(both: Both) -> None:
    for number in ROUNDS:
        bucket = both.first.bucket(both.alice, f'removed {number}')
        body = {'frame': both.frame(b'removed %d' % number), 'filename': 'cat.jpg'}
        first, second = both.pair
        path = f'/buckets/{bucket}'
        made, removed = (
            answer.status
            for answer in at_once(
                partial(first.request, 'POST', f'{path}/files', body, by=both.alice),
                partial(second.request, 'DELETE', path, by=both.alice),
            )
        )
        assert made in (200, 404)
        assert removed == 204
        with both.first.state.database.begin() as session:
            assert session.query(Entry).filter(Entry.bucket == bucket).count() == 0


def test_challenge_is_sent_once(both: Both) -> None:
    bucket = both.first.bucket(both.alice, 'audits')
    for number in ROUNDS:
        body = {'frame': both.frame(b'audit %d' % number), 'filename': str(number)}
        path = f'/buckets/{bucket}/files'
        assert both.first.request('POST', path, body, by=both.alice).status == 200
    for bridge in both.pair:
        object.__setattr__(bridge.state.settings, 'audit_interval', 50.0)
        bridge.clock.now = both.first.clock.now
    heard: Counter[str] = Counter()
    both.farmer.hears = lambda challenge: heard.update([challenge])
    for _ in ROUNDS:
        for bridge in both.pair:
            bridge.clock.now += 100
        first, second = at_once(
            *(partial(bridge.call, partial(audit_round, bridge.state)) for bridge in both.pair)
        )
        audited = [result.shard_hash for result in (*first, *second)]
        assert len(audited) == len(set(audited))
    assert heard
    assert set(heard.values()) == {1}


def test_round_is_done_by_one_bridge_until_it_stops(both: Both) -> None:
    first, second = both.pair
    rounds = [
        partial(bridge.call, partial(take_round, bridge.state, 'pings', 60)) for bridge in both.pair
    ]
    for number in ROUNDS:
        takes = [
            partial(bridge.call, partial(take_round, bridge.state, f'round {number}', 60))
            for bridge in both.pair
        ]
        assert sorted(at_once(*takes)) == [False, True]
    assert rounds[0]()
    assert not rounds[1]()
    # The one that has it goes on; the other one takes it when that is over, or has stopped.
    assert rounds[0]()
    second.clock.now += 61
    assert rounds[1]()
    assert not rounds[0]()
    second.call(partial(release_rounds, second.state))
    assert rounds[0]()
    # One that was taken before the clock was set back holds up nobody.
    first.clock.now -= 365 * 86400
    second.clock.now -= 365 * 86400
    assert rounds[1]()


def test_farmer_that_leaves_at_one_bridge_leaves_at_the_other(both: Both) -> None:
    first, second = both.pair
    second.clock.now = first.clock.now
    node = both.frame(b'leaves') and both.farmer.identity
    both.first.farmer_request(node, 'DELETE', f'/contacts/{node.node_id}', {})
    second.call(partial(refresh_leaving, second.state))
    assert second.state.leaving == {node.node_id}
    # It asks every second; one that asks no more stays.
    second.clock.now += 61
    second.call(partial(refresh_leaving, second.state))
    assert second.state.leaving == set()


def test_farmer_that_answers_one_bridge_is_lost_for_none(both: Both) -> None:
    first, second = both.pair

    def lost() -> list[bool]:
        with first.state.database.begin() as session:
            return [contact.lost for contact in session.query(Contact)]

    def look(bridge: RunningBridge, seconds: float) -> None:
        for each in both.pair:
            each.clock.now += seconds
        bridge.call(partial(lost_round, bridge.state))

    look(first, 0)
    look(second, 0)
    # Pinged by one bridge, which then leaves the rounds to the other.
    first.call(partial(ping_round, first.state))
    both.farmer.away = True
    second.state.looked = second.clock.monotonic()
    look(second, first.state.settings.lost_after - 1)
    assert lost() == [False]
    # What the second has counted is not lost when the first does the round again.
    first.state.looked = first.clock.monotonic()
    look(first, 2)
    assert lost() == [True]
    both.farmer.away = False
    # It announces itself at one of them, and the other one asks it.
    node = both.farmer.identity
    first.farmer_request(node, 'PATCH', f'/contacts/{node.node_id}', {'spaceAvailable': True})
    look(second, 0)
    assert lost() == [False]


def test_open_promises_count_at_both_bridges_together(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = both.pair
    second.clock.now = first.clock.now
    for bridge in both.pair:
        limited = replace(bridge.state.settings, open_promises=4)
        monkeypatch.setattr(bridge.state, 'settings', limited)
    mallory = first.account('mallory@example.org')

    def put(bridge: RunningBridge, data: bytes, index: int = 0, frame: str = '') -> int:
        path = f'/frames/{frame or first.frame(mallory)}'
        return bridge.request('PUT', path, bridge.shard(data, index), by=mallory).status

    statuses = [put(both.pair[number % 2], b'promise %d' % number) for number in range(5)]
    assert statuses == [200, 200, 200, 200, 429]
    # What is given up at one of them is ended by the other.
    frame = first.frame(mallory)
    shard = first.shard(b'promise 0')['hash']
    both.first.farmer_report(both.farmer, first.shard(b'promise 1')['hash'], 'SHARD_UPLOADED')
    assert put(first, b'given up', frame=frame) == 200
    assert first.request('DELETE', f'/frames/{frame}', by=mallory).status == 204
    second.call(partial(end_given_up, second.state))
    assert both.farmer.ends[first.shard(b'given up')['hash']] == second.state.now()
    assert both.farmer.ends[shard] > second.state.now()
    assert put(second, b'one more') == 200
    assert put(first, b'too many') == 429


def test_both_bridges_serve_the_same_metadisk(both: Both, tmp_path: Path) -> None:
    for name in 'ab':
        (tmp_path / name).mkdir()
    opened = at_once(
        *(
            partial(bridge.call, partial(_opened, bridge.state.database, tmp_path / name))
            for bridge, name in zip(both.pair, 'ab', strict=True)
        )
    )
    assert opened[0] == opened[1]
    first, second = (Ledger(bridge.state.database) for bridge in both.pair)
    both.pair[0].call(partial(first.deposit, 'token', 100))

    def withdraw(bridge: RunningBridge, ledger: Ledger) -> bool:
        try:
            bridge.call(partial(ledger.withdraw, 'token', 60))
        except InsufficientBalanceError:
            return False
        return True

    ledgers = zip(both.pair, (first, second), strict=True)
    assert sorted(at_once(*(partial(withdraw, *each) for each in ledgers))) == [False, True]
    assert both.pair[1].call(partial(second.balance, 'token')) == 40
    codes = [
        partial(bridge.call, partial(ledger.redeem, 'token', 'PLEASE'))
        for bridge, ledger in zip(both.pair, (first, second), strict=True)
    ]
    assert sorted(at_once(*codes)) == [False, True]
    catalogs = [Catalog(bridge.state.database) for bridge in both.pair]
    added = [
        partial(bridge.call, partial(catalog.add, 'f' * 64, 'name', 7, 'e' * 24, 16))
        for bridge, catalog in zip(both.pair, catalogs, strict=True)
    ]
    at_once(*added)
    assert both.first.call(catalogs[0].used) == 7


def test_wrong_passwords_count_at_both_bridges_together(both: Both) -> None:
    first, second = both.pair
    second.clock.now = first.clock.now
    limit = first.state.settings.wrong_passwords
    guesses = [Account('bob@example.org', f'guess {number}') for number in range(limit + 6)]
    calls = [
        partial(both.pair[number % 2].request, 'GET', '/buckets', by=guess)
        for number, guess in enumerate(guesses)
    ]
    answers = at_once(*calls)
    assert Counter(answer.status for answer in answers) == {401: limit, 429: 6}
    # A password that both know stays welcome, and is counted by neither.
    for bridge in both.pair:
        assert bridge.request('GET', '/buckets', by=both.alice).status == 200


def test_claim_of_a_repair_ends_with_its_bridge(both: Both) -> None:
    first, second = (Backlog(bridge.state) for bridge in both.pair)
    both.pair[1].clock.now = both.first.clock.now
    shards = {f'{number:040x}': 0 for number in ROUNDS}
    state = both.first.state

    async def note() -> None:
        await state.database.run(lambda connection: add(state, connection, shards))

    def take(bridge: RunningBridge, backlog: Backlog) -> list[str]:
        return bridge.call(lambda: backlog.take(5))

    both.first.call(note)
    with state.database.begin() as session:
        session.query(Repair).filter(Repair.shard_hash.not_in(shards)).delete()
    takes = [partial(take, *each) for each in zip(both.pair, (first, second), strict=True)]
    mine, others = at_once(*takes)
    assert sorted(mine + others) == sorted(shards)
    # What is lost during the work is not forgotten with its end; the rest is, once it is done.
    both.first.call(note)
    for bridge, backlog in zip(both.pair, (first, second), strict=True):
        bridge.clock.now += 50
        for shard in list(backlog.claimed):
            bridge.call(lambda b=backlog, s=shard: b.finish(s, copies=1))  # type: ignore[misc]
    assert sorted(takes[0]() + takes[0]()) == sorted(shards)
    both.first.call(first.prolong)
    for bridge in both.pair:
        bridge.clock.now += 50
    assert takes[1]() == []
    for bridge in both.pair:
        bridge.clock.now += 11
    again = takes[1]() + takes[1]()
    assert sorted(again) == sorted(shards)
    for shard in again:
        # The first bridge was slow, not dead: its end changes nothing any more.
        both.first.call(lambda s=shard: first.finish(s, copies=1))  # type: ignore[misc]
        both.pair[1].call(lambda s=shard: second.finish(s, copies=1))  # type: ignore[misc]
    assert takes[0]() == []
    with state.database.begin() as session:
        assert session.query(Repair).filter(Repair.shard_hash.in_(shards)).count() == 0


# The last one with these bridges: it adds farmers.
def test_shard_is_repaired_by_one_bridge_at_a_time(both: Both) -> None:
    bucket = both.first.bucket(both.alice, 'repairs')
    shards = []
    for number in range(12):
        data = b'repaired %d' % number
        body = {'frame': both.frame(data), 'filename': str(number)}
        path = f'/buckets/{bucket}/files'
        assert both.first.request('POST', path, body, by=both.alice).status == 200
        shards.append(both.first.shard(data)['hash'])
        both.farmer.shards[shards[-1]] = data
    others = [both.first.farmer(5000 + number) for number in range(6)]
    for bridge in both.pair:
        object.__setattr__(bridge.state.settings, 'mirrors', 2)
        # Each is also told of the shards that the other one may be at.
        repairs = bridge.app[REPAIRS]
        bridge.begin(lambda repairs=repairs: repairs.settle(dict.fromkeys(shards, 1), 20))  # type: ignore[misc]
    both.first.call(both.first.app[REPAIRS].survey)
    at_once(*(bridge.copies_made for bridge in both.pair))

    def waiting() -> int:
        with both.first.state.database.begin() as session:
            return session.query(Repair).filter(Repair.shard_hash.in_(shards)).count()

    eventually(lambda: waiting() == 0)
    for shard in shards:
        assert sum(shard in farmer.shards for farmer in [both.farmer, *others]) == 3


def test_bridges_that_start_at_once_share_an_empty_database(
    postgresql_server: URL, tmp_path: Path
) -> None:
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        url = new_database(postgresql_server).render_as_string(hide_password=False)
        Both(folder, url).stop()
