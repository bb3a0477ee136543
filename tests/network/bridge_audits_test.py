"""Audits: spread over a contract's life, passed by nothing but the shard, renewed by reading."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj.digest import Generation, ShardDigest, make_proof, new_challenges
from storj.network.bridge.copies import DOUBTFUL
from storj.network.bridge.tables import Challenge, Contact, Contract
from storj.network.bridge.upkeep.audits import AuditResult, audit_round, proves
from storj.network.node.rpc import NodeContact
from tests.network.bridges import Account, RunningBridge, eventually
from tests.network.nodes import DAY


def audit(bridge: RunningBridge) -> list[AuditResult]:
    return bridge.call(lambda: audit_round(bridge.state))


def stored_files(bridge: RunningBridge, by: Account, count: int) -> list[dict[str, Any]]:
    """Store so many files of one shard each; return their pointers."""
    bucket = bridge.bucket(by)
    pointers = []
    for number in range(count):
        frame = bridge.frame(by)
        pointer = bridge.add_shard(by, frame, bytes([number]) * 100)
        body = {'frame': frame, 'filename': str(number)}
        answer = bridge.request('POST', f'/buckets/{bucket}/files', body, by=by)
        assert answer.status == 200, answer
        pointers.append(pointer)
    return pointers


def only_contract(bridge: RunningBridge) -> Contract:
    with bridge.state.database.begin() as session:
        return session.query(Contract).one()


def reputation(bridge: RunningBridge) -> int:
    with bridge.state.database.begin() as session:
        return session.query(Contact).one().reputation


def count(bridge: RunningBridge, method: str) -> int:
    return [called for called, _ in bridge.farmers.calls].count(method)


@pytest.mark.parametrize('generation', ['A', 'B', 'C'])
def test_each_challenge_is_sent_once(tmp_path: Path, generation: Generation) -> None:
    with RunningBridge(tmp_path) as bridge:
        bridge.farmers.generation = generation
        alice = bridge.account()
        farmer = bridge.farmer()
        sent: list[str] = []
        farmer.hears = sent.append
        frame = bridge.frame(alice)
        pointer = bridge.add_shard(alice, frame)
        bridge.farmer_report(farmer, pointer['hash'], 'SHARD_UPLOADED')
        # Not before a file needs it.
        assert audit(bridge) == []
        bridge.clock.now += DAY
        body = {'frame': frame, 'filename': 'a'}
        bridge.request('POST', f'/buckets/{bridge.bucket(alice)}/files', body, by=alice)
        passed = AuditResult(pointer['hash'], farmer.identity.node_id, True)
        assert [audit(bridge) for _ in range(3)] == [[passed]] * 3
        assert len(set(sent)) == 3
        (state,) = bridge.request('GET', '/status').json['farmers']
        counts = ('audits_passed', 'audits_failed', 'audits_open')
        assert [state[name] for name in counts] == [3, 0, 0]
        assert state['reputation'] == 30


def test_copy_that_came_before_its_file_is_audited_soon(tmp_path: Path) -> None:
    with RunningBridge(tmp_path) as bridge:
        alice = bridge.account()
        farmer = bridge.farmer()
        frame = bridge.frame(alice)
        pointer = bridge.add_shard(alice, frame)
        bridge.farmer_report(farmer, pointer['hash'], 'SHARD_UPLOADED')
        assert audit(bridge) == []
        body = {'frame': frame, 'filename': 'a'}
        bridge.request('POST', f'/buckets/{bridge.bucket(alice)}/files', body, by=alice)
        bridge.clock.now += 60
        assert audit(bridge) == [AuditResult(pointer['hash'], farmer.identity.node_id, True)]


def test_challenges_are_spread_over_the_life_of_the_contract(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, audit_interval=None) as bridge:
        alice = bridge.account()
        bridge.farmer()
        stored_files(bridge, alice, 1)
        times = []
        for _ in range(60 * 24):
            if audit(bridge):
                times.append(bridge.clock.now)
            bridge.clock.now += 3600
        days = [round((time - times[0]) / DAY) for time in times]
        # Three challenges, and those that the bridge has made itself after them.
        assert days == [0, 15, 30, 45]
        assert count(bridge, 'audit') == 3
        assert count(bridge, 'consign') == 1


@pytest.mark.parametrize(('protocol', 'generation'), [('0.10.0', 'B'), ('1.2.0', 'C')])
def test_spent_challenges_are_replaced_by_reading_the_copy(
    tmp_path: Path, protocol: str, generation: Generation
) -> None:
    with RunningBridge(tmp_path) as bridge:
        bridge.farmers.generation = generation
        alice = bridge.account()
        farmer = bridge.farmer(4000, protocol)
        (pointer,) = stored_files(bridge, alice, 1)
        passed = AuditResult(pointer['hash'], farmer.identity.node_id, True)
        first = list(farmer.trees[pointer['hash']])
        # Three of the client's, one look, four of the bridge's, and another look.
        assert [audit(bridge) for _ in range(9)] == [[passed]] * 9
        assert (count(bridge, 'audit'), count(bridge, 'fetch')) == (7, 2)
        assert farmer.trees[pointer['hash']] != first
        assert only_contract(bridge).tree == farmer.trees[pointer['hash']]
        (state,) = bridge.request('GET', '/status').json['farmers']
        assert (state['audits_passed'], state['audits_failed']) == (9, 0)


def test_rot_is_noticed_long_after_the_clients_challenges(
    bridge: RunningBridge, alice: Account
) -> None:
    farmer = bridge.farmer()
    (pointer,) = stored_files(bridge, alice, 1)
    for _ in range(20):
        assert [result.passed for result in audit(bridge)] == [True]
    farmer.shards[pointer['hash']] = b'\x01' * 100
    for _ in range(6):
        results = audit(bridge)
        if results != [AuditResult(pointer['hash'], farmer.identity.node_id, True)]:
            break
    assert results == [AuditResult(pointer['hash'], farmer.identity.node_id, False)]
    assert only_contract(bridge).failed


def lie(kind: str, bridge: RunningBridge, data: bytes) -> Any:
    """Return what a farmer says that wants to pass an audit without the shard."""
    tree = only_contract(bridge).tree
    challenges = new_challenges(3)
    digest = ShardDigest(challenges)
    digest.update(data)
    if kind == 'nothing':
        return []
    if kind == 'a leaf':
        return [tree[0]]
    if kind == 'leaves':
        return [[[tree[0]], tree[1]], 'ab' * 20]
    if kind == 'random':
        return [[[secrets.token_hex(20)], tree[1]], secrets.token_hex(20)]
    if kind == 'another challenge':
        return make_proof(digest.leaves(), digest.responses()[0])
    return kind


@pytest.mark.parametrize(
    'kind', ['nothing', 'a leaf', 'leaves', 'random', 'another challenge', 'True', '']
)
def test_farmer_that_lies_fails_its_audit(bridge: RunningBridge, alice: Account, kind: str) -> None:
    farmer = bridge.farmer()
    (pointer,) = stored_files(bridge, alice, 1)
    audit(bridge)
    answer = lie(kind, bridge, bytes(100))
    farmer.proves = lambda name, challenge: answer
    del farmer.shards[pointer['hash']]
    assert audit(bridge) == [AuditResult(pointer['hash'], farmer.identity.node_id, False)]
    assert only_contract(bridge).failed
    assert reputation(bridge) == 0
    (state,) = bridge.request('GET', '/status').json['farmers']
    assert (state['audits_passed'], state['audits_failed']) == (1, 1)


def test_answer_of_an_earlier_audit_proves_nothing(bridge: RunningBridge, alice: Account) -> None:
    farmer = bridge.farmer()
    (pointer,) = stored_files(bridge, alice, 1)
    kept: list[Any] = []

    def keep(name: str, challenge: str) -> Any:
        digest = ShardDigest([challenge])
        digest.update(farmer.shards[name])
        kept.append(make_proof(farmer.trees[name], digest.responses()[0]))
        return kept[-1]

    farmer.proves = keep
    assert [result.passed for result in audit(bridge)] == [True]
    farmer.proves = lambda name, challenge: kept[0]
    del farmer.shards[pointer['hash']]
    assert [result.passed for result in audit(bridge)] == [False]


def test_wrong_leaves_of_a_client_cost_the_farmer_nothing(
    bridge: RunningBridge, alice: Account
) -> None:
    farmer = bridge.farmer()
    frame = bridge.frame(alice)
    leaves = [secrets.token_hex(20) for _ in range(4)]
    pointer = bridge.add_shard(alice, frame, tree=leaves)
    body = {'frame': frame, 'filename': 'a'}
    bridge.request('POST', f'/buckets/{bridge.bucket(alice)}/files', body, by=alice)
    passed = AuditResult(pointer['hash'], farmer.identity.node_id, True)
    assert [audit(bridge) for _ in range(3)] == [[passed]] * 3
    # The first was answered by the bytes, the others by leaves of the bridge's own.
    assert (count(bridge, 'fetch'), count(bridge, 'audit')) == (1, 3)
    assert reputation(bridge) == 30
    assert not only_contract(bridge).failed


def test_copy_that_breaks_off_counts_no_more_until_it_is_read(
    bridge: RunningBridge, alice: Account
) -> None:
    farmer = bridge.farmer()
    stored_files(bridge, alice, 1)
    farmer.proves = lambda name, challenge: []
    farmer.breaks_off = True
    assert audit(bridge) == []
    contract = only_contract(bridge)
    assert (contract.failed, contract.verified) == (False, DOUBTFUL)
    # That it gives out tokens does not change that.
    path = bridge.request('GET', '/status', by=alice).json['files'][0]
    bridge.request('GET', f'/buckets/{path["bucket"]}/files/{path["id"]}', by=alice)
    assert only_contract(bridge).verified == DOUBTFUL
    assert bridge.request('GET', '/status').json['totals']['without_copies'] == 1
    assert audit(bridge) == []
    farmer.proves, farmer.breaks_off = None, False
    bridge.clock.now += 600
    assert [result.passed for result in audit(bridge)] == [True]
    assert only_contract(bridge).verified == 0
    assert reputation(bridge) == 10


def test_failed_copy_is_looked_at_again_the_next_day(bridge: RunningBridge, alice: Account) -> None:
    farmer = bridge.farmer()
    (pointer,) = stored_files(bridge, alice, 1)
    data = farmer.shards.pop(pointer['hash'])
    with bridge.state.database.begin() as session:
        session.query(Contact).update({Contact.reputation: 2000})
    assert [result.passed for result in audit(bridge)] == [False]
    assert audit(bridge) == []
    bridge.clock.now += DAY
    assert [result.passed for result in audit(bridge)] == [False]
    # It is punished once.
    assert reputation(bridge) == 1500
    bridge.clock.now += DAY
    farmer.shards[pointer['hash']] = data
    assert [result.passed for result in audit(bridge)] == [True]
    assert not only_contract(bridge).failed


def test_copy_that_takes_no_leaves_is_read_each_time(bridge: RunningBridge, alice: Account) -> None:
    farmer = bridge.farmer()
    (pointer,) = stored_files(bridge, alice, 1)
    with bridge.state.database.begin() as session:
        session.query(Contract).update({Contract.auditable: False})
    del farmer.trees[pointer['hash']]
    for _ in range(3):
        assert [result.passed for result in audit(bridge)] == [True]
    assert (count(bridge, 'audit'), count(bridge, 'fetch')) == (0, 3)
    assert not only_contract(bridge).auditable


def test_one_lost_shard_does_not_spoil_the_others(bridge: RunningBridge, alice: Account) -> None:
    farmer = bridge.farmer()
    lost, *rest = stored_files(bridge, alice, 3)
    del farmer.shards[lost['hash']]
    results = {result.shard_hash: result.passed for result in audit(bridge)}
    assert results == {lost['hash']: False, **{pointer['hash']: True for pointer in rest}}


def test_all_that_is_due_is_audited_three_proofs_at_once(
    bridge: RunningBridge, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge.farmer()
    pointers = stored_files(bridge, alice, 20)
    asked: list[int] = []
    prove = bridge.farmers.audit

    async def count(contact: NodeContact, audits: Sequence[tuple[str, str]]) -> list[list[Any]]:
        asked.append(len(audits))
        return await prove(contact, audits)

    monkeypatch.setattr(bridge.farmers, 'audit', count)
    results = [result.shard_hash for result in audit(bridge)]
    assert sorted(results) == sorted(pointer['hash'] for pointer in pointers)
    assert asked == [3, 3, 3, 3, 3, 3, 2]


def test_farmer_that_is_away_is_audited_when_it_is_back(
    bridge: RunningBridge, alice: Account
) -> None:
    farmer = bridge.farmer()
    stored_files(bridge, alice, 2)
    farmer.away = True
    assert audit(bridge) == []
    farmer.away = False
    assert len(audit(bridge)) == 2


def test_audits_keep_their_distance(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, audit_interval=1000.0) as bridge:
        alice = bridge.account()
        bridge.farmer()
        stored_files(bridge, alice, 1)
        assert audit(bridge) == []
        # A new copy is not left alone for long.
        bridge.clock.now += 60
        assert len(audit(bridge)) == 1
        bridge.clock.now += 999
        assert audit(bridge) == []
        bridge.clock.now += 1
        assert len(audit(bridge)) == 1


def test_no_challenge_is_wasted_on_a_farmer_that_is_away(
    bridge: RunningBridge, alice: Account
) -> None:
    farmer = bridge.farmer()
    stored_files(bridge, alice, 1)
    farmer.away = True
    assert [audit(bridge) for _ in range(5)] == [[]] * 5
    farmer.away = False
    assert [len(audit(bridge)) for _ in range(3)] == [1, 1, 1]
    assert (count(bridge, 'audit'), count(bridge, 'fetch')) == (3, 0)


def make_anew(bridge: RunningBridge, alice: Account) -> None:
    """Have a failed contract made anew while a call to its farmer hangs."""
    with bridge.state.database.begin() as session:
        session.query(Contract).update({Contract.failed: True})
    bridge.clock.now += 5
    bridge.add_shard(alice, bridge.frame(alice), bytes(100))


@pytest.mark.parametrize('method', ['ping', 'audit', 'fetch', 'consign'])
def test_contract_made_anew_during_an_audit_is_not_judged_by_it(
    bridge: RunningBridge, alice: Account, method: str
) -> None:
    farmer = bridge.farmer()
    stored_files(bridge, alice, 1)
    if method in ('fetch', 'consign'):
        for _ in range(3):
            audit(bridge)
    else:
        farmer.proves = lambda name, challenge: []
        farmer.shards.clear()
    hanging = farmer.hangs = asyncio.Event()
    farmer.hangs_in = method
    round_ = bridge.begin(lambda: audit_round(bridge.state))
    eventually(lambda: farmer.waiting == 1)
    farmer.hangs = None
    make_anew(bridge, alice)
    bridge.set(hanging)
    assert round_.result(10) == []
    contract = only_contract(bridge)
    assert (contract.failed, contract.store_begin) == (False, bridge.state.now())
    assert reputation(bridge) in (0, 30)
    with bridge.state.database.begin() as session:
        found = session.query(Challenge).all()
    assert len(found) == 3
    assert all(challenge.sent is None and challenge.passed is None for challenge in found)


@pytest.mark.parametrize('generation', ['A', 'B', 'C'])
def test_proof_of_another_challenge_proves_nothing(generation: Generation) -> None:
    challenges = new_challenges(3)
    digest = ShardDigest(challenges, generation)
    digest.update(b'testshard')
    leaves, responses = digest.leaves(), digest.responses()
    proofs = [make_proof(leaves, response, generation) for response in responses]
    for position in range(3):
        for other, proof in enumerate(proofs):
            assert proves(proof, leaves, position) is (position == other)
    # A farmer knows the leaves, and must not get along with them.
    assert not proves([leaves[0]], leaves, 0)
    assert not proves([[leaves[0]], leaves[1]], leaves, 0)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3) | st.just('ab' * 20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
        max_leaves=8,
    )
)
def test_no_proof_raises(proof: object) -> None:
    assert not proves(proof, ['cd' * 20] * 4, 2)


def test_farmers_with_nothing_to_prove_are_left_alone(
    bridge: RunningBridge, alice: Account
) -> None:
    bridge.farmer()
    bucket = bridge.bucket(alice)
    file = bridge.file(alice, bucket)
    bridge.request('GET', f'/buckets/{bucket}/files/{file}', by=alice)
    assert bridge.request('DELETE', f'/buckets/{bucket}/files/{file}', by=alice).status == 204
    bridge.clock.now += 3600
    bridge.farmers.calls.clear()
    assert audit(bridge) == []
    assert bridge.farmers.calls == []


def test_upkeep_runs_by_itself(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, audit_interval=0.001, ping_interval=0.01) as bridge:
        alice = bridge.account()
        bridge.farmer()
        stored_files(bridge, alice, 1)
        bridge.clock.now += 1

        def audited() -> bool:
            (state,) = bridge.request('GET', '/status').json['farmers']
            return bool(state['audits_passed'])

        eventually(audited)
        assert any(method == 'ping' for method, _ in bridge.farmers.calls)
