"""The managers: each acts through get_client, and believes nothing before the bridge agreed."""

from __future__ import annotations

import abc
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from ecdsa import SECP256k1, SigningKey

import storj
from storj import api, exception, http, model

KEYS = [
    SigningKey.from_secret_exponent(number, curve=SECP256k1).get_verifying_key()
    for number in (11, 12, 13)
]
HEX = [api.ecdsa_to_hex(key.to_string()) for key in KEYS]


@pytest.fixture(autouse=True)
def request_() -> Iterator[mock.MagicMock]:
    client = http.Client('alice@example.org', 'pw')
    with (
        mock.patch.object(storj, 'get_client', return_value=client),
        mock.patch.object(http.Client, '_request') as replaced,
    ):
        yield replaced


def test_buckets_are_managed(request_: mock.MagicMock) -> None:
    request_.return_value = [{'id': 'b'}]
    assert storj.BucketManager.all() == [model.Bucket(id='b')]
    request_.assert_called_with(method='GET', path='/buckets')

    request_.return_value = {'id': 'b', 'name': 'n'}
    bucket = storj.BucketManager.create('n', storage_limit=0, transfer_limit=5)
    assert bucket == model.Bucket(id='b', name='n')
    request_.assert_called_with(
        method='POST', path='/buckets', json={'name': 'n', 'storage': 0, 'transfer': 5}
    )

    assert storj.BucketManager.get('b') == bucket
    request_.assert_called_with(method='GET', path='/buckets/b')

    storj.BucketManager.delete('b')
    request_.assert_called_with(method='DELETE', path='/buckets/b')


@pytest.mark.parametrize(
    'call',
    [
        lambda: storj.BucketManager.all(),
        lambda: storj.FileManager('b').all(),
        lambda: storj.BucketManager.create('n'),
        lambda: storj.BucketManager.get('b'),
        lambda: storj.BucketManager.delete('b'),
        lambda: storj.FileManager('b').delete('b', 'f'),
        lambda: storj.TokenManager('b').create('PUSH'),
        lambda: storj.BucketKeyManager(model.Bucket(id='b', name='n'), []).add(KEYS[0]),
    ],
)
def test_client_of_a_manager_is_closed(request_: mock.MagicMock, call: Any) -> None:
    request_.return_value = mock.MagicMock()
    with mock.patch.object(http.Client, 'close') as close:
        call()
    close.assert_called_once_with()


def test_files_are_moved_without_leaving_threads(request_: mock.MagicMock) -> None:
    request_.side_effect = exception.AuthenticationError('Not authorized', 401)
    manager = storj.FileManager('b')
    # A network of other tests may run in this process.
    before = set(threading.enumerate())
    for call in (
        lambda: manager.upload(b'data', name='n', encrypt=False),
        lambda: manager.download('f'),
    ):
        with pytest.raises(exception.AuthenticationError):
            call()
        assert set(threading.enumerate()) <= before


def sent_keys(request_: mock.MagicMock) -> Any:
    assert request_.call_args.kwargs['path'] == '/buckets/b'
    return request_.call_args.kwargs['json']['pubkeys']


def test_keys_of_a_bucket_are_managed(request_: mock.MagicMock) -> None:
    request_.side_effect = lambda **sent: {'id': 'b', 'name': 'n', **sent['json']}
    manager = storj.BucketKeyManager(model.Bucket(id='b', name='n'), [HEX[0]])
    assert manager.all() == [HEX[0]]
    manager.add(KEYS[1])
    assert sent_keys(request_) == manager.all() == HEX[:2]
    manager.add(HEX[2])
    manager.remove(HEX[0])
    assert sent_keys(request_) == manager.all() == HEX[1:]
    assert manager.bucket.pubkeys == HEX[1:]
    manager.clear()
    assert sent_keys(request_) == manager.all() == []


def test_keys_are_what_the_bridge_says_they_are(request_: mock.MagicMock) -> None:
    request_.return_value = {'id': 'b', 'pubkeys': [HEX[2]]}
    manager = storj.BucketKeyManager(model.Bucket(id='b', name='n'), [])
    manager.add(HEX[0])
    assert manager.all() == [HEX[2]]


def test_bridge_that_refuses_changes_no_list(request_: mock.MagicMock) -> None:
    request_.side_effect = exception.StorjBridgeApiError('no', 400)
    bucket = model.Bucket(id='b', name='n')
    manager = storj.BucketKeyManager(bucket, [HEX[0]])
    for change in (lambda: manager.add(HEX[1]), lambda: manager.remove(HEX[0]), manager.clear):
        with pytest.raises(exception.StorjBridgeApiError):
            change()
    assert manager.all() == [HEX[0]]
    assert manager.bucket is bucket


def test_list_of_keys_is_the_managers_own(request_: mock.MagicMock) -> None:
    keys = [HEX[0]]
    manager = storj.BucketKeyManager(model.Bucket(id='b', name='n'), keys)
    manager.all().append('x')
    keys.append('y')
    assert manager.all() == [HEX[0]]


def test_key_that_is_not_there_cannot_be_removed(request_: mock.MagicMock) -> None:
    manager = storj.BucketKeyManager(model.Bucket(id='b', name='n'), [HEX[0]])
    with pytest.raises(ValueError, match='no such key'):
        manager.remove(HEX[1])
    request_.assert_not_called()


