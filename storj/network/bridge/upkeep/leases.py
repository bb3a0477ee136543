"""Rounds that one bridge of a database does at a time: audits, pings, renewals and their kind.

A round is taken by a row, and kept from the others for as long as it should not begin again.
Nothing wrong happens if two bridges do one nevertheless, because the first took too long: what must
not happen twice is locked where it happens.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Connection,
    String,
    bindparam,
    delete,
    exists,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from storj.network.bridge.state import Bridge
from storj.network.bridge.tables import Lease
from storj.network.node.clock import CLOCK_SKEW

_ROUND, _OWNER = bindparam('round', type_=String), bindparam('me', type_=String)
_NOW, _END = bindparam('now', type_=BigInteger), bindparam('end', type_=BigInteger)
_TAKE = (
    update(Lease)
    .where(
        Lease.name == _ROUND,
        # One that lasts longer than it can was taken before the clock was set back.
        or_(Lease.owner == _OWNER, Lease.until <= _NOW, Lease.until > _END + CLOCK_SKEW),
    )
    .values(owner=_OWNER, until=_END)
)
_FIRST = (
    insert(Lease)
    .from_select(
        ('name', 'owner', 'until'),
        select(_ROUND, _OWNER, _END).where(~exists().where(Lease.name == _ROUND)),
    )
    .returning(Lease.name)
)
_RELEASE = delete(Lease).where(Lease.owner == _OWNER)


async def take_round(bridge: Bridge, name: str, seconds: float) -> bool:
    """Take a round, or keep one that this bridge has; return whether no other bridge has it.

    Args:
        bridge (Bridge): the bridge.
        name (str): of the round.
        seconds (float): until another bridge may take it.
    """
    now = bridge.now()
    values = {'round': name, 'me': bridge.name, 'now': now, 'end': now + int(seconds * 1000)}

    def take(connection: Connection) -> bool:
        if connection.execute(_TAKE, values).rowcount:
            return True
        return connection.execute(_FIRST, values).first() is not None

    try:
        return await bridge.database.run(take)
    except IntegrityError:
        # Another one was first for the first time.
        return False


async def release_rounds(bridge: Bridge) -> None:
    """Leave all rounds to other bridges."""
    await bridge.database.run(lambda connection: connection.execute(_RELEASE, {'me': bridge.name}))
