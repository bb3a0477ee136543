"""Files: the entries of buckets, and the pointers to their shards."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from typing import Any

from aiohttp import web
from sqlalchemy import (
    BigInteger,
    Connection,
    bindparam,
    case,
    exists,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from storj.digest import is_hex
from storj.network.bridge.auth import (
    Caller,
    authenticate,
    owned_bucket,
    use_token,
)
from storj.network.bridge.contacts import KnownFarmer, contact_object
from storj.network.bridge.copies import COPIES, FrameShard, download_tokens, shards_of
from storj.network.bridge.database import Locks
from storj.network.bridge.frames import excluded, owned_frame
from storj.network.bridge.listing import entry_of
from storj.network.bridge.quotas import check_volume, count_volume
from storj.network.bridge.state import BRIDGE, CONTRACT_LIFE, Bridge, Release
from storj.network.bridge.tables import Bucket, Contact, Contract, Entry, Frame, Pointer
from storj.network.bridge.upkeep.backlog import remember
from storj.network.bridge.upkeep.removals import remove_files
from storj.network.bridge.upkeep.repairs import REPAIRS, Repairs
from storj.network.node.wire import (
    Refusal,
    Route,
    answer,
    iso_date,
    number,
    object_id,
    read_body,
    text,
)
from storj.sharding import file_id

_MAX_NAME = 32767
_MAX_MIRRORS = 12
_DEFAULT_POINTERS = 6
# Pointers of one answer.
_MAX_POINTERS = 500
_POINTERS = (
    select(Pointer)
    .where(
        Pointer.frame == bindparam('frame'),
        Pointer.position >= bindparam('start'),
        Pointer.position < bindparam('end'),
    )
    .order_by(Pointer.position)
)

#: The frame of a new file, and whether its name is in use.
_OPEN = (
    select(Frame.locked, exists().where(Entry.id == bindparam('entry')).label('taken'))
    .join(Bucket, Bucket.user == Frame.user)
    .where(
        Frame.id == bindparam('frame'),
        Bucket.id == bindparam('bucket'),
        Bucket.user == bindparam('email'),
    )
)
#: Closes the open frame of a new file, if its shards have enough copies. Bucket and frame are
#: locked until the end of the transaction: neither changes meanwhile, and a bucket's files are made
#: one by one.
_CLOSE = (
    update(Frame)
    .where(
        Frame.id == bindparam('frame'),
        Frame.locked.is_(False),
        Frame.user == bindparam('email'),
        Frame.user
        == select(Bucket.user)
        .where(Bucket.id == bindparam('bucket'))
        .with_for_update()
        .scalar_subquery(),
        ~exists().where(Pointer.frame == bindparam('frame'), bindparam('enough') > COPIES),
    )
    .values(locked=True)
    .returning(Frame.size, exists().where(Entry.id == bindparam('entry')).label('taken'))
)
_NEWEST = (
    select(func.max(Entry.created)).where(Entry.bucket == bindparam('of_bucket')).scalar_subquery()
)
_NOW = bindparam('now', type_=BigInteger)
_NEW_ENTRY = (
    insert(Entry)
    # Strictly ascending within a bucket, as the buckets of an account are.
    .values(created=case((_NEWEST >= _NOW, _NEWEST + 1), else_=_NOW))
    .returning(Entry.created)
)

#: By a list of shards: for a condition on pointers, a planner that has no statistics reads all
#: contracts. Not whole ones: their audit trees are most of them.
_ESTABLISHED = (
    select(
        Contract.shard_hash,
        Contract.node_id,
        Contract.data_size,
        Contract.store_begin,
        Contract.store_end,
        Contract.stored,
        Contract.failed,
    )
    .where(Contract.shard_hash.in_(bindparam('shards', expanding=True)))
    .order_by(Contract.mirror, Contract.store_begin, Contract.node_id)
)
# Shards of one statement.
_AT_ONCE = 500

#: Seconds between two attempts to have the shards of a new file copied, and attempts at the most.
_LOOK_AGAIN, _COPY_ATTEMPTS = 1.0, 3
_HMAC_TYPES = ('sha512', 'sha256', 'ripemd160')
# IANA's top-level types, and those that mime-db adds; any registered subtype may follow.
_MIMETYPE = re.compile(
    r'(?:application|audio|chemical|font|image|message|model|multipart|text|video|x-conference'
    r'|x-shader)/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}'
)


def _entry_object(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file as its creation answers."""
    fields: dict[str, Any] = {'frame': entry['frame'], 'bucket': entry['bucket']}
    if entry['index'] is not None:
        fields['index'] = entry['index']
    if entry['erasure'] is not None:
        fields['erasure'] = {'type': entry['erasure']}
    if entry['hmac_type'] is not None:
        fields['hmac'] = {'value': entry['hmac_value'], 'type': entry['hmac_type']}
    return fields | {
        'created': iso_date(entry['created']),
        'renewal': iso_date(entry['renewal']),
        'mimetype': entry['mimetype'],
        'filename': entry['frame'] if entry['name'] is None else entry['name'],
        'id': entry['id'],
        'size': entry['size'],
    }


