"""The renter node: the bridge's end of the node RPC (protocol reference, sections 7.4 and 7.5).

It negotiates contracts, asks farmers for tokens, audits them, reads shards and has them copied from
one farmer to another. It knows no database and no HTTP route of the bridge; what it learns it
returns.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storj.digest import is_hash
from storj.network.node.contract import Contract, ContractError
from storj.network.node.identity import ExtendedKey, Identity
from storj.network.node.rpc import (
    NodeContact,
    NodeError,
    RpcClient,
)
from storj.network.node.shard_client import ShardClient

logger = logging.getLogger(__name__)

#: Seconds for an answer to AUDIT: the farmer reads the whole shard first, at most 4 GiB.
AUDIT_TIMEOUT = 60.0
#: Audits in one message; farmers work on three at a time (section 5.6).
AUDITS_PER_CALL = 12

_PROOF_DEPTH = 40


@dataclass(frozen=True)
class Allocation:
    """What a farmer grants for one shard.

    Attributes:
        token (str): farmer token for the upload, 40 hex characters.
        contract (Contract): complete, signed by both sides.
        auditable (bool): the farmer holds the audit leaves, so that it can answer audits.
        copied (bool | None): whether it has copied the shard; None if it was not asked to, needs
            longer, or only knows MIRROR.
        tokens (Sequence[str]): for downloads, once the shard is there; none from a farmer that is
            none of ours.
    """

    token: str
    contract: Contract
    auditable: bool
    copied: bool | None = None
    tokens: Sequence[str] = ()

    def __repr__(self) -> str:
        return f'Allocation(contract={self.contract!r}, auditable={self.auditable!r})'


class RenterNode:
    """A node that stores on behalf of its bridge.

    Args:
        key (ExtendedKey | Identity): the node's key; with an extended key, the node is the child
            `index` of it, and contracts name the extended public key, which farmers of core 8
            demand.
        address (str): where the bridge is reached, told to the farmers.
        port (int): the same, 1 to 65535.
        index (int): which child of the extended key, 0 to 2**31 - 1.
        clock (Callable[[], float]): seconds since 1970.

    Attributes:
        identity (Identity): signs contracts and calls.
        calls (RpcClient): asks the farmers.
        node_id (str): 40 hex characters.
        extended_key (str | None): extended public key, for the configuration of farmers.
    """

    def __init__(
        self,
        key: ExtendedKey | Identity,
        *,
        address: str = '127.0.0.1',
        port: int = 6382,
        index: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.extended_key: str | None = None
        self._index: int | None = None
        if isinstance(key, ExtendedKey):
            self.extended_key, self._index = key.public, index
            self.identity = Identity(key.child(index).key)
        else:
            self.identity = key
        self.node_id = self.identity.node_id
        # What a contract says of this side: False where there is no extended key.
        self._renter_fields: dict[str, Any] = {
            'renter_id': self.node_id,
            'renter_hd_key': self.extended_key or False,
            'renter_hd_index': False if self._index is None else self._index,
        }
        self._clock = clock
        self.address = address
        self.port = port
        self.calls = RpcClient(self.identity, self.contact, clock=clock)
        self._shards = ShardClient()

    def contact(self) -> NodeContact:
        """Return this node's address card."""
        return NodeContact(
            address=self.address,
            port=self.port,
            node_id=self.node_id,
            protocol='1.2.0',
            user_agent='8.7.2',
            last_seen=int(self._clock() * 1000),
            hd_key=self.extended_key,
            hd_index=self._index,
        )

    async def close(self) -> None:
        """Close the connections to farmers."""
        await self.calls.close()
        await self._shards.close()

    async def ping(self, contact: NodeContact) -> None:
        """Ask a farmer whether it is there.

        Raises:
            NodeError, NodeUnreachableError: If it is not.
        """
        await self.calls.call(contact, 'PING')

    async def alloc(
        self,
        contact: NodeContact,
        *,
        data_hash: str,
        data_size: int,
        audit_tree: Sequence[str],
        audit_count: int,
        store_begin: int,
        store_end: int,
        source: tuple[NodeContact, str] | None = None,
        tokens: int = 0,
    ) -> Allocation:
        """Make a contract with a farmer and get the token for the upload.

        Args:
            contact (NodeContact): the farmer.
            data_hash (str): shard hash, 40 hex characters.
            data_size (int): bytes.
            audit_tree (Sequence[str]): audit leaves, padded to a power of two.
            audit_count (int): number of challenges.
            store_begin (int): milliseconds since 1970.
            store_end (int): milliseconds since 1970.
            source (tuple[NodeContact, str] | None): another farmer that it is to copy the shard
                from, and a token from :meth:`retrieve` of that one.
            tokens (int): for downloads that are asked for, at most 16.

        Returns:
            Allocation: token and contract.

        Raises:
            NodeError: If the farmer refused, or changed the terms.
            NodeUnreachableError: If it does not answer.
        """
        # Both sides sign in turn: the renter, then (ALLOC) the farmer, which adds its own fields,
        # and then the renter again.
        terms = Contract(
            data_hash=data_hash,
            data_size=data_size,
            store_begin=store_begin,
            store_end=store_end,
            audit_count=audit_count,
            **self._renter_fields,
        ).signed('renter', self.identity)
        tree = list(audit_tree)
        # `audit_tree` is ours: ALLOC of core 7 and 8 has no place for the leaves, and farmers
        # that do not know the field ignore it.
        params: dict[str, Any] = {'contract': terms.to_json(), 'audit_tree': tree}
        if source is not None:
            # Ours too: it saves a call, and the report at the end of the copy.
            params['mirror'] = {'farmer': source[0].to_json(), 'token': source[1]}
        if tokens:
            # Ours as well: so it need not be asked for each copy that others make of the shard.
            params['tokens'] = tokens
        result = await self.calls.call(contact, 'ALLOC', params)
        granted = _contract(result)
        if (
            # A farmer may add what is its own, and change nothing that was offered.
            granted.farmer_id != contact.node_id
            or not granted.verify('farmer', contact.node_id)
            or not granted.same_terms(terms)
        ):
            raise NodeError('The farmer returned another contract than was offered')
        # The farmer's fields are part of what is signed, so the renter signs again.
        granted = granted.signed('renter', self.identity)
        if not granted.is_complete():
            raise NodeError('Contract is not complete')
        token = _token(result)
        # Our farmers state how many leaves they took; the originals say nothing here.
        if result.get('audit_tree') == len(tree):
            copied = result.get('mirrored') if source is not None else None
            copied = copied if isinstance(copied, bool) else None
            return Allocation(token, granted, True, copied, _tokens(result, tokens))
        return await self._consign_late(contact, Allocation(token, granted, False), tree)

    async def renew(self, contact: NodeContact, contract: Contract, *, store_end: int) -> Contract:
        """Sign a contract again with a new end.

        Args:
            contact (NodeContact): the farmer.
            contract (Contract): as both have signed it.
            store_end (int): milliseconds since 1970.

        Returns:
            Contract: complete, signed by both sides.

        Raises:
            NodeError: If the farmer refused, has no such contract, or changed the terms.
            NodeUnreachableError: If it does not answer.
        """
        wanted = dataclasses.replace(
            contract,
            store_end=store_end,
            **self._renter_fields,
        ).signed('renter', self.identity)
        result = await self.calls.call(
            contact,
            'RENEW',
            {
                'renter_id': self.node_id,
                'renter_signature': wanted.renter_signature,
                'contract': wanted.to_json(),
            },
        )
        renewed = _contract(result)
        if (
            renewed.signing_text() != wanted.signing_text()
            or not renewed.verify('renter', self.node_id)
            or not renewed.verify('farmer', contact.node_id)
        ):
            raise NodeError('The farmer returned another contract than was wanted')
        return renewed

    async def retrieve(self, contact: NodeContact, data_hash: str) -> str:
        """Get a farmer token for the download of a shard.

        Raises:
            NodeError: If the farmer refused, e.g. because it does not hold the shard.
            NodeUnreachableError: If it does not answer.
        """
        return _token(await self.calls.call(contact, 'RETRIEVE', {'data_hash': data_hash}))

    async def retrieve_some(self, contact: NodeContact, data_hash: str, count: int) -> list[str]:
        """Get farmer tokens for so many downloads of a shard; see :meth:`retrieve`.

        Returns:
            list[str]: up to `count` tokens; one from a farmer that is none of ours.
        """
        params = {'data_hash': data_hash, 'count': count}
        result = await self.calls.call(contact, 'RETRIEVE', params)
        return _tokens(result, count) or [_token(result)]

    async def audit(
        self, contact: NodeContact, audits: Sequence[tuple[str, str]]
    ) -> list[list[Any]]:
        """Have a farmer prove that it still holds shards.

        Args:
            contact (NodeContact): the farmer.
            audits (Sequence[tuple[str, str]]): shard hash and challenge (64 hex) of each.

        Returns:
            list[list[Any]]: one proof each, in order, as :func:`storj.digest.verify_proof` takes
            them; not verified here.

        Raises:
            NodeError: If the farmer refused, or its answer is malformed.
            NodeUnreachableError: If it does not answer.
        """
        proofs: list[list[Any]] = []
        # Each audit reads a whole shard; a call with too many would run out of time.
        for start in range(0, len(audits), AUDITS_PER_CALL):
            part = audits[start : start + AUDITS_PER_CALL]
            result = await self.calls.call(
                contact,
                'AUDIT',
                {'audits': [{'data_hash': name, 'challenge': text} for name, text in part]},
                timeout=AUDIT_TIMEOUT,
            )
            answers = result.get('proofs')
            if not isinstance(answers, list) or len(answers) != len(part):
                raise NodeError('Invalid proof returned')
            proofs += [_plain_proof(answer) for answer in answers]
        return proofs

    async def mirror(
        self, contact: NodeContact, data_hash: str, token: str, source: NodeContact
    ) -> None:
        """Have a farmer copy a shard from another; it answers when the copy has begun.

        Args:
            contact (NodeContact): the farmer that is to copy; it must have a contract.
            data_hash (str): shard hash.
            token (str): farmer token from :meth:`retrieve` of the source.
            source (NodeContact): the farmer that has the shard.

        Raises:
            NodeError: If the farmer refused.
            NodeUnreachableError: If it does not answer.
        """
        await self.calls.call(
            contact,
            'MIRROR',
            {'data_hash': data_hash, 'token': token, 'farmer': source.to_json()},
        )

    async def consign(self, contact: NodeContact, data_hash: str, audit_tree: Sequence[str]) -> str:
        """Send a farmer the audit leaves of a shard that it has a contract for.

        Returns:
            str: a farmer token for the upload.

        Raises:
            NodeError: If the farmer refused.
            NodeUnreachableError: If it does not answer.
        """
        params = {'data_hash': data_hash, 'audit_tree': list(audit_tree)}
        return _token(await self.calls.call(contact, 'CONSIGN', params))

    async def fetch(
        self,
        contact: NodeContact,
        data_hash: str,
        token: str,
        size: int,
        sink: Callable[[bytes], Awaitable[object]],
    ) -> None:
        """Fetch a shard as a client would; its hash is the caller's to check.

        Args:
            contact (NodeContact): the farmer.
            data_hash (str): shard hash.
            token (str): farmer token from :meth:`retrieve`.
            size (int): bytes that it has.
            sink (Callable[[bytes], Awaitable[object]]): takes the pieces, in order.

        Raises:
            ShardClientError: If the farmer does not give it, or not with this size.
        """
        await self._shards.pull(contact, data_hash, token, size, sink)

    async def _consign_late(
        self, contact: NodeContact, allocation: Allocation, tree: list[str]
    ) -> Allocation:
        """Send the audit leaves by CONSIGN, to a farmer that ignored them in ALLOC."""
        try:
            token = await self.consign(contact, allocation.contract.data_hash, tree)
            return dataclasses.replace(allocation, token=token, auditable=True)
        except NodeError as error:
            # The contract is valid, and so is its token; the shard cannot be audited.
            logger.info('%s takes no audit leaves: %s', contact.node_id, error)
            return allocation


