"""Copies: as many farmers as are wanted have each shard, and those that go are replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storj.network.bridge.app import TASKS
from storj.network.bridge.copies import copies_of
from storj.network.bridge.tables import Contact, Contract, Repair
from storj.network.bridge.upkeep.audits import audit_round
from storj.network.bridge.upkeep.mirrors import Made
from storj.network.bridge.upkeep.repairs import REPAIRS
from storj.network.bridge.upkeep.rounds import lost_round, ping_round
from tests.network.bridges import Account, Clock, RunningBridge, ScriptedFarmer, eventually

ALICE = Account('alice@example.org')
HOUR = 3600.0


@pytest.fixture
def time() -> Clock:
    """The clock that nobody sets, moved by the test."""
    return Clock()


@pytest.fixture
def bridge(tmp_path: Path, time: Clock) -> Iterator[RunningBridge]:
    with RunningBridge(tmp_path, monotonic=time, mirrors=2, repair_interval=0.0) as running:
        running.account()
        yield running


def farmers(bridge: RunningBridge, count: int, **kinds: Any) -> list[ScriptedFarmer]:
    found = [bridge.farmer(4000 + number) for number in range(count)]
    for farmer in found:
        for name, value in kinds.items():
            setattr(farmer, name, value)
    return found


def holders(bridge: RunningBridge, shard_hash: str) -> list[ScriptedFarmer]:
    return [farmer for farmer in bridge.farmers.farmers.values() if shard_hash in farmer.shards]


def counted(bridge: RunningBridge, shard_hash: str) -> set[str]:
    """Return the farmers whose copies the bridge counts."""
    with bridge.state.database.begin_plain() as connection:
        return {copy.node_id for copy in copies_of(connection, shard_hash) if copy.counts}


def store(bridge: RunningBridge, data: bytes = b'testshard', name: str = 'cat.jpg') -> str:
    """Store a file of one shard; return its hash."""
    frame = bridge.frame(ALICE)
    pointer = bridge.add_shard(ALICE, frame, data)
    create(bridge, frame, name)
    return str(pointer['hash'])


def create(bridge: RunningBridge, frame: str, name: str = 'cat.jpg', status: int = 200) -> Any:
    buckets = bridge.request('GET', '/buckets', by=ALICE).json
    bucket = buckets[0]['id'] if buckets else bridge.bucket(ALICE)
    body = {'frame': frame, 'filename': name}
    answer = bridge.request('POST', f'/buckets/{bucket}/files', body, by=ALICE)
    assert answer.status == status, answer
    return answer.json


def look(bridge: RunningBridge) -> None:
    """Do what the bridge does from time to time, and wait until it has done it."""
    bridge.call(lambda: lost_round(bridge.state))
    bridge.call(bridge.app[REPAIRS].look)
    bridge.copies_made()


def survey(bridge: RunningBridge) -> None:
    """Do what the bridge does once a day, and wait until it has done it."""
    bridge.call(bridge.app[REPAIRS].survey)
    bridge.copies_made()


def backlog(bridge: RunningBridge) -> int:
    with bridge.state.database.begin() as session:
        return session.query(Repair).count()


def totals(bridge: RunningBridge) -> tuple[int, int, int]:
    state = bridge.request('GET', '/status').json['totals']
    return state['copies_wanted'], state['under_replicated'], state['without_copies']


# ---------------------------------------------------------------- new files


def test_file_is_answered_for_when_its_shards_have_their_copies(bridge: RunningBridge) -> None:
    farmers(bridge, 6)
    shard = store(bridge)
    assert len(holders(bridge, shard)) == 3
    assert counted(bridge, shard) == {farmer.identity.node_id for farmer in holders(bridge, shard)}
    assert totals(bridge) == (3, 0, 0)


@pytest.mark.parametrize('count', [1, 2])
def test_fewer_farmers_than_copies_get_one_each(bridge: RunningBridge, count: int) -> None:
    farmers(bridge, count)
    shard = store(bridge)
    assert len(holders(bridge, shard)) == count
    # That is too few all the same, and said.
    assert totals(bridge) == (3, 1, 0)


def test_bridge_without_mirrors_makes_no_copies(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, mirrors=0) as bridge:
        bridge.account()
        farmers(bridge, 3)
        shard = store(bridge)
        look(bridge)
        assert len(holders(bridge, shard)) == 1
        assert totals(bridge) == (1, 0, 0)


def test_farmer_that_reports_no_copies_is_asked(bridge: RunningBridge) -> None:
    farmers(bridge, 3, reports=False)
    shard = store(bridge)
    assert len(counted(bridge, shard)) == 3
    assert ('retrieve', holders(bridge, shard)[0].identity.node_id) in bridge.farmers.calls


def test_file_whose_shard_nobody_has_is_not_answered_for(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, mirrors=2, copying_timeout=0.0) as bridge:
        bridge.account()
        farmers(bridge, 3)
        frame = bridge.frame(ALICE)
        answer = bridge.request('PUT', f'/frames/{frame}', bridge.shard(), by=ALICE)
        assert answer.status == 200
        found = create(bridge, frame, status=404)
        assert found == {'error': 'Shards of the frame are on no farmer that answers'}
        assert bridge.request('GET', f'/frames/{frame}', by=ALICE).json['locked'] is False
        node = answer.json['farmer']['nodeID']
        bridge.farmers.farmers[node].shards[answer.json['hash']] = b'testshard'
        create(bridge, frame)


def test_farmer_that_goes_with_the_only_copy_is_noticed(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, mirrors=2, copying_timeout=0.0) as bridge:
        bridge.account()
        farmers(bridge, 3)
        frame = bridge.frame(ALICE)
        pointer = bridge.add_shard(ALICE, frame)
        first = bridge.farmers.farmers[pointer['farmer']['nodeID']]
        others = [f for f in bridge.farmers.farmers.values() if f is not first]
        for other in others:
            other.copies = False
        # The farmer has confirmed the shard, and does not answer any more.
        bridge.farmer_report(first, pointer['hash'], 'SHARD_UPLOADED')
        first.away = True
        create(bridge, frame, status=404)


@pytest.mark.parametrize(('parity', 'status'), [(1, 200), (0, 404)])
def test_parity_makes_up_for_a_shard_that_was_lost_early(
    tmp_path: Path, parity: int, status: int
) -> None:
    with RunningBridge(tmp_path, mirrors=0, copying_timeout=0.0) as bridge:
        bridge.account()
        farmers(bridge, 3)
        frame = bridge.frame(ALICE)
        pointers = [
            bridge.add_shard(ALICE, frame, bytes([n]) * 16000, n, parity=n >= 3 - parity)
            for n in range(3)
        ]
        for farmer in bridge.farmers.farmers.values():
            farmer.shards.pop(pointers[0]['hash'], None)
        create(bridge, frame, status=status)


def test_frame_that_changes_while_copies_are_made_is_no_file(bridge: RunningBridge) -> None:
    farmers(bridge, 3)
    frame = bridge.frame(ALICE)
    bridge.add_shard(ALICE, frame)

    async def change() -> None:
        bridge.farmers.on_mirror = None
        await asyncio.to_thread(bridge.add_shard, ALICE, frame, b'another', 0)

    bridge.farmers.on_mirror = change
    assert create(bridge, frame, status=400) == {'error': 'Frame has changed'}
    create(bridge, frame)


def test_hanging_farmer_does_not_keep_a_file_from_its_owner(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, mirrors=2, farmer_timeout=0.2, copying_timeout=0.5) as bridge:
        bridge.account()
        found = farmers(bridge, 3)
        frame = bridge.frame(ALICE)
        pointer = bridge.add_shard(ALICE, frame)
        for farmer in found:
            if farmer.identity.node_id != pointer['farmer']['nodeID']:
                farmer.hangs = asyncio.Event()
        create(bridge, frame)
        assert len(counted(bridge, pointer['hash'])) == 1


# ---------------------------------------------------------------- reports


@pytest.mark.parametrize('message', ['SUCCESS', 'SHARD_UPLOADED', 'MIRROR_SUCCESS'])
def test_report_of_a_new_shard_brings_its_copies(bridge: RunningBridge, message: str) -> None:
    farmers(bridge, 6)
    pointer = bridge.add_shard(ALICE, bridge.frame(ALICE))
    first = bridge.farmers.farmers[pointer['farmer']['nodeID']]
    assert bridge.farmer_report(first, pointer['hash'], message).status == 201
    bridge.copies_made()
    assert len(holders(bridge, pointer['hash'])) == 3
    assert bridge.farmer_report(first, pointer['hash'], message).status == 201
    bridge.copies_made()
    assert len(holders(bridge, pointer['hash'])) == 3


def test_copies_of_a_new_shard_are_planned_once(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    farmers(bridge, 6)
    bridge.app[REPAIRS].report_pause = 60.0
    mirrors = bridge.app[REPAIRS]._mirrors
    made: list[str] = []
    make = mirrors.make

    def noted(shard_hash: str, wanted: int) -> Awaitable[Made]:
        made.append(shard_hash)
        return make(shard_hash, wanted)

    monkeypatch.setattr(mirrors, 'make', noted)
    frame = bridge.frame(ALICE)
    pointer = bridge.add_shard(ALICE, frame)
    first = bridge.farmers.farmers[pointer['farmer']['nodeID']]
    bridge.report(pointer, 'SHARD_UPLOADED')
    # The farmer's report ends the wait for it; whoever else asks meanwhile changes nothing.
    bridge.farmer_report(first, pointer['hash'], 'SHARD_UPLOADED')
    create(bridge, frame)
    bridge.copies_made()
    assert made == [pointer['hash']]
    assert len(counted(bridge, pointer['hash'])) == 3


def test_shard_of_a_removed_frame_is_not_copied(bridge: RunningBridge) -> None:
    farmers(bridge, 6)
    frame = bridge.frame(ALICE)
    pointer = bridge.add_shard(ALICE, frame)
    assert bridge.request('DELETE', f'/frames/{frame}', by=ALICE).status == 204
    first = bridge.farmers.farmers[pointer['farmer']['nodeID']]
    bridge.farmer_report(first, pointer['hash'], 'SHARD_UPLOADED')
    bridge.copies_made()
    assert len(holders(bridge, pointer['hash'])) == 1


# ---------------------------------------------------------------- copies that fail


def test_copy_that_never_began_does_not_count(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, mirrors=2, copying_timeout=0.0) as bridge:
        bridge.account()
        found = farmers(bridge, 6, copies=False)
        shard = store(bridge)
        assert len(counted(bridge, shard)) == 1
        assert totals(bridge) == (3, 1, 0)
        for farmer in found:
            farmer.copies = True
        # Long enough for another try.
        bridge.clock.now += 61
        look(bridge)
        assert len(counted(bridge, shard)) == 3
        assert totals(bridge) == (3, 0, 0)


def test_farmer_that_copies_nothing_gives_way_to_the_next(bridge: RunningBridge) -> None:
    found = farmers(bridge, 6)
    for farmer in found[:3]:
        farmer.copies = False
    shard = store(bridge)
    assert len(counted(bridge, shard)) == 3
    assert len(holders(bridge, shard)) == 3


def test_farmers_of_ours_copy_with_the_contract(bridge: RunningBridge) -> None:
    farmers(bridge, 6, copies_at_once=True)
    shard = store(bridge)
    assert len(counted(bridge, shard)) == len(holders(bridge, shard)) == 3
    with bridge.state.database.begin() as session:
        begun = session.query(Contract.next_audit, Contract.store_begin).all()
    assert all(begin <= audit < begin + HOUR * 1000 for audit, begin in begun)
    methods = [method for method, _ in bridge.farmers.calls]
    assert 'mirror' not in methods
    # The first one is placed; its farmer gives out the tokens for both others at once.
    assert (methods.count('alloc'), methods.count('retrieve')) == (3, 1)


@pytest.mark.parametrize(('age', 'asked'), [(0, 0), (61, 1)])
def test_tokens_of_a_contract_serve_for_copies(
    bridge: RunningBridge, time: Clock, age: int, asked: int
) -> None:
    found = {each.identity.node_id: each for each in farmers(bridge, 6, copies_at_once=True)}
    frame = bridge.frame(ALICE)
    pointer = bridge.add_shard(ALICE, frame, b'testshard')
    time.now += age
    first = found[pointer['farmer']['nodeID']]
    assert bridge.farmer_report(first, pointer['hash'], 'SHARD_UPLOADED').status == 201
    create(bridge, frame)
    assert len(counted(bridge, pointer['hash'])) == 3
    methods = [method for method, _ in bridge.farmers.calls]
    # Those of long ago may be worth nothing by now: others are asked for.
    assert (methods.count('alloc'), methods.count('retrieve')) == (3, asked)


def test_copy_that_fails_with_the_contract_is_tried_elsewhere(bridge: RunningBridge) -> None:
    found = farmers(bridge, 4, copies_at_once=True)
    shard = store(bridge)
    for bad in holders(bridge, shard)[:2]:
        bad.shards[shard] = b'testshare'
    bridge.call(lambda: bridge.app[REPAIRS].bring(shard, 4))
    copies = sorted(farmer.shards[shard] for farmer in found)
    assert copies == [b'testshard'] * 2 + [b'testshare'] * 2


def test_bad_source_gives_way_to_a_good_one(bridge: RunningBridge, time: Clock) -> None:
    farmers(bridge, 4)
    shard = store(bridge)
    bad, lost, good = holders(bridge, shard)
    bad.shards[shard] = b'testshare'
    lost.away = True
    time.now += HOUR + 1
    look(bridge)
    # Whoever copies checks the hash: whatever was asked first, the new copy is right.
    copies = [farmer.shards[shard] for farmer in holders(bridge, shard)]
    assert copies.count(b'testshard') == 3
    assert good.shards[shard] == b'testshard'


@pytest.mark.parametrize('method', ['alloc', 'mirror', 'retrieve'])
def test_unexpected_error_does_not_end_the_copying(
    bridge: RunningBridge,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    farmers(bridge, 6)
    repairs = bridge.app[REPAIRS]
    pointers = []
    for number in range(20):
        frame = bridge.frame(ALICE)
        pointers.append(bridge.add_shard(ALICE, frame, bytes([number])))

    async def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError('never expected')

    with monkeypatch.context() as patch:
        patch.setattr(bridge.farmers, method, broken)

        async def ask() -> None:
            await asyncio.gather(*(repairs.ask(pointer['hash']) for pointer in pointers))

        bridge.call(ask)
    assert f'the copying of a shard ({pointers[0]["hash"]}) failed' in caplog.text
    assert list(bridge.app[TASKS].troubles) == ['the copying of a shard']
    assert len(holders(bridge, pointers[0]['hash'])) == 1
    assert not bridge.app[TASKS].failed.done()
    for pointer in pointers:
        bridge.report(pointer, 'SHARD_UPLOADED')
    bridge.copies_made()
    assert all(len(counted(bridge, pointer['hash'])) == 3 for pointer in pointers)
    assert bridge.app[TASKS].troubles == {}


def test_first_copy_that_fails_its_audit_is_replaced(bridge: RunningBridge) -> None:
    farmers(bridge, 6)
    shard = store(bridge)
    with bridge.state.database.begin() as session:
        (first,) = session.query(Contract).filter_by(mirror=False)
    loser = bridge.farmers.farmers[first.node_id]
    del loser.shards[shard]
    results = bridge.call(lambda: audit_round(bridge.state))
    assert [result.node_id for result in results if not result.passed] == [first.node_id]
    assert len(counted(bridge, shard)) == 2
    look(bridge)
    assert len(counted(bridge, shard)) == 3
    assert first.node_id not in counted(bridge, shard)


def test_bad_shard_that_a_farmer_found_itself_is_replaced(bridge: RunningBridge) -> None:
    farmers(bridge, 3)
    shard = store(bridge)
    loser = holders(bridge, shard)[0]
    del loser.shards[shard]
    node = loser.identity
    path = f'/contacts/{node.node_id}/shards'
    assert bridge.farmer_request(node, 'POST', path, {'bad': [shard]}).status == 200
    bridge.copies_made()
    # There is no other farmer, so it gets the shard again.
    assert loser.shards[shard] == b'testshard'
    assert len(counted(bridge, shard)) == 3


def test_copy_that_was_lost_before_a_kill_is_replaced(tmp_path: Path, time: Clock) -> None:
    settings: dict[str, Any] = {'mirrors': 2, 'repair_interval': 0.0}
    with RunningBridge(tmp_path, monotonic=time, **settings) as bridge:
        bridge.account()
        farmers(bridge, 6)
        shard = store(bridge)
        loser = holders(bridge, shard)[0]
        del loser.shards[shard]
        # Only the record of the audit tells that a copy is missing.
        bridge.call(lambda: audit_round(bridge.state))
        known = bridge.farmers.farmers
    later = RunningBridge(tmp_path, monotonic=time, **settings)
    later.farmers.farmers.update(known)
    with later:
        later.copies_made()
        assert len(counted(later, shard)) == 3
        assert backlog(later) == 0


def test_file_without_all_copies_waits_in_the_backlog(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, mirrors=2, copying_timeout=0.0, repair_interval=0.0) as bridge:
        bridge.account()
        found = farmers(bridge, 3, copies=False)
        shard = store(bridge)
        bridge.copies_made()
        assert backlog(bridge) == 1
        for farmer in found:
            farmer.copies = True
        bridge.clock.now += 61
        bridge.copies_made()
        assert len(counted(bridge, shard)) == 3
        assert backlog(bridge) == 0


def test_shard_that_every_farmer_has_waits_for_a_new_one(bridge: RunningBridge) -> None:
    farmers(bridge, 2)
    shard = store(bridge)
    look(bridge)
    bridge.clock.now += 365 * 24 * HOUR
    bridge.farmers.calls.clear()
    look(bridge)
    assert bridge.farmers.calls == []
    bridge.farmer(5000)
    look(bridge)
    assert len(counted(bridge, shard)) == 3
    assert backlog(bridge) == 0


def test_survey_finds_what_no_event_told_of(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('storj.network.bridge.upkeep.repairs._PAGE', 2)
    farmers(bridge, 6)
    shards = [store(bridge, bytes([n]), str(n)) for n in range(5)]
    with bridge.state.database.begin() as session:
        session.query(Contract).filter_by(mirror=True).update({Contract.failed: True})
    look(bridge)
    assert all(len(counted(bridge, shard)) == 1 for shard in shards)
    survey(bridge)
    assert all(len(counted(bridge, shard)) == 3 for shard in shards)


# ---------------------------------------------------------------- farmers that go, and come back


def test_farmer_that_is_gone_for_good_is_replaced(bridge: RunningBridge, time: Clock) -> None:
    farmers(bridge, 6)
    shards = [store(bridge, bytes([n]), str(n)) for n in range(4)]
    gone = holders(bridge, shards[0])[:2]
    for farmer in gone:
        farmer.away = True
    time.now += HOUR - 1
    look(bridge)
    assert totals(bridge) == (3, 0, 0)
    time.now += 2
    look(bridge)
    assert totals(bridge) == (3, 0, 0)
    for shard in shards:
        there = [farmer for farmer in holders(bridge, shard) if not farmer.away]
        assert len(there) >= 3
        assert {farmer.identity.node_id for farmer in gone}.isdisjoint(counted(bridge, shard))
    state = bridge.request('GET', '/status').json['farmers']
    assert sum(farmer['lost'] for farmer in state) == 2
    page = bridge.request('GET', '/status', headers={'accept': 'text/html'}).body.decode()
    assert page.count('>lost<') == 2


def test_nobody_is_given_up_unasked(bridge: RunningBridge, time: Clock) -> None:
    farmers(bridge, 4)
    shard = store(bridge)
    # No ping has been sent for long; whoever answers now is there.
    time.now += 10 * HOUR
    look(bridge)
    assert len(counted(bridge, shard)) == 3
    assert len(holders(bridge, shard)) == 3


def test_wall_clock_that_is_set_loses_no_farmer(bridge: RunningBridge, time: Clock) -> None:
    found = farmers(bridge, 6)
    shard = store(bridge)
    for farmer in found:
        farmer.away = True
    for years in (3, -6):
        bridge.clock.now += years * 365 * 86400.0
        look(bridge)
        assert len(counted(bridge, shard)) == 3
    time.now += HOUR + 1
    look(bridge)
    assert counted(bridge, shard) == set()


def test_time_in_which_the_bridge_was_off_loses_no_farmer(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, mirrors=2, repair_interval=0.0) as bridge:
        bridge.account()
        found = farmers(bridge, 3)
        shard = store(bridge)
    known = bridge.farmers
    with RunningBridge(tmp_path, mirrors=2, repair_interval=0.0) as bridge:
        bridge.farmers.farmers.update(known.farmers)
        bridge.clock.step(30 * 86400.0)
        for farmer in found:
            farmer.away = True
        look(bridge)
        assert len(counted(bridge, shard)) == 3


def test_farmer_that_comes_back_counts_once_it_is_verified(
    bridge: RunningBridge, time: Clock
) -> None:
    farmers(bridge, 3)
    shard, other = store(bridge), store(bridge, b'other', 'dog.jpg')
    back = holders(bridge, shard)[0]
    node = back.identity.node_id
    back.away = True
    time.now += HOUR + 1
    look(bridge)
    assert totals(bridge) == (3, 2, 0)
    back.away = False
    del back.shards[other]
    bridge.call(lambda: ping_round(bridge.state))
    # That it answers does not tell what it has.
    assert node not in counted(bridge, shard) | counted(bridge, other)
    assert bridge.request('GET', '/status').json['farmers'][0]['lost'] is False
    results = {
        result.shard_hash: result.passed
        for result in bridge.call(lambda: audit_round(bridge.state))
        if result.node_id == node
    }
    assert results == {shard: True, other: False}
    assert node in counted(bridge, shard)
    assert node not in counted(bridge, other)
    # It takes again what it has lost.
    look(bridge)
    assert node in counted(bridge, other)
    assert totals(bridge) == (3, 0, 0)


def test_farmer_that_announces_itself_is_asked_before_it_counts(
    bridge: RunningBridge, time: Clock
) -> None:
    farmers(bridge, 3)
    shard = store(bridge)
    back = holders(bridge, shard)[0]
    back.away = True
    time.now += HOUR + 1
    look(bridge)
    node = back.identity
    for _ in range(2):
        answer = bridge.farmer_request(node, 'PATCH', f'/contacts/{node.node_id}', {})
        assert answer.status == 201
        look(bridge)
        with bridge.state.database.begin() as session:
            assert session.get_one(Contact, node.node_id).lost is back.away
        back.away = False


def test_copies_of_a_large_farmer_are_put_up_some_at_a_time(
    bridge: RunningBridge, time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('storj.network.bridge.upkeep.audits._PUT_UP', 2)
    object.__setattr__(bridge.state.settings, 'audit_interval', None)
    found = farmers(bridge, 3)
    shards = [store(bridge, bytes([n]), str(n)) for n in range(5)]
    with bridge.state.database.begin() as session:
        session.query(Contract).update({Contract.next_audit: bridge.state.now() + 10**9})
    found[0].away = True
    time.now += HOUR + 1
    look(bridge)
    found[0].away = False
    bridge.call(lambda: ping_round(bridge.state))
    audited = [
        result for _ in range(3) for result in bridge.call(lambda: audit_round(bridge.state))
    ]
    assert sorted(result.shard_hash for result in audited) == sorted(shards)
    assert {result.node_id for result in audited} == {found[0].identity.node_id}
    assert totals(bridge) == (3, 0, 0)


# ---------------------------------------------------------------- order and bounds


def test_most_endangered_shards_come_first(bridge: RunningBridge, time: Clock) -> None:
    farmers(bridge, 6)
    shards = [store(bridge, bytes([n]), str(n)) for n in range(12)]
    with bridge.state.database.begin() as session:
        for number, shard in enumerate(shards):
            lost = session.query(Contract).filter_by(shard_hash=shard).limit(number % 4).all()
            for contract in lost:
                contract.failed = True
    bridge.farmers.retrieved.clear()
    survey(bridge)
    order = [shards.index(shard) % 4 for shard in dict.fromkeys(bridge.farmers.retrieved)]
    # With one copy left, with two, and at last those that nobody is known to have: there it ends
    # soon, as nothing is copied, so one may overtake those that another worker has begun.
    assert [failed for failed in order if failed != 3] == [2] * 3 + [1] * 3
    assert order[:4] == [2, 2, 2, 1]
    assert order.count(3) == 3


def test_no_more_than_so_many_shards_are_worked_on_at_once(
    bridge: RunningBridge, time: Clock
) -> None:
    found = farmers(bridge, 6)
    shards = [store(bridge, bytes([n]), str(n)) for n in range(30)]
    with bridge.state.database.begin() as session:
        session.query(Contract).filter(Contract.mirror.is_(True)).update({Contract.failed: True})
    hanging = asyncio.Event()
    for farmer in found:
        farmer.hangs, farmer.hangs_in = hanging, 'mirror'
    before = [method for method, _ in bridge.farmers.calls].count('mirror')
    bridge.call(bridge.app[REPAIRS].survey)
    eventually(lambda: sum(farmer.waiting for farmer in found) == 8)
    # Two copies each of four shards, and no more until one of them is there.
    assert [method for method, _ in bridge.farmers.calls].count('mirror') == before + 8
    bridge.set(hanging)
    bridge.copies_made()
    assert all(len(counted(bridge, shard)) == 3 for shard in shards)


def test_hopeless_shards_are_tried_less_and_less_often(
    tmp_path: Path,
) -> None:
    with RunningBridge(tmp_path, mirrors=2, repair_interval=0.0, copying_timeout=0.0) as bridge:
        bridge.account()
        found = farmers(bridge, 3, copies=False)
        store(bridge)
        # The first try was that of the upload.
        bridge.copies_made()
        bridge.clock.now += 60

        def tries() -> int:
            bridge.farmers.calls.clear()
            look(bridge)
            return [method for method, _ in bridge.farmers.calls].count('mirror')

        attempts = []
        for _ in range(14):
            attempts.append(tries())
            bridge.clock.now += 30
        assert [bool(tried) for tried in attempts] == [number in (0, 4, 12) for number in range(14)]
        # One more farmer is new hope.
        for farmer in found:
            farmer.copies = True
        bridge.farmer(5000)
        assert tries() > 0


# ---------------------------------------------------------------- on request


def test_copy_serves_when_the_first_farmer_is_away(bridge: RunningBridge) -> None:
    farmers(bridge, 6)
    bucket = bridge.bucket(ALICE)
    file = bridge.file(ALICE, bucket)
    path = f'/buckets/{bucket}/files/{file}'
    (pointer,) = bridge.request('GET', path, by=ALICE).json
    first = bridge.farmers.farmers[pointer['farmer']['nodeID']]
    first.away = True
    (pointer,) = bridge.request('GET', path, by=ALICE).json
    assert pointer['farmer']['nodeID'] != first.identity.node_id
    (shard,) = bridge.request('GET', f'{path}/mirrors', by=ALICE).json
    assert {item['contract']['farmer_id'] for item in shard['established']} == {
        farmer.identity.node_id for farmer in holders(bridge, pointer['hash'])
    }


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[RunningBridge]:
    (tmp_path / 'plain').mkdir()
    with RunningBridge(tmp_path / 'plain') as running:
        yield running


@pytest.fixture
def alice(plain: RunningBridge) -> Account:
    return plain.account()


def test_mirrors_are_made_on_request(plain: RunningBridge, alice: Account) -> None:
    for port in range(4000, 4005):
        plain.farmer(port)
    bucket = plain.bucket(alice)
    file = plain.file(alice, bucket, (b'a' * 16000, b'b'))
    path = f'/buckets/{bucket}/mirrors'
    answer = plain.request('POST', path, {'file': file, 'redundancy': 2}, by=alice)
    assert answer.status == 200
    assert [len(shard) for shard in answer.json] == [2, 2]
    assert sorted(answer.json[0][0]) == [
        'address',
        'lastSeen',
        'nodeID',
        'port',
        'protocol',
        'userAgent',
    ]
    again = plain.request('POST', path, {'file': file, 'redundancy': 2}, by=alice)
    for before, after in zip(answer.json, again.json, strict=True):
        assert {item['nodeID'] for item in before} == {item['nodeID'] for item in after}
    # There are no more farmers than there are.
    answer = plain.request('POST', path, {'file': file, 'redundancy': 12}, by=alice)
    assert [len(shard) for shard in answer.json] == [4, 4]


@pytest.mark.parametrize(
    ('body', 'status', 'text'),
    [
        ({}, 400, 'No file ID supplied'),
        ({'file': 'ab' * 12, 'redundancy': 13}, 400, 'Refusing to create more than 12 mirrors'),
        ({'file': 'ab' * 12, 'redundancy': -1}, 400, 'Invalid redundancy supplied'),
        ({'file': 'ab' * 12, 'redundancy': 'x'}, 400, 'Invalid redundancy supplied'),
        ({'file': 'ab' * 12, 'redundancy': 1}, 404, 'Entry not found'),
    ],
)
def test_bad_request_for_mirrors_is_refused(
    plain: RunningBridge, alice: Account, body: dict[str, object], status: int, text: str
) -> None:
    bucket = plain.bucket(alice)
    answer = plain.request('POST', f'/buckets/{bucket}/mirrors', body, by=alice)
    assert (answer.status, answer.error) == (status, text)
