"""The methods of the node RPC that a farmer serves to renter nodes (section 7.4).

Contracts are taken and signed, tokens issued, audits answered, copies begun. This module knows the
store and the index; it knows neither the transport of a call nor that of a shard.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from storj.digest import Generation, ShardDigest, is_hex, make_proof
from storj.network.farmer.copies import Copies
from storj.network.farmer.shards import FarmerParts
from storj.network.farmer.store import StoreError
from storj.network.node.contract import Contract, ContractError
from storj.network.node.identity import Identity, is_node_id
from storj.network.node.rpc import (
    ContactError,
    Handler,
    NodeContact,
    NodeError,
    NodeUnreachableError,
    RpcClient,
)

logger = logging.getLogger(__name__)

#: Bytes of a shard at the most (section 8.1).
SHARD_LIMIT = 4294967296
#: Seconds by which a contract may begin in the future (section 7.4).
CONSIGN_THRESHOLD = 86400.0
#: Audits in one message, and audits that are worked on at one time (section 5.6).
AUDIT_LIMIT, AUDITS_AT_ONCE = 64, 3
#: Audit leaves of one shard.
TREE_LIMIT = 4096
#: Tokens for downloads of one shard in one answer.
TOKENS_PER_CALL = 16
#: Bytes of a shard that are read in one go for an audit.
_PIECE = 1024 * 1024

_NO_DATA = 'Shard data not found'
_NOT_FOUND = 'Contract not found or not authorized'


@dataclass(frozen=True)
class FarmerTerms:
    """On which terms a farmer stores.

    Attributes:
        protocol (str): version that it announces; it tells which audits are likely.
        renters (Collection[str] | None): node ids and extended public keys of the renter nodes
            that it stores for; None for any.
        accepting (Callable[[], bool]): whether it takes contracts at the moment.
    """

    protocol: str
    renters: Collection[str] | None
    accepting: Callable[[], bool]


class FarmerMethods:
    """Answers the calls of renter nodes.

    Args:
        identity (Identity): of the farmer.
        terms (FarmerTerms): on which it stores.
        parts (FarmerParts): of the farmer.
        copies (Copies): copies from other farmers.
        calls (RpcClient): for calling back.
        workers (Executor): threads for audits.
    """

    def __init__(
        self,
        identity: Identity,
        terms: FarmerTerms,
        parts: FarmerParts,
        copies: Copies,
        calls: RpcClient,
        workers: Executor,
    ) -> None:
        self._identity = identity
        self._terms = terms
        self._store, self._shards, self._index = parts.store, parts.shards, parts.index
        self._tokens, self._clock = parts.tokens, parts.clock
        self._copies = copies
        self._calls = calls
        self._workers = workers
        self._audits = asyncio.Semaphore(AUDITS_AT_ONCE)

    def handlers(self) -> Mapping[str, Handler]:
        """Return the methods by name."""
        return {
            'PING': self._ping,
            'PROBE': self._probe,
            'FIND_NODE': self._find_node,
            'ALLOC': self._alloc,
            'CONSIGN': self._consign,
            'RETRIEVE': self._retrieve,
            'RENEW': self._renew,
            'MIRROR': self._mirror,
            'AUDIT': self._audit,
        }

    async def _ping(self, params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
        return {}

    async def _probe(self, params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
        try:
            await self._calls.call(sender, 'PING')
        except (NodeError, NodeUnreachableError) as error:
            raise NodeError('Probe failed, you are not addressable') from error
        return {}

    async def _find_node(self, params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
        # The bridge's list of contacts has taken the place of the nodes' own routing (1.5, E4).
        return {'nodes': []}

    async def _alloc(self, params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
        """Take a contract that a renter node has signed, and issue the token for the upload."""
        try:
            contract = Contract.from_mapping(params.get('contract'))
        except ContractError as error:
            raise NodeError('Invalid contract') from error
        if contract.renter_id != sender.node_id or not contract.verify('renter', sender.node_id):
            raise NodeError('Invalid contract signature')
        owner = _owner(sender)
        # All renter nodes of a bridge share the extended key; the message proves only one of them.
        if contract.renter_hd_key not in (False, owner):
            raise NodeError('Invalid contract signature')
        tree = _tree(params.get('audit_tree'))
        source = _source(params['mirror'], sender) if 'mirror' in params else None
        count = _count(params['tokens']) if 'tokens' in params else 0
        await self._check_terms(contract, sender)
        contract = replace(
            contract,
            farmer_id=self._identity.node_id,
            payment_destination=self._identity.payment_address,
        ).signed('farmer', self._identity)
        self._index.put_contract(contract, owner, tree)
        answer: dict[str, Any] = {
            'contract': contract.to_json(),
            'token': self._tokens.issue(contract.data_hash, owner),
        }
        if tree is not None:
            # Tells our own bridge that the leaves arrived; others ignore it.
            answer['audit_tree'] = len(tree)
        if count:
            # For copies of the shard, which are made when it has arrived.
            answer['tokens'] = self._issue_for_copies(contract.data_hash, owner, count)
        if source is not None and (copied := await self._copied(contract, *source)) is not None:
            answer['mirrored'] = copied
        return answer

    async def _copied(self, contract: Contract, source: NodeContact, token: str) -> bool | None:
        """Return whether a shard was copied; None if that takes longer, or cannot begin now."""
        try:
            return await self._copies.make(contract, source, token)
        except NodeError as error:
            # MIRROR comes next, and is refused with the reason.
            logger.debug('no copy of %s with its contract: %s', contract.data_hash, error)
            return None

    async def _consign(self, params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
        """Take the audit leaves of a contract, and issue the token for the upload (core < 7)."""
        contract = self._contract_of(params, sender)
        tree = _tree(params.get('audit_tree'))
        now = self._clock()
        if not (
            now * 1000 < contract.store_end
            and (now + CONSIGN_THRESHOLD) * 1000 > contract.store_begin
        ):
            raise NodeError('Consignment violates contract store time')
        if tree is not None:
            self._index.set_tree(contract.data_hash, _owner(sender), tree)
        return {'token': self._tokens.issue(contract.data_hash, _owner(sender))}

    async def _retrieve(self, params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
        """Issue the token for a download, or for as many copies as our own bridge asks for."""
        data_hash = params.get('data_hash')
        if not is_node_id(data_hash):
            raise NodeError(f'Invalid data hash provided: {str(data_hash)[:64]}')
        contract = self._contract_of(params, sender)
        if not await self._shards.holds(contract.data_hash):
            raise NodeError(_NO_DATA)
        if 'count' not in params:
            return {'token': self._tokens.issue(contract.data_hash, _owner(sender))}
        count = _count(params['count'])
        tokens = self._issue_for_copies(contract.data_hash, _owner(sender), count)
        return {'token': tokens[0], 'tokens': tokens}

    async def _renew(self, params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
        """Sign a contract again that differs in its times or its renter node only."""
        try:
            wanted = Contract.from_mapping(params.get('contract'))
        except ContractError as error:
            raise NodeError('Invalid contract format') from error
        old = self._index.contract(wanted.data_hash, _owner(sender))
        if old is None:
            raise NodeError('No contract found for renter_id')
        if wanted.renter_id != sender.node_id or not wanted.verify('renter', sender.node_id):
            raise NodeError('Invalid new renter signature on updated contract')
        if wanted.renter_hd_key not in (False, _owner(sender)):
            raise NodeError('renter_hd_key cannot be changed')
        # Size, hash and payments stay; else a renewal could change what was agreed.
        before, after = old.to_json(), wanted.to_json()
        for name in before:
            if before[name] != after[name] and name not in _RENEWABLE:
                raise NodeError(f'{name} cannot be changed')
        if not await self._shards.holds(wanted.data_hash):
            if wanted.store_end > self._clock() * 1000:
                raise NodeError(_NO_DATA)
            # The shard never arrived and its time is over, so its space is released.
            self._tokens.redeem(wanted.data_hash)
        signed = wanted.signed('farmer', self._identity)
        self._index.put_contract(signed, _owner(sender), None)
        await self._index.synced()
        return {'contract': signed.to_json()}

    async def _audit(self, params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
        """Prove that shards are still here."""
        audits = params.get('audits')
        if not isinstance(audits, list) or not 0 < len(audits) <= AUDIT_LIMIT:
            raise NodeError('Invalid audit list supplied')
        owner = _owner(sender)
        return {'proofs': await asyncio.gather(*(self._prove(audit, owner) for audit in audits))}

    async def _mirror(self, params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
        """Begin to copy a shard from another farmer."""
        contract = self._contract_of(params, sender)
        await self._copies.begin(contract, *_source(params, sender))
        return {}

    def _issue_for_copies(self, data_hash: str, owner: str, count: int) -> list[str]:
        return [self._tokens.issue(data_hash, owner, copy=True) for _ in range(count)]

    def _contract_of(self, params: Mapping[str, Any], sender: NodeContact) -> Contract:
        data_hash = params.get('data_hash')
        contract = (
            self._index.contract(data_hash, _owner(sender)) if is_node_id(data_hash) else None
        )
        if contract is None:
            raise NodeError(_NOT_FOUND)
        return contract

    async def _check_terms(self, contract: Contract, sender: NodeContact) -> None:
        """Refuse a contract that this farmer cannot or will not keep."""
        renters = self._terms.renters
        if not self._terms.accepting():
            raise NodeError('Not accepting contracts')
        if renters is not None and not {sender.node_id, _owner(sender)} & set(renters):
            raise NodeError('Not accepting contracts')
        if not 0 < contract.data_size <= SHARD_LIMIT:
            raise NodeError('Not accepting contracts')
        if contract.store_end <= self._clock() * 1000:
            raise NodeError('Not accepting contracts')
        name, size = contract.data_hash, contract.data_size
        if await self._shards.holds(name):
            if self._store.size_of(name) != size:
                raise NodeError('Shard has another size')
            return
        # Contracts are signed before their shards arrive, so space is reserved with the signature.
        promised = self._tokens.promised(besides=name)
        if not self._store.has_room(size, promised=promised):
            raise NodeError('No space left')
        self._tokens.promise(name, size)

    async def _prove(self, audit: object, owner: str) -> Any:
        """Return the proof for one challenge, in the generation that the audit leaves have."""
        data_hash = audit.get('data_hash') if isinstance(audit, dict) else None
        challenge = audit.get('challenge') if isinstance(audit, dict) else None
        if not is_node_id(data_hash) or not is_hex(challenge, 64):
            raise NodeError('Invalid data hash or challenge provided')
        leaves = self._index.tree(data_hash, owner)
        if leaves is None or not await self._shards.holds(data_hash):
            raise NodeError('Shard not found')
        first: Generation = 'B' if self._terms.protocol.startswith('0.') else 'C'
        second: Generation = 'C' if first == 'B' else 'B'
        try:
            async with self._audits:
                # The leaves do not tell their generation, and clients chose it before the farmer
                # was known (section 5.3). So the likely one is tried first; each try reads the
                # whole shard.
                for generation in (first, second):
                    proof = await asyncio.get_running_loop().run_in_executor(
                        self._workers, self._proof, data_hash, challenge, leaves, generation
                    )
                    if proof is not None:
                        self._index.count('audits')
                        return proof
            # Either the leaves are wrong, or the shard is.
            await self._shards.verify(data_hash)
        except StoreError as error:
            raise NodeError(str(error)) from error
        raise NodeError('Failed to generate proof')

    def _proof(
        self, data_hash: str, challenge: str, leaves: list[str], generation: Generation
    ) -> Any:
        """Read a shard and answer a challenge about it; called in a worker thread."""
        digest = ShardDigest([challenge], generation)
        with closing(self._store.reader(data_hash)) as reader:
            while piece := reader.read(_PIECE):
                digest.update(piece)
        try:
            return make_proof(leaves, digest.responses()[0], generation)
        except ValueError:
            return None


#: What a renewed contract may change (section 7.4).
_RENEWABLE = frozenset(
    {
        'renter_id',
        'renter_hd_key',
        'renter_hd_index',
        'renter_signature',
        'farmer_signature',
        'store_begin',
        'store_end',
    }
)


def _owner(sender: NodeContact) -> str:
    """Return to whom a contract belongs: all renter nodes of a bridge share an extended key."""
    return sender.hd_key or sender.node_id


def _source(raw: object, sender: NodeContact) -> tuple[NodeContact, str]:
    """Return from which farmer, and with which token, a shard is to be copied."""
    params: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}
    try:
        source = NodeContact.from_mapping(params.get('farmer'), local=sender.local)
    except ContactError as error:
        raise NodeError(str(error)) from error
    token = params.get('token')
    if not is_node_id(token):
        raise NodeError('Invalid token supplied')
    return source, token


def _count(raw: object) -> int:
    """Return how many tokens are asked for."""
    if type(raw) is not int or not 0 < raw <= TOKENS_PER_CALL:
        raise NodeError('Invalid count supplied')
    return raw


def _tree(raw: object) -> list[str] | None:
    """Return audit leaves if they make a tree."""
    if raw is None:
        return None
    if not isinstance(raw, list) or not 0 < len(raw) <= TREE_LIMIT:
        raise NodeError('Invalid audit tree supplied')
    leaves = [leaf for leaf in raw if is_node_id(leaf)]
    # The padded bottom row: a power of two (section 5.4).
    if len(leaves) != len(raw) or len(raw) & (len(raw) - 1):
        raise NodeError('Invalid audit tree supplied')
    return leaves
