"""The bridge and its farmers: registration, reports, copies, audits, pings, and the status."""

from __future__ import annotations

import asyncio
import sqlite3
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj.digest import Generation, ShardDigest, make_proof, new_challenges
from storj.network.bridge.audits import AuditResult, audit_round, proves
from storj.network.bridge.contacts import work
from storj.network.bridge.reports import MIRRORING
from storj.network.bridge.upkeep import ping_round, sweep
from storj.network.node.identity import Identity
from tests.network.bridges import Account, RunningBridge, ScriptedFarmer, eventually


def test_worked_example_of_the_proof_of_work() -> None:
    challenge, target = 'ab' * 32, '0' + 'f' * 63
    first = next(nonce for nonce in range(10) if work(challenge, nonce) <= target)
    assert first == 3
    assert work(challenge, 3).startswith('0f03aa7d')
    assert struct.pack('>d', 3).hex() == '4008000000000000'


def test_registered_farmer_is_listed(bridge: RunningBridge) -> None:
    farmer = bridge.farmer(4100, '0.10.0')
    node = farmer.identity.node_id
    (listed,) = bridge.request('GET', '/contacts').json
    assert listed == {
        'nodeID': node,
        'address': '127.0.0.1',
        'port': 4100,
        'protocol': '0.10.0',
        # Clients need one; core 5 goes with this protocol.
        'userAgent': '5.1.2',
        'lastSeen': '2016-11-24T15:06:40.000Z',
        'timeoutRate': 0.0,
        'spaceAvailable': True,
        'reputation': 0,
    }
    assert bridge.request('GET', f'/contacts/{node}').json == listed
    answer = bridge.request('GET', '/contacts/' + 'f' * 40)
    assert (answer.status, answer.error) == (404, 'Contact not found')


def test_contacts_are_paged_and_filtered(bridge: RunningBridge) -> None:
    for port in range(4000, 4031):
        # More than ten at once make the work harder.
        bridge.clock.now += 2
        bridge.farmer(port, '0.10.0' if port == 4007 else '1.2.0')

    def ports(query: str) -> list[int]:
        return [item['port'] for item in bridge.request('GET', f'/contacts{query}').json]

    assert ports('') == list(range(4030, 4000, -1))
    assert ports('?page=2') == [4000]
    for query in ('?page=3', '?page=9999999999999999', '?port=x', '?address=10.0.0.1'):
        assert ports(query) == []
    for query in ('?page=0', '?page=x', '?connected=true'):
        assert len(ports(query)) == 30
    assert ports('?port=4003') == [4003]
    assert ports('?protocol=0.10.0&address=127.0.0.1') == ports('?userAgent=5.1.2') == [4007]


def test_rush_of_registrations_makes_the_work_harder(bridge: RunningBridge) -> None:
    for port in range(4000, 4020):
        bridge.farmer(port)
    node = Identity.generate()
    asked = bridge.farmer_request(node, 'POST', '/contacts/challenges', {})
    assert (asked.status, asked.json['target']) == (201, '7' + 'f' * 63)
    bridge.clock.now += 11
    asked = bridge.farmer_request(node, 'POST', '/contacts/challenges', {})
    assert asked.json['target'] == 'f' * 64


def test_farmer_updates_its_card(bridge: RunningBridge) -> None:
    farmer = bridge.farmer(4000)
    node = farmer.identity
    bridge.clock.now += 5
    body = {'port': 4001, 'spaceAvailable': False, 'protocol': '0.10.0'}
    answer = bridge.farmer_request(node, 'PATCH', f'/contacts/{node.node_id}', body)
    assert (answer.status, answer.json) == (
        201,
        {'nodeID': node.node_id, 'address': '127.0.0.1', 'port': 4001, 'spaceAvailable': False},
    )
    (listed,) = bridge.request('GET', '/contacts').json
    assert (listed['port'], listed['protocol']) == (4001, '0.10.0')
    assert listed['lastSeen'] == '2016-11-24T15:06:45.000Z'
    for bad in ({'port': 0}, {'port': '80'}, {'address': 'a/b'}, {'protocol': 'new'}):
        answer = bridge.farmer_request(node, 'PATCH', f'/contacts/{node.node_id}', bad)
        assert (answer.status, answer.error) == (400, 'Invalid body')
    answer = bridge.farmer_request(Identity.generate(), 'PATCH', '/contacts/x', body)
    assert (answer.status, answer.error) == (404, 'Contact not found')


