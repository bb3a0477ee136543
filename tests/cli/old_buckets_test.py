"""The commands on buckets as programs of 0.1.5 call them: through click, with a client replaced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import click
import pytest
from click.testing import CliRunner

import storj.cli
from storj import http, model
from storj.crypto import names

WORDS = 'abandon ' * 11 + 'about'


@pytest.fixture
def get_client() -> Iterator[mock.MagicMock]:
    with mock.patch('storj.cli.get_client') as replaced:
        yield replaced


def output_of(command: str, *arguments: str, code: int = 0) -> str:
    found: click.Command = getattr(storj.cli, command)
    done = CliRunner().invoke(found, arguments)
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize(
    ('options', 'storage', 'transfer'),
    [
        ((), None, None),
        (('--storage', '25'), 25, None),
        (('--storage', '25', '--transfer', '39'), 25, 39),
    ],
)
def test_bucket_is_created(
    get_client: mock.MagicMock, options: Any, storage: Any, transfer: Any
) -> None:
    assert output_of('create', 'photos', *options) == 'Bucket photos created\n'
    get_client.assert_called_once_with()
    get_client.return_value.bucket_create.assert_called_once_with(
        'photos', storage=storage, transfer=transfer
    )


def test_bucket_is_shown_with_all_attributes(get_client: mock.MagicMock) -> None:
    bucket = model.Bucket(
        id='b', name='n', status='Active', user='e@x', storage=1, transfer=2, pubkeys=['k']
    )
    get_client.return_value.bucket_get.return_value = bucket
    assert output_of('get', 'b') == (
        '           created : None\n'
        '     encryptionKey : None\n'
        '                id : b\n'
        '              name : n\n'
        "           pubkeys : ['k']\n"
        ' publicPermissions : None\n'
        '            status : Active\n'
        '           storage : 1\n'
        '          transfer : 2\n'
        '              user : e@x\n'
    )
    get_client.return_value.bucket_get.assert_called_once_with('b')


def test_bucket_that_is_not_there_is_an_error(get_client: mock.MagicMock) -> None:
    get_client.return_value.bucket_get.return_value = None
    assert output_of('get', 'b', code=1) == 'Error: no such bucket: b\n'


def test_buckets_are_listed_one_a_line(get_client: mock.MagicMock) -> None:
    get_client.return_value.bucket_list.return_value = iter(
        [model.Bucket(id='a', name='n', storage=1, transfer=2), model.Bucket(id='b', name='m')]
    )
    assert output_of('list') == (
        '[info]   ID: a, Name: n, Storage: 1, Transfer: 2\n'
        '[info]   ID: b, Name: m, Storage: None, Transfer: None\n'
    )


def test_names_are_encrypted_where_there_is_a_key(
    get_client: mock.MagicMock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('STORJ_CONFIG_DIR', str(tmp_path))
    get_client.return_value = http.Client('e@x', 'pw', mnemonic=WORDS)
    stored = names.encrypt_bucket_name(WORDS, 'photos')
    with (
        mock.patch.object(http.Client, '_request', return_value={}) as request,
        mock.patch.object(http.Client, '_ids_of_buckets', return_value=[]),
    ):
        assert output_of('create', 'photos') == 'Bucket photos created\n'
        assert request.call_args.kwargs['json'] == {'name': stored}
        request.return_value = {'id': 'b', 'name': stored}
        assert '              name : photos\n' in output_of('get', 'b')
        request.return_value = [{'id': 'b', 'name': stored}]
        assert 'Name: photos,' in output_of('list')
        get_client.return_value = http.Client('e@x', 'pw', mnemonic=WORDS, plain_names=True)
        request.return_value = {}
        output_of('create', 'photos')
        assert request.call_args.kwargs['json'] == {'name': 'photos'}


def test_words_of_a_bridge_drive_no_terminal(get_client: mock.MagicMock) -> None:
    bucket = model.Bucket(id='b', name='\x1b[2J', status='\x1b]0;x\x07')
    get_client.return_value.bucket_get.return_value = bucket
    get_client.return_value.bucket_list.return_value = [bucket]
    for said in (output_of('get', 'b'), output_of('list')):
        assert '\x1b' not in said
        assert '\x07' not in said