def _contract(result: Mapping[str, Any]) -> Contract:
    try:
        return Contract.from_mapping(result.get('contract'))
    except ContractError as error:
        raise NodeError(str(error)) from error


def _token(result: Mapping[str, Any]) -> str:
    token = result.get('token')
    if not is_hash(token):
        raise NodeError('The farmer returned no token')
    return token


def _tokens(result: Mapping[str, Any], most: int) -> list[str]:
    """Return the tokens of an answer that one of our farmers gives several in."""
    tokens = result.get('tokens')
    if isinstance(tokens, list) and len(tokens) <= most and all(map(is_hash, tokens)):
        return tokens
    return []


def _plain_proof(value: Any, depth: int = 0) -> list[Any]:
    """Return a proof with its hashes as hex text.

    Farmers of generation C may write them as the runtime's buffer object,
    ``{"type": "Buffer", "data": [..]}`` (section 5.5).
    """
    if not isinstance(value, list) or not 1 <= len(value) <= 2 or depth > _PROOF_DEPTH:
        raise NodeError('Invalid proof returned')
    return [
        _plain_proof(item, depth + 1) if isinstance(item, list) else _plain_hash(item)
        for item in value
    ]


def _plain_hash(value: Any) -> str:
    # Core 6.4 and later keeps hashes as binary (generation C).
    if isinstance(value, Mapping) and value.get('type') == 'Buffer':
        data = value.get('data')
        if isinstance(data, list) and all(
            isinstance(byte, int) and 0 <= byte < 256 for byte in data
        ):
            value = bytes(data).hex()
    if not is_hash(value):
        raise NodeError('Invalid proof returned')
    return value
