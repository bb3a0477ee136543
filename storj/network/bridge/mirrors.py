"""Copies of shards on more farmers, so that the loss of one costs nothing.

A report that a shard was stored, or that one could not be fetched, makes the bridge have one more
copy made, up to the number of its settings; the copying farmer's own report goes on from there
(protocol reference, section 3.7).
"""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from storj.network.bridge.contacts import (
    KNOWN_FARMER,
    FarmerCall,
    KnownFarmer,
    node_contact,
    note_calls,
)
from storj.network.bridge.database import Challenge, Contact, Contract
from storj.network.bridge.placement import (
    Shard,
    allocate,
    call_farmer,
    download_tokens,
    drop_contract,
    farmers_by_merit,
)
from storj.network.bridge.renter import NodeError, NodeUnreachableError
from storj.network.bridge.state import Bridge

__all__ = ('COPY_LIFE', 'Mirroring', 'establish')

logger = logging.getLogger(__name__)

#: Milliseconds after which a copy that nobody has reported counts as failed.
COPY_LIFE = 3600 * 1000

_WORKERS = 2
# Shards that wait for a copy; what does not fit will be reported on again, or has copies enough.
_QUEUE = 10_000
# Asked for with every report, so built once.
_MIRROR_COUNT = select(func.count()).where(
    Contract.shard_hash == bindparam('shard'),
    Contract.mirror.is_(True),
    Contract.failed.is_(False),
)


async def establish(bridge: Bridge, shard_hash: str, count: int) -> list[KnownFarmer]:
    """Have a shard copied until so many farmers beside the first have it, or are getting it.

    Args:
        bridge (Bridge): the bridge.
        shard_hash (str): 40 hex digits.
        count (int): of mirrors.

    Returns:
        list[KnownFarmer]: the farmers that have accepted, those of earlier calls included.
    """
    with bridge.database.begin() as session:
        shard = _known_shard(session, shard_hash)
        accepted = _mirrors(session, shard_hash)
        holders = set(
            session.scalars(select(Contract.node_id).where(Contract.shard_hash == shard_hash))
        )
        candidates = farmers_by_merit(bridge, session.connection(), shard_hash, exclude=holders)
    if shard is None:
        return accepted[:count]
    for contact in candidates:
        if len(accepted) >= count:
            break
        if await _copy(bridge, shard, contact):
            accepted.append(contact)
    return accepted[:count]


def _mirrors(session: Session, shard_hash: str) -> list[KnownFarmer]:
    """Return the farmers that have a copy of a shard, or are making one."""
    return [
        KnownFarmer(*row)
        for row in session.execute(
            select(*KNOWN_FARMER)
            .join(Contract, Contract.node_id == Contact.node_id)
            .where(
                Contract.shard_hash == shard_hash,
                Contract.mirror.is_(True),
                Contract.failed.is_(False),
            )
            .order_by(Contract.store_begin, Contact.node_id)
        )
    ]


def _known_shard(session: Session, shard_hash: str) -> Shard | None:
    """Return a shard with its audits, from a farmer that is known to have it, the first if any."""
    contract = session.scalar(
        select(Contract)
        .where(Contract.shard_hash == shard_hash)
        .order_by(Contract.stored.desc(), Contract.mirror, Contract.store_begin)
        .limit(1)
    )
    if contract is None:
        return None
    challenges = session.scalars(
        select(Challenge.challenge)
        .where(Challenge.shard_hash == shard_hash, Challenge.node_id == contract.node_id)
        .order_by(Challenge.position)
    )
    return Shard(shard_hash, contract.data_size, contract.tree, list(challenges))


async def _copy(bridge: Bridge, shard: Shard, contact: KnownFarmer) -> bool:
    """Have a farmer begin to copy a shard, and tell whether it has."""
    (source,) = await download_tokens(bridge, [shard.shard_hash], exclude=(contact.node_id,))
    if source is None:
        return False
    holder, token = source
    try:
        await allocate(bridge, contact, shard, mirror=True)
    except (NodeError, NodeUnreachableError) as error:
        logger.info('farmer %s takes no copy: %s', contact.node_id, error)
        return False
    calls: list[FarmerCall] = []
    copying = bridge.renter.mirror(
        node_contact(contact), shard.shard_hash, token, node_contact(holder)
    )
    try:
        await call_farmer(bridge, contact, copying, calls)
        begun = True
    except (NodeError, NodeUnreachableError) as error:
        logger.info('farmer %s makes no copy: %s', contact.node_id, error)
        begun = False
    with bridge.database.begin_plain() as connection:
        note_calls(bridge, connection, calls)
        if not begun:
            drop_contract(connection, shard.shard_hash, contact.node_id)
    return begun


class Mirroring:
    """Makes the copies that reports ask for, a few at a time.

    Args:
        bridge (Bridge): the bridge.
    """

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._queue: asyncio.Queue[str] = asyncio.Queue(_QUEUE)
        self._waiting: set[str] = set()
        self._working: set[str] = set()
        self._again: set[str] = set()
        self._workers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to work, on the running event loop."""
        self._workers = [asyncio.ensure_future(self._work()) for _ in range(_WORKERS)]

    async def stop(self) -> None:
        """End; what waits is dropped, the next report brings it back."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    def ask(self, shard_hash: str) -> None:
        """Ask for one more copy of a shard, unless it has enough or waits already."""
        if shard_hash in self._working:
            # The copy that is being made may be reported before its maker is done here.
            self._again.add(shard_hash)
        elif (
            self._bridge.settings.mirrors
            and shard_hash not in self._waiting
            and not self._queue.full()
            and self._count(shard_hash) < self._bridge.settings.mirrors
        ):
            self._waiting.add(shard_hash)
            self._queue.put_nowait(shard_hash)

    async def join(self) -> None:
        """Wait until nothing is left to do."""
        await self._queue.join()

    async def _work(self) -> None:
        while True:
            shard_hash = await self._queue.get()
            self._waiting.discard(shard_hash)
            self._working.add(shard_hash)
            try:
                await self._one_more(shard_hash)
            except Exception:
                # One shard's trouble must not end the copying of all others.
                logger.exception('no copy of shard %s', shard_hash)
            finally:
                self._working.discard(shard_hash)
                if shard_hash in self._again:
                    self._again.discard(shard_hash)
                    self.ask(shard_hash)
                self._queue.task_done()

    async def _one_more(self, shard_hash: str) -> None:
        have = self._count(shard_hash)
        if have < self._bridge.settings.mirrors:
            await establish(self._bridge, shard_hash, have + 1)

    def _count(self, shard_hash: str) -> int:
        with self._bridge.database.begin_plain() as connection:
            return connection.scalar(_MIRROR_COUNT, {'shard': shard_hash}) or 0
