"""A file on its way: to a MetaDisk node as the body of a form, and from there checked."""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote

import requests

from storj.crypto.convergent import Reader, Reference, content_key, content_stream
from storj.exception import BridgeUnavailableError, DecryptionError, IntegrityError
from storj.metadisk.wire import Wire
from storj.rest import decoding
from storj.text import count_of

#: Called with the bytes done so far and the bytes in all (None while they are not known).
Progress = Callable[[int, 'int | None'], object]

_PIECE = 256 * 1024
# Bytes of a source of unknown size that are kept in memory before a file takes them.
_SPOOL_LIMIT = 1024 * 1024
# Connections in a row that may end without new bytes.
_ATTEMPTS = 3
# No file has a size of more digits, and Python reads no number of thousands of them.
_LENGTH = re.compile('[0-9]{1,18}')
_CONTENT_RANGE = re.compile(r'bytes ([0-9]{1,18})-[0-9]+/(?:[0-9]+|\*)')


class Form:
    """The multipart body of an upload, made while it is sent; hashes what passes through."""

    def __init__(
        self, file: BinaryIO, size: int, name: str, token: str, progress: Progress | None
    ) -> None:
        boundary = secrets.token_hex(16)
        # As browsers write it: UTF-8, with what would end the quoted text percent-encoded.
        quoted = re.sub(r'["\r\n]', lambda match: quote(match.group()), name)
        self._head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="token"\r\n\r\n{token}\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n'
            f'Content-Type: application/octet-stream\r\n\r\n'
        ).encode('utf-8', 'surrogateescape')
        self._tail = f'\r\n--{boundary}--\r\n'.encode()
        self.headers = {'Content-Type': f'multipart/form-data; boundary={boundary}'}
        self._file = file
        self._size = size
        self._progress = progress
        self._digest = hashlib.sha256()
        #: What reading the source raised; on its way through `requests` it would look like a
        #: failure of the connection.
        self.failure: OSError | None = None

    def __len__(self) -> int:
        return len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        left = self._size
        while left:
            try:
                piece = self._file.read(min(_PIECE, left))
            except OSError as error:
                self.failure = error
                raise
            if not piece:
                raise IntegrityError(f'the source ended {count_of(left, "byte")} before its size')
            left -= len(piece)
            self._digest.update(piece)
            if self._progress is not None:
                self._progress(self._size - left, self._size)
            yield piece
        yield self._tail

    def check(self, reference: Reference) -> None:
        """Raise IntegrityError when the node's answer is not about the bytes that were sent."""
        if content_key(self._digest.digest()) != reference.key_bytes():
            raise IntegrityError("the node's key is not that of the bytes that were sent")


@contextmanager
def open_source(
    source: str | os.PathLike[str] | BinaryIO | bytes,
) -> Iterator[tuple[BinaryIO, int, str]]:
    """Give the source as a file with its size and name."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        with path.open('rb') as file:
            yield file, os.fstat(file.fileno()).st_size, path.name
        return
    if isinstance(source, bytes):
        yield io.BytesIO(source), len(source), 'file'
        return
    if source.seekable():
        start = source.tell()
        # Files of SFTP do not tell by `seek` where they are; a position may lie behind the end.
        source.seek(0, os.SEEK_END)
        size = max(0, source.tell() - start)
        source.seek(start)
        yield source, size, _name_of(source)
        return
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_LIMIT) as spool:
        while piece := source.read(_PIECE):
            spool.write(piece)
        size = spool.tell()
        spool.seek(0)
        yield cast('BinaryIO', spool), size, _name_of(source)


def _name_of(file: BinaryIO) -> str:
    name = getattr(file, 'name', None)
    return Path(name).name if isinstance(name, str) and not name.startswith('<') else 'file'


class Fetch:
    """One download: bytes into a file that can be read again, checked and decrypted there."""

    def __init__(
        self, wire: Wire, reference: Reference, token: str | None, *, local: bool, limit: int | None
    ) -> None:
        self._wire = wire
        self._reference = reference
        self._path = f'/api/download/{reference.filehash}'
        self._query = {} if local else {'key': reference.key}
        if token:
            self._query['token'] = token
        self._local = local
        self._limit = limit
        self.size = 0

    def run(self, file: BinaryIO, progress: Progress | None) -> int | None:
        """Fill ``file`` with the plaintext; return the counter, or None if the node decrypted."""
        reader = Reader(self._reference) if self._local else None
        plaintext = hashlib.sha256()
        # Closed in this thread: what it waits for ends with the call that it made here.
        with closing(self._pieces()) as pieces:
            for piece, total in pieces:
                if self._limit is not None and self.size + len(piece) > self._limit:
                    raise IntegrityError(f'the file has more than {count_of(self._limit, "byte")}')
                if reader is None:
                    plaintext.update(piece)
                else:
                    reader.update(piece)
                file.write(piece)
                self.size += len(piece)
                if progress is not None:
                    progress(self.size, total)
        if reader is None:
            if content_key(plaintext.digest()) != self._reference.key_bytes():
                raise IntegrityError('the bytes that the node decrypted do not fit the key')
            return None
        if not reader.is_intact():
            raise IntegrityError('the bytes do not have the filehash')
        counter = reader.counter()
        if counter is None:
            raise DecryptionError('the key does not fit the file')
        self._decrypt(file, counter)
        return counter

    def _pieces(self) -> Generator[tuple[bytes, int | None], None, None]:
        """Yield the body; take it up again where a connection broke, as long as it gets on."""
        received, failures, calls = 0, 0, self._wire.calls
        while True:
            before, total = received, None
            broken: Exception | None = None
            headers = {'Range': f'bytes={received}-'} if received else {}
            with self._wire.answer('GET', self._path, params=self._query, headers=headers) as body:
                start, total = _extent(body)
                if start > received:
                    raise BridgeUnavailableError('the node sent another part of the file', 206)
                skip = received - start
                try:
                    for piece in decoding.pieces(body, _PIECE):
                        fresh = piece[skip:]
                        skip = max(0, skip - len(piece))
                        if fresh:
                            received += len(fresh)
                            yield fresh, total
                except requests.RequestException as error:
                    broken = error
            if broken is None and (total is None or received >= total):
                return
            failures = 1 if received > before else failures + 1
            if failures == _ATTEMPTS or calls.ended:
                raise self._wire.unreachable(broken or EOFError(), calls) from broken

    def _decrypt(self, file: BinaryIO, counter: int) -> None:
        stream = content_stream(self._reference.key_bytes(), counter)
        for position in range(0, self.size, _PIECE):
            file.seek(position)
            piece = bytearray(file.read(_PIECE))
            stream.process(piece, piece)
            file.seek(position)
            file.write(piece)


def _extent(response: requests.Response) -> tuple[int, int | None]:
    """Return the offset of the body's first byte in the file, and the file's size if it is told.

    Nodes of 2014 ignore Range.
    """
    start = 0
    if response.status_code == 206:
        match = _CONTENT_RANGE.match(response.headers.get('Content-Range', ''))
        if match is None:
            raise BridgeUnavailableError('a part of the file came without its range', 206)
        start = int(match.group(1))
    length = response.headers.get('Content-Length', '')
    return start, start + int(length) if _LENGTH.fullmatch(length) else None
