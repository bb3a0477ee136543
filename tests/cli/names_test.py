"""One name, one bucket; one name, one file: for the SDK and the command line alike."""

from __future__ import annotations

import contextlib

import pytest

from storj.exception import AlreadyExistsError, AmbiguousNameError
from storj.http import Client


@pytest.fixture
def client(network):
    with Client(
        network.email, network.password, network.bridge_url, mnemonic=network.mnemonic
    ) as client:
        yield client


@pytest.fixture
def keyless(network):
    with Client(network.email, network.password, network.bridge_url) as client:
        yield client


@pytest.fixture
def twins(client, keyless):
    """Two buckets of one visible name, as two clients can make them; the first is encrypted."""
    buckets = client.bucket_create('twins'), keyless.bucket_create('twins')
    yield [bucket.id for bucket in buckets]
    for bucket in buckets:
        with contextlib.suppress(Exception):
            bucket.delete()


@pytest.mark.parametrize('encrypted', [True, False])
def test_bucket_of_the_sdk_is_the_bucket_of_the_command(storj, client, encrypted):
    made = client.bucket_create('shared', encrypt_name=encrypted)
    try:
        shown = storj('bucket', 'get', 'shared', '--json').json()
        assert (shown['id'], shown['encrypted_name']) == (made.id, encrypted)
        for plain in ('--plain-names', '--encrypt-names'):
            refused = storj('mb', plain, 'storj://shared', '--json', code=9).error()
            assert refused['error'] == 'AlreadyExistsError'
        with pytest.raises(AlreadyExistsError):
            client.bucket_create('shared', encrypt_name=not encrypted)
        assert made.name == 'shared'
        assert 'shared' in [bucket.name for bucket in client.bucket_list()]
    finally:
        storj('rb', 'storj://shared', '--yes')


@pytest.mark.parametrize(
    'command',
    [
        ('rb', '--yes', 'storj://twins'),
        ('bucket', 'get', 'twins'),
        ('ls', 'storj://twins'),
        ('rm', 'storj://twins/a'),
        ('cat', 'storj://twins/a'),
        ('cp', '-', 'storj://twins/a'),
        ('share', 'storj://twins/a'),
    ],
)
def test_name_of_two_buckets_is_refused_with_both_ids(storj, twins, client, command):
    error = storj(*command, '--json', code=9, input='x').error()
    assert error['error'] == 'AmbiguousNameError'
    assert all(each in error['message'] for each in twins)
    assert 'id' in error['hint']
    with pytest.raises(AmbiguousNameError):
        client.bucket_id('twins')


def test_one_of_two_buckets_is_removed_by_its_id(storj, twins, client):
    storj('cp', '-', f'storj://{twins[1]}/a', input='x')
    storj('rb', '--yes', twins[0])
    assert client.bucket_id('twins') == twins[1]
    assert storj('cat', 'storj://twins/a').raw == b'x'


@pytest.fixture
def two_files(storj, bucket, client, keyless):
    """The ids of two files of one visible name, as two clients can make them."""
    bucket_id = client.bucket_id(bucket)
    encrypted = client.file_upload(bucket_id, b'x', name='a')
    # Without a key nobody can tell that the name is taken.
    plain = keyless.file_upload(bucket_id, b'x', name='a', encrypt=False)
    return [encrypted.id, plain.id]


@pytest.mark.parametrize('encrypted', [True, False])
def test_file_of_the_sdk_is_the_file_of_the_command(storj, bucket, client, tmp_path, encrypted):
    bucket_id = client.bucket_id(bucket)
    client.file_upload(bucket_id, b'first', name='a', encrypt_name=encrypted)
    with pytest.raises(AlreadyExistsError):
        client.file_upload(bucket_id, b'second', name='a', encrypt_name=not encrypted)
    form = '--plain-names' if encrypted else '--encrypt-names'
    storj('cp', form, '-', f'storj://{bucket}/a', input=b'second', code=9)
    assert storj('cat', f'storj://{bucket}/a').raw == b'first'
    client.file_upload(bucket_id, b'second', name='a', encrypt_name=not encrypted, overwrite=True)
    assert storj('cat', f'storj://{bucket}/a').raw == b'second'
    assert len(storj('file', 'list', bucket, '--json').json()) == 1


def test_name_of_two_files_is_refused_with_both_ids(storj, bucket, two_files, tmp_path):
    (tmp_path / 'a').write_text('new')
    for command in (
        ('rm', f'storj://{bucket}/a'),
        ('cat', f'storj://{bucket}/a'),
        ('cp', f'storj://{bucket}/a', tmp_path / 'b'),
        ('cp', tmp_path / 'a', f'storj://{bucket}/'),
        ('cp', '-r', tmp_path, f'storj://{bucket}/'),
        ('mv', f'storj://{bucket}/a', tmp_path / 'b'),
        ('sync', '--yes', '--delete', tmp_path, f'storj://{bucket}/'),
        ('sync', f'storj://{bucket}/', tmp_path / 'down'),
        ('file', 'remove', bucket, 'a'),
        ('share', f'storj://{bucket}/a'),
    ):
        error = storj(*command, '--json', code=9).error()
        assert error['error'] == 'AmbiguousNameError', command
        assert all(each in error['message'] for each in two_files), command
    assert len(storj('file', 'list', bucket, '--json').json()) == 2


def test_one_of_two_files_is_removed_by_its_id(storj, bucket, two_files):
    storj('file', 'remove', bucket, two_files[1])
    [left] = storj('file', 'list', bucket, '--json').json()
    assert left['id'] == two_files[0]
    assert storj('cat', f'storj://{bucket}/a').raw == b'x'


@pytest.fixture
def looked_up(monkeypatch):
    """The names of files that the bridge is asked for."""
    found = []
    request = Client._request

    def watched(client, *args, **kwargs):
        name = kwargs['path'].partition('/file-ids/')[2]
        if name:
            found.append(name)
        return request(client, *args, **kwargs)

    monkeypatch.setattr(Client, '_request', watched)
    return found


@pytest.mark.parametrize('command', [('cp', '-r', '--overwrite'), ('sync',)])
def test_names_of_a_listed_bucket_are_not_looked_up(storj, bucket, tmp_path, looked_up, command):
    folder = tmp_path / 'folder'
    folder.mkdir()
    for name in ('a', 'b', 'c'):
        (folder / name).write_text(f'first {name}')
    storj(*command, folder, f'storj://{bucket}/')
    assert looked_up == []
    (folder / 'b').write_text('another b')
    storj(*command, folder, f'storj://{bucket}/')
    # The bridge refuses a name that it has, and only then is the file looked for.
    assert len(looked_up) == (3 if command[0] == 'cp' else 1)
    assert storj('cat', f'storj://{bucket}/b').raw == b'another b'


@pytest.mark.parametrize('encrypted', [True, False])
def test_upload_of_one_shard_looks_one_name_up(client, bucket, looked_up, encrypted):
    bucket_id = client.bucket_id(bucket)
    client.file_upload(bucket_id, b'data', name='a', encrypt_name=encrypted)
    assert len(looked_up) == 1
    for again in (True, False):
        with pytest.raises(AlreadyExistsError):
            client.file_upload(bucket_id, b'data', name='a', encrypt_name=again)