@pytest.mark.parametrize(
    ('header', 'value', 'text'),
    [
        ('x-node-timestamp', '', 'Invalid timestamp header'),
        ('x-node-timestamp', 'now', 'Invalid timestamp header'),
        ('x-node-timestamp', '1479999699999', 'Invalid timestamp header'),
        ('x-node-timestamp', '1480000300001', 'Invalid timestamp header'),
        ('x-node-timestamp', '1480000000001', 'Invalid signature header'),
        ('x-node-pubkey', 'zz', 'Invalid pubkey header'),
        ('x-node-pubkey', '02' + 'ff' * 32, 'Invalid nodeID header'),
        ('x-node-id', 'ab' * 20, 'Invalid nodeID header'),
        ('x-node-signature', '', 'Invalid signature header'),
        ('x-node-signature', 'zz', 'Invalid signature header'),
        ('x-node-signature', '3006020101020101', 'Invalid signature header'),
        ('host', 'other.example', 'Invalid signature header'),
    ],
)
def test_unsigned_farmer_is_refused(
    bridge: RunningBridge, header: str, value: str, text: str
) -> None:
    answer = bridge.farmer_request(
        Identity.generate(), 'POST', '/contacts/challenges', {}, {header: value}
    )
    assert answer.status == 400
    assert answer.error.partition(':')[0] == text


def test_work_counts_once_and_in_time(bridge: RunningBridge) -> None:
    node = Identity.generate()
    body = {'address': '127.0.0.1', 'port': 4000, 'protocol': '1.2.0'}

    def register(challenge: str, nonce: object) -> Any:
        headers = {'x-challenge': challenge, 'x-challenge-nonce': str(nonce)}
        return bridge.farmer_request(node, 'POST', '/contacts', body, headers)

    def ask() -> str:
        answer = bridge.farmer_request(node, 'POST', '/contacts/challenges', {})
        return str(answer.json['challenge'])

    challenge = ask()
    for nonce in ('', '-1', '1e3', 'x'):
        assert register(challenge, nonce).error == 'Invalid proof of work'
    assert register('ab' * 32, 0).error == 'Challenge not found'
    assert register(challenge, 0).status == 200
    assert register(challenge, 0).error == 'Challenge not found'
    challenge = ask()
    bridge.clock.now += 3600
    assert register(challenge, 0).error == 'Challenge not found'


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


def test_reports_name_the_farmer_by_token_or_by_name(bridge: RunningBridge, alice: Account) -> None:
    bridge.farmer()
    frame = bridge.frame(alice)
    pointers = [bridge.add_shard(alice, frame, bytes([n]) * 16000, n) for n in range(4)]
    farmer = pointers[0]['farmer']['nodeID']
    # libstorj names nobody but sends the token, original clients name the farmer, farmers
    # themselves; the last one tells nothing.
    assert bridge.report(pointers[0], 'SHARD_UPLOADED').status == 201
    assert bridge.report(pointers[1], 'SUCCESS', token=None, farmerId=farmer).status == 201
    assert bridge.report(pointers[2], 'SHARD_EXISTS', token=None, reporterId=farmer).status == 201
    assert bridge.report(pointers[3], 'SHARD_UPLOADED', token='ff' * 20).json == {}
    body = {'frame': frame, 'filename': 'a'}
    bridge.request('POST', f'/buckets/{bridge.bucket(alice)}/files', body, by=alice)
    (file,) = bridge.request('GET', '/status', by=alice).json['files']
    stored = [shard['farmers'][0]['stored'] for shard in file['shards']]
    assert stored == [True, True, True, False]


@pytest.fixture
def mirrored(tmp_path: Path) -> Iterator[RunningBridge]:
    with RunningBridge(tmp_path, mirrors=3) as running:
        running.account()
        for port in range(4000, 4006):
            running.farmer(port)
        yield running


