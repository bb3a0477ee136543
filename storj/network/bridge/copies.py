"""Which copies of a shard count, and which shards are needed.

A copy counts while its farmer is there and is known to have it: the farmer has confirmed it, no
audit has failed since, and, if the farmer has been lost in between, it has passed an audit after
its return. Contracts alone are promises. This module only asks the database.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Subquery,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
)

from storj.network.bridge.database import Contact, Contract, Entry, Frame, Pointer

__all__ = (
    'DOUBTFUL',
    'IN_USE',
    'NEEDED',
    'NEVER',
    'RETURNS',
    'UNCONFIRMED',
    'Copy',
    'confirmed',
    'copies_of',
    'copy_counts',
    'counts',
    'scarce',
    'supply',
)

#: When a copy is audited that has not arrived yet.
NEVER = 2**53
#: ``Contract.verified`` of a copy that its farmer has not confirmed yet, and of one that could not
#: be read: that counts again when it has passed an audit.
# ``verified`` beside ``Contact.returns``, the number of times that the farmer has come back:
#
#     equal     known to be good since the farmer last came back: the copy counts
#     smaller   the farmer was lost in between: counts again after an audit
UNCONFIRMED, DOUBTFUL = -1, -2
#: How often the farmer of a contract has come back, as a value for the contract.
RETURNS = select(Contact.returns).where(Contact.node_id == Contract.node_id).scalar_subquery()

#: A file needs the shard of the contract.
NEEDED = exists().where(Pointer.shard_hash == Contract.shard_hash, Entry.frame == Pointer.frame)
#: A file, or an upload that has not been given up, does.
IN_USE = or_(
    NEEDED,
    exists().where(
        Pointer.shard_hash == Contract.shard_hash,
        Frame.id == Pointer.frame,
        Frame.locked.is_(False),
        Frame.waits > 0,
    ),
)


def counts(contract: type[Contract]) -> ColumnElement[bool]:
    """Return the condition that a contract's copy counts; joined with its farmer's contact."""
    return and_(
        contract.stored.is_(True),
        contract.failed.is_(False),
        contract.verified == Contact.returns,
        Contact.lost.is_(False),
    )


def confirmed(contract: type[Contract]) -> ColumnElement[bool]:
    """Return the condition that a farmer has confirmed a copy that has not failed since."""
    return and_(
        contract.stored.is_(True),
        contract.failed.is_(False),
        contract.verified != UNCONFIRMED,
    )


_COUNTS = counts(Contract)

# Shards of one statement.
_SOME = 500


class Copy(NamedTuple):
    """What is known of one copy of a shard.

    Attributes:
        node_id (str): of its farmer.
        counts (bool): see the module.
        confirmed (bool): its farmer has reported it at some time, and it has not failed.
        lost (bool): its farmer counts as lost.
    """

    node_id: str
    counts: bool
    confirmed: bool
    lost: bool


_COPIES = (
    select(
        Contract.node_id,
        _COUNTS,
        confirmed(Contract),
        Contact.lost,
    )
    .join(Contact, Contact.node_id == Contract.node_id)
    .where(Contract.shard_hash == bindparam('shard'))
    .order_by(Contract.mirror, Contract.store_begin, Contract.node_id)
)
_COUNTED = (
    select(Contract.shard_hash, func.count())
    .join(Contact, Contact.node_id == Contract.node_id)
    .where(
        Contract.shard_hash.in_(bindparam('shards', expanding=True)),
        Contract.node_id.not_in(bindparam('besides', expanding=True)),
        _COUNTS,
    )
    .group_by(Contract.shard_hash)
)


def copies_of(connection: Connection, shard_hash: str) -> list[Copy]:
    """Return all copies of a shard that were ever agreed on, the first one first."""
    return [Copy(*row) for row in connection.execute(_COPIES, {'shard': shard_hash})]


def copy_counts(
    connection: Connection, hashes: Sequence[str], besides: Collection[str] = ()
) -> dict[str, int]:
    """Return how many copies of each shard count.

    Args:
        connection (Connection): in a transaction.
        hashes (Sequence[str]): of the shards.
        besides (Collection[str]): farmers whose copies do not.
    """
    counts = dict.fromkeys(hashes, 0)
    for start in range(0, len(hashes), _SOME):
        some = {'shards': list(hashes[start : start + _SOME]), 'besides': list(besides)}
        counts.update(dict(connection.execute(_COUNTED, some).all()))
    return counts


def _supply() -> Subquery:
    """Return each shard that a file needs, with the number of its copies that count."""
    # A shard that several files share is needed once.
    needed = (
        select(Pointer.shard_hash)
        .join(Entry, Entry.frame == Pointer.frame)
        .distinct()
        .subquery('needed')
    )
    return (
        select(needed.c.shard_hash, func.sum(case((_COUNTS, 1), else_=0)).label('copies'))
        .outerjoin(Contract, Contract.shard_hash == needed.c.shard_hash)
        .outerjoin(Contact, Contact.node_id == Contract.node_id)
        .group_by(needed.c.shard_hash)
        .subquery('supply')
    )


_SUPPLY = _supply()


def supply(connection: Connection) -> dict[int, int]:
    """Return how many shards that files need have so many copies that count; reads everything."""
    query = select(_SUPPLY.c.copies, func.count()).group_by(_SUPPLY.c.copies)
    return {int(copies): count for copies, count in connection.execute(query)}


def scarce(connection: Connection, wanted: int, limit: int) -> list[tuple[str, int]]:
    """Return shards that files need and that have too few copies; reads everything.

    Args:
        connection (Connection): in a transaction.
        wanted (int): copies.
        limit (int): of the list.

    Returns:
        list[tuple[str, int]]: hash and copies that count, the most endangered first; those that
        nobody is known to have come last, as there may be nothing to copy from.
    """
    query = (
        select(_SUPPLY.c.shard_hash, _SUPPLY.c.copies)
        .where(_SUPPLY.c.copies < wanted)
        .order_by(case((_SUPPLY.c.copies == 0, 1), else_=0), _SUPPLY.c.copies)
        .limit(limit)
    )
    return [(shard_hash, int(copies)) for shard_hash, copies in connection.execute(query)]
