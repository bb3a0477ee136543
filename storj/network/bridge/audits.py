"""Audits: farmers prove that they still have what they agreed to keep.

The client's challenges came with the shard; each is sent once, for a farmer could keep its answer
instead of the shard. A proof must lead from the response to the root of the tree *and* begin at
the leaf of this challenge.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from sqlalchemy import exists, select

from storj.digest import Generation, leaf, merkle_rows, verify_proof
from storj.network.bridge.contacts import mark_failure, mark_seen, node_contact, reward
from storj.network.bridge.copies import NEEDED
from storj.network.bridge.database import Challenge, Contact, Contract
from storj.network.bridge.renter import NodeContact, NodeError, NodeUnreachableError
from storj.network.bridge.state import Bridge

__all__ = ('AuditResult', 'audit_round', 'proves')

logger = logging.getLogger(__name__)

# Proofs that one farmer works on at once (protocol reference, section 5.6), and farmers audited
# at once: an audit makes a farmer read the whole shard.
_PROOFS_AT_ONCE = 3
_FARMERS_AT_ONCE = 4

_PASSED_POINTS = 10
_FAILED_POINTS = -500
# Contracts of a farmer that are looked at in one round, and when one is due that never is again.
_LOOKED_AT = 12
_NEVER = 2**53

_CHALLENGED = exists().where(
    Challenge.shard_hash == Contract.shard_hash,
    Challenge.node_id == Contract.node_id,
    Challenge.sent.is_(None),
)
# Newest formula first; shards of older clients are audited by older ones.
_GENERATIONS: tuple[Generation, ...] = tuple(reversed(get_args(Generation)))


@dataclass(frozen=True)
class AuditResult:
    """How an audit ended.

    Attributes:
        shard_hash (str): 40 hex digits.
        node_id (str): of the farmer.
        passed (bool): whether it proved to have the shard.
    """

    shard_hash: str
    node_id: str
    passed: bool


@dataclass(frozen=True)
class _Audit:
    shard_hash: str
    node_id: str
    position: int
    challenge: str
    tree: Sequence[str]


def proves(proof: object, tree: Sequence[str], position: int) -> bool:
    """Tell whether a proof answers the challenge at ``position``.

    Args:
        proof (object): as the farmer sent it.
        tree (Sequence[str]): the audit leaves that the client gave.
        position (int): of the challenge among the shard's challenges.
    """
    response = proof
    while isinstance(response, list):
        if len(response) == 1:
            response = response[0]
            break
        response = next((part for part in response if isinstance(part, list)), None)
    if not isinstance(response, str):
        return False
    for generation in _GENERATIONS:
        try:
            answered = leaf(response, generation)
        except ValueError:
            return False
        if answered == tree[position]:
            rows = merkle_rows(tree, generation)
            return verify_proof(proof, rows[0][0], len(rows), generation)
    return False


async def audit_round(bridge: Bridge) -> list[AuditResult]:
    """Audit what is due: of each farmer up to three shards that a file needs.

    Returns:
        list[AuditResult]: of the farmers that answered; the others stay due.
    """
    at_once = asyncio.Semaphore(_FARMERS_AT_ONCE)

    async def of_farmer(contact: Contact) -> list[AuditResult]:
        async with at_once:
            return await _audit_farmer(bridge, contact)

    due = exists().where(Contract.node_id == Contact.node_id, Contract.next_audit <= bridge.now())
    with bridge.database.begin() as session:
        contacts = session.scalars(select(Contact).where(due)).all()
    results = await asyncio.gather(*map(of_farmer, contacts))
    return [result for part in results for result in part]


def _due(bridge: Bridge, node_id: str) -> list[Contract]:
    """Choose a farmer's contracts to audit.

    What cannot be audited is put off, so that it is not in the way of the others again and again.
    """
    now = bridge.now()
    found: list[Contract] = []
    with bridge.database.begin() as session:
        for contract, needed, challenged in session.execute(
            select(Contract, NEEDED, _CHALLENGED)
            .where(Contract.node_id == node_id, Contract.next_audit <= now)
            .order_by(Contract.next_audit)
            .limit(_LOOKED_AT)
        ).all():
            if not contract.auditable or not challenged or contract.store_end <= now:
                contract.next_audit = _NEVER
            elif not contract.stored or not needed:
                contract.next_audit = _next(bridge)
            else:
                found.append(contract)
    return found[:_PROOFS_AT_ONCE]


def _spend(bridge: Bridge, contracts: Sequence[Contract]) -> list[_Audit]:
    """Take the next challenge of each contract, and mark it as sent."""
    audits = []
    with bridge.database.begin() as session:
        for contract in contracts:
            challenge = session.scalar(
                select(Challenge)
                .where(
                    Challenge.shard_hash == contract.shard_hash,
                    Challenge.node_id == contract.node_id,
                    Challenge.sent.is_(None),
                )
                .order_by(Challenge.position)
                .limit(1)
            )
            known = session.get(Contract, (contract.shard_hash, contract.node_id))
            # Else the contract was made anew, or forgotten, meanwhile.
            if known is None or challenge is None or known.store_begin != contract.store_begin:
                continue
            challenge.sent = bridge.now()
            known.next_audit = _next(bridge)
            audits.append(
                _Audit(
                    known.shard_hash,
                    known.node_id,
                    challenge.position,
                    challenge.challenge,
                    known.tree,
                )
            )
    return audits


def _next(bridge: Bridge) -> int:
    return bridge.now() + int(bridge.settings.audit_interval * 1000)


async def _audit_farmer(bridge: Bridge, contact: Contact) -> list[AuditResult]:
    card = node_contact(contact)
    contracts = _due(bridge, contact.node_id)
    if not contracts:
        return []
    try:
        # A challenge that is sent is spent, so nothing is sent to a farmer that is away.
        await bridge.renter.ping(card)
        audits = _spend(bridge, contracts)
        proofs = await _proofs(bridge, card, audits)
    except (NodeError, NodeUnreachableError) as error:
        logger.info('farmer %s cannot be audited: %s', contact.node_id, error)
        mark_failure(bridge, contact.node_id, error)
        return []
    mark_seen(bridge, contact.node_id)
    results = []
    for audit, proof in zip(audits, proofs, strict=True):
        passed = proof is not None and proves(proof, audit.tree, audit.position)
        _record(bridge, audit, passed)
        results.append(AuditResult(audit.shard_hash, audit.node_id, passed))
    return results


async def _proofs(bridge: Bridge, card: NodeContact, audits: Sequence[_Audit]) -> list[Any]:
    """Get a farmer's proofs; None for a shard that it cannot prove.

    Raises:
        NodeUnreachableError: it does not answer.
    """
    if not audits:
        return []
    try:
        return await _ask(bridge, card, audits)
    except NodeError as error:
        if len(audits) == 1:
            logger.info('farmer %s fails an audit: %s', card.node_id, error)
            return [None]
    # One missing shard spoils the farmer's answer about all; ask for each by itself.
    return [(await _proofs(bridge, card, [audit]))[0] for audit in audits]


async def _ask(bridge: Bridge, card: NodeContact, audits: Sequence[_Audit]) -> list[Any]:
    proofs = await bridge.renter.audit(
        card, [(audit.shard_hash, audit.challenge) for audit in audits]
    )
    return list(proofs)


def _record(bridge: Bridge, audit: _Audit, passed: bool) -> None:
    """Keep the result, as far as the contract is still the one that was audited."""
    key = (audit.shard_hash, audit.node_id)
    with bridge.database.begin() as session:
        challenge = session.get(Challenge, (*key, audit.position))
        contract = session.get(Contract, key)
        if challenge is None or contract is None or challenge.challenge != audit.challenge:
            return
        challenge.passed = passed
        contract.failed = not passed
        reward(session, audit.node_id, _PASSED_POINTS if passed else _FAILED_POINTS)
