"""A disk that is full: what was stored is read, nothing more is stored, and both are said."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from sqlalchemy.exc import OperationalError

from storj.exception import NetworkSetupError, StorjBridgeApiError
from storj.http import Client
from storj.metadisk import MetaDisk
from storj.network import Network
from storj.network.bridge.state import BridgeSettings
from storj.network.node.space import Reserve, is_full

MIB = 1024 * 1024
CONTENT = os.urandom(50_000)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own; farmers leave 250 MB of each disk to others."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mount = shutil.which('mount')
    words = ['-t', 'tmpfs', '-o', 'size=340m', 'none', str(folder)]
    if mount is None or subprocess.run([mount, *words], capture_output=True).returncode:
        pytest.skip('only root can mount a small disk')
    try:
        yield folder
    finally:
        subprocess.run(['umount', '--lazy', str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take every byte that is left."""
    path = folder / 'filler'
    with path.open('ab', buffering=0) as file:
        for piece in (MIB, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(piece))
    assert shutil.disk_usage(folder).free == 0
    return path


def client_of(account: dict[str, str]) -> Client:
    return Client(
        account['STORJ_BRIDGE_USER'],
        account['STORJ_BRIDGE_PASS'],
        account['STORJ_BRIDGE'],
        mnemonic=account['STORJ_ENCRYPTION_KEY'],
    )


def check_full(account: dict[str, str], bucket: str, file: str, reference: object) -> None:
    """Read what is stored, and be told that nothing more is."""
    told = requests.get(f'{account["STORJ_BRIDGE"]}/health', timeout=30).json()
    assert 'the disk is full' in told['problems']
    with client_of(account) as client, MetaDisk(account['STORJ_BRIDGE']) as node:
        assert [each['id'] for each in client.bucket_files(bucket)] == [file]
        for _ in range(2):
            assert client.file_download(bucket, file).read() == CONTENT
            output = io.BytesIO()
            node.download(reference, output)  # type: ignore[arg-type]
            assert output.getvalue() == CONTENT
        for store in (
            lambda: client.file_upload(bucket, os.urandom(9_000), name='more'),
            lambda: client.bucket_create('another'),
            lambda: node.upload(os.urandom(9_000)),
        ):
            with pytest.raises(StorjBridgeApiError) as caught:
                store()
            assert caught.value.code == 507
            assert not caught.value.retryable


def test_full_disk_is_read_and_takes_nothing(disk: Path) -> None:
    data = disk / 'network'
    with Network(3, data=data, bridge={'mirrors': 1, 'audit_interval': 0}) as network:
        account = network.environment()
        with client_of(account) as client, MetaDisk(account['STORJ_BRIDGE']) as node:
            bucket = client.bucket_create('bucket').id
            file = client.file_upload(bucket, CONTENT, name='file').id
            reference = node.upload(CONTENT)
        filler = fill(disk)
        check_full(account, bucket, file, reference)
        filler.unlink()
        with client_of(account) as client:
            client.file_upload(bucket, os.urandom(9_000), name='more')


def test_full_disk_without_a_reserve_is_read(disk: Path) -> None:
    with (
        Network(2, data=disk / 'network', durable=False, bridge={'mirrors': 0}) as network,
        client_of(network.environment()) as client,
    ):
        bucket = client.bucket_create('bucket').id
        file = client.file_upload(bucket, CONTENT, name='file').id
        fill(disk)
        for _ in range(3):
            assert client.file_download(bucket, file).read() == CONTENT
        with pytest.raises(StorjBridgeApiError, match='No space left at the bridge'):
            client.file_upload(bucket, os.urandom(9_000), name='more')


@pytest.mark.long
def test_network_starts_on_a_full_disk(disk: Path, commands: Path) -> None:
    data = disk / 'network'
    with Network(3, data=data, bridge={'mirrors': 1, 'audit_interval': 0}) as network:
        account = network.environment()
        with client_of(account) as client, MetaDisk(account['STORJ_BRIDGE']) as node:
            bucket = client.bucket_create('bucket').id
            file = client.file_upload(bucket, CONTENT, name='file').id
            reference = node.upload(CONTENT)
    assert (data / 'reserve').stat().st_size == 16 * MIB
    fill(disk)
    words = ['network', 'up', '--json', '--port', '0', '--data', str(data)]
    for _ in range(2):
        with subprocess.Popen(
            [commands / 'python', '-m', 'storj', *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            check_full(ready['environment'], bucket, file, reference)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert not (data / 'reserve').exists()
    # Whoever takes the last bytes as well is told what to do.
    filler = fill(disk)
    with pytest.raises(NetworkSetupError, match='the disk is full; free'):
        Network(data=data).start()
    filler.unlink()
    with Network(data=data) as network, client_of(network.environment()) as client:
        client.file_upload(bucket, os.urandom(9_000), name='more')
    assert (data / 'reserve').exists()


# ---------------------------------------------------------------- the parts


def test_reserve_is_given_free_once_and_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free = [0]
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=free[0]))
    reserve = Reserve(tmp_path, 1_000)
    path = tmp_path / 'reserve'
    seen = []
    for free[0] in (3_000, 1_000, 999, 1_999, 2_999, 3_000, 2_000):
        with caplog.at_level(logging.ERROR):
            seen.append((reserve.has_space(), path.exists(), len(caplog.records)))
    assert seen == [
        (True, True, 0),
        (True, True, 0),
        (False, False, 1),
        (False, False, 1),
        (False, False, 1),
        (True, True, 1),
        (True, True, 1),
    ]
    assert path.stat().st_size == 1_000
    free[0] = 0
    assert Reserve(tmp_path / 'nothing', 0).has_space()


def test_reserve_that_does_not_fit_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, 'full')

    monkeypatch.setattr(os, 'posix_fallocate', fail, raising=False)
    assert not Reserve(tmp_path, 1_000).has_space()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('number', [errno.EOPNOTSUPP, errno.EINVAL])
def test_reserve_is_written_where_it_cannot_be_allocated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(number, 'not supported')

    monkeypatch.setattr(os, 'posix_fallocate', fail, raising=False)
    assert Reserve(tmp_path, 3 * MIB + 1).has_space()
    content = (tmp_path / 'reserve').read_bytes()
    assert len(content) == 3 * MIB + 1
    assert content.count(0) < MIB


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ('error', 'full'),
    [
        (OSError(errno.ENOSPC, 'x'), True),
        (OSError(errno.EDQUOT, 'x'), True),
        (OSError(errno.EIO, 'x'), False),
        (sqlite3.OperationalError('database or disk is full'), True),
        (sqlite3.OperationalError('database is locked'), False),
        (caused(ValueError(), OSError(errno.ENOSPC, 'x')), True),
        (
            caused(OperationalError('x', None, KeyError()), sqlite3.OperationalError('is full')),
            True,
        ),
        (ValueError('is full'), False),
        (None, False),
    ],
)
def test_full_disk_is_told_from_other_errors(error: Exception | None, full: bool) -> None:
    assert is_full(error) is full


def test_bridges_by_themselves_keep_no_reserve(tmp_path: Path) -> None:
    settings = BridgeSettings(database_url='sqlite://', data_dir=tmp_path, public_url='http://a')
    assert settings.reserve == 0