def test_files_are_managed(request_: mock.MagicMock) -> None:
    manager = storj.FileManager('b')
    assert manager.bucket_id == 'b'
    request_.return_value = [{'id': 'f'}]
    assert manager.all() == [{'id': 'f'}]
    request_.assert_called_with(method='GET', path='/buckets/b/files/')
    manager.delete('b', 'f')
    request_.assert_called_with(method='DELETE', path='/buckets/b/files/f')


def test_files_are_moved() -> None:
    manager = storj.FileManager('b')
    with (
        mock.patch.object(http.Client, 'file_upload', return_value='file') as upload,
        mock.patch.object(http.Client, 'file_download', return_value='bytes') as download,
    ):
        assert manager.upload('path', 'frame', name='n') == 'file'  # type: ignore[comparison-overlap]
        assert manager.download('f') == 'bytes'
        assert manager.download(file_id='f', destination='to', start=1) == 'bytes'
        # In 0.3 the bucket came first.
        assert manager.download('other', 'f') == 'bytes'
        assert manager.download(bucket_id='other', file_id='f') == 'bytes'
        assert manager.download('other', file_id='f') == 'bytes'
        assert manager.download('f', bucket_id='other') == 'bytes'
        manager.upload(f='path')
    assert upload.call_args_list == [
        mock.call('b', 'path', 'frame', name='n'),
        mock.call('b', 'path', None),
    ]
    assert download.call_args_list == [
        mock.call('b', 'f'),
        mock.call('b', 'f', destination='to', start=1),
        *[mock.call('other', 'f')] * 4,
    ]
    for args, options in (
        (('b', 'f', 'to'), {}),
        (('b', 'f'), {'bucket_id': 'b'}),
        (('b', 'f'), {'file_id': 'f'}),
        ((), {}),
        ((), {'bucket_id': 'b'}),
    ):
        with pytest.raises(TypeError):
            manager.download(*args, **options)


def test_tokens_are_managed(request_: mock.MagicMock) -> None:
    request_.return_value = {'token': 't'}
    manager = storj.TokenManager('b')
    assert manager.bucket_id == 'b'
    for operation in ('PULL', 'pull', 'Pull'):
        assert manager.create(operation).id == 't'
        request_.assert_called_with(
            method='POST', path='/buckets/b/tokens', json={'operation': 'PULL'}
        )
    for other in ('fly', None):
        with pytest.raises(ValueError, match='PUSH'):
            manager.create(other)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ('call', 'name', 'args', 'options'),
    [
        (lambda: storj.BucketManager.all(), 'bucket_list', (), {}),
        (
            lambda: storj.BucketManager.create('n', 1, 2),
            'bucket_create',
            ('n',),
            {'storage': 1, 'transfer': 2},
        ),
        (lambda: storj.BucketManager.delete('b'), 'bucket_delete', ('b',), {}),
        (lambda: storj.BucketManager.get('b'), 'bucket_get', ('b',), {}),
        (lambda: storj.FileManager('b').all(), 'bucket_files', ('b',), {}),
        (lambda: storj.FileManager('b').delete('b', 'f'), 'file_remove', ('b', 'f'), {}),
        (lambda: storj.FileManager('b').download('f'), 'file_download', ('b', 'f'), {}),
        (lambda: storj.FileManager('b').upload('f', 'r'), 'file_upload', ('b', 'f', 'r'), {}),
        (lambda: storj.TokenManager('b').create('PUSH'), 'token_create', ('b', 'PUSH'), {}),
        (lambda: storj.UserKeyManager.add('k'), 'key_register', ('k',), {}),
        (lambda: storj.UserKeyManager.all(), 'key_list', (), {}),
        (lambda: storj.UserKeyManager.remove('k'), 'key_delete', ('k',), {}),
        (
            lambda: storj.BucketKeyManager(model.Bucket(id='b', name='n'), ['k1']).add('k2'),
            'bucket_set_keys',
            ('b', 'n', ['k1', 'k2']),
            {},
        ),
    ],
)
def test_manager_calls_the_client_that_get_client_returns(
    call: Any, name: str, args: Any, options: Any
) -> None:
    with mock.patch('storj.get_client') as get_client:
        call()
    get_client.assert_called_once_with()
    getattr(get_client.return_value, name).assert_called_once_with(*args, **options)


def test_keys_of_a_bucket_are_kept_where_a_mock_answers() -> None:
    manager = storj.BucketKeyManager(model.Bucket(id='b', name='n'), ['k1'])
    with mock.patch('storj.get_client'):
        manager.add('k2')
        manager.remove('k1')
    assert manager.all() == ['k2']


def test_managers_without_instances_are_metaclasses_as_documented() -> None:
    assert issubclass(storj.BucketManager, abc.ABCMeta)
    assert issubclass(storj.UserKeyManager, abc.ABCMeta)


def test_keys_of_the_user_are_managed(request_: mock.MagicMock) -> None:
    request_.return_value = [{'key': 'a'}, {'key': 'b'}]
    assert storj.UserKeyManager.all() == ['a', 'b']
    storj.UserKeyManager.add(KEYS[0])
    assert request_.call_args.kwargs['json'] == {'key': HEX[0]}
    storj.UserKeyManager.remove(KEYS[0])
    request_.assert_called_with(method='DELETE', path=f'/keys/{HEX[0]}')
    request_.reset_mock()
    storj.UserKeyManager.clear()
    assert [call.kwargs['path'] for call in request_.call_args_list] == [
        '/keys',
        '/keys/a',
        '/keys/b',
    ]
