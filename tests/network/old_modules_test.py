"""The modules of releases 0.2 and 0.3 against the local network."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from storj import exception
from storj.crypto import mnemonic as words
from storj.crypto.salted import Encryptor
from storj.downloader import Downloader
from storj.http import Client
from storj.model import ShardManager
from storj.network import Network
from storj.transfer import Progress, TransferConfig
from storj.uploader import Uploader

CONTENT = os.urandom(3 * 1024 * 1024 + 5)


@pytest.fixture
def uploader(network: Network) -> Uploader:
    return Uploader(network.email, network.password, storj_bridge=network.bridge_url)


@pytest.fixture
def downloader(network: Network, tmp_path: Path) -> Downloader:
    made = Downloader(network.email, network.password, storj_bridge=network.bridge_url)
    made.destination_file_path = str(tmp_path / 'fetched')
    return made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / f'{uuid.uuid4()}.bin'
    path.write_bytes(CONTENT)
    return path


def fetched(downloader: Downloader) -> list[str]:
    folder = Path(downloader.destination_file_path)
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_file_comes_back_with_email_and_password_alone(
    uploader: Uploader, downloader: Downloader, client: Client, bucket: str, source: Path
) -> None:
    temporary = source.parent / 'temporary'
    temporary.mkdir()
    up: list[Progress] = []
    down: list[Progress] = []
    file = uploader.file_upload(bucket, str(source), str(temporary), progress=up.append)
    assert list(temporary.iterdir()) == []
    assert uploader.all_shards_count == uploader.shards_already_uploaded == up[-1].shards > 0
    # The clear name, from which programs compute the id.
    assert file.filename == source.name
    assert file.id == ShardManager.hash(bucket + source.name)[:24]
    stored = client.file_download(bucket, file.id or '', decrypt=False).read()
    assert stored.startswith(b'Salted__')
    assert CONTENT[:64] not in stored

    path = downloader.download_begin(bucket, file.id or '', progress=down.append)
    assert Path(path) == Path(downloader.destination_file_path, source.name)
    assert Path(path).read_bytes() == CONTENT
    assert fetched(downloader) == [source.name]
    assert downloader.filename_from_bridge == source.name
    assert downloader.all_shards_count > 0
    assert downloader.get_file_pointers_count(bucket, file.id or '') == up[-1].shards
    for states in (up, down):
        assert states[-1].phase == 'done'
        assert states[-1].bytes == states[-1].total
        assert len({state.bytes for state in states}) > 1


def test_encryption_key_goes_before_the_password(
    network: Network, client: Client, bucket: str, source: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        'storj_bridge': network.bridge_url,
        'mnemonic': network.mnemonic,
    }
    file = Uploader(network.email, network.password, **options).file_upload(bucket, source)
    assert client.file_download(bucket, file.id or '').read() == CONTENT
    downloader = Downloader(network.email, network.password, **options)
    downloader.destination_file_path = tmp_path / 'fetched'
    assert Path(downloader.download_begin(bucket, file.id or '')).read_bytes() == CONTENT


def test_bridge_cannot_put_a_password_file_in_the_place_of_another(
    network: Network, uploader: Uploader, downloader: Downloader, bucket: str, source: Path
) -> None:
    file = uploader.file_upload(bucket, source)
    downloader.client.mnemonic = network.mnemonic
    with pytest.raises(exception.StorjError):
        downloader.download_begin(bucket, file.id or '')
    assert fetched(downloader) == []


def test_file_of_another_key_is_refused_without_one(
    downloader: Downloader, client: Client, bucket: str, source: Path
) -> None:
    file = client.file_upload(bucket, source, encrypt_name=False)
    with pytest.raises(exception.DecryptionError, match='not encrypted as releases'):
        downloader.download_begin(bucket, file.id or '')
    assert fetched(downloader) == []


def test_another_password_leaves_nothing(
    uploader: Uploader,
    downloader: Downloader,
    bucket: str,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = uploader.file_upload(bucket, source)
    # Another one for the file only: the bridge has to let the account in.
    monkeypatch.setattr('storj.downloader.password_of', lambda client: 'other')
    with pytest.raises(exception.DecryptionError, match='password'):
        downloader.download_begin(bucket, file.id or '')
    assert fetched(downloader) == []


def old_entry(client: Client, bucket: str, content: bytes, name: str) -> str:
    """Store what release 0.3 stored: shards as they are, and an HMAC that proves nothing."""
    request = client._request

    def as_of_old(method: str, path: str, **options: Any) -> Any:
        if (method, path) == ('POST', f'/buckets/{bucket}/files'):
            options['json'] = {
                'frame': options['json']['frame'],
                'mimetype': 'text/plain',
                'filename': name,
                'hmac': {'type': 'sha512', 'value': 'a' * 56},
            }
        return request(method=method, path=path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, '_request', as_of_old)
        return str(client.file_upload(bucket, content, name=name, encrypt=False).id)


def test_file_that_release_0_3_stored_comes_back(
    client: Client, downloader: Downloader, bucket: str
) -> None:
    cipher = Encryptor(client.password or '')
    stored = cipher.update(CONTENT) + cipher.finish()
    file_id = old_entry(client, bucket, stored, 'photo.jpg')
    assert Path(downloader.download_begin(bucket, file_id)).read_bytes() == CONTENT


def test_file_whose_name_says_decrypted_is_in_the_clear(
    client: Client, downloader: Downloader, bucket: str
) -> None:
    file_id = old_entry(client, bucket, CONTENT, 'photo.jpg[DECRYPTED]')
    assert Path(downloader.download_begin(bucket, file_id)).read_bytes() == CONTENT


@pytest.mark.parametrize(
    'name',
    ['../evil', '/tmp/evil', '..', 'a/b', '..\\evil', 'C:evil', 'a\x1b[2Jb', 'a\0b', '', None],
)
def test_name_that_leads_elsewhere_is_refused(
    client: Client, downloader: Downloader, bucket: str, monkeypatch: Any, name: str | None
) -> None:
    file = client.file_upload(bucket, b'content', name='name', encrypt=False)
    entry = client.file_metadata(bucket, file.id or '')
    entry.filename = name
    monkeypatch.setattr(downloader.client, 'file_metadata', lambda *_: entry)
    with pytest.raises(exception.IntegrityError, match='name') as caught:
        downloader.download_begin(bucket, file.id or '')
    assert '\x1b' not in str(caught.value)
    assert not Path(downloader.destination_file_path).exists()


def test_name_that_is_taken_is_replaced_on_request_only(
    uploader: Uploader, downloader: Downloader, bucket: str, source: Path
) -> None:
    first = uploader.file_upload(bucket, source)
    source.write_bytes(b'new')
    with pytest.raises(exception.AlreadyExistsError):
        uploader.file_upload(bucket, source)
    second = uploader.file_upload(bucket, source, overwrite=True)
    assert second.filename == first.filename
    path = Path(downloader.download_begin(bucket, second.id or ''))
    assert path.read_bytes() == b'new'


def test_bridge_is_that_of_the_settings(
    network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv('STORJ_BRIDGE', network.bridge_url)
    monkeypatch.setenv('STORJ_ENCRYPTION_KEY', words.generate())
    for kind in (Uploader, Downloader):
        made = kind('alice@example.org', 'password')
        assert made.client.api_url == network.bridge_url
        # A key goes in by name only: the account may be another than that of the settings.
        assert made.client.mnemonic is None


def test_limits_of_transfers_are_those_of_the_program(
    network: Network, bucket: str, source: Path
) -> None:
    uploader = Uploader(
        network.email,
        network.password,
        storj_bridge=network.bridge_url,
        transfer_config=TransferConfig(shard_size=1024 * 1024, parity=False),
    )
    uploader.file_upload(bucket, source)
    assert uploader.all_shards_count == 4


def test_failures_are_told(uploader: Uploader, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        uploader.file_upload(bucket, tmp_path / 'nothing')
    (tmp_path / 'file').write_bytes(b'x')
    with pytest.raises(exception.NotFoundError):
        uploader.file_upload('0' * 24, tmp_path / 'file')
    uploader.client.password = None
    with pytest.raises(exception.ClientError, match='password'):
        uploader.file_upload(bucket, tmp_path / 'file')


def test_warning_says_who_can_read_the_file(
    uploader: Uploader, bucket: str, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uploader.file_upload(bucket, source)
    assert 'a key that the bridge knows' in caplog.text
