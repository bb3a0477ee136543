"""Renewals: contracts of shards that a file needs are extended.

A contract ends after 90 days, and a farmer drops what no contract covers. So contracts are signed
again before they end, with every farmer that has one for a shard of a file or of an upload; those
for shards of removed files end at once, which RENEW tells the farmer. They are remembered for as
long again, as a farmer asks before it drops anything (``reports``). A farmer that is away is asked
when it is back, also after the end. No clock ends a contract whose shard is needed, and none is
forgotten soon after the clock was set.
"""

from __future__ import annotations

import logging

from sqlalchemy import bindparam, exists, select, update
from sqlalchemy.orm import Session

from storj.network.bridge.contacts import (
    FarmerCall,
    call_farmer,
    node_contact,
    not_lately_timed_out,
    note_calls,
    with_each,
)
from storj.network.bridge.copies import (
    DOUBTFUL,
    IN_USE,
    NEEDED,
    THIS_CONTRACT,
    UNCONFIRMED,
    current,
)
from storj.network.bridge.placement import drop_contract
from storj.network.bridge.state import CONTRACT_LIFE, Bridge
from storj.network.bridge.tables import Contact, Contract
from storj.network.bridge.upkeep.backlog import copies_lost
from storj.network.node.contract import Contract as Agreement
from storj.network.node.contract import ContractError
from storj.network.node.rpc import ClockSkewError, NodeError, NodeUnreachableError

logger = logging.getLogger(__name__)

# Contracts of a farmer in one round.
_CONTRACTS = 100
# Milliseconds after which a contract is looked at again that is not, or cannot be, renewed.
_AGAIN = 24 * 3600 * 1000
# Seconds without a change of the clock before a contract is forgotten: farmers that saw the same
# change ask an hour later.
_CALM = 2 * 86400.0

_RENEWED = (
    update(Contract)
    .where(
        *THIS_CONTRACT,
        # Else it has been made again meanwhile.
        Contract.store_begin == bindparam('begin'),
    )
    .values(
        document=bindparam('signed'), store_end=bindparam('end'), next_renewal=bindparam('next')
    )
)


async def renewal_round(bridge: Bridge) -> list[str]:
    """Renew what is due, up to a hundred contracts of each farmer.

    Args:
        bridge (Bridge): the bridge.

    Returns:
        list[str]: hashes of shards that a file needs and that a farmer may no longer keep.
    """
    due = exists().where(Contract.node_id == Contact.node_id, Contract.next_renewal <= bridge.now())
    return await with_each(bridge, _renew_with, due, not_lately_timed_out(bridge.now()))


async def _renew_with(bridge: Bridge, contact: Contact) -> list[str]:
    """Renew a farmer's contracts that are due; return the shards that it may no longer keep."""
    calls: list[FarmerCall] = []
    renewed: list[tuple[Contract, Agreement]] = []
    refused: list[Contract] = []
    for contract, end in await _due(bridge, contact.node_id):
        try:
            renewed.append((contract, await _renew(bridge, contact, contract, calls, end)))
        except (ClockSkewError, NodeUnreachableError) as error:
            # The others stay due until it is back.
            logger.info('farmer %s renews no contract: %s', contact.node_id, error)
            break
        except (ContractError, NodeError) as error:
            logger.warning(
                'farmer %s does not renew the contract for shard %s: %s',
                contact.node_id,
                contract.shard_hash,
                error,
            )
            refused.append(contract)
    await note_calls(bridge, calls)
    rows = [
        {
            'shard': contract.shard_hash,
            'farmer': contract.node_id,
            'begin': contract.store_begin,
            'signed': agreement.to_json(),
            'end': agreement.store_end,
            'next': bridge.settings.renewal_of(agreement.store_end),
        }
        for contract, agreement in renewed
    ]
    if rows:
        await bridge.database.run(lambda connection: connection.execute(_RENEWED, rows))
    return [contract.shard_hash for contract in refused if await _postpone(bridge, contract)]