def _chosen(body: dict[str, Any]) -> dict[str, str | None]:
    """Return the fields of a file that a client chooses.

    Raises:
        Refusal: If the value is invalid (400).
    """
    mimetype = body.get('mimetype') or 'application/octet-stream'
    if not isinstance(mimetype, str) or not _MIMETYPE.fullmatch(mimetype):
        raise Refusal(400, 'Invalid mimetype supplied')
    fields: dict[str, str | None] = {'mimetype': mimetype}
    fields |= dict.fromkeys(('hmac_type', 'hmac_value', 'erasure', 'index'))
    code = body.get('hmac')
    if code:
        if not isinstance(code, dict) or code.get('type') not in _HMAC_TYPES:
            raise Refusal(400, 'Invalid hmac type')
        value = code.get('value')
        if not isinstance(value, str) or not re.fullmatch(r'(?:[0-9a-fA-F]{2}){1,64}', value):
            raise Refusal(400, 'Invalid hmac value')
        fields |= {'hmac_type': code['type'], 'hmac_value': value}
    erasure = body.get('erasure')
    if erasure:
        if not isinstance(erasure, dict) or erasure.get('type') != 'reedsolomon':
            raise Refusal(400, 'Invalid erasure type')
        fields['erasure'] = 'reedsolomon'
    index = body.get('index')
    if index is not None:
        if not isinstance(index, str) or not is_hex(index.lower(), 64):
            raise Refusal(400, 'Invalid index, expected to be 256 hex string')
        fields['index'] = index
    return fields


async def create_file(request: web.Request) -> web.Response:
    """Turn a frame into a file.

    A name that is taken: bridges 2.1 to 5.12 replace the entry, which keeps its id and its date;
    later ones refuse (with the database's text and 500; 409 is meant).
    """
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)
    body = await read_body(request)
    name = body.get('filename')
    if name is not None and not isinstance(name, str):
        raise Refusal(400, 'Invalid filename supplied')
    if name is not None and len(name) > _MAX_NAME:
        raise Refusal(400, 'Maximum bucket entry name')
    new = _NewFile(caller, request.match_info['bucket'], body, bridge.release)
    try:
        # What is refused is refused before the wait for copies.
        made = await _make(bridge, new)
        if isinstance(made, list):
            made = await _make_later(bridge, request.app[REPAIRS], new, made)
    except IntegrityError:
        # Another bridge may have used the name at the same moment.
        await bridge.database.run(new.check)
        raise Refusal(409, 'Index already used by another file') from None
    return answer(made)


