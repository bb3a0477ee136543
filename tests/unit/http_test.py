"""The calls of the client, with its seam replaced: what is asked, and what is made of the answer.

The bodies of real bridges are in http_recordings_test.
"""

from __future__ import annotations

import inspect
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl

import pytest
from ecdsa import NIST256p, SECP256k1, SigningKey

from storj import api, exception, model, sharding, transfer
from storj.crypto import keys as content_keys
from storj.crypto import names
from storj.http import Client
from storj.rest import paging

KEY = SigningKey.from_secret_exponent(0x1234, curve=SECP256k1)
HEX = api.ecdsa_to_hex(KEY.get_verifying_key().to_string())
WORDS = 'abandon ' * 11 + 'about'
BUCKET = '0123456789ab0123456789ab'


@pytest.fixture
def request_() -> Iterator[mock.MagicMock]:
    with mock.patch.object(Client, '_request') as replaced:
        yield replaced


@pytest.fixture
def client() -> Client:
    return Client('alice@example.org', 'pw')


@pytest.mark.parametrize(
    ('options', 'body'),
    [
        ({}, {}),
        (
            {'mimetype': 'm/t', 'index': 'i', 'hmac': 'h', 'erasure': True},
            {
                'mimetype': 'm/t',
                'index': 'i',
                'hmac': {'type': 'sha512', 'value': 'h'},
                'erasure': {'type': 'reedsolomon'},
            },
        ),
    ],
)
def test_file_is_made_of_a_frame(
    client: Client, request_: mock.MagicMock, options: dict[str, Any], body: dict[str, Any]
) -> None:
    request_.return_value = {'id': 'f', 'bucket': 'b'}
    assert client.file_create('b', 'r', 'n', **options) == model.File(id='f', bucket='b')
    request_.assert_called_once_with(
        method='POST',
        path='/buckets/b/files',
        json={'frame': 'r', 'filename': 'n', **body},
    )


# -- what is refused before anything is sent -------------------------------------------------------

BAD_IDS = [
    None,
    '',
    ' ',
    1.5,
    b'x',
    True,
    [],
    '.',
    '..',
    'a/b',
    '../x',
    'a\\b',
    'a b',
    'a\nb',
    'a\0b',
]

ONE_ID = [
    'bucket_delete',
    'bucket_file_pages',
    'bucket_files',
    'bucket_get',
    'contact_lookup',
    'frame_delete',
    'frame_get',
    'user_activate',
    'user_deactivate',
    'user_delete',
    'user_reset_password',
    'user_reset_password_confirmation',
]
TWO_IDS = [
    'file_metadata',
    'file_mirrors',
    'file_remove',
    'file_pointers',
    'file_download',
    'file_verify',
]


@pytest.mark.parametrize('bad', BAD_IDS)
@pytest.mark.parametrize('name', ONE_ID + TWO_IDS)
def test_malformed_id_is_refused(
    client: Client, request_: mock.MagicMock, name: str, bad: Any
) -> None:
    argument_lists = [(bad,)] if name in ONE_ID else [(bad, 'f'), ('b', bad)]
    for args in argument_lists:
        with pytest.raises((TypeError, ValueError)):
            getattr(client, name)(*args)
    request_.assert_not_called()


