"""Where shards lie: choosing a farmer for one, and asking those that have it for a token.

The bridge's only way to a farmer is the renter node; what a farmer answers, or fails to, is noted
on its contact, so that healthy farmers are asked first.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from storj.network.bridge import Bridge
from storj.network.contacts import lately_timed_out, mark_failure, mark_seen, node_contact
from storj.network.database import Challenge, Contact, Contract, FarmerToken, Pointer, fingerprint
from storj.network.renter import Allocation, ClockSkewError, NodeError, NodeUnreachableError
from storj.network.wire import Refusal

__all__ = (
    'CONTRACT_LIFE',
    'Shard',
    'allocate',
    'call_farmer',
    'download_token',
    'drop_contract',
    'farmers_by_merit',
    'place',
)

logger = logging.getLogger(__name__)

#: Milliseconds of a storage contract (protocol reference, section 3.12).
CONTRACT_LIFE = 90 * 24 * 3600 * 1000

# Farmers looked at when one is chosen, the most recently seen ones.
_CHOICE = 500
# Seconds after which the next farmer is asked for a token as well, and after which none is.
_STAGGER = 1.0
_TOKEN_WAIT = 20.0

# Chance breaks ties.
_DICE = 2**32

_T = TypeVar('_T')


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


async def call_farmer(
    bridge: Bridge, contact: Contact, call: Awaitable[_T], *, timed: bool = False
) -> _T:
    """Wait for a call to a farmer, and note on its contact how it went.

    Args:
        bridge (Bridge): the bridge.
        contact (Contact): the farmer.
        call (Awaitable[_T]): of the renter node.
        timed (bool): whether the time taken says something about the farmer's speed.

    Raises:
        NodeError: the farmer refused.
        NodeUnreachableError: it does not answer, or not in time.
    """
    started = time.monotonic()
    try:
        result = await asyncio.wait_for(call, bridge.settings.farmer_timeout)
    except (ClockSkewError, NodeUnreachableError) as error:
        mark_failure(bridge, contact.node_id, error)
        raise
    except NodeError:
        mark_seen(bridge, contact.node_id)
        raise
    except asyncio.TimeoutError as error:
        mark_failure(bridge, contact.node_id, error)
        raise NodeUnreachableError(f'{contact.node_id} did not answer in time') from None
    mark_seen(bridge, contact.node_id, time.monotonic() - started if timed else None)
    return result


def farmers_by_merit(
    bridge: Bridge, session: Session, shard_hash: str, *, exclude: Collection[str], frame: str = ''
) -> list[Contact]:
    """Return the farmers that may take a shard, the best first.

    Healthy ones come before those that lately did not answer; those that do not have the shard
    yet before those that do, as a second copy there is none; then those with few shards of the
    same file, so that the loss of one farmer costs little of it.
    """
    now = bridge.now()
    contacts = session.scalars(
        select(Contact)
        .where(Contact.space_available.is_(True), Contact.node_id.not_in(exclude))
        .order_by(Contact.last_seen.desc())
        .limit(_CHOICE)
    ).all()
    holders = set(
        session.scalars(select(Contract.node_id).where(Contract.shard_hash == shard_hash))
    )
    shares = dict(
        session.execute(
            select(Contract.node_id, func.count())
            .join(Pointer, Pointer.shard_hash == Contract.shard_hash)
            .where(Pointer.frame == frame, Contract.mirror.is_(False))
            .group_by(Contract.node_id)
        ).all()
    )

    def rank(contact: Contact) -> tuple[bool, bool, int, int]:
        away = lately_timed_out(contact, now)
        share = shares.get(contact.node_id, 0) + bridge.pending[contact.node_id]
        return away, contact.node_id in holders, share, secrets.randbelow(_DICE)

    return sorted(contacts, key=rank)


async def place(
    bridge: Bridge, shard: Shard, *, frame: str, exclude: Collection[str]
) -> tuple[Contact, Allocation]:
    """Make a contract for a shard with one farmer after the other, until one accepts.

    Returns:
        tuple[Contact, Allocation]: the farmer and what it granted; the contract is recorded.

    Raises:
        Refusal: 503, no farmer is left or the time is over.
    """
    with bridge.database.begin() as session:
        contacts = farmers_by_merit(bridge, session, shard.shard_hash, exclude=exclude, frame=frame)
    deadline = time.monotonic() + bridge.settings.placing_timeout
    for contact in contacts:
        if time.monotonic() >= deadline:
            break
        bridge.pending[contact.node_id] += 1
        try:
            allocation = await allocate(bridge, contact, shard)
        except (NodeError, NodeUnreachableError) as error:
            logger.info('farmer %s takes no shard: %s', contact.node_id, error)
            continue
        finally:
            bridge.pending[contact.node_id] -= 1
        return contact, allocation
    raise Refusal(503, 'Could not locate farmers')


async def allocate(
    bridge: Bridge, contact: Contact, shard: Shard, *, mirror: bool = False
) -> Allocation:
    """Make a contract for a shard with one farmer, and record it.

    Raises:
        NodeError: the farmer refused.
        NodeUnreachableError: it does not answer.
    """
    begin = bridge.now()
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
        timed=True,
    )
    with bridge.database.begin() as session:
        if session.get(Contact, contact.node_id) is None:
            raise NodeError('The farmer has left')
        _record_contract(bridge, session, contact.node_id, shard, allocation, mirror=mirror)
    return allocation


def _record_contract(
    bridge: Bridge,
    session: Session,
    node_id: str,
    shard: Shard,
    allocation: Allocation,
    *,
    mirror: bool,
) -> None:
    """Keep a contract with its audits; a new one for the same shard and farmer replaces the old.

    The farmer keeps the newest audit leaves only, so the older challenges are worth nothing.
    """
    now = bridge.now()
    old = session.get(Contract, (shard.shard_hash, node_id))
    stored = old is not None and old.stored
    if old is not None:
        session.execute(
            delete(Challenge).where(
                Challenge.shard_hash == shard.shard_hash, Challenge.node_id == node_id
            )
        )
        mirror = mirror and old.mirror
    session.merge(
        Contract(
            shard_hash=shard.shard_hash,
            node_id=node_id,
            data_size=shard.size,
            store_begin=allocation.contract.store_begin,
            store_end=allocation.contract.store_end,
            tree=list(shard.tree),
            document=allocation.contract.to_json(),
            auditable=allocation.auditable,
            stored=stored,
            mirror=mirror,
            failed=False,
            download_count=0 if old is None else old.download_count,
            next_audit=now + int(bridge.settings.audit_interval * 1000),
        )
    )
    session.flush()
    session.add_all(
        Challenge(
            shard_hash=shard.shard_hash, node_id=node_id, position=position, challenge=challenge
        )
        for position, challenge in enumerate(shard.challenges)
    )
    _remember_token(bridge, session, allocation.token, shard.shard_hash, node_id)
    contact = session.get_one(Contact, node_id)
    contact.last_contract_sent = now


def drop_contract(session: Session, shard_hash: str, node_id: str) -> None:
    """Forget a contract that came to nothing, with its audits."""
    for table in (Challenge, Contract):
        session.execute(
            delete(table).where(table.shard_hash == shard_hash, table.node_id == node_id)
        )


def _remember_token(
    bridge: Bridge, session: Session, token: str, shard_hash: str, node_id: str
) -> None:
    """Keep which farmer gave out a token, for the report about its use."""
    session.merge(
        FarmerToken(
            token=fingerprint(token), shard_hash=shard_hash, node_id=node_id, created=bridge.now()
        )
    )


def _holders_by_merit(
    bridge: Bridge, session: Session, shard_hash: str, *, exclude: Collection[str] = ()
) -> list[Contact]:
    """Return the farmers that have a contract for a shard, the most promising first."""
    now = bridge.now()
    rows = session.execute(
        select(Contact, Contract)
        .join(Contract, Contract.node_id == Contact.node_id)
        .where(Contract.shard_hash == shard_hash, Contact.node_id.not_in(exclude))
    ).all()

    def rank(contact: Contact, contract: Contract) -> tuple[bool, bool, bool, int]:
        away = lately_timed_out(contact, now)
        return contract.failed, not contract.stored, away, secrets.randbelow(_DICE)

    return [contact for contact, _ in sorted(rows, key=lambda row: rank(row[0], row[1]))]


async def download_token(
    bridge: Bridge, shard_hash: str, *, exclude: Collection[str] = ()
) -> tuple[Contact, str] | None:
    """Get a farmer's token for the download of a shard.

    The best farmer is asked first; as long as there is no token, another one every second.

    Returns:
        tuple[Contact, str] | None: the farmer and its token; None if none gives one out.
    """
    with bridge.database.begin() as session:
        contacts = _holders_by_merit(bridge, session, shard_hash, exclude=exclude)
    found = await _first(
        [functools.partial(_retrieve, bridge, contact, shard_hash) for contact in contacts]
    )
    if found is None:
        return None
    contact, token = found
    with bridge.database.begin() as session:
        _remember_token(bridge, session, token, shard_hash, contact.node_id)
        contract = session.get(Contract, (shard_hash, contact.node_id))
        if contract is not None:
            # A farmer gives no token for what it does not have.
            contract.stored = True
            contract.download_count += 1
    return found


async def _retrieve(bridge: Bridge, contact: Contact, shard_hash: str) -> tuple[Contact, str]:
    token = await call_farmer(
        bridge, contact, bridge.renter.retrieve(node_contact(contact), shard_hash), timed=True
    )
    return contact, token


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
