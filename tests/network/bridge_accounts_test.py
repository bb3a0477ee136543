"""Accounts of the bridge: registration, activation, deactivation, reset, and their secrets."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from storj.exception import ConfigurationError
from storj.network.bridge.database import Database
from storj.network.bridge.passwords import Passwords
from storj.network.bridge.tables import REVISION, User
from storj.network.bridge.users import open_account
from tests.network.bridges import Account, Clock, RunningBridge

ALICE = Account('alice@example.org')
OTHER = Account('alice@example.org', 'another password')


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[RunningBridge]:
    with RunningBridge(tmp_path, activation='mail') as running:
        yield running


def register(bridge: RunningBridge, account: Account = ALICE, **fields: object) -> None:
    body = {'email': account.email, 'password': account.hashed, **fields}
    answer = bridge.request('POST', '/users', body)
    assert answer.status == 201, answer


def activate(bridge: RunningBridge) -> None:
    register(bridge)
    assert bridge.request('GET', bridge.links()[-1]).status == 200


def test_registration_in_auto_mode_gives_an_active_account(tmp_path: Path) -> None:
    with RunningBridge(tmp_path) as bridge:
        alice = bridge.account()
        assert bridge.request('GET', '/buckets', by=alice).json == []
        # The message is written all the same.
        assert len(bridge.links()) == 1


def test_registration_answers_the_user_without_secrets(bridge: RunningBridge) -> None:
    body = {'email': 'Alice@Example.org', 'password': ALICE.hashed}
    answer = bridge.request('POST', '/users', body)
    user = answer.json
    assert answer.status == 201
    assert user['id'] == user['email'] == 'alice@example.org'
    assert user['activated'] is False
    assert user['created'] == '2016-11-24T15:06:40.000Z'
    assert sorted(user) == [
        'activated',
        'created',
        'email',
        'id',
        'isFreeTier',
        'preferences',
        'referralPartner',
        'uuid',
    ]


@pytest.mark.parametrize(
    ('body', 'text'),
    [
        ({}, 'Must supply an email'),
        ({'email': 'x'}, 'Invalid email'),
        ({'email': 'a b@example.org'}, 'Invalid email'),
        ({'email': 'a@example.org\r\nBcc: b@example.org'}, 'Invalid email'),
        ({'email': 7}, 'Invalid email'),
        ({'email': 'a@example.org'}, 'Password must be hex encoded SHA-256 hash'),
        (
            {'email': 'a@example.org', 'password': 'abcd'},
            'Password must be hex encoded SHA-256 hash',
        ),
        (
            {'email': 'a@example.org', 'password': 'g' * 64},
            'Password must be hex encoded SHA-256 hash',
        ),
        (
            {'email': 'a@example.org', 'password': 'a' * 64, 'redirect': 'javascript:alert(1)'},
            'Invalid redirect supplied',
        ),
        (
            {'email': 'a@example.org', 'password': 'a' * 64, 'pubkey': '02:03'},
            'Invalid public key supplied: Must not contain non-hexidecimal characters like ":"',
        ),
    ],
)
def test_bad_registration_answers_400(
    bridge: RunningBridge, body: dict[str, object], text: str
) -> None:
    answer = bridge.request('POST', '/users', body)
    assert (answer.status, answer.error) == (400, text)
    # Nothing of it is kept.
    register(bridge, Account('a@example.org'))


def test_known_email_is_refused_in_any_case(bridge: RunningBridge) -> None:
    register(bridge)
    body = {'email': 'ALICE@example.org', 'password': ALICE.hashed}
    answer = bridge.request('POST', '/users', body)
    assert (answer.status, answer.error) == (400, 'Email is already registered')


def test_registration_with_a_key_registers_it(bridge: RunningBridge) -> None:
    key = '0258b04e8d7426239854d3cbef9960a45ff2bd9c279efa5ae5c9372cb535163636'
    register(bridge, pubkey=key)
    bridge.request('GET', bridge.links()[-1])
    assert [item['key'] for item in bridge.request('GET', '/keys', by=ALICE).json] == [key]


def test_inactive_account_is_refused_until_its_link_is_visited(bridge: RunningBridge) -> None:
    register(bridge)
    answer = bridge.request('GET', '/buckets', by=ALICE)
    assert (answer.status, answer.error) == (403, 'User account has not been activated')
    (link,) = bridge.links()
    answer = bridge.request('GET', link)
    assert (answer.status, answer.json['activated']) == (200, True)
    assert bridge.request('GET', '/buckets', by=ALICE).status == 200
    answer = bridge.request('GET', link)
    assert (answer.status, answer.error) == (400, 'Invalid activation token')


def test_activation_message_is_sent_again_on_request(bridge: RunningBridge) -> None:
    register(bridge)
    bridge.clock.now += 1
    answer = bridge.request('POST', '/activations', {'email': ALICE.email})
    assert (answer.status, answer.json['activated']) == (201, False)
    first, second = bridge.links()
    # Only the newest link works.
    assert bridge.request('GET', first).status == 400
    assert bridge.request('GET', second).status == 200
    answer = bridge.request('POST', '/activations', {'email': ALICE.email})
    assert (answer.status, answer.error) == (400, 'User is already activated')
    answer = bridge.request('POST', '/activations', {'email': 'nobody@example.org'})
    assert (answer.status, answer.error) == (404, 'User not found')


def test_link_leads_on_within_the_bridge_only(bridge: RunningBridge) -> None:
    public = bridge.state.settings.public_url
    register(bridge, redirect=f'{public}/welcome?a=1&b=2')
    (link,) = bridge.links()
    assert parse_qs(urlsplit(link).query) == {'redirect': [f'{public}/welcome?a=1&b=2']}
    answer = bridge.request('GET', link)
    assert (answer.status, answer.headers['Location']) == (302, f'{public}/welcome?a=1&b=2')
    assert bridge.request('GET', '/buckets', by=ALICE).status == 200


def test_link_never_leads_to_a_strangers_host(bridge: RunningBridge) -> None:
    register(bridge, redirect='https://evil.example.org/')
    (link,) = bridge.links()
    assert 'evil' not in link
    answer = bridge.request('GET', f'{link}?redirect=https://evil.example.org/')
    assert (answer.status, answer.headers.get('Location')) == (200, None)


VISITS = [('HEAD', {}), ('GET', {'accept': 'text/html,application/xhtml+xml,*/*;q=0.8'})]


@pytest.mark.parametrize(('method', 'headers'), VISITS)
def test_opening_a_link_changes_nothing(
    bridge: RunningBridge, method: str, headers: dict[str, str]
) -> None:
    register(bridge)
    (link,) = bridge.links()
    answer = bridge.request(method, link, headers=headers)
    assert (answer.status, answer.headers['Content-Type'].split(';')[0]) == (200, 'text/html')
    assert bridge.request('GET', '/buckets', by=ALICE).status == 403
    # The click on the page.
    done = bridge.request('POST', link, headers=headers, raw=b'')
    assert done.status == 200
    assert bridge.request('GET', '/buckets', by=ALICE).status == 200
    bridge.clock.now += 1
    bridge.request('DELETE', f'/users/{ALICE.email}', by=ALICE)
    link = bridge.links()[-1]
    bridge.request(method, link, headers=headers)
    assert bridge.request('GET', '/buckets', by=ALICE).status == 200
    assert bridge.request('POST', link, headers=headers, raw=b'').status == 200
    assert bridge.request('GET', '/buckets', by=ALICE).status == 403


def test_link_with_a_bad_redirect_changes_nothing(bridge: RunningBridge) -> None:
    register(bridge)
    (link,) = bridge.links()
    assert bridge.request('GET', link + '?redirect=javascript:alert(1)').status == 400
    assert bridge.request('GET', link).status == 200


def test_deactivation_takes_a_message_and_keeps_the_data(bridge: RunningBridge) -> None:
    activate(bridge)
    bucket = bridge.bucket(ALICE)
    bridge.clock.now += 1
    assert bridge.request('DELETE', '/users/bob@example.org', by=ALICE).status == 404
    answer = bridge.request('DELETE', '/users/Alice@example.org', by=ALICE)
    assert (answer.status, answer.json['activated']) == (200, True)
    link = bridge.links()[-1]
    assert len(link) == len('/deactivations/') + 512
    assert bridge.request('GET', link).json['activated'] is False
    assert bridge.request('GET', '/buckets', by=ALICE).status == 403
    assert bridge.request('GET', link).status == 404
    bridge.clock.now += 1
    bridge.request('POST', '/activations', {'email': ALICE.email})
    bridge.request('GET', bridge.links()[-1])
    assert [item['id'] for item in bridge.request('GET', '/buckets', by=ALICE).json] == [bucket]


def test_deactivation_of_another_account_answers_401(bridge: RunningBridge) -> None:
    activate(bridge)
    register(bridge, Account('bob@example.org'))
    answer = bridge.request('DELETE', '/users/bob@example.org', by=ALICE)
    assert (answer.status, answer.error) == (401, 'Not authorized')


def test_strangers_password_is_never_put_into_force(bridge: RunningBridge) -> None:
    activate(bridge)
    bridge.clock.now += 1
    bridge.request('PATCH', f'/users/{ALICE.email}', {'password': OTHER.hashed})
    link = bridge.links()[-1]
    by_owner = ALICE.headers
    for method, headers in [*VISITS, ('GET', {}), ('GET', by_owner), ('HEAD', by_owner)]:
        bridge.request(method, link, headers=headers)
        assert bridge.request('GET', '/buckets', by=OTHER).status == 401
    answer = bridge.request('GET', link)
    assert answer.error == 'The new password must come with the confirmation'
    assert bridge.request('GET', '/buckets', by=ALICE).status == 200


def test_reset_with_the_password_sent_first_and_last(bridge: RunningBridge) -> None:
    activate(bridge)
    bridge.clock.now += 1
    answer = bridge.request('PATCH', f'/users/{ALICE.email}', {'password': OTHER.hashed})
    assert answer.status == 200
    link = bridge.links()[-1]
    # As clients of releases before 7.5 do, logged in with the new password.
    assert bridge.request('GET', link, by=OTHER).status == 200
    assert bridge.request('GET', '/buckets', by=ALICE).status == 401
    assert bridge.request('GET', '/buckets', by=OTHER).status == 200
    assert bridge.request('GET', link, by=OTHER).status == 404


def test_reset_by_the_page_of_the_link(bridge: RunningBridge) -> None:
    activate(bridge)
    bridge.clock.now += 1
    bridge.request('PATCH', f'/users/{ALICE.email}', {})
    link = bridge.links()[-1]
    headers = {'accept': 'text/html', 'content-type': 'application/x-www-form-urlencoded'}
    assert bridge.request('POST', link, raw=b'password=', headers=headers).status == 400
    typed = b'password=another+password'
    assert bridge.request('POST', link, raw=typed, headers=headers).status == 200
    assert bridge.request('GET', '/buckets', by=OTHER).status == 200


def test_reset_tells_nothing_about_an_account(bridge: RunningBridge) -> None:
    activate(bridge)
    bridge.clock.now += 1
    answers = [
        bridge.request('PATCH', f'/users/{email}', {'password': OTHER.hashed})
        for email in (ALICE.email, 'nobody@example.org')
    ]
    assert [answer.status for answer in answers] == [200, 200]
    assert [sorted(answer.json) for answer in answers] == [['email', 'id']] * 2
    assert sum(link.startswith('/resets/') for link in bridge.links()) == 1


def test_reset_with_the_password_sent_last(bridge: RunningBridge) -> None:
    activate(bridge)
    bridge.clock.now += 1
    assert bridge.request('PATCH', f'/users/{ALICE.email}', {}).status == 200
    link = bridge.links()[-1]
    # Nothing is pending that a GET could put into force.
    assert bridge.request('GET', link).status == 400
    answer = bridge.request('POST', link, {'password': 'abcd'})
    assert (answer.status, answer.error) == (400, 'Password must be hex encoded SHA-256 hash')
    assert bridge.request('POST', link, {'password': OTHER.hashed}).status == 200
    assert bridge.request('GET', '/buckets', by=OTHER).status == 200
    assert bridge.request('POST', link, {'password': OTHER.hashed}).status == 404


def test_reset_refuses_bad_requests(bridge: RunningBridge) -> None:
    activate(bridge)
    answer = bridge.request('PATCH', '/users/nobody', {'password': OTHER.hashed})
    assert (answer.status, answer.error) == (400, 'Invalid email')
    answer = bridge.request('PATCH', f'/users/{ALICE.email}', {'password': 'zz'})
    assert (answer.status, answer.error) == (400, 'Password must be hex encoded SHA-256 hash')
    answer = bridge.request('GET', '/resets/abcd')
    assert (answer.status, answer.error) == (400, 'Resetter must be hex encoded 256 byte string')
    assert bridge.request('GET', '/resets/' + 'ab' * 256).status == 404


def test_reset_without_password_is_refused_by_an_older_release(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, version='2.2.4') as bridge:
        bridge.account()
        assert bridge.request('PATCH', f'/users/{ALICE.email}').status == 400


def test_secrets_are_neither_on_disk_nor_readable_by_others(bridge: RunningBridge) -> None:
    activate(bridge)
    bucket = bridge.bucket(ALICE)
    answer = bridge.request('POST', f'/buckets/{bucket}/tokens', {'operation': 'PULL'}, by=ALICE)
    bridge.clock.now += 1
    bridge.request('PATCH', f'/users/{ALICE.email}', {})
    with sqlite3.connect(bridge.path / 'bridge.db') as database:
        dump = '\n'.join(database.iterdump())
    database.close()
    for secret in (ALICE.hashed, answer.json['token'], *(bridge.links()[-1].split('/')[-1:])):
        assert secret not in dump
    kept = [bridge.path / 'bridge.db', *(bridge.path / 'outbox').iterdir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
    assert stat.S_IMODE((bridge.path / 'outbox').stat().st_mode) == 0o700


def test_internal_error_shows_and_logs_no_secret(
    bridge: RunningBridge, caplog: pytest.LogCaptureFixture
) -> None:
    register(bridge)
    (link,) = bridge.links()
    with bridge.state.database.begin() as session:
        session.execute(text('ALTER TABLE users RENAME TO lost'))
    answer = bridge.request('GET', link)
    assert (answer.status, answer.error) == (500, 'Internal error')
    answer = bridge.request('GET', '/buckets', by=ALICE)
    assert (answer.status, answer.error) == (500, 'Internal error')
    assert 'GET /activations/{token} failed' in caplog.text
    for secret in (link.split('/')[-1], ALICE.email, ALICE.hashed):
        assert secret not in caplog.text


def test_state_survives_a_restart(tmp_path: Path) -> None:
    with RunningBridge(tmp_path) as bridge:
        alice = bridge.account()
        bucket = bridge.bucket(alice)
    with RunningBridge(tmp_path) as bridge:
        assert bridge.request('GET', f'/buckets/{bucket}', by=alice).status == 200


@pytest.mark.parametrize(
    'url',
    ['no url', 'nosuch://x', 'sqlite:////nosuch/folder/bridge.db', 'mysql+nosuch://u:secret@h/d'],
)
def test_database_that_cannot_be_used_is_a_clear_error(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Database(url)
    assert 'secret' not in str(caught.value)


@pytest.mark.parametrize('revision', [str(int(REVISION) + 1), '100', '1975ea83b712'])
def test_database_of_a_later_version_is_refused(tmp_path: Path, revision: str) -> None:
    url = f'sqlite:///{tmp_path / "bridge.db"}'
    Database(url).close()
    with closing(sqlite3.connect(tmp_path / 'bridge.db')) as database, database:
        database.execute('UPDATE alembic_version SET version_num = ?', (revision,))
    other = '' if revision.isdecimal() else ', or by another one'
    later = f'bridge.db: made by a later version of this program{other}: .* of revision {revision},'
    with pytest.raises(ConfigurationError, match=later):
        Database(url)
    # From Python 3.13 on a connection that was left open speaks up here.
    gc.collect()


@pytest.mark.parametrize(
    'change',
    [
        'ALTER TABLE buckets ADD COLUMN colour TEXT',
        # As if a column was missing that has no default.
        'ALTER TABLE buckets RENAME COLUMN created TO made',
    ],
)
def test_database_of_another_program_is_refused(tmp_path: Path, change: str) -> None:
    url = f'sqlite:///{tmp_path / "bridge.db"}'
    Database(url).close()
    Database(url).close()
    with closing(sqlite3.connect(tmp_path / 'bridge.db')) as database:
        database.execute('DROP TABLE alembic_version')
        database.execute('CREATE TABLE bridge_schema (fingerprint VARCHAR(64) PRIMARY KEY)')
        database.execute(change)
    with pytest.raises(ConfigurationError, match='another version'):
        Database(url)
    gc.collect()


@pytest.mark.parametrize('content', [b'no database' * 1000, None])
def test_file_of_something_else_is_refused_and_closed(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / 'bridge.db'
    if content is not None:
        path.write_bytes(content)
    else:
        with closing(sqlite3.connect(path)) as database:
            database.execute('CREATE TABLE alembic_version (other)')
    with pytest.raises(ConfigurationError, match='cannot be used'):
        Database(f'sqlite:///{path}')
    gc.collect()


def test_database_may_live_in_memory(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, database_url='sqlite://') as bridge:
        alice = bridge.account()
        assert bridge.request('GET', '/buckets', by=alice).json == []


def test_password_is_hashed_slowly_and_with_salt(cost_of_passwords: int) -> None:
    passwords = Passwords(cost=cost_of_passwords)

    async def scenario() -> None:
        first, second = await passwords.hash('same'), await passwords.hash('same')
        assert first != second
        name, cost, *_ = first.split('$')
        assert name == 'scrypt'
        assert int(cost) >= 2**15

    try:
        asyncio.run(scenario())
    finally:
        passwords.close()


def test_old_hash_is_replaced_at_the_next_login(tmp_path: Path) -> None:
    def stored() -> str:
        with bridge.state.database.begin() as session:
            return session.get_one(User, ALICE.email).password

    with RunningBridge(tmp_path) as bridge:
        alice = bridge.account()
        salt = bytes(16)
        key = hashlib.scrypt(alice.hashed.encode(), salt=salt, n=2**4, r=8, p=1, dklen=32)
        old = f'scrypt$16$8$1${salt.hex()}${key.hex()}'
        with bridge.state.database.begin() as session:
            session.get_one(User, ALICE.email).password = old
        assert bridge.request('GET', '/buckets', by=OTHER).status == 401
        assert stored() == old
        assert bridge.request('GET', '/buckets', by=alice).status == 200
        assert stored() != old
        assert bridge.request('GET', '/buckets', by=alice).status == 200


def test_verified_password_is_checked_again_only_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checks = 0
    scrypt = hashlib.scrypt

    def counted(password: bytes, **options: Any) -> bytes:
        nonlocal checks
        checks += 1
        return scrypt(password, **options)

    clock = Clock()
    passwords = Passwords(clock, cost=2**6)

    async def scenario() -> None:
        stored, other = [await passwords.hash('right') for _ in range(2)]
        monkeypatch.setattr(hashlib, 'scrypt', counted)
        # Right by construction.
        assert await passwords.verify('right', stored)
        assert checks == 0
        clock.now += 301
        crowd = [passwords.verify('right', stored) for _ in range(20)]
        assert await asyncio.gather(*crowd) == [True] * 20
        assert checks == 1
        assert not await passwords.verify('wrong', stored)
        assert not await passwords.verify('wrong', stored)
        assert not await passwords.verify('right', None)
        assert checks == 4
        clock.now += 301
        assert await passwords.verify('right', stored)
        assert checks == 5
        # Another hash of the same password is another credential.
        assert await passwords.verify('right', other)
        assert checks == 6

    try:
        asyncio.run(scenario())
    finally:
        passwords.close()


def test_body_as_deep_as_can_just_be_read_is_400_or_counts_as_none(bridge: RunningBridge) -> None:
    # The limit is the interpreter's, and reading stands one call nearer to it than writing.
    for depth in range(900, 1010):
        raw = b'{"email": "\\u0041", "deep": ' + b'[' * depth + b']' * depth + b'}'
        assert bridge.request('POST', '/users', raw=raw).status == 400


def test_account_that_another_bridge_opens_meanwhile_is_kept(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, passwords = Account('owner@example.org'), bridge.state.passwords
    hashed = passwords.hash
    uuids: list[str] = []

    async def slow(password: str) -> str:
        monkeypatch.undo()
        # The other one, from its first look to its last, while this one hashes.
        await open_account(bridge.state, owner.email, owner.password)
        uuids.append(await bridge.state.database.run_objects(uuid_of_owner))
        return await hashed(password)

    def uuid_of_owner(session: Session) -> str:
        return session.get_one(User, owner.email).uuid

    monkeypatch.setattr(passwords, 'hash', slow)
    bridge.call(lambda: open_account(bridge.state, owner.email, owner.password))
    assert uuids == [bridge.call(lambda: bridge.state.database.run_objects(uuid_of_owner))]
    assert bridge.request('GET', '/buckets', by=owner).status == 200
