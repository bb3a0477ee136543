"""Buckets of the bridge, and what holds for every route: bodies, statuses, headers, limits."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storj.api import BridgeProfile
from storj.network.bridge import buckets, listing
from storj.network.bridge.state import BridgeSettings, Release
from storj.sharding import bucket_id
from tests.network.bridges import Account, RunningBridge


@pytest.fixture(scope='module')
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    with RunningBridge(tmp_path_factory.mktemp('bridge')) as running:
        yield running


@pytest.fixture(scope='module')
def somebody(bridge: RunningBridge) -> Account:
    return bridge.account('somebody@example.org')


@pytest.fixture
def alice(bridge: RunningBridge, request: pytest.FixtureRequest) -> Account:
    return bridge.account(f'{abs(hash(request.node.name))}@example.org')


def test_bucket_has_the_fields_and_the_id_of_the_original(bridge: RunningBridge) -> None:
    user = bridge.account('user@domain.tld')
    answer = bridge.request('POST', '/buckets', {'name': 'New Bucket', 'storage': 10}, by=user)
    assert answer.status == 201
    bucket = answer.json
    assert bucket.pop('created').endswith('Z')
    assert bucket == {
        'id': 'd0c9ac287f89dac76deadfad',
        'name': 'New Bucket',
        'user': 'user@domain.tld',
        'status': 'Active',
        'storage': 0,
        'transfer': 0,
        'pubkeys': [],
        'publicPermissions': [],
        'encryptionKey': '',
    }


@pytest.mark.parametrize('body', [b'', b'{nope', b'[1]', b'"x"', b'{"name": NaN}', b'{}', b'\xff'])
def test_body_without_a_name_makes_a_bucket_with_a_random_one(
    bridge: RunningBridge, somebody: Account, body: bytes
) -> None:
    answer = bridge.request('POST', '/buckets', raw=body, by=somebody)
    assert answer.status == 201
    assert answer.json['name'].startswith('Bucket-')
    assert len(answer.json['name']) == 13


def test_taken_name_answers_409_for_the_same_user_only(
    bridge: RunningBridge, alice: Account
) -> None:
    bob = bridge.account('bob.of.buckets@example.org')
    assert bridge.bucket(alice) != bridge.bucket(bob)
    answer = bridge.request('POST', '/buckets', {'name': 'photos'}, by=alice)
    assert (answer.status, answer.error) == (409, 'Name already used by another bucket')


@pytest.mark.parametrize(
    ('body', 'text'),
    [
        ({'name': 'a' * 261}, 'Maximum bucket name'),
        ({'name': 7}, 'Invalid bucket name'),
        ({'name': ['a']}, 'Invalid bucket name'),
        ({'name': '\ud800'}, 'Text is not valid Unicode'),
        ({'name': 'a\0b'}, 'Text is not valid Unicode'),
        ({'pubkeys': ['zz']}, 'Invalid public key supplied'),
        ({'pubkeys': 'zz'}, 'Invalid public key supplied'),
    ],
)
def test_bad_bucket_answers_400(
    bridge: RunningBridge, somebody: Account, body: dict[str, object], text: str
) -> None:
    answer = bridge.request('POST', '/buckets', body, by=somebody)
    assert (answer.status, answer.error) == (400, text)


def test_bucket_of_another_user_does_not_exist(bridge: RunningBridge, alice: Account) -> None:
    bob = bridge.account('bob.the.other@example.org')
    bucket = bridge.bucket(alice)
    for method in ('GET', 'PATCH', 'DELETE'):
        answer = bridge.request(method, f'/buckets/{bucket}', {}, by=bob)
        assert (answer.status, answer.error) == (404, 'Bucket not found')


@pytest.mark.parametrize('bad', ['xyz', 'a' * 23, 'g' * 24, 'a' * 25, '%20', '..'])
def test_malformed_id_answers_400(bridge: RunningBridge, somebody: Account, bad: str) -> None:
    answer = bridge.request('GET', f'/buckets/{bad}', by=somebody)
    assert (answer.status, answer.error) == (400, 'Bucket id is malformed')
    bucket = bucket_id(somebody.email, 'any')
    answer = bridge.request('GET', f'/frames/{bad}', by=somebody)
    assert (answer.status, answer.error) == (400, 'Frame id is malformed')
    answer = bridge.request('GET', f'/buckets/{bucket}/files/{bad}', by=somebody)
    assert answer.status in (400, 404)


def test_update_changes_what_may_change_and_nothing_else(
    bridge: RunningBridge, alice: Account
) -> None:
    path = f'/buckets/{bridge.bucket(alice)}'
    key = '0258b04e8d7426239854d3cbef9960a45ff2bd9c279efa5ae5c9372cb535163636'
    body = {'name': 'renamed', 'storage': 9, 'pubkeys': [key, key], 'encryptionKey': 'k'}
    bucket = bridge.request('PATCH', path, body, by=alice).json
    assert (bucket['name'], bucket['storage']) == ('photos', 0)
    assert (bucket['pubkeys'], bucket['encryptionKey']) == ([key], 'k')
    body = {'publicPermissions': ['PULL', 'PUSH']}
    bucket = bridge.request('PATCH', path, body, by=alice).json
    assert bucket['pubkeys'] == [key]
    assert bridge.request('GET', path, by=alice).json == bucket
    assert bridge.request('PATCH', path, {'pubkeys': []}, by=alice).json['pubkeys'] == []
    for wrong in ({'publicPermissions': ['FLY']}, {'publicPermissions': [[]]}, {'pubkeys': [1]}):
        assert bridge.request('PATCH', path, wrong, by=alice).status == 400


def test_removed_bucket_takes_its_entries_along(bridge: RunningBridge, alice: Account) -> None:
    bucket = bridge.bucket(alice)
    frame = bridge.frame(alice)
    path = f'/buckets/{bucket}'
    body = {'frame': frame, 'filename': 'a'}
    file = bridge.request('POST', f'{path}/files', body, by=alice).json['id']
    bridge.request('POST', f'{path}/tokens', {'operation': 'PULL'}, by=alice)
    assert bridge.request('DELETE', path, by=alice).status == 204
    assert bridge.request('DELETE', path, by=alice).status == 404
    assert bridge.bucket(alice) == bucket
    assert bridge.request('GET', f'{path}/files', by=alice).json == []
    assert bridge.request('GET', f'{path}/files/{file}/info', by=alice).status == 404


# Every kind of character that matters in a path; libstorj escapes "/" only in the first call and
# everything but letters, digits and "-._~" in the second.
NAMES = ['photos', 'a/b', 'K+x/9A==', 'ü ? #&%', '%2F', '..', '.', '~', '%', "it's", 'a\\b', ':@!$']


@pytest.mark.parametrize('name', NAMES)
def test_ids_are_found_by_any_name(bridge: RunningBridge, somebody: Account, name: str) -> None:
    bucket = bridge.bucket(somebody, name)
    body = {'frame': bridge.frame(somebody), 'filename': name}
    file = bridge.request('POST', f'/buckets/{bucket}/files', body, by=somebody).json['id']
    spellings = {quote(name, safe=''), quote(name, safe='-._~')}
    if name.isascii() and not set(name) & set(' ?#%\\'):
        # As libstorj 2 writes base64.
        spellings.add(name.replace('/', '%2F'))
    for spelled in spellings - {'.', '..'}:
        answer = bridge.request('GET', f'/bucket-ids/{spelled}', by=somebody)
        assert (answer.status, answer.json) == (200, {'id': bucket})
        path = f'/buckets/{bucket}/file-ids/{spelled}'
        assert bridge.request('GET', path, by=somebody).json == {'id': file}


def test_ids_of_unknown_names_answer_404(bridge: RunningBridge, somebody: Account) -> None:
    answer = bridge.request('GET', '/bucket-ids/nope', by=somebody)
    assert (answer.status, answer.error) == (404, 'Bucket not found')
    bucket = bridge.bucket(somebody, 'with no such file')
    answer = bridge.request('GET', f'/buckets/{bucket}/file-ids/nope', by=somebody)
    assert (answer.status, answer.error) == (404, 'File not found')


def test_longest_names_are_found(bridge: RunningBridge, alice: Account) -> None:
    bucket = bridge.bucket(alice, 'ü' * 260)
    name = 'é' * 32767
    path = f'/buckets/{bucket}'
    body = {'frame': bridge.frame(alice), 'filename': name}
    file = bridge.request('POST', f'{path}/files', body, by=alice).json['id']
    answer = bridge.request('GET', f'{path}/file-ids/{quote(name)}', by=alice)
    assert answer.json == {'id': file}
    body['filename'] += 'é'
    answer = bridge.request('POST', f'{path}/files', body, by=alice)
    assert (answer.status, answer.error) == (400, 'Maximum bucket entry name')


def test_listings_go_on_from_a_date_without_loss(
    bridge: RunningBridge, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, 'LIST_LIMIT', 3)
    monkeypatch.setattr(listing, 'LIST_LIMIT', 3)
    # The clock stands still: dates alone would not tell the entries apart.
    made = [bridge.bucket(alice, f'bucket {number}') for number in range(8)]
    path = f'/buckets/{made[0]}/files'
    stored = [
        bridge.request(
            'POST', path, {'frame': bridge.frame(alice), 'filename': str(number)}, by=alice
        ).json['id']
        for number in range(8)
    ]
    for address, expected in (('/buckets', made), (path, stored)):
        found: list[str] = []
        page = bridge.request('GET', address, by=alice).json
        while page:
            assert len(page) <= 3
            found += [item['id'] for item in page]
            date = quote(page[-1]['created'])
            page = bridge.request('GET', f'{address}?startDate={date}', by=alice).json
        assert found == expected
        # Milliseconds are a date, too; nothing is that new.
        assert bridge.request('GET', f'{address}?startDate=1580000000000', by=alice).json == []
        for bad in ('soon', '9' * 16, '2016-13-01', '-1e9'):
            assert bridge.request('GET', f'{address}?startDate={bad}', by=alice).status == 400


def test_answers_are_json_with_security_headers(bridge: RunningBridge, somebody: Account) -> None:
    for answer in (
        bridge.request('GET', '/buckets', by=somebody),
        bridge.request('GET', '/nosuch'),
        bridge.request('GET', '/buckets'),
    ):
        assert answer.headers['Content-Type'] == 'application/json; charset=utf-8'
        assert answer.headers['X-Content-Type-Options'] == 'nosniff'
        assert answer.headers['Cache-Control'] == 'no-store'
        assert 'Access-Control-Allow-Origin' not in answer.headers


def test_unknown_routes_and_methods_answer_json(bridge: RunningBridge) -> None:
    answer = bridge.request('GET', '/nosuch')
    assert (answer.status, answer.error) == (404, 'Resource not found')
    answer = bridge.request('PUT', '/buckets')
    assert answer.status == 405
    assert 'error' in answer.json
    answer = bridge.request('GET', '/bucket-ids/%00')
    assert (answer.status, answer.error) == (400, 'URL is malformed')


@pytest.mark.parametrize(
    ('path', 'status', 'told'),
    [
        ('/nope', 404, 'There is nothing at this address.'),
        ('/buckets', 401, 'This address is for programs that log in.'),
        ('/contacts/%3Cb%3E', 404, 'Contact not found'),
    ],
)
def test_browsers_get_errors_as_pages(
    bridge: RunningBridge, path: str, status: int, told: str
) -> None:
    browser = {'accept': 'text/html,application/xhtml+xml,*/*;q=0.8'}
    plain, page = bridge.request('GET', path), bridge.request('GET', path, headers=browser)
    assert (plain.status, page.status) == (status, status)
    assert plain.headers['Content-Type'] == 'application/json; charset=utf-8'
    assert page.headers['Content-Type'] == 'text/html; charset=utf-8'
    assert "default-src 'none'" in page.headers['Content-Security-Policy']
    assert told in page.body.decode()
    assert '<b>' not in page.body.decode()
    assert page.headers.get('WWW-Authenticate') == plain.headers.get('WWW-Authenticate')
    for answer in (plain, page):
        assert 'Accept' in answer.headers['Vary']
        assert answer.headers['Cache-Control'] == 'no-store'
    assert bridge.request('HEAD', path, headers=browser).body == b''
    assert bridge.request('PUT', path, headers=browser).json['error']


def test_trailing_slash_and_head_are_accepted(bridge: RunningBridge, somebody: Account) -> None:
    assert bridge.request('GET', '/buckets/', by=somebody).status == 200
    assert bridge.request('GET', '/contacts/').status == 200
    answer = bridge.request('HEAD', '/buckets', by=somebody)
    assert (answer.status, answer.body) == (200, b'')


def test_page_elsewhere_may_call_with_its_own_credentials(bridge: RunningBridge) -> None:
    origin = {'origin': 'https://app.example.org'}
    asked = {'access-control-request-headers': 'authorization,x-token'}
    answer = bridge.request('OPTIONS', '/buckets', headers=origin | asked)
    assert (answer.status, answer.body) == (204, b'')
    assert answer.headers['Access-Control-Allow-Headers'] == 'authorization,x-token'
    assert 'PATCH' in answer.headers['Access-Control-Allow-Methods']
    for path in ('/', '/buckets'):
        answer = bridge.request('GET', path, headers=origin)
        assert answer.headers['Access-Control-Allow-Origin'] == origin['origin']
        assert 'Access-Control-Allow-Credentials' not in answer.headers


def test_large_body_answers_413(bridge: RunningBridge, somebody: Account) -> None:
    raw = json.dumps({'name': 'a' * 2**20}).encode()
    answer = bridge.request('POST', '/buckets', raw=raw, by=somebody)
    assert (answer.status, answer.error) == (413, 'Request entity too large')


def test_chunked_body_after_continue_is_read(bridge: RunningBridge, somebody: Account) -> None:
    # The way in which libstorj sends PUT /frames.
    head = (
        'POST /buckets HTTP/1.1\r\nHost: bridge\r\nTransfer-Encoding: chunked\r\n'
        'Expect: 100-continue\r\nConnection: close\r\n'
        f'Authorization: {somebody.headers["authorization"]}\r\n\r\n'
    )
    with socket.create_connection(('127.0.0.1', bridge.port), timeout=10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b'HTTP/1.1 100 ')
        connection.sendall(b'9\r\n{"name":"\r\n9\r\nchunked"}\r\n0\r\n\r\n')
        reader = connection.makefile('rb')
        assert b'201' in reader.readline()
        assert b'"name":"chunked"' in reader.read()


def test_description_tells_the_release(bridge: RunningBridge) -> None:
    described = bridge.request('GET', '/').json
    assert described['swagger'] == '2.0'
    assert described['host'] == 'bridge.example'
    assert described['info']['version'] == '7.7.1'
    assert described['info']['x-protocol-version'] == '1.2.0'
    assert described['info']['x-core-version'] == '8.7.2'
    assert described['info']['x-max-shard-size'] == 2**40
    assert not BridgeProfile.from_info(described).wants_successes
    assert 'put' in described['paths']['/frames/{frame}']
    bridge.farmer(4000)
    assert bridge.request('GET', '/health').body == b'OK'


@pytest.mark.parametrize(
    ('version', 'protocol', 'core'),
    [('2.2.4', '0.10.0', '5.1.2'), ('5.24.1', '1.1.0', '6.8.0'), ('7.7.1', '1.2.0', '8.7.2')],
)
def test_release_reports_its_time(version: str, protocol: str, core: str) -> None:
    release = Release.parse(version)
    assert (release.protocol, release.core) == (protocol, core)
    assert release.since(*release.number)
    assert not release.since(*release.number, 1)


@pytest.mark.parametrize('version', ['', '7', '7.7', 'v7.7.1', '1.2.0', '7.7.1-rc1', '٧.7.1'])
def test_unknown_release_is_refused(version: str) -> None:
    with pytest.raises(ValueError):
        Release.parse(version)


@pytest.mark.parametrize(
    'wrong',
    [{'activation': 'never'}, {'audit_interval': -1}, {'mirrors': -1}, {'farmer_timeout': 0}],
)
def test_wrong_settings_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        BridgeSettings('sqlite://', tmp_path, **wrong)  # type: ignore[arg-type]


def test_rates_are_limited_on_demand(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, rate_limits=True) as bridge:
        for left in (4, 3, 2, 1, 0):
            answer = bridge.request('POST', '/activations', {'email': 'nobody@example.org'})
            assert answer.status == 404
            assert answer.headers['X-RateLimit-Limit'] == '5'
            assert answer.headers['X-RateLimit-Remaining'] == str(left)
        bridge.clock.now += 12
        answer = bridge.request('POST', '/activations', {'email': 'nobody@example.org'})
        assert (answer.status, answer.error) == (429, 'Too Many Requests')
        assert answer.headers['Retry-After'] == '48'
        # Other routes, and other methods, count by themselves.
        assert bridge.request('GET', '/contacts').headers['X-RateLimit-Remaining'] == '199'
        assert bridge.request('GET', '/buckets').status == 401
        # A proxy asks all the time, also while the rows of the counts cannot be read.
        for path in ('/health', '/ready', '/ready/'):
            assert 'X-RateLimit-Limit' not in bridge.request('GET', path).headers
        bridge.clock.now += 48
        answer = bridge.request('POST', '/activations', {'email': 'nobody@example.org'})
        assert answer.status == 404


ROUTES = [
    ('POST', '/users'),
    ('POST', '/activations'),
    ('PATCH', '/users/nobody@example.org'),
    ('POST', '/resets/' + 'ab' * 256),
    ('POST', '/keys'),
    ('POST', '/buckets'),
    ('PATCH', '/buckets/{bucket}'),
    ('POST', '/buckets/{bucket}/tokens'),
    ('POST', '/buckets/{bucket}/files'),
    ('POST', '/buckets/{bucket}/mirrors'),
    ('POST', '/frames'),
    ('PUT', '/frames/{frame}'),
    ('POST', '/contacts'),
    ('POST', '/contacts/challenges'),
    ('PATCH', '/contacts/' + 'ab' * 20),
    ('POST', '/reports/exchanges'),
]
FIELDS = [
    'email',
    'password',
    'pubkey',
    'pubkeys',
    'redirect',
    'name',
    'key',
    'label',
    'file',
    'frame',
    'filename',
    'mimetype',
    'hmac',
    'erasure',
    'index',
    'hash',
    'size',
    'challenges',
    'tree',
    'exclude',
    'parity',
    'operation',
    'publicPermissions',
    'encryptionKey',
    'redundancy',
    'dataHash',
    'token',
    'exchangeStart',
    'address',
    'port',
    'protocol',
    'spaceAvailable',
    'referralPartner',
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    route=st.sampled_from(ROUTES),
    fields=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6),
    junk=st.none() | st.binary(max_size=40),
)
def test_no_body_brings_the_bridge_to_an_internal_error(
    bridge: RunningBridge,
    somebody: Account,
    route: tuple[str, str],
    fields: dict[str, object],
    junk: bytes | None,
) -> None:
    method, path = route
    bucket = bucket_id(somebody.email, 'hostile')
    bridge.request('POST', '/buckets', {'name': 'hostile'}, by=somebody)
    path = path.format(bucket=bucket, frame=bridge.frame(somebody))
    raw = json.dumps(fields).encode() if junk is None else junk
    answer = bridge.request(method, path, raw=raw, by=somebody)
    assert answer.status != 500
    assert (answer.status < 400) or list(answer.json) == ['error']