@pytest.mark.parametrize(
    ('name', 'args', 'options'),
    [
        ('bucket_create', (None,), {}),
        ('bucket_create', ('',), {}),
        ('bucket_create', ('  ',), {}),
        ('bucket_create', (5,), {}),
        ('bucket_create', ('n', -1), {}),
        ('bucket_create', ('n', 1.5), {}),
        ('bucket_create', ('n', None, True), {}),
        ('bucket_id', (None,), {}),
        ('bucket_id', ('',), {}),
        ('bucket_set_keys', ('b', 'n', HEX), {}),
        ('bucket_set_keys', ('b', 'n', [b'nonsense']), {}),
        ('bucket_set_keys', ('b', 'n', [None]), {}),
        ('bucket_set_keys', ('b', '', [HEX]), {}),
        ('bucket_set_mirrors', ('b', None, 1), {}),
        ('bucket_set_mirrors', ('b', 'f', 'x'), {}),
        ('bucket_set_mirrors', ('b', 'f', -1), {}),
        ('contact_list', (0,), {}),
        ('contact_list', ('x',), {}),
        ('contact_list', (1, 5), {}),
        ('file_create', ('b', None, 'n'), {}),
        ('file_create', ('b', 'r', ''), {}),
        ('file_create', ('b', 'r', 'n'), {'index': 5}),
        ('file_id', ('b', ''), {}),
        ('file_id', (None, 'n'), {}),
        ('file_pointers', ('b', 'f', -1), {}),
        ('file_pointers', ('b', 'f', 'x'), {}),
        ('file_pointers', ('b', 'f', '\u0665'), {}),
        ('file_pointers', ('b', 'f', 0, 0), {}),
        ('file_pointers', ('b', 'f', 0, 1.5), {}),
        ('file_pointers', ('b', 'f'), {'exclude': 'node'}),
        ('file_pointers', ('b', 'f'), {'exclude': [None]}),
        ('file_upload', (None, 'x'), {}),
        ('file_upload', ('b', None), {}),
        ('frame_add_shard', (model.Shard(hash='h', size=1, index=0), None), {}),
        ('frame_add_shard', (model.Shard(hash='h', size=1, index=0), 'r', 'node'), {}),
        ('frame_add_shard', ({'hash': 'h'}, 'r'), {}),
        ('key_delete', (None,), {}),
        ('key_delete', ('',), {}),
        ('key_register', (None,), {}),
        ('key_register', ('',), {}),
        ('key_register', ('nonsense',), {}),
        ('key_register', ('04' + '00' * 64,), {}),
        ('key_register', (b'short',), {}),
        ('key_register', (KEY,), {}),
        ('key_register', (KEY.to_pem(),), {}),
        ('key_register', (SigningKey.generate(NIST256p).get_verifying_key(),), {}),
        ('key_register', (HEX,), {'label': ''}),
        ('send_exchange_report', ({},), {}),
        ('token_create', ('b', None), {}),
        ('token_create', ('b', ''), {}),
        ('token_create', ('b', 'PULL', ''), {}),
        ('user_create', (None, 'p'), {}),
        ('user_create', ('e@x', None), {}),
        ('user_create', ('e@x', ''), {}),
        ('user_create', ('', 'p'), {}),
        ('user_activation_email', (None, 't'), {}),
        ('user_reset_password', ('e@x', ''), {}),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    client: Client, request_: mock.MagicMock, name: str, args: Any, options: Any
) -> None:
    with pytest.raises((TypeError, ValueError)):
        getattr(client, name)(*args, **options)
    request_.assert_not_called()


# -- buckets ---------------------------------------------------------------------------------------


def test_records_act_through_their_client(client: Client, request_: mock.MagicMock) -> None:
    request_.return_value = {'id': 'f', 'bucket': 'b'}
    bucket, file = client.bucket_get('f'), client.file_metadata('b', 'f')
    request_.reset_mock()
    request_.return_value = {}
    assert bucket is not None
    bucket.delete()
    file.delete()
    assert [call.kwargs['path'] for call in request_.call_args_list] == [
        '/buckets/f',
        '/buckets/b/files/f',
    ]


def test_files_bucket_is_known_even_if_the_bridge_does_not_say_it(
    client: Client, request_: mock.MagicMock
) -> None:
    request_.return_value = {'id': 'f'}
    assert client.file_metadata('b', 'f').bucket == 'b'


def test_entries_of_a_listing_are_the_callers_to_change(
    client: Client, request_: mock.MagicMock
) -> None:
    request_.return_value = [{'id': 'f', 'created': '2016-11-23T10:15:30.123Z'}]
    files = client.bucket_files(bucket_id='b')
    for file in files:
        file['created'] = file['created'][:10]
    assert files[0] == {'id': 'f', 'created': '2016-11-23'}


# -- names -----------------------------------------------------------------------------------------


class Directory:
    """The routes that look up names, of a bridge of some release."""

    def __init__(
        self,
        version: str,
        stored: list[str],
        *,
        describes_itself: bool = True,
        bucket_id: str = BUCKET,
    ) -> None:
        self.version = version
        self.bucket_id = bucket_id
        self.files = {sharding.file_id(bucket_id, name): name for name in stored}
        self.buckets = {sharding.bucket_id('alice@example.org', name): name for name in stored}
        self.describes_itself = describes_itself
        self.asked: list[str] = []

    def __call__(self, method: str, path: str, **kwargs: Any) -> Any:
        self.asked.append(path)
        if path == '/':
            if not self.describes_itself:
                raise exception.NotFoundError('no such route', 404)
            return {'info': {'version': self.version}}
        if path == '/buckets':
            return [{'id': key, 'name': name} for key, name in self.buckets.items()]
        if path == f'/buckets/{self.bucket_id}':
            return {'id': self.bucket_id, 'user': 'alice@example.org', 'name': 'photos'}
        if path == f'/buckets/{self.bucket_id}/files/':
            return [{'id': key, 'filename': name} for key, name in self.files.items()]
        for prefix, entries in (
            ('/bucket-ids/', self.buckets),
            (f'/buckets/{self.bucket_id}/file-ids/', self.files),
        ):
            if path.startswith(prefix):
                assert self.version >= '5.14'
                for key, name in entries.items():
                    if api.segment(name) == path.removeprefix(prefix):
                        return {'id': key}
                raise exception.NotFoundError('not found', 404)
        if path.endswith('/info'):
            identifier = path.split('/')[-2]
            if identifier in self.files:
                return {'id': identifier, 'filename': self.files[identifier]}
        raise exception.NotFoundError('not found', 404)


NAMES = ['plain', 'with space', 'a/b', 'ä ü', '..', '%2F']


@pytest.mark.parametrize('version', ['1.0.0', '2.2.4', '5.24.1', '7.7.1', 'unsaid'])
@pytest.mark.parametrize('words', [None, WORDS])
@pytest.mark.parametrize('name', NAMES)
def test_name_is_found_on_every_bridge(version: str, words: str | None, name: str) -> None:
    stored_file, stored_bucket = name, name
    if words:
        key = content_keys.bucket_key(words, BUCKET)
        stored_file = names.encrypt_file_name(key, BUCKET, name)
        stored_bucket = names.encrypt_bucket_name(words, name)
    for client_words in {words, WORDS}:
        bridge = Directory(
            version, [stored_file, stored_bucket, 'other'], describes_itself=version != 'unsaid'
        )
        client = Client('alice@example.org', 'pw', mnemonic=client_words)
        with mock.patch.object(Client, '_request', side_effect=bridge):
            assert client.file_id(BUCKET, name) == sharding.file_id(BUCKET, stored_file)
            # The engine asks for the name as it is stored.
            assert client.file_id(BUCKET, stored_file) == sharding.file_id(BUCKET, stored_file)
            expected = sharding.bucket_id('alice@example.org', stored_bucket)
            assert client.bucket_id(name) == client.bucket_id(stored_bucket) == expected
            assert client.file_id(BUCKET, 'nothing') is None
            assert client.bucket_id('nothing') is None
            assert client.file_name(BUCKET, stored_file) == name
            assert client.bucket_name(stored_bucket) == name


RANDOM = '57fd1a0c9d1e2b3c4d5e6f70'


@pytest.mark.parametrize('version', ['1.0.0', '2.2.4', '5.13.0', '7.7.1'])
def test_name_of_two_files_is_an_error_with_both_ids(version: str) -> None:
    key = content_keys.bucket_key(WORDS, BUCKET)
    stored = names.encrypt_file_name(key, BUCKET, 'twice')
    bridge = Directory(version, ['twice', stored, 'once'])
    ids = {sharding.file_id(BUCKET, each) for each in ('twice', stored)}
    client = Client('alice@example.org', 'pw', mnemonic=WORDS)
    with mock.patch.object(Client, '_request', side_effect=bridge):
        with pytest.raises(exception.AmbiguousNameError, match="'twice'") as caught:
            client.file_id(BUCKET, 'twice')
        assert set(caught.value.ids) == ids
        assert all(each in str(caught.value) for each in ids)
        # What is named as it is stored is one.
        assert client.file_id(BUCKET, stored) in ids
        assert client.file_id(BUCKET, 'twice', stored=True) in ids
        assert client.file_id(BUCKET, 'once') == sharding.file_id(BUCKET, 'once')


@pytest.mark.parametrize('version', ['2.2.4', '7.7.1'])
def test_name_of_two_buckets_is_an_error_with_both_ids(version: str) -> None:
    stored = names.encrypt_bucket_name(WORDS, 'twice')
    bridge = Directory(version, ['twice', stored, 'once'])
    client = Client('alice@example.org', 'pw', mnemonic=WORDS)
    with mock.patch.object(Client, '_request', side_effect=bridge):
        with pytest.raises(exception.AmbiguousNameError, match="'twice'") as caught:
            client.bucket_id('twice')
        assert set(caught.value.ids) == {
            sharding.bucket_id('alice@example.org', each) for each in ('twice', stored)
        }
        assert client.bucket_id('once') is not None


@pytest.mark.parametrize('version', ['2.2.4', '7.7.1'])
@pytest.mark.parametrize(
    ('present', 'new', 'encrypt_name'),
    [
        ('clear', 'clear', None),
        ('encrypted', 'clear', False),
        ('clear', 'encrypted', None),
        ('clear', 'encrypted', False),
    ],
)
def test_second_bucket_of_a_visible_name_is_refused(
    version: str, present: str, new: str, encrypt_name: bool | None
) -> None:
    forms = {'clear': 'photos', 'encrypted': names.encrypt_bucket_name(WORDS, 'photos')}
    bridge = Directory(version, [forms[present]])
    client = Client('alice@example.org', 'pw', mnemonic=WORDS)
    with (
        mock.patch.object(Client, '_request', side_effect=bridge),
        pytest.raises(exception.AlreadyExistsError, match='photos') as caught,
    ):
        client.bucket_create(forms[new], encrypt_name=encrypt_name)
    assert next(iter(bridge.buckets)) in str(caught.value)


def test_bucket_listed_twice_or_without_an_id_counts_once() -> None:
    client = Client('alice@example.org', 'pw')
    client._profile = api.BridgeProfile(version=(2, 2, 4))
    listed = [model.Bucket(id=each, name='a') for each in (None, 'b', 'b')]
    with mock.patch.object(Client, 'bucket_list', return_value=listed):
        assert client.bucket_id('a') == 'b'


def test_name_cannot_be_encrypted_without_a_key() -> None:
    client = Client('alice@example.org', 'pw')
    with pytest.raises(exception.MnemonicError):
        client.bucket_create('photos', encrypt_name=True)


@pytest.mark.parametrize('version', ['1.0.0', '2.2.4', '5.13.0', 'unsaid'])
def test_file_of_a_random_id_is_found_by_its_name(version: str) -> None:
    key = content_keys.bucket_key(WORDS, BUCKET)
    stored = names.encrypt_file_name(key, BUCKET, 'old')
    bridge = Directory(version, ['new'], describes_itself=version != 'unsaid')
    bridge.files |= {RANDOM: stored, 'f' * 24: 'plain'}
    client = Client('alice@example.org', 'pw', mnemonic=WORDS)
    with mock.patch.object(Client, '_request', side_effect=bridge):
        assert client.file_id(BUCKET, 'old') == RANDOM
        assert client.file_id(BUCKET, stored) == RANDOM
        assert client.file_id(BUCKET, 'plain') == 'f' * 24
        assert client.file_id(BUCKET, 'new') == sharding.file_id(BUCKET, 'new')
        assert client.file_id(BUCKET, 'nothing') is None


@pytest.mark.parametrize('version', ['2.2.4', '5.13.0'])
def test_bucket_of_a_computed_id_is_not_listed(version: str) -> None:
    bucket_id = sharding.bucket_id('alice@example.org', 'photos')
    bridge = Directory(version, [], bucket_id=bucket_id)
    client = Client('alice@example.org', 'pw')
    with mock.patch.object(Client, '_request', side_effect=bridge):
        assert client.file_id(bucket_id, 'nothing') is None
    assert bridge.asked == [
        '/',
        f'/buckets/{bucket_id}/files/{sharding.file_id(bucket_id, "nothing")}/info',
        f'/buckets/{bucket_id}',
    ]


def test_endless_list_is_not_searched_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, 'MAX_ENTRIES', 2)
    bridge = Directory('1.0.0', ['a', 'b', 'c'])
    client = Client('alice@example.org', 'pw')
    with mock.patch.object(Client, '_request', side_effect=bridge):
        assert client.file_id(BUCKET, 'b') == sharding.file_id(BUCKET, 'b')
        with pytest.raises(exception.BridgeUnavailableError, match='no more than 2 entries'):
            client.file_id(BUCKET, 'nothing')


