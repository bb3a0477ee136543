"""What keeps a gateway from starting, and how it is told."""

from __future__ import annotations

import socket

import pytest
from click.testing import CliRunner

from storj.cli.app import app
from storj.exception import AuthenticationError, BridgeUnreachableError, ConfigurationError
from storj.http import Client, Retries
from storj.s3.index import Index
from storj.s3.server import GatewaySettings, in_background
from tests.s3.certificates import certificate


@pytest.fixture
def start(new_client, tmp_path):
    """Function that starts and stops a gateway."""

    def started(client=None, **settings):
        with in_background(
            client or new_client(), GatewaySettings(tmp_path, port=0, **settings)
        ) as gateway:
            assert gateway.endpoint

    return started


@pytest.mark.parametrize('text', ['["a"]', '{"a": 5}', '{"a": ""}', '{'])
def test_keys_that_are_none_are_refused(start, tmp_path, text):
    (tmp_path / 'keys.json').write_text(text)
    with pytest.raises(ConfigurationError, match='no list of keys'):
        start()


def test_account_that_the_bridge_refuses_is_told(environment, start):
    client = Client(environment['STORJ_BRIDGE_USER'], 'wrong', environment['STORJ_BRIDGE'])
    with pytest.raises(AuthenticationError):
        start(client)


def test_bridge_that_is_away_is_told(start):
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
    client = Client('a@b.c', 'x', f'http://127.0.0.1:{port}', retries=Retries(count=0))
    with pytest.raises(BridgeUnreachableError):
        start(client)


@pytest.mark.parametrize(
    ('url', 'text'),
    [
        ('nonsense secret', 'not given by an SQLAlchemy URL'),
        ('sqlite:////nowhere/at/all', 'cannot be used'),
        ('nonsense://a:secret@b/c', 'cannot be used'),
    ],
)
def test_database_that_cannot_be_used_is_told(url, text):
    with pytest.raises(ConfigurationError, match=text) as found:
        Index(url)
    assert 'secret' not in str(found.value)


@pytest.mark.parametrize(
    ('fault', 'text'),
    [
        ('missing', r'key\.pem: No such file'),
        ('folder', r'key\.pem: Is a directory'),
        ('empty', r'key\.pem: no private key in PEM'),
        ('nonsense', r'chain\.pem: no certificate in PEM'),
        ('cut', r'chain\.pem or .*key\.pem is damaged'),
        ('encrypted', r'key\.pem: the private key is encrypted'),
        ('other', r'key\.pem: the key belongs to another certificate than .*chain\.pem'),
    ],
)
def test_file_of_a_certificate_that_cannot_be_used_is_named(start, tmp_path, fault, text):
    public, private = certificate(b'secret' if fault == 'encrypted' else None)
    other = certificate()[1]
    chain, key = tmp_path / 'chain.pem', tmp_path / 'key.pem'
    chain.write_bytes({'nonsense': b'\xff\0', 'cut': public[:90]}.get(fault, public))
    if fault == 'folder':
        key.mkdir()
    elif fault != 'missing':
        key.write_bytes({'empty': b'', 'other': other}.get(fault, private))
    with pytest.raises(ConfigurationError, match=f'^TLS: [^ ]*{text}'):
        start(tls_cert=chain, tls_key=key)


@pytest.mark.parametrize(
    'command', [('serve', 's3'), ('network', 'up')], ids=lambda words: ' '.join(words)
)
@pytest.mark.parametrize('url', ['postgresql://a:secret@b/c', 'postgresql://a@b/c?password=secret'])
def test_password_in_arguments_is_refused(command, url):
    result = CliRunner().invoke(app, [*command, '--database', url])
    assert result.exit_code == 2
    assert 'DATABASE instead' in result.output
    assert 'secret' not in result.output
