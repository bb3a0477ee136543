"""Which shards are needed: conditions on contracts that the bridge's rounds share."""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists, or_

from storj.network.bridge.database import Contract, Entry, Frame, Pointer

__all__ = ('NEEDED', 'in_use')

#: A file needs the shard of the contract.
NEEDED = exists().where(Pointer.shard_hash == Contract.shard_hash, Entry.frame == Pointer.frame)


def in_use(begun: int) -> ColumnElement[bool]:
    """Return the condition that a file, or an upload that is under way, needs a contract's shard.

    Args:
        begun (int): milliseconds since 1970; uploads that began earlier have been given up.
    """
    upload = exists().where(
        Pointer.shard_hash == Contract.shard_hash,
        Frame.id == Pointer.frame,
        Frame.locked.is_(False),
        Frame.created > begun,
    )
    return or_(NEEDED, upload)
