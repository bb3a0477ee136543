"""Removing files: with a file go its frame and its pointers.

Contracts whose shards nothing needs after that are due at once: the next round of renewals ends
them, and a farmer whose contract has ended asks, and drops the shard.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence

from sqlalchemy import Connection, String, bindparam, delete, func, select, update

from storj.network.bridge.tables import Contract, Entry, Frame, Pointer

# Files of one transaction, and shards of them all unless one file has more: a few milliseconds'
# work, during which SQLite keeps the event loop.
_SOME, _SOME_SHARDS = 25, 50

# Shards of one statement.
_AT_ONCE = 500

_FRAMES = bindparam('removed', expanding=True, type_=String)
_SHARDS = bindparam('shards', expanding=True, type_=String)
_OF_FRAMES = select(Pointer.shard_hash).where(Pointer.frame.in_(_FRAMES)).distinct()
_DROPS = (
    delete(Entry).where(Entry.frame.in_(_FRAMES)),
    delete(Pointer).where(Pointer.frame.in_(_FRAMES)),
    delete(Frame).where(Frame.id.in_(_FRAMES)),
)
_KEPT = select(Pointer.shard_hash).where(Pointer.shard_hash.in_(_SHARDS)).distinct()
_DUE = update(Contract).where(Contract.shard_hash.in_(_SHARDS)).values(next_renewal=0)
#: From a date on: what was removed before is still in the way until the database has tidied up.
_OF_BUCKET = (
    select(
        Entry.frame,
        Entry.created,
        select(func.count()).where(Pointer.frame == Entry.frame).scalar_subquery().label('shards'),
    )
    .where(Entry.bucket == bindparam('bucket'), Entry.created > bindparam('after'))
    .order_by(Entry.created)
    .limit(_SOME)
)


def remove_files(connection: Connection, frames: Sequence[str]) -> None:
    """Remove files, or frames that no file has, with all that belongs to them.

    Args:
        connection (Connection): in a transaction.
        frames (Sequence[str]): of the files, at least one and not many.
    """
    removed = {'removed': list(frames)}
    shards = connection.scalars(_OF_FRAMES, removed).all()
    for statement in _DROPS:
        connection.execute(statement, removed)
    # By lists, not by a condition on other tables: of those, a planner that has no statistics reads
    # every row.
    for start in range(0, len(shards), _AT_ONCE):
        some = shards[start : start + _AT_ONCE]
        kept = set(connection.scalars(_KEPT, {'shards': some}))
        if unneeded := sorted(set(some) - kept):
            connection.execute(_DUE, {'shards': unneeded})


def remove_some(connection: Connection, bucket: str, after: int) -> int | None:
    """Remove some files of a bucket, the oldest first.

    Args:
        connection (Connection): in a transaction.
        bucket (str): 24 hex digits.
        after (int): milliseconds since 1970; files that are older stay.

    Returns:
        int | None: the date of the last one that was removed; None if there are no more.
    """
    found = connection.execute(_OF_BUCKET, {'bucket': bucket, 'after': after}).all()
    if not found:
        return None
    shards = list(itertools.accumulate(row.shards for row in found))
    some = found[: max(1, bisect.bisect_right(shards, _SOME_SHARDS))]
    remove_files(connection, [row.frame for row in some])
    last: int = some[-1].created
    return last
