"""Mirrors: copies of a shard are made from any farmer that gives it out, on farmers that lack it.

Copies are counted by farmers that are there and have them (``copies``). The one that copies checks
the hash. One bridge works on a shard at a time, as the ``backlog`` tells.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from sqlalchemy import Connection, Row, bindparam, case, select

from storj.network.bridge.contacts import (
    KNOWN_FARMER,
    FarmerCall,
    KnownFarmer,
    call_farmer,
    node_contact,
    note_calls,
)
from storj.network.bridge.copies import (
    IN_USE,
    UNCONFIRMED,
    confirmed,
    counts,
    has_shard,
    ranked_holders,
    source_tokens,
)
from storj.network.bridge.placement import (
    Candidate,
    Shard,
    allocate,
    candidates,
    challenges_of,
    ranked,
    suspect,
)
from storj.network.bridge.state import Bridge
from storj.network.bridge.tables import Contact, Contract
from storj.network.bridge.upkeep.backlog import Backlog
from storj.network.node.rpc import NodeError, NodeUnreachableError

logger = logging.getLogger(__name__)

#: Seconds for a copy to arrive: so many, and one for each so many bytes.
_PATIENCE, _SLOWEST = 30.0, 1024 * 1024
#: Seconds after which a farmer that has begun to copy is asked whether it has the shard, at first
#: and at most: farmers before core 6 do not report copies, and a report may be lost.
_LOOKS = (0.5, 30.0)
#: The same of looks at the database: another bridge may have got the report.
_NEWS = (0.05, 1.0)

# All copies with their farmers. First comes the one whose audits another one gets: one that counts,
# if there is any.
_COPIES = (
    select(
        Contract.data_size,
        Contract.tree,
        Contract.failed,
        Contract.stored,
        counts(Contract).label('counts'),
        confirmed(Contract).label('confirmed'),
        IN_USE.label('needed'),
        *KNOWN_FARMER,
    )
    .join(Contact, Contact.node_id == Contract.node_id)
    .where(Contract.shard_hash == bindparam('shard'))
    .order_by(
        Contract.failed,
        Contract.stored.desc(),
        case((Contract.verified == UNCONFIRMED, 1), else_=0),
        Contract.mirror,
        Contract.store_begin,
    )
)


_STORED = select(Contract.stored).where(
    Contract.shard_hash == bindparam('shard'), Contract.node_id == bindparam('farmer')
)


class Made(NamedTuple):
    """What came of making copies.

    Attributes:
        copies (int): that count now, or as many as are wanted if no file needs the shard.
        missing (int): that are still missing.
        hopeful (bool): another try may help soon: a copy came to nothing, or there was no source.
        elsewhere (bool): another bridge works on the shard.
        nobody (bool): each farmer that takes shards has it.
    """

    copies: int
    missing: int
    hopeful: bool = False
    elsewhere: bool = False
    nobody: bool = False


@dataclass(frozen=True)
class _Plan:
    """What is to be done for a shard.

    Attributes:
        shard (Shard): with the audits that copies get.
        copies (int): that count.
        missing (int): copies.
        counted (frozenset[str]): farmers whose copies count, those that leave included.
        holders (list[KnownFarmer]): farmers that have a contract for it, the best first.
        candidates (deque[Candidate]): farmers that may make a copy, the best first.
    """

    shard: Shard
    copies: int
    missing: int
    counted: frozenset[str]
    holders: list[KnownFarmer]
    candidates: deque[Candidate]


class _Sources:
    """Where a shard is copied from: farmers, with their tokens.

    Args:
        bridge (Bridge): the bridge.
        plan (_Plan): of the shard.
        tokens (list[tuple[KnownFarmer, str]]): those that were given out just now.
    """

    def __init__(self, bridge: Bridge, plan: _Plan, tokens: list[tuple[KnownFarmer, str]]) -> None:
        self._bridge = bridge
        self._shard_hash = plan.shard.shard_hash
        self._ready = tokens
        # The first one that asks gets tokens for all.
        self._wanted = plan.missing - len(self._ready)
        self._holders: list[KnownFarmer] | None = plan.holders
        self._asking = asyncio.Lock()
        self._bad: set[str] = set()

    async def next(self, contact: KnownFarmer) -> tuple[KnownFarmer, str] | None:
        """Return a farmer that no copy has failed from, and its token, for another farmer."""
        async with self._asking:
            exclude = self._bad | {contact.node_id}
            self._ready = [source for source in self._ready if source[0].node_id not in self._bad]
            if not any(source.node_id not in exclude for source, _ in self._ready):
                self._ready += await source_tokens(
                    self._bridge,
                    self._shard_hash,
                    max(1, self._wanted),
                    exclude=exclude,
                    holders=self._holders,
                )
                # Later, there are more of them.
                self._wanted, self._holders = 1, None
            for place, (source, _) in enumerate(self._ready):
                if source.node_id not in exclude:
                    return self._ready.pop(place)
            return None

    async def failed(self, source: KnownFarmer) -> None:
        """Use a farmer no more, and have its copy audited: either end may have failed."""
        self._bad.add(source.node_id)
        doubted = partial(suspect, shard_hash=self._shard_hash, node_id=source.node_id)
        await self._bridge.database.run(partial(doubted, now=self._bridge.now()))


class _ElsewhereError(Exception):
    """Another bridge works on the shard."""


class Mirrors:
    """Makes copies.

    Args:
        bridge (Bridge): the bridge.
        backlog (Backlog): where the shard is claimed; the caller ends the claim.
    """

    def __init__(self, bridge: Bridge, backlog: Backlog) -> None:
        self._bridge = bridge
        self._backlog = backlog
        self._arrivals: dict[tuple[str, str], asyncio.Future[bool]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def arrived(self, shard_hash: str, node_id: str, stored: bool) -> bool:
        """Note that a farmer has a shard now, or has failed to copy it.

        Returns:
            bool: whether that was waited for.
        """
        arrival = self._arrivals.get((shard_hash, node_id))
        if arrival is None or arrival.done():
            return False
        arrival.set_result(stored)
        return True

    async def make(self, shard_hash: str, wanted: int) -> Made:
        """Make the copies of a shard that are missing.

        Args:
            shard_hash (str): 40 hex digits.
            wanted (int): copies.
        """
        # One plan per shard at a time: two would choose the same farmers and copy twice.
        lock = self._locks.setdefault(shard_hash, asyncio.Lock())
        async with lock:
            try:
                plan = await self._plan(shard_hash, wanted)
            except _ElsewhereError:
                return Made(0, wanted, elsewhere=True)
            tokens: list[tuple[KnownFarmer, str]] = []
            if plan is not None and plan.missing and plan.counted:
                tokens = self._granted(plan)
            elif plan is not None and plan.missing:
                # Nobody has confirmed yet that the first farmer has it: ask.
                tokens = await source_tokens(self._bridge, shard_hash, plan.missing, noted=True)
                plan = await self._plan(shard_hash, wanted) if tokens else None
            if plan is None:
                return Made(0, wanted, hopeful=True)
            sources, nobody = _Sources(self._bridge, plan, tokens), not plan.candidates
            # All missing copies at once; they share the list of candidates, so each farmer is asked
            # once.
            made = await asyncio.gather(
                *(self._one_more(plan, sources) for _ in range(plan.missing))
            )
            added = made.count(True)
            return Made(
                plan.copies + added,
                plan.missing - added,
                hopeful=False in made,
                nobody=nobody,
            )

    async def _plan(self, shard_hash: str, wanted: int) -> _Plan | None:
        """Claim a shard; return what is to be done for it, or None if nobody has agreed to keep it.

        Raises:
            _ElsewhereError: If another bridge works on it.
        """
        bridge = self._bridge
        leaving = bridge.leaving

        def look(connection: Connection) -> tuple[_Plan, Sequence[Row[Any]]] | None:
            if not self._backlog.claim(connection, shard_hash):
                raise _ElsewhereError
            copies = connection.execute(_COPIES, {'shard': shard_hash}).all()
            if not copies:
                return None
            first = copies[0]
            challenges = challenges_of(connection, shard_hash, first.node_id)
            shard = Shard(shard_hash, first.data_size, first.tree, challenges)
            counted = [copy for copy in copies if copy.counts and copy.node_id not in leaving]
            # Those that came back are audited first.
            kept = {copy.node_id for copy in copies if copy.confirmed and not copy.lost}
            found = candidates(connection, shard_hash, exclude=kept | leaving)
            count = len(counted) if first.needed else wanted
            there = frozenset(copy.node_id for copy in copies if copy.counts)
            holders = _holders_of(copies, bridge.now())
            return _Plan(shard, count, max(0, wanted - count), there, holders, deque()), found

        looked = await bridge.database.run(look)
        self._backlog.claimed.add(shard_hash)
        if looked is None:
            return None
        plan, found = looked
        plan.candidates.extend(ranked(bridge, found))
        return plan

    def _granted(self, plan: _Plan) -> list[tuple[KnownFarmer, str]]:
        """Return tokens that a farmer gave out when it agreed to keep the shard, if it has it."""
        node_id, tokens = self._bridge.granted.take(plan.shard.shard_hash)
        if node_id not in plan.counted:
            return []
        source = next(holder for holder in plan.holders if holder.node_id == node_id)
        return [(source, token) for token in tokens[: plan.missing]]

    async def _one_more(self, plan: _Plan, sources: _Sources) -> bool | None:
        """Have one farmer after the other copy a shard until one has.

        Returns:
            bool | None: whether one has; None if all have refused, or did not answer.
        """
        failed = None
        while plan.candidates:
            candidate = plan.candidates.popleft()
            contact = candidate.contact
            self._bridge.pending[contact.node_id] += 1
            try:
                if await self._copy(plan.shard, candidate, sources):
                    return True
                failed = False
            except (NodeError, NodeUnreachableError) as error:
                logger.info('farmer %s makes no copy: %s', contact.node_id, error)
            finally:
                self._bridge.pending[contact.node_id] -= 1
        return failed

    async def _copy(self, shard: Shard, candidate: Candidate, sources: _Sources) -> bool:
        """Have a farmer copy a shard from source after source; return whether it has it then.

        Raises:
            NodeError: If the farmer refuses.
            NodeUnreachableError: If it does not answer.
        """
        contact, agreed = candidate.contact, False
        while (source := await sources.next(contact)) is not None:
            copied = None
            if not agreed:
                allocation = await allocate(
                    self._bridge,
                    contact,
                    shard,
                    mirror=True,
                    new=not candidate.holds,
                    source=(node_contact(source[0]), source[1]),
                )
                agreed, copied = True, allocation.copied
            if copied is None:
                copied = await self._have_copied(shard, contact, *source)
            if copied:
                return True
            await sources.failed(source[0])
        return False

    async def _have_copied(
        self, shard: Shard, contact: KnownFarmer, source: KnownFarmer, token: str
    ) -> bool:
        """Have a farmer copy a shard that it has a contract for; return whether it has it then.

        Raises:
            NodeError: If the farmer refuses.
            NodeUnreachableError: If it does not answer.
        """
        key = (shard.shard_hash, contact.node_id)
        arrival = self._arrivals[key] = asyncio.get_running_loop().create_future()
        copying = self._bridge.renter.mirror(
            node_contact(contact), shard.shard_hash, token, node_contact(source)
        )
        calls: list[FarmerCall] = []
        try:
            await call_farmer(self._bridge, contact, copying, calls)
            return await self._arrives(arrival, shard, contact)
        finally:
            del self._arrivals[key]
            await note_calls(self._bridge, calls)

    async def _arrives(
        self, arrival: asyncio.Future[bool], shard: Shard, contact: KnownFarmer
    ) -> bool:
        """Wait for a copy that was begun; return whether it has arrived."""
        # MIRROR is answered when the copy begins (section 4.3): its end is reported, or must be
        # asked for.
        bridge, copy = self._bridge, {'shard': shard.shard_hash, 'farmer': contact.node_id}
        end = bridge.monotonic() + _PATIENCE + shard.size / _SLOWEST
        waited, (ask_after, longest), (pause, longest_pause) = 0.0, _LOOKS, _NEWS
        while not arrival.done():
            left = end - bridge.monotonic()
            if left <= 0:
                return False
            await asyncio.wait((arrival,), timeout=min(pause, left))
            waited, pause = waited + pause, min(2 * pause, longest_pause)
            if arrival.done():
                break
            if await bridge.database.read(lambda connection: connection.scalar(_STORED, copy)):
                return True
            if waited >= ask_after:
                if await has_shard(bridge, contact, shard.shard_hash):
                    return True
                waited, ask_after = 0.0, min(2 * ask_after, longest)
        return arrival.result()


def _holders_of(copies: Sequence[Row[Any]], now: int) -> list[KnownFarmer]:
    """Return the farmers of copies, the most promising first."""
    held = [(KnownFarmer(*copy[-len(KNOWN_FARMER) :]), copy.failed, copy.stored) for copy in copies]
    return ranked_holders(held, now)
