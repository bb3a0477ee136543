"""Audits: farmers prove that they still have what they agreed to keep.

The client's challenges came with the shard; each is sent once, for a farmer could keep its answer
instead of the shard. A proof must lead from the response to the root of the tree *and* begin at the
leaf of this challenge. A copy is audited soon after it has arrived; the other challenges are spread
over the contract's life.

A copy without an unused challenge, or one that failed an audit, is read: the leaf of a new
challenge can be computed only from the bytes (protocol reference, sections 5.2 to 5.4), and no
message asks a farmer for it. So the bridge fetches the shard as a client would, checks its hash in
the same pass, and sends the farmer the new leaves by CONSIGN (section 7.4). The signed contract
keeps its first number of audits: RENEW must not change it, and nothing depends on it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

from sqlalchemy import Connection, delete, exists, select, update
from sqlalchemy.orm import Session

from storj.digest import Generation, ShardDigest, leaf, merkle_rows, new_challenges, verify_proof
from storj.network.bridge.contacts import node_contact, note_call, reward, with_each
from storj.network.bridge.copies import (
    DOUBTFUL,
    IN_USE,
    LOST,
    NEEDED,
    NEVER,
    THIS_CONTRACT,
    current,
    token_from,
)
from storj.network.bridge.placement import record_challenges
from storj.network.bridge.state import Bridge, BridgeSettings
from storj.network.bridge.tables import Challenge, Contact, Contract
from storj.network.bridge.upkeep.backlog import copies_lost
from storj.network.node.rpc import NodeContact, NodeError, NodeUnreachableError
from storj.network.node.shard_client import ShardClientError, TransferBrokenError
from storj.network.node.tasks import others_first

logger = logging.getLogger(__name__)

# Proofs that one farmer works on at once (protocol reference, section 5.6): each makes it read a
# whole shard.
_PROOFS_AT_ONCE = 3

_PASSED_POINTS = 10
_FAILED_POINTS = -500
# Contracts of a farmer that are looked at at a time, how often in one turn, and those that are put
# up for audits, or made due earlier, in one go: some milliseconds of work.
_LOOKED_AT, _TURN, _PUT_UP = 12, 32, 200
# New challenges of a copy that was read: as many as libstorj makes.
_CHALLENGES = 4
# Bytes of a piece from which on it is hashed in a thread.
_LARGE = 32 * 1024
# Milliseconds after which a copy is looked at again that has failed or that no file needs, and one
# that could not be read.
_TOMORROW = 24 * 3600 * 1000
_SOON = 10 * 60 * 1000
# Milliseconds at least between two looks at a copy of an upload.
_LEAST = 1000

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
    contract: Contract
    position: int
    challenge: str


def proves(proof: object, tree: Sequence[str], position: int) -> bool:
    """Return whether a proof answers the challenge at ``position``.

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
        # A proof of another challenge of the same shard also leads to the root: without this, a
        # farmer could keep one old answer instead of the shard.
        if answered == tree[position]:
            rows = merkle_rows(tree, generation)
            return verify_proof(proof, rows[0][0], len(rows), generation)
    return False


async def audit_round(bridge: Bridge) -> list[AuditResult]:
    """Audit what is due and a file needs, of each farmer as much as one turn takes.

    What is audited is claimed before, so any number of bridges may do this at the same time.

    Returns:
        list[AuditResult]: of what was found out; the others stay due.
    """
    await _put_up(bridge)
    due = exists().where(Contract.node_id == Contact.node_id, Contract.next_audit <= bridge.now())
    return await with_each(bridge, _audit_farmer, due, Contact.lost.is_(False))


