"""Client of a MetaDisk node: upload and download with the JSON API of 2014.

::

    node = MetaDisk('http://127.0.0.1:6382')
    reference = node.upload('cat.jpg')             # '<filehash>?key=<key>'
    node.download(reference, 'copy.jpg')

A node encrypts on its side, so it sees what is uploaded to it; what must stay secret is encrypted
before, or stored through the bridge. The way back needs less trust: by default a file is fetched
without its key, checked against its filehash and decrypted here, so the node learns nothing from a
download and cannot pass off other bytes.

Beside :mod:`storj.http`, on the same bounds of :mod:`storj.rest`; knows neither bridge nor farmers.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import quote, urlsplit

import requests
import urllib3

from storj import atomic_file
from storj.crypto.convergent import (
    Reader,
    Reference,
    content_key,
    content_stream,
    is_filehash,
)
from storj.exception import (
    BridgeUnavailableError,
    BridgeUnreachableError,
    ClientError,
    DecryptionError,
    IntegrityError,
    StorjBridgeApiError,
    bridge_error,
)
from storj.rest import decoding, transport
from storj.rest.connection import Adapter, Calls
from storj.shortage import shortage
from storj.text import count_of

__all__ = ('Coin', 'Download', 'FileRecord', 'MetaDisk', 'NodeStatus', 'Price', 'Reference')

#: Called with the bytes done so far and the bytes in all (None while they are not known).
Progress = Callable[[int, 'int | None'], object]

_PIECE = 256 * 1024
_ANSWER_LIMIT = 1024 * 1024
# Bytes of a source of unknown size that are kept in memory before a file takes them.
_SPOOL_LIMIT = 1024 * 1024
# Least bytes a second that a node sends to its farmers; it answers when all have arrived.
_SLOWEST_NODE = 256 * 1024
# Connections in a row that may end without new bytes.
_ATTEMPTS = 3
# No file has a size of more digits, and Python reads no number of thousands of them.
_LENGTH = re.compile('[0-9]{1,18}')
_CONTENT_RANGE = re.compile(r'bytes ([0-9]{1,18})-[0-9]+/(?:[0-9]+|\*)')


@dataclass(frozen=True)
class Price:
    """What a node asks for transfer.

    Attributes:
        amount (int): bytes of transfer.
        cost (int): US cents.
    """

    amount: int
    cost: int


@dataclass(frozen=True)
class FileRecord:
    """What a node tells everyone about a file.

    Attributes:
        filehash (str): 64 hex digits.
        filename (str): its name on the node: the beginning of the filehash, ``_``, the cleaned
            name of whoever stored it first. It comes from the network: never use it as a path.
        filesize (int): bytes.
        datetime (datetime): when it was stored; UTC.
        uploads (tuple[Mapping[str, Any], ...]): where it is stored, as the node describes it: a
            ``host_name`` with its ``url``, or with ``error`` if that host has lost it. Hosts of
            2014 had the whole file; a farmer has the ``shards`` of these indices.
        version (str): of the record's format.
        shards (int | None): how many the file has; None where nodes know none.
    """

    filehash: str
    filename: str
    filesize: int
    datetime: datetime
    uploads: tuple[Mapping[str, Any], ...] = ()
    version: str = ''
    shards: int | None = None


@dataclass(frozen=True)
class Coin:
    """The block chain to which a node writes its records.

    Attributes:
        name (str): ``datacoin`` or ``florincoin``.
        address (str): the node's address on it.
        balance (float | None): coins, where the node tells.
        block (int | None): newest block, where the node tells.
    """

    name: str
    address: str
    balance: float | None = None
    block: int | None = None


@dataclass(frozen=True)
class NodeStatus:
    """State of a node; all sizes in bytes.

    Attributes:
        capacity (int): what the node can store.
        used (int): what it stores.
        max_file_size (int): the largest file that it announces.
        incoming (int): bytes received this month.
        outgoing (int): bytes sent this month.
        total_incoming (int): bytes received since the node began.
        total_outgoing (int): bytes sent since the node began.
        incoming_limit (int): bytes a month; 0 for none.
        outgoing_limit (int): bytes a month; 0 for none.
        coin (Coin | None): its block chain, whichever of the three known forms told it.
        raw (Mapping[str, Any]): the whole answer.
    """

    capacity: int
    used: int
    max_file_size: int
    incoming: int
    outgoing: int
    total_incoming: int
    total_outgoing: int
    incoming_limit: int
    outgoing_limit: int
    coin: Coin | None
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Download:
    """A finished download.

    Attributes:
        size (int): bytes.
        counter (int | None): first counter block of the file's encryption, 0 or 1; None when the
            node decrypted it.
        path (Path | None): where the file is now; None when it went to a file object.
    """

    size: int
    counter: int | None
    path: Path | None


class MetaDisk:
    """One node. A single object serves one thread.

    Args:
        url (str): of the node, ``http://`` or ``https://``.
        token (str | None): access token; any string of 16 letters and digits is one. Uploads take
            a new one when there is none yet.
        timeout (float | tuple[float, float]): seconds to connect, and to wait for the next bytes.
            A node that has an upload is given more, by its size, to bring it to the farmers.
        proxy (str | None): URL of a proxy; by default that of the environment.

    Attributes:
        url (str): without a slash at the end.
        token (str | None): as given, or as taken by :meth:`token_new`.

    Raises:
        ValueError: If one of the URLs is of another kind.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float | tuple[float, float] = (10.0, 60.0),
        proxy: str | None = None,
    ) -> None:
        try:
            parts = urlsplit(url)
            right = parts.scheme in ('http', 'https') and parts.hostname and parts.port != 0
        except ValueError:
            right = False
        if not right:
            # Not quoted: it may hold a password.
            raise ValueError('the URL of a node begins with http:// or https:// and names a host')
        if proxy is not None:
            transport.check_proxy(proxy)
        # Nodes know no accounts.
        self.url = parts._replace(netloc=parts.netloc.rpartition('@')[2]).geturl().rstrip('/')
        self.token = token
        self._connect, self._patience = (
            timeout if isinstance(timeout, tuple) else (timeout, timeout)
        )
        self._session = transport.Session()
        for scheme in ('http://', 'https://'):
            self._session.mount(scheme, Adapter())
        self._calls = Calls()
        if proxy is not None:
            self._session.proxies = {'http': proxy, 'https': proxy}

    def __enter__(self) -> MetaDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f'MetaDisk({self.url!r})'

    def close(self) -> None:
        """Close the connections to the node, and end what another thread waits for."""
        calls, self._calls = self._calls, Calls()
        calls.end()
        self._session.close()

    # -- accounts ------------------------------------------------------------------------------

    def token_new(self) -> str:
        """Take a new access token and use it from now on: ``POST /accounts/token/new``.

        Returns:
            str: 16 letters and digits. Anybody who knows it can spend its balance.
        """
        answer = self._json('POST', '/accounts/token/new')
        self.token = _text(answer, 'token')
        return self.token

    def balance(self, token: str | None = None) -> int:
        """Return what a token may still transfer: ``GET /accounts/token/balance/{token}``.

        Args:
            token (str | None): this object's by default.

        Returns:
            int: bytes; 0 for a token that the node has never credited.
        """
        return _number(
            self._json('GET', f'/accounts/token/balance/{self._token(token)}'), 'balance'
        )

    def prices(self) -> list[Price]:
        """Return what transfer costs: ``GET /accounts/token/prices``."""
        listed = self._json('GET', '/accounts/token/prices').get('prices')
        if not isinstance(listed, list):
            raise _unusable('prices')
        return [Price(_number(row, 'amount'), _number(row, 'cost')) for row in listed]

    def redeem(self, promocode: str, token: str | None = None) -> None:
        """Exchange a code for balance: ``POST /accounts/token/redeem/{token}``.

        Args:
            promocode (str): upper and lower case matter.
            token (str | None): this object's by default.

        Raises:
            AuthenticationError: If there is no such code or the token has used it.
        """
        path = f'/accounts/token/redeem/{self._token(token)}'
        self._json('POST', path, json={'promocode': promocode})

    # -- files ---------------------------------------------------------------------------------

    def upload(
        self,
        source: str | os.PathLike[str] | BinaryIO | bytes,
        *,
        name: str | None = None,
        token: str | None = None,
        progress: Progress | None = None,
    ) -> str:
        """Store a file: ``POST /api/upload``.

        The node's answer is checked: its key must be that of the bytes that were sent. A
        source that cannot tell its size is written to a temporary file first.

        Args:
            source (str | os.PathLike[str] | BinaryIO | bytes): a path, a file object opened for
                reading bytes (it is read from where it stands), or the bytes themselves.
            name (str | None): for the node; the source's own name by default.
            token (str | None): this object's by default; a new one is taken when it has none.
            progress (Progress | None): called with bytes done and bytes in all.

        Returns:
            str: the reference, ``<filehash>?key=<key>``.

        Raises:
            PaymentRequiredError: If the node charges and the balance is too low.
            IntegrityError: If the node answers with the key of other bytes, or the source ends
                before its size.
            OSError: If the source cannot be read.
        """
        # A node without charging takes any token, and needs none; the tutorial sends one (section
        # 12.1).
        token = token or self.token or self.token_new()
        with _open_source(source) as (file, size, own_name):
            form = _Form(file, size, name or own_name, token, progress)
            try:
                answer = self._json(
                    'POST',
                    '/api/upload',
                    extra=size / _SLOWEST_NODE,
                    data=form,
                    headers=form.headers,
                )
            except BridgeUnreachableError:
                if form.failure is not None:
                    raise form.failure from None
                raise
        # The node encrypts, so its answer is compared with the key that the bytes have (section
        # 12.5).
        reference = _reference(answer)
        form.check(reference)
        return str(reference)

    def download(
        self,
        reference: str | Reference,
        destination: str | os.PathLike[str] | BinaryIO,
        *,
        token: str | None = None,
        local: bool = True,
        overwrite: bool = True,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> Download:
        """Get a file back, checked: ``GET /api/download/{filehash}``.

        Nothing is written to the destination before all bytes are here and proved right. A
        broken connection is resumed where it broke.

        Args:
            reference (str | Reference): ``<filehash>?key=<key>`` or a link that ends so.
            destination (str | os.PathLike[str] | BinaryIO): a path (the bytes are in
                ``<path>.part`` until they are complete), or a file object opened for writing.
            token (str | None): sent when given or set on this object; charged nodes want one.
            local (bool): fetch without the key and decrypt here; False lets the node decrypt,
                which shows it the key, and checks the plaintext against the key only.
            overwrite (bool): whether an existing file may be replaced.
            limit (int | None): the most bytes to accept; None for any size.
            progress (Progress | None): called with bytes done and bytes in all.

        Returns:
            Download: size, counter and path.

        Raises:
            ValueError: If the reference is none.
            NotFoundError: If the node does not have the file.
            PaymentRequiredError: If the node charges and the balance is too low.
            IntegrityError: If the bytes are not those of the filehash, or too many.
            DecryptionError: If the key is of another file.
            FileExistsError: If the destination exists and may not be replaced.
        """
        if not isinstance(reference, Reference):
            reference = Reference.parse(reference)
        fetch = _Fetch(self, reference, token or self.token, local=local, limit=limit)
        if isinstance(destination, (str, os.PathLike)):
            path = Path(destination)
            if path.exists() and not overwrite:
                raise FileExistsError(f'{path} exists')
            part = path.with_name(path.name + '.part')
            try:
                with part.open('w+b') as file:
                    counter = fetch.run(file, progress)
                atomic_file.replace(part, path, sync=False)
            finally:
                part.unlink(missing_ok=True)
            return Download(fetch.size, counter, path)
        # A file object cannot be renamed at the end, so unchecked bytes must not reach it.
        with tempfile.TemporaryFile() as file:
            counter = fetch.run(cast('BinaryIO', file), progress)
            file.seek(0)
            while piece := file.read(_PIECE):
                destination.write(piece)
        return Download(fetch.size, counter, None)

    def find(self, filehash: str) -> FileRecord:
        """Return what the node knows of a file: ``GET /api/find/{filehash}``.

        Args:
            filehash (str): 64 hex digits, or a reference.

        Raises:
            ValueError: If it is neither.
            NotFoundError: If the node does not have the file.
        """
        # The key stays here: ``find`` needs none.
        filehash = filehash.partition('?')[0]
        if not is_filehash(filehash):
            raise ValueError('a filehash is 64 lower-case hex digits')
        answer = self._json('GET', f'/api/find/{filehash}')
        uploads = answer.get('uploads')
        if not isinstance(uploads, list) or not all(isinstance(row, dict) for row in uploads):
            raise _unusable('uploads')
        try:
            stored = datetime.fromtimestamp(float(answer['datetime']), timezone.utc)
        except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
            raise _unusable('datetime') from error
        return FileRecord(
            filehash=_text(answer, 'filehash'),
            filename=_text(answer, 'filename'),
            filesize=_number(answer, 'filesize'),
            datetime=stored,
            uploads=tuple(uploads),
            version=str(answer.get('version', '')),
            shards=_number(answer, 'shards') if 'shards' in answer else None,
        )

    def status(self) -> NodeStatus:
        """Return the node's state: ``GET /api/status``."""
        answer = self._json('GET', '/api/status')
        bandwidth, storage = _object(answer, 'bandwidth'), _object(answer, 'storage')
        current, total = _object(bandwidth, 'current'), _object(bandwidth, 'total')
        limits = _object(bandwidth, 'limits')
        return NodeStatus(
            capacity=_number(storage, 'capacity'),
            used=_number(storage, 'used'),
            max_file_size=_number(storage, 'max_file_size'),
            incoming=_number(current, 'incoming'),
            outgoing=_number(current, 'outgoing'),
            total_incoming=_number(total, 'incoming'),
            total_outgoing=_number(total, 'outgoing'),
            incoming_limit=_number(limits, 'incoming'),
            outgoing_limit=_number(limits, 'outgoing'),
            coin=_coin(answer),
            raw=answer,
        )

    # -- the wire ------------------------------------------------------------------------------

    def _token(self, token: str | None) -> str:
        token = token or self.token
        if not token:
            raise ValueError('no token: take one with token_new()')
        return quote(token, safe='')

    @contextmanager
    def _answer(
        self, method: str, path: str, *, extra: float = 0.0, **options: Any
    ) -> Iterator[requests.Response]:
        """Send a request and give the answer, its body unread; raise what a refusal means.

        ``extra`` seconds are added to the wait for the answer.
        """
        # Compressed bodies would hide their length, and a redirect would carry off the token.
        headers = {'Accept-Encoding': 'identity', **options.pop('headers', {})}
        request = requests.Request(
            method, self.url + path, headers, auth=transport.NoAuth(), **options
        )
        calls, patience = self._calls, self._patience + extra
        try:
            # A file may take as long as it likes, as long as bytes come.
            with (
                calls.begin(patience, math.inf),
                transport.send(self._session, request, (self._connect, patience)) as response,
            ):
                if response.status_code not in (200, 201, 206):
                    raise _refusal(response, self._body(response), (self.url, path))
                yield response
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _unreachable(self.url, error, calls) from error
        except ConnectionAbortedError as error:
            if not calls.ended:
                raise
            raise _unreachable(self.url, error, calls) from error

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        with self._answer(method, path, **options) as response:
            body = self._body(response)
        text = decoding.text_of(body)
        try:
            answer = decoding.parse(body)
        except decoding.OutOfBounds as error:
            raise BridgeUnavailableError(
                text, response.status_code, f'the answer is {error}'
            ) from None
        except ValueError:
            raise bridge_error(response.status_code, text, response.headers) from None
        if not isinstance(answer, dict):
            raise BridgeUnavailableError(text, response.status_code, 'the answer is no object')
        return answer

    def _body(self, response: requests.Response) -> bytes:
        return decoding.read(response, _ANSWER_LIMIT)


class _Fetch:
    """One download: bytes into a file that can be read again, checked and decrypted there."""

    def __init__(
        self,
        node: MetaDisk,
        reference: Reference,
        token: str | None,
        *,
        local: bool,
        limit: int | None,
    ) -> None:
        self._node = node
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
                raise IntegrityError('the bytes that the node decrypted are not those of the key')
            return None
        if not reader.is_intact():
            raise IntegrityError('the bytes are not those of the filehash')
        counter = reader.counter()
        if counter is None:
            raise DecryptionError('the key is not that of the file')
        self._decrypt(file, counter)
        return counter

    def _pieces(self) -> Generator[tuple[bytes, int | None], None, None]:
        """Yield the body; take it up again where a connection broke, as long as it gets on."""
        received = 0
        failures = 0
        calls = self._node._calls
        while True:
            before = received
            headers = {'Range': f'bytes={received}-'} if received else {}
            with self._node._answer(
                'GET', self._path, params=self._query, headers=headers
            ) as response:
                start = _start(response)
                if start > received:
                    raise BridgeUnavailableError('the node sent another part of the file', 206)
                length = response.headers.get('Content-Length', '')
                total = start + int(length) if _LENGTH.fullmatch(length) else None
                skip = received - start
                broken: Exception | None = None
                try:
                    for piece in decoding.pieces(response, _PIECE):
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
                raise _unreachable(self._node.url, broken or EOFError(), calls) from broken

    def _decrypt(self, file: BinaryIO, counter: int) -> None:
        stream = content_stream(self._reference.key_bytes(), counter)
        for position in range(0, self.size, _PIECE):
            file.seek(position)
            piece = bytearray(file.read(_PIECE))
            stream.process(piece, piece)
            file.seek(position)
            file.write(piece)


class _Form:
    """The multipart body of an upload, made while it is sent; hashes what passes through."""

    def __init__(
        self,
        file: BinaryIO,
        size: int,
        name: str,
        token: str,
        progress: Progress | None,
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
def _open_source(
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


def _start(response: requests.Response) -> int:
    """Return the offset of the body's first byte in the file; nodes of 2014 ignore Range."""
    if response.status_code != 206:
        return 0
    match = _CONTENT_RANGE.match(response.headers.get('Content-Range', ''))
    if match is None:
        raise BridgeUnavailableError('a part of the file came without its place', 206)
    return int(match.group(1))


def _unreachable(url: str, error: Exception, calls: Calls) -> ClientError:
    if calls.ended:
        return ClientError(f'the client was closed before the node at {url} answered')
    missing = shortage(transport.system_error(error))
    if missing is not None:
        return missing
    # The library's text repeats the whole address, which may hold a key or a token.
    return BridgeUnreachableError(f'no answer from the node at {url}: {type(error).__name__}')


def _refusal(
    response: requests.Response, body: bytes, asked: tuple[str, str]
) -> StorjBridgeApiError:
    text = decoding.text_of(body)
    if 300 <= response.status_code < 400:
        message = decoding.redirect_message('node', response.headers, asked)
        return BridgeUnavailableError(text, response.status_code, message)
    error = bridge_error(response.status_code, text, response.headers)
    try:
        answer = decoding.parse(body)
    except ValueError:
        return error
    # The accounts service names its errors under `status`, web-core under `error`.
    if isinstance(answer, dict) and isinstance(answer.get('status'), str):
        error.message = answer['status']
    return error


def _unusable(name: str) -> BridgeUnavailableError:
    return BridgeUnavailableError(f'the answer has no usable {name!r}', 200)


def _object(answer: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = answer.get(name)
    if not isinstance(value, dict):
        raise _unusable(name)
    return value


def _text(answer: Mapping[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise _unusable(name)
    return value


def _number(answer: object, name: str) -> int:
    """Return a whole number; a node that never moved a byte says null for none."""
    value = answer.get(name, '') if isinstance(answer, dict) else ''
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise _unusable(name)
    return value


def _reference(answer: Mapping[str, Any]) -> Reference:
    try:
        return Reference(_text(answer, 'filehash'), _text(answer, 'key'))
    except ValueError as error:
        raise _unusable('filehash and key') from error


def _coin(answer: Mapping[str, Any]) -> Coin | None:
    """Find the coin block in any of its three forms."""
    for block, name in (('datacoin', 'datacoin'), ('florincoin', 'florincoin'), ('metachains', '')):
        coin = answer.get(block)
        if not isinstance(coin, dict):
            continue
        balance, height = coin.get('balance'), coin.get('block')
        return Coin(
            name=name or str(coin.get('coin', '')),
            address=str(coin.get('address', '')),
            balance=float(balance) if isinstance(balance, (int, float)) else None,
            block=height if isinstance(height, int) else None,
        )
    return None
