"""Where shards are stored: choosing a farmer for one, and making a contract with it.

The bridge's only way to a farmer is the renter node; what a farmer answers, or fails to, is noted
on its contact, so that healthy farmers are asked first.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Connection,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
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
from storj.network.bridge.copies import NEVER, THIS_CONTRACT, UNCONFIRMED, remember_tokens
from storj.network.bridge.database import (
    Challenge,
    Contact,
    Contract,
    Pointer,
)
from storj.network.bridge.renter import Allocation, NodeError, NodeUnreachableError
from storj.network.bridge.state import CONTRACT_LIFE, PROMISE_LIFE, Bridge
from storj.network.node.clock import lasts
from storj.network.node.wire import Refusal

__all__ = (
    'Shard',
    'allocate',
    'challenges_of',
    'drop_contract',
    'place',
    'ranked_farmers',
    'record_challenges',
    'suspect',
)

logger = logging.getLogger(__name__)

#: Milliseconds between two audits of a copy because of complaints.
_COMPLAINT_PAUSE = 10 * 60 * 1000

# Farmers looked at when one is chosen, the most recently seen ones.
_CHOICE = 500
# Chance breaks ties.
_DICE = 2**32

# Statements of every placement: built once, which is most of what a statement costs.
_CANDIDATES = (
    select(*KNOWN_FARMER)
    .where(
        Contact.space_available.is_(True),
        Contact.lost.is_(False),
        Contact.node_id.not_in(bindparam('exclude', expanding=True)),
    )
    .order_by(Contact.last_seen.desc())
    .limit(_CHOICE)
)
_HOLDERS = select(Contract.node_id).where(Contract.shard_hash == bindparam('shard'))
_SHARES = (
    select(Contract.node_id, func.count())
    .join(Pointer, Pointer.shard_hash == Contract.shard_hash)
    .where(Pointer.frame == bindparam('frame'), Contract.mirror.is_(False))
    .group_by(Contract.node_id)
)
_CONTRACT = select(
    Contract.data_size,
    Contract.tree,
    Contract.store_begin,
    Contract.stored,
    Contract.failed,
    Contract.verified,
).where(*THIS_CONTRACT)
_CHALLENGES = (
    select(Challenge.challenge)
    .where(Challenge.shard_hash == bindparam('shard'), Challenge.node_id == bindparam('farmer'))
    .order_by(Challenge.position)
)
_NEW_CONTRACT = insert(Contract)
_NEW_CHALLENGES = insert(Challenge)
_SIGNED_AGAIN = (
    update(Contract)
    .where(*THIS_CONTRACT)
    .values(
        store_begin=bindparam('begin'),
        store_end=bindparam('end'),
        document=bindparam('signed'),
        auditable=bindparam('proves'),
        mirror=and_(Contract.mirror, bindparam('copy')),
        next_renewal=bindparam('renewal'),
    )
)
_NOW = bindparam('now', type_=BigInteger)
_SUSPECTED = (
    update(Contract)
    .where(
        *THIS_CONTRACT,
        Contract.next_audit > _NOW,
        Contract.next_audit < NEVER,
        ~select(Challenge.position)
        .where(
            Challenge.shard_hash == Contract.shard_hash,
            Challenge.node_id == Contract.node_id,
            lasts(Challenge.sent, _COMPLAINT_PAUSE, _NOW),
        )
        .exists(),
    )
    .values(next_audit=_NOW)
)
_DROP_CONTRACT = tuple(
    delete(table).where(
        table.shard_hash == bindparam('shard'), table.node_id == bindparam('farmer')
    )
    for table in (Challenge, Contract)
)
_SENT = (
    update(Contact)
    .where(Contact.node_id == bindparam('farmer'))
    .values(last_contract_sent=bindparam('sent'))
)


@dataclass(frozen=True)
class Shard:
    """What a farmer is asked to keep.

    Attributes:
        shard_hash (str): 40 hex digits.
        size (int): bytes.
        tree (Sequence[str]): audit leaves, padded to a power of two.
        challenges (Sequence[str]): 64 hex digits each.
    """

    shard_hash: str
    size: int
    tree: Sequence[str]
    challenges: Sequence[str]


def ranked_farmers(
    bridge: Bridge,
    connection: Connection,
    shard_hash: str,
    *,
    exclude: Collection[str],
    frame: str = '',
) -> list[KnownFarmer]:
    """Return the farmers that may take a shard, the best first.

    Healthy ones come before those that lately did not answer; those that do not have the shard
    yet before those that do, as a second copy there is none; then those with few shards of the
    same file, so that the loss of one farmer costs little of it.
    """
    now = bridge.now()
    rows = connection.execute(_CANDIDATES, {'exclude': list(exclude)})
    contacts = [KnownFarmer(*row) for row in rows]
    holders = set(connection.scalars(_HOLDERS, {'shard': shard_hash}))
    shares = dict(connection.execute(_SHARES, {'frame': frame}).all())

    # Sorted ascending: False before True. Chance comes last, so that equal farmers share the load.
    def rank(contact: KnownFarmer) -> tuple[bool, bool, int, int]:
        away = lately_timed_out(contact, now)
        # Requests in progress count too: a client places several shards of a file at a time.
        share = shares.get(contact.node_id, 0) + bridge.pending[contact.node_id]
        return away, contact.node_id in holders, share, secrets.randbelow(_DICE)

    return sorted(contacts, key=rank)


async def place(
    bridge: Bridge,
    shard: Shard,
    contacts: Sequence[KnownFarmer],
    keep: Callable[[Session], object],
) -> tuple[KnownFarmer, Allocation]:
    """Make a contract for a shard with one farmer after the other, until one accepts.

    Args:
        bridge (Bridge): the bridge.
        shard (Shard): what is to be kept.
        contacts (Sequence[KnownFarmer]): the farmers, the best first.
        keep (Callable[[Session], object]): see :func:`allocate`.

    Returns:
        tuple[KnownFarmer, Allocation]: the farmer and what it granted; the contract is recorded.

    Raises:
        Refusal: If no farmer is left, or the time is over (503).
    """
    deadline = time.monotonic() + bridge.settings.placing_timeout
    for contact in contacts:
        if time.monotonic() >= deadline:
            break
        # Until the contract is in the database, only this counter shows it to other requests.
        bridge.pending[contact.node_id] += 1
        try:
            allocation = await allocate(bridge, contact, shard, keep)
        except (NodeError, NodeUnreachableError) as error:
            logger.info('farmer %s takes no shard: %s', contact.node_id, error)
            continue
        finally:
            bridge.pending[contact.node_id] -= 1
        return contact, allocation
    raise Refusal(503, 'Could not locate farmers')


async def allocate(
    bridge: Bridge,
    contact: KnownFarmer,
    shard: Shard,
    keep: Callable[[Session], object] = lambda session: None,
    *,
    mirror: bool = False,
) -> Allocation:
    """Make a contract for a shard with one farmer, and record it.

    All files with the same shard share one record of each farmer. A second client has to agree with
    it: the audits stay those of the first, so that nobody who knows a hash can spoil them.

    Args:
        bridge (Bridge): the bridge.
        contact (KnownFarmer): the farmer.
        shard (Shard): what is to be kept.
        keep (Callable[[Session], object]): records what is to be recorded with the contract, in
            the same transaction; its errors undo both.
        mirror (bool): whether the shard is a copy.

    Raises:
        NodeError: If the farmer refused, or has agreed to keep this shard with another size.
        NodeUnreachableError: If it does not answer.
    """
    key = (shard.shard_hash, contact.node_id)
    # Kept here while it is used; both ends have to know the same contract.
    lock = bridge.placing.setdefault(key, asyncio.Lock())
    async with lock:
        agreed = _agreed(bridge, shard, contact.node_id)
        return await _allocate(bridge, contact, agreed or shard, keep, mirror, agreed is not None)


async def _allocate(
    bridge: Bridge,
    contact: KnownFarmer,
    shard: Shard,
    keep: Callable[[Session], object],
    mirror: bool,
    again: bool,
) -> Allocation:
    # ALLOC goes out before the transaction: nobody may wait for a farmer with the database locked.
    begin = bridge.now()
    calls: list[FarmerCall] = []
    try:
        allocation = await call_farmer(
            bridge,
            contact,
            bridge.renter.alloc(
                node_contact(contact),
                data_hash=shard.shard_hash,
                data_size=shard.size,
                audit_tree=shard.tree,
                audit_count=len(shard.challenges),
                store_begin=begin,
                store_end=begin + CONTRACT_LIFE,
            ),
            calls,
            timed=True,
        )
    except (NodeError, NodeUnreachableError):
        with bridge.database.begin_plain() as connection:
            note_calls(bridge, connection, calls)
        raise
    with bridge.database.begin() as session:
        connection = session.connection()
        note_calls(bridge, connection, calls)
        # The farmer may have left while it answered; its contract would belong to nobody.
        if not connection.execute(_SENT, {'farmer': contact.node_id, 'sent': begin}).rowcount:
            raise NodeError('The farmer has left')
        if not (
            again and _sign_again(bridge, connection, shard, contact.node_id, allocation, mirror)
        ):
            _record_contract(bridge, connection, contact.node_id, shard, allocation, mirror=mirror)
        remember_tokens(bridge, connection, [(allocation.token, shard.shard_hash, contact.node_id)])
        # The caller's records and the contract are one transaction: never one without the other.
        keep(session)
    return allocation


def _agreed(bridge: Bridge, shard: Shard, node_id: str) -> Shard | None:
    """Return a shard with the audits that a farmer has for it already, if it is to keep them.

    A contract that failed is agreed on again, and so is one whose shard never arrived.

    Raises:
        NodeError: If the farmer has agreed to keep it with another size.
    """
    key = {'shard': shard.shard_hash, 'farmer': node_id}
    with bridge.database.begin_plain() as connection:
        old = connection.execute(_CONTRACT, key).one_or_none()
        if old is None or old.failed:
            return None
        # Another client's upload may be on its way; its audits must not be replaced.
        awaited = lasts(old.store_begin, PROMISE_LIFE * 1000, bridge.now())
        if not awaited and not (old.stored and old.verified != UNCONFIRMED):
            return None
        if old.data_size != shard.size:
            raise NodeError('The farmer keeps this shard with another size')
        challenges = challenges_of(connection, shard.shard_hash, node_id)
    return Shard(shard.shard_hash, shard.size, old.tree, challenges)


def _sign_again(
    bridge: Bridge,
    connection: Connection,
    shard: Shard,
    node_id: str,
    allocation: Allocation,
    mirror: bool,
) -> bool:
    """Note that a contract was signed again; return whether it still exists."""
    contract = allocation.contract
    signed = {
        'shard': shard.shard_hash,
        'farmer': node_id,
        'begin': contract.store_begin,
        'end': contract.store_end,
        'signed': contract.to_json(),
        'proves': allocation.auditable,
        'copy': mirror,
        'renewal': bridge.settings.renewal_of(contract.store_end),
    }
    return bool(connection.execute(_SIGNED_AGAIN, signed).rowcount)


def _record_contract(
    bridge: Bridge,
    connection: Connection,
    node_id: str,
    shard: Shard,
    allocation: Allocation,
    *,
    mirror: bool,
) -> None:
    """Keep a contract with its audits; one for the same shard and farmer is replaced.

    The farmer keeps the newest audit leaves only, so the older challenges are worth nothing.
    """
    drop_contract(connection, shard.shard_hash, node_id)
    connection.execute(
        _NEW_CONTRACT,
        {
            'shard_hash': shard.shard_hash,
            'node_id': node_id,
            'data_size': shard.size,
            'store_begin': allocation.contract.store_begin,
            'store_end': allocation.contract.store_end,
            'tree': list(shard.tree),
            'document': allocation.contract.to_json(),
            'auditable': allocation.auditable,
            'stored': False,
            'mirror': mirror,
            'failed': False,
            'download_count': 0,
            # A contract is a promise only. The report of the upload makes it a copy.
            'verified': UNCONFIRMED,
            'next_audit': NEVER,
            'next_renewal': bridge.settings.renewal_of(allocation.contract.store_end),
        },
    )
    record_challenges(connection, shard.shard_hash, node_id, shard.challenges)


def challenges_of(connection: Connection, shard_hash: str, node_id: str) -> Sequence[str]:
    """Return the challenges of a contract, in their order."""
    return connection.scalars(_CHALLENGES, {'shard': shard_hash, 'farmer': node_id}).all()


def record_challenges(
    connection: Connection, shard_hash: str, node_id: str, challenges: Sequence[str]
) -> None:
    """Keep the challenges of a contract that has none."""
    connection.execute(
        _NEW_CHALLENGES,
        [
            {
                'shard_hash': shard_hash,
                'node_id': node_id,
                'position': position,
                'challenge': challenge,
            }
            for position, challenge in enumerate(challenges)
        ],
    )


def suspect(bridge: Bridge, connection: Connection, shard_hash: str, node_id: str) -> None:
    """Schedule an audit of a copy that a client could not fetch intact."""
    now = bridge.now()
    connection.execute(_SUSPECTED, {'shard': shard_hash, 'farmer': node_id, 'now': now})


def drop_contract(connection: Connection, shard_hash: str, node_id: str) -> None:
    """Forget a contract that came to nothing, with its audits."""
    for statement in _DROP_CONTRACT:
        connection.execute(statement, {'shard': shard_hash, 'farmer': node_id})
