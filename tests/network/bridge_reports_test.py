"""Exchange reports: what counts is the word of who took part, and no more than it can tell."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, inspect, select, table

from storj.network.bridge.copies import DOUBTFUL, NEVER, UNCONFIRMED
from storj.network.bridge.tables import Challenge, Contract
from tests.network.bridges import Account, RunningBridge, ScriptedFarmer


def contract(bridge: RunningBridge, pointer: dict[str, Any]) -> Contract:
    with bridge.state.database.begin() as session:
        key = (pointer['hash'], pointer['farmer']['nodeID'])
        return session.get_one(Contract, key)


def change(bridge: RunningBridge, **values: object) -> None:
    with bridge.state.database.begin() as session:
        session.query(Contract).update(values)


def holder(bridge: RunningBridge, pointer: dict[str, Any]) -> ScriptedFarmer:
    return bridge.farmers.farmers[pointer['farmer']['nodeID']]


def test_report_of_an_unknown_shard_answers_404(bridge: RunningBridge) -> None:
    answer = bridge.request('POST', '/reports/exchanges', {'dataHash': 'ff' * 20})
    assert (answer.status, answer.error) == (404, 'Shard not found for report')


@pytest.mark.parametrize(
    'change',
    [
        {'dataHash': None},
        {'dataHash': 'zz'},
        {'exchangeStart': None},
        {'exchangeEnd': 'soon'},
        {'exchangeEnd': 10**17},
        {'exchangeResultCode': '1000'},
        {'exchangeResultMessage': None},
        {'exchangeResultMessage': 'a' * 256},
        {'reporterId': 7},
    ],
)
def test_incomplete_report_answers_400(
    bridge: RunningBridge, alice: Account, change: dict[str, object]
) -> None:
    bridge.farmer()
    pointer = bridge.add_shard(alice, bridge.frame(alice))
    answer = bridge.report(pointer, 'SHARD_UPLOADED', **change)
    assert answer.status == 400


def test_farmer_confirms_its_own_copy(bridge: RunningBridge, alice: Account) -> None:
    bridge.farmer()
    pointer = bridge.add_shard(alice, bridge.frame(alice))
    found = contract(bridge, pointer)
    assert (found.stored, found.verified, found.next_audit) == (False, UNCONFIRMED, NEVER)
    answer = bridge.farmer_report(holder(bridge, pointer), pointer['hash'], 'SHARD_UPLOADED')
    assert (answer.status, answer.json) == (201, {})
    found = contract(bridge, pointer)
    assert (found.stored, found.verified) == (True, 0)
    assert found.next_audit == bridge.state.now()


def test_farmer_reports_on_several_shards_at_once(bridge: RunningBridge, alice: Account) -> None:
    farmer = bridge.farmer()
    frame = bridge.frame(alice)
    pointers = [bridge.add_shard(alice, frame, bytes([number])) for number in range(3)]
    path = f'/contacts/{farmer.identity.node_id}/reports'
    report = {
        'exchangeStart': 1,
        'exchangeEnd': 2,
        'exchangeResultCode': 1000,
        'exchangeResultMessage': 'SHARD_UPLOADED',
    }
    reports = [{**report, 'dataHash': each['hash']} for each in pointers]
    reports += ['no report', {**report, 'dataHash': 'ff' * 20}]  # type: ignore[list-item]
    answer = bridge.farmer_request(farmer.identity, 'POST', path, {'reports': reports})
    assert (answer.status, answer.json) == (201, {})
    assert [contract(bridge, pointer).verified for pointer in pointers] == [0, 0, 0]


@pytest.mark.parametrize('reports', [None, [], {}, [{}] * 101])
def test_no_or_too_many_reports_are_refused(bridge: RunningBridge, reports: object) -> None:
    identity = bridge.farmer().identity
    path = f'/contacts/{identity.node_id}/reports'
    answer = bridge.farmer_request(identity, 'POST', path, {'reports': reports})
    assert (answer.status, answer.error) == (400, 'Invalid reports supplied')


def test_reports_in_the_name_of_another_farmer_are_refused(bridge: RunningBridge) -> None:
    one, other = bridge.farmer(4000).identity, bridge.farmer(4001).identity
    path = f'/contacts/{one.node_id}/reports'
    answer = bridge.farmer_request(other, 'POST', path, {'reports': [{}]})
    assert (answer.status, answer.error) == (400, 'Invalid nodeID header')


def test_client_with_the_token_tells_what_nobody_counts_on(
    bridge: RunningBridge, alice: Account
) -> None:
    farmer = bridge.farmer()
    pointer = bridge.add_shard(alice, bridge.frame(alice))
    asked = farmer.hangs = asyncio.Event()
    assert bridge.report(pointer, 'SHARD_UPLOADED').status == 201
    found = contract(bridge, pointer)
    # Who asks for a contract and brings nothing can say so, too.
    assert (found.stored, found.verified, found.next_audit) == (True, UNCONFIRMED, NEVER)
    # The bridge asks the farmer before it counts the copy.
    bridge.set(asked)
    bridge.copies_made()
    assert contract(bridge, pointer).verified == 0


@pytest.mark.parametrize('message', ['SUCCESS', 'SHARD_UPLOADED', 'SHARD_DOWNLOADED'])
@pytest.mark.parametrize(
    'names',
    [
        {'token': None},
        {'token': 'ff' * 20},
        {'token': None, 'farmerId': 'holder'},
        {'token': None, 'reporterId': 'holder'},
        {'token': None, 'reporterId': 'holder', 'farmerId': 'holder', 'clientId': 'holder'},
    ],
)
def test_report_of_who_took_no_part_changes_nothing(
    bridge: RunningBridge, alice: Account, names: dict[str, Any], message: str
) -> None:
    bridge.farmer()
    pointer = bridge.add_shard(alice, bridge.frame(alice))
    before = vars(contract(bridge, pointer)).copy()
    node = pointer['farmer']['nodeID']
    named = {name: node if value == 'holder' else value for name, value in names.items()}
    assert bridge.report(pointer, message, **named).json == {}
    bridge.copies_made()
    after = vars(contract(bridge, pointer)).copy()
    assert before.pop('_sa_instance_state') is not after.pop('_sa_instance_state')
    assert before == after
    assert [method for method, _ in bridge.farmers.calls] == ['alloc']


def test_token_of_one_shard_tells_nothing_about_another(
    bridge: RunningBridge, alice: Account
) -> None:
    bridge.farmer()
    frame = bridge.frame(alice)
    first, other = (bridge.add_shard(alice, frame, bytes([n]) * 16000, n) for n in range(2))
    assert bridge.report(first | {'hash': other['hash']}, 'SHARD_UPLOADED').status == 201
    assert not contract(bridge, other).stored
    assert not contract(bridge, first).stored


def test_farmer_speaks_of_itself_only(bridge: RunningBridge, alice: Account) -> None:
    farmers = [bridge.farmer(4000), bridge.farmer(4001)]
    pointer = bridge.add_shard(alice, bridge.frame(alice))
    (other,) = (f for f in farmers if f.identity.node_id != pointer['farmer']['nodeID'])
    named = {'reporterId': pointer['farmer']['nodeID'], 'farmerId': pointer['farmer']['nodeID']}
    for token in (None, pointer['token']):
        answer = bridge.farmer_report(
            other, pointer['hash'], 'SHARD_UPLOADED', token=token, **named
        )
        assert answer.status == 201
        assert not contract(bridge, pointer).stored


def test_report_with_a_wrong_signature_is_refused(bridge: RunningBridge, alice: Account) -> None:
    bridge.farmer()
    pointer = bridge.add_shard(alice, bridge.frame(alice))
    node = holder(bridge, pointer).identity
    body = {
        'dataHash': pointer['hash'],
        'exchangeStart': 1,
        'exchangeEnd': 2,
        'exchangeResultCode': 1000,
        'exchangeResultMessage': 'SHARD_UPLOADED',
    }
    answer = bridge.farmer_request(
        node, 'POST', '/reports/exchanges', body, {'x-node-signature': '3006020101020101'}
    )
    assert answer.status == 400
    assert answer.error.startswith('Invalid signature header')
    assert not contract(bridge, pointer).stored


def test_failed_copy_counts_after_new_bytes_and_not_after_words(
    bridge: RunningBridge, alice: Account
) -> None:
    farmer = bridge.farmer()
    pointer = bridge.add_shard(alice, bridge.frame(alice))
    bridge.farmer_report(farmer, pointer['hash'], 'SHARD_UPLOADED')
    later = bridge.state.now() + 10**6
    change(bridge, failed=True, next_audit=later)
    bridge.farmer_report(farmer, pointer['hash'], 'SHARD_EXISTS')
    found = contract(bridge, pointer)
    # What it could not prove it has to prove.
    assert (found.failed, found.next_audit) == (True, bridge.state.now())
    bridge.farmer_report(farmer, pointer['hash'], 'SHARD_UPLOADED')
    assert not contract(bridge, pointer).failed
    change(bridge, verified=DOUBTFUL)
    bridge.farmer_report(farmer, pointer['hash'], 'SHARD_DOWNLOADED')
    assert contract(bridge, pointer).verified == DOUBTFUL
    bridge.farmer_report(farmer, pointer['hash'], 'MIRROR_SUCCESS')
    assert contract(bridge, pointer).verified == 0


@pytest.mark.parametrize('message', ['DOWNLOAD_ERROR', 'FAILED_INTEGRITY'])
def test_complaint_of_a_client_brings_an_audit_from_time_to_time(
    tmp_path: Path, message: str
) -> None:
    with RunningBridge(tmp_path, audit_interval=None) as bridge:
        alice = bridge.account()
        farmer = bridge.farmer()
        pointer = bridge.add_shard(alice, bridge.frame(alice))
        # The bridge asks it after a moment, which would be the answer to all of these reports.
        farmer.hangs, farmer.hangs_in = asyncio.Event(), 'retrieve'
        bridge.report(pointer, message)
        assert contract(bridge, pointer).next_audit == NEVER
        bridge.farmer_report(farmer, pointer['hash'], 'SHARD_UPLOADED')
        assert contract(bridge, pointer).next_audit == bridge.state.now() + 60_000
        bridge.report(pointer, message, exchangeResultCode=1100, token='ff' * 20)
        assert contract(bridge, pointer).next_audit == bridge.state.now() + 60_000
        bridge.report(pointer, message, exchangeResultCode=1100)
        assert contract(bridge, pointer).next_audit == bridge.state.now()
        # It has just been audited: who complains again does not spend more challenges.
        later = bridge.state.now() + 10**9
        change(bridge, next_audit=later)
        with bridge.state.database.begin() as session:
            session.query(Challenge).first().sent = bridge.state.now()
        bridge.clock.now += 599
        bridge.report(pointer, message, exchangeResultCode=1100)
        assert contract(bridge, pointer).next_audit == later
        bridge.clock.now += 2
        bridge.report(pointer, message, exchangeResultCode=1100)
        assert contract(bridge, pointer).next_audit == bridge.state.now()


def test_reports_leave_no_records(bridge: RunningBridge, alice: Account) -> None:
    farmer = bridge.farmer()
    pointer = bridge.add_shard(alice, bridge.frame(alice))
    bridge.farmer_report(farmer, pointer['hash'], 'SHARD_UPLOADED')

    def rows() -> int:
        with bridge.state.database.begin_plain() as connection:
            tables = inspect(connection).get_table_names()
            counts = (
                connection.scalar(select(func.count()).select_from(table(name))) for name in tables
            )
            return sum(count or 0 for count in counts)

    before = rows()
    for number in range(5):
        bridge.report(pointer, 'SHARD_DOWNLOADED', reporterId='r' * 320, clientId=f'{number}')
        bridge.farmer_report(farmer, pointer['hash'], 'SHARD_EXISTS')
    assert rows() == before
