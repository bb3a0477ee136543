"""Removing files: with a file go its frame and its pointers.

Contracts whose shards nothing needs after that are due at once: the next round of renewals ends
them, and a farmer whose contract has ended asks, and drops the shard.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, String, bindparam, delete, exists, or_, select, update
from sqlalchemy.orm import aliased

from storj.network.bridge.database import Contract, Entry, Frame, Pointer

__all__ = ('remove_files', 'remove_some')

# Files of one transaction: a few milliseconds' work, if they are small.
_SOME = 50

_FRAMES = bindparam('removed', expanding=True, type_=String)
_OTHER = aliased(Pointer)
_ELSEWHERE = (_OTHER.shard_hash == Contract.shard_hash, _OTHER.frame.not_in(_FRAMES))
#: Another file, or an upload that has not been given up, needs the shard.
_NEEDED = or_(
    exists().where(*_ELSEWHERE, Entry.frame == _OTHER.frame),
    exists().where(*_ELSEWHERE, Frame.id == _OTHER.frame, Frame.locked.is_(False), Frame.waits > 0),
)
_DUE = (
    update(Contract)
    .where(
        Contract.shard_hash.in_(select(Pointer.shard_hash).where(Pointer.frame.in_(_FRAMES))),
        ~_NEEDED,
    )
    .values(next_renewal=0)
)
_DROPS = (
    delete(Entry).where(Entry.frame.in_(_FRAMES)),
    delete(Pointer).where(Pointer.frame.in_(_FRAMES)),
    delete(Frame).where(Frame.id.in_(_FRAMES)),
)
_OF_BUCKET = select(Entry.frame).where(Entry.bucket == bindparam('bucket')).limit(_SOME)


def remove_files(connection: Connection, frames: Sequence[str]) -> None:
    """Remove files, or frames that no file has, with all that belongs to them.

    Args:
        connection (Connection): in a transaction.
        frames (Sequence[str]): of the files, at least one and not many.
    """
    removed = {'removed': list(frames)}
    connection.execute(_DUE, removed)
    for statement in _DROPS:
        connection.execute(statement, removed)


def remove_some(connection: Connection, bucket: str) -> bool:
    """Remove some files of a bucket; return whether there may be more.

    Args:
        connection (Connection): in a transaction.
        bucket (str): 24 hex digits.
    """
    frames = connection.scalars(_OF_BUCKET, {'bucket': bucket}).all()
    if frames:
        remove_files(connection, frames)
    return len(frames) == _SOME