async def _put_up(bridge: Bridge) -> None:
    """Have all copies audited of farmers that were lost and are back, some at a time."""
    now = bridge.now()
    unchecked = select(Contact.node_id).where(Contact.unchecked)

    def put_up(connection: Connection, node_id: str) -> bool:
        of_farmer = (Contract.node_id == node_id, Contract.next_audit > now)
        some = select(Contract.shard_hash).where(*of_farmer, Contract.next_audit < NEVER)
        hashes = connection.scalars(some.limit(_PUT_UP)).all()
        if hashes:
            these = update(Contract).where(*of_farmer, Contract.shard_hash.in_(hashes))
            connection.execute(these.values(next_audit=now))
        else:
            checked = update(Contact).where(Contact.node_id == node_id)
            connection.execute(checked.values(unchecked=False))
        return bool(hashes)

    back = await bridge.database.read(lambda connection: connection.scalars(unchecked).all())
    for node_id in back:
        while await bridge.database.run(partial(put_up, node_id=node_id)):
            await others_first()


async def recall_audits(bridge: Bridge) -> None:
    """Have no audit wait for longer than audits do: one put off by a clock that was ahead would.

    That may be all of them, so it is done some at a time.
    """
    now = bridge.now()
    longest = max(_TOMORROW, bridge.settings.audit_pause(1))
    far = (
        # Looked for by the index, which begins with the farmer.
        Contract.node_id.in_(select(Contact.node_id)),
        Contract.next_audit > now + longest,
        Contract.next_audit < LOST,
    )
    some = select(Contract.shard_hash, Contract.node_id).where(*far).limit(_PUT_UP)
    # Spread, as they were.
    sooner = now + (Contract.next_audit - now) % longest
    recalled = update(Contract).where(*THIS_CONTRACT, *far[1:]).values(next_audit=sooner)

    def recall(connection: Connection) -> bool:
        keys = connection.execute(some).all()
        if keys:
            these = [{'shard': shard_hash, 'farmer': node_id} for shard_hash, node_id in keys]
            connection.execute(recalled, these)
        return len(keys) == _PUT_UP

    while await bridge.database.run(recall):
        await others_first()


async def _claim(
    bridge: Bridge, node_id: str, done: Collection[str]
) -> tuple[list[Contract], list[Contract]] | None:
    """Claim some of a farmer's copies to audit, and one to read.

    What cannot be audited is put off, so that it does not delay the others in each round. A claim
    is a date, after which another bridge takes the copy if this one has died.

    Args:
        bridge (Bridge): the bridge.
        node_id (str): of the farmer.
        done (Collection[str]): shards that were audited in this turn.

    Returns:
        tuple[list[Contract], list[Contract]] | None: None if nothing is due.
    """
    now = bridge.now()

    def choose(session: Session) -> tuple[list[Contract], list[Contract]] | None:
        audited: list[Contract] = []
        read: list[Contract] = []
        looked_at = session.execute(
            select(Contract, NEEDED, IN_USE, _CHALLENGED)
            .where(
                Contract.node_id == node_id,
                Contract.next_audit <= now,
                Contract.shard_hash.not_in(done),
            )
            .order_by(Contract.next_audit)
            .limit(_LOOKED_AT)
            .with_for_update(of=Contract, skip_locked=True)
        ).all()
        for contract, needed, in_use, challenged in looked_at:
            # What becomes of a due copy:
            #
            #   not stored yet             never, until a report says that it has arrived
            #   an upload goes on          when that may have made its file
            #   no file needs it           tomorrow
            #   challenge left             audit
            #   none left, or failed       read, with new challenges
            if not contract.stored:
                contract.next_audit = NEVER
            elif not needed:
                pause = max(_LEAST, bridge.settings.first_audit) if in_use else _TOMORROW
                contract.next_audit = now + pause
            else:
                chosen = audited if contract.auditable and challenged else read
                chosen.append(contract)
        del audited[_PROOFS_AT_ONCE:], read[1:]
        for contract in (*audited, *read):
            contract.next_audit = now + _SOON
        return (audited, read) if looked_at else None

    return await bridge.database.run_objects(choose)


