"""How a farmer leaves for good without taking the only copy of anything with it.

``DELETE /contacts/{nodeID}``, signed like the farmer's other requests, is an addition of ours to
the protocol. Each call has some more of the farmer's shards copied to others; the farmer repeats it
until nothing remains, and is forgotten then. It keeps its shards and answers meanwhile.
"""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import islice

from aiohttp import web
from sqlalchemy import exists, select
from sqlalchemy.orm import Session, aliased

from storj.network.bridge.contacts import not_lately_timed_out, signed_farmer
from storj.network.bridge.database import Contact, Contract, Pointer
from storj.network.bridge.mirrors import establish
from storj.network.bridge.state import BRIDGE, Bridge
from storj.network.node.wire import Refusal, Route, answer

__all__ = ('ROUTES', 'only_copies')

#: Copies that one call has begun at the most.
_AT_ONCE = 8
#: Shards that remain, beyond which it is not said how many more.
_COUNTED = 10_000
#: Milliseconds for a copy to arrive before another one is tried.
_PATIENCE = 60_000


def only_copies(session: Session, bridge: Bridge, node_id: str) -> list[str]:
    """Return shards in use that lie on this farmer and on no other that answers.

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
        other.stored.is_(True),
        other.failed.is_(False),
        Contact.node_id == other.node_id,
        not_lately_timed_out(now),
    )
    return list(
        session.scalars(
            select(Contract.shard_hash)
            .where(
                Contract.node_id == node_id,
                Contract.stored.is_(True),
                Contract.failed.is_(False),
                Contract.store_end > now,
                exists().where(Pointer.shard_hash == Contract.shard_hash),
                ~elsewhere,
            )
            .limit(_COUNTED)
        )
    )


def _only_copies(bridge: Bridge, node_id: str) -> list[str]:
    with bridge.database.begin() as session:
        return only_copies(session, bridge, node_id)


def _waits_for_copy(session: Session, bridge: Bridge, shard_hash: str) -> bool:
    """Tell whether a copy of a shard has been begun lately and has not arrived."""
    return bool(
        session.scalar(
            select(
                exists().where(
                    Contract.shard_hash == shard_hash,
                    Contract.mirror.is_(True),
                    Contract.stored.is_(False),
                    Contract.failed.is_(False),
                    Contract.store_begin > bridge.now() - _PATIENCE,
                )
            )
        )
    )


async def _forget(bridge: Bridge, node_id: str) -> None:
    """Forget a farmer with all that it had; its audits go with their contracts."""
    while bridge.database.delete_some(Contract, Contract.node_id == node_id):
        await asyncio.sleep(0)
    with bridge.database.begin() as session:
        contact = session.get(Contact, node_id)
        if contact is not None:
            session.delete(contact)


async def leave(request: web.Request) -> web.Response:
    """Let a farmer go, or say how many of its shards have to be copied first."""
    bridge = request.app[BRIDGE]
    node_id = await signed_farmer(request)
    if request.match_info['node'] != node_id:
        raise Refusal(400, 'Invalid nodeID header')
    with bridge.database.begin() as session:
        contact = session.get(Contact, node_id)
        if contact is None:
            raise Refusal(404, 'Contact not found')
        contact.space_available = False
        contact.last_seen = bridge.now()
    remaining = await bridge.database.apart(partial(_only_copies, bridge, node_id))
    if not remaining:
        await _forget(bridge, node_id)
    with bridge.database.begin() as session:
        begin = (
            shard_hash
            for shard_hash in remaining
            if not _waits_for_copy(session, bridge, shard_hash)
        )
        mirrors = {
            shard_hash: _mirror_count(session, shard_hash) for shard_hash in islice(begin, _AT_ONCE)
        }
    # One more than there are: those that exist do not answer, or are this farmer's own.
    await asyncio.gather(
        *(establish(bridge, shard_hash, count + 1) for shard_hash, count in mirrors.items())
    )
    return answer({'nodeID': node_id, 'remaining': len(remaining)}, 202 if remaining else 200)


def _mirror_count(session: Session, shard_hash: str) -> int:
    return len(
        session.scalars(
            select(Contract.node_id).where(
                Contract.shard_hash == shard_hash,
                Contract.mirror.is_(True),
                Contract.failed.is_(False),
            )
        ).all()
    )


ROUTES = (Route('DELETE', '/contacts/{node}', leave),)
