"""The package itself: what is there after one import, and the ways in that need one line."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from ecdsa import SECP256k1, SigningKey, VerifyingKey

import storj
from storj import configuration, exception, http, transfer
from storj.exception import ClientError, ConfigurationError
from storj.farmer_connection import ChannelLimits
from storj.rest import transport
from storj.retry import RetryPolicy

ROOT = Path(__file__).parent.parent.parent


def run(program: str, **environ: str) -> Any:
    """Run a program in a fresh interpreter and return the JSON that it prints."""
    env = {**os.environ, 'PYTHONPATH': str(ROOT), **environ}
    done = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(program)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# -- the import ------------------------------------------------------------------------------------

#: Packages that a plain ``pip install storj`` does not bring.
OPTIONAL = ('click', 'rich', 'aiohttp', 'sqlalchemy', 'coincurve', 'keyring', 'steenzout')

BLOCK = f"""
    import sys

    class Blocker:
        def find_spec(self, name, path=None, target=None):
            if name.partition('.')[0] in {OPTIONAL!r}:
                raise ImportError(f'{{name}} is not installed')

    sys.meta_path.insert(0, Blocker())
"""


def test_import_needs_no_optional_package() -> None:
    found = run(
        BLOCK
        + """
    import json
    import storj
    from storj import http, exception, model
    import storj.exception as sjexc
    storj.Client('e', 'p')
    parts = [storj.api, storj.configuration, storj.crypto, storj.digest, storj.erasure,
             storj.metadisk, storj.sharding, storj.transfer, storj.web_socket]
    print(json.dumps([part.__name__ for part in parts]))
    """
    )
    assert found[-1] == 'storj.web_socket'


def test_import_loads_nothing_that_it_does_not_need() -> None:
    # What an import loads is what makes it slow; ``python -m benchmarks`` prints the time.
    loaded = set(
        run(
            """
    import json, sys
    before = set(sys.modules)
    import storj
    print(json.dumps(sorted(set(sys.modules) - before)))
    """
        )
    )
    packages = {name.partition('.')[0] for name in loaded}
    assert {name for name in loaded if name.partition('.')[0] == 'storj'} == {
        'storj',
        'storj.exception',
        'storj.metadata',
        'storj.object',
    }
    # The interpreter's own file of settings is named after the platform.
    foreign = {name for name in packages - sys.stdlib_module_names if not name.startswith('_')}
    assert foreign <= {'storj', 'dateutil', 'six', 'steenzout'}
    assert not packages & {'asyncio', 'concurrent', 'http', 'socket', 'sqlite3', 'ssl'}


@pytest.mark.parametrize(
    'name',
    [
        'api',
        'cli',
        'configuration',
        'crypto',
        'digest',
        'erasure',
        'exception',
        'http',
        'metadata',
        'metadisk',
        'model',
        'network',
        'object',
        'sharding',
        'transfer',
        'web_socket',
    ],
)
def test_submodule_is_an_attribute(name: str) -> None:
    assert getattr(storj, name).__name__ == f'storj.{name}'
    assert name in dir(storj)


def test_names_of_other_modules_are_at_the_top() -> None:
    assert storj.Client is http.Client
    assert storj.Bucket is storj.model.Bucket
    assert storj.File is storj.model.File
    assert storj.Token is storj.model.Token
    assert storj.ecdsa_to_hex is storj.api.ecdsa_to_hex
    assert {'Client', 'Bucket', 'File', 'Token', 'ecdsa_to_hex'} <= set(dir(storj))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = storj.nothing


def test_version_is_that_of_the_metadata() -> None:
    assert storj.version() == storj.__version__ == storj.metadata.__version__
    assert all(hasattr(storj, name) for name in storj.__all__)


# -- ways in ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith('STORJ_'):
            monkeypatch.delenv(name)
    monkeypatch.setenv('STORJ_CONFIG_DIR', str(tmp_path))
    return tmp_path


def write(folder: Path, text: str) -> None:
    path = folder / 'storj.ini'
    path.write_text('[storj]\n' + text, encoding='utf-8')
    path.chmod(0o600)


def test_client_is_made_of_the_file(folder: Path) -> None:
    write(folder, 'email = a@b\npassword = correct horse\nbridge = http://b/\nmnemonic = words\n')
    client = storj.get_client()
    assert isinstance(client, http.Client)
    assert (client.email, client.api_url, client.mnemonic) == ('a@b', 'http://b/', 'words')
    assert client.password == '4104d36f8da2c254349f85836793ebe029e0c957063a34c91c2e9203187b5631'


def test_environment_goes_before_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, 'email = a@b\npassword = pw\nbridge = http://file/\nmnemonic = file words\n')
    monkeypatch.setenv('STORJ_BRIDGE', 'http://environment/')
    monkeypatch.setenv('STORJ_BRIDGE_USER', 'c@d')
    monkeypatch.setenv('STORJ_BRIDGE_PASS', 'other')
    monkeypatch.setenv('STORJ_ENCRYPTION_KEY', 'environment words')
    client = storj.get_client()
    assert (client.api_url, client.mnemonic) == ('http://environment/', 'environment words')
    assert client.email == 'c@d'


def test_login_of_the_file_is_for_its_own_bridge(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, 'email = a@b\npassword = pw\nbridge = http://me:secret@file/\n')
    monkeypatch.setenv('STORJ_BRIDGE', 'http://environment/')
    with pytest.raises(ConfigurationError, match='is for http://file/: log in at http://env') as it:
        storj.get_client()
    assert 'secret' not in str(it.value)
    monkeypatch.setenv('STORJ_BRIDGE', 'HTTP://File:80/below')
    assert storj.get_client().email == 'a@b'


def test_client_takes_the_limits_of_the_settings(folder: Path) -> None:
    write(folder, 'email = a@b\npassword = pw\n')
    assert storj.get_client()._transfer_config is None
    write(folder, f'email = a@b\npassword = pw\nreed_solomon = no\ntemp_dir = {folder}\n')
    config = storj.get_client()._transfer_config
    assert config == transfer.TransferConfig(parity=False, temp_dir=folder)
    write(folder, 'email = a@b\npassword = pw\npush_shard_limit = 3\n')
    assert storj.get_client()._transfer_config == transfer.TransferConfig(concurrency=3)
    lines = 'retries = 2\nbridge_retries = 0\nlimit_upload = off\nfarmer_timeout = 7s\n'
    write(folder, f'email = a@b\npassword = pw\ntimeout = 3s\n{lines}')
    client = storj.get_client()
    assert (client.timeout, client._retries.count) == (3.0, 0)
    assert client._transfer_config == transfer.TransferConfig(
        shard_attempts=3,
        bridge_retry=RetryPolicy(attempts=1),
        channel=ChannelLimits(connect=7, first_byte=7, acknowledge=7, stall=7),
    )


def test_client_signs_with_the_key_of_the_settings(folder: Path) -> None:
    key, _ = storj.generate_new_key_pair()
    (folder / 'private.pem').write_bytes(key.to_pem())
    write(folder, f'private_key = {folder / "private.pem"}\n')
    client = storj.get_client()
    assert client.private_key == key
    assert isinstance(client._auth(), transport.KeyAuth)


def test_without_account_there_is_no_client(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r'storj\.ini'):
        storj.get_client()


def test_account_is_asked_of_the_documented_function(folder: Path) -> None:
    for name in ('storj.read_config', 'storj.configuration.read_config'):
        with mock.patch(name, return_value=('a@b', 'pw')) as read_config:
            client = storj.get_client()
        read_config.assert_called_once_with()
        assert (client.email, client.password) == ('a@b', storj.api.hash_password('pw'))


def test_client_takes_settings_that_are_read_once(folder: Path) -> None:
    write(folder, 'email = a@b\npassword = pw\n')
    with mock.patch.object(configuration, 'load', wraps=configuration.load) as load:
        client = storj.get_client()
    load.assert_called_once_with()
    assert client.email == 'a@b'


def test_key_pair_is_new_and_of_the_right_curve() -> None:
    private_key, public_key = storj.generate_new_key_pair()
    assert isinstance(private_key, SigningKey)
    assert isinstance(public_key, VerifyingKey)
    assert private_key.curve == SECP256k1
    assert private_key.get_verifying_key() == public_key
    assert private_key != storj.generate_new_key_pair()[0]


class Account(http.Client):
    """A client that has one bucket and one file, and keeps what it is asked."""

    closed = 0

    def __init__(self) -> None:
        super().__init__('a@b', 'pw')
        self.moved: list[Any] = []

    def bucket_id(self, name: str) -> str | None:
        return 'b1' if name == 'photos' else None

    def file_id(self, bucket_id: str, name: str) -> str | None:
        return 'f1' if (bucket_id, name) == ('b1', 'a/cat.jpg') else None

    def file_upload(self, *args: Any, **options: Any) -> Any:
        self.moved.append((args, options))
        return 'file'

    def file_download(self, *args: Any, **options: Any) -> Any:
        self.moved.append((args, options))
        return io.BytesIO(b'cat')

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def account(folder: Path) -> Iterator[Account]:
    client = Account()
    with mock.patch.object(storj, 'get_client', return_value=client):
        yield client
    assert client.closed <= 1


@pytest.mark.parametrize(
    ('source', 'address', 'name'),
    [
        ('dir/cat.jpg', 'storj://photos/a/cat.jpg', 'a/cat.jpg'),
        ('dir/cat.jpg', 'storj://photos/', 'cat.jpg'),
        ('dir/cat.jpg', 'storj://photos', 'cat.jpg'),
        (Path('dir/cat.jpg'), 'storj://photos/a/', 'a/cat.jpg'),
        (b'bytes', 'storj://photos/ä ü', 'ä ü'),
    ],
)
def test_upload_takes_an_address(account: Account, source: Any, address: str, name: str) -> None:
    assert storj.upload(source, address, parity=False) == 'file'  # type: ignore[comparison-overlap]
    assert account.moved == [(('b1', source), {'name': name, 'parity': False})]
    assert account.closed == 1


def test_client_stores_plain_names_where_the_settings_say_so(folder: Path) -> None:
    write(
        folder, f'email = a@b\npassword = p\nmnemonic = {"abandon " * 11}about\nplain_names = yes\n'
    )
    with (
        storj.get_client() as client,
        mock.patch.object(http.Client, '_request', return_value={}) as request,
        mock.patch.object(http.Client, 'bucket_list', return_value=[]),
    ):
        client.bucket_create('photos')
        assert request.call_args.kwargs['json'] == {'name': 'photos'}


def test_download_takes_an_address(account: Account) -> None:
    assert storj.download('storj://photos/a/cat.jpg', 'to', resume=False).read() == b'cat'
    assert account.moved == [(('b1', 'f1', 'to'), {'resume': False})]
    assert account.closed == 1


@pytest.mark.parametrize(
    'address', ['', 'photos/cat.jpg', 'storj://', 'storj:///x', 'http://photos/x', 's3://photos/x']
)
def test_address_of_another_form_is_refused(account: Account, address: str) -> None:
    with pytest.raises(ValueError, match='storj://bucket/name'):
        storj.upload('x', address)
    with pytest.raises(ValueError, match='storj://bucket/name'):
        storj.download(address)


@pytest.mark.parametrize('address', [None, 5, b'storj://photos/x'])
def test_address_of_another_type_is_refused(account: Account, address: Any) -> None:
    with pytest.raises(TypeError):
        storj.download(address)


def test_what_has_no_name_needs_one(account: Account) -> None:
    with pytest.raises(ValueError, match='names no file'):
        storj.upload(b'bytes', 'storj://photos/')
    with pytest.raises(ValueError, match='names no file'):
        storj.download('storj://photos/')


@pytest.mark.parametrize(
    ('address', 'missing'), [('storj://other/x', 'bucket'), ('storj://photos/other', 'file')]
)
def test_what_is_not_there_is_named(account: Account, address: str, missing: str) -> None:
    with pytest.raises(exception.NotFoundError, match=f'no {missing} ') as caught:
        storj.download(address)
    assert caught.value.code == 404
    assert account.closed == 1


def test_record_made_by_hand_acts_through_get_client(folder: Path) -> None:
    write(folder, 'email = a@b\npassword = pw\n')
    with mock.patch.object(http.Client, '_request') as request:
        storj.model.Bucket(id='b').delete()
    request.assert_called_once_with(method='DELETE', path='/buckets/b')


def test_record_made_by_hand_acts_through_a_replaced_client() -> None:
    with mock.patch('storj.get_client') as get_client:
        storj.model.Bucket(id='b').delete()
        storj.model.File(bucket='b', id='f').delete()
    get_client.return_value.bucket_delete.assert_called_once_with('b')
    get_client.return_value.file_remove.assert_called_once_with('b', 'f')


@pytest.mark.parametrize('name', ['storj.Client', 'storj.http.Client'])
def test_client_is_made_by_the_class_that_is_there(folder: Path, name: str) -> None:
    write(folder, 'email = a@b\npassword = pw\n')
    with mock.patch(name) as made:
        assert storj.get_client() is made.return_value
    assert made.call_args.args[:2] == ('a@b', 'pw')


def test_errors_of_all_kinds_have_one_base() -> None:
    assert issubclass(ClientError, exception.StorjError)


def test_warnings_stay_silent_until_a_program_wants_them() -> None:
    done = subprocess.run(
        [
            sys.executable,
            '-c',
            'import logging, storj; logging.getLogger("storj.http").warning("x")',
        ],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ''
