"""What an account of e-mail and password only can do, which is all that 0.1.5 documents."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import storj
from storj.exception import MnemonicError
from storj.http import Client
from storj.network import Network
from tests.network.engine import client_of

CONTENT = os.urandom(100_000)


@pytest.fixture
def folder(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a configuration that names an account and no encryption key."""
    for name in [name for name in os.environ if name.startswith('STORJ_')]:
        monkeypatch.delenv(name)
    monkeypatch.setenv('STORJ_CONFIG_DIR', str(tmp_path))
    monkeypatch.setenv('STORJ_BRIDGE', network.bridge_url)
    monkeypatch.setenv('STORJ_BRIDGE_USER', network.email)
    monkeypatch.setenv('STORJ_BRIDGE_PASS', network.password)
    return tmp_path


Upload = Callable[[Network, str], Any]


def by_client(network: Network, bucket: str) -> Any:
    with client_of(network, mnemonic=storj.configuration.load().mnemonic) as client:
        return client.file_upload(bucket, CONTENT, name='by client')


def by_manager(network: Network, bucket: str) -> Any:
    return storj.FileManager(bucket).upload(CONTENT, name='by manager')


@pytest.mark.parametrize('upload', [by_client, by_manager])
def test_error_without_a_key_holds_the_lines_that_make_one(
    network: Network, bucket: str, folder: Path, upload: Upload
) -> None:
    with pytest.raises(MnemonicError, match='no encryption key') as caught:
        upload(network, bucket)
    lines = [line for line in str(caught.value).splitlines() if line.startswith('    ')]
    program = textwrap.dedent('\n'.join(lines))
    made: dict[str, Any] = {}
    exec(program, made)
    stored = upload(network, bucket)
    assert storj.FileManager(bucket).download(stored.id).getvalue() == CONTENT
    # A key that is there opens the files of the account: the same lines keep it.
    again: dict[str, Any] = {}
    exec(program, again)
    assert again['key'] == made['key'] == storj.get_client().mnemonic


def test_error_of_a_wrong_key_makes_no_other(network: Network, bucket: str) -> None:
    client = client_of(network, mnemonic='no such words')
    with client, pytest.raises(MnemonicError) as caught:
        client.file_upload(bucket, CONTENT, name='wrong')
    assert 'generate()' not in str(caught.value)


def test_file_stored_without_encryption_needs_no_key(
    network: Network, bucket: str, folder: Path
) -> None:
    manager = storj.FileManager(bucket)
    stored = manager.upload(CONTENT, name='plain.bin', encrypt=False)
    assert stored.filename == 'plain.bin'
    assert manager.download(stored.id).getvalue() == CONTENT
    with client_of(network, mnemonic=None) as client:
        assert client.file_download(bucket, stored.id).getvalue() == CONTENT
        assert client.file_metadata(bucket, stored.id).download().getvalue() == CONTENT


def test_key_of_an_account_is_registered_and_signs(network: Network, folder: Path) -> None:
    with client_of(network, mnemonic=None) as client:
        _, public_key = client.key_generate(folder / 'keys')
        assert client.public_key_hex in client.key_list()
    with Client(None, None, network.bridge_url) as signing:
        signing.key_import(folder / 'keys' / 'private.pem')
        assert client.public_key_hex in signing.key_list()
    with client_of(network, mnemonic=None) as again:
        # The account has it already.
        again.key_import(folder / 'keys' / 'private.pem', folder / 'keys' / 'public.pem')
        assert again.public_key == public_key
        again.key_delete(public_key)