def test_stored_name_is_asked_for_once() -> None:
    key = content_keys.bucket_key(WORDS, BUCKET)
    stored = names.encrypt_file_name(key, BUCKET, 'name')
    bridge = Directory('7.7.1', [])
    client = Client('alice@example.org', 'pw', mnemonic=WORDS)
    with mock.patch.object(Client, '_request', side_effect=bridge):
        assert client.file_id(BUCKET, stored) is None
    assert bridge.asked == ['/', f'/buckets/{BUCKET}/file-ids/{api.segment(stored)}']


@pytest.mark.parametrize('answer', [None, [], {}, {'id': 5}, 'x'])
def test_id_of_another_shape_is_an_error(
    client: Client, request_: mock.MagicMock, answer: Any
) -> None:
    client._profile = api.BridgeProfile(version=(7, 7, 1))
    request_.return_value = answer
    with pytest.raises(exception.BridgeUnavailableError):
        client.bucket_id('name')


def test_files_name_is_clear_and_its_filename_as_stored(client: Client) -> None:
    client.mnemonic = WORDS
    key = content_keys.bucket_key(WORDS, BUCKET)
    stored = names.encrypt_file_name(key, BUCKET, 'größe.txt')
    answer = {'bucket': BUCKET, 'id': 24 * 'f', 'filename': stored}
    with mock.patch.object(Client, '_request', return_value=answer):
        file = client.file_metadata(BUCKET, 24 * 'f')
    assert (file.name, file.filename) == ('größe.txt', stored)
    client.mnemonic = None
    assert file.name == stored