async def _due(bridge: Bridge, node_id: str) -> list[tuple[Contract, int | None]]:
    """Choose contracts of a farmer, each with its new end; None for a full life from now on.

    What nobody needs ends now, and is forgotten long after its end.
    """
    now, calm = bridge.now(), bridge.watch.calm() >= _CALM

    def choose(session: Session) -> list[tuple[Contract, int | None]]:
        contracts: list[tuple[Contract, int | None]] = []
        for contract, needed, in_use in session.execute(
            select(Contract, NEEDED, IN_USE)
            .where(Contract.node_id == node_id, Contract.next_renewal <= now)
            .order_by(Contract.next_renewal)
            .limit(_CONTRACTS)
        ).all():
            # contract      store_begin ------- 90 days ------- store_end ------- 90 days -------
            # needed        renewed from 30 days before the end on, also after it
            # not needed    ends at once                        |  remembered  |  forgotten
            if not contract.next_renewal and _is_awaited(contract):
                # Given up: ``end_unused`` is about to end it.
                continue
            if needed or (in_use and contract.stored):
                contracts.append((contract, None))
            elif not in_use and contract.store_end > now:
                contracts.append((contract, now))
            elif not in_use and calm and contract.store_end + CONTRACT_LIFE <= now:
                drop_contract(session.connection(), contract.shard_hash, node_id)
            else:
                ends = contract.store_end, contract.store_end + CONTRACT_LIFE
                contract.next_renewal = now + min([_AGAIN, *(e - now for e in ends if e > now)])
        return contracts

    return await bridge.database.run_objects(choose)


def _is_awaited(contract: Contract) -> bool:
    """Return whether neither farmer nor client has said that the shard has come."""
    return not contract.stored and contract.verified == UNCONFIRMED


async def _renew(
    bridge: Bridge,
    contact: Contact,
    contract: Contract,
    calls: list[FarmerCall],
    end: int | None = None,
) -> Agreement:
    """Have a contract signed again, until an end, or for as long as a new one.

    Raises:
        ContractError, NodeError, NodeUnreachableError: If it stays as it is.
    """
    agreement = Agreement.from_mapping(contract.document)
    if end is None:
        # Never shortened: the clock here may be behind.
        end = max(contract.store_end, bridge.now() + CONTRACT_LIFE)
    renewal = bridge.renter.renew(node_contact(contact), agreement, store_end=end)
    return await call_farmer(bridge, contact, renewal, calls)


async def end_unused(bridge: Bridge, shard_hash: str, node_id: str) -> None:
    """End a contract now whose shard never arrived and that nobody waits for.

    The protocol has no message for that, but RENEW may change the end of a contract.
    """
    contact, contract = await bridge.database.run_objects(
        lambda session: (
            session.get(Contact, node_id),
            session.get(Contract, (shard_hash, node_id)),
        )
    )
    if contact is None or contract is None or contract.next_renewal or not _is_awaited(contract):
        return
    calls: list[FarmerCall] = []
    try:
        await _renew(bridge, contact, contract, calls, end=bridge.now())
    except (ClockSkewError, ContractError, NodeError, NodeUnreachableError) as error:
        # It releases the reserved space by itself.
        logger.info('farmer %s does not end a contract: %s', node_id, error)
        ended = False
    else:
        ended = True
    await note_calls(bridge, calls)
    now = bridge.now()

    def forget(session: Session) -> None:
        known = current(session, contract)
        if known is None:
            return
        if known.stored or not ended:
            # The shard has arrived after all, or nothing is known of it.
            known.next_renewal = now if known.stored else now + _AGAIN
        else:
            drop_contract(session.connection(), shard_hash, node_id)

    await bridge.database.run_objects(forget)


async def _postpone(bridge: Bridge, contract: Contract) -> bool:
    """Try again tomorrow; doubt the copy of an ended contract, and return whether it has ended.

    Only a clock says that it has ended, so the copy is audited before it is given up.
    """
    now = bridge.now()

    def postpone(session: Session) -> bool:
        known = current(session, contract)
        if known is None:
            return False
        if known.store_end > now:
            known.next_renewal = min(now + _AGAIN, known.store_end)
            return False
        known.next_renewal = now + _AGAIN
        if known.failed or not known.stored:
            return False
        known.verified, known.next_audit = DOUBTFUL, now
        session.flush()
        copies_lost(bridge, session.connection(), [contract.shard_hash])
        return True

    return await bridge.database.run_objects(postpone)
