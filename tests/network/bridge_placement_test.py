"""Choosing farmers, contracts made twice, and space that is promised for nothing."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from storj.network.bridge.contacts import KnownFarmer
from storj.network.bridge.copies import UNCONFIRMED, download_tokens
from storj.network.bridge.placement import Shard, allocate, candidates, ranked
from storj.network.bridge.state import PROMISE_LIFE, BridgeSettings
from storj.network.bridge.tables import Challenge, Contact, Contract, User
from storj.network.bridge.upkeep.audits import audit_round
from storj.network.bridge.upkeep.rounds import end_given_up, ping_round
from tests.network.bridges import Account, Answer, RunningBridge, ScriptedFarmer, eventually
from tests.network.nodes import DAY, SHARD_HASH

SHARD = b'testshard'


@pytest.fixture
def mallory(bridge: RunningBridge) -> Account:
    return bridge.account('mallory@example.org')


def put(
    bridge: RunningBridge, by: Account, data: bytes = SHARD, index: int = 0, **fields: Any
) -> Answer:
    """Ask for a contract, in a frame of its own, and bring nothing."""
    body = bridge.shard(data, index, **fields)
    return bridge.request('PUT', f'/frames/{bridge.frame(by)}', body, by=by)


def contracts(bridge: RunningBridge) -> list[Contract]:
    with bridge.state.database.begin() as session:
        return list(session.query(Contract))


def rank(bridge: RunningBridge, shard_hash: str = SHARD_HASH, **kwargs: Any) -> list[KnownFarmer]:
    with bridge.state.database.begin_plain() as connection:
        found = candidates(connection, shard_hash, exclude=(), **kwargs)
    return [each.contact for each in ranked(bridge.state, found)]


def numbers(found: Sequence[KnownFarmer]) -> list[int]:
    return [contact.port - 4000 for contact in found]


def many_farmers(bridge: RunningBridge, count: int) -> list[ScriptedFarmer]:
    """Return so many farmers that are registered, without the work that it takes."""
    found = [bridge.farmers.add(4000 + number) for number in range(count)]
    columns = {'protocol': '1.2.0', 'user_agent': '8.7.2', 'timeout_rate': 0.0, 'reputation': 0}
    columns |= {'created': 0, 'last_seen': 0, 'space_available': True, 'address': '127.0.0.1'}
    with bridge.state.database.begin() as session:
        session.execute(
            insert(Contact),
            [
                {**columns, 'node_id': farmer.identity.node_id, 'port': farmer.contact.port}
                for farmer in found
            ],
        )
    return found


# ---------------------------------------------------------------- choice


def test_all_of_a_thousand_farmers_get_their_turn(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    farmers = many_farmers(bridge, 1000)
    begins = iter([f'{number * 16**38:040x}' for number in range(0, 256, 4)])
    monkeypatch.setattr(secrets, 'token_hex', lambda size: next(begins))
    looked_at: Counter[int] = Counter()
    for _ in range(64):
        with bridge.state.database.begin_plain() as connection:
            found = candidates(connection, SHARD_HASH, exclude=())
        ports = {each.port for each in found}
        assert len(found) == len(ports) == 48
        looked_at.update(ports)
    # 64 * 48 looks are 3 for each, more or less: ids are spread evenly, not regularly.
    assert len(looked_at) == len(farmers)
    assert max(looked_at.values()) <= 6


def test_hung_farmers_do_not_hold_up_a_round_of_pings(bridge: RunningBridge) -> None:
    farmers = many_farmers(bridge, 1000)
    hanging = asyncio.Event()
    for farmer in farmers[::14]:
        farmer.hangs = hanging
    stuck = len(farmers[::14])
    bridge.farmers.calls.clear()
    pings = bridge.begin(lambda: ping_round(bridge.state))
    # All are asked while those hang, which is long before they are given up.
    eventually(lambda: len(bridge.farmers.calls) == len(farmers))
    assert sum(farmer.waiting for farmer in farmers) == stuck
    assert not pings.done()
    bridge.set(hanging)
    pings.result(30)


def test_farmers_that_fail_hold_or_have_much_come_last(
    bridge: RunningBridge, alice: Account
) -> None:
    farmers = [bridge.farmer(4000 + number) for number in range(5)]
    nodes = [farmer.identity.node_id for farmer in farmers]
    frame = bridge.frame(alice)
    others = {node: [other for other in nodes if other != node] for node in nodes}
    # Farmer 1 has a shard of the same file, 2 has two, 3 the shard itself.
    for index, number in enumerate((1, 2, 2)):
        bridge.add_shard(alice, frame, bytes([index]) * 16000, index, exclude=others[nodes[number]])
    bridge.add_shard(alice, bridge.frame(alice), SHARD, exclude=others[nodes[3]])
    with bridge.state.database.begin() as session:
        session.get_one(Contact, nodes[4]).last_timeout = bridge.state.now()
    for _ in range(5):
        assert numbers(rank(bridge, frame=frame)) == [0, 1, 2, 3, 4]
    # What is under way counts as if it were there already.
    bridge.state.pending[nodes[0]] = 3
    assert numbers(rank(bridge, frame=frame)) == [1, 2, 0, 3, 4]
    with bridge.state.database.begin() as session:
        session.get_one(Contact, nodes[0]).lost = True
        session.get_one(Contact, nodes[1]).space_available = False
    assert numbers(rank(bridge, frame=frame)) == [2, 3, 4]
    bridge.clock.now += 601
    assert numbers(rank(bridge, frame=frame))[-1] == 3


def test_chance_chooses_among_equals(bridge: RunningBridge) -> None:
    for number in range(4):
        bridge.farmer(4000 + number)
    assert {numbers(rank(bridge))[0] for _ in range(60)} == {0, 1, 2, 3}


def test_holders_that_have_it_and_answer_are_asked_first(
    bridge: RunningBridge, alice: Account
) -> None:
    farmers = [bridge.farmer(4000 + number) for number in range(5)]
    for farmer in farmers:
        bridge.add_shard(
            alice,
            bridge.frame(alice),
            SHARD,
            exclude=[f.identity.node_id for f in farmers if f is not farmer],
        )
        bridge.farmer_report(farmer, SHARD_HASH, 'SHARD_UPLOADED')
        farmer.denies = True
    nodes = [farmer.identity.node_id for farmer in farmers]
    with bridge.state.database.begin() as session:
        session.get_one(Contact, nodes[1]).last_timeout = bridge.state.now()
        session.get_one(Contact, nodes[2]).lost = True
        session.get_one(Contract, (SHARD_HASH, nodes[3])).stored = False
        session.get_one(Contract, (SHARD_HASH, nodes[4])).failed = True
    for _ in range(4):
        bridge.farmers.calls.clear()
        assert bridge.call(lambda: download_tokens(bridge.state, [SHARD_HASH])) == [None]
        asked = [nodes.index(node) for _, node in bridge.farmers.calls]
        assert asked[0] == 0
        assert sorted(asked[1:3]) == [1, 2]
        assert asked[3:] == [3, 4]
        with bridge.state.database.begin() as session:
            session.get_one(Contact, nodes[1]).last_timeout = bridge.state.now()
            session.get_one(Contact, nodes[2]).lost = True


@pytest.mark.parametrize('kind', ['away', 'clock', 'hangs'])
@pytest.mark.parametrize('method', ['alloc', 'retrieve', 'mirror'])
def test_failure_of_a_farmer_is_noted(tmp_path: Path, kind: str, method: str) -> None:
    with RunningBridge(
        tmp_path, farmer_timeout=0.1, mirrors=1, repair_interval=0.0, copying_timeout=0.0
    ) as bridge:
        alice = bridge.account()
        first, other = bridge.farmer(4000), bridge.farmer(4001)
        victim = other
        frame = bridge.frame(alice)
        if method != 'alloc':
            bridge.add_shard(alice, frame, exclude=[other.identity.node_id])
            if method == 'retrieve':
                victim = first
        if kind == 'away':
            victim.away = True
        elif kind == 'clock':
            victim.clock_ahead = 100.0
        else:
            victim.hangs, victim.hangs_in = asyncio.Event(), method
        if method == 'alloc':
            body = bridge.shard(exclude=[first.identity.node_id])
            assert bridge.request('PUT', f'/frames/{frame}', body, by=alice).status == 503
        else:
            if method == 'mirror':
                bridge.farmer_report(first, SHARD_HASH, 'SHARD_UPLOADED')
            bridge.call(lambda: download_tokens(bridge.state, [SHARD_HASH]))
            bridge.copies_made()
        with bridge.state.database.begin() as session:
            contact = session.get_one(Contact, victim.identity.node_id)
            assert contact.last_timeout == bridge.state.now()
            assert contact.timeout_rate > 0
            unharmed = first if victim is other else other
            assert session.get_one(Contact, unharmed.identity.node_id).last_timeout is None


# ---------------------------------------------------------------- a contract made twice


def test_second_contract_keeps_the_audits_of_the_first(
    bridge: RunningBridge, alice: Account, mallory: Account
) -> None:
    farmer = bridge.farmer()
    bridge.file(alice, bridge.bucket(alice))
    bridge.call(lambda: audit_round(bridge.state))
    (before,) = contracts(bridge)
    tree = list(farmer.trees[SHARD_HASH])
    with bridge.state.database.begin() as session:
        session.query(Contract).update({Contract.download_count: 7})
        challenges = [(c.challenge, c.sent) for c in session.query(Challenge)]
    bridge.clock.now += DAY
    answer = put(bridge, mallory, tree=['ab' * 20] * 4)
    assert answer.status == 200
    (after,) = contracts(bridge)
    # The farmer has agreed to the same as before, for as long as a new contract.
    assert farmer.trees[SHARD_HASH] == tree == after.tree
    assert after.store_begin == before.store_begin + int(DAY * 1000)
    assert after.store_end == before.store_end + int(DAY * 1000)
    assert after.next_renewal == before.next_renewal + int(DAY * 1000)
    assert after.document['store_end'] == after.store_end
    assert (after.stored, after.verified, after.mirror) == (True, 0, False)
    assert (after.failed, after.download_count) == (False, 7)
    assert after.next_audit == before.next_audit
    with bridge.state.database.begin() as session:
        assert [(c.challenge, c.sent) for c in session.query(Challenge)] == challenges
    results = bridge.call(lambda: audit_round(bridge.state))
    assert [result.passed for result in results] == [True]
    assert ('fetch', farmer.identity.node_id) not in bridge.farmers.calls


@pytest.mark.parametrize('before', [False, True])
@pytest.mark.parametrize('again', [False, True])
def test_contract_is_a_mirror_until_somebody_brings_the_shard(
    bridge: RunningBridge, alice: Account, before: bool, again: bool
) -> None:
    bridge.farmer()
    bridge.file(alice, bridge.bucket(alice))
    with bridge.state.database.begin() as session:
        session.query(Contract).update({Contract.mirror: before})
    (contact,) = rank(bridge)
    body = bridge.shard()
    shard = Shard(body['hash'], body['size'], body['tree'], body['challenges'])
    bridge.call(lambda: allocate(bridge.state, contact, shard, mirror=again))
    assert [contract.mirror for contract in contracts(bridge)] == [before and again]


def test_second_contract_with_another_size_gets_another_farmer(
    bridge: RunningBridge, alice: Account, mallory: Account
) -> None:
    farmers = {farmer.identity.node_id: farmer for farmer in map(bridge.farmer, (4000, 4001))}
    bridge.file(alice, bridge.bucket(alice))
    (mine,) = contracts(bridge)
    other = next(node for node in farmers if node != mine.node_id)
    for _ in range(3):
        assert put(bridge, mallory, size=1).json['farmer']['nodeID'] == other
    assert farmers[mine.node_id].sizes[SHARD_HASH] == 9
    assert {c.node_id: c.data_size for c in contracts(bridge)} == {mine.node_id: 9, other: 1}
    refused = put(bridge, mallory, size=1, exclude=[other])
    assert (refused.status, refused.error) == (503, 'Could not locate farmers')
    # The file is served by who has it, and audited as it was.
    results = bridge.call(lambda: audit_round(bridge.state))
    assert [(result.node_id, result.passed) for result in results] == [(mine.node_id, True)]


def test_failed_contract_is_made_anew(bridge: RunningBridge, alice: Account) -> None:
    farmer = bridge.farmer()
    bridge.file(alice, bridge.bucket(alice))
    with bridge.state.database.begin() as session:
        session.query(Contract).update({Contract.failed: True, Contract.download_count: 7})
    body = bridge.shard(size=8)
    answer = bridge.request('PUT', f'/frames/{bridge.frame(alice)}', body, by=alice)
    assert answer.status == 200
    (contract,) = contracts(bridge)
    assert (contract.stored, contract.failed, contract.verified) == (False, False, -1)
    assert (contract.data_size, contract.download_count) == (8, 0)
    assert contract.tree == farmer.trees[SHARD_HASH] == body['tree']
    with bridge.state.database.begin() as session:
        assert [c.challenge for c in session.query(Challenge)] == body['challenges']


def test_contract_that_nobody_fulfils_binds_for_minutes_only(
    bridge: RunningBridge, alice: Account, mallory: Account
) -> None:
    farmer = bridge.farmer()
    assert put(bridge, mallory, size=1).status == 200
    assert put(bridge, alice).status == 503
    # Who asks for the same comes to the same contract.
    assert put(bridge, alice, size=1).status == 200
    bridge.clock.now += PROMISE_LIFE
    assert put(bridge, alice).status == 200
    assert farmer.sizes[SHARD_HASH] == 9
    assert [contract.data_size for contract in contracts(bridge)] == [9]
    # A clock that was set back does not bind anybody for years.
    bridge.clock.now -= 365 * DAY
    assert put(bridge, mallory, size=1).status == 200


def test_contracts_for_one_shard_and_farmer_are_made_one_by_one(
    bridge: RunningBridge, alice: Account, mallory: Account
) -> None:
    farmer = bridge.farmer()
    frames = [bridge.frame(alice), bridge.frame(mallory)]
    hanging = farmer.hangs = asyncio.Event()
    answers: list[Answer] = []

    def ask(by: Account, frame: str, size: int) -> None:
        body = bridge.shard(size=size)
        answers.append(bridge.request('PUT', f'/frames/{frame}', body, by=by))

    threads = [
        threading.Thread(target=ask, args=(alice, frames[0], 9)),
        threading.Thread(target=ask, args=(mallory, frames[1], 1)),
    ]
    threads[0].start()
    eventually(lambda: farmer.waiting == 1)
    threads[1].start()
    # Both are about to make a contract with it; one of them is asking.
    eventually(lambda: bridge.state.pending[farmer.identity.node_id] == 2)
    assert farmer.waiting == 1
    bridge.set(hanging)
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [200, 503]
    assert farmer.sizes[SHARD_HASH] == 9
    assert len(bridge.state.placing) == 0


def test_placing_reads_the_contracts_of_its_own_shards_only(
    bridge: RunningBridge, alice: Account, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / 'bridge.db')) as database:
        plan = database.execute(
            'EXPLAIN QUERY PLAN SELECT contracts.node_id, count(*) FROM contracts JOIN pointers'
            ' ON pointers.shard_hash = contracts.shard_hash WHERE pointers.frame = ?'
            ' AND contracts.mirror IS 0 GROUP BY contracts.node_id',
            ('a',),
        ).fetchall()
    steps = [row[3] for row in plan]
    assert any('contracts' in step and 'shard_hash=?' in step for step in steps), steps


# ---------------------------------------------------------------- promises


def awaited(bridge: RunningBridge) -> list[tuple[str, str]]:
    """Return what farmers wait for: shards, and who waits."""
    with bridge.state.database.begin() as session:
        found = session.query(Contract).filter_by(verified=UNCONFIRMED)
        return [(each.shard_hash, each.node_id) for each in found if each.next_renewal]


def end_unused(bridge: RunningBridge) -> None:
    """Do what the bridge does from time to time about contracts that nobody wants."""
    bridge.call(lambda: end_given_up(bridge.state))


def brought(bridge: RunningBridge, farmer: ScriptedFarmer, data: bytes) -> None:
    farmer.shards[bridge.shard(data)['hash']] = data


def test_account_that_brings_nothing_gets_no_more_promises(
    tmp_path: Path,
) -> None:
    with RunningBridge(tmp_path, open_promises=3) as bridge:
        alice, mallory = bridge.account(), bridge.account('mallory@example.org')
        farmer = bridge.farmer()
        for number in range(3):
            assert put(bridge, mallory, bytes([number])).status == 200
        refused = put(bridge, mallory, b'more')
        assert (refused.status, refused.headers['Retry-After']) == (429, '5')
        assert refused.error == 'Too many shards that have not been brought'
        assert put(bridge, alice, b'hers').status == 200
        # What has come counts no more, whether it is reported or found when it matters.
        bridge.farmer_report(farmer, bridge.shard(bytes([0]))['hash'], 'SHARD_UPLOADED')
        assert put(bridge, mallory, b'more').status == 200
        assert put(bridge, mallory, b'and more').status == 429
        brought(bridge, farmer, bytes([1]))
        assert put(bridge, mallory, b'and more').status == 200
        assert put(bridge, mallory, b'and on').status == 429
        # Whoever runs the bridge may do as they like.
        with bridge.state.database.begin() as session:
            session.get_one(User, mallory.email).free_tier = False
        assert put(bridge, mallory, b'and on').status == 200


@pytest.mark.parametrize(
    ('offered', 'size', 'granted'),
    [((2**30, 2**30), 2**28, 4), ((2**30, 2**30), 2**31, 1), ((None,), 2**32, 16)],
)
def test_promises_take_half_of_what_is_offered_at_most(
    bridge: RunningBridge,
    mallory: Account,
    offered: Sequence[int | None],
    size: int,
    granted: int,
) -> None:
    for number, space in enumerate(offered):
        bridge.farmer(4000 + number, spaceOffered=space)
    statuses = [put(bridge, mallory, bytes([n]), size=size).status for n in range(granted + 1)]
    assert statuses == [200] * granted + [429]


def test_promises_end_after_minutes_without_a_byte(
    tmp_path: Path,
) -> None:
    with RunningBridge(tmp_path, open_promises=1) as bridge:
        mallory = bridge.account()
        bridge.farmer()
        assert put(bridge, mallory, b'a').status == 200
        bridge.clock.now += PROMISE_LIFE - 1
        assert put(bridge, mallory, b'b').status == 429
        bridge.clock.now += 1
        assert put(bridge, mallory, b'b').status == 200
        # One from the future holds nobody up.
        bridge.clock.step(-DAY)
        assert put(bridge, mallory, b'c').status == 200


def test_promises_end_with_their_frame(bridge: RunningBridge, alice: Account) -> None:
    farmer = bridge.farmer()
    frame = bridge.frame(alice)
    sent = [bridge.shard(bytes([n]) * 20000, n) for n in range(3)]
    for body in sent:
        assert bridge.request('PUT', f'/frames/{frame}', body, by=alice).status == 200
    # One has been brought; another one is wanted by somebody else, too.
    brought(bridge, farmer, bytes([0]) * 20000)
    bridge.farmer_report(farmer, sent[0]['hash'], 'SHARD_UPLOADED')
    assert put(bridge, alice, bytes([1]) * 20000).status == 200
    assert bridge.request('DELETE', f'/frames/{frame}', by=alice).status == 204
    assert awaited(bridge) == [(sent[1]['hash'], farmer.identity.node_id)]
    end_unused(bridge)
    assert farmer.ends[sent[2]['hash']] == bridge.state.now()
    assert all(farmer.ends[body['hash']] > bridge.state.now() for body in sent[:2])
    assert {contract.shard_hash for contract in contracts(bridge)} == {
        body['hash'] for body in sent[:2]
    }


def test_promise_of_a_farmer_that_was_passed_over_ends(
    bridge: RunningBridge, alice: Account
) -> None:
    farmers = {farmer.identity.node_id: farmer for farmer in map(bridge.farmer, (4000, 4001))}
    frame = bridge.frame(alice)
    body = bridge.shard()
    path = f'/frames/{frame}'
    first = bridge.request('PUT', path, body, by=alice).json['farmer']['nodeID']
    again = bridge.request('PUT', path, body | {'exclude': [first]}, by=alice)
    second = again.json['farmer']['nodeID']
    assert second != first
    assert awaited(bridge) == [(SHARD_HASH, second)]
    end_unused(bridge)
    assert farmers[first].ends[SHARD_HASH] == bridge.state.now()
    assert farmers[second].ends[SHARD_HASH] > bridge.state.now()
    assert [contract.node_id for contract in contracts(bridge)] == [second]


def test_contract_that_is_fulfilled_while_it_is_ended_is_renewed(
    bridge: RunningBridge, alice: Account
) -> None:
    farmer = bridge.farmer()
    frame = bridge.frame(alice)
    pointer = bridge.add_shard(alice, frame)
    assert bridge.request('DELETE', f'/frames/{frame}', by=alice).status == 204
    hanging = farmer.hangs = asyncio.Event()
    farmer.hangs_in = 'renew'
    thread = threading.Thread(target=end_unused, args=(bridge,))
    thread.start()
    eventually(lambda: farmer.waiting == 1)
    bridge.farmer_report(farmer, pointer['hash'], 'SHARD_UPLOADED')
    bridge.set(hanging)
    thread.join()
    (contract,) = contracts(bridge)
    assert contract.stored
    assert contract.next_renewal <= bridge.state.now()


def test_search_that_finds_no_farmer_promises_nothing(
    bridge: RunningBridge, alice: Account
) -> None:
    bridge.farmer().refuses = True
    assert put(bridge, alice).status == 503
    assert awaited(bridge) == []
    assert bridge.state.searching == {}


def test_promises_may_be_unlimited(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='open_promises'):
        BridgeSettings('sqlite://', tmp_path, open_promises=-1)
    with RunningBridge(tmp_path, open_promises=0) as bridge:
        alice = bridge.account()
        bridge.farmer(spaceOffered=1)
        assert [put(bridge, alice, bytes([n])).status for n in range(5)] == [200] * 5