ALICE = Account('alice@example.org')


def holders(bridge: RunningBridge, shard_hash: str) -> list[ScriptedFarmer]:
    return [farmer for farmer in bridge.farmers.farmers.values() if shard_hash in farmer.shards]


def test_each_report_brings_one_more_copy_up_to_the_limit(mirrored: RunningBridge) -> None:
    pointer = mirrored.add_shard(ALICE, mirrored.frame(ALICE))
    reporter = pointer['farmer']['nodeID']
    for message, copies in (
        ('SHARD_UPLOADED', 1),
        ('TRANSFER_FAILED', 1),
        ('SHARD_DOWNLOADED', 1),
        ('MIRROR_SUCCESS', 2),
        ('DOWNLOAD_ERROR', 3),
        ('MIRROR_SUCCESS', 3),
    ):
        assert mirrored.report(pointer, message, reporterId=reporter).status == 201
        mirrored.copies_made()
        assert len(holders(mirrored, pointer['hash'])) == 1 + copies


def test_copy_reported_at_once_asks_for_the_next(mirrored: RunningBridge) -> None:
    pointer = mirrored.add_shard(ALICE, mirrored.frame(ALICE))
    mirroring = mirrored.app[MIRRORING]

    async def report() -> None:
        # Before the bridge has noticed that the copying farmer has accepted.
        mirroring.ask(pointer['hash'])

    mirrored.farmers.on_mirror = report
    mirrored.report(pointer, 'SHARD_UPLOADED')
    mirrored.copies_made()
    assert len(holders(mirrored, pointer['hash'])) == 1 + 3


def test_no_copies_are_made_without_mirrors(bridge: RunningBridge, alice: Account) -> None:
    for port in range(4000, 4003):
        bridge.farmer(port)
    pointer = bridge.add_shard(alice, bridge.frame(alice))
    bridge.report(pointer, 'SHARD_UPLOADED')
    bridge.copies_made()
    assert len(holders(bridge, pointer['hash'])) == 1


def test_copy_serves_when_the_first_farmer_is_away(mirrored: RunningBridge) -> None:
    bucket = mirrored.bucket(ALICE)
    file = mirrored.file(ALICE, bucket)
    path = f'/buckets/{bucket}/files/{file}'
    (pointer,) = mirrored.request('GET', path, by=ALICE).json
    mirrored.report(pointer, 'DOWNLOAD_ERROR')
    mirrored.copies_made()
    first = mirrored.farmers.farmers[pointer['farmer']['nodeID']]
    first.away = True
    (pointer,) = mirrored.request('GET', path, by=ALICE).json
    assert pointer['farmer']['nodeID'] != first.identity.node_id
    (shard,) = mirrored.request('GET', f'{path}/mirrors', by=ALICE).json
    assert {item['contract']['farmer_id'] for item in shard['established']} == {
        farmer.identity.node_id for farmer in holders(mirrored, pointer['hash'])
    }


def test_failed_copy_is_forgotten(mirrored: RunningBridge) -> None:
    pointer = mirrored.add_shard(ALICE, mirrored.frame(ALICE))
    mirrored.report(pointer, 'SHARD_UPLOADED')
    mirrored.copies_made()
    (copy,) = (
        farmer.identity.node_id
        for farmer in holders(mirrored, pointer['hash'])
        if farmer.identity.node_id != pointer['farmer']['nodeID']
    )

    def contracts() -> set[str]:
        path = mirrored.path / 'bridge.db'
        with sqlite3.connect(path) as database:
            rows = database.execute('SELECT node_id FROM contracts').fetchall()
        database.close()
        return {row[0] for row in rows}

    assert contracts() == {pointer['farmer']['nodeID'], copy}
    failed = {'token': None, 'reporterId': copy, 'exchangeResultCode': 1100}
    mirrored.report(pointer, 'MIRROR_FAILED', **failed)
    assert contracts() == {pointer['farmer']['nodeID']}
    # Nobody's word takes away what is known to be there.
    failed['reporterId'] = pointer['farmer']['nodeID']
    mirrored.report(pointer, 'MIRROR_FAILED', **failed)
    assert contracts() == {pointer['farmer']['nodeID']}
    # A copy that is never reported on does not count for ever.
    mirrored.report(pointer, 'SHARD_UPLOADED')
    mirrored.copies_made()
    assert len(contracts()) == 2
    mirrored.clock.now += 3601
    mirrored.call(lambda: sweep(mirrored.state))
    assert len(contracts()) == 1


