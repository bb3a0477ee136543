"""What programs and tests of 0.1.5 and 0.3 see that replace ``Client._request``.

Each documented call is made with a plain answer, with none, and with a mock, which is not JSON; it
makes exactly the requests of the table. The second part is what travels of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import requests
from ecdsa import SECP256k1, SigningKey

from storj import api, exception, http, model
from storj.http import Client

from .replay import Answer, client_of

KEY = SigningKey.from_secret_exponent(0x1234, curve=SECP256k1)
PUBLIC = KEY.get_verifying_key()
HEX = api.ecdsa_to_hex(PUBLIC.to_string())

Call = Callable[[Client], Any]


@pytest.fixture
def request_() -> Iterator[mock.MagicMock]:
    with mock.patch.object(Client, '_request') as replaced:
        yield replaced


@pytest.fixture
def client() -> Client:
    return Client('alice@example.org', 'pw')


def fields(**values: Any) -> Any:
    """Return something that has the attributes of a shard and is none."""
    return mock.Mock(spec=list(values), **values)


LEAVES = ['a', 'b']
SHARD_BODY = {'hash': 'h', 'index': 0, 'challenges': ['c'], 'tree': ['t'], 'size': 5}
ODD_BODY = {'hash': 1, 'index': 'i', 'challenges': 'c', 'tree': 't', 'size': 's'}
MOCK_SHARD = mock.MagicMock()

#: Name, call, plain answer, what the call makes of it, the request.
CALLS: list[tuple[str, Call, Any, Any, dict[str, Any]]] = [
    (
        'bucket_create',
        lambda c: c.bucket_create('n', storage=0, transfer=5),
        {'id': 'b', 'name': 'n'},
        model.Bucket(id='b', name='n'),
        {'method': 'POST', 'path': '/buckets', 'json': {'name': 'n', 'storage': 0, 'transfer': 5}},
    ),
    (
        'bucket_create without limits',
        lambda c: c.bucket_create('n'),
        {},
        model.Bucket(),
        {'method': 'POST', 'path': '/buckets', 'json': {'name': 'n'}},
    ),
    (
        'bucket_create by position',
        lambda c: c.bucket_create('n', 25, 39),
        {},
        model.Bucket(),
        {
            'method': 'POST',
            'path': '/buckets',
            'json': {'name': 'n', 'storage': 25, 'transfer': 39},
        },
    ),
    (
        'bucket_delete',
        lambda c: c.bucket_delete(bucket_id='b'),
        {},
        None,
        {'method': 'DELETE', 'path': '/buckets/b'},
    ),
    (
        'bucket_delete by number',
        lambda c: c.bucket_delete(5),  # type: ignore[arg-type]
        {},
        None,
        {'method': 'DELETE', 'path': '/buckets/5'},
    ),
    (
        'bucket_files',
        lambda c: c.bucket_files(bucket_id='b'),
        [{'id': 'f', 'filename': 'n'}],
        [{'id': 'f', 'filename': 'n'}],
        {'method': 'GET', 'path': '/buckets/b/files/'},
    ),
    (
        'bucket_get',
        lambda c: c.bucket_get('b'),
        {'id': 'b'},
        model.Bucket(id='b'),
        {'method': 'GET', 'path': '/buckets/b'},
    ),
    (
        'bucket_list',
        lambda c: c.bucket_list(),
        [{'id': 'a'}, {'id': 'b'}],
        [model.Bucket(id='a'), model.Bucket(id='b')],
        {'method': 'GET', 'path': '/buckets'},
    ),
    (
        'bucket_set_keys',
        lambda c: c.bucket_set_keys('b', 'n', ['key1', 'key2']),
        {'id': 'b', 'pubkeys': ['key1', 'key2']},
        model.Bucket(id='b', pubkeys=['key1', 'key2']),
        {
            'method': 'PATCH',
            'path': '/buckets/b',
            'json': {'name': 'n', 'pubkeys': ['key1', 'key2']},
        },
    ),
    (
        'bucket_set_keys with keys',
        lambda c: c.bucket_set_keys('b', bucket_name='n', keys=[PUBLIC, HEX.upper()]),
        {},
        model.Bucket(),
        {'method': 'PATCH', 'path': '/buckets/b', 'json': {'name': 'n', 'pubkeys': [HEX, HEX]}},
    ),
    (
        'bucket_set_mirrors',
        lambda c: c.bucket_set_mirrors('b', 'f', 3),
        {'hash': 'h', 'mirrors': 3, 'status': 'pending'},
        model.Mirror(hash='h', mirrors=3, status='pending'),
        {'method': 'POST', 'path': '/buckets/b/mirrors', 'json': {'file': 'f', 'redundancy': 3}},
    ),
    (
        'contact_list',
        lambda c: c.contact_list(),
        [{'nodeID': 'n', 'port': 1}],
        [model.Contact(nodeID='n', port=1)],
        {'method': 'GET', 'path': '/contacts'},
    ),
    (
        'contact_list of a page',
        lambda c: c.contact_list('2', 'a', 'p', 'u', True),
        [],
        [],
        {
            'method': 'GET',
            'path': '/contacts',
            'params': {
                'page': 2,
                'address': 'a',
                'protocol': 'p',
                'userAgent': 'u',
                'connected': 'true',
            },
        },
    ),
    (
        'contact_lookup',
        lambda c: c.contact_lookup(node_id='n'),
        {'nodeID': 'n'},
        model.Contact(nodeID='n'),
        {'method': 'GET', 'path': '/contacts/n'},
    ),
    (
        'file_metadata',
        lambda c: c.file_metadata('b', 'f'),
        {'id': 'f', 'bucket': 'b'},
        model.File(id='f', bucket='b'),
        {'method': 'GET', 'path': '/buckets/b/files/f/info'},
    ),
    (
        'file_mirrors',
        lambda c: c.file_mirrors('b', 'f'),
        [{'established': [], 'available': [{'shardHash': 'h'}]}],
        [model.FileMirrors(available=[{'shardHash': 'h'}])],
        {'method': 'GET', 'path': '/buckets/b/files/f/mirrors'},
    ),
    (
        'file_remove',
        lambda c: c.file_remove(bucket_id='b', file_id='f'),
        {},
        None,
        {'method': 'DELETE', 'path': '/buckets/b/files/f'},
    ),
    (
        'frame_add_shard',
        lambda c: c.frame_add_shard(model.Shard(**SHARD_BODY), 'r'),
        {'hash': 'h', 'token': 't', 'farmer': {'address': 'a'}},
        {'hash': 'h', 'token': 't', 'farmer': {'address': 'a'}},
        {'method': 'PUT', 'path': '/frames/r', 'json': SHARD_BODY},
    ),
    (
        'frame_add_shard with a tree',
        lambda c: c.frame_add_shard(
            shard=model.Shard(**{**SHARD_BODY, 'tree': model.MerkleTree(LEAVES)}), frame_id='r'
        ),
        {},
        {},
        {'method': 'PUT', 'path': '/frames/r', 'json': {**SHARD_BODY, 'tree': LEAVES}},
    ),
    (
        'frame_add_shard with exclusions',
        lambda c: c.frame_add_shard(
            model.Shard(**SHARD_BODY, exclude=['x', 'y']), 'r', excludes=['y', 'z']
        ),
        {},
        {},
        {'method': 'PUT', 'path': '/frames/r', 'json': {**SHARD_BODY, 'exclude': ['x', 'y', 'z']}},
    ),
    (
        'frame_add_shard with odd fields',
        lambda c: c.frame_add_shard(fields(**ODD_BODY), 'r'),
        {},
        {},
        {'method': 'PUT', 'path': '/frames/r', 'json': ODD_BODY},
    ),
    (
        'frame_add_shard with an empty shard',
        lambda c: c.frame_add_shard(model.Shard(), 'r'),
        {},
        {},
        {
            'method': 'PUT',
            'path': '/frames/r',
            'json': {'hash': None, 'index': None, 'challenges': [], 'tree': [], 'size': None},
        },
    ),
    (
        'frame_add_shard with a mock',
        lambda c: c.frame_add_shard(MOCK_SHARD, 'r'),
        {},
        {},
        {
            'method': 'PUT',
            'path': '/frames/r',
            'json': {name: getattr(MOCK_SHARD, name) for name in SHARD_BODY},
        },
    ),
    (
        'frame_create',
        lambda c: c.frame_create(),
        {'id': 'r', 'shards': []},
        model.Frame(id='r'),
        {'method': 'POST', 'path': '/frames'},
    ),
    (
        'frame_delete',
        lambda c: c.frame_delete('r'),
        {},
        None,
        {'method': 'DELETE', 'path': '/frames/r', 'json': {'frame_id': 'r'}},
    ),
    (
        'frame_get',
        lambda c: c.frame_get(frame_id='r'),
        {'id': 'r'},
        model.Frame(id='r'),
        {'method': 'GET', 'path': '/frames/r', 'json': {'frame_id': 'r'}},
    ),
    (
        'frame_list',
        lambda c: c.frame_list(),
        [{'id': 'r'}],
        [model.Frame(id='r')],
        {'method': 'GET', 'path': '/frames'},
    ),
    (
        'key_delete',
        lambda c: c.key_delete('k'),
        {},
        None,
        {'method': 'DELETE', 'path': '/keys/k'},
    ),
    (
        'key_delete of a key',
        lambda c: c.key_delete(public_key=PUBLIC),
        {},
        None,
        {'method': 'DELETE', 'path': f'/keys/{HEX}'},
    ),
    (
        'key_list',
        lambda c: c.key_list(),
        [{'id': 'x', 'key': 'a'}, {'id': 'y', 'key': 'b'}],
        ['a', 'b'],
        {'method': 'GET', 'path': '/keys'},
    ),
    (
        'key_register',
        lambda c: c.key_register(PUBLIC.to_string()),
        {'key': HEX},
        None,
        {'method': 'POST', 'path': '/keys', 'json': {'key': HEX}},
    ),
    (
        'key_register with a label',
        lambda c: c.key_register(public_key=PUBLIC, label='laptop'),
        {},
        None,
        {'method': 'POST', 'path': '/keys', 'json': {'key': HEX, 'label': 'laptop'}},
    ),
    (
        'token_create',
        lambda c: c.token_create('b', 'PUSH'),
        {'token': 't', 'bucket': 'b', 'operation': 'PUSH'},
        model.Token(token='t', bucket='b', operation='PUSH'),
        {'method': 'POST', 'path': '/buckets/b/tokens', 'json': {'operation': 'PUSH'}},
    ),
    (
        'token_create for a file',
        lambda c: c.token_create('b', operation='PULL', file_id='f'),
        {},
        model.Token(),
        {'method': 'POST', 'path': '/buckets/b/tokens', 'json': {'operation': 'PULL', 'file': 'f'}},
    ),
    (
        'user_activate',
        lambda c: c.user_activate('t'),
        {'email': 'e@x', 'activated': True},
        model.User(email='e@x', activated=True),
        {'method': 'GET', 'path': '/activations/t'},
    ),
    (
        'user_activation_email',
        lambda c: c.user_activation_email('e@x', 't'),
        {},
        model.User(),
        {'method': 'POST', 'path': '/activations', 'json': {'email': 'e@x'}},
    ),
    (
        'user_create',
        lambda c: c.user_create('e@x', 'correct horse'),
        {'email': 'e@x'},
        model.User(email='e@x'),
        {
            'method': 'POST',
            'path': '/users',
            'json': {
                'email': 'e@x',
                'password': '4104d36f8da2c254349f85836793ebe029e0c957063a34c91c2e9203187b5631',
            },
        },
    ),
    (
        'user_deactivate',
        lambda c: c.user_deactivate('t'),
        {},
        model.User(),
        {'method': 'GET', 'path': '/deactivations/t'},
    ),
    (
        'user_delete',
        lambda c: c.user_delete(email='e@x'),
        {},
        model.User(),
        {'method': 'DELETE', 'path': '/users/e@x'},
    ),
    (
        'user_reset_password',
        lambda c: c.user_reset_password('e@x'),
        {},
        model.User(),
        {'method': 'PATCH', 'path': '/users/e@x'},
    ),
    (
        'user_reset_password with the new password',
        lambda c: c.user_reset_password('e@x', 'correct horse'),
        {},
        model.User(),
        {
            'method': 'PATCH',
            'path': '/users/e@x',
            'json': {
                'password': '4104d36f8da2c254349f85836793ebe029e0c957063a34c91c2e9203187b5631'
            },
        },
    ),
    (
        'user_reset_password_confirmation',
        lambda c: c.user_reset_password_confirmation('t'),
        {},
        model.User(),
        {'method': 'GET', 'path': '/resets/t'},
    ),
]


def read(value: Any) -> Any:
    """Return what a call answered, all of it."""
    return list(value) if isinstance(value, Iterator) else value


def empty(expected: Any) -> Any:
    """Return what a call answers that got nothing."""
    return None if expected is None else type(expected)()


by_call = pytest.mark.parametrize(
    ('call', 'answer', 'expected', 'sent'),
    [entry[1:] for entry in CALLS],
    ids=[entry[0] for entry in CALLS],
)


@by_call
def test_call_makes_its_one_request(
    client: Client,
    request_: mock.MagicMock,
    call: Call,
    answer: Any,
    expected: Any,
    sent: dict[str, Any],
) -> None:
    request_.return_value = answer
    assert read(call(client)) == expected
    request_.assert_called_once_with(**sent)


@by_call
@pytest.mark.parametrize('kind', [lambda: None, mock.MagicMock], ids=['none', 'mock'])
def test_answer_that_is_none_or_a_mock_is_empty(
    client: Client,
    request_: mock.MagicMock,
    call: Call,
    answer: Any,
    expected: Any,
    sent: dict[str, Any],
    kind: Any,
) -> None:
    request_.return_value = kind()
    found = read(call(client))
    if sent['path'] == '/buckets/b' and sent['method'] == 'GET' and kind is not mock.MagicMock:
        # Of a bucket that is asked for, nothing is no bucket.
        assert found is None
    elif isinstance(found, model.File):
        assert found == model.File(bucket='b')
    else:
        assert found == empty(expected)
    request_.assert_called_once_with(**sent)


def test_records_of_a_mock_have_what_it_holds(client: Client, request_: mock.MagicMock) -> None:
    entry = mock.MagicMock()
    entry.keys.return_value = ['id', 'name']
    entry.__getitem__.side_effect = {'id': 'b', 'name': 'n'}.__getitem__
    request_.return_value = entry
    assert client.bucket_create('n') == model.Bucket(id='b', name='n')
    request_.return_value = mock.MagicMock()
    request_.return_value.__iter__.return_value = iter([entry])
    assert list(client.bucket_list()) == [model.Bucket(id='b', name='n')]


@pytest.mark.parametrize('answer', [[], 'text', 5, mock.Mock()], ids=type)
def test_other_answers_than_objects_are_errors(
    client: Client, request_: mock.MagicMock, answer: Any
) -> None:
    request_.return_value = answer
    with pytest.raises(exception.BridgeUnavailableError):
        client.bucket_create('n')


@pytest.mark.parametrize(
    'answer',
    [{}, 'text', 5, [None], [[]], ['x'], mock.Mock()],
    ids=lambda answer: 'mock' if isinstance(answer, mock.Mock) else repr(answer),
)
def test_other_answers_than_lists_are_errors(
    client: Client, request_: mock.MagicMock, answer: Any
) -> None:
    request_.return_value = answer
    with pytest.raises(exception.BridgeUnavailableError):
        client.bucket_files('b')


# -- a bucket that is not there --------------------------------------------------------------------


def http_error(status: int | None) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status  # type: ignore[assignment]
    return requests.HTTPError('refused', response=None if status is None else response)


def test_http_error_404_means_no_bucket(client: Client, request_: mock.MagicMock) -> None:
    request_.side_effect = http_error(404)
    assert client.bucket_get('b') is None


@pytest.mark.parametrize('status', [400, 500, None])
def test_other_http_errors_are_the_bridges(
    client: Client, request_: mock.MagicMock, status: int | None
) -> None:
    request_.side_effect = http_error(status)
    with pytest.raises(exception.StorjBridgeApiError) as caught:
        client.bucket_get('b')
    assert caught.value.code == status


# -- pointers --------------------------------------------------------------------------------------


@pytest.fixture
def token_create() -> Iterator[mock.MagicMock]:
    with mock.patch.object(Client, 'token_create') as replaced:
        replaced.return_value = model.Token(token='t')
        yield replaced


@pytest.mark.parametrize(
    ('options', 'query'),
    [
        ({}, ''),
        ({'skip': '10', 'limit': 20, 'exclude': ['n1', 'n2']}, '?skip=10&limit=20&exclude=n1,n2'),
        ({'skip': 10, 'limit': '20'}, '?skip=10&limit=20'),
        ({'limit': 3}, '?skip=0&limit=3'),
        ({'skip': 3}, '?skip=3&limit=6'),
        ({'exclude': ['n1']}, '?skip=0&limit=6&exclude=n1'),
        ({'exclude': []}, ''),
    ],
)
@pytest.mark.parametrize('count', [0, 1, 5])
def test_pointers_take_one_token_and_one_request(
    client: Client,
    request_: mock.MagicMock,
    token_create: mock.MagicMock,
    options: Any,
    query: str,
    count: int,
) -> None:
    request_.return_value = [{'hash': str(number)} for number in range(count)]
    pointers = client.file_pointers('b', 'f', **options)
    assert [pointer.hash for pointer in pointers] == [str(number) for number in range(count)][
        : int(options.get('limit', 6))
    ]
    token_create.assert_called_once_with('b', operation='PULL')
    request_.assert_called_once_with(
        method='GET', path=f'/buckets/b/files/f/{query}', headers={'x-token': 't'}
    )


@pytest.mark.parametrize('answer', [None, mock.MagicMock()], ids=['none', 'mock'])
def test_pointers_of_none_or_a_mock_are_no_pointers(
    client: Client, request_: mock.MagicMock, answer: Any
) -> None:
    request_.return_value = answer
    with mock.patch.object(Client, 'token_create') as token_create:
        assert list(client.file_pointers(bucket_id='b', file_id='f')) == []
    request_.assert_called_once_with(
        method='GET',
        path='/buckets/b/files/f/',
        headers={'x-token': token_create.return_value.id},
    )


# -- names that are looked up in the module --------------------------------------------------------


@pytest.mark.parametrize('key', ['key', b'key', mock.sentinel.key, 5], ids=str)
def test_registered_key_is_what_ecdsa_to_hex_says(
    client: Client, request_: mock.MagicMock, key: Any
) -> None:
    with mock.patch('storj.http.ecdsa_to_hex') as to_hex:
        assert client.key_register(key) is None  # type: ignore[func-returns-value]
    to_hex.assert_called_once_with(key)
    request_.assert_called_once_with(method='POST', path='/keys', json={'key': to_hex.return_value})


@pytest.mark.parametrize('key', [KEY.to_pem(), KEY.to_string(), KEY.to_der(), b'short'])
def test_private_key_goes_to_no_bridge(
    client: Client, request_: mock.MagicMock, key: bytes
) -> None:
    for call in (
        lambda: client.key_register(key),
        lambda: client.bucket_set_keys('b', 'n', [key]),
        lambda: client.bucket_set_keys('b', 'n', [KEY.to_pem().decode()]),
        lambda: client.key_register(KEY.to_pem().decode()),
    ):
        with pytest.raises(ValueError, match='malformed'):
            call()
    request_.assert_not_called()


@pytest.mark.parametrize('place', ['storj.model', 'storj.http.model'])
@pytest.mark.parametrize(
    ('kind', 'call'),
    [
        ('Bucket', lambda client: client.bucket_get('b')),
        ('Bucket', lambda client: client.bucket_create('n')),
        ('Contact', lambda client: client.contact_lookup('n')),
        ('File', lambda client: client.file_metadata('b', 'f')),
        ('Frame', lambda client: client.frame_create()),
        ('Token', lambda client: client.token_create('b', 'PUSH')),
    ],
)
def test_record_is_made_by_the_class_in_the_model(
    client: Client, request_: mock.MagicMock, place: str, kind: str, call: Call
) -> None:
    request_.return_value = {'id': 'x'}
    with mock.patch(f'{place}.{kind}') as made:
        assert call(client) is made.return_value
    made.assert_called_once_with(id='x')
    with mock.patch('storj.http.model') as whole:
        assert call(client) is getattr(whole, kind).return_value


def test_names_of_earlier_releases_are_in_the_module() -> None:
    assert http.model is model
    assert http.web_socket.Client
    assert http.BridgeError is http.StorjBridgeApiError is exception.StorjBridgeApiError
    assert http.ClientError is exception.ClientError
    with pytest.raises(AttributeError, match='nothing'):
        _ = http.nothing


def test_error_without_an_answer_is_the_clients() -> None:
    def fail(error: Exception) -> None:
        raise error

    call = http.handle_nonhttp_errors(fail)
    assert call.__name__ == 'fail'
    for error in (requests.ConnectionError('gone'), requests.Timeout('gone')):
        with pytest.raises(exception.ClientError, match='gone') as caught:
            call(error)
        assert caught.value.message == 'gone'
    with pytest.raises(requests.HTTPError):
        call(http_error(500))
    with pytest.raises(ValueError, match='other'):
        call(ValueError('other'))


# -- keys of the account ---------------------------------------------------------------------------


@pytest.mark.parametrize('registered', [[], None])
def test_dump_says_that_there_are_no_keys(
    client: Client, registered: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with mock.patch.object(Client, 'key_list', return_value=registered):
        client.key_dump()
    assert capsys.readouterr().out == 'No keys associated with this account.\n'


@pytest.mark.parametrize('registered', [['a', 'b'], [{'id': 'a'}, {'id': 'b', 'key': 'k'}]])
def test_dump_lists_ids_and_the_local_pair(
    client: Client, registered: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    client.private_key, client.public_key = 'private', 5  # type: ignore[assignment]
    with mock.patch.object(Client, 'key_list', return_value=registered):
        client.key_dump()
    assert capsys.readouterr().out == (
        'Local Private Key: private\n'
        'Local Public Key: 5\n'
        "Public keys for this account: ['a', 'b']\n"
    )


def test_dump_shows_no_secret(
    client: Client, request_: mock.MagicMock, capsys: pytest.CaptureFixture[str]
) -> None:
    client.private_key = KEY
    request_.return_value = [{'id': 'x', 'key': 'a'}]
    client.key_dump()
    printed = capsys.readouterr().out
    assert "Public keys for this account: ['a']" in printed
    assert KEY.to_string().hex() not in printed
    assert repr(KEY.privkey.secret_multiplier) not in printed


def test_export_opens_its_files_by_the_name_in_the_module(
    client: Client, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    client.private_key, client.public_key = mock.Mock(), mock.Mock()
    with (
        mock.patch('storj.http.open', mock.mock_open()) as opened,
        mock.patch('storj.http.os.getcwd', return_value='/the/folder') as getcwd,
    ):
        client.key_export()
    assert opened.call_args_list == [
        mock.call('public.pem', 'wb'),
        mock.call('private.pem', 'wb'),
    ]
    assert opened().write.call_args_list == [
        mock.call(client.public_key.to_pem.return_value),
        mock.call(client.private_key.to_pem.return_value),
    ]
    getcwd.assert_called_once_with()
    printed = capsys.readouterr().out
    assert all(text in printed for text in ('public.pem', 'private.pem', '/the/folder'))
    assert list(tmp_path.iterdir()) == []


def test_basic_header_is_added_to_the_arguments(client: Client) -> None:
    kwargs: dict[str, Any] = {}
    client._add_basic_auth(kwargs)
    assert kwargs['headers']['Authorization'].startswith(b'Basic ')
    kwargs = {'headers': {'x-token': 't'}, 'json': {}}
    client._add_basic_auth(kwargs)
    assert kwargs['headers'].keys() == {'x-token', 'Authorization'}


# -- the order of arguments ------------------------------------------------------------------------

HASHED = 64 * 'a'


@pytest.mark.parametrize(
    ('args', 'options', 'url', 'hashes', 'timeout'),
    [
        ((), {}, http.DEFAULT_BRIDGE, True, None),
        (('http://b',), {}, 'http://b', True, None),
        (('http://b', False, 15), {}, 'http://b', False, 15),
        ((False,), {}, http.DEFAULT_BRIDGE, False, None),
        ((True,), {'timeout': 15}, http.DEFAULT_BRIDGE, True, 15),
        ((False, 15), {}, http.DEFAULT_BRIDGE, False, 15),
        ((False, None, 'http://b'), {}, 'http://b', False, None),
        ((False, (1, 2), 'http://b'), {}, 'http://b', False, (1, 2)),
        ((False,), {'storj_bridge': 'http://b'}, 'http://b', False, None),
        ((True, 15), {'storj_bridge': 'http://b'}, 'http://b', True, 15),
        (
            (),
            {'do_hashing': False, 'timeout': 15, 'storj_bridge': 'http://b'},
            'http://b',
            False,
            15,
        ),
    ],
)
def test_client_takes_the_arguments_of_every_release(
    args: Any, options: Any, url: str, hashes: bool, timeout: Any
) -> None:
    client = Client('e@x', HASHED, *args, **options)
    assert (client.api_url, client.do_hashing, client.timeout) == (url, hashes, timeout)
    assert (client.password == HASHED) is not hashes


@pytest.mark.parametrize(
    ('args', 'options'),
    [
        ((False, 15, 'http://b', 'words'), {}),
        ((False,), {'do_hashing': True}),
        ((False, 15, 'http://b'), {'storj_bridge': 'http://b'}),
        (('http://b',), {'storj_bridge': 'http://b'}),
    ],
)
def test_argument_of_the_client_is_given_once(args: Any, options: Any) -> None:
    with pytest.raises(TypeError):
        Client('e@x', HASHED, *args, **options)


@pytest.mark.parametrize('password', ['secret', '', 'ä', HASHED.upper()])
def test_password_is_sent_as_it_is_where_nothing_is_hashed(password: str) -> None:
    assert Client('e@x', password, do_hashing=False).password == password


def test_file_and_report_are_taken_under_their_names_of_0_3(
    client: Client, request_: mock.MagicMock
) -> None:
    with mock.patch.object(Client, 'transfers') as transfers:
        client.file_upload('b', f='path', frame='r')
        client.file_upload(bucket_id='b', file='path', frame='r')
    assert [call.args for call in transfers.upload.call_args_list] == [('b', 'path')] * 2
    report = model.ExchangeReport(dataHash='h')
    client.send_exchange_report(exchange_report_data=report)
    client.send_exchange_report(report)
    assert request_.call_args_list[0] == request_.call_args_list[1]
    assert request_.call_args.kwargs['json']['dataHash'] == 'h'


@pytest.mark.parametrize(
    ('path', 'there'), [('n', True), ('dir/n', True), (Path('/x/n'), True), ('N', False)]
)
def test_file_of_a_name_is_in_the_bucket(
    client: Client, request_: mock.MagicMock, path: Any, there: bool
) -> None:
    request_.return_value = [{'filename': 'n', 'id': 'f'}, {'filename': None}, {}]
    assert client.check_file_existence_in_bucket('b', path) is there
    request_.assert_called_once_with(method='GET', path='/buckets/b/files/')


# -- listings --------------------------------------------------------------------------------------


def test_listings_of_old_generators_work_with_next(
    client: Client, request_: mock.MagicMock, token_create: mock.MagicMock
) -> None:
    request_.return_value = [{'id': 'x', 'hash': 'h'}, {'id': 'y', 'hash': 'i'}]
    buckets, frames = client.bucket_list(), client.frame_list()
    assert (next(buckets).id, next(buckets).id) == ('x', 'y')
    assert next(frames).id == 'x'
    pointers = client.file_pointers('b', 'f')
    assert [next(pointers).hash, next(pointers).hash] == ['h', 'i']
    assert next(pointers, None) is None
    assert [pointer.hash for pointer in pointers] == ['h', 'i']


def test_pointers_are_the_json_that_the_bridge_sent(
    client: Client, request_: mock.MagicMock, token_create: mock.MagicMock
) -> None:
    sent = [{'hash': 'h', 'token': 't', 'farmer': {'address': 'a', 'port': 1}, 'size': 3}]
    request_.return_value = sent
    pointers = client.file_pointers('b', 'f')
    assert pointers == sent
    assert json.loads(json.dumps(pointers)) == sent


def test_files_of_a_bucket_are_json(client: Client, request_: mock.MagicMock) -> None:
    request_.return_value = [{'id': 'f', 'filename': 'n'}]
    assert json.loads(json.dumps(client.bucket_files('b'))) == request_.return_value


# == what travels ==================================================================================


@pytest.mark.parametrize(
    ('call', 'line', 'body'),
    [
        (lambda c: c.frame_create(), 'POST /frames', {}),
        (lambda c: c.frame_get('r'), 'GET /frames/r', None),
        (lambda c: c.frame_delete('r'), 'DELETE /frames/r', None),
        (lambda c: c.bucket_files('b'), 'GET /buckets/b/files', None),
        (lambda c: c.user_reset_password('e@x'), 'PATCH /users/e@x', {}),
        (lambda c: c._request(method='delete', path='/x/', json={'a': 1}), 'DELETE /x', None),
        (lambda c: c._request(method='GET', path='/'), 'GET /', None),
        (
            lambda c: c._request(method='GET', path='x/?a=b', params={'c': 'd'}),
            'GET /x?a=b&c=d',
            None,
        ),
    ],
)
def test_request_is_put_right_before_it_travels(call: Call, line: str, body: Any) -> None:
    client, replay = client_of([[]] if 'files' in line else [{}])
    call(client)
    assert replay.lines == [line]
    assert replay.bodies == [body]


def test_pointers_travel_with_their_slice() -> None:
    client, replay = client_of([{'token': 't'}, [{'hash': 'h'}]])
    client.file_pointers('b', 'f', skip=6, limit=6, exclude=['n1', 'n2'])
    assert replay.lines == [
        'POST /buckets/b/tokens',
        'GET /buckets/b/files/f?skip=6&limit=6&exclude=n1,n2',
    ]
    assert replay.requests[1].headers['x-token'] == 't'


@pytest.mark.parametrize('call', [lambda c: c.key_list(), lambda c: c.bucket_get('b')])
def test_null_of_a_bridge_is_no_empty_answer(call: Call) -> None:
    client, _ = client_of([Answer(body=b'null')])
    with pytest.raises(exception.BridgeUnavailableError, match='null') as caught:
        call(client)
    assert caught.value.code == 200


# -- keys that sign --------------------------------------------------------------------------------


def test_private_key_signs_from_when_it_is_set() -> None:
    client, replay = client_of([[]])
    client.private_key = KEY
    assert (client.public_key, client.public_key_hex) == (PUBLIC, HEX)
    client.key_list()
    assert replay.requests[0].headers['x-pubkey'] == HEX
    client.private_key = None
    client.key_list()
    assert 'x-signature' not in replay.requests[1].headers
    assert replay.requests[1].headers['Authorization'].startswith(b'Basic ')


def test_hex_of_a_public_key_can_be_set_and_patched() -> None:
    client = Client('e@x', 'p')
    client.public_key_hex = '04ab'
    assert client.public_key_hex == '04ab'
    client.private_key = KEY
    with mock.patch.object(client, 'public_key_hex', '04cd'):
        assert client.public_key_hex == '04cd'
    assert client.public_key_hex == HEX


def test_private_key_can_be_patched() -> None:
    client, replay = client_of([[]])
    with mock.patch.object(client, 'private_key', KEY):
        client.key_list()
    client.key_list()
    assert ['x-signature' in request.headers for request in replay.requests] == [True, False]


def test_private_key_of_another_kind_is_refused_when_it_should_sign() -> None:
    client, replay = client_of([[]])
    client.private_key = 'text'  # type: ignore[assignment]
    with pytest.raises(TypeError, match='SigningKey'):
        client.key_list()
    assert not replay.requests


def test_generated_key_is_registered_and_signs(tmp_path: Path) -> None:
    client, replay = client_of([{}, []])
    private_key, _ = client.key_generate(tmp_path)
    assert replay.lines == ['POST /keys']
    assert replay.bodies == [{'key': client.public_key_hex}]
    assert 'x-signature' not in replay.requests[0].headers
    assert client.private_key is private_key
    client.key_list()
    assert replay.requests[1].headers['x-pubkey'] == client.public_key_hex


def test_imported_key_is_registered_unless_the_account_has_it(tmp_path: Path) -> None:
    (tmp_path / 'private.pem').write_bytes(KEY.to_pem())
    taken = Answer({'error': 'Public key is already registered'}, 400)
    client, replay = client_of([taken, [{'key': HEX}], []])
    client.key_import(tmp_path / 'private.pem')
    assert replay.lines == ['POST /keys', 'GET /keys']
    client.key_list()
    assert 'x-signature' in replay.requests[2].headers

    client, _ = client_of([taken, [{'key': 'another'}]])
    with pytest.raises(exception.AlreadyExistsError):
        client.key_import(tmp_path / 'private.pem')
    assert client.private_key is None


def test_key_is_registered_with_no_account_that_is_not_there(tmp_path: Path) -> None:
    client, replay = client_of([[]], None, None)
    client.key_generate(tmp_path)
    assert not replay.requests
    with_account, replay = client_of([[]])
    with_account.key_import(tmp_path / 'private.pem', register=False)
    assert not replay.requests
    with_account.key_list()
    assert 'x-signature' not in replay.requests[0].headers


def test_exported_files_are_the_owners_and_replace_no_other_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    client, _ = client_of([{}])
    client.private_key = KEY
    assert client.key_export() == (Path('private.pem'), Path('public.pem'))
    assert str(tmp_path) in capsys.readouterr().out
    for name, pem in (('private.pem', KEY.to_pem()), ('public.pem', PUBLIC.to_pem())):
        assert (tmp_path / name).read_bytes() == pem
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    # The same key may be written again.
    client.key_export()
    client.private_key = SigningKey.generate(curve=SECP256k1)
    with pytest.raises(FileExistsError, match=r'\.pem exists'):
        client.key_export()
    assert (tmp_path / 'private.pem').read_bytes() == KEY.to_pem()
    client.key_export(overwrite=True)
    assert SigningKey.from_pem((tmp_path / 'private.pem').read_bytes()) == client.private_key
    assert sorted(path.name for path in tmp_path.iterdir()) == ['private.pem', 'public.pem']


def test_opener_of_key_files_leaves_no_half_file(tmp_path: Path) -> None:
    def write_half() -> None:
        with http.open(str(tmp_path / 'x'), 'wb') as file:
            file.write(b'half')
            raise OSError('disk')

    with pytest.raises(exception.ConfigurationError, match=r'cannot write .*disk'):
        write_half()
    with pytest.raises(ValueError, match='rb'), http.open(str(tmp_path / 'x'), 'rb'):
        pass
    assert list(tmp_path.iterdir()) == []
