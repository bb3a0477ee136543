"""Frames: the shards of a file while it is uploaded.

A farmer reserves space for each shard before it comes, so one account may have only some such
promises open at a time, at all bridges together. Accounts of the bridge's owner have no limit.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiohttp import web
from sqlalchemy import (
    BigInteger,
    Connection,
    Row,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    select,
    true,
    update,
)
from sqlalchemy.orm import Session

from storj.digest import is_hex
from storj.network.bridge.auth import Caller, authenticate
from storj.network.bridge.contacts import KNOWN_FARMER, KnownFarmer, contact_object
from storj.network.bridge.copies import UNCONFIRMED, UNCONFIRMED_COPY, has_shard
from storj.network.bridge.database import Locks
from storj.network.bridge.placement import Shard, candidates, place, ranked
from storj.network.bridge.quotas import check_volume, count_volume
from storj.network.bridge.state import BRIDGE, PROMISE_LIFE, Bridge, Release
from storj.network.bridge.tables import Contact, Contract, Entry, Frame, Pointer, User
from storj.network.bridge.upkeep.removals import remove_files
from storj.network.node.clock import lasts
from storj.network.node.pipelines import UNREAD
from storj.network.node.wire import (
    Refusal,
    Route,
    answer,
    iso_date,
    number,
    object_id,
    read_body,
)
from storj.sharding import LARGEST_SHARD_SIZE

#: Bytes of every data shard of a file but the last (protocol reference, section 3.8).
_MIN_SHARD_SIZE = 15360

_LIST_LIMIT = 10
_OLD_LIST_LIMIT = 1000
_MAX_EXCLUDE = 300
# More than any client sends (section 5.2); bounds the work that one request causes.
_MAX_CHALLENGES = 1024
_MAX_INDEX = 2**31 - 1
#: Bytes up to which nothing is looked up, and bytes at the most where farmers do not say what they
#: offer.
_LITTLE, _MUCH = 64 * 1024**2, 64 * 1024**3
#: Promises about which farmers are asked before an account is refused.
_ASKED_ABOUT = 16

# Statements of every PUT, built once.
_OTHER_DATA = (
    Pointer.frame == bindparam('frame'),
    Pointer.parity.is_(False),
    Pointer.position != bindparam('index'),
)
#: How many, the last position, and the size of the first.
_OTHERS = (
    select(
        func.count().label('others'),
        func.coalesce(func.max(Pointer.position), 0).label('last'),
        func.max(case((Pointer.position == 0, Pointer.size))).label('first'),
    )
    .where(*_OTHER_DATA)
    .subquery()
)
_PLACE = (Pointer.frame == bindparam('frame'), Pointer.position == bindparam('index'))
_REPLACED = select(Pointer.size, Pointer.parity, Pointer.shard_hash).where(*_PLACE).subquery()
#: What farmers keep space for: contracts of an account with farmers that have not confirmed a copy.
_AWAITS = (
    Contract.account == bindparam('email'),
    UNCONFIRMED_COPY,
    lasts(Contract.store_begin, int(PROMISE_LIFE * 1000), bindparam('now', type_=BigInteger)),
)
_AWAITED_OF = select(
    func.count().label('count'), func.coalesce(func.sum(Contract.data_size), 0).label('size')
).where(*_AWAITS)
_AWAITED = _AWAITED_OF.subquery()
_OLDEST_AWAITED = (
    select(Contract.shard_hash, *KNOWN_FARMER)
    .join(Contact, Contact.node_id == Contract.node_id)
    .where(*_AWAITS)
    .order_by(Contract.store_begin)
    .limit(_ASKED_ABOUT)
)
#: Unless another upload waits for the same shard to reach the same farmer.
_GIVE_UP = (
    update(Contract)
    .where(
        Contract.shard_hash == bindparam('shard'),
        Contract.node_id != bindparam('farmer'),
        Contract.account == bindparam('email'),
        Contract.verified == UNCONFIRMED,
        ~exists().where(
            Pointer.shard_hash == Contract.shard_hash,
            Pointer.frame != bindparam('frame'),
            Frame.id == Pointer.frame,
            Frame.locked.is_(False),
        ),
    )
    .values(next_renewal=0)
)
_FRAME = (
    select(
        Frame.id,
        Frame.user,
        Frame.locked,
        _OTHERS,
        _REPLACED.c.size.label('replaced'),
        _REPLACED.c.parity.label('replaced_parity'),
        _REPLACED.c.shard_hash.label('replaced_hash'),
        _AWAITED.c.count.label('awaited'),
        _AWAITED.c.size.label('awaited_size'),
    )
    .select_from(Frame)
    .join(_OTHERS, true())
    .join(_AWAITED, true())
    .outerjoin(_REPLACED, true())
    .where(Frame.id == bindparam('frame'))
)
_UNEVEN = select(
    exists().where(
        *_OTHER_DATA, Pointer.position != bindparam('last'), Pointer.size != bindparam('first')
    )
)
_DROP_POINTER = delete(Pointer).where(*_PLACE)
_NEW_POINTER = insert(Pointer).execution_options(**UNREAD)
#: Also locks the frame, so that other requests for it wait for the end of this one.
_GROW = (
    update(Frame)
    .where(Frame.id == bindparam('this'), Frame.locked.is_(False))
    .values(
        size=Frame.size + bindparam('more'),
        storage_size=Frame.storage_size + bindparam('more_storage'),
    )
    .returning(Frame.storage_size)
)
_NEW_FRAME = insert(Frame).execution_options(**UNREAD)
#: Whether an account has limits, and the bytes that all farmers offer.
_OFFERED = select(
    select(User.free_tier).where(User.email == bindparam('email')).scalar_subquery(),
    select(func.sum(Contact.space_offered)).where(Contact.lost.is_(False)).scalar_subquery(),
)


class _Awaited(NamedTuple):
    """How many shards of an account farmers wait for, and their bytes."""

    shards: int
    size: int


@dataclass(frozen=True)
class Addition:
    """What a client wants to add to a frame."""

    shard: Shard
    index: int
    parity: bool
    exclude: frozenset[str]


class _NewFrame(NamedTuple):
    """A frame as it is made; an object of the ORM would cost as much as its statement."""

    id: str
    user: str
    created: int
    locked: bool = False
    size: int = 0
    storage_size: int = 0


def _frame_object(
    frame: Frame | _NewFrame, shards: Sequence[str], release: Release
) -> dict[str, Any]:
    """Return a frame with the ids of its pointers."""
    fields: dict[str, Any] = {'user': frame.user, 'shards': shards}
    if release.since(5, 15):
        fields['storageSize'] = frame.storage_size
    fields['size'] = frame.size
    fields['locked'] = frame.locked
    fields['created'] = iso_date(frame.created)
    fields['id'] = frame.id
    return fields


def owned_frame(session: Session, caller: Caller, frame_id: object, *, lock: bool = False) -> Frame:
    """Return a frame of the caller's; locked until the end of the transaction, if that is wanted.

    Raises:
        Refusal: If the id is malformed (400) or unknown (404).
    """
    frame = session.get(Frame, object_id(frame_id, 'Frame'), with_for_update=lock)
    if frame is None or frame.user != caller.email:
        raise Refusal(404, 'Frame not found')
    return frame


def _pointer_ids(session: Session, frame: Frame) -> Sequence[str]:
    ids = select(Pointer.id).where(Pointer.frame == frame.id).order_by(Pointer.position)
    return session.scalars(ids).all()


def _check_volume(bridge: Bridge, connection: Connection, caller: Caller, text: str) -> None:
    """Refuse a caller that has uploaded as many bytes as it may.

    Raises:
        Refusal: If the quota is reached (420).
    """
    if bridge.release.since(3, 2):
        quota = bridge.settings.upload_quota
        check_volume(connection, quota, caller.email, 'upload', bridge.now(), text)


async def create_frame(request: web.Request) -> web.Response:
    """Make an empty frame."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)
    frame = _NewFrame(secrets.token_hex(12), caller.email, bridge.now())

    def make(connection: Connection) -> None:
        _check_volume(bridge, connection, caller, 'Could not create frame')
        connection.execute(_NEW_FRAME, frame._asdict())

    await bridge.database.share(make, Locks.FRAME, frame.id)
    return answer(_frame_object(frame, [], bridge.release))


