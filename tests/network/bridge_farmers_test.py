"""The bridge and its farmers: registration, reports, copies, audits, pings, and the status."""

from __future__ import annotations

import asyncio
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from storj.network.bridge.contacts import work
from storj.network.bridge.upkeep.rounds import ping_round
from storj.network.node.identity import Identity
from tests.network.bridges import Account, RunningBridge, eventually


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


@pytest.mark.parametrize(('ahead', 'words'), [(600, '600 s ahead of'), (-600, '600 s behind')])
def test_operator_is_told_of_a_new_farmer_with_a_wrong_clock(
    bridge: RunningBridge, caplog: pytest.LogCaptureFixture, ahead: int, words: str
) -> None:
    headers = {'x-node-timestamp': str((1480000000 + ahead) * 1000)}
    bridge.farmer_request(Identity.generate(), 'POST', '/contacts/challenges', {}, headers)
    assert f'a farmer at 127.0.0.1 is refused: its clock is {words} the bridge' in caplog.text


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
                        {
                            'node_id': node,
                            'stored': True,
                            'mirror': False,
                            'failed': False,
                            'counts': True,
                        }
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
        'copies_wanted': 1,
        'under_replicated': 0,
        'without_copies': 0,
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


def test_status_can_be_closed(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, status=False) as bridge:
        assert bridge.request('GET', '/status').status == 404
