"""How a farmer leaves permanently without leaving shards with too few copies.

``DELETE /contacts/{nodeID}``, signed like the farmer's other requests, is an addition of ours to
the protocol. Each call has some more of the farmer's shards copied to others; the farmer repeats it
until nothing remains, and is forgotten then. It keeps its shards and answers meanwhile. A shard
remains until it has all the copies that the farmers that stay can give it; never without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial
from itertools import islice

from aiohttp import web
from sqlalchemy import ColumnElement, and_, case, func, or_, select
from sqlalchemy.orm import Session, aliased

from storj.network.bridge.contacts import not_lately_timed_out, signed_farmer
from storj.network.bridge.copies import IN_USE, confirmed, counts
from storj.network.bridge.database import Contact, Contract
from storj.network.bridge.repairs import REPAIRS
from storj.network.bridge.state import BRIDGE, Bridge
from storj.network.node.wire import Refusal, Route, answer

__all__ = ('ROUTES', 'short_shards')

#: Most remaining shards that are counted.
_COUNTED = 10_000


def short_shards(
    session: Session, bridge: Bridge, node_id: str, wanted: int, refused: Collection[str] = ()
) -> list[str]:
    """Return shards in use of a farmer that have too few copies on farmers that stay.

    That is those without a copy on one that answers, and those with fewer copies than wanted as
    long as a farmer that accepts shards has none: more copies than farmers there cannot be.

    Args:
        session (Session): a transaction.
        bridge (Bridge): the bridge.
        node_id (str): of the farmer.
        wanted (int): copies of each shard.
        refused (Collection[str]): hashes of shards that nobody takes; one copy is enough.

    Returns:
        list[str]: shard hashes, ten thousand at the most.
    """
    gone = {node_id} | bridge.presence.leaving()
    answers = not_lately_timed_out(bridge.now())
    accepts = and_(Contact.space_available.is_(True), Contact.lost.is_(False), answers)
    accepting = session.scalar(select(func.count()).where(Contact.node_id.not_in(gone), accepts))
    other = aliased(Contract)
    counted = _number(counts(other))
    living = _number(and_(counts(other), answers))
    # Those have it, or say so: nobody asks them to copy it.
    served = _number(and_(accepts, confirmed(other)))
    query = (
        select(Contract.shard_hash, living)
        .outerjoin(other, and_(other.shard_hash == Contract.shard_hash, other.node_id.not_in(gone)))
        .outerjoin(Contact, Contact.node_id == other.node_id)
        .where(
            Contract.node_id == node_id,
            Contract.stored.is_(True),
            Contract.failed.is_(False),
            IN_USE,
        )
        .group_by(Contract.shard_hash)
        .having(or_(living == 0, and_(counted < wanted, served < accepting)))
    )
    short = (name for name, copies in session.execute(query) if not copies or name not in refused)
    return list(islice(short, _COUNTED))


def _number(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """Return how many rows of a group meet a condition."""
    return func.sum(case((condition, 1), else_=0))


def _short_shards(bridge: Bridge, node_id: str, wanted: int, refused: Collection[str]) -> list[str]:
    with bridge.database.begin() as session:
        return short_shards(session, bridge, node_id, wanted, refused)


async def _forget(bridge: Bridge, node_id: str) -> None:
    """Forget a farmer with all that it had; its audits go with their contracts."""
    while bridge.database.delete_some(Contract, Contract.node_id == node_id):
        await asyncio.sleep(0)
    with bridge.database.begin() as session:
        contact = session.get(Contact, node_id)
        if contact is not None:
            session.delete(contact)
    bridge.presence.forget(node_id)


async def leave(request: web.Request) -> web.Response:
    """Forget a farmer, or return how many of its shards have to be copied first."""
    bridge = request.app[BRIDGE]
    node_id = await signed_farmer(request)
    if request.match_info['node'] != node_id:
        raise Refusal(400, 'Invalid nodeID header')
    with bridge.database.begin() as session:
        contact = session.get(Contact, node_id)
        if contact is None:
            raise Refusal(404, 'Contact not found')
        # From now on it gets no new shards, or it could never finish.
        contact.space_available = False
        contact.last_seen = bridge.now()
    repairs = request.app[REPAIRS]
    # Who refused before this farmer wanted to leave may accept now: each is asked once more.
    refused = repairs.refused() if node_id in bridge.presence.leaving() else ()
    bridge.presence.leave(node_id)
    remaining = await bridge.database.apart(
        partial(_short_shards, bridge, node_id, repairs.wanted, refused)
    )
    if not remaining:
        await _forget(bridge, node_id)
    for shard_hash in remaining:
        repairs.ask(shard_hash)
    return answer({'nodeID': node_id, 'remaining': len(remaining)}, 202 if remaining else 200)


ROUTES = (Route('DELETE', '/contacts/{node}', leave),)
