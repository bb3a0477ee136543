"""Repairs: every shard that is needed gets as many copies as the settings want, and keeps them.

The copies of a new file are made at once, by the bridge that was told of it. What does not get them
then, and what loses one later, waits in the ``backlog``, which all bridges of the database work
off, the shards with the fewest copies first. The number of shards that are worked on at a time is
bounded, so that repairs do not slow down the users.

::

    report, new file --ask-->  asked    ---> 8 workers --.
                                                         +--> mirrors: RETRIEVE, ALLOC, MIRROR
    audit, lost farmer, ... --> backlog ---> 4 workers --'
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from aiohttp import web
from sqlalchemy import Connection, String, bindparam, select, update
from sqlalchemy.orm import Session

from storj.network.bridge.copies import LOST, copies_of, copy_counts, download_tokens, needed_among
from storj.network.bridge.state import Bridge
from storj.network.bridge.tables import Contact, Contract, Pointer, Repair
from storj.network.bridge.upkeep.backlog import Backlog, copies_lost, remember
from storj.network.bridge.upkeep.mirrors import Made, Mirrors
from storj.network.node.tasks import Tasks

#: Shards that are worked on at one time: those that were asked for, and those of the backlog.
_ASKED, _FOUND = 8, 4
#: Shards that wait after they were asked for; what does not fit is for the backlog.
_QUEUE = 10_000
#: Seconds between two looks at the backlog, and between two times that claims are prolonged.
_PACE, _PROLONG = 1.0, 20.0
#: Seconds that reports of farmers take at the most, as a rule.
_REPORT_PAUSE = 0.25
#: Seconds before a shard is looked at again that another bridge works on, at first and at most.
_ELSEWHERE, _ELSEWHERE_LONGEST = 0.05, 0.5
#: Shards of one page of the long looks; those take so much of the bridge's time at the most.
_PAGE, _LOOKING = 200, 0.2

#: Farmers that take shards.
_ACCEPTING = select(Contact.node_id).where(
    Contact.space_available.is_(True), Contact.lost.is_(False)
)
_LOST = select(Contact.node_id).where(Contact.lost.is_(True))
#: Some shards of a lost farmer, and the note that they are in the backlog.
_OF_LOST = (
    select(Contract.shard_hash)
    .where(Contract.node_id == bindparam('farmer'), Contract.next_audit < LOST)
    .limit(_PAGE)
    .with_for_update(skip_locked=True)
)
_IN_BACKLOG = (
    update(Contract)
    .where(
        Contract.node_id == bindparam('farmer'),
        Contract.shard_hash.in_(bindparam('shards', expanding=True)),
    )
    .values(next_audit=LOST)
)
_SHARDS = (
    select(Pointer.shard_hash)
    .where(Pointer.shard_hash > bindparam('after', type_=String))
    .distinct()
    .order_by(Pointer.shard_hash)
    .limit(_PAGE)
)


@dataclass(eq=False)
class _Job:
    """A shard that waits for copies, or gets them."""

    shard_hash: str
    done: asyncio.Future[bool]
    working: bool = False
    again: bool = False
    pause: float = _ELSEWHERE


class Repairs:
    """Has copies made.

    Args:
        bridge (Bridge): the bridge.

    Attributes:
        report_pause (float): seconds in which a farmer reports what it has taken, before it is
            asked.
    """

    def __init__(self, bridge: Bridge) -> None:
        self.report_pause = _REPORT_PAUSE
        self._bridge = bridge
        self._backlog = Backlog(bridge)
        self._mirrors = Mirrors(bridge, self._backlog)
        self.arrived = self._mirrors.arrived
        self._asked: asyncio.Queue[_Job] = asyncio.Queue()
        self._jobs: dict[str, _Job] = {}
        self._taken: deque[str] = deque()
        self._taking = asyncio.Lock()
        self._working = 0
        # Done when there may be more in the backlog; set when there was nothing and nobody works.
        self._more = asyncio.get_running_loop().create_future()
        self._idle = asyncio.Event()
        self._accepting: frozenset[str] = frozenset()
        self._tasks: Tasks

    @property
    def wanted(self) -> int:
        """Copies that each shard is to have."""
        return self._bridge.settings.copies

    def start(self, tasks: Tasks) -> None:
        """Begin to work among the tasks of the bridge."""
        self._tasks = tasks
        for _ in range(_ASKED):
            tasks.start('the copying of shards', self._work_asked())
        for _ in range(_FOUND):
            tasks.start('the repairs', self._work_backlog())
        tasks.start('the claims of repairs', self._prolong())

    async def release(self) -> None:
        """Leave to other bridges what this one works on, as it stops."""
        await self._backlog.release()

    # ------------------------------------------------------------------ what others call

    def ask(
        self, shard_hash: str, copies: int | None = None, *, changed: bool = True
    ) -> asyncio.Future[bool]:
        """Have a shard copied if it has too few copies.

        Args:
            shard_hash (str): 40 hex digits.
            copies (int | None): that are known to count, if that was found out just now.
            changed (bool): whether something has happened to a copy, so that it does not help if
                somebody works on the shard already.

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
            if changed or copies:
                self._asked.put_nowait(job)
            else:
                # Its farmer is about to report it; if not, it is asked.
                loop = asyncio.get_running_loop()
                loop.call_later(self.report_pause, self._asked.put_nowait, job)
        elif job.working:
            job.again = job.again or changed
        elif changed:
            self._asked.put_nowait(job)
        return job.done

    def notify(self) -> None:
        """Look at the backlog at once: something was added."""
        if not self._more.done():
            self._more.set_result(None)

    async def settle(self, copies: Mapping[str, int], timeout: float) -> set[str]:
        """Wait until shards have their copies, or what can be done is done, or the time is over.

        Args:
            copies (Mapping[str, int]): those that count of each shard, found out just now.
            timeout (float): seconds.

        Returns:
            set[str]: shards that may get their missing copies by another try.
        """
        jobs = {name: self.ask(name, known, changed=False) for name, known in copies.items()}
        waiting = {job for job in jobs.values() if not job.done()}
        if waiting:
            await asyncio.wait(waiting, timeout=max(0.0, timeout))
        return {name for name, job in jobs.items() if not job.done() or job.result()}

    async def undelivered(self, hashes: Sequence[str]) -> set[str]:
        """Return those of shards that no farmer delivers."""
        counted = partial(copy_counts, hashes=hashes)
        counts = await self._bridge.database.read(counted)
        # The farmers with the only copies may just have left.
        doubtful = [name for name, count in counts.items() if count < self.wanted]
        tokens = await download_tokens(self._bridge, doubtful) if doubtful else []
        return {name for name, token in zip(doubtful, tokens, strict=True) if token is None}

    async def bring(self, shard_hash: str, wanted: int) -> list[str]:
        """Make so many copies of a shard now; return the farmers that have one."""
        end = self._bridge.monotonic() + self._bridge.settings.copying_timeout
        while (await self._make(shard_hash, wanted)).elsewhere and self._bridge.monotonic() < end:
            await asyncio.sleep(_ELSEWHERE)
        copies = await self._bridge.database.read(partial(copies_of, shard_hash=shard_hash))
        return [copy.node_id for copy in copies if copy.counts]

    async def join(self) -> None:
        """Wait until nothing is left to do at the moment."""
        while self._jobs:
            await asyncio.wait([job.done for job in self._jobs.values()])
        self._idle.clear()
        self.notify()
        await self._idle.wait()

    # ------------------------------------------------------------------ looks

    async def look(self) -> None:
        """Put the shards of lost farmers into the backlog; try again what a new farmer may take."""
        database = self._bridge.database
        for node_id in await database.read(lambda connection: connection.scalars(_LOST).all()):
            await _by_pages(partial(database.run, partial(self._put_up, node_id=node_id)))
        accepting = frozenset(
            await database.read(lambda connection: connection.scalars(_ACCEPTING).all())
        )
        if accepting - self._accepting:
            await self._backlog.wake()
        self._accepting = accepting
        self.notify()

    def _put_up(self, connection: Connection, node_id: str) -> bool:
        """Put some shards of a farmer into the backlog; return whether there were any."""
        hashes = connection.scalars(_OF_LOST, {'farmer': node_id}).all()
        if hashes:
            copies_lost(self._bridge, connection, hashes)
            connection.execute(_IN_BACKLOG, {'farmer': node_id, 'shards': hashes})
            self.notify()
        return bool(hashes)

    async def survey(self) -> None:
        """Look at all shards for those with too few copies that are not in the backlog."""
        bridge, after = self._bridge, ''

        def look(session: Session) -> tuple[str, dict[str, int]]:
            connection = session.connection()
            hashes = connection.scalars(_SHARDS, {'after': after}).all()
            counts = copy_counts(connection, hashes)
            few = {name: count for name, count in counts.items() if count < self.wanted}
            needed = needed_among(connection, list(few))
            return hashes[-1] if hashes else '', {name: few[name] for name in needed}

        async def page() -> bool:
            nonlocal after
            after, few = await bridge.database.apart(look, long=True)
            if few:
                await bridge.database.run(
                    lambda connection: remember(bridge, connection, few, bridge.now())
                )
            return bool(after)

        await _by_pages(page)
        # Fewer may be wanted than when they were noted.
        await bridge.database.delete_all(Repair, Repair.copies >= self.wanted)
        await self._backlog.recall()
        self.notify()

    # ------------------------------------------------------------------ work

    async def _work_asked(self) -> None:
        while True:
            job = await self._asked.get()
            # A worker of the backlog may have been faster.
            if not job.working and not job.done.done():
                await self._run(job)

    async def _work_backlog(self) -> None:
        while True:
            shard_hash = await self._next()
            try:
                job = self._jobs.get(shard_hash)
                if job is None:
                    done = asyncio.get_running_loop().create_future()
                    job = self._jobs[shard_hash] = _Job(shard_hash, done)
                if job.working:
                    job.again = True
                else:
                    await self._run(job)
            finally:
                self._working -= 1
                if not self._working:
                    self.notify()

    async def _next(self) -> str:
        """Return a shard of the backlog that this bridge has claimed; wait until there is one."""
        # One worker claims for all.
        async with self._taking:
            while not self._taken:
                self._more = asyncio.get_running_loop().create_future()
                try:
                    self._taken.extend(await self._backlog.take(_FOUND))
                except Exception as error:
                    # A database that is away must not end the repairs.
                    self._tasks.note('the backlog of repairs', error)
                else:
                    self._tasks.note('the backlog of repairs', None)
                if not self._taken:
                    await self._wait()
            self._working += 1
            return self._taken.popleft()

    async def _wait(self) -> None:
        """Wait until the backlog is to be looked at again."""
        if not self._working and not self._more.done():
            self._idle.set()
        pace = _PACE if self._bridge.settings.repair_interval else None
        # Not wait_for, which up to Python 3.11 forgets to be cancelled when both come at once.
        await asyncio.wait((self._more,), timeout=pace)

    async def _run(self, job: _Job) -> None:
        job.working, again = True, True
        try:
            while True:
                job.again = False
                made = await self._make(job.shard_hash, self.wanted)
                if made.elsewhere:
                    job.working = False
                    loop = asyncio.get_running_loop()
                    loop.call_later(job.pause, self._asked.put_nowait, job)
                    job.pause = min(2 * job.pause, _ELSEWHERE_LONGEST)
                    return
                again = made.hopeful
                if not job.again:
                    break
        except Exception as error:
            # The failure of one shard must not end the copying of all others.
            self._tasks.note('the copying of a shard', error, f'({job.shard_hash}) ')
        else:
            self._tasks.note('the copying of a shard', None)
        del self._jobs[job.shard_hash]
        if not job.done.done():
            job.done.set_result(again)

    async def _make(self, shard_hash: str, wanted: int) -> Made:
        """Make the copies of a shard that are missing, and end its claim."""
        try:
            made = await self._mirrors.make(shard_hash, wanted)
        except Exception:
            await self._backlog.finish(shard_hash, copies=0)
            raise
        if not made.elsewhere:
            missing = made.missing > 0
            await self._backlog.finish(
                shard_hash,
                copies=made.copies,
                refused=missing and not made.hopeful,
                parked=missing and made.nobody,
            )
        return made

    async def _prolong(self) -> None:
        while True:
            await asyncio.sleep(_PROLONG)
            try:
                await self._backlog.prolong()
            except Exception as error:
                # It is tried again before they end.
                self._tasks.note('the claims of repairs', error)
            else:
                self._tasks.note('the claims of repairs', None)


async def _by_pages(page: Callable[[], Awaitable[bool]]) -> None:
    """Do page after page while there are more; most of the time is left to others."""
    while True:
        began = time.monotonic()
        if not await page():
            return
        await asyncio.sleep((time.monotonic() - began) * (1 / _LOOKING - 1))


#: Key of the repairs in the bridge's application.
REPAIRS: web.AppKey[Repairs] = web.AppKey('repairs', Repairs)
