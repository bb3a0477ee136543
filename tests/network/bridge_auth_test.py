"""Who is asking: Basic, signatures with nonces, public buckets, and one-time tokens."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import ecdsa
import pytest
from ecdsa.util import sigencode_der, sigencode_der_canonize

from storj.network.bridge.upkeep.rounds import sweep
from tests.network.bridges import Account, Answer, RunningBridge

# The worked examples of the protocol reference, section 2.2.
KEY = 'd1b1d083ddbcf92aa665a77379a0e32ef7cc5a4ccfc4b2a30214ebcdfd34d846'
PUBLIC = '0258b04e8d7426239854d3cbef9960a45ff2bd9c279efa5ae5c9372cb535163636'
EXAMPLES = [
    (
        'GET',
        '/buckets?__nonce=6f4ab1f1-93bb-4c2f-8f0e-2a3f5d7c9b10',
        b'',
        (
            '304402201e7faf4f998c6aeb4defdf53f9febb7b90abc146df02a1b4610b0ff1fbc69bc602202ba61a44e59d05'
            '7fa4090596cdbda212c9619d602723b288ffc67319443ff7e9'
        ),
        200,
    ),
    (
        'POST',
        '/buckets',
        b'{"name":"photos","__nonce":"0b8e7a54-51d3-4f5f-9a39-6c1f0f2ad7e1"}',
        (
            '30460221008a6fe8dd1fba6533bab59f6592a1dead7ed650833511f994281700e8e477c241022100dd8750b4f9'
            'e2004f8bf686b95384db2bba70fc7e210f262bd0430c75eeeaa96d'
        ),
        201,
    ),
    (
        'DELETE',
        '/buckets/d0c9ac287f89dac76deadfad?__nonce=1479945600124',
        b'',
        (
            '3045022006f732e366d2106b48c96111efa06ccb3d9cd8f4ef9d9746b6035daa98fdee9d022100856bb1ef032d'
            '4f4527cdfb551f41e8d102d68fdf1df5e9695a120526d0641f27'
        ),
        404,
    ),
]


class Signer:
    """A client with a key."""

    def __init__(self, bridge: RunningBridge, key: str = KEY, *, compressed: bool = True) -> None:
        self._bridge = bridge
        self._key = ecdsa.SigningKey.from_string(
            bytes.fromhex(key), ecdsa.SECP256k1, hashlib.sha256
        )
        encoding = 'compressed' if compressed else 'uncompressed'
        self.public: str = self._key.get_verifying_key().to_string(encoding).hex()

    def headers(self, text: str, encode: Any = sigencode_der_canonize) -> dict[str, str]:
        signature = self._key.sign_deterministic(text.encode(), sigencode=encode)
        return {'x-pubkey': self.public, 'x-signature': signature.hex()}

    def get(self, path: str, query: str, method: str = 'GET', **options: Any) -> Answer:
        headers = self.headers(f'{method}\n{path}\n{query}', **options)
        return self._bridge.request(method, f'{path}?{query}' if query else path, headers=headers)

    def post(self, path: str, fields: dict[str, Any]) -> Answer:
        raw = json.dumps(fields)
        return self._bridge.request(
            'POST', path, raw=raw.encode(), headers=self.headers(f'POST\n{path}\n{raw}')
        )


@pytest.fixture
def alice(bridge: RunningBridge) -> Account:
    account = bridge.account()
    assert bridge.request('POST', '/keys', {'key': PUBLIC}, by=account).status == 200
    return account


def test_worked_examples_are_accepted_once(bridge: RunningBridge, alice: Account) -> None:
    for method, path, body, signature, status in EXAMPLES:
        headers = {'x-pubkey': PUBLIC, 'x-signature': signature}
        assert bridge.request(method, path, raw=body, headers=headers).status == status
        answer = bridge.request(method, path, raw=body, headers=headers)
        assert (answer.status, answer.error) == (401, 'Invalid nonce supplied')


def test_either_form_of_s_is_accepted(bridge: RunningBridge, alice: Account) -> None:
    signer = Signer(bridge)
    for nonce in range(6):
        # Half of the plain signatures have a high S.
        assert signer.get('/buckets', f'__nonce={nonce}', encode=sigencode_der).status == 200


@pytest.mark.parametrize(
    ('pubkey', 'signature'),
    [
        (PUBLIC, 'zzzz'),
        (PUBLIC, EXAMPLES[1][3]),
        (PUBLIC, EXAMPLES[0][3] + '00'),
        (PUBLIC, 'ab' * 4000),
        ('02' + 'ff' * 32, EXAMPLES[0][3]),
        ('zz', EXAMPLES[0][3]),
        (PUBLIC.upper() + '0', EXAMPLES[0][3]),
        ('ÿ', EXAMPLES[0][3]),
    ],
)
def test_bad_signature_answers_401(
    bridge: RunningBridge, alice: Account, pubkey: str, signature: str
) -> None:
    headers = {'x-pubkey': pubkey, 'x-signature': signature}
    answer = bridge.request('GET', EXAMPLES[0][1], headers=headers)
    assert (answer.status, answer.error) == (401, 'Invalid signature')


def test_key_is_looked_up_letter_by_letter(bridge: RunningBridge, alice: Account) -> None:
    headers = {'x-pubkey': PUBLIC.upper(), 'x-signature': EXAMPLES[0][3]}
    answer = bridge.request('GET', EXAMPLES[0][1], headers=headers)
    assert (answer.status, answer.error) == (401, 'Public key not registered')
    other = Signer(bridge, compressed=False)
    assert other.get('/keys', '__nonce=1').error == 'Public key not registered'
    assert bridge.request('POST', '/keys', {'key': other.public}, by=alice).status == 200
    assert other.get('/keys', '__nonce=1').status == 200


def test_path_query_and_body_are_signed_as_sent(bridge: RunningBridge, alice: Account) -> None:
    signer = Signer(bridge)
    assert signer.get('/buckets/', '__nonce=1').status == 200
    assert signer.get('/buckets', 'b=%2f&__nonce=2&a=+%20').status == 200
    signed = signer.headers('GET\n/buckets\n__nonce=3')
    for path in ('/buckets/?__nonce=3', '/buckets?__nonce=4', '/buckets?__nonce=3&', '/keys'):
        assert bridge.request('GET', path, headers=signed).error == 'Invalid signature'
    text = '{"name": "a", "__nonce": 5}'
    signed = signer.headers(f'POST\n/buckets\n{text}')
    for sent in (text.replace(' ', ''), text + '\n'):
        answer = bridge.request('POST', '/buckets', raw=sent.encode(), headers=signed)
        assert answer.error == 'Invalid signature'
    assert bridge.request('POST', '/buckets', raw=text.encode(), headers=signed).status == 201


@pytest.mark.parametrize('query', ['', '__nonce=', '__nonce=' + 'a' * 257])
def test_signature_without_a_nonce_answers_401(
    bridge: RunningBridge, alice: Account, query: str
) -> None:
    answer = Signer(bridge).get('/buckets', query)
    assert (answer.status, answer.error) == (401, 'Invalid nonce supplied')


@pytest.mark.parametrize('nonce', [None, True, [1], {'a': 1}])
def test_nonce_that_is_neither_text_nor_number_answers_401(
    bridge: RunningBridge, alice: Account, nonce: object
) -> None:
    answer = Signer(bridge).post('/frames', {'__nonce': nonce})
    assert (answer.status, answer.error) == (401, 'Invalid nonce supplied')


@pytest.mark.parametrize('seconds', [1, 361, 10 * 365 * 86400])
def test_signed_request_is_never_accepted_again(
    bridge: RunningBridge, alice: Account, seconds: int
) -> None:
    signer = Signer(bridge)
    assert signer.get('/buckets', '__nonce=7').status == 200
    bridge.clock.now += seconds
    bridge.call(lambda: sweep(bridge.state))
    answer = signer.get('/buckets', '__nonce=7')
    assert (answer.status, answer.error) == (401, 'Invalid nonce supplied')


def test_signature_of_head_covers_the_query(bridge: RunningBridge, alice: Account) -> None:
    signer = Signer(bridge)
    assert signer.get('/buckets', '__nonce=1', method='HEAD').status == 200
    assert signer.get('/buckets', '__nonce=1', method='HEAD').status == 401
    bare = signer.headers('HEAD\n/buckets\n')
    assert bridge.request('HEAD', '/buckets?__nonce=2', headers=bare).status == 401


def test_nonces_of_two_users_are_apart(bridge: RunningBridge, alice: Account) -> None:
    bob = bridge.account('bob@example.org')
    other = Signer(bridge, '11' * 32)
    bridge.request('POST', '/keys', {'key': other.public}, by=bob)
    assert Signer(bridge).get('/buckets', '__nonce=1').status == 200
    assert other.get('/buckets', '__nonce=1').status == 200


def test_basic_wins_over_a_signature(bridge: RunningBridge, alice: Account) -> None:
    headers = {**alice.headers, 'x-pubkey': 'zz', 'x-signature': 'zz'}
    assert bridge.request('GET', '/buckets', headers=headers).status == 200


@pytest.mark.parametrize(
    ('header', 'text'),
    [
        ('Basic ' + base64.b64encode(b'alice@example.org:wrong').decode(), 'Invalid email'),
        ('Basic ' + base64.b64encode(b'bob@example.org:wrong').decode(), 'Invalid email'),
        ('Basic ' + base64.b64encode(b'a\0b:wrong').decode(), 'Invalid email'),
        ('Basic ' + base64.b64encode(b'alice@example.org:').decode(), 'No authentication'),
        ('Basic ' + base64.b64encode(b':secret').decode(), 'No authentication'),
        ('Basic ' + base64.b64encode(b'\xff:\xff').decode(), 'No authentication'),
        ('Basic !!!', 'No authentication'),
        ('Bearer abc', 'No authentication'),
        ('', 'No authentication'),
    ],
)
def test_wrong_basic_credentials_answer_401(
    bridge: RunningBridge, alice: Account, header: str, text: str
) -> None:
    answer = bridge.request('GET', '/buckets', headers={'authorization': header})
    assert answer.status == 401
    assert answer.error.startswith(text)


def test_bucket_made_with_a_key_lists_it(bridge: RunningBridge, alice: Account) -> None:
    answer = Signer(bridge).post('/buckets', {'name': 'by key', '__nonce': 1})
    assert answer.json['pubkeys'] == [PUBLIC]


def pull_token(bridge: RunningBridge, by: Account, bucket: str) -> str:
    body = {'operation': 'PULL'}
    return str(bridge.request('POST', f'/buckets/{bucket}/tokens', body, by=by).json['token'])


def test_token_opens_the_pointers_once(bridge: RunningBridge, alice: Account) -> None:
    bridge.farmer()
    bucket = bridge.bucket(alice)
    path = f'/buckets/{bucket}/files/{bridge.file(alice, bucket)}'
    headers = {'x-token': pull_token(bridge, alice, bucket)}
    assert len(bridge.request('GET', path, headers=headers).json) == 1
    answer = bridge.request('GET', path, headers=headers)
    assert (answer.status, answer.error) == (500, 'Invalid or expired token')


def test_token_of_another_bucket_is_used_up_and_refused(
    bridge: RunningBridge, alice: Account
) -> None:
    bridge.farmer()
    bucket, other = bridge.bucket(alice), bridge.bucket(alice, 'other')
    file = bridge.file(alice, bucket)
    headers = {'x-token': pull_token(bridge, alice, other)}
    answer = bridge.request('GET', f'/buckets/{bucket}/files/{file}', headers=headers)
    assert (answer.status, answer.error) == (401, 'Not authorized')
    answer = bridge.request('GET', f'/buckets/{other}/files/{file}', headers=headers)
    assert (answer.status, answer.error) == (500, 'Invalid or expired token')


@pytest.mark.parametrize('version', ['2.2.4', '7.7.1'])
def test_token_to_push_opens_no_pointers(tmp_path: Path, version: str) -> None:
    with RunningBridge(tmp_path, version=version) as bridge:
        alice = bridge.account()
        bridge.farmer()
        bucket = bridge.bucket(alice)
        file = bridge.file(alice, bucket)
        tokens = f'/buckets/{bucket}/tokens'
        token = bridge.request('POST', tokens, {'operation': 'PUSH'}, by=alice).json['token']
        path, headers = f'/buckets/{bucket}/files/{file}', {'x-token': token}
        answer = bridge.request('GET', path, headers=headers)
        assert (answer.status, answer.error) == (401, 'Not authorized')


@pytest.mark.parametrize(('version', 'life'), [('2.2.4', 300), ('5.24.1', 3600), ('7.7.1', 3600)])
def test_token_expires(tmp_path: Path, version: str, life: int) -> None:
    with RunningBridge(tmp_path, version=version) as bridge:
        alice = bridge.account()
        bucket = bridge.bucket(alice)
        path = f'/buckets/{bucket}/files/{"ab" * 12}'
        first, second = pull_token(bridge, alice, bucket), pull_token(bridge, alice, bucket)
        bridge.clock.now += life - 1
        assert bridge.request('GET', path, headers={'x-token': first}).status == 404
        bridge.clock.now += 1
        answer = bridge.request('GET', path, headers={'x-token': second})
        assert (answer.status, answer.error) == (500, 'Invalid or expired token')


@pytest.mark.parametrize('token', ['', 'f' * 64, 'ÿ', '\t'])
def test_unknown_token_is_refused(bridge: RunningBridge, alice: Account, token: str) -> None:
    bucket = bridge.bucket(alice)
    path = f'/buckets/{bucket}/files/{"ab" * 12}'
    answer = bridge.request('GET', path, headers={'x-token': token})
    assert (answer.status, answer.error) == (500, 'Invalid or expired token')


def test_pointers_need_a_token_before_bridge_5_16(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, version='2.2.4') as bridge:
        alice = bridge.account()
        bucket = bridge.bucket(alice)
        answer = bridge.request('GET', f'/buckets/{bucket}/files/{"ab" * 12}', by=alice)
        assert (answer.status, answer.error) == (500, 'Invalid or expired token')


def test_token_for_a_file_tells_size_and_mimetype(bridge: RunningBridge, alice: Account) -> None:
    bridge.farmer()
    bucket = bridge.bucket(alice)
    body = {'operation': 'PULL', 'file': bridge.file(alice, bucket)}
    token = bridge.request('POST', f'/buckets/{bucket}/tokens', body, by=alice).json
    assert (token['size'], token['mimetype']) == (9, 'image/jpeg')
    assert token['id'] == token['token']
    answer = bridge.request(
        'POST', f'/buckets/{bucket}/tokens', body | {'file': 'cd' * 12}, by=alice
    )
    assert (answer.status, answer.error) == (404, 'Bucket entry not found')


@pytest.mark.parametrize('operation', [None, 'FLY', 'pull', ['PULL'], {}])
def test_token_for_no_known_operation_answers_400(
    bridge: RunningBridge, alice: Account, operation: object
) -> None:
    bucket = bridge.bucket(alice)
    body = {'operation': operation}
    assert bridge.request('POST', f'/buckets/{bucket}/tokens', body, by=alice).status == 400


def test_public_bucket_is_open_to_all(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, version='2.2.4') as bridge:
        alice = bridge.account()
        bridge.farmer()
        bucket = bridge.bucket(alice)
        file = bridge.file(alice, bucket)
        tokens, info = f'/buckets/{bucket}/tokens', f'/buckets/{bucket}/files/{file}/info'
        assert bridge.request('GET', info).status == 401
        assert bridge.request('POST', tokens, {'operation': 'PULL'}).status == 401
        body = {'publicPermissions': ['PULL'], 'encryptionKey': 'the key of all'}
        assert bridge.request('PATCH', f'/buckets/{bucket}', body, by=alice).status == 200
        assert bridge.request('GET', info).json['size'] == 9
        answer = bridge.request('POST', tokens, {'operation': 'PULL'})
        assert (answer.status, answer.json['encryptionKey']) == (201, 'the key of all')
        assert bridge.request('POST', tokens, {'operation': 'PUSH'}).status == 401


def test_bucket_is_open_to_a_listed_key_without_account(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, version='2.2.4') as bridge:
        alice = bridge.account()
        bucket = bridge.bucket(alice)
        friend, stranger = Signer(bridge, '22' * 32), Signer(bridge, '33' * 32)
        body = {'pubkeys': [friend.public]}
        assert bridge.request('PATCH', f'/buckets/{bucket}', body, by=alice).status == 200
        path = f'/buckets/{bucket}/tokens'
        assert friend.post(path, {'operation': 'PUSH', '__nonce': 7}).status == 201
        assert friend.post(path, {'operation': 'PUSH', '__nonce': 7}).status == 401
        assert friend.post(path, {'operation': 'PUSH'}).status == 401
        answer = stranger.post(path, {'operation': 'PUSH', '__nonce': 8})
        assert (answer.status, answer.error) == (401, 'Public key not registered')
        # An account of its own does not take the right away.
        bob = bridge.account('bob@example.org')
        bridge.request('POST', '/keys', {'key': friend.public}, by=bob)
        assert friend.post(path, {'operation': 'PUSH', '__nonce': 1}).status == 201
        assert bridge.request('POST', path, {'operation': 'PUSH'}, by=bob).status == 404


def test_tokens_are_the_owners_alone_from_bridge_5_12_on(
    bridge: RunningBridge, alice: Account
) -> None:
    bucket = bridge.bucket(alice)
    body = {'publicPermissions': ['PULL']}
    bridge.request('PATCH', f'/buckets/{bucket}', body, by=alice)
    path = f'/buckets/{bucket}/tokens'
    assert bridge.request('POST', path, {'operation': 'PULL'}).status == 401
    bob = bridge.account('bob@example.org')
    assert bridge.request('POST', path, {'operation': 'PULL'}, by=bob).status == 404


def test_keys_are_listed_and_removed_by_their_owner(bridge: RunningBridge, alice: Account) -> None:
    bob = bridge.account('bob@example.org')
    other = Signer(bridge, '11' * 32).public
    body = {'key': other, 'label': 'laptop'}
    assert bridge.request('POST', '/keys', body, by=alice).json == {
        'user': 'alice@example.org',
        'label': 'laptop',
        'key': other,
        'id': other,
    }
    keys = bridge.request('GET', '/keys', by=alice).json
    assert {item['key'] for item in keys} == {PUBLIC, other}
    assert bridge.request('GET', '/keys', by=bob).json == []
    for account in (alice, bob):
        answer = bridge.request('POST', '/keys', {'key': other}, by=account)
        assert (answer.status, answer.error) == (400, 'Public key is already registered')
    answer = bridge.request('DELETE', f'/keys/{other}', by=bob)
    assert (answer.status, answer.error) == (404, 'Public key was not found')
    answer = bridge.request('DELETE', f'/keys/{other}', by=alice)
    assert (answer.status, answer.body) == (204, b'')
    assert bridge.request('DELETE', f'/keys/{other}', by=alice).status == 404


@pytest.mark.parametrize(
    'key',
    [None, '', 'zz', 7, [PUBLIC], PUBLIC[:-2], '02' + 'ff' * 32, f' {PUBLIC[:-1]}', '00' * 33],
)
def test_no_public_key_answers_400(bridge: RunningBridge, alice: Account, key: object) -> None:
    answer = bridge.request('POST', '/keys', {'key': key}, by=alice)
    assert answer.status == 400
    assert answer.error.startswith('Invalid public key supplied: ')
