"""How a farmer leaves permanently without removing the only copy of a shard.

``DELETE /contacts/{nodeID}``, signed like the farmer's other requests, is an addition of ours to
the protocol. Each call has some more of the farmer's shards copied to others; the farmer repeats it
until nothing remains, and is forgotten then. It keeps its shards and answers meanwhile.
"""

from __future__ import annotations

import asyncio
from functools import partial

from aiohttp import web
from sqlalchemy import exists, select
from sqlalchemy.orm import Session, aliased

from storj.network.bridge.contacts import not_lately_timed_out, signed_farmer
from storj.network.bridge.copies import IN_USE, counts
from storj.network.bridge.database import Contact, Contract
from storj.network.bridge.repairs import REPAIRS
from storj.network.bridge.state import BRIDGE, Bridge
from storj.network.node.wire import Refusal, Route, answer

__all__ = ('ROUTES', 'only_copies')

#: Most remaining shards that are counted.
_COUNTED = 10_000


def only_copies(session: Session, bridge: Bridge, node_id: str) -> list[str]:
    """Return shards in use that are on this farmer and on no other that answers.

    Args:
        session (Session): a transaction.
        bridge (Bridge): the bridge.
        node_id (str): of the farmer.

    Returns:
        list[str]: shard hashes, ten thousand at the most.
    """
    now = bridge.now()
    other = aliased(Contract)
    elsewhere = exists().where(
        other.shard_hash == Contract.shard_hash,
        other.node_id != node_id,
        Contact.node_id == other.node_id,
        counts(other),
        not_lately_timed_out(now),
    )
    return list(
        session.scalars(
            select(Contract.shard_hash)
            .where(
                Contract.node_id == node_id,
                Contract.stored.is_(True),
                Contract.failed.is_(False),
                IN_USE,
                ~elsewhere,
            )
            .limit(_COUNTED)
        )
    )


def _only_copies(bridge: Bridge, node_id: str) -> list[str]:
    with bridge.database.begin() as session:
        return only_copies(session, bridge, node_id)


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
    bridge.presence.leave(node_id)
    remaining = await bridge.database.apart(partial(_only_copies, bridge, node_id))
    if not remaining:
        await _forget(bridge, node_id)
    for shard_hash in remaining:
        request.app[REPAIRS].ask(shard_hash)
    return answer({'nodeID': node_id, 'remaining': len(remaining)}, 202 if remaining else 200)


ROUTES = (Route('DELETE', '/contacts/{node}', leave),)