async def list_frames(request: web.Request) -> web.Response:
    """List the caller's last frames; from bridge 5.22.4 on, ten of them."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)
    query = select(Frame).where(Frame.user == caller.email).order_by(Frame.created.desc())
    query = query.limit(_LIST_LIMIT if bridge.release.since(5, 22, 4) else _OLD_LIST_LIMIT)

    def find(session: Session) -> list[dict[str, Any]]:
        frames = session.scalars(query).all()
        return [
            _frame_object(frame, _pointer_ids(session, frame), bridge.release)
            for frame in reversed(frames)
        ]

    return answer(await bridge.database.run_objects(find))


async def get_frame(request: web.Request) -> web.Response:
    """Describe a frame."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)

    def find(session: Session) -> dict[str, Any]:
        frame = owned_frame(session, caller, request.match_info['frame'])
        return _frame_object(frame, _pointer_ids(session, frame), bridge.release)

    return answer(await bridge.database.run_objects(find))


async def delete_frame(request: web.Request) -> web.Response:
    """Remove a frame that no file uses; the contracts of its shards end, if nothing needs them."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)

    def remove(session: Session) -> None:
        frame = owned_frame(session, caller, request.match_info['frame'], lock=True)
        # What the original intended: its own check never matches (section 10.9).
        if session.scalar(select(Entry.id).where(Entry.frame == frame.id)) is not None:
            raise Refusal(400, 'Refusing to destroy frame that is referenced by a bucket entry')
        remove_files(session.connection(), [frame.id])

    await bridge.database.run_objects(remove)
    return web.Response(status=204)


def _hex_list(value: object, length: int, maximum: int) -> list[str] | None:
    """Return a list of hex texts in lower case, or None if it is none."""
    if not isinstance(value, list) or len(value) > maximum:
        return None
    if not all(isinstance(item, str) and is_hex(item.lower(), length) for item in value):
        return None
    # Proofs and hashes are compared as text, so all are kept in lower case.
    return [item.lower() for item in value]


def _audits(body: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Read challenges and tree.

    Raises:
        Refusal: If the value is invalid (400).
    """
    challenges = _hex_list(body.get('challenges'), 64, _MAX_CHALLENGES)
    if challenges is None:
        raise Refusal(400, 'Invalid challenges supplied')
    if not challenges:
        raise Refusal(400, 'Not enough challenges supplied')
    tree = _hex_list(body.get('tree'), 40, 2 * _MAX_CHALLENGES)
    if tree is None:
        raise Refusal(400, 'Invalid tree supplied')
    # The next power of two: the tree is the padded bottom row. Its leaves cannot be checked here,
    # because the bridge never sees the shard (protocol reference, section 5.4).
    if len(tree) != 1 << (len(challenges) - 1).bit_length():
        raise Refusal(400, 'Challenges and tree do not match')
    return challenges, tree