def _spend(
    session: Session, contracts: Sequence[Contract], settings: BridgeSettings, now: int
) -> list[_Audit]:
    """Take the next challenge of each contract, and mark it as sent."""
    audits = []
    for contract in contracts:
        known = current(session, contract)
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
        # The contract may have been replaced or dropped in between.
        if known is None or challenge is None:
            continue
        # Committed before it is sent: after a crash it must not be used again.
        challenge.sent = now
        known.next_audit = now + settings.audit_pause(len(known.tree))
        audits.append(_Audit(known, challenge.position, challenge.challenge))
    return audits


async def _audit_farmer(bridge: Bridge, contact: Contact) -> list[AuditResult]:
    """Audit a farmer's copies, some after the others, until nothing is due or its turn is over."""
    results: list[AuditResult] = []
    done: set[str] = set()
    for _ in range(_TURN):
        claims = await _claim(bridge, contact.node_id, done)
        if claims is None:
            break
        claimed = [contract.shard_hash for contract in itertools.chain(*claims)]
        if not claimed:
            continue
        done.update(claimed)
        found = await _audit_some(bridge, contact, *claims)
        if found is None:
            await bridge.database.run(partial(_give_back, contact.node_id, claimed, bridge.now()))
            break
        results += found
    return results


def _give_back(node_id: str, hashes: Sequence[str], now: int, connection: Connection) -> None:
    """Make copies due again that were claimed, and could not be audited."""
    these = (Contract.node_id == node_id, Contract.shard_hash.in_(hashes))
    claimed = (Contract.next_audit > now, Contract.next_audit <= now + _SOON)
    connection.execute(update(Contract).where(*these, *claimed).values(next_audit=now))


async def _audit_some(
    bridge: Bridge, contact: Contact, due: Sequence[Contract], unread: Sequence[Contract]
) -> list[AuditResult] | None:
    """Audit and read copies of a farmer; return None if it does not answer."""
    card = node_contact(contact)
    try:
        # A challenge that is sent is spent, so nothing is sent to a farmer that is away.
        await bridge.renter.ping(card)
        spend = partial(_spend, contracts=due, settings=bridge.settings, now=bridge.now())
        audits = await bridge.database.run_objects(spend)
        proofs = await _proofs(bridge, card, audits)
    except (NodeError, NodeUnreachableError) as error:
        logger.info('farmer %s cannot be audited: %s', contact.node_id, error)
        await note_call(bridge, contact.node_id, failure=error)
        return None
    await note_call(bridge, contact.node_id)
    verdicts: list[tuple[Contract, _Audit | None, bool | None]] = []
    for audit, proof in zip(audits, proofs, strict=True):
        passed: bool | None = proof is not None and proves(
            proof, audit.contract.tree, audit.position
        )
        if not passed:
            # The leaves come from the client and may be wrong: a farmer with the right bytes is not
            # at fault.
            passed = await _read(bridge, contact, audit.contract)
        verdicts.append((audit.contract, audit, passed))
    verdicts += [(each, None, await _read(bridge, contact, each)) for each in unread]
    results = []
    for each, spent, passed in verdicts:
        record = partial(_record, bridge, each, spent, passed)
        if await bridge.database.run_objects(record) and passed is not None:
            results.append(AuditResult(each.shard_hash, each.node_id, passed))
    return results


async def _proofs(bridge: Bridge, card: NodeContact, audits: Sequence[_Audit]) -> list[Any]:
    """Get a farmer's proofs; None for a shard that it cannot prove.

    Raises:
        NodeUnreachableError: If it does not answer.
    """
    if not audits:
        return []
    try:
        sent = [(audit.contract.shard_hash, audit.challenge) for audit in audits]
        return list(await bridge.renter.audit(card, sent))
    except NodeError as error:
        if len(audits) == 1:
            logger.info('farmer %s fails an audit: %s', card.node_id, error)
            return [None]
    # One missing shard makes the farmer refuse all of them; ask for each separately.
    return [(await _proofs(bridge, card, [audit]))[0] for audit in audits]


