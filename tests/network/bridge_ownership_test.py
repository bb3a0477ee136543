"""What belongs to somebody is shown to, and changed by, nobody else: every route, every way in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from storj.network.bridge.app import routes
from storj.network.bridge.state import BridgeSettings
from storj.network.bridge.tables import User
from tests.network.bridge_auth_test import Signer
from tests.network.bridges import Account, RunningBridge

ALICE, BOB = Account('alice@example.org'), Account('bob@example.org')
KEYS = {ALICE: 'a' * 63 + '1', BOB: 'b' * 63 + '2'}
#: The parts of paths that name something of an account's.
OWNED = ('bucket', 'file', 'frame', 'key', 'name')
ROUTES = [
    (route.method, route.path)
    for route in routes(BridgeSettings('sqlite://', Path()))
    if any(f'{{{part}}}' in route.path for part in OWNED)
]


class Things(NamedTuple):
    """What an account has."""

    bucket: str
    file: str
    frame: str
    key: str
    name: str


@pytest.fixture(scope='module')
def world(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[RunningBridge, dict[Account, Things]]]:
    with RunningBridge(tmp_path_factory.mktemp('bridge')) as bridge:
        bridge.farmer()
        things = {}
        for account, name in ((ALICE, 'alices.jpg'), (BOB, 'bobs.jpg')):
            bridge.account(account.email)
            key = Signer(bridge, KEYS[account]).public
            assert bridge.request('POST', '/keys', {'key': key}, by=account).status == 200
            bucket = bridge.bucket(account, name)
            file = bridge.file(account, bucket, [name.encode()], filename=name)
            things[account] = Things(bucket, file, bridge.frame(account), key, name)
        yield bridge, things


def belongings(bridge: RunningBridge, things: Things) -> list[Any]:
    """Return all that Alice can see of what she has."""
    paths = (
        '/buckets',
        '/frames',
        '/keys',
        f'/buckets/{things.bucket}/files',
        f'/buckets/{things.bucket}/files/{things.file}/info',
        f'/frames/{things.frame}',
    )
    return [bridge.request('GET', path, by=ALICE).json for path in paths]


@pytest.mark.parametrize(('method', 'path'), ROUTES, ids=lambda value: str(value))
def test_things_of_another_account_are_out_of_reach(
    world: tuple[RunningBridge, dict[Account, Things]], method: str, path: str
) -> None:
    bridge, things = world
    before = belongings(bridge, things[ALICE])
    parts = [part for part in OWNED if f'{{{part}}}' in path]
    token = {'operation': 'PULL'}
    tokens = f'/buckets/{things[BOB].bucket}/tokens'
    # Fields that a request of its kind needs, about what is Alice's.
    fields = {
        'frame': things[ALICE].frame,
        'file': things[ALICE].file,
        'operation': 'PULL',
        'filename': 'new.jpg',
        'pubkeys': [],
        'publicPermissions': ['PULL'],
        **bridge.shard(b'new'),
    }
    for owners in itertools.product((ALICE, BOB), repeat=len(parts)):
        chosen = dict(zip(parts, owners, strict=True))
        # Names are everybody's; a path of Bob's own things is tried with Alice's in the body.
        if ALICE not in chosen.values() and method == 'DELETE':
            continue
        url = path
        for part, owner in chosen.items():
            url = url.replace(f'{{{part}}}', getattr(things[owner], part))
        hers = [part for part, owner in chosen.items() if owner is ALICE and part != 'name']
        if method == 'POST' and path.endswith(('/files', '/mirrors')):
            hers.append('body')
        signer = Signer(bridge, KEYS[BOB])
        query = f'__nonce={method}{owners}'.replace(' ', '')
        one_time = bridge.request('POST', tokens, token, by=BOB).json['token']
        answers = {
            'password': bridge.request(method, url, fields, by=BOB),
            'token': bridge.request(method, url, fields, headers={'x-token': one_time}),
            'nothing': bridge.request(method, url, fields),
        }
        if method == 'GET':
            answers['key'] = signer.get(url, query)
        if method == 'POST':
            answers['key'] = signer.post(url, {**fields, '__nonce': query})
        for way, answer in answers.items():
            if hers:
                assert answer.status in (400, 401, 403, 404), (way, url, answer)
            for secret in (things[ALICE].file, things[ALICE].frame, 'alices'):
                if secret not in url:
                    assert secret.encode() not in answer.body, (way, url, answer)
    assert belongings(bridge, things[ALICE]) == before


@pytest.mark.parametrize(('version', 'status'), [('7.7.1', 403), ('2.2.4', 401)])
def test_no_way_leads_into_a_deactivated_account(tmp_path: Path, version: str, status: int) -> None:
    with RunningBridge(tmp_path, version=version) as bridge:
        bridge.farmer()
        bridge.account(ALICE.email)
        signer = Signer(bridge, KEYS[ALICE])
        bridge.request('POST', '/keys', {'key': signer.public}, by=ALICE)
        bridge.bucket(ALICE)
        assert signer.get('/buckets', '__nonce=1').status == 200
        bridge.request('DELETE', f'/users/{ALICE.email}', by=ALICE)
        assert bridge.request('GET', bridge.links()[-1]).json['activated'] is False
        with bridge.state.database.begin() as session:
            assert session.get_one(User, ALICE.email).activated is False
        for answer in (
            signer.get('/buckets', '__nonce=2'),
            signer.post('/buckets', {'name': 'new', '__nonce': 3}),
            signer.post('/frames', {'__nonce': 4}),
            bridge.request('GET', '/buckets', by=ALICE),
            bridge.request('POST', '/frames', {}, by=ALICE),
        ):
            assert (answer.status, answer.error) == (
                status,
                'User account has not been activated',
            )