def test_mirrors_are_made_on_request(bridge: RunningBridge, alice: Account) -> None:
    for port in range(4000, 4005):
        bridge.farmer(port)
    bucket = bridge.bucket(alice)
    file = bridge.file(alice, bucket, (b'a' * 16000, b'b'))
    path = f'/buckets/{bucket}/mirrors'
    answer = bridge.request('POST', path, {'file': file, 'redundancy': 2}, by=alice)
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
    again = bridge.request('POST', path, {'file': file, 'redundancy': 2}, by=alice)
    for before, after in zip(answer.json, again.json, strict=True):
        assert {item['nodeID'] for item in before} == {item['nodeID'] for item in after}
    # There are no more farmers than there are.
    answer = bridge.request('POST', path, {'file': file, 'redundancy': 12}, by=alice)
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
    bridge: RunningBridge, alice: Account, body: dict[str, object], status: int, text: str
) -> None:
    bucket = bridge.bucket(alice)
    answer = bridge.request('POST', f'/buckets/{bucket}/mirrors', body, by=alice)
    assert (answer.status, answer.error) == (status, text)


def audit(bridge: RunningBridge) -> list[AuditResult]:
    return bridge.call(lambda: audit_round(bridge.state))


@pytest.mark.parametrize('generation', ['A', 'B', 'C'])
def test_each_challenge_is_sent_once(tmp_path: Path, generation: Generation) -> None:
    with RunningBridge(tmp_path) as bridge:
        bridge.farmers.generation = generation
        alice = bridge.account()
        farmer = bridge.farmer()
        frame = bridge.frame(alice)
        pointer = bridge.add_shard(alice, frame)
        bridge.report(pointer, 'SHARD_UPLOADED')
        # Not before a file needs it.
        assert audit(bridge) == []
        body = {'frame': frame, 'filename': 'a'}
        bridge.request('POST', f'/buckets/{bridge.bucket(alice)}/files', body, by=alice)
        passed = AuditResult(pointer['hash'], farmer.identity.node_id, True)
        results = [audit(bridge) for _ in range(5)]
        assert results == [[passed], [passed], [passed], [], []]
        (state,) = bridge.request('GET', '/status').json['farmers']
        counts = ('audits_passed', 'audits_failed', 'audits_open')
        assert [state[name] for name in counts] == [3, 0, 0]
        assert state['reputation'] == 30


def stored_files(bridge: RunningBridge, by: Account, count: int) -> list[dict[str, Any]]:
    bucket = bridge.bucket(by)
    pointers = []
    for number in range(count):
        frame = bridge.frame(by)
        pointer = bridge.add_shard(by, frame, bytes([number]) * 100)
        bridge.report(pointer, 'SHARD_UPLOADED')
        body = {'frame': frame, 'filename': str(number)}
        bridge.request('POST', f'/buckets/{bucket}/files', body, by=by)
        pointers.append(pointer)
    return pointers


def test_lost_shard_fails_its_audit_and_is_copied_again(mirrored: RunningBridge) -> None:
    (pointer,) = stored_files(mirrored, ALICE, 1)
    mirrored.copies_made()
    loser = mirrored.farmers.farmers[pointer['farmer']['nodeID']]
    del loser.shards[pointer['hash']]
    assert audit(mirrored) == [AuditResult(pointer['hash'], loser.identity.node_id, False)]
    state = mirrored.request('GET', '/status', by=ALICE).json
    assert state['totals']['audits_failed'] == 1
    (file,) = state['files']
    assert [farmer['failed'] for farmer in file['shards'][0]['farmers']] == [True, False]
    # A farmer that failed is asked for a download last.
    path = f'/buckets/{file["bucket"]}/files/{file["id"]}'
    mirrored.farmers.calls.clear()
    assert 'token' in mirrored.request('GET', path, by=ALICE).json[0]
    assert ('retrieve', loser.identity.node_id) not in mirrored.farmers.calls