def _exclude(body: dict[str, Any]) -> frozenset[str]:
    """Read the farmers to exclude.

    Raises:
        Refusal: If the value is invalid (400).
    """
    nodes = body.get('exclude')
    if nodes is None:
        return frozenset()
    if not isinstance(nodes, list) or not all(isinstance(node, str) for node in nodes):
        raise Refusal(400, 'Invalid exclude supplied')
    return excluded(nodes)


def excluded(nodes: Sequence[str]) -> frozenset[str]:
    """Return the farmers that a client excludes; what is no node id is ignored.

    Raises:
        Refusal: If they are too many (400).
    """
    if len(nodes) > _MAX_EXCLUDE:
        raise Refusal(400, 'Maximum blacklist length')
    return frozenset(node for node in nodes if is_hex(node, 40))


def _addition(body: dict[str, Any]) -> Addition:
    """Read the body of ``PUT /frames/{frame}``, in the order in which bridge 5 checks it.

    Raises:
        Refusal: If the value is invalid (400).
    """
    challenges, tree = _audits(body)
    index = number(body.get('index'))
    if index is None or not 0 <= index <= _MAX_INDEX:
        raise Refusal(400, 'Invalid index supplied')
    size = number(body.get('size'))
    if size is None or size <= 0:
        raise Refusal(400, 'Invalid size supplied')
    # Original bridges end at 4 GiB: too little for the parity of 1 TiB.
    if size > LARGEST_SHARD_SIZE:
        raise Refusal(400, f'Maximum shard size {LARGEST_SHARD_SIZE} exceeded')
    shard_hash = body.get('hash')
    if shard_hash is None:
        raise Refusal(400, 'Hash is expected to be supplied')
    if not isinstance(shard_hash, str) or not is_hex(shard_hash, 40):
        raise Refusal(400, 'Invalid contract specification was supplied')
    return Addition(
        Shard(shard_hash, size, tree, challenges),
        index,
        body.get('parity') is True,
        _exclude(body),
    )


