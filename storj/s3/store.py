"""Buckets and objects of one account, as S3 sees them.

What blocks runs in threads of its own; transfers run in the engine of the client. All writers of
one key take turns, so that the last one wins, and a reader that comes between the removal of the
former object and the entry of the new one waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from storj.catalog import BucketEntry, BucketNotFound, Catalog, FileEntry
from storj.exception import (
    AlreadyExistsError,
    AuthenticationError,
    BridgeUnavailableError,
    BridgeUnreachableError,
    NotFoundError,
    RateLimitedError,
)
from storj.s3.blocks import Blocks
from storj.s3.errors import S3Error
from storj.s3.index import Description, Index
from storj.s3.listing import Keys, Page
from storj.s3.spool import Spool
from storj.sharding import shard_size_for
from storj.text import is_unicode

if TYPE_CHECKING:
    from storj import http

_log = logging.getLogger(__name__)

T = TypeVar('T')

#: Bytes of a key at most.
MAX_KEY: Final = 1024

#: Calls of the bridge at once.
_THREADS: Final = 32

#: Seconds for which what is known of a bucket is believed.
_BUCKET_SECONDS: Final = 10.0

_PIECE: Final = 1024 * 1024

#: Blocks that a range has a part of at most to be worth keeping them.
_FEW_BLOCKS: Final = 2


@dataclass(frozen=True)
class Object:
    """An object.

    Attributes:
        entry (FileEntry): of the network.
        description (Description): what S3 tells beside; made up if the index knows nothing.
    """

    entry: FileEntry
    description: Description

    @property
    def size(self) -> int:
        """Bytes."""
        return self.entry.size or 0

    @property
    def modified(self) -> datetime.datetime:
        """When it was stored, in UTC and whole seconds, as HTTP has it."""
        moment = self.entry.created or datetime.datetime.fromtimestamp(0, datetime.timezone.utc)
        return moment.replace(microsecond=0)


@dataclass(eq=False)
class _Turns:
    """Those who write one key, one after the other.

    Attributes:
        lock (asyncio.Lock): of the one whose turn it is.
        users (int): who hold this record.
        writers (int): who write, or wait for their turn.
        ended (int): turns so far.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    writers: int = 0
    ended: int = 0


def _version(entry: FileEntry) -> str:
    """Return what tells one upload of a name from another."""
    # Ids follow from names, so that a file which replaces another has its id.
    created = 0 if entry.created is None else int(entry.created.timestamp() * 1000)
    return f'{entry.id}:{created}:{entry.size}'


