"""What is counted of all contracts and files, for ``GET /status`` and for metrics.

A count reads everything: some milliseconds in a small network, seconds in a large one, a portion
after the other, so that other reads get their turn. One of several portions is kept in a row, which
all bridges hand out, also after a restart, until one of them has made the next one: however much is
stored, ``GET /status`` costs the same, and at most a twentieth of the time goes into counts. The
counts are then that old: twenty times as long as they take to make.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, case, delete, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from storj.network.bridge.copies import supply
from storj.network.bridge.database import PATIENCE
from storj.network.bridge.state import Bridge
from storj.network.bridge.tables import Challenge, Contract, Entry, Frame, Measure
from storj.network.bridge.upkeep.leases import take_round
from storj.network.node.tasks import Tasks
from storj.network.node.wire import Refusal

_NAME = 'the count of all files'
# Contracts, or files, of one portion: some milliseconds' work.
_SOME = 2000
# The part of the time in which a count may be made, and seconds until another bridge makes it.
_SHARE, _LONGEST = 0.05, 600.0
# Behind all keys, which are hexadecimal.
_END = 'g'


# What is counted of a farmer, under its name and the node id: copies, mirrors among them, bytes of
# all, and of mirrors.
_HELD = 'shards', 'mirrors', 'bytes', 'mirrored'


def _between(column: InstrumentedAttribute[str]) -> tuple[ColumnElement[bool], ...]:
    return column > bindparam('after'), column <= bindparam('end')


_MIRROR = case((Contract.mirror.is_(True), 1), else_=0)
_OF_FARMERS = (
    select(
        Contract.node_id,
        func.count(),
        func.sum(_MIRROR),
        func.sum(Contract.data_size),
        func.sum(_MIRROR * Contract.data_size),
    )
    .where(Contract.stored.is_(True), *_between(Contract.shard_hash))
    .group_by(Contract.node_id)
)
_OPEN = (
    select(Challenge.node_id, func.count())
    .where(Challenge.passed.is_(None), *_between(Challenge.shard_hash))
    .group_by(Challenge.node_id)
)
_FILES = (
    select(func.count(), func.sum(Frame.size))
    .select_from(Entry)
    .join(Frame, Frame.id == Entry.frame)
    .where(*_between(Entry.id))
)


def _of_shards(connection: Connection, after: str, end: str) -> dict[str, int]:
    """Count the copies of the shards of a range, without the first hash."""
    between = {'after': after, 'end': end}
    found = {f'copies {number}': count for number, count in supply(connection, after, end).items()}
    for node_id, *values in connection.execute(_OF_FARMERS, between):
        # Some databases sum whole numbers up to decimal ones.
        found |= {f'{name} {node_id}': int(it) for name, it in zip(_HELD, values, strict=True)}
    return found | {f'audits {node}': count for node, count in connection.execute(_OPEN, between)}


def _of_files(connection: Connection, after: str, end: str) -> dict[str, int]:
    """Count the files of a range of ids, without the first."""
    count, size = connection.execute(_FILES, {'after': after, 'end': end}).one()
    return {'files': count, 'file bytes': int(size or 0)}


#: What is counted, by ranges of which keys.
_PARTS = ((Contract.shard_hash, _of_shards), (Entry.id, _of_files))
_FORGET = delete(Measure).where(Measure.name == _NAME)


class Totals:
    """What the bridges of a database have counted last, of all contracts and files.

    Args:
        bridge (Bridge): the bridge.
        tasks (Tasks): of the bridge.
    """

    def __init__(self, bridge: Bridge, tasks: Tasks) -> None:
        self._bridge = bridge
        self._tasks = tasks
        self._last: Counter[str] = Counter()
        self._running: asyncio.Task[None] | None = None

    async def get(self) -> Counter[str]:
        """Return the last count; a new one, if it takes one portion or there is none.

        Returns:
            Counter[str]: ``files`` and ``file bytes``; ``copies N``, the number of shards that
            files need and that have so many copies that count; and of each farmer, behind a name
            and its node id, ``shards``, ``mirrors``, ``bytes``, ``mirrored`` (bytes of mirrors) and
            ``audits`` (open ones).

        Raises:
            Refusal: If there is none, and a new one takes long (503).
        """
        last = await kept(self._bridge, _NAME)
        if last is not None and 0 <= self._bridge.now() - last['made'] < last['stands']:
            return Counter(last['counts'])
        if self._running is None or self._running.done():
            self._running = self._tasks.once(_NAME, self._renew())
        if last is not None:
            return Counter(last['counts'])
        try:
            await asyncio.wait_for(asyncio.shield(self._running), PATIENCE)
        except asyncio.TimeoutError:
            raise Refusal(503, 'The count takes long', {'Retry-After': '5'}) from None
        return self._last

    async def _renew(self) -> None:
        """Count, unless another bridge does; keep what took several portions."""
        bridge = self._bridge
        before = await kept(bridge, _NAME)
        if before is not None and not await take_round(bridge, _NAME, _LONGEST):
            self._last = Counter(before['counts'])
            return
        began = time.monotonic()
        self._last, portions = await self._count()
        stands = int((time.monotonic() - began) * 1000 / _SHARE)
        if portions > len(_PARTS):
            value = {'counts': self._last, 'made': bridge.now(), 'stands': stands}
            await keep(bridge, _NAME, value)
        elif before is not None:
            await bridge.database.run(lambda connection: connection.execute(_FORGET))
        if before is not None:
            await take_round(bridge, _NAME, 0.0)

    async def _count(self) -> tuple[Counter[str], int]:
        """Return what there is now, and in how many portions it was counted."""
        found: Counter[str] = Counter()
        portions = 0
        for key, count in _PARTS:
            after = ''
            while after != _END:
                portion = partial(_portion, key=key, count=count, after=after)
                after, some = await self._bridge.database.apart(portion, long=True)
                found.update(some)
                portions += 1
        return found, portions

    async def close(self) -> None:
        """End a count under way."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)


def _portion(
    session: Session,
    key: InstrumentedAttribute[str],
    count: Callable[[Connection, str, str], dict[str, int]],
    after: str,
) -> tuple[str, dict[str, int]]:
    """Return what a count finds behind a key, and the key up to which it went."""
    last = select(key).where(key > after).order_by(key).offset(_SOME - 1).limit(1)
    end = session.scalar(last) or _END
    return end, count(session.connection(), after, end)


async def keep(bridge: Bridge, name: str, value: Any) -> None:
    """Keep what was measured for all bridges, as JSON, in place of what was before."""
    new = bridge.database.insert(Measure).values(name=name, value=value)
    put = new.on_conflict_do_update(index_elements=[Measure.name], set_={'value': value})
    await bridge.database.run(lambda connection: connection.execute(put))


async def kept(bridge: Bridge, name: str) -> Any:
    """Return what a bridge has kept last, None if none has."""
    query = select(Measure.value).where(Measure.name == name)
    return await bridge.database.read(lambda connection: connection.scalar(query))
