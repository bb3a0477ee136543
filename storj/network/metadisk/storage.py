"""Stores a node's files at farmers and fetches them, as any client of the bridge does.

The node talks to its bridge over the wire, with an account of its own, and to the farmers by
:class:`~storj.network.node.shard_client.ShardClient`, as farmers and bridge do. A shard is held in
memory while it is checked and moved; what waits for a reader lies on the disk, however slowly that
reads.

Not by :mod:`storj.transfer`, because a node serves what that engine is not made for:

* Ranges of files that have no HMAC. The engine asks for all pointers of a file first, as the HMAC
  over all hashes proves list and key; each pointer is a call of the bridge to a farmer, and a file
  of 2 GiB has 512. Here the name of a file is the hash of its bytes, which its reader checks, and a
  range costs the pointers of its own shards.
* Any number of slow readers, in the event loop of the bridge. A stream of the
  engine takes a thread of its reader while it waits.
* Addresses that strangers announced, on a machine that others reach: names that lead to this
  machine or its own network are refused (:mod:`storj.network.node.addresses`). A user's program
  may call what it likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import logging
import os
import tempfile
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import aiohttp

from storj import sharding
from storj.api import BridgeProfile, hash_password
from storj.digest import Generation, ShardDigest, new_challenges, shard_hash
from storj.network.node.addresses import NETWORK_ERRORS
from storj.network.node.rpc import ContactError, NodeContact, read_limited
from storj.network.node.shard_client import ShardClient, ShardClientError
from storj.network.node.tasks import together
from storj.system.hosts import ip_of, is_loopback
from storj.text import count_of

logger = logging.getLogger(__name__)

#: Bytes of a shard; small enough to be checked in memory before a byte of it goes out.
SHARD_SIZE = 4 * 1024 * 1024

_BUCKET = 'metadisk'
_ANSWER_LIMIT = 4 * 1024 * 1024
# Of one file: shards pushed at a time, farmers tried for a shard, pointers asked for at a time.
_PUSHES = 3
_FARMERS = 8
_POINTERS = 3
# Of all files: shards that are in memory to be checked.
_RECEIVING = 8
_PIECE = 256 * 1024
# The bridge picks farmers at random and now and then finds none although there are some.
_OFFERS = 3
_PAUSE = 0.25
_BRIDGE_TIMEOUT = aiohttp.ClientTimeout(total=100, sock_connect=10)


#: A shard that waits for its reader.
_Kept: TypeAlias = io.FileIO | io.BytesIO


class StorageError(Exception):
    """The network did not take or give the bytes."""


class _BridgeRefusal(StorageError):
    """The bridge said no."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f'the bridge answered {status}: {text}')
        self.status = status


@dataclass(frozen=True)
class Account:
    """Credentials of the node's account at the bridge; ``password`` in clear."""

    email: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class _Shard:
    """A shard read, hashed and ready to be offered."""

    index: int
    data: bytes
    hash: str
    challenges: list[str]
    leaves: list[str]


@dataclass(frozen=True)
class ShardsAt:
    """A farmer that was given shards of a file.

    Attributes:
        node_id (str): of the farmer.
        url (str): ``storj://address:port/nodeID`` (protocol reference, section 7.2).
        shards (tuple[int, ...]): indices, ascending.
        failed (bool): whether it could not prove, when audited, that it still has them.
    """

    node_id: str
    url: str
    shards: tuple[int, ...]
    failed: bool


def _kept(folder: Path, data: bytearray) -> _Kept:
    """Return a shard, whose hash was right, in a file without a name. Blocking.

    A disk that takes no more keeps nobody from reading: the shard stays in memory then.
    """
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder, buffering=0))
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            stack.pop_all()
            return file
    except OSError as error:
        logger.warning('a shard waits in memory: %s', error)
        return io.BytesIO(data)


def _close_unwanted(writing: asyncio.Future[_Kept]) -> None:
    if not writing.cancelled() and writing.exception() is None:
        writing.result().close()


