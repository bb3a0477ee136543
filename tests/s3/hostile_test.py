"""Requests that no usual client sends, and what must not be left behind by them."""

from __future__ import annotations

import asyncio
import email.message
import errno
import logging
import os
import socket
import threading
import time

import pytest
import requests

boto3 = pytest.importorskip('boto3', reason='boto3 is not installed')

from botocore.exceptions import ClientError  # noqa: E402

from storj.s3 import conditions, xml  # noqa: E402
from storj.s3.errors import S3Error  # noqa: E402
from storj.s3.index import Index  # noqa: E402
from storj.s3.spool import Spool, _Sink  # noqa: E402
from storj.s3.store import Store  # noqa: E402
from tests.s3.conftest import client_of  # noqa: E402


def test_refused_request_that_waits_to_send_ends_the_connection(gateway, bucket):
    host, port = gateway.endpoint.removeprefix('http://').split(':')
    head = f'PUT /{bucket}/x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n'
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f'{head}Expect: 100-continue\r\n\r\n'.encode())
        answer = connection.recv(4096)
    assert answer.startswith(b'HTTP/1.1 403')
    assert b'connection: close' in answer.lower()


def test_unknown_checksum_leaves_no_file(send, folder):
    found = send('PUT', b'1', x_amz_sdk_checksum_algorithm='FOO')
    assert (found.status_code, 'InvalidRequest' in found.text) == (400, True)
    assert not list((folder / 'spool').iterdir())


@pytest.mark.parametrize('number', ['9' * 18, '9' * 5000])
def test_number_beyond_all_sizes_is_no_failure(send, number):
    assert send('PUT', b'123').status_code == 200
    assert send('GET', Range=f'bytes=1-{number}').status_code in (200, 206)
    assert send('PUT', b'1', f'x?partNumber={number}&uploadId=1').status_code == 400
    attributes = {'x_amz_object_attributes': 'ETag', 'x_amz_max_parts': number}
    assert send('GET', b'', 'x?attributes', **attributes).status_code in (200, 400)


@pytest.mark.parametrize(
    'date', ['Mon, 01 Jan 0001 00:00:00 +1200', f'Mon, 01 Jan {"9" * 20} 00:00:00 +0000']
)
def test_date_beyond_all_calendars_is_none(gateway, date):
    assert conditions._date('Mon, 01 Jan 2024 00:00:00 +0000') is not None
    headers = {'Date': date, 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD'}
    credential = f'{gateway.access_key}/20240101/us-east-1/s3/aws4_request'
    headers['Authorization'] = (
        f'AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature={"0" * 64}'
    )
    assert requests.get(gateway.endpoint, headers=headers, timeout=30).status_code == 403
    found = email.message.Message()
    found['If-Modified-Since'] = date
    conditions.check_conditions(found, None)


@pytest.mark.parametrize('method', ['GET', 'HEAD'])
def test_header_that_cannot_be_sent_is_refused(send, method):
    assert send('PUT', b'123').status_code == 200
    found = send(method, b'', 'x?response-content-type=a%0D%0Ab%3Ac')
    assert (found.status_code, 'b' in found.headers) == (400, False)


def test_metadata_that_is_no_text_is_refused():
    with pytest.raises(S3Error, match='cannot be sent'):
        conditions.metadata_of({'x-amz-meta-a': b'\xff'.decode('utf-8', 'surrogateescape')})
    assert conditions.metadata_of({'x-amz-meta-a': 'ü b'}) == {'a': 'ü b'}


@pytest.mark.parametrize('sent', ['ü b', '=?UTF-8?B?w7wgYg==?=', '=?iso-8859-1?q?=FC_b?='])
def test_metadata_beyond_ascii_comes_back_encoded(send, sent):
    assert send('PUT', b'1', x_amz_meta_a=sent).status_code == 200
    assert send('HEAD').headers['x-amz-meta-a'] == '=?UTF-8?B?w7wgYg==?='


def test_encoded_control_characters_are_refused():
    with pytest.raises(S3Error, match='cannot be sent'):
        conditions.metadata_of({'x-amz-meta-a': '=?utf-8?q?a=0D=0Ab=3A1?='})
    unknown = '=?nonsense?q?a?='
    assert conditions.metadata_of({'x-amz-meta-a': unknown}) == {'a': unknown}


@pytest.mark.parametrize(
    'document', [b'<Delete>' + b'<a>' * 500_000, b'<Delete>' + b'<a/>' * 900_000 + b'</Delete>']
)
def test_document_of_too_many_elements_is_refused(document):
    with pytest.raises(S3Error, match='too many elements'):
        xml.parse(document, 'Delete')


def test_largest_document_of_a_client_is_parsed():
    part = b'<Part><ETag>1</ETag>%s<PartNumber>1</PartNumber></Part>' % (b'<C>1</C>' * 5)
    found = xml.parse(b'<C xmlns="urn:x">' + part * 10_000 + b'</C>', 'C')
    assert len(found.findall('Part')) == 10_000


class Announced:
    """A body that states more than it brings."""

    def __init__(self, size, pieces, arrived=None, goes_on=None):
        self.size = size
        self.trailers = {}
        self._pieces, self._arrived, self._goes_on = pieces, arrived, goes_on

    async def __aiter__(self):
        if self._arrived is not None:
            self._arrived.set()
            await self._goes_on.wait()
        for piece in self._pieces:
            yield piece


def test_space_is_taken_by_bytes_that_came_alone(tmp_path):
    spool = Spool(tmp_path / 'spool', b'0' * 32, 1000)

    async def run(function, *arguments):
        return function(*arguments)

    async def work():
        arrived, goes_on = asyncio.Event(), asyncio.Event()
        first = asyncio.ensure_future(
            spool.receive(Announced(900, [b'1' * 900], arrived, goes_on), {}, run)
        )
        await arrived.wait()
        received = await spool.receive(Announced(900, [b'2' * 900]), {}, run)
        goes_on.set()
        with pytest.raises(S3Error, match='Too much'):
            await first
        with pytest.raises(S3Error, match='Too much'):
            await spool.receive(Announced(900, []), {}, run)
        spool.drop([received.file])
        # Nothing is counted any more.
        await spool.receive(Announced(984, [b'3' * 984]), {}, run)

    asyncio.run(work())
    assert len(list((tmp_path / 'spool').iterdir())) == 1


def test_client_that_sends_nothing_more_is_answered(gateway, s3, bucket, folder, monkeypatch):
    monkeypatch.setattr('storj.s3.body.SILENT_SECONDS', 0.01)
    url = s3.generate_presigned_url('put_object', Params={'Bucket': bucket, 'Key': 'x'})
    host, port = gateway.endpoint.removeprefix('http://').split(':')
    head = f'PUT {url.removeprefix(gateway.endpoint)} HTTP/1.1\r\nHost: {host}:{port}\r\n'
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f'{head}Content-Length: 500\r\n\r\n123'.encode())
        answer = connection.recv(4096)
    assert answer.startswith(b'HTTP/1.1 400')
    assert b'RequestTimeout' in answer
    assert not list((folder / 'spool').iterdir())


