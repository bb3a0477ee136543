"""Shards as objects in a bucket of an S3-compatible object store.

::

    s3://BUCKET/PREFIX/
      farmer             node id of the farmer that the prefix belongs to
      stored/abcdef...   one object per shard, named by its hash
      ended/abcdef...    in quarantine: nobody needs it
      bad/abcdef...      in quarantine: it turned out to be damaged

An object appears under its key in one step: by one PUT, or by the end of an upload in parts, and
either only after the hash was found right. What is left of an upload whose farmer was killed is
invisible parts, which a rule of the bucket for incomplete uploads removes; one that merely failed
is aborted.

Chosen from obstore and s3fs by measurement (SeaweedFS 4.48 on loopback, two busy cores):

=========  ================  ================  ===================  ===================  ===========
library    PUT 4 KiB, 8 at   GET 4 KiB, 8 at   GET 8 MiB            PUT 8 MiB            peak memory
           once              once              MB/s, CPU each       MB/s, CPU each
=========  ================  ================  ===================  ===================  ===========
obstore    687/s, 0.2 ms     1,584/s, 0.2 ms   266, 8 ms            37, 9 ms             52 MB
s3fs       241/s, 2.2 ms     129/s, 3.9 ms     222, 17 ms           27, 21 ms            119 MB
=========  ================  ================  ===================  ===================  ===========

Calls wait for the network, so they are made in threads. Each has a time limit. When the store does
not answer, further calls are refused at once, but for one every few seconds that finds out whether
it does again.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from storj.exception import NetworkSetupError
from storj.network.farmer.store import (
    PLACES,
    DamagedShardError,
    Found,
    NoSpaceLeftError,
    Place,
    StoreError,
    check_hash,
)
from storj.network.node.identity import is_node_id

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Store

logger = logging.getLogger(__name__)

T = TypeVar('T')

#: Seconds for a question, for some megabytes, and for a copy within the store.
QUESTION_LIMIT, DATA_LIMIT, COPY_LIMIT = 5.0, 60.0, 300.0
#: Seconds between two attempts while the store does not answer, or takes no writes.
PAUSE = 5.0

# Up to so many bytes a shard is sent in one request, beyond that in parts of this size.
_PART = 8 * 1024 * 1024
# Bytes that are asked for in one request.
_RANGE = 4 * 1024 * 1024
# Bytes of uploads that are in memory at one time: a part that is filled, one that waits, one that
# is sent.
_MEMORY = 512 * 1024 * 1024
_MARKER = 'farmer'
# What stores say when they are full; S3 itself never is.
_FULL = ('QuotaExceeded', 'InsufficientStorage', 'StorageFull', '507 ')


def parse_url(url: str) -> tuple[str, str]:
    """Return bucket and prefix of ``s3://BUCKET/PREFIX``.

    Raises:
        ValueError: If it is something else, or holds credentials, which would be seen in lists of
            processes.
    """
    parts = urlsplit(url)
    if parts.scheme != 's3' or not parts.netloc or parts.query or parts.fragment:
        raise ValueError("a store is 'disk', 'null' or 's3://BUCKET/PREFIX'")
    if '@' in parts.netloc or ':' in parts.netloc:
        raise ValueError('credentials of a store belong into the environment, not into its URL')
    return parts.netloc, parts.path.strip('/')


class ObjectStore:
    """Shards as objects in a bucket.

    Credentials are those of the environment (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
    ``AWS_SESSION_TOKEN``), else, where boto3 is installed, those of its profiles.

    Args:
        url (str): ``s3://BUCKET/PREFIX``.
        endpoint (str | None): URL of the service; Amazon's by default.

    Raises:
        NetworkSetupError: If obstore is not installed, or there are no credentials.
        ValueError: If the URL is none of a bucket.
    """

    keeps_data = True
    is_local = False

    def __init__(self, url: str, endpoint: str | None = None) -> None:
        if importlib.util.find_spec('obstore') is None:
            raise NetworkSetupError("objects need the extra: pip install 'storj[objects]'")
        import obstore

        self._api = obstore
        self._url = url
        bucket, prefix = parse_url(url)
        credentials = _credentials()
        self._quick, self._data, self._copies = (
            _open(bucket, prefix, endpoint, seconds, credentials)
            for seconds in (QUESTION_LIMIT, DATA_LIMIT, COPY_LIMIT)
        )
        self._lock = threading.Lock()
        self._memory = _MEMORY
        # Why the store is not used, or not written to, and when that is tried again.
        self._away = _Outage()
        self._refused = _Outage()

    def expect(self, count: int, owner: str) -> None:
        """Refuse a prefix that is another farmer's, or that has lost what this one stored.

        Raises:
            NetworkSetupError: If it is.
            StoreError: If the store does not answer.
        """
        found = self._marker()
        if found is None and count:
            raise NetworkSetupError(
                f'{self._url}: nothing was ever stored here, and the index knows of shards; check'
                ' bucket, prefix and endpoint'
            )
        if found is None:
            self.put(_MARKER, owner.encode())
        elif found != owner:
            raise NetworkSetupError(f'{self._url}: belongs to another farmer, {found[:40]!r}')

    def _marker(self) -> str | None:
        try:
            found = self._call('GET', lambda: bytes(self._api.get(self._quick, _MARKER).bytes()))
        except FileNotFoundError:
            return None
        return found.decode('ascii', 'replace')

    def _check_marker(self) -> None:
        """A bucket that was taken away must not look like one that lost each of its shards."""
        if self._marker() is None:
            raise StoreError('The object store has lost everything of this farmer')

    def listing(self) -> Iterator[tuple[Place, str, int]]:
        """Yield place, hash and bytes of all objects, a thousand a request.

        Raises:
            StoreError: If the store does not answer.
        """
        for place in PLACES:
            pages = iter(self._api.list(self._data, place, chunk_size=1000))
            while page := self._call('LIST', partial(next, pages, None)):
                for entry in page:
                    name = entry['path'].rpartition('/')[2]
                    if is_node_id(name):
                        yield place, name, entry['size']

    def free(self) -> int | None:
        """Return None: an object store has no limit but the farmer's size.

        Raises:
            StoreError: If it does not answer, or takes no writes.
        """
        for outage in (self._away, self._refused):
            if outage.reason and not (outage is self._refused and outage.is_over()):
                raise StoreError(outage.reason)
        return None

    def find(self, data_hash: str) -> Found | None:
        """Return what the store says about the object of a shard; None if there is none.

        Raises:
            StoreError: If the store does not answer, or has gone with all of its shards.
        """
        return self._head(_key(data_hash))

    def _head(self, key: str) -> Found | None:
        try:
            found = self._call('HEAD', lambda: self._api.head(self._quick, key))
        except FileNotFoundError:
            self._check_marker()
            return None
        return Found(found['size'], (found['e_tag'], found['last_modified']))

    def create(self, data_hash: str, size: int) -> _Upload:
        """Begin an upload.

        Raises:
            StoreError: If the store does not answer, or too much is being written.
        """
        key = _key(data_hash)
        self.free()
        memory = min(size, 3 * _PART)
        with self._lock:
            if memory > self._memory:
                raise NoSpaceLeftError('Too many uploads at one time')
            self._memory -= memory
        return _Upload(self, key, memory)

    def open(self, data_hash: str) -> _Download:
        """Begin a download; whether there is anything, the first read finds out."""
        return _Download(self, _key(data_hash))

    def move(self, data_hash: str, source: Place, target: Place) -> int | None:
        """Copy an object within the store and delete the old one; return its bytes, if any.

        Raises:
            StoreError: If the store does not answer.
        """
        old, new = _key(data_hash, source), _key(data_hash, target)
        found = self._head(old)
        if found is None:
            return None
        try:
            self._write('COPY', lambda: self._api.copy(self._copies, old, new))
        except FileNotFoundError:
            return None
        self._write('DELETE', lambda: self._api.delete(self._quick, old))
        return found.size

    def delete(self, data_hash: str, place: Place) -> None:
        """Delete an object; nothing happens if it is not there.

        Raises:
            StoreError: If the store does not answer.
        """
        key = _key(data_hash, place)
        try:
            self._write('DELETE', lambda: self._api.delete(self._quick, key))
        except FileNotFoundError:
            return

    # ------------------------------------------------------------- for what it hands out

    def put(self, key: str, content: bytes | Iterator[bytes]) -> None:
        """Store an object in one step.

        Raises:
            StoreError: If the store does not answer, or takes nothing.
        """
        in_parts = not isinstance(content, bytes)
        self._write(
            'PUT',
            lambda: self._api.put(
                self._data,
                key,
                content,
                use_multipart=in_parts,
                chunk_size=_PART,
                max_concurrency=1,
            ),
        )

    def get(self, key: str, start: int, e_tag: str | None) -> tuple[bytes, int, str | None]:
        """Return a range of an object, with the bytes of the whole and its tag.

        Raises:
            DamagedShardError: If it is not there, or another one than before.
            StoreError: If the store does not answer.
        """
        options: dict[str, Any] = {'range': (start, start + _RANGE)}
        if e_tag is not None:
            options['if_match'] = e_tag

        def fetch() -> tuple[bytes, int, str | None]:
            result = self._api.get(self._data, key, options=options)
            return bytes(result.bytes()), result.meta['size'], result.meta['e_tag']

        try:
            return self._call('GET', fetch)
        except (FileNotFoundError, self._api.exceptions.PreconditionError) as error:
            self._check_marker()
            raise DamagedShardError('Cannot read: the object is gone') from error

    def release(self, memory: int) -> None:
        """Count bytes as in memory no longer."""
        with self._lock:
            self._memory += memory

    # ------------------------------------------------------------- outages

    def _write(self, what: str, work: Callable[[], T]) -> T:
        """Call what changes something, and take note if the store takes no changes."""
        try:
            result = self._call(what, work)
        except FileNotFoundError as error:
            if what == 'COPY':
                raise
            # The only way in which a PUT finds something missing.
            raise self._refuse('The bucket does not exist', error) from error
        self._refused.end()
        return result

    def _call(self, what: str, work: Callable[[], T]) -> T:
        """Call the store, unless it is away.

        Raises:
            FileNotFoundError: If the object is not there.
            StoreError: If the store does not answer, or refuses.
        """
        errors = self._api.exceptions
        if not self._away.may_try():
            raise StoreError(self._away.reason)
        try:
            result = work()
        except (FileNotFoundError, errors.PreconditionError):
            self._away.end()
            raise
        except errors.BaseError as error:
            raise self._failed(what in ('GET', 'HEAD', 'LIST'), error) from error
        self._away.end()
        return result

    def _failed(self, reading: bool, error: Exception) -> Exception:
        """Return the error for what the library says, and take note of an outage."""
        errors, text = self._api.exceptions, str(error)
        if reading and '416 Range' in text:
            self._away.end()
            return _EmptyError()
        if any(word in text for word in _FULL):
            self._refuse('The object store is full', error)
            return NoSpaceLeftError('No space left')
        if isinstance(error, (errors.PermissionDeniedError, errors.UnauthenticatedError)):
            # A bucket that takes no writes is not one that cannot be read.
            mark = self._leave if reading else self._refuse
            return mark('The object store refuses the credentials', error)
        return self._leave('The object store does not answer', error)

    def _leave(self, reason: str, error: Exception) -> StoreError:
        return self._note(self._away, reason, error)

    def _refuse(self, reason: str, error: Exception) -> StoreError:
        self._away.end()
        return self._note(self._refused, reason, error)

    def _note(self, outage: _Outage, reason: str, error: Exception) -> StoreError:
        if not outage.reason:
            # The first line; the rest is for those who debug the library.
            logger.warning('%s: %s: %s', self._url, reason, str(error).partition('\n')[0])
        outage.begin(reason)
        return StoreError(reason)


class _Outage:
    """Why something is not tried for now, and until when."""

    def __init__(self) -> None:
        self.reason = ''
        self._until = 0.0

    def begin(self, reason: str) -> None:
        self.reason, self._until = reason, time.monotonic() + PAUSE

    def end(self) -> None:
        self.reason = ''

    def is_over(self) -> bool:
        return time.monotonic() >= self._until

    def may_try(self) -> bool:
        """Return whether to call; while the store is away, one caller at a time finds out."""
        if not self.reason:
            return True
        if not self.is_over():
            return False
        self._until = time.monotonic() + DATA_LIMIT
        return True


class _Upload:
    """A shard that is collected in memory, and sent in parts by a thread if it is large."""

    def __init__(self, store: ObjectStore, key: str, memory: int) -> None:
        self._store = store
        self._key = key
        self._memory = memory
        self._waiting: list[bytes] = []
        self._size = 0
        self._sender: _Sender | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._waiting.append(bytes(data))
        self._size += len(data)
        # The last part is sent by the commit only, when the hash was right.
        while self._size > _PART:
            content = b''.join(self._waiting)
            self._waiting, self._size = [content[_PART:]], self._size - _PART
            if self._sender is None:
                self._sender = _Sender(self._store, self._key)
            self._sender.send(content[:_PART])

    def commit(self) -> None:
        rest, self._waiting = b''.join(self._waiting), []
        if self._sender is None:
            self._store.put(self._key, rest)
            return
        self._sender.send(rest)
        self._sender.finish()

    def abort(self) -> None:
        self._waiting = []
        if self._sender is not None:
            self._sender.abort()
        self._store.release(self._memory)
        self._memory = 0


class _Sender:
    """A thread that sends an object part by part; the object appears with the last one."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        self._store, self._key = store, key
        self._parts: queue.Queue[bytes | None] = queue.Queue(1)
        self._failure: Exception | None = None
        self._aborted = False
        self._ended = threading.Event()
        threading.Thread(target=self._run, name='storj-upload', daemon=True).start()

    def send(self, part: bytes) -> None:
        """Hand over a part; waits until the one before is being sent."""
        self._give(part)

    def finish(self) -> None:
        """Wait until all was sent and the object is there."""
        self._give(None)
        if not self._ended.wait(COPY_LIMIT):
            raise StoreError('The object store does not answer')
        if self._failure is not None:
            raise self._failure

    def abort(self) -> None:
        """Let the thread give up with its next part; it does nothing more if all was sent."""
        self._aborted = True
        # It waits for a part, or takes one that is there, and then looks.
        if self._parts.empty():
            self._parts.put_nowait(None)

    def _give(self, part: bytes | None) -> None:
        while not self._ended.is_set():
            try:
                self._parts.put(part, timeout=1)
            except queue.Full:
                continue
            return
        raise self._failure or StoreError('The upload was given up')

    def _run(self) -> None:
        try:
            self._store.put(self._key, self._taken())
        except Exception as error:
            # Of whatever kind: those who wait for the end are told.
            self._failure = error
        finally:
            self._ended.set()

    def _taken(self) -> Iterator[bytes]:
        while (part := self._parts.get()) is not None and not self._aborted:
            yield part
        if self._aborted:
            # Passed on by the library, which then removes the parts that were sent.
            raise _AbortedError


