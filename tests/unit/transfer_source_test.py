"""Sources of uploads that are files by name only: what they answer, and what they are called."""

from __future__ import annotations

import codecs
import dataclasses
import io
import os
from pathlib import Path
from typing import Any

import pytest

from storj.exception import PaymentRequiredError, SourceChangedError
from storj.metadisk import MetaDisk
from storj.transfer import DownloadOptions, UploadOptions
from storj.transfer.config import DownloadRequest, UploadRequest
from storj.transfer.source import open_source
from tests.unit.fake_network import SHARD, Setting
from tests.unit.scripted_farmer import Connection, ScriptedFarmer


class Remote:
    """A file as paramiko's: seekable, but `seek` answers nothing."""

    def __init__(self, data: bytes) -> None:
        self._memory = io.BytesIO(data)

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> None:
        self._memory.seek(offset, whence)

    def tell(self) -> int:
        return self._memory.tell()

    def read(self, size: int = -1) -> bytes:
        return self._memory.read(size)


@pytest.mark.parametrize('start', [0, 10, 3 * SHARD, 3 * SHARD + 5])
@pytest.mark.parametrize('kind', [Remote, io.BytesIO, 'path'])
def test_file_is_read_from_its_position_on(
    setting: Setting, tmp_path: Path, kind: Any, start: int
) -> None:
    data = os.urandom(3 * SHARD)
    (tmp_path / 'source').write_bytes(data)
    with (tmp_path / 'source').open('rb') as opened:
        source = opened if kind == 'path' else kind(data)
        source.seek(start)
        assert setting.download(setting.upload(source)).read() == data[start:]


@pytest.mark.parametrize('kind', ['reader', 'both', 'text'])
def test_text_files_of_every_kind_are_refused_at_once(
    setting: Setting, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / 'source'
    path.write_bytes(b'\xff' * 100)
    reader, writer = codecs.getreader('latin-1'), codecs.getwriter('latin-1')
    with path.open('rb') as raw:
        both = codecs.StreamReaderWriter(raw, reader, writer)
        files = {'reader': codecs.getreader('utf-8')(raw), 'both': both, 'text': io.StringIO('x')}
        with pytest.raises(TypeError, match='binary mode'):
            setting.upload(files[kind])
    assert 'frame_create' not in setting.bridge.calls


@pytest.mark.parametrize('grown', [True, False])
def test_file_that_grows_or_shrinks_is_no_reason_to_download(setting: Setting, grown: bool) -> None:
    memory = io.BytesIO(os.urandom(2 * SHARD))

    def pushing(node: str, data: bytes) -> bytes:
        if grown:
            memory.seek(0, io.SEEK_END)
            memory.write(b'more')
        else:
            memory.truncate(SHARD)
        return data

    setting.channel.pushing = pushing
    with pytest.raises(SourceChangedError, match='the source changed') as caught:
        setting.upload(memory)
    # The command line prints what the class advises.
    advice = (type(caught.value).__doc__ or '').partition('\n\n')[2]
    assert 'storj cp -' in advice
    assert 'download' not in advice


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes with names here')
def test_pipe_by_its_name_is_refused_with_the_way_to_store_it(tmp_path: Path) -> None:
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match=r'not a regular file.*storj cp - storj://'):
        open_source(pipe)


@pytest.mark.parametrize('name', [' ', '\t', '\n', '\u3000', ' x ', '.', '/'])
@pytest.mark.parametrize('encrypt', [True, False])
def test_any_text_is_a_name(setting: Setting, name: str, encrypt: bool) -> None:
    file = setting.upload(b'data', name=name, encrypt=encrypt)
    assert setting.download(file, decrypt=encrypt).read() == b'data'
    if not encrypt:
        assert file.filename == name


@pytest.mark.parametrize('name', [5, b'name', ['name'], True])
def test_what_is_no_text_is_no_name(setting: Setting, name: Any) -> None:
    with pytest.raises(TypeError, match='the name of a file is text'):
        setting.upload(b'data', name=name)
    assert not setting.bridge.frames


@pytest.mark.parametrize('start', [0, 10, 1000, 2000])
@pytest.mark.parametrize('kind', [Remote, io.BytesIO])
def test_node_takes_a_file_from_its_position_on(kind: Any, start: int) -> None:
    data = b'0123456789' * 100
    source = kind(data)
    source.seek(start)
    sent: list[bytes] = []

    def take(peer: Connection) -> None:
        _, fields = peer.read_head()
        sent.append(peer.read(int(fields['content-length'])))
        peer.answer(402, b'{"error": "balance-insufficient"}')

    with (
        ScriptedFarmer(take) as node,
        MetaDisk(f'http://127.0.0.1:{node.port}') as client,
        pytest.raises(PaymentRequiredError),
    ):
        client.upload(source, name='n', token='t')
    form = sent[0].rpartition(b'\r\n--')[0]
    assert form.rpartition(b'\r\n\r\n')[2] == data[start:]


def test_options_of_an_upload_are_those_of_its_request() -> None:
    fields = {field.name: field.type for field in dataclasses.fields(UploadRequest)}
    options = UploadOptions.__annotations__.keys()
    assert options == fields.keys() - {'bucket_id', 'source', 'frame', 'existing'}
    with pytest.raises(TypeError, match='speed'):
        UploadRequest('b', b'', speed=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match='existing'):
        UploadRequest('b', b'', existing='0' * 24)


def test_options_of_a_download_are_those_of_its_request() -> None:
    fields = {field.name: field.type for field in dataclasses.fields(DownloadRequest)}
    which = {'bucket_id', 'file_id', 'described'}
    assert DownloadOptions.__annotations__.keys() == fields.keys() - which
    with pytest.raises(TypeError, match='speed'):
        DownloadRequest('b', 'f', speed=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ('options', 'encrypted'),
    [({}, True), ({'encrypt_name': False}, False), ({'encrypt': False}, False)],
)
def test_name_is_encrypted_with_the_content(options: UploadOptions, encrypted: bool) -> None:
    request = UploadRequest('b', b'', name='a.txt', **options)
    assert request.has_encrypted_name is encrypted
    assert request.guessed_mimetype() == (None if encrypted else 'text/plain')