@dataclass(frozen=True)
class _NewFile:
    """A file that a client wants to make of a frame."""

    caller: Caller
    bucket_id: str
    body: dict[str, Any]
    release: Release

    def _wanted(self) -> dict[str, Any]:
        """Return what the file is made of, as statements take it.

        Raises:
            Refusal: If an id is malformed (400).
        """
        bucket, frame = object_id(self.bucket_id, 'Bucket'), self.body.get('frame')
        return {
            'frame': frame.lower() if is_hex(frame, 24, any_case=True) else '',
            'bucket': bucket,
            'email': self.caller.email,
            'entry': file_id(bucket, self.body.get('filename') or None),
        }

    def check(self, connection: Connection) -> None:
        """Refuse a file that cannot be made.

        Raises:
            Refusal: If the request is invalid (400), something in it is unknown (404), or the name
                is in use (409).
        """
        wanted = self._wanted()
        found = connection.execute(_OPEN, wanted).one_or_none()
        if found is None:
            frame = self.body.get('frame')
            with Session(connection) as session:
                owned_bucket(session, self.caller, wanted['bucket'])
                if isinstance(frame, str):
                    owned_frame(session, self.caller, frame)
            raise Refusal(404, 'Frame not found')
        if found.locked:
            raise Refusal(400, 'Frame is already locked')
        self._check_name(found.taken)
        _chosen(self.body)

    def _check_name(self, taken: bool) -> None:
        # The id follows from bucket and name, so a name that is in use is an id that exists
        # (section 3.4).
        if taken and self.release.since(5, 13):
            raise Refusal(409, 'Name already used in this bucket')

    def create(
        self, connection: Connection, *, now: int, leaving: Collection[str], enough: int
    ) -> dict[str, Any] | list[FrameShard]:
        """Make the file, if all its shards have enough copies.

        Args:
            connection (Connection): in a transaction.
            now (int): milliseconds since 1970.
            leaving (Collection[str]): farmers whose copies do not count.
            enough (int): copies of each shard.

        Returns:
            dict[str, Any] | list[FrameShard]: what is answered; or the shards of the frame, of
            which some have not enough copies.

        Raises:
            Refusal: If it cannot be made.
        """
        wanted = self._wanted() | {'besides': list(leaving), 'enough': enough}
        found = connection.execute(_CLOSE, wanted).one_or_none()
        if found is None:
            self.check(connection)
            return shards_of(connection, wanted['frame'], leaving)
        self._check_name(found.taken)
        bucket = wanted['bucket']
        entry = {
            'id': wanted['entry'],
            'bucket': bucket,
            'name': self.body.get('filename') or None,
            'frame': wanted['frame'],
            'renewal': now + CONTRACT_LIFE,
            **_chosen(self.body),
        }
        if found.taken:
            # It keeps its id and its date.
            same = Entry.id == entry['id']
            before = connection.execute(select(Entry.frame).where(same)).scalar_one()
            changed = update(Entry).where(same).values(**entry).returning(Entry.created)
            created = connection.scalar(changed)
            remove_files(connection, [before])
        else:
            created = connection.scalar(_NEW_ENTRY, {**entry, 'of_bucket': bucket, 'now': now})
        return _entry_object(entry | {'created': created, 'size': found.size})

    def create_anyway(
        self, bridge: Bridge, shards: list[FrameShard], connection: Connection
    ) -> dict[str, Any]:
        """Make the file with the copies that there are; note those that are missing."""
        made = self.create(connection, now=bridge.now(), leaving=(), enough=0)
        if isinstance(made, list):
            raise Refusal(400, 'Frame has changed')
        there = shards_of(connection, made['frame'])
        _check_unchanged(shards, there)
        counts = {each.shard_hash: each.copies for each in there}
        few = {name: count for name, count in counts.items() if count < bridge.settings.copies}
        # They were asked for just now.
        remember(bridge, connection, few, bridge.now() + bridge.settings.repair_pause)
        return made


async def _make(bridge: Bridge, new: _NewFile) -> dict[str, Any] | list[FrameShard]:
    """Make a file if all its shards have enough copies; see :meth:`_NewFile.create`."""
    leaving, enough = bridge.leaving, bridge.settings.copies
    create = partial(new.create, now=bridge.now(), leaving=leaving, enough=enough)
    return await bridge.database.share(create, Locks.BUCKET, new.bucket_id)


async def _make_later(
    bridge: Bridge, repairs: Repairs, new: _NewFile, shards: list[FrameShard]
) -> dict[str, Any]:
    """Wait until the shards of a new file are on as many farmers as required, and make it.

    A confirmed file must not be lost with the next farmer. If there are too few farmers, or copies
    take too long, one copy is enough, of as many shards as restore the file.

    Raises:
        Refusal: If too many shards are on no farmer that answers (404), or the file cannot be made.
    """
    parity = sum(shard.parity for shard in shards)
    end, there = time.monotonic() + bridge.settings.copying_timeout, shards
    for attempt in count():
        counts = {shard.shard_hash: shard.copies for shard in there}
        again = await repairs.settle(counts, end - time.monotonic())
        made = await _make(bridge, new)
        if not isinstance(made, list):
            return made
        there = made
        _check_unchanged(shards, there)
        none = await repairs.undelivered(list(counts))
        # D of the D + P shards restore a file: as many may be missing as there are parity shards.
        readable = sum(shard.shard_hash in none for shard in shards) <= parity
        over = time.monotonic() >= end
        if readable and (over or not again or attempt >= _COPY_ATTEMPTS):
            break
        if over:
            # Not 503: the frame stays as it is, and only a new upload can help.
            raise Refusal(404, 'Shards of the frame are on no farmer that answers')
        await asyncio.sleep(_LOOK_AGAIN)
    # Bucket, frame and name may have changed during the wait.
    return await bridge.database.run(partial(new.create_anyway, bridge, shards))