class FarmerStorage:
    """The node as a client of its bridge.

    Args:
        bridge_url (str): of the bridge.
        account (Account): the node's; it must be activated.
        session (aiohttp.ClientSession): for calls to the bridge; stays the caller's.
        farmers (ShardClient): for shards; stays the caller's.
        folder (Path): for shards that wait for their reader.
    """

    def __init__(
        self,
        bridge_url: str,
        account: Account,
        session: aiohttp.ClientSession,
        farmers: ShardClient,
        folder: Path,
    ) -> None:
        self._url = bridge_url.rstrip('/')
        self._host = urlsplit(bridge_url).hostname or ''
        self._session = session
        self._farmers = farmers
        self._folder = folder
        self._receiving = asyncio.Semaphore(_RECEIVING)
        self._email = account.email
        credentials = aiohttp.encode_basic_auth(account.email, hash_password(account.password))
        self._headers = {'Authorization': credentials}
        self._bucket: str | None = None
        self._opening = asyncio.Lock()
        self._generation: Generation | None = None

    async def store(self, descriptor: int, size: int, name: str) -> str:
        """Store a file in the node's bucket.

        Args:
            descriptor (int): of an open file; read by position.
            size (int): bytes, at least 1.
            name (str): of the entry; an entry of that name is replaced.

        Raises:
            StorageError: If the bridge or too many farmers refuse.
        """
        bucket = await self._open_bucket()
        frame = (await self._call('POST', '/frames', {}))['id']
        try:
            await self._push_all(descriptor, size, frame)
            return await self._enter(bucket, frame, name)
        except BaseException:
            await self._forget_frame(frame)
            raise

    async def fetch(
        self, entry: str, shard_size: int, start: int, end: int
    ) -> AsyncGenerator[memoryview, None]:
        """Yield bytes ``start`` to ``end`` (exclusive) of a file, every shard proved first.

        Raises:
            StorageError: If no farmer gives the right bytes of a shard.
        """
        async with aclosing(
            self._shards(entry, start // shard_size, -(-end // shard_size))
        ) as all_:
            offset = start // shard_size * shard_size
            async for shard in all_:
                with shard:
                    size = shard.seek(0, os.SEEK_END)
                    left = min(size, end - offset) - shard.seek(max(0, start - offset))
                    while left > 0:
                        piece = bytearray(min(_PIECE, left))
                        # It was written just now, so this does not wait for the disk.
                        if shard.readinto(piece) != len(piece):
                            raise OSError(errno.EIO, 'a shard on the disk became shorter')
                        yield memoryview(piece)
                        left -= len(piece)
                offset += size
        if offset < end:
            raise StorageError('shards are missing at the end of the file')

    async def relay(
        self,
        node_id: str,
        hash_: str,
        token: str,
        size: int,
        sink: Callable[[bytes], Awaitable[object]],
    ) -> None:
        """Bring a shard from a farmer of the bridge to somebody who has a token for it.

        Args:
            node_id (str): of the farmer; its address is the one that the bridge knows.
            hash_ (str): of the shard, 40 hex digits; the reader compares it.
            token (str): the farmer's, which checks it.
            size (int): bytes of the shard.
            sink (Callable[[bytes], Awaitable[object]]): takes the pieces, in order.

        Raises:
            StorageError: If the farmer is unknown, or gives no shard of this size.
        """
        farmer = self._farmer_of({'farmer': await self._call('GET', f'/contacts/{node_id}')})
        try:
            await self._farmers.pull(farmer, hash_, token, size, sink)
        except ShardClientError as error:
            raise StorageError(f'{node_id} does not give {hash_}: {error}') from error

    async def places(self, entry: str) -> tuple[int, list[ShardsAt]]:
        """Return how many shards a file has, and which farmers took them.

        A farmer that has failed an audit of some of its shards is named twice: for them, and for
        the others.

        Raises:
            StorageError: If the bridge does not say.
        """
        bucket = await self._open_bucket()
        shards = await self._call('GET', f'/buckets/{bucket}/files/{entry}/mirrors')
        held: dict[tuple[str, bool], list[int]] = {}
        try:
            for index, shard in enumerate(shards):
                for mirror in shard['established']:
                    if mirror['stored']:
                        key = str(mirror['contract']['farmer_id']), bool(mirror['failed'])
                        held.setdefault(key, []).append(index)
            nodes = sorted({node for node, _ in held})
            cards = await asyncio.gather(*(self._call('GET', f'/contacts/{id_}') for id_ in nodes))
            urls = {
                node: f'storj://{_card(card).authority}/{node}'
                for node, card in zip(nodes, cards, strict=True)
            }
        except (KeyError, TypeError) as error:
            raise StorageError(f'the bridge does not say where {entry} lies') from error
        return len(shards), [
            ShardsAt(node, urls[node], tuple(indices), failed)
            for (node, failed), indices in sorted(held.items())
        ]

    # -- up ------------------------------------------------------------------------------------

    async def _push_all(self, descriptor: int, size: int, frame: str) -> None:
        plan = sharding.plan(size, parity=False, shard_size=SHARD_SIZE)
        indices = iter(range(plan.shards))

        async def push_some() -> None:
            for index in indices:
                span = plan.span(index)
                generation = await self._audit_generation()
                shard = await asyncio.to_thread(
                    _prepare, descriptor, index, span.offset, span.size, generation
                )
                await self._push(frame, shard)

        await together(*(push_some() for _ in range(min(_PUSHES, plan.shards))))

    async def _push(self, frame: str, shard: _Shard) -> None:
        """Bring one shard to a farmer, trying others when one fails."""
        exclude: list[str] = []
        for _ in range(_FARMERS):
            pointer = await self._offer(frame, shard, exclude)
            farmer = self._farmer_of(pointer)
            begun = time.time()
            try:
                await self._farmers.push(farmer, shard.hash, str(pointer['token']), shard.data)
            except ShardClientError as error:
                logger.warning('shard %s not taken by %s: %s', shard.hash, farmer.node_id, error)
                await self._report(farmer, shard.hash, begun, 1100, 'TRANSFER_FAILED')
                exclude.append(farmer.node_id)
            else:
                await self._report(farmer, shard.hash, begun, 1000, 'SHARD_UPLOADED')
                return
        raise StorageError(f'{_FARMERS} farmers did not take shard {shard.hash}')

    async def _offer(self, frame: str, shard: _Shard, exclude: list[str]) -> Mapping[str, Any]:
        body = {
            'hash': shard.hash,
            'size': len(shard.data),
            'index': shard.index,
            'challenges': shard.challenges,
            'tree': shard.leaves,
            'exclude': exclude,
        }
        for attempt in range(_OFFERS):
            try:
                pointer: Mapping[str, Any] = await self._call('PUT', f'/frames/{frame}', body)
            except _BridgeRefusal:
                if attempt == _OFFERS - 1:
                    raise
            else:
                return pointer
            await asyncio.sleep(_PAUSE * (attempt + 1))
        raise AssertionError('unreachable')

    async def _enter(self, bucket: str, frame: str, name: str) -> str:
        body = {'frame': frame, 'filename': name, 'mimetype': 'application/octet-stream'}
        path = f'/buckets/{bucket}/files'
        try:
            return str((await self._call('POST', path, body))['id'])
        except _BridgeRefusal:
            # A node that stopped between the entry and its own record has left one of this name.
            await self._call('DELETE', f'{path}/{sharding.file_id(bucket, name)}')
        return str((await self._call('POST', path, body))['id'])

    async def _forget_frame(self, frame: str) -> None:
        try:
            await self._call('DELETE', f'/frames/{frame}')
        except StorageError as error:
            logger.warning('frame %s stays behind: %r', frame, error)

    # -- down ----------------------------------------------------------------------------------

    async def _shards(self, entry: str, first: int, end: int) -> AsyncGenerator[_Kept, None]:
        """Yield the shards ``first`` to ``end`` (exclusive); the next is fetched meanwhile."""
        pulls: deque[asyncio.Task[_Kept]] = deque()

        async def oldest() -> _Kept:
            shard = await pulls[0]
            pulls.popleft()
            return shard

        try:
            for page in range(first, end, _POINTERS):
                # Tokens of farmers expire: ask for a few, when they are wanted.
                pointers = await self._pointers(entry, page, min(_POINTERS, end - page))
                for index, pointer in enumerate(pointers, page):
                    pulls.append(asyncio.create_task(self._pull(entry, index, pointer)))
                    if len(pulls) > 1:
                        yield await oldest()
            while pulls:
                yield await oldest()
        finally:
            for pull in pulls:
                pull.cancel()
            for left in await asyncio.gather(*pulls, return_exceptions=True):
                if not isinstance(left, BaseException):
                    left.close()

    async def _pull(self, entry: str, index: int, pointer: Mapping[str, Any]) -> _Kept:
        """Get one shard, from another farmer when one fails."""
        exclude: list[str] = []
        for _ in range(_FARMERS):
            if not pointer.get('farmer') or not pointer.get('token'):
                break
            farmer, hash_ = self._farmer_of(pointer), str(pointer['hash'])
            begun = time.time()
            try:
                async with self._receiving:
                    data = await self._receive(pointer, farmer, hash_)
                    if await asyncio.to_thread(shard_hash, data) != hash_:
                        raise ShardClientError('the bytes are not those of the hash')
                    shard = await self._spooled(data)
                    del data
            except ShardClientError as error:
                logger.warning('shard %s not had from %s: %s', hash_, farmer.node_id, error)
                await self._report(farmer, hash_, begun, 1100, 'DOWNLOAD_ERROR')
                exclude.append(farmer.node_id)
            else:
                try:
                    await self._report(farmer, hash_, begun, 1000, 'SHARD_DOWNLOADED')
                except BaseException:
                    shard.close()
                    raise
                return shard
            found = await self._pointers(entry, index, 1, exclude)
            if not found:
                break
            pointer = found[0]
        raise StorageError(f'no farmer gives shard {index} of entry {entry}')

    async def _spooled(self, data: bytearray) -> _Kept:
        """Put a shard on the disk, and leave nothing there if nobody waits for it any more."""
        writing = asyncio.ensure_future(asyncio.to_thread(_kept, self._folder, data))
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            writing.add_done_callback(_close_unwanted)
            raise

    async def _receive(
        self, pointer: Mapping[str, Any], farmer: NodeContact, hash_: str
    ) -> bytearray:
        size = int(pointer['size'])
        if not 0 < size <= SHARD_SIZE:
            raise StorageError(f'the bridge names a shard of {count_of(size, "byte")}')
        data = bytearray()

        async def take(piece: bytes) -> None:
            data.extend(piece)

        await self._farmers.pull(farmer, hash_, str(pointer['token']), size, take)
        return data

    async def _pointers(
        self, entry: str, skip: int, limit: int, exclude: list[str] | None = None
    ) -> list[Mapping[str, Any]]:
        bucket = await self._open_bucket()
        token = await self._call('POST', f'/buckets/{bucket}/tokens', {'operation': 'PULL'})
        query = {'skip': str(skip), 'limit': str(limit)}
        if exclude:
            query['exclude'] = ','.join(exclude)
        found = await self._call(
            'GET', f'/buckets/{bucket}/files/{entry}', query=query, token=str(token['token'])
        )
        if not isinstance(found, list) or len(found) != limit:
            raise StorageError(f'{entry} has no {count_of(limit, "shard")} from {skip} on')
        return found

    # -- the bridge ----------------------------------------------------------------------------

    async def _open_bucket(self) -> str:
        """Return the id of the node's bucket; make it when it is missing."""
        # The first uploads come together, and only one of them can make it.
        async with self._opening:
            if self._bucket is None:
                known = await self._call('GET', '/buckets')
                bucket = next((row for row in known if row['name'] == _BUCKET), None)
                if bucket is None:
                    bucket = await self._call('POST', '/buckets', {'name': _BUCKET})
                self._bucket = str(bucket['id'])
            return self._bucket

    async def _audit_generation(self) -> Generation:
        if self._generation is None:
            info = await self._call('GET', '/')
            self._generation = BridgeProfile.from_info(info).audit_generation
        return self._generation

    def _farmer_of(self, pointer: Mapping[str, Any]) -> NodeContact:
        """Return the farmer that a pointer names.

        The bridge has looked at addresses that are written as such, and trusts its own name.
        """
        farmer = _card(pointer.get('farmer'))
        named = ip_of(farmer.address) is None and farmer.address != self._host
        return replace(farmer, local=is_loopback(self._host) or not named)

    async def _report(
        self, farmer: NodeContact, hash_: str, begun: float, code: int, message: str
    ) -> None:
        """Tell the bridge how an exchange went; it makes mirrors by that."""
        body = {
            'reporterId': self._email,
            'clientId': self._email,
            'farmerId': farmer.node_id,
            'dataHash': hash_,
            'exchangeStart': int(begun * 1000),
            'exchangeEnd': int(time.time() * 1000),
            'exchangeResultCode': code,
            'exchangeResultMessage': message,
        }
        try:
            await self._call('POST', '/reports/exchanges', body)
        except StorageError as error:
            logger.warning('exchange report for shard %s not taken: %r', hash_, error)

    async def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> Any:
        headers = {**self._headers, **({'x-token': token} if token else {})}
        try:
            async with self._session.request(
                method,
                self._url + path,
                params=query,
                json=body,
                headers=headers,
                timeout=_BRIDGE_TIMEOUT,
                allow_redirects=False,
            ) as response:
                answer = await read_limited(response.content, _ANSWER_LIMIT)
        except NETWORK_ERRORS as error:
            raise StorageError(f'the bridge does not answer {method} {path}: {error!r}') from error
        if response.status >= 300:
            raise _BridgeRefusal(response.status, (answer or b'')[:200].decode(errors='replace'))
        if answer == b'':
            return None
        try:
            return json.loads(answer or b'')
        except (ValueError, RecursionError) as error:
            raise StorageError(f'the bridge answered {method} {path} with no JSON') from error


def _prepare(descriptor: int, index: int, offset: int, size: int, generation: Generation) -> _Shard:
    data = os.pread(descriptor, size, offset)
    if len(data) != size:
        raise StorageError('the spool ends early')
    digest = ShardDigest(challenges := new_challenges(), generation)
    digest.update(data)
    return _Shard(index, data, digest.hexdigest(), challenges, digest.leaves())


def _card(fields: object) -> NodeContact:
    """Return a farmer's address card, as the bridge gives it."""
    try:
        return NodeContact.from_mapping(fields)
    except ContactError as error:
        raise StorageError('the bridge names no farmer') from error