def _check_sizes(
    connection: Connection, frame: str, addition: Addition, others: tuple[int, int, int | None]
) -> None:
    """Refuse sizes that would leave a reader guessing where a shard begins.

    All data shards but the last have the size of the first, and at least 15 KiB. The database
    looks: a frame of a large file has thousands of pointers, and this is asked for each of them.

    Args:
        connection (Connection): in a transaction.
        frame (str): 24 hex digits.
        addition (Addition): what is to come into the frame.
        others (tuple[int, int, int | None]): of the other data shards their number, the last
            position, and the size of the first.

    Raises:
        Refusal: If the value is invalid (400).
    """
    shard, index = addition.shard, addition.index
    count, last, first = others
    uneven = False
    # Positions of data shards, with S the size of the first; parity is not checked:
    #
    #     0     1     2    ...   last
    #   |  S  |  S  |  S  |    |  <= S  |
    if not addition.parity:
        count, last = count + 1, max(last, index)
        first = shard.size if index == 0 else first
        uneven = index != last and shard.size != first
    # One shard may have any size. Without shard 0 there is nothing to compare with yet: shards come
    # in any order, and the check is made for each.
    if count < 2 or first is None:
        return
    of_others = {'frame': frame, 'index': index, 'last': last, 'first': first}
    if first < _MIN_SHARD_SIZE or uneven or connection.scalar(_UNEVEN, of_others):
        raise Refusal(400, 'Invalid shard sizes')


def check_addition(
    connection: Connection,
    caller: Caller,
    frame_id: str,
    addition: Addition,
    release: Release,
    now: int,
) -> Row[Any]:
    """Return a frame that takes this shard, what it has at its place, and open promises.

    Raises:
        Refusal: If the request is invalid (400) or something is unknown (404).
    """
    key = object_id(frame_id, 'Frame')
    place = {'frame': key, 'index': addition.index, 'email': caller.email, 'now': now}
    found = connection.execute(_FRAME, place).one_or_none()
    if found is None or found.user != caller.email:
        raise Refusal(404, 'Frame not found')
    if found.locked:
        raise Refusal(400, 'Frame is already locked')
    if release.since(5, 16):
        _check_sizes(connection, key, addition, (found.others, found.last, found.first))
    return found


def _put_pointer(
    bridge: Bridge,
    connection: Connection,
    caller: Caller,
    frame: str,
    addition: Addition,
    node_id: str,
) -> None:
    """Put a shard at its place in a frame; one that was there is replaced.

    The farmer that was chosen before for it will not receive it: its contract is due to be ended.

    Raises:
        Refusal: If the frame has been changed, locked or deleted while a farmer was looked for.
    """
    shard = addition.shard
    more = {'more': 0 if addition.parity else shard.size, 'more_storage': shard.size}
    size = connection.scalar(_GROW, {'this': frame, **more})
    if size != shard.size:
        # It has other shards, or is not open any more.
        found = check_addition(connection, caller, frame, addition, bridge.release, bridge.now())
        if found.replaced is not None:
            # Original bridges before 5.3 did not, so that the frame grew (appendix D).
            less = 0 if found.replaced_parity else -found.replaced
            less_of_both = {'more': less, 'more_storage': -found.replaced}
            connection.execute(_GROW, {'this': frame, **less_of_both})
            connection.execute(_DROP_POINTER, {'frame': frame, 'index': addition.index})
            passed = {'shard': found.replaced_hash, 'farmer': node_id, 'email': caller.email}
            connection.execute(_GIVE_UP, passed | {'frame': frame})
    connection.execute(
        _NEW_POINTER,
        {
            'id': secrets.token_hex(12),
            'frame': frame,
            'position': addition.index,
            'shard_hash': shard.shard_hash,
            'size': shard.size,
            'parity': addition.parity,
        },
    )


