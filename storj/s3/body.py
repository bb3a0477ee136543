"""The body of a request as S3's clients send it: plain, or in signed chunks with trailing headers.

::

    400;chunk-signature=0a1b...CRLF   <- hexadecimal size; the signature is left out if unsigned
    <1,024 bytes> CRLF
    0;chunk-signature=...CRLF         <- the end
    x-amz-checksum-crc32:AAAA==CRLF   <- trailing headers that the request announced
    x-amz-trailer-signature:...CRLF   <- if chunks are signed
    CRLF

Nothing is kept: bytes go on as they come, and whoever takes them must not use them before the end
was reached without an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Final, Protocol, TypeVar

from storj.s3.errors import S3Error
from storj.s3.signature import UNSIGNED, SigningChain

#: Bytes of an object at most, as S3 has it for objects in parts: 5 TiB.
MAX_OBJECT: Final = 5 * 1024**4

#: Seconds that a client may send nothing of a body.
SILENT_SECONDS: Final = 60.0

T = TypeVar('T')

_PIECE: Final = 256 * 1024

#: Bytes that are worth a change of threads to be hashed, and that wait for it at most.
_THREADED: Final = 1024 * 1024

_MAX_LINE: Final = 4096
_MAX_TRAILERS: Final = 16
_HEX: Final = re.compile(r'[0-9a-f]{64}')
_CHUNK: Final = re.compile(rb'([0-9a-fA-F]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?')

_SIGNED: Final = 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD'
_SIGNED_TRAILER: Final = 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER'
_UNSIGNED_TRAILER: Final = 'STREAMING-UNSIGNED-PAYLOAD-TRAILER'


class _Stream(Protocol):
    """What :class:`aiohttp.StreamReader` is to this module."""

    async def read(self, count: int, /) -> bytes:
        """Return some bytes, none at the end."""

    async def readuntil(self, separator: bytes, /) -> bytes:
        """Return the bytes up to a separator, with it."""


class _Sha256:
    """A hash of bytes as they come; computed in threads, so that other clients need not wait."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._waiting: list[bytes] = []
        self._size = 0

    async def update(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._waiting.append(piece)
        self._size += len(piece)
        if self._size >= _THREADED:
            waiting, self._waiting, self._size = self._waiting, [], 0
            await asyncio.to_thread(self._hash, waiting)

    async def hexdigest(self) -> str:
        """Return the hash of all bytes."""
        if self._size >= _PIECE:
            await asyncio.to_thread(self._hash, self._waiting)
        else:
            self._hash(self._waiting)
        self._waiting, self._size = [], 0
        return self._sha256.hexdigest()

    def _hash(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._sha256.update(piece)


class Body:
    """The decoded body of a request.

    Args:
        stream (aiohttp.StreamReader): as it comes in.
        headers (Mapping[str, str]): of the request, looked up without regard to case.
        payload (str): what the signature says of the body.
        chain (SigningChain | None): of the request; None if nothing is signed.

    Raises:
        S3Error: If the headers make no sense.

    Attributes:
        size (int): bytes that will come, without the framing.
        trailers (dict[str, str]): headers behind the body, once it was read.
    """

    def __init__(
        self, stream: _Stream, headers: Mapping[str, str], payload: str, chain: SigningChain | None
    ) -> None:
        self._stream = stream
        self._payload = payload
        self._chain = chain
        # A hash in hex stands for the whole body; anything else is a word of the protocol.
        self._sha256 = _Sha256() if _HEX.fullmatch(payload) else None
        self._chunked = payload in (_SIGNED, _SIGNED_TRAILER, _UNSIGNED_TRAILER)
        if not (self._chunked or self._sha256 or payload == UNSIGNED):
            raise S3Error('InvalidArgument', 'x-amz-content-sha256 must be a hash or a known text.')
        # Trailing headers are part of what is signed only as far as the request names them.
        self._announced = {
            name.strip().lower() for name in headers.get('x-amz-trailer', '').split(',') if name
        }
        self.size = _length(headers, decoded=self._chunked)
        self.trailers: dict[str, str] = {}

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the bytes.

        Raises:
            S3Error: If they are not those that were stated or signed; also at the very end.
        """
        received = 0
        pieces = self._chunks() if self._chunked else self._plain()
        async for piece in pieces:
            received += len(piece)
            # Checked as they come: nobody may bring more than there is space reserved for.
            if received > self.size:
                raise S3Error('IncompleteBody', 'There are more bytes than the request states.')
            yield piece
        if received < self.size:
            raise S3Error('IncompleteBody')
        if self._sha256 is not None and not hmac.compare_digest(
            await self._sha256.hexdigest(), self._payload
        ):
            raise S3Error('XAmzContentSHA256Mismatch')

    async def _plain(self) -> AsyncIterator[bytes]:
        while piece := await _sent(self._stream.read(_PIECE)):
            if self._sha256 is not None:
                await self._sha256.update(piece)
            yield piece

    async def _chunks(self) -> AsyncIterator[bytes]:
        size = -1
        while size:
            found = _CHUNK.fullmatch(await self._line())
            signed = self._payload != _UNSIGNED_TRAILER
            if found is None or signed != (found[2] is not None):
                raise S3Error('InvalidRequest', 'The framing of the chunks is malformed.')
            size = remaining = int(found[1], 16)
            digest = _Sha256()
            while remaining:
                piece = await _sent(self._stream.read(min(_PIECE, remaining)))
                if not piece:
                    raise S3Error('IncompleteBody')
                remaining -= len(piece)
                if signed:
                    await digest.update(piece)
                yield piece
            if signed and self._chain is not None:
                self._chain.check_chunk(found[2].decode(), await digest.hexdigest())
            if size and await self._line():
                raise S3Error('InvalidRequest', 'The framing of the chunks is malformed.')
        await self._trail()

    async def _trail(self) -> None:
        """Read the headers behind the body."""
        canonical, signature = b'', ''
        for _ in range(_MAX_TRAILERS):
            line = await self._line()
            if not line:
                break
            name, colon, value = line.partition(b':')
            key, text = name.strip().lower().decode('latin-1'), value.strip().decode('latin-1')
            if not colon:
                raise S3Error('InvalidRequest', 'A trailing header is malformed.')
            if key == 'x-amz-trailer-signature':
                signature = text
                continue
            if key not in self._announced:
                raise S3Error('InvalidRequest', 'A trailing header was not announced.')
            canonical += f'{key}:{text}\n'.encode('latin-1')
            self.trailers[key] = text
        else:
            raise S3Error('InvalidRequest', 'There are too many trailing headers.')
        if self._announced - self.trailers.keys():
            raise S3Error('InvalidRequest', 'A trailing header that was announced is missing.')
        if self._payload == _SIGNED_TRAILER and self._chain is not None:
            self._chain.check_trailer(signature, hashlib.sha256(canonical).hexdigest())

    async def _line(self) -> bytes:
        """Return the next line without its end; an empty one at the end of the stream."""
        try:
            line = await _sent(self._stream.readuntil(b'\n'))
        except ValueError:
            raise S3Error('InvalidRequest', 'A line of the framing is too long.') from None
        if len(line) > _MAX_LINE:
            raise S3Error('InvalidRequest', 'A line of the framing is too long.')
        return line.rstrip(b'\r\n')


async def _sent(reading: Awaitable[T]) -> T:
    """Return what a client sends next.

    Raises:
        S3Error: If it sends nothing for too long.
    """
    try:
        return await asyncio.wait_for(reading, SILENT_SECONDS)
    except asyncio.TimeoutError:
        raise S3Error('RequestTimeout') from None


def _length(headers: Mapping[str, str], *, decoded: bool) -> int:
    """Return the bytes that will come, without framing."""
    name = 'x-amz-decoded-content-length' if decoded else 'Content-Length'
    text = headers.get(name)
    if text is None:
        if not decoded and headers.get('Transfer-Encoding') is None:
            return 0
        raise S3Error('MissingContentLength')
    if not re.fullmatch(r'\d{1,15}', text):
        raise S3Error('InvalidArgument', f'{name} is no number.')
    if int(text) > MAX_OBJECT:
        raise S3Error('EntityTooLarge')
    return int(text)