def test_names_of_other_words_stay_as_they_are(client: Client) -> None:
    stored = names.encrypt_bucket_name('other words', 'name')
    assert client.bucket_name(stored) == stored
    assert client.file_name(BUCKET, 'plain') == 'plain'
    other = Client(None, None, mnemonic=WORDS)
    assert other.bucket_name(stored) == stored
    assert other.file_name(BUCKET, stored) == stored


# -- the bridge itself -----------------------------------------------------------------------------


def test_profile_is_asked_for_once(client: Client, request_: mock.MagicMock) -> None:
    request_.return_value = {'info': {'version': '5.24.1'}}
    assert client.profile() is client.profile()
    assert client.profile().version == (5, 24, 1)
    request_.assert_called_once()


@pytest.mark.parametrize(
    'answer', [{}, [], None, 'x', {'info': 5}, exception.NotFoundError('no', 404)]
)
def test_bridge_that_says_nothing_gets_a_careful_profile(
    client: Client, request_: mock.MagicMock, answer: Any
) -> None:
    request_.side_effect = [answer]
    assert client.profile() == client.profile() == api.BridgeProfile()


def test_bridge_in_trouble_is_asked_again(client: Client, request_: mock.MagicMock) -> None:
    request_.side_effect = [
        exception.BridgeUnavailableError('down', 503),
        {'info': {'version': '7.7.1'}},
    ]
    assert client.profile().version is None
    assert client.profile().version == (7, 7, 1)