async def _check_open_promises(bridge: Bridge, email: str, size: int, awaited: _Awaited) -> None:
    """Refuse an account for which farmers keep too much space that it does not fill.

    Args:
        bridge (Bridge): the bridge.
        email (str): of the account.
        size (int): bytes that it wants to bring next. One shard at a time is always welcome.
        awaited (_Awaited): what farmers wait for, whichever bridge has asked them.

    Raises:
        Refusal: If the limit is reached (429, with ``Retry-After``).
    """
    limit = bridge.settings.open_promises
    if not limit or not _exceeds(bridge, email, size, awaited, limit, _LITTLE):
        return
    limited, offered = await bridge.database.read(
        lambda connection: connection.execute(_OFFERED, {'email': email}).one()
    )
    if not limited:
        return
    most = min(_MUCH, int(offered) // 2) if offered else _MUCH
    if not _exceeds(bridge, email, size, awaited, limit, most):
        return
    # Not all farmers report what has come, and reports are lost: ask about the oldest.
    awaited = await _look_for(bridge, email)
    if _exceeds(bridge, email, size, awaited, limit, most):
        raise Refusal(429, 'Too many shards that have not been brought', {'Retry-After': '5'})


def _exceeds(
    bridge: Bridge, email: str, size: int, awaited: _Awaited, limit: int, most: int
) -> bool:
    """Return whether another promise would be too many, or too large beside the others."""
    searching = bridge.searching.get(email, ())
    count, kept_free = awaited.shards + len(searching), awaited.size + sum(searching)
    return bool(count) and (count >= limit or kept_free + size > most)


async def _look_for(bridge: Bridge, email: str) -> _Awaited:
    """Ask farmers whether they have by now what they wait for; return what they still do."""
    wanted = {'email': email, 'now': bridge.now()}
    awaited = await bridge.database.read(
        lambda connection: connection.execute(_OLDEST_AWAITED, wanted).all()
    )
    await asyncio.gather(
        *(has_shard(bridge, KnownFarmer(*card), shard_hash) for shard_hash, *card in awaited)
    )
    shards, size = await bridge.database.read(
        lambda connection: connection.execute(_AWAITED_OF, wanted).one()
    )
    return _Awaited(shards, int(size))


async def add_shard(request: web.Request) -> web.Response:
    """Add a shard to a frame, and find a farmer for it."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)
    addition = _addition(await read_body(request))
    shard = addition.shard
    frame_id = request.match_info['frame']

    def look(connection: Connection) -> tuple[Row[Any], Sequence[Row[Any]]]:
        _check_volume(bridge, connection, caller, 'Could not add shard to frame')
        now = bridge.now()
        frame = check_addition(connection, caller, frame_id, addition, bridge.release, now)
        return frame, candidates(
            connection, shard.shard_hash, exclude=addition.exclude, frame=frame.id
        )

    frame, found = await bridge.database.share(look)

    def keep(connection: Connection, node_id: str) -> None:
        quota = bridge.settings.upload_quota
        count_volume(connection, quota, caller.email, 'upload', shard.size, bridge.now())
        _put_pointer(bridge, connection, caller, frame.id, addition, node_id)

    # No transaction is open from here on: a farmer may take seconds to answer.
    awaited = _Awaited(frame.awaited, int(frame.awaited_size))
    await _check_open_promises(bridge, caller.email, shard.size, awaited)
    searching = bridge.searching.setdefault(caller.email, [])
    searching.append(shard.size)
    try:
        contact, allocation = await place(
            bridge, shard, ranked(bridge, found), keep, frame=frame.id, account=caller.email
        )
    finally:
        searching.remove(shard.size)
        if not searching:
            bridge.searching.pop(caller.email, None)
    return answer(
        {
            'hash': shard.shard_hash,
            'token': allocation.token,
            'operation': 'PUSH',
            'farmer': contact_object(contact, last_seen=contact.last_seen),
        }
    )


ROUTES = (
    Route('GET', '/frames', list_frames),
    Route('POST', '/frames', create_frame),
    Route('GET', '/frames/{frame}', get_frame),
    Route('PUT', '/frames/{frame}', add_shard),
    Route('DELETE', '/frames/{frame}', delete_frame),
)
