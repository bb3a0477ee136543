"""The recorded exchanges with the original bridges, replayed against ours.

Every recorded request to a bridge is sent again, in order: to our bridge showing the manners of
the same release. Ids, tokens and node ids are replaced by ours, signatures are made anew with keys
of our own; what the recordings take for granted (accounts, buckets, frames, tokens that were made
off the record) is made when it is first used. The farmers follow a script: the recordings do not
hold the shards' bytes, so a shard counts as stored once its farmer was found.

Compared are the status, the fields of the JSON answer with their types, the lengths of lists, and
the texts of errors. Whatever differs on purpose stands in :data:`DIFFERENCES`, with the reason.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ecdsa
import pytest
from ecdsa.util import sigencode_der_canonize

from tests.network.bridges import Account, Answer, RunningBridge

VECTORS = Path(__file__).parent.parent / 'vectors'
VERSIONS = ('2.2.4', '5.24.1')


@dataclass(frozen=True)
class Difference:
    """How our answer differs from a recorded one.

    Attributes:
        title (str): of the exchange, or its beginning.
        reason (str): why.
        status (int | None): ours; None for the recorded one.
        error (str | None): our text of the error; None for the recorded one.
        shape (bool): whether the answer is compared beyond that.
    """

    title: str
    reason: str
    status: int | None = None
    error: str | None = None
    shape: bool = True


DIFFERENCES = (
    # Errors of the database, passed on by the original under any status.
    Difference('POST /users: bad e-mail', "a client's mistake is a 400", 400, 'Invalid email'),
    Difference(
        'POST /users: empty body', "a client's mistake is a 400", 400, 'Must supply an email'
    ),
    Difference('the same signed request again', 'meant as 401', 401, 'Invalid nonce supplied'),
    Difference('ECDSA: no nonce', 'meant as 401', 401, 'Invalid nonce supplied'),
    Difference(
        'POST /keys: no key',
        'not the words of a JavaScript engine',
        error='Invalid public key supplied: Invalid public key supplied',
    ),
    Difference('POST /buckets: same name again', '409 from bridge 7.6 on', 409),
    Difference(
        'GET /buckets/<malformed id>', "a client's mistake is a 400", 400, 'Bucket id is malformed'
    ),
    Difference(
        'GET /frames/<malformed>', "a client's mistake is a 400", 400, 'Frame id is malformed'
    ),
    Difference(
        'PATCH /buckets/<id>: publicPermissions bad value',
        "a client's mistake is a 400",
        400,
        'Bucket validation failed: publicPermissions are PUSH and PULL',
    ),
    Difference(
        'POST tokens: bad operation',
        "a client's mistake is a 400",
        400,
        'Token validation failed: operation is PUSH or PULL',
    ),
    Difference(
        'POST tokens: no operation',
        "a client's mistake is a 400",
        400,
        'Token validation failed: operation is PUSH or PULL',
    ),
    Difference(
        'PUT /frames/<id>: empty body',
        'checks in the order of bridge 5 in all releases',
        error='Invalid challenges supplied',
    ),
    Difference('POST files: bad mimetype', "a client's mistake is a 400", 400),
    Difference('POST files: bad hmac type', "a client's mistake is a 400", 400),
    Difference('POST files: bad index', "a client's mistake is a 400", 400),
    Difference(
        'POST files: same name as an existing file',
        'meant as 409',
        409,
        'Name already used in this bucket',
    ),
    # Farmers.
    Difference(
        'GET files/<id>?exclude=<every farmer>',
        'copies were made off the record; without them the one pointer is bare, and where bare'
        ' pointers are unknown the request fails, meant as 503',
        shape=False,
    ),
    Difference(
        'PUT /frames/<id> with every farmer excluded',
        'meant as 503, and at once instead of after 90 s',
        503,
        'Could not locate farmers',
    ),
    Difference('POST mirrors', 'how many accept depends on the farmers', shape=False),
    Difference('GET files/<id>/mirrors', 'the copies were made off the record', shape=False),
    # Defects that are not for copying (protocol reference, appendix D).
    Difference(
        'DELETE /frames/<id> in use by a file',
        'the guard of the original never matches, and the file breaks',
        400,
        'Refusing to destroy frame that is referenced by a bucket entry',
    ),
    Difference('GET files after that', 'the listing is whole, as the frame is', shape=False),
    Difference('unknown route', 'every error is JSON', shape=False),
    Difference(
        'PATCH /users/<email>: reset password',
        'tells nobody what only the account knows',
        shape=False,
    ),
    Difference(
        'PATCH /users/<unknown>', 'tells nobody whether there is such an account', 200, shape=False
    ),
    Difference(
        'POST /activations, call', 'rates are not limited unless asked for', 404, 'User not found'
    ),
)

#: Exchanges that are not replayed, by their titles.
NOT_REPLAYED = {
    'GET pointers of a file whose shard was never stored': 'the file was made off the record',
    'GET pointers of the 3 MiB file': 'the file was made off the record',
    'DELETE files/<id> again': 'in 5.24.1 the removal before it killed the bridge, off the record',
}


def recorded(version: str) -> list[dict[str, Any]]:
    document = json.loads((VECTORS / f'bridge-{version}.json').read_text())
    return list(document['exchanges'])


def to_bridge(exchange: Mapping[str, Any]) -> bool:
    """Tell whether an exchange is one with the bridge, and not with a farmer."""
    section = exchange['section'].split()[0]
    path = exchange['request']['path']
    return not path.startswith('/shards/') and (section != 'B.12' or path.startswith('/buckets/'))


class Replay:
    """Sends the requests of one recording; knows what stands for what."""

    def __init__(self, bridge: RunningBridge, version: str) -> None:
        self.bridge = bridge
        self.version = version
        self.exchanges = [item for item in recorded(version) if to_bridge(item)]
        self.ours: dict[str, str] = {}
        self.keys: dict[str, ecdsa.SigningKey] = {}
        # The recordings are from this time; a few requests name a date.
        bridge.clock.now = 1_795_000_000.0
        self.accounts: dict[str, Account] = {}
        self.bucket_owners: dict[str, str] = {}
        text = json.dumps(self.exchanges)
        nodes = dict.fromkeys(re.findall(r'"nodeID": "([0-9a-f]{40})"', text))
        excluded = re.findall(r'"exclude": \[([^\]]+)\]', text)
        nodes |= dict.fromkeys(re.findall(r'[0-9a-f]{40}', ' '.join(excluded)))
        for port, node in enumerate(nodes, 4100):
            bridge.clock.now += 2
            self.ours[node] = bridge.farmer(port, bridge.state.release.protocol).identity.node_id
        for exchange in self.exchanges:
            self._replace_key(exchange['request'].get('headers', {}).get('x-pubkey'))
            self._register_unknown(exchange)

    def _register_unknown(self, exchange: Mapping[str, Any]) -> None:
        """Make the accounts whose registration was not recorded."""
        request = exchange['request']
        if request['path'] == '/users':
            return
        scheme, _, pair = request.get('headers', {}).get('authorization', '').partition(' ')
        if not scheme or exchange['response']['status'] in (401, 403):
            return
        email, _, password = base64.b64decode(pair).decode().partition(':')
        created = {
            item['request']['json'].get('email')
            for item in self.exchanges
            if item['request']['path'] == '/users'
        }
        if email not in created and email not in self.accounts:
            # Messages sort by their time.
            self.bridge.clock.now += 1
            body = {'email': email, 'password': password}
            assert self.bridge.request('POST', '/users', body).status == 201
            self.bridge.request('GET', self.bridge.links()[-1])
            self.accounts[email] = Account(email)

    def send(self, exchange: Mapping[str, Any]) -> Answer:
        request = exchange['request']
        method, headers = request['method'], dict(request.get('headers', {}))
        self._prepare(exchange)
        path = self._link(self._translated(request['path']))
        fields = self._translated(request['json']) if 'json' in request else None
        raw = json.dumps(fields).encode() if fields is not None else None
        if 'text' in request:
            raw = request['text'].encode()
        if 'x-token' in headers:
            headers['x-token'] = self.ours.get(headers['x-token'], headers['x-token'])
        if 'x-pubkey' in headers:
            headers |= self._signature(exchange, method, path, raw or b'')
        if method == 'PATCH' and path.startswith('/users/'):
            self._asked = path.split('/')[2], fields
        elif path.startswith('/resets/'):
            # The new password has to come with the confirmation as well.
            email, asked = self._asked
            pair = base64.b64encode(f'{email}:{asked["password"]}'.encode()).decode()
            headers['authorization'] = f'Basic {pair}'
        answer = self.bridge.request(method, path, raw=raw, headers=headers)
        self._learn(exchange, answer)
        return answer

    def _translated(self, value: Any) -> Any:
        """Replace all that is known to stand for something of ours."""
        text = json.dumps(value)
        for theirs, mine in self.ours.items():
            text = text.replace(theirs, mine)
        return json.loads(text)

    def _link(self, path: str) -> str:
        """Replace the secret of a mailed link by that of the newest message of its kind."""
        match = re.match(r'/(activations|deactivations|resets)/(?!0{64})[0-9a-f]{64,}', path)
        if match is None:
            return path
        links = [link for link in self.bridge.links() if link.startswith(f'/{match[1]}/')]
        return links[-1] + path[match.end() :]

    def _prepare(self, exchange: Mapping[str, Any]) -> None:
        """Make what the request takes for granted and no recorded request has made."""
        request, response = exchange['request'], exchange['response']
        path, fields = request['path'], request.get('json') or {}
        headers = request.get('headers', {})
        if response['status'] >= 500 and 'token' in str(response.get('json')):
            return
        bucket = re.match(r'/buckets/([0-9a-f]{24})', path)
        owner = self._owner(headers)
        if bucket and owner and response['status'] == 200 and bucket[1] not in self.bucket_owners:
            made = self.bridge.request('POST', '/buckets', {}, headers=owner).json['id']
            self.ours[bucket[1]] = made
            self.bucket_owners[bucket[1]] = made
        self._frame(fields.get('frame'), response, owner)
        if path.startswith('/frames/') and response['status'] != 404:
            self._frame(path.split('/')[2], response, owner)
        token = headers.get('x-token')
        if token and token not in self.ours and set(token) != {'f'}:
            known = bucket[1] if bucket and bucket[1] in self.bucket_owners else self.last_bucket
            answer = self.bridge.request(
                'POST',
                f'/buckets/{self.ours.get(known, known)}/tokens',
                {'operation': 'PULL'},
                headers=self.last_owner,
            )
            self.ours[token] = answer.json['token']
        if owner and bucket and bucket[1] in self.bucket_owners:
            self.last_bucket, self.last_owner = bucket[1], owner
        # The farmer that took the shard then takes it now.
        answered = response.get('json')
        chosen = answered.get('farmer', {}).get('nodeID') if isinstance(answered, dict) else None
        for node, farmer in self.bridge.farmers.farmers.items():
            farmer.refuses = chosen is not None and node != self.ours.get(chosen)

    def _owner(self, headers: Mapping[str, str]) -> dict[str, str] | None:
        return {'authorization': headers['authorization']} if 'authorization' in headers else None

    def _frame(
        self, frame: str | None, response: Mapping[str, Any], owner: dict[str, str] | None
    ) -> None:
        if frame is None or frame in self.ours or owner is None or not frame.startswith('6b'):
            return
        self.ours[frame] = self.bridge.request('POST', '/frames', {}, headers=owner).json['id']
        answered = response.get('json')
        size = answered.get('size') if isinstance(answered, dict) else None
        if size:
            body = self.bridge.shard(bytes(size))
            path = f'/frames/{self.ours[frame]}'
            answer = self.bridge.request('PUT', path, body, headers=owner)
            assert answer.status == 200
            node = answer.json['farmer']['nodeID']
            self.bridge.farmers.farmers[node].shards[body['hash']] = bytes(size)

    def _signature(
        self, exchange: Mapping[str, Any], method: str, path: str, raw: bytes
    ) -> dict[str, str]:
        theirs = exchange['request']['headers']['x-pubkey']
        head, _, query = path.partition('?')
        signed = raw if method in ('POST', 'PUT', 'PATCH') else query.encode()
        if exchange['title'] == 'ECDSA: bad signature':
            signed += b'!'
        signature = (
            self.keys[theirs]
            .sign_deterministic(
                f'{method}\n{head}\n'.encode() + signed,
                hashfunc=hashlib.sha256,
                sigencode=sigencode_der_canonize,
            )
            .hex()
        )
        if exchange['title'] == 'ECDSA: signature not hex':
            signature = 'zzzz'
        return {'x-pubkey': self.ours[theirs], 'x-signature': signature}

    def _replace_key(self, theirs: str | None) -> None:
        if theirs is not None and theirs not in self.keys:
            self.keys[theirs] = ecdsa.SigningKey.generate(ecdsa.SECP256k1)
            point = self.keys[theirs].get_verifying_key().to_string('compressed')
            self.ours[theirs] = point.hex()

    def _learn(self, exchange: Mapping[str, Any], answer: Answer) -> None:
        """Note what stands for the ids and tokens of the recorded answer."""
        theirs = exchange['response'].get('json')
        if not isinstance(theirs, dict) or answer.status >= 300:
            return
        mine = answer.json
        path, method = exchange['request']['path'], exchange['request']['method']
        if method == 'POST' and path == '/buckets':
            self.bucket_owners[theirs['id']] = mine['id']
        for name in ('id', 'token', 'name'):
            if isinstance(theirs.get(name), str) and theirs[name] != mine.get(name):
                self.ours[theirs[name]] = mine[name]
        if method == 'PUT':
            node = mine['farmer']['nodeID']
            self.bridge.farmers.farmers[node].shards[mine['hash']] = b''


def shape(value: Any) -> Any:
    """Return fields and types of an answer."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in sorted(value.items())}
    if isinstance(value, list):
        return [shape(item) for item in value]
    # JavaScript knows one kind of number.
    return 'number' if type(value) in (int, float) else type(value).__name__