def test_unreachable_bridge_has_no_profile(client: Client, request_: mock.MagicMock) -> None:
    request_.side_effect = exception.BridgeUnreachableError('gone')
    with pytest.raises(exception.BridgeUnreachableError):
        client.profile()


@pytest.mark.parametrize(
    ('version', 'answer', 'healthy'),
    [
        ((7, 0, 0), 'OK', True),
        ((7, 0, 0), 'Service Unavailable', False),
        ((7, 0, 0), exception.BridgeUnavailableError('x', 503), False),
        ((2, 2, 4), {}, True),
        ((2, 2, 4), exception.BridgeUnavailableError('x', 502), False),
    ],
)
def test_health_is_that_of_the_bridge(
    client: Client, request_: mock.MagicMock, version: Any, answer: Any, healthy: bool
) -> None:
    client._profile = api.BridgeProfile(version=version)
    request_.side_effect = [answer]
    assert client.health() is healthy
    path = '/health' if version[0] == 7 else '/'
    assert request_.call_args.kwargs['path'] == path


# -- pointers --------------------------------------------------------------------------------------


class Pointers:
    """Tokens and pages of pointers."""

    def __init__(self, count: int, *, indexed: bool, window: Any = None) -> None:
        self.shards = [
            {'hash': f'{number:040x}', 'size': 1, **({'index': number} if indexed else {})}
            for number in range(count)
        ]
        self.window = window or (lambda skip, limit: slice(skip, skip + limit))
        self.tokens: list[str] = []
        self.pages: list[str] = []

    def __call__(self, method: str, path: str, **kwargs: Any) -> Any:
        if path == '/buckets/b/tokens':
            assert kwargs == {'json': {'operation': 'PULL'}}
            self.tokens.append(f'token{len(self.tokens)}')
            return {'token': self.tokens[-1]}
        route, _, query = path.partition('?')
        assert route == '/buckets/b/files/f/'
        assert kwargs == {'headers': {'x-token': self.tokens[-1]}}
        self.pages.append(query)
        assert len(self.pages) == len(self.tokens) < 100
        given = dict(parse_qsl(query))
        return self.shards[self.window(int(given.get('skip', 0)), int(given.get('limit', 6)))]


def pointers_of(bridge: Any, **options: Any) -> Any:
    with mock.patch.object(Client, '_request', side_effect=bridge):
        pointers = Client('e', 'p').file_pointers('b', 'f', **options)
        return list(pointers)