class _AbortedError(Exception):
    """An upload was given up on purpose."""


class _EmptyError(Exception):
    """A range of an object without any bytes was asked for."""


class _Download:
    """An object that is read range by range, from its beginning."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        self._store, self._key = store, key
        self._buffer = memoryview(b'')
        self._position = 0
        self._size: int | None = None
        self._e_tag: str | None = None

    def read(self, size: int) -> bytes:
        pieces: list[memoryview] = []
        while size and self._fill():
            piece = self._buffer[:size]
            self._buffer = self._buffer[len(piece) :]
            size -= len(piece)
            pieces.append(piece)
        return b''.join(pieces)

    def _fill(self) -> bool:
        """Return whether there are bytes to hand out, after fetching some if there were none."""
        if self._buffer:
            return True
        if self._size is not None and self._position >= self._size:
            return False
        try:
            content, self._size, self._e_tag = self._store.get(
                self._key, self._position, self._e_tag
            )
        except _EmptyError:
            self._size = self._position
            return False
        self._buffer = memoryview(content)
        self._position += len(content)
        return bool(content)

    def close(self) -> None:
        self._buffer = memoryview(b'')


def _key(data_hash: str, place: Place = 'stored') -> str:
    check_hash(data_hash)
    return f'{place}/{data_hash}'


def _open(
    bucket: str, prefix: str, endpoint: str | None, seconds: float, credentials: Any
) -> S3Store:
    from obstore.store import S3Store

    limit = timedelta(seconds=seconds)
    client: ClientConfig = {
        'timeout': limit,
        'connect_timeout': timedelta(seconds=min(seconds, QUESTION_LIMIT)),
        'allow_http': (endpoint or '').startswith('http://'),
    }
    settings: dict[str, Any] = {'endpoint': endpoint} if endpoint else {}
    if credentials is not None:
        settings['credential_provider'] = credentials
    return S3Store(
        bucket,
        prefix=prefix or None,
        client_options=client,
        retry_config={'max_retries': 1, 'retry_timeout': limit},
        **settings,
    )


def _credentials() -> Any:
    """Return the provider for credentials that are not in the environment, None if they are.

    Raises:
        NetworkSetupError: If there are none.
    """
    if os.environ.get('AWS_ACCESS_KEY_ID'):
        return None
    if importlib.util.find_spec('boto3') is None:
        raise NetworkSetupError(
            'no credentials for the object store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,'
            ' or install boto3 to use its profiles'
        )
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider()
    except ValueError as error:
        raise NetworkSetupError(f'no credentials for the object store: {error}') from error