# What a bridge tells about a farmer only after it has measured or seen it.
OPTIONAL = ('responseTime', 'lastTimeout', 'timeoutRate')


def without_optional(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_optional(item) for key, item in value.items() if key not in OPTIONAL}
    return [without_optional(item) for item in value] if isinstance(value, list) else value


def difference_of(exchange: Mapping[str, Any]) -> Difference | None:
    found = [item for item in DIFFERENCES if exchange['title'].startswith(item.title)]
    return max(found, key=lambda item: len(item.title)) if found else None


def compare(exchange: Mapping[str, Any], answer: Answer) -> None:
    expected = exchange['response']
    difference = difference_of(exchange)
    if difference is None or difference.status is not None or difference.shape:
        status = difference.status if difference and difference.status else expected['status']
        assert answer.status == status
    if difference is not None and not difference.shape:
        return
    if answer.status == 204:
        assert answer.body == b''
    elif answer.status >= 400:
        assert answer.headers['Content-Type'] == 'application/json; charset=utf-8'
        wanted = difference.error if difference and difference.error else expected['json']['error']
        assert answer.error == wanted
    elif 'json' in expected:
        mine, theirs = without_optional(answer.json), without_optional(expected['json'])
        assert shape(mine) == shape(theirs)


@pytest.fixture(scope='module', params=VERSIONS)
def replay(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replay]:
    path = tmp_path_factory.mktemp('replay')
    with RunningBridge(path, version=request.param, activation='mail') as bridge:
        yield Replay(bridge, request.param)


def test_recorded_requests_are_answered_as_recorded(replay: Replay) -> None:
    wrong = []
    for number, exchange in enumerate(replay.exchanges):
        if exchange['title'] in NOT_REPLAYED:
            continue
        replay.bridge.clock.now += 1
        answer = replay.send(exchange)
        try:
            compare(exchange, answer)
        except AssertionError as error:
            wrong.append(f'{number} {exchange["title"]}: {error}\n    {answer.body[:300]!r}')
    assert not wrong, '\n'.join(wrong)


def test_no_difference_is_listed_in_vain() -> None:
    exchanges = [item for version in VERSIONS for item in recorded(version)]
    for difference in DIFFERENCES:
        answers = [
            item['response'] for item in exchanges if item['title'].startswith(difference.title)
        ]
        assert answers, difference.title
        if difference.shape:
            ours = (difference.status, difference.error)
            assert any(
                ours != (answer['status'], (answer.get('json') or {}).get('error'))
                for answer in answers
            ), difference.title
    assert {item['title'] for item in exchanges} >= set(NOT_REPLAYED)