@pytest.mark.parametrize('indexed', [True, False])
@pytest.mark.parametrize('count', [0, 1, 5, 6, 7, 12, 20])
def test_all_pointers_come_with_a_token_per_page(count: int, indexed: bool) -> None:
    bridge = Pointers(count, indexed=indexed)
    assert [pointer.hash for pointer in pointers_of(bridge)] == [
        shard['hash'] for shard in bridge.shards
    ]
    # A short page is the last.
    pages = [f'skip={6 * number}&limit=6' for number in range(1, count // 6 + 1)]
    assert bridge.pages == ['', *pages]
    assert len(set(bridge.tokens)) == len(bridge.pages)


@pytest.mark.parametrize(
    ('skip', 'limit', 'query', 'found'),
    [
        ('2', '3', 'skip=2&limit=3', [2, 3, 4]),
        (2, 3, 'skip=2&limit=3', [2, 3, 4]),
        (0, 1, 'skip=0&limit=1', [0]),
        (None, 50, 'skip=0&limit=50', list(range(20))),
        (99, 6, 'skip=99&limit=6', []),
    ],
)
def test_slice_of_pointers_is_one_request(
    skip: Any, limit: Any, query: str, found: list[int]
) -> None:
    bridge = Pointers(20, indexed=True)
    pointers = pointers_of(bridge, skip=skip, limit=limit)
    assert [pointer.index for pointer in pointers] == found
    assert bridge.pages == [query]


def test_pointers_from_an_index_on_go_to_the_end() -> None:
    pointers = pointers_of(Pointers(20, indexed=True), skip=15)
    assert [pointer.index for pointer in pointers] == [15, 16, 17, 18, 19]


def test_farmers_can_be_excluded() -> None:
    bridge = Pointers(1, indexed=True)
    pointers_of(bridge, exclude=['n1', 'n2'], limit=1)
    assert bridge.pages == ['skip=0&limit=1&exclude=n1,n2']


@pytest.mark.parametrize('indexed', [True, False])
def test_bridge_with_too_wide_pages_brings_every_pointer_once(indexed: bool) -> None:
    # Bridges 3.1.2 to 4.2.2 take the digits of skip and limit together as the end.
    wide = lambda skip, limit: slice(skip, int(f'{skip}{limit}'))  # noqa: E731
    bridge = Pointers(100, indexed=indexed, window=wide)
    assert len(pointers_of(bridge)) == 100


@pytest.mark.parametrize('count', [3, 6, 7, 40])
def test_bridge_that_repeats_its_pointers_ends_the_list(count: int) -> None:
    bridge = Pointers(count, indexed=True, window=lambda skip, limit: slice(None))
    assert len(pointers_of(bridge)) == count


def test_bridge_without_pages_and_indexes_ends_the_list() -> None:
    # Bridges below 0.10.
    bridge = Pointers(40, indexed=False, window=lambda skip, limit: slice(None))
    assert len(pointers_of(bridge)) == 40


def test_endless_pointers_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, 'MAX_ENTRIES', 20)
    bridge = Pointers(40, indexed=False, window=lambda skip, limit: slice(0, 6))
    with pytest.raises(exception.BridgeUnavailableError, match='20 entries'):
        pointers_of(bridge)


def test_pointers_can_be_read_twice_and_by_index() -> None:
    bridge = Pointers(8, indexed=True)
    with mock.patch.object(Client, '_request', side_effect=bridge):
        pointers = Client('e', 'p').file_pointers('b', 'f')
        assert len(bridge.pages) == 1
        assert pointers[0]['hash'] == bridge.shards[0]['hash']
        assert len(bridge.pages) == 1
        assert list(pointers) == list(pointers)
        assert len(pointers) == 8
        assert len(bridge.pages) == 2


def test_bridge_known_to_need_no_token_gets_none(client: Client, request_: mock.MagicMock) -> None:
    client._profile = api.BridgeProfile(version=(5, 16, 0))
    request_.side_effect = [[{'hash': 'h'}], []]
    assert len(client.file_pointers('b', 'f')) == 1
    assert all('headers' not in call.kwargs for call in request_.call_args_list)


# -- frames ----------------------------------------------------------------------------------------


def shard_body(client: Client, request_: mock.MagicMock, *args: Any, **fields: Any) -> Any:
    request_.return_value = {'farmer': {'address': 'a'}, 'hash': 'h', 'token': 't'}
    shard = model.Shard(hash='h', size=5, index=0, challenges=['c'], **fields)
    answer = client.frame_add_shard(shard, 'r', *args)
    assert answer['farmer']['address'] == 'a'
    return request_.call_args.kwargs['json']


def test_shard_is_sent_with_the_leaves_of_its_tree(
    client: Client, request_: mock.MagicMock
) -> None:
    tree = model.MerkleTree(['a', 'b', 'c'])
    body = shard_body(client, request_, tree=tree)
    assert body == {'hash': 'h', 'size': 5, 'index': 0, 'challenges': ['c'], 'tree': tree.leaves}


def test_plain_list_of_leaves_passes_untouched(client: Client, request_: mock.MagicMock) -> None:
    assert shard_body(client, request_, tree=['x', 'y', 'z'])['tree'] == ['x', 'y', 'z']


def test_excluded_farmers_are_sent_once_each(client: Client, request_: mock.MagicMock) -> None:
    assert shard_body(client, request_, ['b', 'c'], exclude=['a', 'b'])['exclude'] == [
        'a',
        'b',
        'c',
    ]
    assert 'exclude' not in shard_body(client, request_, [])


@pytest.mark.parametrize('parity', [True, False])
def test_parity_is_sent_when_it_is_said(
    client: Client, request_: mock.MagicMock, parity: bool
) -> None:
    assert shard_body(client, request_, parity=parity)['parity'] is parity
    assert 'parity' not in shard_body(client, request_)


# -- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'key',
    [
        KEY.get_verifying_key(),
        KEY.get_verifying_key().to_pem(),
        KEY.get_verifying_key().to_pem().decode(),
        HEX,
        HEX.upper(),
        f' {HEX}\n',
        HEX.encode(),
        bytes.fromhex(HEX),
        KEY.get_verifying_key().to_string(),
    ],
)
def test_key_is_registered_in_one_form_whatever_it_is_given_as(
    client: Client, request_: mock.MagicMock, key: Any
) -> None:
    client.key_register(key)
    request_.assert_called_once_with(method='POST', path='/keys', json={'key': HEX})


def test_compressed_key_stays_compressed(client: Client, request_: mock.MagicMock) -> None:
    compressed = KEY.get_verifying_key().to_string('compressed').hex()
    client.key_register(compressed, label='laptop')
    assert request_.call_args.kwargs['json'] == {'key': compressed, 'label': 'laptop'}


