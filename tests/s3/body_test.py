"""Bodies in chunks: framing, trailing headers, signatures, and everything that can be wrong."""

from __future__ import annotations

import asyncio
import hashlib
import threading

import pytest

pytest.importorskip('awscrt', reason='awscrt is not installed')

from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol

from storj.s3.body import Body
from storj.s3.errors import S3Error

_SHA256 = hashlib.sha256
TRAILER = 'STREAMING-UNSIGNED-PAYLOAD-TRAILER'


def read(sent, payload=TRAILER, **headers):
    """Return what a body brings, and its trailing headers."""

    async def run():
        loop = asyncio.get_running_loop()
        stream = StreamReader(BaseProtocol(loop), max(2**16, len(sent)), loop=loop)
        stream.feed_data(sent)
        stream.feed_eof()
        told = {name.replace('_', '-'): text for name, text in headers.items()}
        body = Body(stream, told, payload, None)
        data = b''.join([piece async for piece in body])
        return data, body.trailers

    return asyncio.run(run())


def code_of(*arguments, **options):
    with pytest.raises(S3Error) as found:
        read(*arguments, **options)
    return found.value.code


def test_chunks_are_joined_and_trailers_kept():
    sent = b'5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:AA==\r\n\r\n'
    data, trailers = read(
        sent, x_amz_decoded_content_length='11', x_amz_trailer='x-amz-checksum-crc32'
    )
    assert data == b'hello world'
    assert trailers == {'x-amz-checksum-crc32': 'AA=='}


def test_plain_body_is_compared_with_its_hash():
    digest = hashlib.sha256(b'hello').hexdigest()
    assert read(b'hello', digest, **{'Content-Length': '5'})[0] == b'hello'
    assert code_of(b'hellx', digest, **{'Content-Length': '5'}) == 'XAmzContentSHA256Mismatch'


class Seen:
    """A SHA-256 that notes the threads in which it is computed."""

    threads: set[int] = set()

    def __init__(self):
        self._hash = _SHA256()

    def update(self, data):
        self.threads.add(threading.get_ident())
        self._hash.update(data)

    def hexdigest(self):
        return self._hash.hexdigest()


def test_large_body_is_hashed_outside_the_event_loop(monkeypatch):
    content = bytes(range(256)) * (10 * 1024) + b'end'
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(Seen, 'threads', set())
    monkeypatch.setattr(hashlib, 'sha256', Seen)
    length = {'Content-Length': str(len(content))}
    assert read(content, digest, **length)[0] == content
    assert Seen.threads
    assert threading.get_ident() not in Seen.threads
    changed = b'x' + content[1:]
    assert code_of(changed, digest, **length) == 'XAmzContentSHA256Mismatch'


@pytest.mark.parametrize(
    ('sent', 'code'),
    [
        (b'', 'InvalidRequest'),
        (b'5\r\nhel', 'IncompleteBody'),
        (b'5\r\nhello\r\n', 'InvalidRequest'),
        (b'5\r\nhelloX\r\n0\r\n\r\n', 'InvalidRequest'),
        (b'zz\r\nhello\r\n0\r\n\r\n', 'InvalidRequest'),
        (b'-5\r\nhello\r\n0\r\n\r\n', 'InvalidRequest'),
        (b'5;chunk-signature=' + b'0' * 64 + b'\r\nhello\r\n0\r\n\r\n', 'InvalidRequest'),
        (b'6\r\nhello!\r\n0\r\n\r\n', 'IncompleteBody'),
        (b'4\r\nhell\r\n0\r\n\r\n', 'IncompleteBody'),
        (b'5\r\nhello\r\n0\r\nx-other:1\r\n\r\n', 'InvalidRequest'),
        (b'5\r\nhello\r\n0\r\nnonsense\r\n\r\n', 'InvalidRequest'),
        (b'f' * 17 + b'\r\n', 'InvalidRequest'),
        (b'5' * 100_000, 'InvalidRequest'),
        (b'5\r\nhello\r\n0\r\n' + b'x:1\r\n' * 50, 'InvalidRequest'),
    ],
)
def test_malformed_framing_is_refused(sent, code):
    assert code_of(sent, x_amz_decoded_content_length='5') == code


def test_announced_trailer_must_come():
    options = {'x_amz_decoded_content_length': '0', 'x_amz_trailer': 'x-amz-checksum-crc32'}
    assert code_of(b'0\r\n\r\n', **options) == 'InvalidRequest'


@pytest.mark.parametrize(
    ('payload', 'headers', 'code'),
    [
        (TRAILER, {}, 'MissingContentLength'),
        (TRAILER, {'x_amz_decoded_content_length': '-1'}, 'InvalidArgument'),
        (TRAILER, {'x_amz_decoded_content_length': '9' * 15}, 'EntityTooLarge'),
        ('nonsense', {}, 'InvalidArgument'),
        ('UNSIGNED-PAYLOAD', {'Transfer-Encoding': 'chunked'}, 'MissingContentLength'),
    ],
)
def test_headers_that_make_no_sense_are_refused(payload, headers, code):
    assert code_of(b'', payload, **headers) == code
