"""Repairs: every shard that is needed gets as many copies as the settings want, and keeps them.

Shards with too few copies are found by reports and audits, by new files, and by a periodic scan of
the whole database; those with the fewest copies come first. Copies are counted by
farmers that are there and have them (``copies``), and are made from any farmer that gives the shard
out: the one that copies checks its hash. The number of shards that are repaired at a time is
bounded, so that repairs do not slow down the users.

::

    report, audit, new file --ask-->  asked       ---> 8 workers --. look at the database
    ---------->  endangered  ---> 4 workers --+--> RETRIEVE, ALLOC, MIRROR, report
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple
from weakref import WeakValueDictionary

from aiohttp import web
from sqlalchemy import Connection, bindparam, case, func, select

from storj.network.bridge.contacts import (
    FarmerCall,
    KnownFarmer,
    call_farmer,
    node_contact,
    note_calls,
)
from storj.network.bridge.copies import (
    IN_USE,
    UNCONFIRMED,
    copies_of,
    copy_counts,
    download_tokens,
    has_shard,
    scarce,
)
from storj.network.bridge.database import Contact, Contract
from storj.network.bridge.placement import (
    Candidate,
    Shard,
    allocate,
    candidates,
    challenges_of,
    ranked,
    suspect,
)
from storj.network.bridge.renter import NodeError, NodeUnreachableError
from storj.network.bridge.state import Bridge
from storj.network.node.tasks import Tasks

__all__ = ('REPAIRS', 'Repairs', 'Settled')

logger = logging.getLogger(__name__)

#: Shards that are repaired at one time: those that were asked for, and those that a scan found.
_ASKED, _FOUND = 8, 4
#: Shards that wait; what does not fit is found by a later look.
_QUEUE = 10_000
#: Seconds for a copy to arrive: so many, and one for each so many bytes.
_PATIENCE, _SLOWEST = 30.0, 1024 * 1024
#: Seconds after which a farmer that has begun to copy is asked whether it has the shard, at first
#: and at most: farmers before core 6 do not report copies, and a report may be lost.
_LOOKS = (1.0, 30.0)
#: Seconds after which a shard that could not be copied is tried again, at most.
_RETRY = 3600.0

# The copy whose audits another one gets: one that counts, if there is any.
_MODEL = (
    select(Contract.node_id, Contract.data_size, Contract.tree)
    .where(Contract.shard_hash == bindparam('shard'))
    .order_by(
        Contract.failed,
        Contract.stored.desc(),
        case((Contract.verified == UNCONFIRMED, 1), else_=0),
        Contract.mirror,
        Contract.store_begin,
    )
    .limit(1)
)
#: How many accept shards, and how many are there.
_FARMERS = select(
    func.coalesce(func.sum(case((Contact.space_available.is_(True), 1), else_=0)), 0),
    func.count(),
).where(Contact.lost.is_(False))


@dataclass(eq=False)
class _Job:
    """A shard that waits for copies, or gets them."""

    shard_hash: str
    done: asyncio.Future[bool]
    working: bool = False
    again: bool = False


@dataclass(frozen=True)
class _Plan:
    """What is to be done for a shard.

    Attributes:
        shard (Shard): with the audits that copies get.
        missing (int): copies.
        known (bool): at least one copy counts, or its farmer has at some time confirmed it.
        candidates (deque[KnownFarmer]): farmers that may make a copy, the best first.
    """

    shard: Shard
    missing: int
    known: bool
    candidates: deque[KnownFarmer]


@dataclass
class _Sources:
    """Where a shard is copied from.

    Attributes:
        known (tuple[KnownFarmer, str] | None): a farmer that has just given out a token.
        bad (set[str]): farmers that a copy has failed from.
    """

    known: tuple[KnownFarmer, str] | None
    bad: set[str] = field(default_factory=set)


class _Retry(NamedTuple):
    """A shard whose copies are still missing.

    Attributes:
        due (float): when it is tried again.
        pause (float): seconds until the try after that.
        refused (bool): all farmers that were asked have refused, or did not answer.
    """

    due: float
    pause: float
    refused: bool = False


class Settled(NamedTuple):
    """What came of waiting for copies.

    Attributes:
        none (set[str]): shards that no farmer delivers.
        again (set[str]): shards that may get their missing copies by another try.
    """

    none: set[str]
    again: set[str]


class Repairs:
    """Makes copies.

    Args:
        bridge (Bridge): the bridge.
    """

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._asked: asyncio.PriorityQueue[tuple[int, int, str]] = asyncio.PriorityQueue()
        self._found: asyncio.PriorityQueue[tuple[int, int, str]] = asyncio.PriorityQueue()
        self._numbers = itertools.count()
        self._jobs: dict[str, _Job] = {}
        self._arrivals: dict[tuple[str, str], asyncio.Future[bool]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._retries: dict[str, _Retry] = {}
        self._farmers = 0
        self._tasks: Tasks

    @property
    def wanted(self) -> int:
        """Copies that each shard is to have."""
        return 1 + self._bridge.settings.mirrors

    def start(self, tasks: Tasks) -> None:
        """Begin to work among the tasks of the bridge.

        When they end, what waits is dropped; the next look brings it back.
        """
        self._tasks = tasks
        for queue, count in ((self._asked, _ASKED), (self._found, _FOUND)):
            for _ in range(count):
                tasks.start('the copying of shards', self._work(queue))

    # ------------------------------------------------------------------ what others call

    def ask(self, shard_hash: str, copies: int | None = None) -> asyncio.Future[bool]:
        """Have a shard copied if it has too few copies.

        Args:
            shard_hash (str): 40 hex digits.
            copies (int | None): that are known to count, if that was found out just now.

        Returns:
            asyncio.Future[bool]: is done when all that can be done for the shard at the moment is:
            true if a copy failed that can be tried again.
        """
        job = self._jobs.get(shard_hash)
        if job is None:
            done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            full = self._asked.qsize() >= _QUEUE
            if full or (copies or 0) >= self.wanted:
                done.set_result(full)
                return done
            job = self._jobs[shard_hash] = _Job(shard_hash, done)
        if job.working:
            # Something has changed since its copies were counted.
            job.again = True
        else:
            self._asked.put_nowait((0, next(self._numbers), shard_hash))
        return job.done

    def refused(self) -> set[str]:
        """Return shards whose missing copies nobody was willing to make when last asked."""
        return {
            name
            for name, retry in self._retries.items()
            if retry.refused and name not in self._jobs
        }

    async def settle(self, hashes: Collection[str], timeout: float) -> Settled:
        """Wait until shards have their copies, or what can be done is done, or the time is over.

        Args:
            hashes (Collection[str]): of the shards.
            timeout (float): seconds.
        """
        each = list(dict.fromkeys(hashes))
        known = await self._counts(each, self._bridge.leaving)
        jobs = {shard_hash: self.ask(shard_hash, copies) for shard_hash, copies in known.items()}
        waiting = {job for job in jobs.values() if not job.done()}
        if waiting:
            await asyncio.wait(waiting, timeout=max(0.0, timeout))
        again = {name for name, job in jobs.items() if not job.done() or job.result()}
        counts = await self._counts(each)
        # The farmers with the only copies may just have left.
        doubtful = [name for name, count in counts.items() if count < self.wanted]
        tokens = await download_tokens(self._bridge, doubtful) if doubtful else []
        none = {name for name, token in zip(doubtful, tokens, strict=True) if token is None}
        return Settled(none, again)

    async def bring(self, shard_hash: str, wanted: int) -> list[str]:
        """Make so many copies of a shard now; return the farmers that have one."""
        await self._mend(shard_hash, wanted)
        copies = await self._bridge.database.read(partial(copies_of, shard_hash=shard_hash))
        return [copy.node_id for copy in copies if copy.counts]

    def arrived(self, shard_hash: str, node_id: str, stored: bool) -> None:
        """Note that a farmer has a shard now, or has failed to copy it."""
        arrival = self._arrivals.get((shard_hash, node_id))
        if arrival is not None and not arrival.done():
            arrival.set_result(stored)

    async def join(self) -> None:
        """Wait until nothing is left to do."""
        await self._asked.join()
        await self._found.join()

    # ------------------------------------------------------------------ looks

    async def look(self) -> None:
        """Look at the whole database for shards with too few copies, and have them copied."""
        farmers, there = await self._bridge.database.read(
            lambda connection: connection.execute(_FARMERS).one()
        )
        # There cannot be more copies than farmers.
        wanted = min(self.wanted, there)
        if farmers != self._farmers:
            self._retries.clear()
            self._farmers = farmers
        found = await self._bridge.database.apart(
            lambda session: scarce(session.connection(), wanted, 2 * _QUEUE)
        )
        now = self._bridge.monotonic()
        for shard_hash, count in found:
            retry = self._retries.get(shard_hash)
            due = retry is None or retry.due <= now
            if due and shard_hash not in self._jobs and self._found.qsize() < _QUEUE:
                done = asyncio.get_running_loop().create_future()
                self._jobs[shard_hash] = _Job(shard_hash, done)
                # The fewest copies first; shards without a known copy last.
                self._found.put_nowait((count or _QUEUE, next(self._numbers), shard_hash))

    # ------------------------------------------------------------------ work

    async def _work(self, queue: asyncio.PriorityQueue[tuple[int, int, str]]) -> None:
        while True:
            shard_hash = (await queue.get())[2]
            try:
                job = self._jobs.get(shard_hash)
                # It may have waited in both queues, or have been asked for twice.
                if job is not None and not job.working:
                    await self._run(job)
            finally:
                queue.task_done()

    async def _run(self, job: _Job) -> None:
        job.working = True
        again = True
        try:
            while True:
                job.again = False
                if await self._count(job.shard_hash) >= self.wanted:
                    missing, again = 0, False
                else:
                    missing, again = await self._mend(job.shard_hash, self.wanted)
                self._note_retry(job.shard_hash, missing, refused=not again)
                if not job.again:
                    break
        except Exception as error:
            # The failure of one shard must not end the copying of all others.
            self._tasks.note('the copying of a shard', error, f'({job.shard_hash}) ')
            self._note_retry(job.shard_hash, 1)
        else:
            self._tasks.note('the copying of a shard', None)
        finally:
            del self._jobs[job.shard_hash]
            if not job.done.done():
                job.done.set_result(again)

    def _note_retry(self, shard_hash: str, missing: int, *, refused: bool = False) -> None:
        """Note when a shard is tried again whose copies are still missing."""
        before = self._retries.pop(shard_hash, None)
        pause = self._bridge.settings.repair_interval if before is None else before.pause
        if missing and len(self._retries) < 2 * _QUEUE:
            due = self._bridge.monotonic() + pause
            self._retries[shard_hash] = _Retry(due, min(2 * pause, _RETRY), refused)

    async def _mend(self, shard_hash: str, wanted: int) -> tuple[int, bool]:
        """Make the copies of a shard that are missing.

        Returns:
            tuple[int, bool]: how many are missing still, and whether to try again may help: no
            farmer refused, but a copy came to nothing.
        """
        # One plan per shard at a time: two would choose the same farmers and copy twice.
        lock = self._locks.setdefault(shard_hash, asyncio.Lock())
        async with lock:
            plan = await self._plan(shard_hash, wanted)
            source = None
            if plan is not None and plan.missing and not plan.known:
                # Nobody has confirmed yet that the first farmer has it: ask.
                (source,) = await download_tokens(self._bridge, [shard_hash])
                plan = None if source is None else await self._plan(shard_hash, wanted)
            if plan is None:
                return wanted, True
            sources = _Sources(source)
            # All missing copies at once; they share the list of candidates, so each farmer is asked
            # once.
            made = await asyncio.gather(
                *(self._one_more(plan, sources) for _ in range(plan.missing))
            )
            return made.count(False) + made.count(None), False in made

    async def _plan(self, shard_hash: str, wanted: int) -> _Plan | None:
        """Return what is to be done for a shard; None if nobody has agreed to keep it."""
        bridge = self._bridge
        leaving = bridge.leaving

        def look(connection: Connection) -> tuple[_Plan, list[Candidate]] | None:
            shard = _known_shard(connection, shard_hash)
            if shard is None:
                return None
            copies = copies_of(connection, shard_hash)
            counted = [copy for copy in copies if copy.counts and copy.node_id not in leaving]
            # Those that came back are audited first.
            kept = {copy.node_id for copy in copies if copy.confirmed and not copy.lost}
            found = candidates(connection, shard_hash, exclude=kept | leaving)
            needed = connection.scalar(select(IN_USE).where(Contract.shard_hash == shard_hash))
            missing = max(0, wanted - len(counted)) if needed else 0
            return _Plan(shard, missing, any(copy.counts for copy in copies), deque()), found

        looked = await bridge.database.run(look)
        if looked is None:
            return None
        plan, found = looked
        plan.candidates.extend(each.contact for each in ranked(bridge, found))
        return plan

    async def _one_more(self, plan: _Plan, sources: _Sources) -> bool | None:
        """Have one farmer after the other copy a shard until one has.

        Returns:
            bool | None: whether one has; None if all have refused, or did not answer.
        """
        failed = None
        while plan.candidates:
            contact = plan.candidates.popleft()
            self._bridge.pending[contact.node_id] += 1
            try:
                if await self._copy(plan.shard, contact, sources):
                    return True
                failed = False
            except (NodeError, NodeUnreachableError) as error:
                logger.info('farmer %s makes no copy: %s', contact.node_id, error)
            finally:
                self._bridge.pending[contact.node_id] -= 1
        return failed

    async def _copy(self, shard: Shard, contact: KnownFarmer, sources: _Sources) -> bool:
        """Have a farmer copy a shard from source after source; return whether it has it then.

        Raises:
            NodeError: If the farmer refuses.
            NodeUnreachableError: If it does not answer.
        """
        bridge, key, agreed = self._bridge, (shard.shard_hash, contact.node_id), False
        while (source := await self._source(shard.shard_hash, contact, sources)) is not None:
            holder, token = source
            if not agreed:
                await allocate(bridge, contact, shard, mirror=True)
                agreed = True
            arrival = self._arrivals[key] = asyncio.get_running_loop().create_future()
            try:
                copying = bridge.renter.mirror(
                    node_contact(contact), shard.shard_hash, token, node_contact(holder)
                )
                await self._call(contact, copying)
                if await self._arrives(arrival, shard, contact):
                    return True
            finally:
                del self._arrivals[key]
            # Either end may have failed. The source is audited; this farmer tries another source.
            sources.bad.add(holder.node_id)
            doubted = partial(suspect, shard_hash=shard.shard_hash, node_id=holder.node_id)
            await bridge.database.run(partial(doubted, now=bridge.now()))
        return False

    async def _source(
        self, shard_hash: str, contact: KnownFarmer, sources: _Sources
    ) -> tuple[KnownFarmer, str] | None:
        """Return a farmer that another one has not failed to copy from, and its token."""
        if sources.known is not None:
            source, sources.known = sources.known, None
            return source
        exclude = {contact.node_id} | sources.bad
        return (await download_tokens(self._bridge, [shard_hash], exclude=exclude))[0]

    async def _call(self, contact: KnownFarmer, call: Awaitable[None]) -> None:
        calls: list[FarmerCall] = []
        try:
            await call_farmer(self._bridge, contact, call, calls)
        finally:
            await note_calls(self._bridge, calls)

    async def _arrives(
        self, arrival: asyncio.Future[bool], shard: Shard, contact: KnownFarmer
    ) -> bool:
        """Wait for a copy that was begun; return whether it has arrived."""
        # MIRROR is answered when the copy begins (section 4.3): its end is reported, or must be
        # asked for.
        end = self._bridge.monotonic() + _PATIENCE + shard.size / _SLOWEST
        pause, longest = _LOOKS
        while not arrival.done():
            left = end - self._bridge.monotonic()
            if left <= 0:
                return False
            await asyncio.wait((arrival,), timeout=min(pause, left))
            if not arrival.done() and await has_shard(self._bridge, contact, shard.shard_hash):
                return True
            pause = min(2 * pause, longest)
        return arrival.result()

    async def _count(self, shard_hash: str) -> int:
        leaving = self._bridge.leaving
        return (await self._counts([shard_hash], leaving))[shard_hash]

    async def _counts(self, hashes: Sequence[str], besides: Collection[str] = ()) -> dict[str, int]:
        return await self._bridge.database.run(partial(copy_counts, hashes=hashes, besides=besides))


def _known_shard(connection: Connection, shard_hash: str) -> Shard | None:
    """Return a shard with its audits, from a farmer that is known to have it, the first if any."""
    model = connection.execute(_MODEL, {'shard': shard_hash}).one_or_none()
    if model is None:
        return None
    challenges = challenges_of(connection, shard_hash, model.node_id)
    return Shard(shard_hash, model.data_size, model.tree, challenges)


#: Key of the repairs in the bridge's application.
REPAIRS: web.AppKey[Repairs] = web.AppKey('repairs', Repairs)
