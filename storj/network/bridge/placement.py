"""Where shards are stored: choosing a farmer for one, and making a contract with it.

The bridge's only way to a farmer is the renter node; what a farmer answers, or fails to, is noted
on its contact, so that healthy farmers are asked first.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    Row,
    String,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    union_all,
    update,
)
from sqlalchemy.exc import IntegrityError

from storj.network.bridge.contacts import (
    KNOWN_FARMER,
    FarmerCall,
    KnownFarmer,
    call_farmer,
    lately_timed_out,
    node_contact,
    note_calls,
)
from storj.network.bridge.copies import (
    NEVER,
    THIS_CONTRACT,
    UNCONFIRMED,
    confirm,
    remember_tokens,
)
from storj.network.bridge.database import Locks, fingerprint
from storj.network.bridge.renter import Allocation
from storj.network.bridge.state import CONTRACT_LIFE, PROMISE_LIFE, Bridge, BridgeSettings
from storj.network.bridge.tables import Challenge, Contact, Contract, Pointer
from storj.network.node.clock import lasts
from storj.network.node.pipelines import UNREAD
from storj.network.node.rpc import NodeContact, NodeError, NodeUnreachableError
from storj.network.node.wire import Refusal

logger = logging.getLogger(__name__)

#: Milliseconds between two audits of a copy because of complaints.
_COMPLAINT_PAUSE = 10 * 60 * 1000

# Farmers looked at when one is chosen: each costs as much as a tenth of a statement.
_CHOICE = 48

# Tokens for copies that a farmer gives with a contract at the most.
_TOKENS = 16

# Statements of every placement: built once, which is most of what a statement costs.
_FREE = select(*KNOWN_FARMER).where(
    Contact.space_available.is_(True),
    Contact.lost.is_(False),
)
# Node ids are spread evenly, so each farmer gets its turn, however many there are: those from a
# random id on are looked at, and after the last one the first ones.
_BEGIN, _MOST = bindparam('begin', type_=String), bindparam('most', type_=Integer)
_BOTH = union_all(
    *(
        select(_FREE.where(condition).order_by(Contact.node_id).limit(_MOST).subquery())
        for condition in (Contact.node_id >= _BEGIN, Contact.node_id < _BEGIN)
    )
).subquery()
_AROUND = (
    select(_BOTH)
    .order_by(case((_BOTH.c.node_id < _BEGIN, 1), else_=0), _BOTH.c.node_id)
    .limit(_MOST)
    .subquery()
)
_SHARES = (
    select(Contract.node_id, func.count().label('shards'))
    .join(Pointer, Pointer.shard_hash == Contract.shard_hash)
    .where(Pointer.frame == bindparam('frame'), Contract.mirror.is_(False))
    .group_by(Contract.node_id)
    .subquery()
)
_HELD = select(Contract.node_id).where(Contract.shard_hash == bindparam('shard')).subquery()
_CANDIDATES = (
    select(
        _AROUND,
        _HELD.c.node_id.label('holder'),
        func.coalesce(_SHARES.c.shards, 0).label('share'),
    )
    .select_from(_AROUND)
    .outerjoin(_HELD, _HELD.c.node_id == _AROUND.c.node_id)
    .outerjoin(_SHARES, _SHARES.c.node_id == _AROUND.c.node_id)
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
_NEW_CONTRACT = insert(Contract).execution_options(**UNREAD)
#: Of a farmer that has copied the shard already.
_NEW_COPY = _NEW_CONTRACT.values(
    verified=select(Contact.returns).where(Contact.node_id == bindparam('farmer')).scalar_subquery()
)
_NEW_CHALLENGES = insert(Challenge).execution_options(**UNREAD)
_SIGNED_AGAIN = (
    update(Contract)
    .where(*THIS_CONTRACT)
    .values(
        store_begin=bindparam('begin'),
        store_end=bindparam('end'),
        document=bindparam('signed'),
        auditable=bindparam('proves'),
        mirror=and_(Contract.mirror, bindparam('copy')),
        account=func.coalesce(Contract.account, bindparam('who', type_=String)),
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


class Candidate(NamedTuple):
    """A farmer that may take a shard.

    Attributes:
        contact (KnownFarmer): the farmer.
        holds (bool): it has a contract for the shard already.
    """

    contact: KnownFarmer
    holds: bool


def candidates(
    connection: Connection, shard_hash: str, *, exclude: Collection[str], frame: str = ''
) -> Sequence[Row[Any]]:
    """Return farmers that may take a shard, a choice of them if there are very many.

    Args:
        connection (Connection): in a transaction.
        shard_hash (str): 40 hex digits.
        exclude (Collection[str]): farmers that are not wanted.
        frame (str): of the shard; their share in it is counted.

    Returns:
        Sequence[Row[Any]]: for :func:`ranked`.
    """
    wanted = {
        # A list in the statement would have it put together anew each time.
        'most': _CHOICE + len(exclude),
        'shard': shard_hash,
        'frame': frame,
        'begin': secrets.token_hex(20),
    }
    found = connection.execute(_CANDIDATES, wanted)
    return [row for row in found if row.node_id not in exclude]


def ranked(bridge: Bridge, found: Iterable[Row[Any]]) -> Iterator[Candidate]:
    """Yield candidates in their order, the best first.

    Healthy ones come before those that lately did not answer; those that do not have the shard
    yet before those that do, as a second copy there is none; then those with few shards of the
    same file, so that the loss of one farmer costs little of it.

    Args:
        bridge (Bridge): the bridge.
        found (Iterable[Row[Any]]): of :func:`candidates`; most of them are never asked, so that
            nothing is made of them.
    """
    now, chance = bridge.now(), secrets.token_bytes(8)

    # Sorted ascending: False before True. Chance comes last, so that equal farmers share the load.
    def rank(row: Row[Any]) -> tuple[bool, bool, int, int]:
        away = lately_timed_out(row, now)
        # Requests in progress count too: a client places several shards of a file at a time.
        share = row.share + bridge.pending[row.node_id]
        return away, row.holder is not None, share, hash((chance, row.node_id))

    for row in sorted(found, key=rank):
        yield Candidate(KnownFarmer(*row[: len(KNOWN_FARMER)]), row.holder is not None)


async def place(
    bridge: Bridge,
    shard: Shard,
    farmers: Iterable[Candidate],
    keep: Callable[[Connection, str], object],
    *,
    frame: str,
    account: str,
) -> tuple[KnownFarmer, Allocation]:
    """Make a contract for a shard with one farmer after the other, until one accepts.

    Args:
        bridge (Bridge): the bridge.
        shard (Shard): what is to be kept.
        farmers (Iterable[Candidate]): the best first.
        keep (Callable[[Connection, str], object]): see :func:`allocate`.
        frame (str): that it changes.
        account (str): e-mail of who asks for it.

    Returns:
        tuple[KnownFarmer, Allocation]: the farmer and what it granted; the contract is recorded.

    Raises:
        Refusal: If no farmer is left, or the time is over (503).
    """
    deadline = time.monotonic() + bridge.settings.placing_timeout
    for candidate in farmers:
        if time.monotonic() >= deadline:
            break
        contact = candidate.contact
        # Until the contract is in the database, only this counter shows it to other requests.
        bridge.pending[contact.node_id] += 1
        try:
            allocation = await allocate(
                bridge,
                contact,
                shard,
                keep,
                frame=frame,
                account=account,
                new=not candidate.holds,
            )
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
    keep: Callable[[Connection, str], object] = lambda connection, node_id: None,
    *,
    frame: str = '',
    account: str | None = None,
    mirror: bool = False,
    new: bool = False,
    source: tuple[NodeContact, str] | None = None,
) -> Allocation:
    """Make a contract for a shard with one farmer, and record it.

    All files with the same shard share one record of each farmer. A second client has to agree with
    it: the audits stay those of the first, so that nobody who knows a hash can spoil them.

    Args:
        bridge (Bridge): the bridge.
        contact (KnownFarmer): the farmer.
        shard (Shard): what is to be kept.
        keep (Callable[[Connection, str], object]): records what is to be recorded with the contract
            of this farmer, in the same transaction; its errors undo both.
        frame (str): that ``keep`` changes.
        account (str | None): e-mail of who asks for it; None for the bridge itself.
        mirror (bool): whether the shard is a copy.
        new (bool): whether the farmer had no contract for the shard a moment ago.
        source (tuple[NodeContact, str] | None): a farmer that it is to copy the shard from at once,
            if it knows how, and a token of that one.

    Raises:
        NodeError: If the farmer refused, or has agreed to keep this shard with another size.
        NodeUnreachableError: If it does not answer.
    """
    key = (shard.shard_hash, contact.node_id)
    # Kept here while it is used; both ends have to know the same contract.
    lock = bridge.placing.setdefault(key, asyncio.Lock())
    new = new and not lock.locked()
    async with lock:
        agreed = None if new else await _agreed(bridge, shard, contact.node_id)
        try:
            return await _allocate(
                bridge,
                contact,
                agreed or shard,
                keep,
                frame=frame,
                account=account,
                mirror=mirror,
                new=new,
                again=bool(agreed),
                source=source,
            )
        except IntegrityError as error:
            # Another bridge has made a contract at the same moment, and the farmer has the audits
            # of one of them: it gets those that are recorded. Or it has left meanwhile.
            agreed = await _agreed(bridge, shard, contact.node_id)
            if agreed is None:
                raise NodeError('The farmer has left') from error
        return await _allocate(
            bridge,
            contact,
            agreed,
            keep,
            frame=frame,
            account=account,
            mirror=mirror,
            new=False,
            again=True,
            source=source,
        )


async def _allocate(
    bridge: Bridge,
    contact: KnownFarmer,
    shard: Shard,
    keep: Callable[[Connection, str], object],
    *,
    frame: str,
    account: str | None,
    mirror: bool,
    new: bool,
    again: bool,
    source: tuple[NodeContact, str] | None,
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
                source=source,
                tokens=0 if mirror else min(bridge.settings.mirrors, _TOKENS),
            ),
            calls,
            timed=source is None,
            contract_sent=begin,
        )
    finally:
        await note_calls(bridge, calls)
    first_audit = bridge.now() + bridge.settings.first_audit
    record = _Record(
        bridge.settings, shard, contact.node_id, allocation, mirror, account, first_audit
    )

    def remember(connection: Connection) -> None:
        if again and record.sign_again(connection):
            if source is None:
                token = (allocation.token, shard.shard_hash, contact.node_id)
                remember_tokens(connection, [token], bridge.now())
            if allocation.copied:
                confirm(connection, shard.shard_hash, contact.node_id, first_audit)
        else:
            if not new:
                drop_contract(connection, shard.shard_hash, contact.node_id)
            record.enter(connection)
        # The caller's records and the contract are one transaction: never one without the other.
        keep(connection, contact.node_id)

    await bridge.database.share(remember, Locks.FRAME, frame)
    if not mirror:
        bridge.granted.keep(shard.shard_hash, contact.node_id, allocation.tokens)
    return allocation


async def _agreed(bridge: Bridge, shard: Shard, node_id: str) -> Shard | None:
    """Return a shard with the audits that a farmer has for it already, if it is to keep them.

    A contract that failed is agreed on again, and so is one whose shard never arrived.

    Raises:
        NodeError: If the farmer has agreed to keep it with another size.
    """
    now = bridge.now()

    def look(connection: Connection) -> Shard | None:
        key = {'shard': shard.shard_hash, 'farmer': node_id}
        old = connection.execute(_CONTRACT, key).one_or_none()
        if old is None or old.failed:
            return None
        # Another client's upload may be on its way; its audits must not be replaced.
        awaited = lasts(old.store_begin, PROMISE_LIFE * 1000, now)
        if not awaited and not (old.stored and old.verified != UNCONFIRMED):
            return None
        if old.data_size != shard.size:
            raise NodeError('The farmer keeps this shard with another size')
        challenges = challenges_of(connection, shard.shard_hash, node_id)
        return Shard(shard.shard_hash, shard.size, old.tree, challenges)

    return await bridge.database.run(look)


@dataclass(frozen=True)
class _Record:
    """A contract as it is kept."""

    settings: BridgeSettings
    shard: Shard
    node_id: str
    allocation: Allocation
    mirror: bool
    account: str | None
    first_audit: int

    def sign_again(self, connection: Connection) -> bool:
        """Note that a contract was signed again; return whether it still exists."""
        contract = self.allocation.contract
        signed = {
            'shard': self.shard.shard_hash,
            'farmer': self.node_id,
            'begin': contract.store_begin,
            'end': contract.store_end,
            'signed': contract.to_json(),
            'proves': self.allocation.auditable,
            'copy': self.mirror,
            'who': self.account,
            'renewal': self.settings.renewal_of(contract.store_end),
        }
        return bool(connection.execute(_SIGNED_AGAIN, signed).rowcount)

    def enter(self, connection: Connection) -> None:
        """Keep a contract with its audits.

        The farmer keeps the newest audit leaves only, so the challenges of an older one for the
        same shard are worth nothing.
        """
        contract, copied = self.allocation.contract, bool(self.allocation.copied)
        values = {
            'shard_hash': self.shard.shard_hash,
            'node_id': self.node_id,
            'data_size': self.shard.size,
            'store_begin': contract.store_begin,
            'store_end': contract.store_end,
            'tree': list(self.shard.tree),
            'document': contract.to_json(),
            'auditable': self.allocation.auditable,
            'stored': copied,
            'mirror': self.mirror,
            'failed': False,
            'download_count': 0,
            'token': fingerprint(self.allocation.token),
            'account': self.account,
            'next_audit': self.first_audit if copied else NEVER,
            'next_renewal': self.settings.renewal_of(contract.store_end),
        }
        if copied:
            connection.execute(_NEW_COPY, {**values, 'farmer': self.node_id})
        else:
            # A contract is a promise only. The report of the upload makes it a copy.
            connection.execute(_NEW_CONTRACT, {**values, 'verified': UNCONFIRMED})
        record_challenges(connection, self.shard.shard_hash, self.node_id, self.shard.challenges)


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


def suspect(connection: Connection, shard_hash: str, node_id: str, now: int) -> None:
    """Schedule an audit of a copy that a client could not fetch intact."""
    connection.execute(_SUSPECTED, {'shard': shard_hash, 'farmer': node_id, 'now': now})


def drop_contract(connection: Connection, shard_hash: str, node_id: str) -> None:
    """Forget a contract that came to nothing, with its audits."""
    for statement in _DROP_CONTRACT:
        connection.execute(statement, {'shard': shard_hash, 'farmer': node_id})
