"""What programs written for the old SDK rely on, and what it documented and did not do.

The first part plays the call forms of real programs, the second goes through the documented
functions one by one, the third makes sure that every name of the documentation is there with its
arguments. Uploads and downloads run against the network in tests/network.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib
import inspect
import json
import logging
import types
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import requests
from Crypto.Hash import RIPEMD160

import storj
import storj.exception as sjexc
from storj import api, exception, http, model
from storj.crypto import names

from .unit.replay import Answer, client_of, recording

ROOT = Path(__file__).parent.parent
OLD, NEW = 'bridge-2.2.4', 'bridge-5.24.1'


def recorded(name: str, title: str) -> Any:
    """Return the JSON that an original bridge answered."""
    return next(each['response']['json'] for each in recording(name) if each['title'] == title)


@pytest.fixture
def request_() -> Iterator[mock.MagicMock]:
    with mock.patch.object(http.Client, '_request') as replaced:
        yield replaced


@pytest.fixture
def client() -> http.Client:
    return storj.Client(email='alice@example.org', password='pw')


both_bridges = pytest.mark.parametrize('bridge', [OLD, NEW])


# == 1. call forms that real programs use ==========================================================


def test_submodules_are_attributes_after_one_import() -> None:
    assert storj.exception.StorjBridgeApiError is sjexc.StorjBridgeApiError
    assert storj.model.Bucket is model.Bucket


def test_client_at_the_top_serves_as_a_login_check() -> None:
    client, _ = client_of([Answer({'error': 'Invalid email or password'}, 401)])
    assert isinstance(client, storj.Client)
    with pytest.raises(sjexc.StorjBridgeApiError):
        client.key_list()
    assert storj.Client(email='e', password='p').key_list


def test_client_takes_a_hashed_password_a_timeout_and_a_bridge() -> None:
    hashed = hashlib.sha256(b'pw').hexdigest()
    client = storj.Client(
        email='e', password=hashed, do_hashing=False, timeout=15, storj_bridge='http://b:6382'
    )
    assert client.password == hashed
    assert client.api_url == 'http://b:6382'


def test_bridge_is_the_third_argument_and_no_account_is_needed(request_: mock.MagicMock) -> None:
    request_.return_value = recorded(OLD, 'POST /users: create')
    for client in (
        storj.Client(None, '', storj_bridge='http://b'),
        storj.Client(None, '', 'http://b'),
    ):
        assert client.api_url == 'http://b'
        assert client.user_create('e@x', 'password').activated is False


@both_bridges
def test_buckets_are_listed_with_their_attributes(
    client: http.Client, request_: mock.MagicMock, bridge: str
) -> None:
    request_.return_value = recorded(bridge, 'GET /buckets')
    buckets = list(client.bucket_list())
    assert [(b.id, b.name, b.storage, b.transfer) for b in buckets] == [
        (b['id'], b['name'], 0, 0) for b in request_.return_value
    ]
    assert all(b.created is not None and b.created.utcoffset() is not None for b in buckets)


@both_bridges
def test_bucket_is_got_by_position_and_keyword(
    client: http.Client, request_: mock.MagicMock, bridge: str
) -> None:
    request_.return_value = recorded(bridge, 'GET /buckets/<id>')
    for bucket in (client.bucket_get('b'), client.bucket_get(bucket_id='b')):
        assert bucket is not None
        assert (bucket.name, bucket.transfer, bucket.storage) == ('photos', 0, 0)


def test_bucket_is_made_by_position_and_keyword(
    client: http.Client, request_: mock.MagicMock
) -> None:
    request_.return_value = recorded(OLD, 'POST /buckets')
    for bucket in (
        client.bucket_create('photos', 10, 30),
        client.bucket_create(name='photos', storage=10, transfer=30),
    ):
        assert bucket.name == 'photos'
        assert len(bucket.id or '') == 24
        assert request_.call_args.kwargs['json'] == {
            'name': 'photos',
            'storage': 10,
            'transfer': 30,
        }


def test_files_are_dicts_that_the_caller_changes(
    client: http.Client, request_: mock.MagicMock
) -> None:
    request_.return_value = recorded(NEW, 'GET files')
    for files in (client.bucket_files('b'), client.bucket_files(bucket_id='b')):
        for file in files:
            assert isinstance(file, dict)
            assert isinstance(file['created'], str)
            file['created'] = file['created'].replace('Z', '').replace('T', ' ')
        assert files[0]['created'] == '2026-11-22 08:09:50.891'
        assert {'filename', 'size', 'id', 'mimetype'} <= files[0].keys()
        request_.return_value = recorded(NEW, 'GET files')


@both_bridges
def test_metadata_has_name_and_frame(
    client: http.Client, request_: mock.MagicMock, bridge: str
) -> None:
    request_.return_value = recorded(bridge, 'GET files/<id>/info')
    file = client.file_metadata('b', 'f')
    assert file.filename == 'a.txt'
    assert file.frame is not None
    assert file.frame.id == request_.return_value['frame']


@both_bridges
@pytest.mark.parametrize('limit', ['6', 6])
def test_pointers_are_iterated_twice_and_indexed(
    client: http.Client, request_: mock.MagicMock, bridge: str, limit: Any
) -> None:
    wire = recorded(bridge, 'GET files/<id> with x-token (pointers)')
    request_.side_effect = [recorded(bridge, 'POST tokens PULL'), wire, {'token': 't'}, []]
    pointers = client.file_pointers('b', 'f', limit=limit, skip='0', exclude=['n1', 'n2'])
    for _ in range(2):
        for pointer in pointers:
            assert pointer.get('farmer')['address'] == '127.0.0.1'
    for pointer, sent in zip(pointers, wire, strict=True):
        for name in ('hash', 'token', 'size', 'operation', 'farmer'):
            assert pointer[name] == sent[name]
        assert pointer['farmer']['nodeID'] == sent['farmer']['nodeID']
    assert pointers[0]['hash'] == wire[0]['hash']
    assert request_.call_args_list[1].kwargs['path'].endswith('/?skip=0&limit=6&exclude=n1,n2')


def test_file_is_removed(client: http.Client, request_: mock.MagicMock) -> None:
    client.file_remove('b', 'f')
    request_.assert_called_once_with(method='DELETE', path='/buckets/b/files/f')


def test_mirrors_are_objects_with_lists_of_dicts(
    client: http.Client, request_: mock.MagicMock
) -> None:
    request_.return_value = recorded(NEW, 'GET files/<id>/mirrors')
    mirrors = client.file_mirrors('b', 'f')
    for mirror in mirrors:
        assert isinstance(mirror.available, list)
        for established in mirror.established:
            assert len(established['shardHash']) == 40
            assert established['contract']['data_size'] > 0
    item = {'shardHash': 'h', 'contact': {'address': 'a'}, 'contract': {}}
    request_.return_value = [{'established': [item], 'available': [item]}]
    (mirror,) = client.file_mirrors('b', 'f')
    assert mirror.available[0]['contact']['address'] == 'a'


@both_bridges
def test_token_has_an_id(client: http.Client, request_: mock.MagicMock, bridge: str) -> None:
    request_.return_value = recorded(bridge, 'POST tokens PUSH')
    token = client.token_create('b', 'PUSH')
    assert token.id == token.token == request_.return_value['token']
    assert token.expires is not None
    assert token.expires.tzinfo is datetime.timezone.utc


@both_bridges
def test_frame_has_an_id_and_countable_shards(
    client: http.Client, request_: mock.MagicMock, bridge: str
) -> None:
    request_.return_value = recorded(bridge, 'POST /frames')
    assert client.frame_create().id == request_.return_value['id']
    request_.return_value = recorded(bridge, 'GET /frames/<id> with one shard')
    assert len(client.frame_get('r').shards) == 1


@both_bridges
def test_contract_is_a_dict(client: http.Client, request_: mock.MagicMock, bridge: str) -> None:
    title = 'PUT /frames/<id>: a shard (real contract from a real farmer)'
    request_.return_value = recorded(bridge, title)
    shard = model.Shard(hash='h', size=5, index=0, challenges=['c'], tree=['t'])
    answer = client.frame_add_shard(shard, 'r', excludes=['n'])
    assert isinstance(answer, dict)
    assert answer['farmer']['address'] == '127.0.0.1'
    assert isinstance(answer['farmer']['port'], int)
    assert len(answer['farmer']['nodeID']) == len(answer['hash']) == len(answer['token']) == 40
    assert request_.call_args.kwargs['json']['exclude'] == ['n']


def test_seam_is_called_from_outside() -> None:
    client, replay = client_of([{'id': 'f'}])
    answer = client._request(
        method='POST', path='/buckets/b/files', headers={'x-token': 't'}, json={'frame': 'r'}
    )
    assert answer == {'id': 'f'}
    assert replay.lines == ['POST /buckets/b/files']
    assert replay.requests[0].headers['x-token'] == 't'
    assert replay.bodies == [{'frame': 'r'}]


@both_bridges
def test_contacts_have_the_attributes_of_their_time(
    client: http.Client, request_: mock.MagicMock, bridge: str
) -> None:
    request_.return_value = recorded(bridge, 'GET /contacts')
    for contact in client.contact_list():
        assert isinstance(contact.port, int)
        assert contact.lastSeen is not None
        assert (contact.address, contact.protocol is None) == ('127.0.0.1', False)
        for later in ('lastTimeout', 'timeoutRate', 'responseTime', 'userAgent', 'nodeID'):
            getattr(contact, later)
    request_.return_value = recorded(bridge, 'GET /contacts/<nodeID>')
    assert client.contact_lookup('n').nodeID == request_.return_value['nodeID']


def test_client_has_logger_session_and_url(client: http.Client) -> None:
    assert isinstance(client.logger, logging.Logger)
    assert isinstance(http.Client.logger, logging.Logger)
    assert isinstance(client.session, requests.Session)
    assert client.api_url == 'https://api.storj.io/'


def test_report_is_filled_in_step_by_step(client: http.Client, request_: mock.MagicMock) -> None:
    report = model.ExchangeReport()
    report.dataHash = 'h'
    report.reporterId = report.clientId = 'alice'
    report.farmerId = 'n'
    report.exchangeStart = 1479896130123
    report.exchangeEnd = 1479896131456
    report.exchangeResultCode = 1000
    report.exchangeResultMessage = 'SHARD_UPLOADED'
    client.send_exchange_report(report)
    assert request_.call_args.kwargs['json'] == {
        'dataHash': 'h',
        'reporterId': 'alice',
        'clientId': 'alice',
        'farmerId': 'n',
        'exchangeStart': 1479896130123,
        'exchangeEnd': 1479896131456,
        'exchangeResultCode': 1000,
        'exchangeResultMessage': 'SHARD_UPLOADED',
    }


def test_errors_have_the_names_and_codes_of_old() -> None:
    assert exception.StorjFarmerError(10002).code == 10002
    assert exception.SuppliedTokenNotAcceptedError().code == 10002
    assert exception.HashMismatchError().code == 10003
    for kind in (exception.FarmerError, exception.BridgeError, exception.ClientError):
        assert issubclass(kind, exception.StorjError)
    assert issubclass(exception.StorjBridgeApiError, Exception)


@pytest.mark.parametrize('title', ['POST /users: same e-mail again', 'wrong password'])
def test_programs_parse_the_text_of_an_error(title: str) -> None:
    exchange = next(each['response'] for each in recording(OLD) if each['title'] == title)
    client, _ = client_of([Answer(exchange['json'], exchange['status'])])
    with pytest.raises(exception.BridgeError) as caught:
        client.key_list()
    assert json.loads(str(caught.value))['error'] == exchange['json']['error']


@both_bridges
def test_ids_are_those_that_callers_compute(bridge: str) -> None:
    bucket = recorded(bridge, 'POST /buckets')
    file = recorded(bridge, 'POST files')

    def first_24(text: str) -> str:
        return RIPEMD160.new(hashlib.sha256(text.encode()).digest()).hexdigest()[:24]

    assert bucket['id'] == first_24(bucket['user'] + bucket['name'])
    assert bucket['id'] == storj.sharding.bucket_id(bucket['user'], bucket['name'])
    assert file['id'] == first_24(file['bucket'] + file['filename'])
    assert file['id'] == storj.sharding.file_id(file['bucket'], file['filename'])


# == 2. what 0.1.5 documented and did not do =======================================================
# (import storj: unit/storj_test; read_config: unit/configuration_test; file_upload, file_download:
# tests/network; web_socket.Client: unit/web_socket_test)


def test_console_scripts_name_functions_that_exist() -> None:
    parser = ConfigParser()
    parser.read(ROOT / 'setup.cfg')
    scripts = parser['options.entry_points']['console_scripts'].strip().splitlines()
    assert {line.partition(' ')[0] for line in scripts} == {
        'storj',
        'storj-bucket',
        'storj-file',
        'storj-key',
    }
    for line in scripts:
        module, _, function = line.partition('=')[2].strip().partition(':')
        assert callable(getattr(importlib.import_module(module), function))


def test_password_outside_ascii_is_hashed_as_utf8() -> None:
    client = storj.Client('e', 'pässwörd')
    assert client.password == hashlib.sha256('pässwörd'.encode()).hexdigest()


def test_key_authenticates_and_no_nonce_repeats() -> None:
    client, replay = client_of([[]])
    key, _ = storj.generate_new_key_pair()
    client.authenticate(ecdsa_private_key=key)
    assert client.private_key is key
    assert client.public_key == key.get_verifying_key()
    assert client.public_key_hex == api.ecdsa_to_hex(key.get_verifying_key().to_string())
    for _ in range(20):
        client.key_list()
    assert len({request.path_url for request in replay.requests}) == 20


@pytest.mark.parametrize(
    'answer',
    [
        Answer(body=b'<html>oops</html>'),
        Answer(body=b'<html>oops</html>', status=500),
        Answer(body=b'null'),
        Answer(body=b''),
        Answer(body=b'', status=404),
        Answer({'error': 'no status'}),
        Answer({}, 400),
    ],
)
def test_answers_of_all_kinds_are_one_type_of_error(answer: Answer) -> None:
    client, _ = client_of([answer])
    with pytest.raises(exception.StorjBridgeApiError) as caught:
        list(client.bucket_list())
    assert caught.value.message
    assert hasattr(caught.value, 'code')


def test_list_that_contains_the_word_error_is_an_answer() -> None:
    client, _ = client_of([[{'id': '1', 'name': 'error'}, {'id': '2', 'error': 'in it'}]])
    assert [bucket.name for bucket in client.bucket_list()] == ['error', None]


@pytest.mark.parametrize('name', ['bucket_list', 'frame_list'])
def test_generators_end_plainly(client: http.Client, request_: mock.MagicMock, name: str) -> None:
    request_.return_value = [{'id': '1'}]
    generator = getattr(client, name)()
    assert isinstance(generator, types.GeneratorType)
    assert len(list(generator)) == 1
    assert next(generator, 'end') == 'end'


def test_storage_of_zero_is_sent(client: http.Client, request_: mock.MagicMock) -> None:
    request_.return_value = {}
    client.bucket_create('n', storage=0, transfer=0)
    assert request_.call_args.kwargs['json'] == {'name': 'n', 'storage': 0, 'transfer': 0}


def test_unknown_bucket_is_none_through_the_seam(
    client: http.Client, request_: mock.MagicMock
) -> None:
    response = requests.Response()
    response.status_code = 404
    request_.side_effect = requests.HTTPError(response=response)
    assert client.bucket_get('b') is None


def test_unknown_bucket_is_an_error_live() -> None:
    client, _ = client_of([Answer({'error': 'Bucket not found'}, 404)])
    with pytest.raises(exception.StorjBridgeApiError):
        client.bucket_get('b')


def test_contacts_filters_are_sent_when_given(
    client: http.Client, request_: mock.MagicMock
) -> None:
    request_.return_value = []
    client.contact_list()
    request_.assert_called_with(method='GET', path='/contacts')
    client.contact_list(page=3, address='a', connected=False)
    params = {'page': 3, 'address': 'a', 'connected': 'false'}
    request_.assert_called_with(method='GET', path='/contacts', params=params)


@both_bridges
def test_models_take_every_field_that_bridges_send(
    client: http.Client, request_: mock.MagicMock, bridge: str
) -> None:
    for title, call in (
        ('GET /buckets/<id>', lambda: client.bucket_get('b')),
        ('POST tokens PULL', lambda: client.token_create('b', 'PULL')),
        ('GET /frames/<id> with one shard', lambda: client.frame_get('r')),
        ('GET files/<id>/info', lambda: client.file_metadata('b', 'f')),
        ('GET /contacts/<nodeID>', lambda: client.contact_lookup('n')),
        ('GET /activations/<token>', lambda: client.user_activate('t')),
    ):
        wire = recorded(bridge, title)
        request_.return_value = wire
        record: Any = call()
        assert record.to_dict() == {name: v for name, v in wire.items() if v is not None}
        assert all(name in record or value is None for name, value in wire.items())


def test_frame_is_got_and_deleted_without_a_body() -> None:
    client, replay = client_of([{}])
    client.frame_get('r')
    client.frame_delete('r')
    assert replay.lines == ['GET /frames/r', 'DELETE /frames/r']
    assert replay.bodies == [None, None]


def test_shards_tree_is_sent_as_leaves(client: http.Client, request_: mock.MagicMock) -> None:
    request_.return_value = {}
    tree = model.MerkleTree(['a', 'b'])
    client.frame_add_shard(model.Shard(hash='h', size=1, index=0, tree=tree), 'r')
    assert json.dumps(request_.call_args.kwargs['json'])
    assert request_.call_args.kwargs['json']['tree'] == ['a', 'b']
    assert 'exclude' not in request_.call_args.kwargs['json']


def test_keys_are_dumped(
    client: http.Client, request_: mock.MagicMock, capsys: pytest.CaptureFixture[str]
) -> None:
    request_.return_value = recorded(OLD, 'GET /keys')
    client.key_dump()
    printed = capsys.readouterr().out
    assert all(key['key'] in printed for key in request_.return_value)


def test_keys_are_made_exported_and_imported_without_questions(
    client: http.Client,
    request_: mock.MagicMock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ask(*_: object) -> str:
        raise AssertionError('a library asks no questions')

    monkeypatch.setattr('builtins.input', ask)
    monkeypatch.setenv('STORJ_CONFIG_DIR', str(tmp_path / 'default'))
    client.key_generate()
    made = client.private_key
    private, public = client.key_export(tmp_path / 'keys')
    assert (private.name, public.name) == ('private.pem', 'public.pem')
    assert private.stat().st_mode & 0o777 == 0o600
    other = storj.Client('e', 'p')
    other.key_import(str(private), str(public))
    assert other.private_key == made
    registration = mock.call(method='POST', path='/keys', json={'key': client.public_key_hex})
    assert request_.call_args_list == [registration] * 2


def test_registered_keys_are_listed(client: http.Client, request_: mock.MagicMock) -> None:
    _, public_key = storj.generate_new_key_pair()
    client.key_register(public_key)
    request_.return_value = recorded(OLD, 'GET /keys')
    assert client.key_list() == [key['key'] for key in request_.return_value]


def test_activation_mail_activates_nothing(client: http.Client, request_: mock.MagicMock) -> None:
    request_.return_value = {}
    client.user_activation_email('e@x', 'token')
    request_.assert_called_once_with(method='POST', path='/activations', json={'email': 'e@x'})


def test_account_is_made_and_no_secret_logged(caplog: pytest.LogCaptureFixture) -> None:
    client, _ = client_of([Answer(recorded(OLD, 'POST /users: create'), 201)], None, '')
    with caplog.at_level(logging.DEBUG):
        user = client.user_create('e@x', 'hunter2')
    assert user.email
    assert 'hunter2' not in caplog.text
    assert (client.password or 'x') not in caplog.text


def test_deactivation_uses_its_own_route(client: http.Client, request_: mock.MagicMock) -> None:
    request_.return_value = {}
    client.user_deactivate('t')
    request_.assert_called_once_with(method='GET', path='/deactivations/t')


@pytest.mark.parametrize('attribute', ['created', 'lastSeen', 'expires'])
def test_times_are_aware_and_utc(attribute: str) -> None:
    kinds = {'created': model.Bucket, 'lastSeen': model.Contact, 'expires': model.Token}
    record: Any = kinds[attribute](**{attribute: '2016-11-23T10:15:30.123Z'})
    moment = getattr(record, attribute)
    assert moment == datetime.datetime(
        2016, 11, 23, 10, 15, 30, 123000, tzinfo=datetime.timezone.utc
    )


def test_equal_models_are_equal_and_found_in_sets() -> None:
    first, second = (model.Bucket(id='1', pubkeys=['k']) for _ in range(2))
    assert first == second
    assert second in {first}


def test_ripemd_has_a_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    new = hashlib.new

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == 'ripemd160':
            raise ValueError('unsupported hash type')
        return new(name, *args, **options)

    monkeypatch.setattr(hashlib, 'new', without)
    storj.digest._ripemd160.cache_clear()
    try:
        assert model.ShardManager.hash('testshard') == '4af6b8cd7fac9e832650c82e965a06aabe920c07'
    finally:
        storj.digest._ripemd160.cache_clear()


def test_models_act(client: http.Client, request_: mock.MagicMock) -> None:
    request_.return_value = {'id': 'x', 'bucket': 'b'}
    bucket, file = client.bucket_get('x'), client.file_metadata('b', 'x')
    assert bucket is not None
    bucket.delete()
    file.delete()
    with mock.patch.object(http.Client, 'file_download', return_value='bytes') as download:
        assert file.download() == 'bytes'
    download.assert_called_once_with('b', 'x', None)


def test_names_are_encrypted_where_there_is_a_key(
    client: http.Client, request_: mock.MagicMock
) -> None:
    request_.return_value = {}
    client.bucket_create('photos')
    assert request_.call_args.kwargs['json'] == {'name': 'photos'}
    client.mnemonic = 'abandon ' * 11 + 'about'
    stored = names.encrypt_bucket_name(client.mnemonic, 'photos')
    with mock.patch.object(http.Client, 'bucket_list', return_value=[]):
        for name, encrypt_name, sent in (
            ('photos', None, stored),
            (stored, None, stored),
            (stored, False, stored),
            ('photos', False, 'photos'),
        ):
            client.bucket_create(name, encrypt_name=encrypt_name)
            assert request_.call_args.kwargs['json'] == {'name': sent}
    request_.return_value = {'id': 'b', 'name': stored}
    bucket = client.bucket_get('b')
    assert bucket is not None
    assert (bucket.name, bucket.stored_name, bucket['name']) == ('photos', stored, stored)
    assert client.bucket_name(stored) == 'photos'


# == 3. every name of the documentation ============================================================

#: Module -> class or function -> arguments without defaults, arguments with defaults.
DOCUMENTED: dict[str, dict[str, str]] = {
    'storj': {
        'get_client': '',
        'generate_new_key_pair': '',
        'BucketKeyManager': 'bucket authorized_public_keys',
        'BucketKeyManager.add': 'self key',
        'BucketKeyManager.all': 'self',
        'BucketKeyManager.clear': 'self',
        'BucketKeyManager.remove': 'self key',
        'BucketManager.all': '',
        'BucketManager.create': 'name storage_limit= transfer_limit=',
        'BucketManager.delete': 'bucket_id',
        'BucketManager.get': 'bucket_id',
        'FileManager': 'bucket_id',
        'FileManager.all': 'self',
        'FileManager.delete': 'self bucket_id file_id',
        'FileManager.download': 'self file_id',
        'FileManager.upload': 'self file frame',
        'TokenManager': 'bucket_id',
        'TokenManager.create': 'self operation',
        'UserKeyManager.add': 'key',
        'UserKeyManager.all': '',
        'UserKeyManager.clear': '',
        'UserKeyManager.remove': 'key',
    },
    'storj.api': {'ecdsa_to_hex': 'ecdsa_key'},
    'storj.configuration': {'read_config': ''},
    'storj.exception': {'StorjBridgeApiError': ''},
    'storj.http': {
        'Client': 'email password',
        'Client.authenticate': 'self ecdsa_private_key=',
        'Client.bucket_create': 'self name storage= transfer=',
        'Client.bucket_delete': 'self bucket_id',
        'Client.bucket_files': 'self bucket_id',
        'Client.bucket_get': 'self bucket_id',
        'Client.bucket_list': 'self',
        'Client.bucket_set_keys': 'self bucket_id bucket_name keys',
        'Client.bucket_set_mirrors': 'self bucket_id file_id redundancy',
        'Client.contact_list': 'self page= address= protocol= user_agent= connected=',
        'Client.contact_lookup': 'self node_id',
        'Client.file_download': 'self bucket_id file_id',
        'Client.file_metadata': 'self bucket_id file_id',
        'Client.file_pointers': 'self bucket_id file_id skip= limit=',
        'Client.file_remove': 'self bucket_id file_id',
        'Client.file_upload': 'self bucket_id file frame',
        'Client.frame_add_shard': 'self shard frame_id',
        'Client.frame_create': 'self',
        'Client.frame_delete': 'self frame_id',
        'Client.frame_get': 'self frame_id',
        'Client.frame_list': 'self',
        'Client.key_delete': 'self public_key',
        'Client.key_dump': 'self',
        'Client.key_export': 'self',
        'Client.key_generate': 'self',
        'Client.key_import': 'self private_keyfile_path public_keyfile_path',
        'Client.key_list': 'self',
        'Client.key_register': 'self public_key',
        'Client.token_create': 'self bucket_id operation',
        'Client.user_activate': 'self token',
        'Client.user_activation_email': 'self email token',
        'Client.user_create': 'self email password',
        'Client.user_deactivate': 'self token',
        'Client.user_delete': 'self email',
        'Client.user_reset_password': 'self email',
        'Client.user_reset_password_confirmation': 'self token',
    },
    'storj.model': {
        'Bucket': 'id= name= status= user= created= storage= transfer= pubkeys= publicPermissions= '
        'encryptionKey=',
        'Bucket.delete': 'self',
        'Contact': 'address= port= nodeID= lastSeen= protocol= userAgent=',
        'File': 'bucket= hash= mimetype= filename= size= id= frame=',
        'File.delete': 'self',
        'File.download': 'self',
        'FilePointer': 'hash= token= operation= channel=',
        'Frame': 'id= created= shards=',
        'Keyring': '',
        'Keyring.export_keyring': 'self password salt user_pass',
        'Keyring.generate': 'self',
        'Keyring.import_keyring': 'self filepath',
        'MerkleTree': 'leaves prehashed=',
        'MerkleTree.get_level': 'self depth',
        'MerkleTree.get_root': 'self',
        'Mirror': 'hash= mirrors= status=',
        'Shard': 'id= hash= size= index= challenges= tree= exclude=',
        'Shard.add_challenge': 'self challenge',
        'Shard.add_tree': 'self tree',
        'Shard.all': 'self',
        'Shard.get_private_record': 'self',
        'Shard.get_public_record': 'self',
        'ShardManager': 'filepath shard_size nchallenges=',
        'ShardManager.hash': 'data',
        'Token': 'token= bucket= operation= expires= encryptionKey=',
    },
    'storj.web_socket': {
        'Client': 'pointer file_contents',
        'Client.closed': 'self code reason=',
        'Client.opened': 'self',
        'Client.received_message': 'self m',
    },
}


@pytest.mark.parametrize(
    ('module', 'name', 'arguments'),
    [
        (module, name, arguments)
        for module, entries in DOCUMENTED.items()
        for name, arguments in entries.items()
    ],
)
def test_documented_name_has_its_arguments(module: str, name: str, arguments: str) -> None:
    value: Any = importlib.import_module(module)
    for part in name.split('.'):
        value = getattr(value, part)
    parameters = list(inspect.signature(value).parameters.values())
    wanted = arguments.split()
    assert [each.name for each in parameters[: len(wanted)]] == [
        each.rstrip('=') for each in wanted
    ]
    for parameter, text in zip(parameters, wanted, strict=False):
        if text.endswith('='):
            assert parameter.default is not inspect.Parameter.empty
    # What was added later may be left out.
    for parameter in parameters[len(wanted) :]:
        optional = parameter.default is not inspect.Parameter.empty
        assert optional or parameter.kind in (
            inspect.Parameter.VAR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
        )


@pytest.mark.parametrize(
    ('record', 'attributes'),
    [
        (model.Bucket(), 'id name status user created storage transfer pubkeys'),
        (model.Contact(), 'address port nodeID lastSeen protocol userAgent'),
        (
            model.File(),
            'bucket hash mimetype filename frame size shard_manager content_type name',
        ),
        (model.FilePointer(), 'hash token operation channel'),
        (model.Frame(), 'id created shards'),
        (model.MerkleTree(['a']), 'leaves depth count rows'),
        (model.Mirror(), 'hash mirrors status'),
        (model.Shard(), 'id hash size index challenges tree exclude'),
        (model.ShardManager(__file__, 9999999), 'filepath index nchallenges shard_size shards'),
        (model.Token(), 'id bucket operation expires encryptionKey'),
        (
            storj.Client('e', 'p'),
            'api_url session email password private_key public_key public_key_hex logger',
        ),
        (storj.TokenManager('b'), 'bucket_id'),
        (storj.BucketKeyManager(model.Bucket(), []), 'bucket'),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else '',
)
def test_documented_attribute_is_there(record: Any, attributes: str) -> None:
    for name in attributes.split():
        getattr(record, name)


def test_documented_constants_are_there() -> None:
    configuration = storj.configuration
    assert configuration.APP_NAME == 'storj'
    assert configuration.CFG_EMAIL == 'email'
    assert configuration.CFG_PASSWORD == 'password'
    assert importlib.import_module('storj.cli').__doc__
    assert storj.metadata.__doc__