def _check_unchanged(before: Sequence[FrameShard], there: Sequence[FrameShard]) -> None:
    """Refuse to make a file of other shards than those whose copies were waited for.

    Raises:
        Refusal: If the shards of the frame are others now (400).
    """
    if [each[:2] for each in there] != [each[:2] for each in before]:
        raise Refusal(400, 'Frame has changed')


async def delete_file(request: web.Request) -> web.Response:
    """Remove a file; the contracts of its shards end, if nothing else needs them."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)

    def remove(session: Session) -> None:
        bucket = owned_bucket(session, caller, request.match_info['bucket'])
        entry = entry_of(session, bucket.id, request.match_info['file'])
        remove_files(session.connection(), [entry.frame])

    await bridge.database.run_objects(remove)
    return web.Response(status=204)


async def get_file_id(request: web.Request) -> web.Response:
    """Return the id of the file with a name."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)

    def find(session: Session) -> str:
        bucket = owned_bucket(session, caller, request.match_info['bucket'])
        entry = session.get(Entry, file_id(bucket.id, request.match_info['name']))
        if entry is None or entry.name != request.match_info['name']:
            raise Refusal(404, 'File not found')
        return entry.id

    return answer({'id': await bridge.database.run_objects(find)})


def _count(request: web.Request, name: str, default: int, maximum: int) -> int:
    value = request.query.get(name, '')
    return min(int(value), maximum) if re.fullmatch(r'[0-9]{1,16}', value) else default


async def _bucket_for_pointers(request: web.Request) -> Bucket:
    """Return the bucket that a request for pointers may read.

    By a bridge token, which is used up, or from bridge 5.16 on as its owner.
    """
    bridge = request.app[BRIDGE]
    bucket_id = object_id(request.match_info['bucket'], 'Bucket')
    token = request.headers.get('x-token')
    if token is not None or not bridge.release.since(5, 16):
        # Used up at once, even if the request fails after that (section 2.4).
        await use_token(bridge, token or '', bucket_id, 'PULL')
        bucket = await bridge.database.run_objects(lambda session: session.get(Bucket, bucket_id))
        if bucket is None:
            raise Refusal(404, 'Bucket not found')
        return bucket
    caller = await authenticate(request)
    return await bridge.database.run_objects(
        lambda session: owned_bucket(session, caller, bucket_id)
    )


async def list_pointers(request: web.Request) -> web.Response:
    """Return where a range of a file's shards can be fetched, with the farmers' tokens."""
    bridge = request.app[BRIDGE]
    bucket = await _bucket_for_pointers(request)
    quota = bridge.settings.download_quota if bridge.release.since(4, 2) else None
    skip = _count(request, 'skip', 0, 2**31 - 1)
    limit = _count(request, 'limit', _DEFAULT_POINTERS, _MAX_POINTERS)
    if not skip + limit:
        # The core's slice streams ask for skip=0&limit=0 and mean the default.
        limit = _DEFAULT_POINTERS
    exclude = excluded(request.query.get('exclude', '').split(','))
    now = bridge.now()

    def find(session: Session) -> Sequence[Pointer]:
        connection = session.connection()
        check_volume(connection, quota, bucket.user, 'download', now, 'Could not get file')
        entry = entry_of(session, bucket.id, request.match_info['file'])
        window = {'frame': entry.frame, 'start': skip, 'end': skip + limit}
        return session.scalars(_POINTERS, window).all()

    pointers = await bridge.database.run_objects(find)
    found = await download_tokens(
        bridge, [pointer.shard_hash for pointer in pointers], exclude=exclude
    )
    # Older releases fail the whole request; later ones leave token and farmer out (section 10.5).
    if None in found and not bridge.release.since(5, 11):
        raise Refusal(503, 'Failed to get retrieval token')
    if quota is not None:
        pairs = zip(pointers, found, strict=True)
        size = sum(pointer.size for pointer, grant in pairs if grant is not None)
        await bridge.database.run(
            lambda connection: count_volume(
                connection, quota, bucket.user, 'download', size, bridge.now()
            )
        )
    return answer(
        [
            _pointer_object(pointer, grant, bridge.release)
            for pointer, grant in zip(pointers, found, strict=True)
        ]
    )