def _record(
    bridge: Bridge, audited: Contract, audit: _Audit | None, passed: bool | None, session: Session
) -> bool:
    """Record a result; return whether the contract is still the audited one."""
    contract = current(session, audited)
    if contract is None:
        return False
    if audit is not None:
        key = (contract.shard_hash, contract.node_id, audit.position)
        challenge = session.get(Challenge, key)
        # A copy that was read has other challenges now.
        if challenge is not None and challenge.challenge == audit.challenge:
            challenge.passed = passed
    if not passed:
        _record_failure(session, contract, passed, bridge.now())
        session.flush()
        copies_lost(bridge, session.connection(), [contract.shard_hash])
        return True
    contact = session.get_one(Contact, contract.node_id)
    contract.failed, contract.verified = False, contact.returns
    contact.audits_passed += 1
    reward(contact, _PASSED_POINTS)
    return True


def _record_failure(session: Session, contract: Contract, passed: bool | None, now: int) -> None:
    """Record that a copy was lost, or could not be read: either way it does not count."""
    if passed is None:
        contract.verified, contract.next_audit = DOUBTFUL, now + _SOON
        return
    contact = session.get_one(Contact, contract.node_id)
    contact.audits_failed += 1
    if not contract.failed:
        reward(contact, _FAILED_POINTS)
    contract.failed, contract.next_audit = True, now + _TOMORROW


async def _read(bridge: Bridge, contact: Contact, contract: Contract) -> bool | None:
    """Read a copy, and give it new challenges if it is good.

    Returns:
        bool | None: whether the farmer has the shard; None if that could not be found out.
    """
    shard_hash, node_id = contract.shard_hash, contract.node_id
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
        token = await token_from(bridge, contact, shard_hash)
        await bridge.renter.fetch(card, shard_hash, token, contract.data_size, take)
        if digest.hexdigest() != shard_hash:
            raise ShardClientError('the bytes are not those of the hash')
        auditable = await _hand_over(bridge, card, shard_hash, digest.leaves())
    except (NodeUnreachableError, TransferBrokenError) as error:
        logger.info('copy of %s cannot be read: %s', shard_hash, error)
        return None
    except (NodeError, ShardClientError) as error:
        logger.info('farmer %s does not have %s: %s', node_id, shard_hash, error)
        return False
    now = bridge.now()

    def renew(session: Session) -> None:
        # None if the contract was made again while the shard was read: its audits are others.
        known = current(session, contract)
        if known is not None:
            known.next_audit = now + bridge.settings.audit_pause(_CHALLENGES)
            if auditable:
                known.auditable, known.tree = True, digest.leaves()
                these = (Challenge.shard_hash == shard_hash, Challenge.node_id == node_id)
                session.execute(delete(Challenge).where(*these))
                record_challenges(session.connection(), shard_hash, node_id, challenges)

    await bridge.database.run_objects(renew)
    return True


async def _hand_over(bridge: Bridge, card: NodeContact, shard_hash: str, leaves: list[str]) -> bool:
    """Send a farmer new audit leaves; return whether it accepts them.

    Raises:
        NodeUnreachableError: If it does not answer.
    """
    try:
        await bridge.renter.consign(card, shard_hash, leaves)
    except NodeError as error:
        # It is read again when it is due.
        logger.info('farmer %s takes no new audit leaves: %s', card.node_id, error)
        return False
    return True


def _generation(contact: Contact) -> Generation:
    """Return the formula by which a farmer proves: B up to core 6.3, C from 6.4 on."""
    core = re.match(r'(\d{1,6})\.(\d{1,6})\.', contact.user_agent)
    if contact.protocol.startswith('0.') or (core and (int(core[1]), int(core[2])) < (6, 4)):
        return 'B'
    return 'C'