def test_one_lost_shard_does_not_spoil_the_others(bridge: RunningBridge, alice: Account) -> None:
    farmer = bridge.farmer()
    lost, *rest = stored_files(bridge, alice, 3)
    del farmer.shards[lost['hash']]
    results = {result.shard_hash: result.passed for result in audit(bridge)}
    assert results == {lost['hash']: False, **{pointer['hash']: True for pointer in rest}}


def test_farmer_is_asked_for_three_proofs_at_once_at_most(
    bridge: RunningBridge, alice: Account
) -> None:
    bridge.farmer()
    pointers = stored_files(bridge, alice, 5)
    bridge.clock.now += 1
    first = {result.shard_hash for result in audit(bridge)}
    bridge.clock.now += 1
    second = {result.shard_hash for result in audit(bridge)}
    assert len(first) == len(second) == 3
    # Those that were audited longest ago come next.
    assert first | second == {pointer['hash'] for pointer in pointers}


def test_audits_keep_their_distance(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, audit_interval=1000.0) as bridge:
        alice = bridge.account()
        bridge.farmer()
        stored_files(bridge, alice, 1)
        assert audit(bridge) == []
        bridge.clock.now += 1000
        assert len(audit(bridge)) == 1
        assert audit(bridge) == []


def test_no_challenge_is_wasted_on_a_farmer_that_is_away(
    bridge: RunningBridge, alice: Account
) -> None:
    farmer = bridge.farmer()
    stored_files(bridge, alice, 1)
    farmer.away = True
    assert [audit(bridge) for _ in range(5)] == [[]] * 5
    farmer.away = False
    assert [len(audit(bridge)) for _ in range(4)] == [1, 1, 1, 0]


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


def test_farmer_with_a_wrong_clock_is_shown_until_it_is_right(
    bridge: RunningBridge, alice: Account, caplog: pytest.LogCaptureFixture
) -> None:
    farmer = bridge.farmer()
    node = farmer.identity.node_id
    farmer.clock_ahead = -70.4
    for _ in range(2):
        bridge.call(lambda: ping_round(bridge.state))
    # A place for a shard is looked for among those that may be right again.
    refused = bridge.request('PUT', f'/frames/{bridge.frame(alice)}', bridge.shard(), by=alice)
    assert refused.status == 503
    warnings = [record.getMessage() for record in caplog.records if record.levelname == 'WARNING']
    assert warnings == [f'the clock of farmer {node} is 70 s behind the bridge: it gets no shards']
    (state,) = bridge.request('GET', '/status').json['farmers']
    assert (state['clock_skew'], state['online']) == (-70.4, False)
    page = bridge.request('GET', '/status', headers={'accept': 'text/html'}).body.decode()
    assert 'clock -70 s' in page
    farmer.clock_ahead = 0
    bridge.call(lambda: ping_round(bridge.state))
    (state,) = bridge.request('GET', '/status').json['farmers']
    assert (state['clock_skew'], state['online']) == (None, True)


def test_pings_tell_who_is_there(bridge: RunningBridge) -> None:
    there, away = bridge.farmer(4000), bridge.farmer(4001)
    away.away = True
    bridge.clock.now += 60
    bridge.call(lambda: ping_round(bridge.state))
    state = {
        farmer['node_id']: farmer for farmer in bridge.request('GET', '/status').json['farmers']
    }
    assert state[there.identity.node_id]['online'] is True
    assert state[there.identity.node_id]['last_seen'] == '2016-11-24T15:07:40.000Z'
    assert state[away.identity.node_id]['online'] is False
    assert state[away.identity.node_id]['last_seen'] == '2016-11-24T15:06:40.000Z'