def test_keys_are_listed_as_text(client: Client, request_: mock.MagicMock) -> None:
    request_.return_value = [{'key': 'a'}, {'id': 'no key'}, {'key': 'b'}]
    assert client.key_list() == ['a', 'b']


def test_generated_key_is_kept_and_written_for_its_owner_only(
    client: Client, request_: mock.MagicMock, tmp_path: Path
) -> None:
    folder = tmp_path / 'new' / 'keys'
    private_key, public_key = client.key_generate(folder, register=False)
    assert client.private_key is private_key
    assert client.public_key == public_key
    assert stat.S_IMODE((folder / 'private.pem').stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    other = Client(None, None)
    other.key_import(folder / 'private.pem', folder / 'public.pem')
    assert other.private_key == private_key
    request_.assert_not_called()


def test_no_key_is_overwritten_unasked(
    client: Client, request_: mock.MagicMock, tmp_path: Path
) -> None:
    client.key_generate(tmp_path)
    before = (tmp_path / 'private.pem').read_bytes()
    kept = client.private_key
    with pytest.raises(FileExistsError, match='overwrite=True'):
        client.key_generate(tmp_path)
    assert (tmp_path / 'private.pem').read_bytes() == before
    assert client.private_key is kept
    # What cannot be kept is not registered.
    request_.assert_called_once()
    client.key_generate(tmp_path, overwrite=True)
    assert (tmp_path / 'private.pem').read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ['private.pem', 'public.pem']


def test_key_goes_to_the_folder_of_the_configuration_by_default(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('STORJ_CONFIG_DIR', str(tmp_path))
    private_key, _ = client.key_generate(private_name='a', public_name='b', register=False)
    assert SigningKey.from_pem((tmp_path / 'a').read_bytes()) == private_key
    assert (tmp_path / 'b').exists()


def test_client_without_key_has_none_to_export(client: Client, tmp_path: Path) -> None:
    with pytest.raises(exception.ClientError, match='key_generate'):
        client.key_export(tmp_path)
    assert client.public_key_hex is None


@pytest.mark.parametrize(
    ('private', 'public'),
    [
        (b'', None),
        (b'-----BEGIN EC PRIVATE KEY-----\nsecret\n', None),
        (b'\xff\xfe', None),
        (SigningKey.generate(NIST256p).to_pem(), None),
        (KEY.get_verifying_key().to_pem(), None),
        (KEY.to_pem(), b'nonsense'),
        (KEY.to_pem(), SigningKey.generate(SECP256k1).get_verifying_key().to_pem()),
    ],
)
def test_file_that_is_no_such_key_is_a_clear_error(
    client: Client, tmp_path: Path, private: bytes, public: bytes | None
) -> None:
    (tmp_path / 'private').write_bytes(private)
    if public is not None:
        (tmp_path / 'public').write_bytes(public)
    with pytest.raises(exception.ClientError) as caught:
        client.key_import(tmp_path / 'private', None if public is None else tmp_path / 'public')
    assert str(tmp_path) in str(caught.value)
    assert 'secret' not in str(caught.value)
    assert caught.value.__cause__ is None
    assert client.private_key is None


def test_missing_key_file_is_named(client: Client, tmp_path: Path) -> None:
    with pytest.raises(exception.ClientError, match='nothing'):
        client.key_import(tmp_path / 'nothing')


# -- users -----------------------------------------------------------------------------------------


def test_new_account_is_used_from_then_on(request_: mock.MagicMock) -> None:
    client = Client(None, '', 'http://bridge.test')
    request_.return_value = {'email': 'e@x', 'activated': False, 'created': '2016-11-23T10:15:30Z'}
    user = client.user_create('e@x', 'correct horse')
    assert user.activated is False
    assert client.email == 'e@x'
    assert client.password == request_.call_args.kwargs['json']['password']


def test_account_that_was_refused_is_not_used(client: Client, request_: mock.MagicMock) -> None:
    request_.side_effect = exception.AlreadyExistsError('taken', 400)
    with pytest.raises(exception.AlreadyExistsError):
        client.user_create('e@x', 'p')
    assert client.email == 'alice@example.org'


@pytest.mark.parametrize(
    ('version', 'in_request', 'method'),
    [
        ((2, 2, 4), True, 'GET'),
        ((7, 4, 9), True, 'GET'),
        ((7, 5, 0), False, 'POST'),
        (None, True, 'GET'),
    ],
)
def test_password_is_reset_as_the_bridge_wants_it(
    client: Client, request_: mock.MagicMock, version: Any, in_request: bool, method: str
) -> None:
    client._profile = api.BridgeProfile(version=version)
    hashed = api.hash_password('new')
    request_.return_value = {}
    client.user_reset_password('e@x', 'new')
    body = {'password': hashed} if in_request else None
    assert request_.call_args.kwargs.get('json') == body
    client.user_reset_password_confirmation('t', 'new')
    sent = request_.call_args.kwargs
    assert (sent['method'], sent['path']) == (method, '/resets/t')
    assert sent.get('json') == ({'password': hashed} if method == 'POST' else None)


def test_bridge_that_wants_the_password_is_explained(
    client: Client, request_: mock.MagicMock
) -> None:
    request_.side_effect = exception.StorjBridgeApiError('Password must be hex', 400)
    with pytest.raises(ValueError, match='new password'):
        client.user_reset_password('e@x')
    request_.side_effect = exception.NotFoundError('no', 404)
    with pytest.raises(exception.NotFoundError):
        client.user_reset_password('e@x')


# -- reports ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(('email', 'reporter'), [('e@x', 'e@x'), (None, 'anonymous')])
def test_report_names_its_reporter(
    request_: mock.MagicMock, email: str | None, reporter: str
) -> None:
    client = Client(email, None)
    client.send_exchange_report(
        model.ExchangeReport(dataHash='h', clientId='c', exchangeStart=1479896130123)
    )
    request_.assert_called_once_with(
        method='POST',
        path='/reports/exchanges',
        json={
            'reporterId': reporter,
            'clientId': 'c',
            'dataHash': 'h',
            'exchangeStart': 1479896130123,
        },
    )


# -- the engine ------------------------------------------------------------------------------------


class Engine:
    """Stands for the transfers of a client."""

    def __init__(self, bridge: Any, config: Any) -> None:
        self.bridge, self.config = bridge, config
        self.calls: list[Any] = []
        self.closed = False

    def _call(self, name: str, args: Any, options: Any) -> Any:
        self.calls.append((name, args, options))
        future = mock.Mock()
        future.result.return_value = 'result'
        return future

    def upload(self, *args: Any, **options: Any) -> Any:
        return self._call('upload', args, options)

    def download(self, *args: Any, **options: Any) -> Any:
        return self._call('download', args, options)

    def verify(self, *args: Any, decrypt: bool) -> Any:
        return 'health'

    def cancel(self) -> None:
        assert not self.closed

    def close(self) -> None:
        self.closed = True


def test_transfers_are_handed_over_and_end_with_the_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer, 'Transfers', Engine)
    config = transfer.TransferConfig(concurrency=2)
    with Client('e', 'p', transfer_config=config) as client:
        engine: Any = client.transfers
        assert client.file_upload('b', 'path', 'frame', encrypt=False) == 'result'
        assert client.file_download('b', 'f', 'to', start=1) == 'result'
        assert client.file_verify('b', 'f') == 'health'
        assert client.transfers is engine
        assert (engine.bridge, engine.config) == (client, config)
    assert engine.closed
    assert engine.calls == [
        (
            'upload',
            ('b', 'path'),
            {'frame': 'frame', 'encrypt': False, 'encrypt_name': True, 'progress': None},
        ),
        ('download', ('b', 'f', 'to'), defaults(client.file_download) | {'start': 1}),
    ]
    assert client.transfers is not engine


def defaults(method: Any) -> dict[str, Any]:
    """Return what the keywords of a method are when nobody gives them."""
    parameters = inspect.signature(method).parameters.values()
    named = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    # The file's other name is the client's own.
    named.pop('f', None)
    return named


@pytest.mark.parametrize('name', ['upload', 'download'])
def test_transfers_have_the_same_defaults_in_client_and_engine(name: str) -> None:
    own = defaults(getattr(Client, f'file_{name}'))
    theirs = defaults(getattr(transfer.Transfers, name))
    assert own == {key: theirs[key] for key in own}


def test_names_of_uploads_are_as_the_client_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, 'Transfers', Engine)
    client = Client('e', 'p', mnemonic=WORDS, plain_names=True)
    client.file_upload('b', b'x')
    client.file_upload('b', b'x', encrypt_name=True)
    engine: Any = client.transfers
    assert [options['encrypt_name'] for _, _, options in engine.calls] == [False, True]


def test_file_to_upload_brings_its_type_and_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(transfer, 'Transfers', Engine)
    path = tmp_path / 'file'
    path.write_bytes(b'x')
    client = Client('e', 'p')
    file = model.File(filename=str(path), mimetype='text/plain')
    client.file_upload('b', file)
    client.file_upload('b', file, mimetype='text/html')
    client.file_upload('b', model.File(shard_manager=model.ShardManager(path, 1)))
    engine: Any = client.transfers
    assert [(source, options['mimetype']) for _, (_, source), options in engine.calls] == [
        (file, 'text/plain'),
        (file, 'text/html'),
        (str(path), None),
    ]


def test_client_is_what_the_engine_asks_for() -> None:
    bridge: transfer.Bridge = Client('e', 'p')
    for name in vars(transfer.Bridge):
        if not name.startswith('_'):
            assert callable(getattr(bridge, name))
