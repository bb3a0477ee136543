"""Reading a copy: whether it is the shard, and new challenges for its audits.

Clients leave a few challenges with a shard, and each is good for one audit. The leaf of a new one
can be computed only from the bytes (protocol reference, sections 5.2 to 5.4), and no
message asks a farmer for it. So the bridge fetches the shard as a client would, checks its hash in
the same pass, and sends the farmer the new leaves by CONSIGN (section 7.4). The signed
contract keeps its first number of audits: RENEW must not change it, and nothing depends on it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass

from sqlalchemy import delete
from sqlalchemy.orm import Session

from storj.digest import Generation, ShardDigest, new_challenges
from storj.network.bridge.contacts import node_contact
from storj.network.bridge.database import Challenge, Contact, Contract
from storj.network.bridge.placement import record_challenges
from storj.network.bridge.renter import NodeError, NodeUnreachableError
from storj.network.bridge.retrieval import token_from
from storj.network.bridge.state import Bridge
from storj.network.node.shard_client import ShardClientError, TransferBrokenError

__all__ = ('Copy', 'read_copy')

logger = logging.getLogger(__name__)

#: New challenges of a copy: as many as libstorj makes.
_CHALLENGES = 4
#: Bytes of a piece from which on it is hashed in a thread.
_LARGE = 32 * 1024


@dataclass(frozen=True)
class Copy:
    """A contract's copy as it was when it was chosen.

    Attributes:
        shard_hash (str): 40 hex digits.
        node_id (str): of the farmer.
        size (int): bytes.
        store_begin (int): of the contract; another one when it was made anew.
    """

    shard_hash: str
    node_id: str
    size: int
    store_begin: int

    @classmethod
    def of(cls, contract: Contract) -> Copy:
        """Return the copy of a contract."""
        return cls(contract.shard_hash, contract.node_id, contract.data_size, contract.store_begin)

    def contract(self, session: Session) -> Contract | None:
        """Return the contract, unless it was made anew or forgotten meanwhile."""
        known = session.get(Contract, (self.shard_hash, self.node_id))
        return known if known is not None and known.store_begin == self.store_begin else None


async def read_copy(bridge: Bridge, contact: Contact, copy: Copy) -> bool | None:
    """Read a copy, and give it new challenges if it is good.

    Args:
        bridge (Bridge): the bridge.
        contact (Contact): the farmer.
        copy (Copy): what is to be read.

    Returns:
        bool | None: whether the farmer has the shard; None if that could not be found out.
    """
    challenges = new_challenges(_CHALLENGES)
    digest = ShardDigest(challenges, _generation(contact))

    async def take(piece: bytes) -> None:
        # A thread costs more than hashing a small piece.
        if len(piece) < _LARGE:
            digest.update(piece)
        else:
            await asyncio.to_thread(digest.update, piece)

    card = node_contact(contact)
    try:
        token = await token_from(bridge, contact, copy.shard_hash)
        await bridge.renter.fetch(card, copy.shard_hash, token, copy.size, take)
        if digest.hexdigest() != copy.shard_hash:
            raise ShardClientError('the bytes are not those of the hash')
        auditable = await _hand_over(bridge, contact, copy, digest.leaves())
    except (NodeUnreachableError, TransferBrokenError) as error:
        logger.info('copy of %s cannot be read: %s', copy.shard_hash, error)
        return None
    except (NodeError, ShardClientError) as error:
        logger.info('farmer %s does not have %s: %s', copy.node_id, copy.shard_hash, error)
        return False
    with bridge.database.begin() as session:
        # None if the contract was made anew while the shard was read: its audits are others.
        contract = copy.contract(session)
        if contract is not None:
            contract.next_audit = bridge.now() + bridge.settings.audit_pause(_CHALLENGES)
            if auditable:
                contract.auditable, contract.tree = True, digest.leaves()
                session.execute(
                    delete(Challenge).where(
                        Challenge.shard_hash == copy.shard_hash, Challenge.node_id == copy.node_id
                    )
                )
                connection = session.connection()
                record_challenges(connection, copy.shard_hash, copy.node_id, challenges)
    return True


async def _hand_over(bridge: Bridge, contact: Contact, copy: Copy, leaves: list[str]) -> bool:
    """Send a farmer new audit leaves; return whether it accepts them.

    Raises:
        NodeUnreachableError: If it does not answer.
    """
    try:
        await bridge.renter.consign(node_contact(contact), copy.shard_hash, leaves)
    except NodeError as error:
        # It is read again when it is due.
        logger.info('farmer %s takes no new audit leaves: %s', copy.node_id, error)
        return False
    return True


def _generation(contact: Contact) -> Generation:
    """Return the formula by which a farmer proves: B up to core 6.3, C from 6.4 on."""
    core = re.match(r'(\d{1,6})\.(\d{1,6})\.', contact.user_agent)
    if contact.protocol.startswith('0.') or (core and (int(core[1]), int(core[2])) < (6, 4)):
        return 'B'
    return 'C'