def test_status_shows_where_shards_lie_and_no_secrets(
    bridge: RunningBridge, alice: Account
) -> None:
    farmer = bridge.farmer()
    bucket = bridge.bucket(alice, 'a private name')
    file = bridge.file(alice, bucket, filename='a private file', index='cd' * 32)
    pointer = bridge.request('GET', f'/buckets/{bucket}/files/{file}', by=alice).json[0]
    answer = bridge.request('GET', '/status', by=alice)
    node = farmer.identity.node_id
    assert answer.json['files'] == [
        {
            'id': file,
            'bucket': bucket,
            'size': 9,
            'created': '2016-11-24T15:06:40.000Z',
            'shards': [
                {
                    'index': 0,
                    'hash': pointer['hash'],
                    'size': 9,
                    'parity': False,
                    'farmers': [
                        {'node_id': node, 'stored': True, 'mirror': False, 'failed': False}
                    ],
                }
            ],
        }
    ]
    assert answer.json['totals'] == {
        'files': 1,
        'bytes': 9,
        'shards': 1,
        'mirrors': 0,
        'audits_passed': 0,
        'audits_failed': 0,
    }
    page = bridge.request('GET', '/status', by=alice, headers={'accept': 'text/html,*/*'})
    assert page.headers['Content-Type'] == 'text/html; charset=utf-8'
    assert node[:12].encode() in page.body
    assert file.encode() in page.body
    for text in (answer.body, page.body):
        for secret in ('private', alice.email, pointer['token'], 'cd' * 32):
            assert secret.encode() not in text


def test_status_shows_files_to_their_owner_only(bridge: RunningBridge, alice: Account) -> None:
    bridge.farmer()
    file = bridge.file(alice, bridge.bucket(alice))
    bob = bridge.account('bob@example.org')
    for by in (None, bob):
        answer = bridge.request('GET', '/status', by=by)
        assert answer.json['files'] == []
        assert answer.json['totals']['files'] == 1
        page = bridge.request('GET', '/status', by=by, headers={'accept': 'text/html'})
        assert file.encode() not in page.body
    stranger = Account(alice.email, 'guess')
    assert bridge.request('GET', '/status', by=stranger).status == 401


@pytest.mark.parametrize('address', ['0.0.0.0', '239.1.2.3'])
def test_address_of_nobody_is_refused(bridge: RunningBridge, address: str) -> None:
    node = bridge.farmer().identity
    answer = bridge.farmer_request(node, 'PATCH', f'/contacts/{node.node_id}', {'address': address})
    assert answer.status == 400
    assert 'cannot reach' in answer.error


def test_challenge_that_is_no_text_is_not_found(bridge: RunningBridge) -> None:
    node = Identity.generate()
    body = {'address': '127.0.0.1', 'port': 4000, 'protocol': '1.2.0'}
    headers = {'x-challenge': '\xff', 'x-challenge-nonce': '0'}
    answer = bridge.farmer_request(node, 'POST', '/contacts', body, headers)
    assert (answer.status, answer.error) == (400, 'Challenge not found')


def test_farmer_that_leaves_during_a_negotiation_is_passed_over(
    bridge: RunningBridge, alice: Account
) -> None:
    leaving, staying = bridge.farmer(4000), bridge.farmer(4001)
    staying.hangs = leaving.hangs = asyncio.Event()

    async def free(farmer: Any) -> None:
        farmer.hangs.set()

    def leave() -> None:
        # Whichever is asked first goes; the other one takes the shard.
        eventually(lambda: any(method == 'alloc' for method, _ in bridge.farmers.calls))
        asked = next(node for method, node in bridge.farmers.calls if method == 'alloc')
        node = bridge.farmers.farmers[asked].identity
        gone = bridge.farmer_request(node, 'DELETE', f'/contacts/{node.node_id}', {})
        assert gone.status == 200
        bridge.call(lambda: free(leaving))

    frame = bridge.frame(alice)
    thread = threading.Thread(target=leave)
    thread.start()
    pointer = bridge.add_shard(alice, frame)
    thread.join()
    asked = [node for method, node in bridge.farmers.calls if method == 'alloc']
    assert len(asked) == 2
    assert pointer['farmer']['nodeID'] == asked[1]


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
    assert bridge.call(lambda: audit_round(bridge.state)) == []
    assert bridge.farmers.calls == []


def test_status_can_be_closed(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, status=False) as bridge:
        assert bridge.request('GET', '/status').status == 404


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
