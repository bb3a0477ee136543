"""How a farmer leaves for good without taking the only copy of anything with it.

``DELETE /contacts/{nodeID}``, signed like the farmer's other requests, is an addition of ours to
the protocol. Each call has some more of the farmer's shards copied to others; the farmer repeats it
until nothing remains, and is forgotten then. It keeps its shards and answers meanwhile.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from sqlalchemy import exists, select
from sqlalchemy.orm import Session, aliased

from storj.network.bridge import BRIDGE, Bridge
from storj.network.contacts import lately_timed_out, signed_farmer
from storj.network.database import Contact, Contract, Pointer
from storj.network.mirrors import establish
from storj.network.placement import drop_contract
from storj.network.wire import Refusal, Route, answer

__all__ = ('ROUTES', 'only_copies')

#: Copies that one call has begun at the most.
_AT_ONCE = 8
#: Milliseconds for a copy to arrive before another one is tried.
_PATIENCE = 60_000


def only_copies(session: Session, bridge: Bridge, node_id: str) -> list[str]:
    """Return the shards in use that lie on this farmer and on no other that answers.

    Args:
        session (Session): a transaction.
        bridge (Bridge): the bridge.
        node_id (str): of the farmer.

    Returns:
        list[str]: shard hashes.
    """
    in_use = exists().where(Pointer.shard_hash == Contract.shard_hash)
    held = session.scalars(
        select(Contract.shard_hash).where(
            Contract.node_id == node_id,
            Contract.stored.is_(True),
            Contract.failed.is_(False),
            Contract.store_end > bridge.now(),
            in_use,
        )
    ).all()
    elsewhere: set[str] = set()
    other = aliased(Contract)
    for shard_hash, contact in session.execute(
        select(other.shard_hash, Contact)
        .join(Contact, Contact.node_id == other.node_id)
        .where(
            other.node_id != node_id,
            other.stored.is_(True),
            other.failed.is_(False),
            exists().where(Contract.node_id == node_id, Contract.shard_hash == other.shard_hash),
        )
    ):
        if not lately_timed_out(contact, bridge.now()):
            elsewhere.add(shard_hash)
    return [shard_hash for shard_hash in held if shard_hash not in elsewhere]


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


def _forget(session: Session, contact: Contact) -> None:
    hashes = session.scalars(
        select(Contract.shard_hash).where(Contract.node_id == contact.node_id)
    ).all()
    for shard_hash in hashes:
        drop_contract(session.connection(), shard_hash, contact.node_id)
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
        remaining = only_copies(session, bridge, node_id)
        if not remaining:
            _forget(session, contact)
        begin = [
            shard_hash
            for shard_hash in remaining
            if not _waits_for_copy(session, bridge, shard_hash)
        ][:_AT_ONCE]
        mirrors = {shard_hash: _mirror_count(session, shard_hash) for shard_hash in begin}
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