def _pointer_object(
    pointer: Pointer, grant: tuple[KnownFarmer, str] | None, release: Release
) -> dict[str, Any]:
    """Return where one shard can be fetched, if a farmer grants it."""
    fields: dict[str, Any] = {'hash': pointer.shard_hash, 'size': pointer.size}
    if release.since(5, 11):
        # Before 5.11 clients count: pointers come in the order of the file, without a number.
        fields = {'index': pointer.position, **fields, 'parity': pointer.parity}
    if grant is not None:
        contact, token = grant
        fields['token'] = token
        fields['farmer'] = contact_object(contact, last_seen=iso_date(contact.last_seen))
        fields['operation'] = 'PULL'
    return fields


def _hashes(session: Session, frame: str) -> list[str]:
    """Return the hashes of a frame's shards, in their order."""
    shards = select(Pointer.shard_hash).where(Pointer.frame == frame).order_by(Pointer.position)
    return list(session.scalars(shards))


async def list_mirrors(request: web.Request) -> web.Response:
    """List which farmers have contracts for each shard of a file (the form of bridge 5.23)."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)

    def find(session: Session) -> tuple[list[str], dict[str, list[dict[str, Any]]]]:
        bucket = owned_bucket(session, caller, request.match_info['bucket'])
        entry = entry_of(session, bucket.id, request.match_info['file'])
        hashes = _hashes(session, entry.frame)
        established: dict[str, list[dict[str, Any]]] = {name: [] for name in hashes}
        each = list(established)
        for start in range(0, len(each), _AT_ONCE):
            some = {'shards': each[start : start + _AT_ONCE]}
            for contract in session.execute(_ESTABLISHED, some):
                established[contract.shard_hash].append(
                    {
                        'shardHash': contract.shard_hash,
                        'contract': {
                            'farmer_id': contract.node_id,
                            'data_size': contract.data_size,
                            'store_begin': contract.store_begin,
                            'store_end': contract.store_end,
                        },
                        # Not of the original, which other clients ignore.
                        'stored': contract.stored,
                        'failed': contract.failed,
                    }
                )
        return hashes, established

    hashes, established = await bridge.database.apart(find)
    return answer([{'established': established[name], 'available': []} for name in hashes])


async def create_mirrors(request: web.Request) -> web.Response:
    """Have more farmers copy the shards of a file.

    Answers, as bridges 1.2 to 3.2, with the farmers that accepted, for each shard; later releases
    do not have this route, but the SDK's ``bucket_set_mirrors`` needs it.
    """
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)
    body = await read_body(request)
    file = text(body, 'file', 64)
    if not file:
        raise Refusal(400, 'No file ID supplied')
    redundancy = number(body.get('redundancy', bridge.settings.mirrors))
    if redundancy is None or redundancy < 0:
        raise Refusal(400, 'Invalid redundancy supplied')
    if redundancy > _MAX_MIRRORS:
        raise Refusal(400, f'Refusing to create more than {_MAX_MIRRORS} mirrors')

    def find(session: Session) -> list[str]:
        bucket = owned_bucket(session, caller, request.match_info['bucket'])
        entry = session.get(Entry, object_id(file, 'File'))
        if entry is None or entry.bucket != bucket.id:
            raise Refusal(404, 'Entry not found')
        return _hashes(session, entry.frame)

    hashes = await bridge.database.run_objects(find)
    repairs = request.app[REPAIRS]
    # The first farmer that has it is none of the mirrors.
    holders = [(await repairs.bring(name, 1 + redundancy))[1 : 1 + redundancy] for name in hashes]
    query = select(Contact).where(Contact.node_id.in_(set(chain.from_iterable(holders))))
    contacts = await bridge.database.run_objects(lambda session: session.scalars(query).all())
    cards = {
        contact.node_id: contact_object(contact, last_seen=iso_date(contact.last_seen))
        for contact in contacts
    }
    return answer([[cards[node] for node in mirrors if node in cards] for mirrors in holders])


ROUTES = (
    Route('POST', '/buckets/{bucket}/files', create_file),
    Route('GET', '/buckets/{bucket}/files/{file}', list_pointers),
    Route('DELETE', '/buckets/{bucket}/files/{file}', delete_file),
    Route('GET', '/buckets/{bucket}/files/{file}/mirrors', list_mirrors),
    Route('GET', '/buckets/{bucket}/file-ids/{name}', get_file_id),
    Route('POST', '/buckets/{bucket}/mirrors', create_mirrors),
)