def test_page_of_versions_says_where_the_next_begins(s3, bucket):
    for key in 'ab':
        s3.put_object(Bucket=bucket, Key=key)
    page = s3.list_object_versions(Bucket=bucket, MaxKeys=1)
    marks = {'KeyMarker': page['NextKeyMarker'], 'VersionIdMarker': page['NextVersionIdMarker']}
    following = s3.list_object_versions(Bucket=bucket, **marks)
    assert [each['Key'] for each in page['Versions'] + following['Versions']] == ['a', 'b']


def test_upload_that_is_completed_twice_at_once_is_stored_once(gateway, s3, bucket, monkeypatch):
    at = {'Bucket': bucket, 'Key': 'x'}
    upload = {**at, 'UploadId': s3.create_multipart_upload(**at)['UploadId']}
    etag = s3.upload_part(**upload, PartNumber=1, Body=b'123')['ETag']
    parts = {'Parts': [{'PartNumber': 1, 'ETag': etag}]}
    second, put, waiting = threading.Event(), Store.put, Store.turn
    turns, puts = [], []

    def turn(self, *arguments):
        turns.append(arguments)
        if len(turns) == 2:
            second.set()
        return waiting(self, *arguments)

    async def late(self, *arguments):
        puts.append(arguments)
        await asyncio.to_thread(second.wait, 30)
        return await put(self, *arguments)

    monkeypatch.setattr(Store, 'turn', turn)
    monkeypatch.setattr(Store, 'put', late)
    found = []

    def complete():
        with client_of(gateway) as client:
            found.append(client.complete_multipart_upload(**upload, MultipartUpload=parts)['ETag'])

    threads = [threading.Thread(target=complete) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert (len(set(found)), len(puts)) == (1, 1)
    assert s3.get_object(**at)['Body'].read() == b'123'


def test_write_after_the_end_goes_to_no_other_file(tmp_path):
    sink = _Sink(tmp_path / 'a', b'0' * 32, [])
    sink.close()
    # The next file that is opened gets the same number.
    other = os.open(tmp_path / 'b', os.O_WRONLY | os.O_CREAT)
    try:
        sink.write(b'123')
    finally:
        os.close(other)
    assert (tmp_path / 'b').read_bytes() == b''


def test_index_is_readable_by_its_owner_alone(tmp_path):
    former = os.umask(0o022)
    try:
        index = Index(f'sqlite:///{tmp_path / "index.sqlite"}')
        index.uploads()
        assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
        index.close()
    finally:
        os.umask(former)


def test_write_to_a_bucket_that_another_client_removed(s3, bucket, new_client):
    s3.put_object(Bucket=bucket, Key='x')
    with new_client() as client:
        bucket_id = client.bucket_id(bucket)
        client.file_remove(bucket_id, client.file_id(bucket_id, 'x'))
        client.bucket_delete(bucket_id)
    with pytest.raises(ClientError, match='NoSuchBucket'):
        s3.put_object(Bucket=bucket, Key='y', Body=b'1')


def test_reader_that_goes_away_is_no_error(gateway, s3, bucket, caplog):
    at = {'Bucket': bucket, 'Key': 'x'}
    s3.put_object(**at, Body=os.urandom(24 * 1024 * 1024))
    caplog.set_level(logging.DEBUG, 'storj.s3.app')
    url = s3.generate_presigned_url('get_object', Params=at, ExpiresIn=60)
    with requests.get(url, stream=True, timeout=30) as found:
        assert found.raw.read(1000)
    until = time.monotonic() + 30
    while not any('the client has gone' in text for text in caplog.messages):
        assert time.monotonic() < until
        s3.head_object(**at)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_full_disk_is_told_and_leaves_nothing(send, folder, monkeypatch, caplog):
    real = os.write

    def full(descriptor, data):
        if len(data) == 100_000:
            raise OSError(errno.ENOSPC, 'No space left on device')
        return real(descriptor, data)

    monkeypatch.setattr(os, 'write', full)
    found = send('PUT', bytes(100_000))
    assert (found.status_code, 'no space' in found.text) == (503, True)
    assert found.headers['Retry-After'] == '1'
    assert not list((folder / 'spool').iterdir())
    (told,) = [record for record in caplog.records if record.levelname == 'ERROR']
    assert 'no space left' in told.getMessage()
    assert told.exc_info is None
