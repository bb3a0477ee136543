"""Frames, files and pointers: where a shard goes, and where it can be fetched."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from storj.network.bridge.tables import Frame, Pointer
from storj.sharding import file_id
from tests.network.bridges import Account, RunningBridge, eventually

MISSING = 'ab' * 12
HMAC = {'type': 'sha512', 'value': 'ab' * 64}


@pytest.fixture(scope='module')
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    """A bridge for tests that leave nothing behind."""
    with RunningBridge(tmp_path_factory.mktemp('bridge')) as running:
        running.account()
        running.farmer()
        yield running


ALICE = Account('alice@example.org')


def test_frame_grows_and_shrinks_with_its_shards(bridge: RunningBridge, alice: Account) -> None:
    bridge.farmer()
    frame = bridge.frame(alice)
    path = f'/frames/{frame}'
    assert bridge.request('GET', path, by=alice).json == {
        'user': 'alice@example.org',
        'shards': [],
        'storageSize': 0,
        'size': 0,
        'locked': False,
        'created': '2016-11-24T15:06:40.000Z',
        'id': frame,
    }
    bridge.add_shard(alice, frame, b'a' * 20000, 0)
    bridge.add_shard(alice, frame, b'b' * 5000, 1)
    bridge.add_shard(alice, frame, b'p' * 20000, 2, parity=True)
    described = bridge.request('GET', path, by=alice).json
    assert (described['size'], described['storageSize']) == (25000, 45000)
    first, second, third = described['shards']
    # The same index again replaces the shard, as data or as parity.
    bridge.add_shard(alice, frame, b'c' * 6000, 1)
    described = bridge.request('GET', path, by=alice).json
    assert (described['size'], described['storageSize']) == (26000, 46000)
    assert [described['shards'][0], described['shards'][2]] == [first, third]
    assert described['shards'][1] != second
    bridge.add_shard(alice, frame, b'd' * 20000, 1, parity=True)
    bridge.add_shard(alice, frame, b'd' * 20000, 2)
    described = bridge.request('GET', path, by=alice).json
    assert (described['size'], described['storageSize']) == (40000, 60000)


def test_added_shard_answers_farmer_and_token(shared: RunningBridge) -> None:
    (farmer,) = shared.farmers.farmers.values()
    pointer = shared.add_shard(ALICE, shared.frame(ALICE))
    token = pointer.pop('token')
    assert len(token) == 40
    assert pointer == {
        'hash': '4af6b8cd7fac9e832650c82e965a06aabe920c07',
        'operation': 'PUSH',
        'farmer': {
            'userAgent': '8.7.2',
            'protocol': '1.2.0',
            'address': '127.0.0.1',
            'port': 4000,
            'nodeID': farmer.identity.node_id,
            'lastSeen': 1480000000000,
        },
    }


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ({'challenges': None}, 'Invalid challenges supplied'),
        ({'challenges': 'ab' * 32}, 'Invalid challenges supplied'),
        ({'challenges': ['zz']}, 'Invalid challenges supplied'),
        ({'challenges': []}, 'Not enough challenges supplied'),
        ({'challenges': ['ab' * 32] * 1025}, 'Invalid challenges supplied'),
        ({'tree': None}, 'Invalid tree supplied'),
        ({'tree': ['zz'] * 4}, 'Invalid tree supplied'),
        ({'tree': ['ab' * 20] * 3}, 'Challenges and tree do not match'),
        ({'tree': ['ab' * 20] * 8}, 'Challenges and tree do not match'),
        ({'index': None}, 'Invalid index supplied'),
        ({'index': -1}, 'Invalid index supplied'),
        ({'index': '0'}, 'Invalid index supplied'),
        ({'index': True}, 'Invalid index supplied'),
        ({'index': 0.5}, 'Invalid index supplied'),
        ({'index': 2**31}, 'Invalid index supplied'),
        ({'size': 0}, 'Invalid size supplied'),
        ({'size': '9'}, 'Invalid size supplied'),
        ({'size': 1e400}, 'Invalid challenges supplied'),  # no JSON, so an empty body
        ({'size': 2**40 + 1}, 'Maximum shard size 1099511627776 exceeded'),
        ({'hash': None}, 'Hash is expected to be supplied'),
        ({'hash': 'zz'}, 'Invalid contract specification was supplied'),
        ({'hash': 'AB' * 20}, 'Invalid contract specification was supplied'),
        ({'hash': 7}, 'Invalid contract specification was supplied'),
        ({'exclude': 'ab' * 20}, 'Invalid exclude supplied'),
        ({'exclude': [7]}, 'Invalid exclude supplied'),
        ({'exclude': ['ab' * 20] * 301}, 'Maximum blacklist length'),
    ],
)
def test_bad_shard_answers_400(shared: RunningBridge, change: dict[str, Any], text: str) -> None:
    frame = shared.frame(ALICE)
    answer = shared.request('PUT', f'/frames/{frame}', shared.shard() | change, by=ALICE)
    assert (answer.status, answer.error) == (400, text)
    assert shared.request('GET', f'/frames/{frame}', by=ALICE).json['shards'] == []


@pytest.mark.parametrize('count', [1, 2, 3, 4, 5, 12])
def test_tree_has_the_next_power_of_two_of_leaves(shared: RunningBridge, count: int) -> None:
    leaves = next(size for size in (1, 2, 4, 8, 16) if size >= count)
    body = shared.shard(challenges=['ab' * 32] * count, tree=['cd' * 20] * leaves)
    frame = shared.frame(ALICE)
    assert shared.request('PUT', f'/frames/{frame}', body, by=ALICE).status == 200


def test_irregular_sizes_are_refused(bridge: RunningBridge, alice: Account) -> None:
    bridge.farmer()
    frame = bridge.frame(alice)

    def put(index: int, size: int, **fields: Any) -> int:
        body = bridge.shard(bytes(size), index, **fields)
        return bridge.request('PUT', f'/frames/{frame}', body, by=alice).status

    # In whatever order they come: the last may be smaller, and parity shards do not count.
    assert put(2, 100) == 200
    assert put(0, 20000) == 200
    assert put(3, 70000, parity=True) == 200
    assert put(1, 20001) == 400
    assert put(1, 20000) == 200
    # The former last shard is one in the middle now.
    assert put(4, 20000) == 400
    assert put(2, 20000) == 200
    assert put(4, 20000) == 200
    frame = bridge.frame(alice)
    assert put(0, 15359) == 200
    assert put(1, 100) == 400
    assert put(0, 15360) == 200
    assert put(1, 100) == 200


def test_older_release_takes_any_sizes(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, version='2.2.4') as bridge:
        alice = bridge.account()
        bridge.farmer()
        frame = bridge.frame(alice)
        for index, size in enumerate((10, 20, 5)):
            bridge.add_shard(alice, frame, bytes(size), index)


def test_frame_in_use_is_locked_and_stays(bridge: RunningBridge, alice: Account) -> None:
    bridge.farmer()
    bucket = bridge.bucket(alice)
    frame = bridge.frame(alice)
    bridge.add_shard(alice, frame)
    files = f'/buckets/{bucket}/files'
    file = bridge.request('POST', files, {'frame': frame, 'filename': 'a'}, by=alice).json['id']
    assert bridge.request('GET', f'/frames/{frame}', by=alice).json['locked'] is True
    for answer in (
        bridge.request('POST', files, {'frame': frame, 'filename': 'b'}, by=alice),
        bridge.request('PUT', f'/frames/{frame}', bridge.shard(index=1), by=alice),
    ):
        assert (answer.status, answer.error) == (400, 'Frame is already locked')
    answer = bridge.request('DELETE', f'/frames/{frame}', by=alice)
    assert answer.status == 400
    assert answer.error == 'Refusing to destroy frame that is referenced by a bucket entry'
    assert len(bridge.request('GET', f'{files}/{file}', by=alice).json) == 1
    assert bridge.request('DELETE', f'{files}/{file}', by=alice).status == 204
    assert bridge.request('DELETE', f'{files}/{file}', by=alice).error == 'File not found'
    # With a file goes its frame.
    assert bridge.request('DELETE', f'/frames/{frame}', by=alice).error == 'Frame not found'
    with bridge.state.database.begin() as session:
        assert session.query(Frame).count() == session.query(Pointer).count() == 0


def test_frame_of_another_user_does_not_exist(bridge: RunningBridge, alice: Account) -> None:
    bob = bridge.account('bob@example.org')
    frame = bridge.frame(alice)
    bucket = bridge.bucket(bob)
    for answer in (
        bridge.request('GET', f'/frames/{frame}', by=bob),
        bridge.request('PUT', f'/frames/{frame}', bridge.shard(), by=bob),
        bridge.request('DELETE', f'/frames/{frame}', by=bob),
        bridge.request('POST', f'/buckets/{bucket}/files', {'frame': frame}, by=bob),
    ):
        assert (answer.status, answer.error) == (404, 'Frame not found')
    assert bridge.request('GET', '/frames', by=bob).json == []


def test_last_ten_frames_are_listed(bridge: RunningBridge, alice: Account) -> None:
    frames = []
    for _ in range(12):
        bridge.clock.now += 1
        frames.append(bridge.frame(alice))
    listed = bridge.request('GET', '/frames', by=alice).json
    assert [frame['id'] for frame in listed] == frames[2:]


def test_frame_that_goes_away_while_a_farmer_is_sought_answers_404(
    bridge: RunningBridge, alice: Account
) -> None:
    farmer = bridge.farmer()
    farmer.hangs = asyncio.Event()
    frame = bridge.frame(alice)
    with ThreadPoolExecutor(1) as pool:
        put = pool.submit(bridge.request, 'PUT', f'/frames/{frame}', bridge.shard(), by=alice)
        eventually(lambda: ('alloc', farmer.identity.node_id) in bridge.farmers.calls)
        assert bridge.request('DELETE', f'/frames/{frame}', by=alice).status == 204
        bridge.set(farmer.hangs)
        assert put.result().error == 'Frame not found'


def test_shards_of_a_file_are_spread_over_the_farmers(
    bridge: RunningBridge, alice: Account
) -> None:
    for port in range(4000, 4006):
        bridge.farmer(port)
    frame = bridge.frame(alice)
    nodes = [
        bridge.add_shard(alice, frame, bytes([index]) * 20000, index)['farmer']['nodeID']
        for index in range(12)
    ]
    assert len(set(nodes[:6])) == len(set(nodes[6:])) == 6


def test_shards_added_at_once_are_spread_as_well(bridge: RunningBridge, alice: Account) -> None:
    for port in range(4000, 4006):
        bridge.farmer(port)
    frame = bridge.frame(alice)
    barrier = threading.Barrier(6)

    def add(index: int) -> str:
        barrier.wait()
        data = bytes([index]) * 20000
        return str(bridge.add_shard(alice, frame, data, index)['farmer']['nodeID'])

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(add, range(6)))) == 6


def test_farmer_that_fails_gives_way_to_the_next(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, farmer_timeout=1.0) as bridge:
        alice = bridge.account()
        refusing, away, hanging, good = (bridge.farmer(port) for port in range(4000, 4004))
        refusing.refuses = away.away = True
        hanging.hangs = asyncio.Event()
        failing = {away.identity.node_id, hanging.identity.node_id}
        # Chance decides whether one of them is asked before the good one, for each shard anew.
        for index in range(64):
            pointer = bridge.add_shard(alice, bridge.frame(alice), bytes([index]) * 100)
            assert pointer['farmer']['nodeID'] == good.identity.node_id
            if failing <= {node for method, node in bridge.farmers.calls if method == 'alloc'}:
                break
        listed = {item['nodeID']: item for item in bridge.request('GET', '/contacts').json}
        for farmer in (away, hanging):
            assert listed[farmer.identity.node_id]['timeoutRate'] > 0
        # Who was away lately is asked last.
        bridge.farmers.calls.clear()
        bridge.add_shard(alice, bridge.frame(alice), b'another')
        asked = {node for method, node in bridge.farmers.calls if method == 'alloc'}
        assert asked <= {refusing.identity.node_id, good.identity.node_id}


def test_no_farmer_answers_503(bridge: RunningBridge, alice: Account) -> None:
    first, second = bridge.farmer(4000), bridge.farmer(4001)
    full = bridge.farmer(4002, spaceAvailable=False)
    first.away = True
    frame = bridge.frame(alice)
    body = bridge.shard(exclude=[second.identity.node_id, 'no node id'])
    answer = bridge.request('PUT', f'/frames/{frame}', body, by=alice)
    assert (answer.status, answer.error) == (503, 'Could not locate farmers')
    assert ('alloc', full.identity.node_id) not in bridge.farmers.calls
    assert ('alloc', second.identity.node_id) not in bridge.farmers.calls


def test_search_for_a_farmer_ends_in_time(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, farmer_timeout=0.1, placing_timeout=0.15) as bridge:
        alice = bridge.account()
        for port in range(4000, 4010):
            bridge.farmer(port).hangs = asyncio.Event()
        answer = bridge.request('PUT', f'/frames/{bridge.frame(alice)}', bridge.shard(), by=alice)
        assert answer.status == 503
        assert len(bridge.farmers.calls) <= 2


def test_identical_shards_share_a_record_and_prefer_new_farmers(
    bridge: RunningBridge, alice: Account
) -> None:
    bob = bridge.account('bob@example.org')
    farmers = {bridge.farmer(port).identity.node_id for port in range(4000, 4002)}
    # As libstorj stores 2 MiB: one data and one parity shard of the same bytes.
    frame = bridge.frame(alice)
    pointers = [
        bridge.add_shard(alice, frame, b'x' * 20000, 0),
        bridge.add_shard(alice, frame, b'x' * 20000, 1, parity=True),
        bridge.add_shard(bob, bridge.frame(bob), b'x' * 20000, 0),
    ]
    assert {pointer['farmer']['nodeID'] for pointer in pointers[:2]} == farmers
    bucket = bridge.bucket(alice)
    body = {'frame': frame, 'filename': 'a'}
    path = f'/buckets/{bucket}/files'
    file = bridge.request('POST', path, body, by=alice).json['id']
    mirrors = bridge.request('GET', f'{path}/{file}/mirrors', by=alice).json
    for shard in mirrors:
        assert {item['contract']['farmer_id'] for item in shard['established']} == farmers
        assert shard['available'] == []


def test_file_has_the_fields_and_the_id_of_the_original(
    bridge: RunningBridge, alice: Account
) -> None:
    bridge.farmer()
    bucket = bridge.bucket(alice)
    frame = bridge.frame(alice)
    bridge.add_shard(alice, frame)
    body = {
        'frame': frame,
        'filename': 'cat.jpg',
        'mimetype': 'image/jpeg',
        'index': 'cd' * 32,
        'hmac': HMAC,
        'erasure': {'type': 'reedsolomon'},
    }
    path = f'/buckets/{bucket}/files'
    answer = bridge.request('POST', path, body, by=alice)
    assert answer.status == 200
    described = {
        **body,
        'bucket': bucket,
        'id': file_id(bucket, 'cat.jpg'),
        'size': 9,
        'created': '2016-11-24T15:06:40.000Z',
    }
    assert answer.json == {**described, 'renewal': '2017-02-22T15:06:40.000Z'}
    assert bridge.request('GET', path, by=alice).json == [described]
    more = ('bucket', 'hmac', 'erasure', 'index')
    brief = {name: value for name, value in described.items() if name not in more}
    assert bridge.request('GET', f'{path}?brief=true', by=alice).json == [{**brief, 'frame': frame}]
    info = f'{path}/{described["id"]}/info'
    assert bridge.request('GET', info, by=alice).json == described


def test_older_release_lists_fewer_fields(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, version='2.2.4') as bridge:
        alice = bridge.account()
        bucket = bridge.bucket(alice)
        file = bridge.file(alice, bucket, ())
        path = f'/buckets/{bucket}/files'
        fields = ['bucket', 'filename', 'frame', 'id', 'mimetype', 'size']
        assert sorted(bridge.request('GET', f'{path}/{file}/info', by=alice).json) == fields
        assert sorted(bridge.request('GET', path, by=alice).json[0]) == fields
        assert 'storageSize' not in bridge.request('GET', '/frames', by=alice).json[0]


@pytest.mark.parametrize(
    ('change', 'status', 'text'),
    [
        ({'frame': MISSING}, 404, 'Frame not found'),
        ({'frame': None}, 404, 'Frame not found'),
        ({'frame': ['a']}, 404, 'Frame not found'),
        ({'frame': 'xyz'}, 400, 'Frame id is malformed'),
        ({'filename': 7}, 400, 'Invalid filename supplied'),
        ({'mimetype': 'no/such'}, 400, 'Invalid mimetype supplied'),
        ({'mimetype': 'text'}, 400, 'Invalid mimetype supplied'),
        ({'mimetype': 'text/html\r\nX: y'}, 400, 'Invalid mimetype supplied'),
        ({'mimetype': 7}, 400, 'Invalid mimetype supplied'),
        ({'hmac': {'type': 'md5', 'value': 'ab'}}, 400, 'Invalid hmac type'),
        ({'hmac': 'ab'}, 400, 'Invalid hmac type'),
        ({'hmac': {'type': 'sha512', 'value': 'xy'}}, 400, 'Invalid hmac value'),
        ({'hmac': {'type': 'sha512', 'value': 'ab' * 65}}, 400, 'Invalid hmac value'),
        ({'hmac': {'type': 'sha512'}}, 400, 'Invalid hmac value'),
        ({'erasure': {'type': 'raid'}}, 400, 'Invalid erasure type'),
        ({'index': 'zz'}, 400, 'Invalid index, expected to be 256 hex string'),
        ({'index': 7}, 400, 'Invalid index, expected to be 256 hex string'),
    ],
)
def test_bad_file_answers_and_leaves_the_frame_open(
    shared: RunningBridge, change: dict[str, Any], status: int, text: str
) -> None:
    frame = shared.frame(ALICE)
    bucket = shared.request('POST', '/buckets', {}, by=ALICE).json['id']
    path = f'/buckets/{bucket}/files'
    answer = shared.request('POST', path, {'frame': frame, 'filename': 'a'} | change, by=ALICE)
    assert (answer.status, answer.error) == (status, text)
    assert shared.request('GET', path, by=ALICE).json == []
    assert shared.request('GET', f'/frames/{frame}', by=ALICE).json['locked'] is False


def test_taken_index_answers_409(bridge: RunningBridge, alice: Account) -> None:
    bucket = bridge.bucket(alice)
    bridge.file(alice, bucket, (), index='ab' * 32)
    frame = bridge.frame(alice)
    body = {'frame': frame, 'filename': 'b', 'index': 'ab' * 32}
    answer = bridge.request('POST', f'/buckets/{bucket}/files', body, by=alice)
    assert answer.status == 409
    assert bridge.request('GET', f'/frames/{frame}', by=alice).json['locked'] is False


def test_taken_name_answers_409_and_keeps_the_file(bridge: RunningBridge, alice: Account) -> None:
    bridge.farmer()
    bucket = bridge.bucket(alice)
    file = bridge.file(alice, bucket)
    body = {'frame': bridge.frame(alice), 'filename': 'cat.jpg'}
    answer = bridge.request('POST', f'/buckets/{bucket}/files', body, by=alice)
    assert (answer.status, answer.error) == (409, 'Name already used in this bucket')
    info = bridge.request('GET', f'/buckets/{bucket}/files/{file}/info', by=alice).json
    assert info['size'] == 9


def test_taken_name_replaces_the_file_in_an_older_release(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, version='2.2.4') as bridge:
        alice = bridge.account()
        bridge.farmer()
        bucket = bridge.bucket(alice)
        file = bridge.file(alice, bucket)
        assert bridge.file(alice, bucket, (b'longer than it was',)) == file
        (listed,) = bridge.request('GET', f'/buckets/{bucket}/files', by=alice).json
        assert (listed['id'], listed['size']) == (file, 18)


def test_file_without_a_name_shows_its_frame(bridge: RunningBridge, alice: Account) -> None:
    bucket = bridge.bucket(alice)
    frame = bridge.frame(alice)
    path = f'/buckets/{bucket}/files'
    answer = bridge.request('POST', path, {'frame': frame}, by=alice)
    assert answer.json['id'] == file_id(bucket, 'undefined')
    assert answer.json['filename'] == frame
    assert answer.json['mimetype'] == 'application/octet-stream'
    # Its name is not "undefined".
    assert bridge.request('GET', f'/buckets/{bucket}/file-ids/undefined', by=alice).status == 404


@pytest.mark.parametrize(
    ('query', 'expected'),
    [
        ('', [0, 1, 2, 3, 4, 5]),
        ('?skip=0&limit=3', [0, 1, 2]),
        ('?skip=0&limit=0', [0, 1, 2, 3, 4, 5]),
        ('?skip=3&limit=0', []),
        ('?skip=6&limit=6', [6, 7]),
        ('?limit=7', [0, 1, 2, 3, 4, 5, 6]),
        ('?skip=7', [7]),
        ('?skip=8&limit=3', []),
        ('?skip=-1&limit=x', [0, 1, 2, 3, 4, 5]),
        ('?skip=99999999999999999999', [0, 1, 2, 3, 4, 5]),
        ('?skip=9999999999999999', []),
        ('?limit=1&skip=4&exclude=', [4]),
    ],
)
def test_pointers_are_a_range_by_index(
    shared: RunningBridge, query: str, expected: list[int]
) -> None:
    bucket = shared.request('POST', '/buckets', {'name': 'ranges'}, by=ALICE).json.get('id')
    if bucket is None:
        bucket = shared.request('GET', '/bucket-ids/ranges', by=ALICE).json['id']
        file = file_id(bucket, 'cat.jpg')
    else:
        # Added from the last to the first.
        frame = shared.frame(ALICE)
        for index in reversed(range(8)):
            shared.add_shard(ALICE, frame, bytes([index]) * 16000, index, parity=index > 5)
        body = {'frame': frame, 'filename': 'cat.jpg'}
        file = shared.request('POST', f'/buckets/{bucket}/files', body, by=ALICE).json['id']
    pointers = shared.request('GET', f'/buckets/{bucket}/files/{file}{query}', by=ALICE).json
    assert [pointer['index'] for pointer in pointers] == expected
    for pointer in pointers:
        assert pointer['parity'] is (pointer['index'] > 5)
        assert pointer['size'] == 16000
        assert len(pointer['token']) == 40
        assert pointer['operation'] == 'PULL'
        assert pointer['farmer']['port'] == 4000
        assert pointer['farmer']['lastSeen'].endswith('Z')


def test_pointer_without_a_farmer_is_bare(bridge: RunningBridge, alice: Account) -> None:
    first, second = bridge.farmer(4000), bridge.farmer(4001)
    bucket = bridge.bucket(alice)
    file = bridge.file(alice, bucket, (b'a' * 16000, b'b' * 10))
    path = f'/buckets/{bucket}/files/{file}'
    gone = next(farmer for farmer in (first, second) if len(farmer.shards) == 1)
    gone.away = True
    pointers = bridge.request('GET', path, by=alice).json
    bare = [pointer for pointer in pointers if 'farmer' not in pointer]
    assert len(pointers) == 2
    (pointer,) = bare
    assert sorted(pointer) == ['hash', 'index', 'parity', 'size']
    assert pointer['hash'] in gone.shards
    # The same for farmers that the client does not want.
    nodes = ','.join(farmer.identity.node_id for farmer in (first, second))
    pointers = bridge.request('GET', f'{path}?exclude={nodes}', by=alice).json
    assert ['token' in pointer for pointer in pointers] == [False, False]
    many = ','.join(['ab' * 20] * 301)
    answer = bridge.request('GET', f'{path}?exclude={many}', by=alice)
    assert (answer.status, answer.error) == (400, 'Maximum blacklist length')


def test_one_missing_shard_fails_the_pointers_of_an_older_release(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, version='2.2.4') as bridge:
        alice = bridge.account()
        farmer = bridge.farmer()
        bucket = bridge.bucket(alice)
        path = f'/buckets/{bucket}/files/{bridge.file(alice, bucket)}'
        tokens = f'/buckets/{bucket}/tokens'
        for expected in (200, 503):
            token = bridge.request('POST', tokens, {'operation': 'PULL'}, by=alice).json['token']
            answer = bridge.request('GET', path, headers={'x-token': token})
            assert answer.status == expected
            farmer.away = True
        assert answer.error == 'Failed to get retrieval token'


def test_farmer_that_hangs_is_overtaken_by_another(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, farmer_timeout=30.0) as bridge:
        alice = bridge.account()
        farmers = [bridge.farmer(4000), bridge.farmer(4001)]
        bucket = bridge.bucket(alice)
        # A shard that both have.
        bridge.file(alice, bucket, filename='a')
        path = f'/buckets/{bucket}/files/{bridge.file(alice, bucket, filename="b")}'
        farmers[0].hangs = asyncio.Event()
        for _ in range(3):
            (pointer,) = bridge.request('GET', path, by=alice).json
            assert pointer['farmer']['nodeID'] == farmers[1].identity.node_id


def test_missing_file_answers_404(shared: RunningBridge) -> None:
    bucket = shared.request('POST', '/buckets', {}, by=ALICE).json['id']
    path = f'/buckets/{bucket}/files/{MISSING}'
    for method, route in (
        ('GET', path),
        ('DELETE', path),
        ('GET', f'{path}/info'),
        ('GET', f'{path}/mirrors'),
    ):
        answer = shared.request(method, route, by=ALICE)
        assert (answer.status, answer.error) == (404, 'File not found')
