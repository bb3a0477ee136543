"""How much space farmers may be asked to keep free for one account.

See ``promises``. Accounts of whoever runs the bridge have no limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import func, select

from storj.network.bridge.database import Contact, User
from storj.network.bridge.promises import Promise
from storj.network.bridge.renter import NodeError, NodeUnreachableError
from storj.network.bridge.retrieval import token_from
from storj.network.bridge.state import Bridge
from storj.network.node.wire import Refusal

__all__ = ('refuse_hoarding',)

#: Bytes up to which nothing is looked up, and bytes at the most where farmers do not say what they
#: offer.
_LITTLE, _MUCH = 64 * 1024**2, 64 * 1024**3
#: Promises about which farmers are asked before an account is refused.
_ASKED_ABOUT = 16


async def refuse_hoarding(bridge: Bridge, email: str, size: int) -> None:
    """Refuse an account for which farmers keep too much space that it does not fill.

    Args:
        bridge (Bridge): the bridge.
        email (str): of the account.
        size (int): bytes that it wants to bring next. One shard at a time is always welcome.

    Raises:
        Refusal: If the limit is reached (429, with ``Retry-After``).
    """
    limit = bridge.settings.open_promises
    if not limit or not _exceeds(bridge, email, size, limit, _LITTLE):
        return
    with bridge.database.begin_plain() as connection:
        if not connection.scalar(select(User.free_tier).where(User.email == email)):
            return
        offered = connection.scalar(
            select(func.sum(Contact.space_offered)).where(Contact.lost.is_(False))
        )
    most = min(_MUCH, int(offered) // 2) if offered else _MUCH
    if not _exceeds(bridge, email, size, limit, most):
        return
    # Not all farmers report what has come, and reports are lost: ask about the oldest.
    await _look_for(bridge, bridge.promises.open(email)[:_ASKED_ABOUT])
    if _exceeds(bridge, email, size, limit, most):
        raise Refusal(429, 'Too many shards that have not been brought', {'Retry-After': '5'})


def _exceeds(bridge: Bridge, email: str, size: int, limit: int, most: int) -> bool:
    """Return whether another promise would be too many, or too large beside the others."""
    promises = bridge.promises.open(email)
    kept_free = sum(promise.size for promise in promises)
    return bool(promises) and (len(promises) >= limit or kept_free + size > most)


async def _look_for(bridge: Bridge, promises: Sequence[Promise]) -> None:
    """Ask farmers whether they have by now what they wait for; it is noted if they do."""
    nodes = {promise.node_id for promise in promises}
    with bridge.database.begin() as session:
        found = session.scalars(select(Contact).where(Contact.node_id.in_(nodes))).all()
    contacts = {contact.node_id: contact for contact in found}

    async def look(contact: Contact, shard_hash: str) -> None:
        try:
            await token_from(bridge, contact, shard_hash)
        except (NodeError, NodeUnreachableError):
            return

    await asyncio.gather(
        *(
            look(contacts[promise.node_id], promise.shard_hash)
            for promise in promises
            if promise.node_id in contacts
        )
    )
