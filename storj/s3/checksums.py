"""Checksums of objects and parts: those that S3 knows, whole or over the checksums of parts."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from awscrt import checksums

from storj.s3.errors import S3Error


class Checksum(Protocol):
    """What is computed over bytes as they come."""

    def update(self, data: bytes, /) -> object:
        """Take the next bytes."""

    def digest(self) -> bytes:
        """Return the checksum of all bytes so far."""


class _Crc:
    """A cyclic redundancy check, most significant byte first as S3 writes it."""

    def __init__(self, function: Callable[[bytes, int], int], size: int) -> None:
        self._function, self._size, self._value = function, size, 0

    def update(self, data: bytes) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, 'big')


#: Name in S3's XML and, in lower case behind ``x-amz-checksum-``, in headers.
ALGORITHMS: Final[Mapping[str, Callable[[], Checksum]]] = {
    'CRC32': lambda: _Crc(zlib.crc32, 4),
    'CRC32C': lambda: _Crc(checksums.crc32c, 4),
    'CRC64NVME': lambda: _Crc(checksums.crc64nvme, 8),
    'SHA1': lambda: hashlib.sha1(usedforsecurity=False),
    'SHA256': hashlib.sha256,
}


def new(name: str) -> Checksum:
    """Return a new checksum.

    Raises:
        S3Error: If there is none of the name.
    """
    try:
        return ALGORITHMS[name.upper()]()
    except KeyError:
        raise S3Error('InvalidRequest', f'Checksum algorithm {name[:20]!r} is unknown.') from None


def _decoded(text: str) -> bytes:
    """Return the bytes of a text in Base64, none if it is malformed."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b''


def named_in(headers: Mapping[str, str]) -> tuple[str, bytes] | None:
    """Return algorithm and value of the checksum that headers state, None if they state none.

    Raises:
        S3Error: If there are two, or the value is none.
    """
    found = [
        (name, headers[f'x-amz-checksum-{name.lower()}'])
        for name in ALGORITHMS
        if f'x-amz-checksum-{name.lower()}' in headers
    ]
    if len(found) > 1:
        raise S3Error('InvalidRequest', 'Expecting a single x-amz-checksum- header')
    if not found:
        return None
    name, text = found[0]
    value = _decoded(text)
    if len(value) != len(new(name).digest()):
        raise S3Error('BadDigest', f'The {name} in the request is none.')
    return name, value


def composite(name: str, values: list[bytes]) -> str:
    """Return the checksum over those of parts, with their number behind it, as S3 writes it."""
    # Of the parts' checksums in binary, not of their text.
    whole: Any = new(name)
    whole.update(b''.join(values))
    return f'{base64.b64encode(whole.digest()).decode()}-{len(values)}'


def stated_md5(headers: Mapping[str, str]) -> str | None:
    """Return the MD5 in hex that ``Content-MD5`` states, None if there is none.

    Raises:
        S3Error: If it is malformed.
    """
    text = headers.get('Content-MD5')
    if text is None:
        return None
    value = _decoded(text)
    if len(value) != 16:
        raise S3Error('InvalidDigest')
    return value.hex()
