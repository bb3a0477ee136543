"""The backlog of repairs: shards with too few copies, as rows that the bridges of a database share.

A shard that a file needs has a row here from the transaction on in which it got too few copies,
until it has enough; so nothing is forgotten when a bridge is killed. A bridge claims some rows at a
time, those with the fewest copies first. While it works it prolongs its claims, so one of a bridge
that died ends by itself::

    due <= now              to be claimed
    due > now, no owner     tried again then, or when a new farmer takes shards
    due > now, owner        claimed until then
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    String,
    bindparam,
    case,
    delete,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from storj.network.bridge.copies import copy_counts
from storj.network.bridge.state import Bridge
from storj.network.bridge.tables import Repair
from storj.network.node.clock import CLOCK_SKEW
from storj.network.node.tasks import others_first

#: Seconds after which the claim of a bridge ends that does not prolong it.
_CLAIM_LIFE = 60.0
#: Milliseconds between two tries at the most, and where each farmer that takes shards has a copy
#: already; some of those may not have counted, and do so again.
_LONGEST, _PARKED = 3600 * 1000, 24 * 3600 * 1000
# Rows of one statement.
_SOME = 200

_ME, _SHARD = bindparam('me', type_=String), bindparam('shard', type_=String)
_NOW, _END = bindparam('now', type_=BigInteger), bindparam('end', type_=BigInteger)
_THIS = (Repair.shard_hash == _SHARD, Repair.owner == _ME)

_Insert = postgresql.Insert | sqlite.Insert
_INSERTS: dict[str, _Insert] = {
    'postgresql': postgresql.insert(Repair),
    'sqlite': sqlite.insert(Repair),
}
#: Whoever works on the shard has to look again: what it has counted may be wrong now.
_ADD = {
    name: insert.on_conflict_do_update(
        index_elements=[Repair.shard_hash],
        set_={
            'copies': insert.excluded.copies,
            'again': Repair.owner.is_not(None),
            'refused': False,
            'due': case(
                (or_(Repair.owner.is_not(None), Repair.due < insert.excluded.due), Repair.due),
                else_=insert.excluded.due,
            ),
        },
    )
    for name, insert in _INSERTS.items()
}
_REMEMBER = {name: insert.on_conflict_do_nothing() for name, insert in _INSERTS.items()}
_CLAIM = {
    name: insert.on_conflict_do_update(
        index_elements=[Repair.shard_hash],
        set_={'owner': insert.excluded.owner, 'due': insert.excluded.due, 'again': False},
        where=or_(
            Repair.owner.is_(None), Repair.owner == insert.excluded.owner, Repair.due <= _NOW
        ),
    ).returning(Repair.shard_hash)
    for name, insert in _INSERTS.items()
}
# Of a table expression that locks rows, PostgreSQL takes the rows once; of a subquery maybe more.
_DUE = (
    select(Repair.shard_hash)
    .where(Repair.copies == bindparam('known'), Repair.due <= _NOW)
    .order_by(Repair.due)
    .limit(bindparam('most'))
    .with_for_update(skip_locked=True)
    .cte()
)
_TAKE = (
    update(Repair)
    .where(Repair.shard_hash.in_(select(_DUE.c.shard_hash)))
    .values(owner=_ME, due=_END, again=False)
    .returning(Repair.shard_hash)
)
_KEEP = (
    update(Repair)
    .where(Repair.shard_hash.in_(bindparam('shards', expanding=True)), Repair.owner == _ME)
    .values(due=_END)
)
_FINISH = delete(Repair).where(*_THIS, Repair.again.is_(False))
_POSTPONE = (
    update(Repair)
    .where(*_THIS)
    .values(
        owner=None,
        again=False,
        copies=bindparam('known'),
        refused=bindparam('nobody', type_=Boolean),
        due=case(
            (Repair.again, _NOW),
            (bindparam('parked', type_=Boolean), _NOW + _PARKED),
            else_=_NOW + Repair.pause,
        ),
        pause=case((Repair.pause > _LONGEST // 2, _LONGEST), else_=2 * Repair.pause),
    )
)
_WAITING = (
    select(Repair.shard_hash)
    .where(Repair.copies == bindparam('known'), Repair.due > _NOW, Repair.owner.is_(None))
    .limit(_SOME)
    .with_for_update(skip_locked=True)
    .cte()
)
_WAKE = (
    update(Repair)
    .where(Repair.shard_hash.in_(select(_WAITING.c.shard_hash)))
    .values(due=_NOW, pause=bindparam('first', type_=BigInteger))
    .returning(Repair.shard_hash)
)
_RECALL = (
    update(Repair)
    .where(
        Repair.copies == bindparam('known'),
        Repair.due > _NOW + _PARKED + CLOCK_SKEW,
    )
    .values(due=_NOW, owner=None)
)
_REFUSED = select(Repair.shard_hash).where(
    Repair.shard_hash.in_(bindparam('shards', expanding=True)),
    Repair.refused.is_(True),
    Repair.owner.is_(None),
)


def add(bridge: Bridge, connection: Connection, shards: Mapping[str, int]) -> None:
    """Note shards that have too few copies from now on.

    Args:
        bridge (Bridge): the bridge.
        connection (Connection): in the transaction that makes it so.
        shards (Mapping[str, int]): hashes, with the copies that count.
    """
    _insert(bridge, connection, _ADD, shards, bridge.now())


def remember(bridge: Bridge, connection: Connection, shards: Mapping[str, int], due: int) -> None:
    """Note shards with too few copies that have no row yet; see :func:`add`.

    Args:
        bridge (Bridge): the bridge.
        connection (Connection): in a transaction.
        shards (Mapping[str, int]): hashes, with the copies that count.
        due (int): when they are tried, in milliseconds since 1970.
    """
    _insert(bridge, connection, _REMEMBER, shards, due)


def _insert(
    bridge: Bridge,
    connection: Connection,
    statements: Mapping[str, _Insert],
    shards: Mapping[str, int],
    due: int,
) -> None:
    rows = [
        _row(bridge, shard_hash, copies, due)
        # In one order, or two bridges would wait for each other.
        for shard_hash, copies in sorted(shards.items())
    ]
    if rows:
        connection.execute(statements[connection.dialect.name], rows)


def _row(bridge: Bridge, shard_hash: str, copies: int, due: int) -> dict[str, object]:
    return {
        'shard_hash': shard_hash,
        # Fewer than are wanted in any case: others are never claimed.
        'copies': min(copies, bridge.settings.mirrors),
        'due': due,
        'pause': bridge.settings.repair_pause,
        'refused': False,
        'again': False,
    }


def copies_lost(bridge: Bridge, connection: Connection, hashes: Sequence[str]) -> None:
    """Note shards of which a copy does not count any more; see :func:`add`."""
    counts = copy_counts(connection, hashes)
    wanted = bridge.settings.copies
    add(bridge, connection, {name: count for name, count in counts.items() if count < wanted})


def refused_among(connection: Connection, hashes: Sequence[str]) -> set[str]:
    """Return those of shards whose missing copies nobody was willing to make when last asked."""
    refused: set[str] = set()
    for start in range(0, len(hashes), _SOME):
        refused.update(connection.scalars(_REFUSED, {'shards': hashes[start : start + _SOME]}))
    return refused


class Backlog:
    """The rows as one bridge sees them, and its claims.

    Args:
        bridge (Bridge): the bridge.

    Attributes:
        claimed (set[str]): hashes of the shards that this bridge has claimed.
    """

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self.claimed: set[str] = set()

    def _times(self) -> dict[str, object]:
        now = self._bridge.now()
        return {'me': self._bridge.name, 'now': now, 'end': now + int(_CLAIM_LIFE * 1000)}

    async def take(self, most: int) -> list[str]:
        """Claim shards that are due, those with the fewest copies first.

        Args:
            most (int): shards.
        """
        taken = await self._bridge.database.run(partial(self._take, most=most))
        self.claimed.update(taken)
        return taken

    def _take(self, connection: Connection, most: int) -> list[str]:
        taken: list[str] = []
        for values in self._each():
            taken += connection.scalars(_TAKE, {**values, 'most': most - len(taken)})
            if len(taken) >= most:
                break
        return taken

    def claim(self, connection: Connection, shard_hash: str) -> bool:
        """Claim one shard, whether it has a row or not; return False if another bridge has it.

        Its copies are to be counted after that: what is lost later, the row tells.

        Args:
            connection (Connection): in a transaction; tell :attr:`claimed` when it is committed.
            shard_hash (str): 40 hex digits.
        """
        if shard_hash in self.claimed:
            return True
        times = self._times()
        # Nobody has counted yet: if this bridge dies, it is urgent.
        row = _row(self._bridge, shard_hash, 1, 0)
        values = {**row, 'due': times['end'], 'owner': times['me'], 'now': times['now']}
        return connection.execute(_CLAIM[connection.dialect.name], values).first() is not None

    async def prolong(self) -> None:
        """Prolong all claims."""
        await self._keep(int(_CLAIM_LIFE * 1000))

    async def release(self) -> None:
        """Leave all claims to other bridges, or to the next run of this one."""
        await self._keep(0)
        self.claimed.clear()

    async def _keep(self, milliseconds: int) -> None:
        if self.claimed:
            end = self._bridge.now() + milliseconds
            values = {'shards': sorted(self.claimed), 'me': self._bridge.name, 'end': end}
            await self._bridge.database.run(lambda connection: connection.execute(_KEEP, values))

    async def finish(
        self, shard_hash: str, *, copies: int, refused: bool = False, parked: bool = False
    ) -> None:
        """End a claim; nothing happens if there is none, or it is another bridge's by now.

        Args:
            shard_hash (str): 40 hex digits.
            copies (int): that count, or all that are wanted if nothing is left to do.
            refused (bool): whether nobody was willing to make a copy.
            parked (bool): whether only a new farmer can help.
        """
        if shard_hash not in self.claimed:
            return
        wanted = self._bridge.settings.copies
        enough = copies >= wanted
        # If it stays in spite of enough copies, one was lost since it was claimed.
        values = {**self._times(), 'shard': shard_hash, 'known': min(copies, wanted - 1)}
        values |= {'nobody': refused, 'parked': parked}

        def end(connection: Connection) -> None:
            if not (enough and connection.execute(_FINISH, values).rowcount):
                connection.execute(_POSTPONE, values)

        await self._bridge.database.run(end)
        self.claimed.discard(shard_hash)

    async def wake(self) -> None:
        """Make due what waits for a farmer, or for another try."""
        first = {'first': self._bridge.settings.repair_pause}

        def some(connection: Connection) -> bool:
            return any(connection.scalars(_WAKE, {**each, **first}).all() for each in self._each())

        while await self._bridge.database.run(some):
            await others_first()

    async def recall(self) -> None:
        """Make due what waits for longer than it can: the clock was ahead when it was written."""
        for values in self._each():
            recalled = partial(Connection.execute, statement=_RECALL, parameters=values)
            await self._bridge.database.run(recalled)

    def _each(self) -> list[dict[str, object]]:
        """Return what a statement is executed with for each number of copies, in their order."""
        # An index is read from its begin only for one number at a time. Shards that nobody is known
        # to have come last, as there may be nothing to copy from.
        levels = [*range(1, self._bridge.settings.copies), 0]
        return [{**self._times(), 'known': copies} for copies in levels]
