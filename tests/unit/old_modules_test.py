"""Files encrypted with a password, and sizes of shards, in the modules of releases 0.2 and 0.3."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

import storj
from storj import exception, model
from storj.file_crypto import FileCrypto
from storj.sharder import ShardingException, ShardingTools

CRYPTO = FileCrypto()
TOOLS = ShardingTools()
MIB = 1024**2
GIB = 1024**3


def test_modules_are_attributes_after_one_import() -> None:
    assert storj.file_crypto.FileCrypto is FileCrypto
    assert storj.sharder.ShardingTools is ShardingTools
    assert storj.uploader.Uploader
    assert storj.downloader.Downloader


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize('size', [0, 1, 15, 16, 17, 256 * 1024, 256 * 1024 + 1])
def test_file_comes_back_with_its_password(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    plain, sealed, opened = (str(tmp_path / name) for name in ('plain', 'sealed', 'opened'))
    Path(plain).write_bytes(content)
    CRYPTO.encrypt_file('AES', plain, sealed, 'password')
    assert Path(sealed).read_bytes().startswith(b'Salted__')
    CRYPTO.decrypt_file('AES', sealed, opened, 'password')
    assert Path(opened).read_bytes() == content
    assert Path(opened).stat().st_mode & 0o777 == 0o600


def test_key_and_block_are_those_of_openssl() -> None:
    # openssl enc -aes-256-cbc -md md5 -S 0102030405060708 -k password -P
    key, block = CRYPTO.derive_key_and_iv('password', bytes(range(1, 9)), 32, 16)
    assert key.hex() == 'e7b0971e52ca5cc8d0539fb3412f6316f7ba2e6ee293d9f3457b99436b51ce02'
    assert block.hex() == '8d450e2ed75a84a923d4eac9fe49226b'


@pytest.mark.parametrize('key_length', [16, 24, 32])
def test_open_files_are_passed_through(key_length: int) -> None:
    sealed, opened = io.BytesIO(), io.BytesIO()
    CRYPTO.encrypt_file_aes(io.BytesIO(b'content'), sealed, b'password', key_length)
    sealed.seek(0)
    CRYPTO.decrypt_file_aes(sealed, opened, 'password', key_length)
    assert opened.getvalue() == b'content'


@pytest.mark.parametrize('content', [b'', b'no encrypted file', b'Salted__12345678' + bytes(16)])
def test_file_that_does_not_open_leaves_the_old_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'sealed').write_bytes(content)
    (tmp_path / 'opened').write_bytes(b'old')
    with pytest.raises(exception.DecryptionError):
        CRYPTO.decrypt_file('AES', tmp_path / 'sealed', tmp_path / 'opened', 'password')
    assert (tmp_path / 'opened').read_bytes() == b'old'
    assert len(list(tmp_path.iterdir())) == 2


def test_other_algorithm_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'file').write_bytes(b'x')
    for function in (CRYPTO.encrypt_file, CRYPTO.decrypt_file):
        with pytest.raises(ValueError, match='DES'):
            function('DES', tmp_path / 'file', tmp_path / 'other', 'password')
    assert not (tmp_path / 'other').exists()


# -- shards ----------------------------------------------------------------------------------------


def test_exception_is_that_of_the_models() -> None:
    assert ShardingException is model.ShardingException is exception.ShardingException


@pytest.mark.parametrize(
    ('size', 'shard_size', 'count'),
    [(0, 0, 0), (1, 8 * MIB, 1), (20 * MIB, 8 * MIB, 3), (43 * GIB, 4 * GIB, 11)],
)
def test_choice_of_shards(size: int, shard_size: int, count: int) -> None:
    assert TOOLS.get_optimal_shard_parametrs(size) == {
        'shard_size': str(shard_size),
        'shard_count': count,
        'file_size': size,
    }
    assert TOOLS.determine_shard_size(size, 0) == shard_size


def test_limits_are_those_of_the_tools() -> None:
    tools = ShardingTools()
    assert (tools.MAX_SHARD_SIZE, tools.SHARD_MULTIPLES_BACK) == (4 * GIB, 4)
    assert [tools.shard_size(hops) for hops in (0, 1, 9)] == [8 * MIB, 16 * MIB, 4 * GIB]
    tools.MAX_SHARD_SIZE = GIB
    assert tools.determine_shard_size(43 * GIB) == GIB
    with pytest.raises(ValueError, match='negative'):
        tools.determine_shard_size(-1)


def test_shards_are_joined_in_their_order(tmp_path: Path) -> None:
    (tmp_path / 'file').write_bytes(b'0123456789')
    manager = model.ShardManager(tmp_path / 'file', 3, tmp_path=tmp_path)
    joined = io.BytesIO()
    shards = [(tmp_path / f'file-{n}').open('rb') for n in range(1, manager.index + 1)]
    try:
        assert TOOLS.join_shards(shards, joined) is True
    finally:
        for shard in shards:
            shard.close()
    assert joined.getvalue() == b'0123456789'


def test_shard_that_cannot_be_read_is_named() -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> Any:
            raise OSError(5, 'broken disk')

    with pytest.raises(ShardingException, match='shard 1: broken disk'):
        TOOLS.join_shards([io.BytesIO(b'a'), Broken()], io.BytesIO())  # type: ignore[list-item]