class Store:
    """Buckets and objects of one account.

    Args:
        client (storj.http.Client): of the account; closed with the store.
        index (Index): of what the network cannot keep.
        spool (Spool): for bodies.
        kept (Spool): for shards of which a client asked for a part.
        listing_seconds (float): for which a listing is believed.
        plain_names (bool): whether new names are stored in the clear.
    """

    def __init__(
        self,
        client: http.Client,
        index: Index,
        spool: Spool,
        kept: Spool,
        *,
        listing_seconds: float = 10.0,
        plain_names: bool = False,
    ) -> None:
        self.client = client
        self.index = index
        self.spool = spool
        self._blocks = Blocks(kept)
        self._listing_seconds = listing_seconds
        self._catalog = Catalog(client, plain_names=plain_names)
        # Threads of its own: transfers that wait for farmers must not keep a listing waiting.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix='storj-s3')
        self._buckets: dict[str, tuple[float, BucketEntry]] = {}
        self._keys: dict[str, Keys] = {}
        self._listing = asyncio.Lock()
        # Of the keys that somebody writes or looks for.
        self._turns: dict[tuple[str, str], _Turns] = {}

    async def close(self) -> None:
        """End transfers and threads."""
        await self._blocks.close()
        await asyncio.to_thread(self.client.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run what blocks in a thread, with errors of the network as those of S3."""
        loop = asyncio.get_running_loop()
        with _translated():
            return await loop.run_in_executor(
                self._threads, functools.partial(function, *arguments)
            )

    # -- buckets -----------------------------------------------------------------------------------

    async def buckets(self) -> list[BucketEntry]:
        """Return all buckets whose names S3 can have, in order."""
        found = [each for each in await self.run(self._catalog.buckets) if is_unicode(each.name)]
        now = time.monotonic()
        self._buckets = {entry.name: (now, entry) for entry in found}
        return found

    async def bucket(self, name: str) -> BucketEntry:
        """Return a bucket.

        Raises:
            S3Error: If there is none of the name.
        """
        moment, entry = self._buckets.get(name, (0.0, None))
        if entry is None or time.monotonic() - moment > _BUCKET_SECONDS:
            await self.buckets()
            entry = self._buckets.get(name, (0.0, None))[1]
        if entry is None:
            raise S3Error('NoSuchBucket', BucketName=name)
        return entry

    async def create_bucket(self, name: str) -> None:
        """Make a bucket; one that exists already is left as it is."""
        with contextlib.suppress(AlreadyExistsError):
            if name not in {entry.name for entry in await self.buckets()}:
                await self.run(self.client.bucket_create, name)
        self._buckets.pop(name, None)

    async def delete_bucket(self, name: str) -> None:
        """Remove an empty bucket.

        Raises:
            S3Error: If it is not empty, or there is none.
        """
        bucket = await self.bucket(name)
        if len(await self._listed(bucket, fresh=True)):
            raise S3Error('BucketNotEmpty', BucketName=name)
        await self.run(self.client.bucket_delete, bucket.id)
        self._buckets.pop(name, None)
        self._keys.pop(bucket.id, None)
        await self.run(self.index.forget, bucket.id)
        for upload in await self.run(self.index.uploads, bucket.id):
            self.spool.drop(await self.run(self.index.end_upload, upload.id))

    # -- listings ----------------------------------------------------------------------------------

    async def _listed(self, bucket: BucketEntry, *, fresh: bool = False) -> Keys:
        # One after another: a second caller takes what the first one has fetched.
        async with self._listing:
            keys = self._keys.get(bucket.id)
            old = keys is None or time.monotonic() - keys.moment > self._listing_seconds
            if keys is None or old or fresh:
                try:
                    keys = Keys(await self.run(self._catalog.files, bucket))
                except BucketNotFound:
                    raise S3Error('NoSuchBucket', BucketName=bucket.name) from None
                self._keys[bucket.id] = keys
            return keys

    async def page(
        self, bucket: BucketEntry, prefix: str, delimiter: str, after: str, most: int
    ) -> tuple[Page, list[Object]]:
        """Return a page of a listing, and its objects."""
        keys = await self._listed(bucket)
        page = keys.page(prefix, delimiter, after, most)
        known = await self.run(
            self.index.describe, bucket.id, [entry.name for entry in page.entries]
        )
        return page, [self._object(entry, known.get(entry.name)) for entry in page.entries]

    # -- objects -----------------------------------------------------------------------------------

    @staticmethod
    def _object(entry: FileEntry, known: tuple[str, Description] | None) -> Object:
        version = _version(entry)
        if known is not None and known[0] == version:
            return Object(entry, known[1])
        # The dash tells clients that it is no MD5 of the content.
        made = hashlib.md5(version.encode(), usedforsecurity=False).hexdigest() + '-1'
        # What others stored may be no header at all.
        mimetype = entry.mimetype or ''
        headers = {'Content-Type': mimetype} if mimetype and mimetype.isprintable() else {}
        return Object(entry, Description(made, headers))

    async def find(self, bucket: BucketEntry, key: str, *, waits: bool = True) -> Object | None:
        """Return an object, None if there is none.

        Args:
            bucket (BucketEntry): where it is.
            key (str): of the object.
            waits (bool): whether a writer of the key is waited for; False within its turn.
        """
        with self._turns_of(bucket, key) as turns:
            ended = turns.ended
            entry = await self.run(self._find_entry, bucket, key)
            if entry is None and waits and (turns.writers or turns.ended > ended):
                # It was just being replaced.
                async with self.turn(bucket, key):
                    entry = await self.run(self._find_entry, bucket, key)
        if entry is None:
            return None
        known = await self.run(self.index.describe, bucket.id, [key])
        return self._object(entry, known.get(key))

    def _find_entry(self, bucket: BucketEntry, key: str) -> FileEntry | None:
        return self._catalog.find_file(bucket, key, ids=False)

    async def object(self, bucket: BucketEntry, key: str) -> Object:
        """Return an object.

        Raises:
            S3Error: If there is none.
        """
        found = await self.find(bucket, key)
        if found is None:
            raise S3Error('NoSuchKey', Key=key)
        return found

    @contextlib.contextmanager
    def _turns_of(self, bucket: BucketEntry, key: str) -> Iterator[_Turns]:
        place = bucket.id, key
        turns = self._turns.setdefault(place, _Turns())
        turns.users += 1
        try:
            yield turns
        finally:
            turns.users -= 1
            if not turns.users:
                del self._turns[place]

    @contextlib.asynccontextmanager
    async def turn(self, bucket: BucketEntry, key: str) -> AsyncIterator[None]:
        """Be the only one who writes a key."""
        with self._turns_of(bucket, key) as turns:
            turns.writers += 1
            try:
                async with turns.lock:
                    yield
            finally:
                turns.writers -= 1
                turns.ended += 1

    async def put(
        self,
        bucket: BucketEntry,
        key: str,
        files: Sequence[tuple[str, int]],
        description: Description,
    ) -> Object:
        """Store files of the spool, one behind the other, as an object; within its turn."""
        with self.spool.open(files) as source:
            return await self.store(bucket, key, source, description)

    async def store(
        self, bucket: BucketEntry, key: str, source: Any, description: Description
    ) -> Object:
        """Store what can be uploaded as an object; within its turn."""
        future = self.client.transfers.upload(
            bucket.id,
            source,
            name=key,
            # Kept in the index; the network would show the type of an encrypted file to anybody.
            mimetype=None,
            encrypt_name=self._catalog.encrypts_names,
            overwrite=True,
            # The client sends everything again: a journal would only name files of the spool.
            resume=False,
        )
        try:
            with _translated():
                made = await future
        except NotFoundError as error:
            # Another client has removed the bucket.
            self._buckets.pop(bucket.name, None)
            raise S3Error('NoSuchBucket', BucketName=bucket.name) from error
        entry = await self._entry_of(bucket, key, made)
        await self.run(self.index.note, bucket.id, key, _version(entry), description)
        keys = self._keys.get(bucket.id)
        if keys is not None:
            keys.put(entry)
        return Object(entry, description)

    async def _entry_of(self, bucket: BucketEntry, key: str, made: Any) -> FileEntry:
        """Return the entry of what was stored."""
        # Bridges before 5.8 tell the time of an entry when it is made and never again.
        if made.size is not None and self.client.profile().has_erasure:
            return self._catalog.describe_file(bucket, made.id, made)
        entry = await self.run(self._find_entry, bucket, key)
        if entry is None:
            raise S3Error('InternalError', 'The object was removed while it was stored.')
        return entry

    async def describe(self, bucket: BucketEntry, found: Object, description: Description) -> None:
        """Give an object another description; within its turn."""
        await self.run(
            self.index.note, bucket.id, found.entry.name, _version(found.entry), description
        )

    async def delete(self, bucket: BucketEntry, key: str) -> None:
        """Remove an object, within its turn; nothing happens if there is none."""
        entry = await self.run(self._find_entry, bucket, key)
        if entry is not None:
            with contextlib.suppress(NotFoundError):
                await self.run(self.client.file_remove, bucket.id, entry.id)
            await self.run(self.index.forget, bucket.id, [key])
        keys = self._keys.get(bucket.id)
        if keys is not None:
            keys.remove(key)

    async def is_current(self, found: Object) -> bool:
        """Return whether an object was not replaced since it was found.

        Only if somebody writes its key now, or has written it since, the bridge is asked.
        """
        bucket, key = found.entry.bucket, found.entry.name
        known = (await self.run(self.index.describe, bucket.id, [key])).get(key)
        version = _version(found.entry)
        turns = self._turns.get((bucket.id, key))
        written = turns is not None and turns.writers
        if not written and (known is None or known[0] == version):
            return True
        entry = await self.run(self._find_entry, bucket, key)
        return entry is not None and _version(entry) == version

    async def content(self, found: Object, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield bytes of an object, each shard checked before its first byte.

        Raises:
            NotFoundError: If the object was replaced or removed.
        """
        # Blocks are the shards of what this package stores; with those of others it works as well.
        block = shard_size_for(found.size)
        first, last = start // block, -(-end // block)
        shared = min(last * block, found.size) - first * block > end - start
        if shared and last - first <= _FEW_BLOCKS and self._blocks.make_space(2 * block):
            parts = self._out_of_blocks(found, start, end, block)
        else:
            parts = self._streamed(found, start, end)
        async with contextlib.aclosing(parts):
            async for piece in parts:
                yield piece

    async def _out_of_blocks(
        self, found: Object, start: int, end: int, block: int
    ) -> AsyncGenerator[bytes, None]:
        """Yield a range that other ranges have shards in common with."""
        while start < end:
            number = start // block
            offset, limit = number * block, min((number + 1) * block, found.size)

            async def fetch(writer: Any, offset: int = offset, limit: int = limit) -> None:
                await self._fetch(found, offset, limit, writer)

            key = f'{found.entry.bucket.id}/{_version(found.entry)}', number
            async with self._blocks.opened(key, limit - offset, fetch) as source:
                source.seek(start - offset)
                limit = min(limit, end)
                while start < limit:
                    piece = await self.run(source.read, min(_PIECE, limit - start))
                    start += len(piece)
                    yield piece

    async def _fetch(self, found: Object, start: int, end: int, writer: Any) -> None:
        entry = found.entry
        with _translated():
            await self.client.transfers.download(
                entry.bucket.id, entry.id, writer, start=start, end=end
            )
        # A file that replaces another one has its id: only now it is known whose bytes these are.
        current = await self.run(self._find_entry, entry.bucket, entry.name)
        if current is None or _version(current) != _version(entry):
            raise NotFoundError('the object was replaced', 404)

    async def _streamed(self, found: Object, start: int, end: int) -> AsyncGenerator[bytes, None]:
        pieces = self.client.transfers.stream(
            found.entry.bucket.id, found.entry.id, start=start, end=end
        )
        try:
            while piece := await self.run(next, pieces, b''):
                yield piece
        finally:
            await self.run(pieces.close)  # type: ignore[attr-defined]


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise errors of the network as those of S3."""
    try:
        yield
    except RateLimitedError as error:
        raise S3Error('SlowDown', str(error)) from error
    except (BridgeUnreachableError, BridgeUnavailableError) as error:
        raise S3Error('ServiceUnavailable') from error
    except (OperationalError, PoolTimeoutError) as error:
        _log.warning('the index cannot be asked: %s', getattr(error, 'orig', None) or error)
        raise S3Error('ServiceUnavailable') from error
    except BucketNotFound as error:
        raise S3Error('NoSuchBucket') from error
    except AuthenticationError as error:
        # Not the caller's keys: whoever runs the gateway must look.
        _log.error('the bridge refuses the account of this gateway: %s', error)
        raise S3Error('AccessDenied', 'The network refuses the account of the gateway.') from error
