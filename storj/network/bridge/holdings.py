"""What a farmer tells about the shards on its own disk: which are bad, and which it would drop.

``POST /contacts/{nodeID}/shards`` is an addition of ours to the protocol. It is signed like the
farmer's other requests (protocol reference, section 3.9)::

    {"bad": ["<40 hex>", ...], "ended": ["<40 hex>", ...]}

    200 {"nodeID": "<40 hex>", "unneeded": ["<40 hex>", ...]}

Both lists may be missing and have at most 1000 hashes. ``bad`` are shards that the farmer agreed to
keep and that are damaged or missing on its disk. The bridge no longer counts these copies and has
others made. ``ended`` are shards that no contract covers any more
by the farmer's clock. ``unneeded`` are those of them that it may drop: the bridge knows the
contract, it has ended by the bridge's clock as well, and neither a file nor an upload that is under
way needs the shard. A bridge without records confirms nothing; a farmer keeps what is not
confirmed, and asks again another day. A signature is valid while both clocks agree within five
minutes.

400: the signature, the node id or a list is wrong. 404 ``Contact not found``: the farmer has to
register first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from storj.network.bridge.contacts import signed_farmer
from storj.network.bridge.copies import IN_USE
from storj.network.bridge.database import Contact, Contract
from storj.network.bridge.repairs import REPAIRS
from storj.network.bridge.state import BRIDGE
from storj.network.node.wire import Refusal, Route, answer, hex_text, read_body

__all__ = ('ROUTES',)

#: Hashes in one list.
_MOST = 1000


async def tell(request: web.Request) -> web.Response:
    """Accept a farmer's report about its own shards; return which of them nobody needs."""
    bridge = request.app[BRIDGE]
    node_id = await signed_farmer(request)
    if request.match_info['node'] != node_id:
        raise Refusal(400, 'Invalid nodeID header')
    body = await read_body(request)
    bad, ended = _hashes(body, 'bad'), _hashes(body, 'ended')
    with bridge.database.begin() as session:
        if session.get(Contact, node_id) is None:
            raise Refusal(404, 'Contact not found')
        failed = _note_bad(session, node_id, bad)
        unneeded = _release(session, node_id, ended, bridge.now())
    for shard_hash in failed:
        request.app[REPAIRS].ask(shard_hash)
    return answer({'nodeID': node_id, 'unneeded': unneeded})


def _hashes(body: Mapping[str, Any], name: str) -> list[str]:
    """Return a list of shard hashes, each once.

    Raises:
        Refusal: If the value is invalid (400).
    """
    hashes = body.get(name, [])
    if not isinstance(hashes, list) or len(hashes) > _MOST:
        raise Refusal(400, f'Invalid {name} supplied')
    if not all(hex_text(item, 40) for item in hashes):
        raise Refusal(400, f'Invalid {name} supplied')
    return list(dict.fromkeys(hashes))


def _note_bad(session: Session, node_id: str, hashes: list[str]) -> list[str]:
    """Stop counting these copies; return those that counted until now."""
    lost = (Contract.node_id == node_id, Contract.shard_hash.in_(hashes))
    failed = session.scalars(
        select(Contract.shard_hash).where(*lost, Contract.failed.is_(False))
    ).all()
    session.execute(update(Contract).where(*lost).values(failed=True))
    return list(failed)


def _release(session: Session, node_id: str, hashes: list[str], now: int) -> list[str]:
    """Return the shards that a farmer may drop; have the contracts of the others renewed."""
    unneeded = []
    for contract, needed in session.execute(
        select(Contract, IN_USE).where(Contract.node_id == node_id, Contract.shard_hash.in_(hashes))
    ).all():
        if needed:
            contract.next_renewal = min(contract.next_renewal, now)
        elif contract.store_end <= now:
            # The record stays for a while: the farmer asks again if this answer is lost.
            contract.stored = False
            unneeded.append(contract.shard_hash)
    return unneeded


ROUTES = (Route('POST', '/contacts/{node}/shards', tell),)
