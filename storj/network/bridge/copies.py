"""The copies of a shard: which count, which shards are needed, and tokens to fetch one.

A copy counts while its farmer is there and is known to have it: the farmer has confirmed it, no
audit has failed since, and, if the farmer has been lost in between, it has passed an audit after
its return. Contracts alone are promises.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    String,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.orm import Session

from storj.network.bridge.contacts import (
    KNOWN_FARMER,
    FarmerCall,
    KnownFarmer,
    call_farmer,
    lately_timed_out,
    node_contact,
    note_calls,
)
from storj.network.bridge.database import fingerprint
from storj.network.bridge.state import Bridge
from storj.network.bridge.tables import Contact, Contract, Entry, FarmerToken, Frame, Pointer
from storj.network.node.pipelines import UNREAD
from storj.network.node.rpc import NodeError, NodeUnreachableError

#: When a copy is audited that has not arrived yet, and one whose farmer is lost and whose shard is
#: in the backlog of repairs because of that.
NEVER, LOST = 2**53, 2**53 - 1
#: ``Contract.verified`` of a copy that its farmer has not confirmed yet, and of one that could not
#: be read: that counts again when it has passed an audit.
# ``verified`` beside ``Contact.returns``, the number of times that the farmer has come back:
#
#     equal     known to be good since the farmer last came back: the copy counts
#     smaller   the farmer was lost in between: counts again after an audit
UNCONFIRMED, DOUBTFUL = -1, -2
#: As a condition that planners recognise in partial indexes.
UNCONFIRMED_COPY = text('contracts.verified = -1')
#: How often the farmer of a contract has come back, as a value for the contract.
RETURNS = select(Contact.returns).where(Contact.node_id == Contract.node_id).scalar_subquery()

#: The contract of statements that are built once: ``shard`` and ``farmer`` are its key.
THIS_CONTRACT = (
    Contract.shard_hash == bindparam('shard'),
    Contract.node_id == bindparam('farmer'),
)
#: A file needs the shard of the contract.
NEEDED = exists().where(Pointer.shard_hash == Contract.shard_hash, Entry.frame == Pointer.frame)
#: A file, or an upload that has not been given up, does.
IN_USE = or_(
    NEEDED,
    exists().where(
        Pointer.shard_hash == Contract.shard_hash,
        Frame.id == Pointer.frame,
        Frame.locked.is_(False),
        Frame.waits > 0,
    ),
)


def counts(contract: type[Contract]) -> ColumnElement[bool]:
    """Return the condition that a contract's copy counts; joined with its farmer's contact."""
    return and_(
        contract.stored.is_(True),
        contract.failed.is_(False),
        contract.verified == Contact.returns,
        Contact.lost.is_(False),
    )


def confirmed(contract: type[Contract]) -> ColumnElement[bool]:
    """Return the condition that a farmer has confirmed a copy that has not failed since."""
    return and_(
        contract.stored.is_(True),
        contract.failed.is_(False),
        contract.verified != UNCONFIRMED,
    )


def confirm(connection: Connection, shard_hash: str, node_id: str, first_audit: int) -> None:
    """Note that a farmer has a copy, by its own word.

    Args:
        connection (Connection): in a transaction.
        shard_hash (str): 40 hex digits.
        node_id (str): of the farmer.
        first_audit (int): when it is audited, in milliseconds since 1970.
    """
    key = {'shard': shard_hash, 'farmer': node_id}
    connection.execute(_CONFIRM, {**key, 'first': first_audit})


def current(session: Session, contract: Contract) -> Contract | None:
    """Return the record of a contract, unless it was made again or forgotten since it was read.

    It is locked until the end of the transaction: another bridge may be about to change it.
    """
    key = (contract.shard_hash, contract.node_id)
    known = session.get(Contract, key, with_for_update=True)
    return known if known is not None and known.store_begin == contract.store_begin else None


_COUNTS = counts(Contract)
_CONFIRM = (
    update(Contract)
    .where(*THIS_CONTRACT)
    .values(stored=True, failed=False, verified=RETURNS, next_audit=bindparam('first'))
    .execution_options(**UNREAD)
)

# Shards of one statement.
_SOME = 500


class Copy(NamedTuple):
    """What is known of one copy of a shard.

    Attributes:
        node_id (str): of its farmer.
        counts (bool): see the module.
        confirmed (bool): its farmer has reported it at some time, and it has not failed.
        lost (bool): its farmer counts as lost.
    """

    node_id: str
    counts: bool
    confirmed: bool
    lost: bool


#: Copies of a pointer's shard that count, besides those on some farmers.
COPIES = (
    select(func.count())
    .select_from(Contract)
    .join(Contact, Contact.node_id == Contract.node_id)
    .where(
        Contract.shard_hash == Pointer.shard_hash,
        Contract.node_id.not_in(bindparam('besides', expanding=True)),
        _COUNTS,
    )
    .correlate(Pointer)
    .scalar_subquery()
)
_OF_FRAME = (
    select(Pointer.shard_hash, Pointer.parity, COPIES.label('copies'))
    .where(Pointer.frame == bindparam('frame'))
    .order_by(Pointer.position)
)
_COPIES = (
    select(
        Contract.node_id,
        _COUNTS,
        confirmed(Contract),
        Contact.lost,
    )
    .join(Contact, Contact.node_id == Contract.node_id)
    .where(Contract.shard_hash == bindparam('shard'))
    .order_by(Contract.mirror, Contract.store_begin, Contract.node_id)
)
_COUNTED = (
    select(Contract.shard_hash, func.count())
    .join(Contact, Contact.node_id == Contract.node_id)
    .where(
        Contract.shard_hash.in_(bindparam('shards', expanding=True)),
        _COUNTS,
    )
    .group_by(Contract.shard_hash)
)


_NEEDED_AMONG = (
    select(Pointer.shard_hash)
    .join(Entry, Entry.frame == Pointer.frame)
    .where(Pointer.shard_hash.in_(bindparam('shards', expanding=True)))
    .distinct()
)


def copies_of(connection: Connection, shard_hash: str) -> list[Copy]:
    """Return all copies of a shard that were ever agreed on, the first one first."""
    return [Copy(*row) for row in connection.execute(_COPIES, {'shard': shard_hash})]


def copy_counts(connection: Connection, hashes: Sequence[str]) -> dict[str, int]:
    """Return how many copies of each shard count.

    Args:
        connection (Connection): in a transaction.
        hashes (Sequence[str]): of the shards.
    """
    counts = dict.fromkeys(hashes, 0)
    for start in range(0, len(hashes), _SOME):
        some = {'shards': list(hashes[start : start + _SOME])}
        counts.update(dict(connection.execute(_COUNTED, some).all()))
    return counts


def needed_among(connection: Connection, hashes: Sequence[str]) -> set[str]:
    """Return those of shards that a file needs."""
    needed: set[str] = set()
    for start in range(0, len(hashes), _SOME):
        some = {'shards': list(hashes[start : start + _SOME])}
        needed.update(connection.scalars(_NEEDED_AMONG, some))
    return needed


class FrameShard(NamedTuple):
    """A shard of a frame.

    Attributes:
        shard_hash (str): 40 hex digits.
        parity (bool): whether it is a parity shard.
        copies (int): that count.
    """

    shard_hash: str
    parity: bool
    copies: int


def shards_of(
    connection: Connection, frame: str, besides: Collection[str] = ()
) -> list[FrameShard]:
    """Return the shards of a frame, in their order.

    Args:
        connection (Connection): in a transaction.
        frame (str): 24 hex digits.
        besides (Collection[str]): farmers whose copies do not count.
    """
    rows = connection.execute(_OF_FRAME, {'frame': frame, 'besides': list(besides)})
    return [FrameShard(*row) for row in rows]


#: Each shard of a range that a file needs; one that several files share is needed once.
_NEEDED_BETWEEN = (
    select(Pointer.shard_hash)
    .join(Entry, Entry.frame == Pointer.frame)
    .where(Pointer.shard_hash > bindparam('after'), Pointer.shard_hash <= bindparam('end'))
    .distinct()
    .subquery('needed')
)
_SUPPLY = (
    select(func.sum(case((_COUNTS, 1), else_=0)).label('copies'))
    .select_from(_NEEDED_BETWEEN)
    .outerjoin(Contract, Contract.shard_hash == _NEEDED_BETWEEN.c.shard_hash)
    .outerjoin(Contact, Contact.node_id == Contract.node_id)
    .group_by(_NEEDED_BETWEEN.c.shard_hash)
    .subquery('supply')
)
_SUPPLIED = select(_SUPPLY.c.copies, func.count()).group_by(_SUPPLY.c.copies)


def supply(connection: Connection, after: str, end: str) -> dict[int, int]:
    """Return how many shards that files need have so many copies that count.

    Args:
        connection (Connection): in a transaction.
        after (str): the shards have greater hashes than this one.
        end (str): the greatest hash of them.
    """
    rows = connection.execute(_SUPPLIED, {'after': after, 'end': end})
    return {int(copies): count for copies, count in rows}


logger = logging.getLogger(__name__)

# Seconds after which the next farmer is asked for a token as well, and after which none is.
_STAGGER = 1.0
_TOKEN_WAIT = 20.0
# Shards of one request for which farmers are asked at once.
_TOKENS_AT_ONCE = 24

# Chance breaks ties.
_DICE = 2**32

_KEEPERS = (
    select(Contract.shard_hash, Contract.failed, Contract.stored, *KNOWN_FARMER)
    .join(Contact, Contact.node_id == Contract.node_id)
    .where(Contract.shard_hash.in_(bindparam('shards', expanding=True)))
)
# A farmer gives out no token for what it does not have; but it says so about what it had when it
# was away, too, so this does not verify a copy again.
_FETCHED = (
    update(Contract)
    .where(*THIS_CONTRACT)
    .values(
        stored=True,
        verified=case((Contract.verified == UNCONFIRMED, RETURNS), else_=Contract.verified),
        next_audit=case(
            (Contract.next_audit == NEVER, bindparam('audit')), else_=Contract.next_audit
        ),
        download_count=Contract.download_count + 1,
    )
)
#: Unless the farmer has said the same before: farmers make tokens up.
_NEW_TOKEN = insert(FarmerToken).from_select(
    ('token', 'shard_hash', 'node_id', 'created'),
    select(
        bindparam('known', type_=String),
        bindparam('shard', type_=String),
        bindparam('farmer', type_=String),
        bindparam('now', type_=BigInteger),
    ).where(~exists().where(FarmerToken.token == bindparam('known', type_=String))),
)

_T = TypeVar('_T')
_Farmer = TypeVar('_Farmer', bound='Contact | KnownFarmer')


def remember_tokens(
    connection: Connection, tokens: Iterable[tuple[str, str, str]], now: int
) -> None:
    """Keep which farmer gave out which tokens, for the reports about their use.

    Args:
        connection (Connection): in a transaction.
        tokens (Iterable[tuple[str, str, str]]): token, shard hash and node id of each; at least
            one.
        now (int): milliseconds since 1970.
    """
    connection.execute(
        _NEW_TOKEN,
        [
            {'known': fingerprint(token), 'shard': shard_hash, 'farmer': node_id, 'now': now}
            for token, shard_hash, node_id in tokens
        ],
    )


def ranked_holders(held: Iterable[tuple[KnownFarmer, bool, bool]], now: int) -> list[KnownFarmer]:
    """Return farmers that have a contract for a shard, the most promising first.

    Args:
        held (Iterable[tuple[KnownFarmer, bool, bool]]): each farmer, whether its copy has failed,
            and whether somebody has reported it.
        now (int): milliseconds since 1970.
    """
    ranked: list[tuple[tuple[bool, bool, bool, int], KnownFarmer]] = []
    for contact, failed, stored in held:
        away = contact.lost or lately_timed_out(contact, now)
        ranked.append(((failed, not stored, away, secrets.randbelow(_DICE)), contact))
    return [contact for _, contact in sorted(ranked, key=lambda pair: pair[0])]


async def _holders(
    bridge: Bridge, hashes: Collection[str], *, exclude: Collection[str] = ()
) -> dict[str, list[KnownFarmer]]:
    """Return for each shard the farmers that have a contract for it, the most promising first."""
    wanted = {'shards': list(set(hashes))}
    rows = await bridge.database.read(lambda connection: connection.execute(_KEEPERS, wanted).all())
    held: dict[str, list[tuple[KnownFarmer, bool, bool]]] = {}
    for shard_hash, failed, stored, *card in rows:
        contact = KnownFarmer(*card)
        if contact.node_id not in exclude:
            held.setdefault(shard_hash, []).append((contact, failed, stored))
    now = bridge.now()
    return {shard_hash: ranked_holders(some, now) for shard_hash, some in held.items()}


async def download_tokens(
    bridge: Bridge, hashes: Sequence[str], *, exclude: Collection[str] = ()
) -> list[tuple[KnownFarmer, str] | None]:
    """Get farmers' tokens for the download of shards.

    For each shard the best farmer is asked first; as long as there is no token, another one every
    second. The holders of all shards are looked up at once, and what came of it is noted at once.

    Args:
        bridge (Bridge): the bridge.
        hashes (Sequence[str]): of the shards; one that comes twice gets two tokens.
        exclude (Collection[str]): farmers that are not wanted.

    Returns:
        list[tuple[KnownFarmer, str] | None]: for each shard a farmer and its token, or None if none
        gives one out.
    """
    holders = await _holders(bridge, hashes, exclude=exclude)
    calls: list[FarmerCall] = []
    granted: list[tuple[str, str, str]] = []
    at_once = asyncio.Semaphore(_TOKENS_AT_ONCE)

    async def token_for(shard_hash: str) -> tuple[KnownFarmer, str] | None:
        async with at_once:
            # What the calls for other shards have shown meanwhile counts as if it were noted.
            silent = {call.node_id for call in calls if call.failure is not None}
            contacts = sorted(holders.get(shard_hash, ()), key=lambda c: c.node_id in silent)
            found = await _first(
                [partial(_retrieve, bridge, contact, shard_hash, calls) for contact in contacts]
            )
        if found is not None:
            contact, token = found
            granted.append((token, shard_hash, contact.node_id))
        return found

    found = await asyncio.gather(*map(token_for, hashes))
    await note_calls(bridge, calls)
    await _note_granted(bridge, granted)
    return found


async def _note_granted(bridge: Bridge, granted: Sequence[tuple[str, str, str]]) -> None:
    """Note tokens for downloads: a farmer gives none for what it does not have.

    Args:
        bridge (Bridge): the bridge.
        granted (Sequence[tuple[str, str, str]]): token, shard hash and node id of each.
    """
    if not granted:
        return
    now = bridge.now()
    fetched = [
        {'shard': shard_hash, 'farmer': node_id, 'audit': now + bridge.settings.first_audit}
        # In one order, or two requests would wait for each other.
        for shard_hash, node_id in sorted(pair[1:] for pair in granted)
    ]

    def note(connection: Connection) -> None:
        remember_tokens(connection, granted, now)
        connection.execute(_FETCHED, fetched)

    await bridge.note(note)


async def source_tokens(
    bridge: Bridge,
    shard_hash: str,
    count: int,
    *,
    exclude: Collection[str] = (),
    holders: Sequence[KnownFarmer] | None = None,
    noted: bool = False,
) -> list[tuple[KnownFarmer, str]]:
    """Get one farmer's tokens for copies of a shard; see :func:`download_tokens`.

    Args:
        bridge (Bridge): the bridge.
        shard_hash (str): 40 hex digits.
        count (int): tokens at the most.
        exclude (Collection[str]): farmers that are not wanted.
        holders (Sequence[KnownFarmer] | None): of :func:`ranked_holders`, if they are known.
        noted (bool): note that the farmer has the shard.

    Returns:
        list[tuple[KnownFarmer, str]]: the farmer with each token; none if nobody gives one out.
    """
    if holders is None:
        holders = (await _holders(bridge, [shard_hash])).get(shard_hash, [])
    asked = [contact for contact in holders if contact.node_id not in exclude]
    calls: list[FarmerCall] = []

    async def ask(contact: KnownFarmer) -> list[tuple[KnownFarmer, str]]:
        retrieval = bridge.renter.retrieve_some(node_contact(contact), shard_hash, count)
        tokens = await call_farmer(bridge, contact, retrieval, calls, timed=True)
        return [(contact, token) for token in tokens]

    found = await _first([partial(ask, contact) for contact in asked]) or []
    await note_calls(bridge, calls)
    if noted:
        granted = [(token, shard_hash, contact.node_id) for contact, token in found[:1]]
        await _note_granted(bridge, granted)
    return found


async def token_from(bridge: Bridge, contact: Contact | KnownFarmer, shard_hash: str) -> str:
    """Get one farmer's token for the download of a shard.

    Raises:
        NodeError: If the farmer does not have it, or refuses.
        NodeUnreachableError: If it does not answer.
    """
    calls: list[FarmerCall] = []
    granted: list[tuple[str, str, str]] = []
    try:
        _, token = await _retrieve(bridge, contact, shard_hash, calls)
        granted.append((token, shard_hash, contact.node_id))
    finally:
        await note_calls(bridge, calls)
        await _note_granted(bridge, granted)
    return token


async def has_shard(bridge: Bridge, contact: Contact | KnownFarmer, shard_hash: str) -> bool:
    """Return whether a farmer says that it has a shard; it is noted if it does."""
    try:
        await token_from(bridge, contact, shard_hash)
    except (NodeError, NodeUnreachableError) as error:
        logger.debug('farmer %s does not have %s: %s', contact.node_id, shard_hash, error)
        return False
    return True


async def _retrieve(
    bridge: Bridge, contact: _Farmer, shard_hash: str, calls: list[FarmerCall]
) -> tuple[_Farmer, str]:
    card = node_contact(contact)
    retrieval = bridge.renter.retrieve(card, shard_hash)
    return contact, await call_farmer(bridge, contact, retrieval, calls, timed=True)


async def _first(calls: Sequence[Callable[[], Awaitable[_T]]]) -> _T | None:
    """Return the first result of staggered calls; None if all fail, or the time is over."""
    waiting = list(calls)
    running: set[asyncio.Future[_T]] = set()
    deadline = time.monotonic() + _TOKEN_WAIT
    try:
        while (waiting or running) and time.monotonic() < deadline:
            if waiting:
                running.add(asyncio.ensure_future(waiting.pop(0)()))
            patience = _STAGGER if waiting else deadline - time.monotonic()
            done, running = await asyncio.wait(
                running, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            for future in done:
                error = future.exception()
                if error is None:
                    return future.result()
                if not isinstance(error, (NodeError, NodeUnreachableError)):
                    raise error
                logger.info('no token for a download: %s', error)
        return None
    finally:
        for future in running:
            future.cancel()
        await asyncio.gather(*running, return_exceptions=True)
