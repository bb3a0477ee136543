"""Digests of shards: the shard hash, and the audits of its three generations.

Pure: bytes and hex text in and out, nothing of files or sockets.

A client that stores a shard makes up challenges, computes what a farmer that still has the shard
would answer to each of them (the *responses*), and gives the bridge the challenges and the bottom
row of a Merkle tree over the responses (the *leaves*)::

    challenge --+
                +--> response --> leaf --+
    shard ------+                        +--> parent --+
                          sibling leaf --+             +--> root
                                        sibling row  --+

The formulas changed twice over the years (protocol reference, sections 5.3 and 10.6):

==== ===================================== ====================================================
gen  used by                               formulas
==== ===================================== ====================================================
A    core 0.1 to 2.2                       everything over hex text, also between the two hashes
B    core 3.0 to 6.3, all of November 2016 hex text, raw bytes between the two hashes of a node
C    core 6.4 and later, libstorj          raw bytes throughout
==== ===================================== ====================================================
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
import secrets
from binascii import hexlify
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias, TypeGuard

__all__ = (
    'CHALLENGE_SIZE',
    'Buffer',
    'Generation',
    'Proof',
    'ShardDigest',
    'is_hash',
    'is_hex',
    'leaf',
    'make_proof',
    'merkle_rows',
    'new_challenges',
    'padding_leaf',
    'ripemd160',
    'rmd160sha256',
    'shard_hash',
    'verify_proof',
)

#: Bytes in memory. Anything else that has a buffer (``mmap``, ``array``) is wrapped in a
#: ``memoryview`` by the caller.
Buffer: TypeAlias = bytes | bytearray | memoryview

Generation = Literal['A', 'B', 'C']

#: A response in a list of one, or two sides of which one is a proof and the other a sibling's hash.
Proof: TypeAlias = 'list[str] | list[str | Proof]'

#: Bytes of a challenge; on the wire it is twice as many hex digits.
CHALLENGE_SIZE = 32

# Hash objects are fed in pieces that stay in a core's cache while each of them passes over, and
# that bound the hex text of generations A and B to twice as much.
_PIECE = 256 * 1024

_LOWER_HEX = re.compile('[0-9a-f]*')
_ANY_HEX = re.compile('[0-9a-fA-F]*')


def is_hex(value: object, digits: int, *, any_case: bool = False) -> TypeGuard[str]:
    """Return whether a value is a text of so many hex digits.

    Ids have 24 of them, hashes and node ids 40, keys, indices and challenges 64.

    Args:
        value (object): whatever came.
        digits (int): how many.
        any_case (bool): whether capital letters are digits as well.
    """
    pattern = _ANY_HEX if any_case else _LOWER_HEX
    return isinstance(value, str) and len(value) == digits and pattern.fullmatch(value) is not None


def is_hash(value: object) -> TypeGuard[str]:
    """Return whether a value is a hash as it travels: 40 lower-case hex digits."""
    return is_hex(value, 40)


@functools.cache
def _ripemd160() -> Callable[[bytes], Any]:
    """Return the constructor of RIPEMD-160, which OpenSSL 3 may keep in its legacy provider."""
    try:
        hashlib.new('ripemd160', usedforsecurity=False)
    except ValueError:
        # Imported here: an optional way round that most installations never need.
        from Crypto.Hash import RIPEMD160

        return RIPEMD160.new
    return functools.partial(hashlib.new, 'ripemd160', usedforsecurity=False)


def ripemd160(data: bytes) -> bytes:
    """Return the RIPEMD-160 digest of data, 20 bytes, whatever OpenSSL is installed."""
    digest: bytes = _ripemd160()(data).digest()
    return digest


def rmd160sha256(data: Buffer) -> bytes:
    """Return RIPEMD-160 of SHA-256 of data: 20 bytes, the hash of shards, nodes, ids and names.

    Protocol reference, section 5.1.
    """
    return ripemd160(hashlib.sha256(data).digest())


def _text_between(data: bytes) -> bytes:
    """Return RIPEMD-160 of the hex text of SHA-256 of data, the double hash of core below 3.0."""
    return ripemd160(hashlib.sha256(data).hexdigest().encode())


def shard_hash(data: Buffer, generation: Generation = 'C') -> str:
    """Return the name of a shard on the network.

    Args:
        data (Buffer): the shard as stored, that is encrypted.
        generation (str): 'A' for core below 3.0, whose hash differed; the others are alike.

    Returns:
        str: 40 hex digits.
    """
    digest = ShardDigest(generation=generation)
    digest.update(data)
    return digest.hexdigest()


def new_challenges(count: int = 4) -> list[str]:
    """Return challenges for the audits of one shard.

    Args:
        count (int): how many audits the shard can have; libstorj's 4 by default.

    Returns:
        list[str]: 64 hex digits each, from the system's secure source.

    Raises:
        ValueError: If count is not positive.
    """
    if count < 1:
        raise ValueError('a shard needs at least one challenge')
    return [secrets.token_hex(CHALLENGE_SIZE) for _ in range(count)]


class ShardDigest:
    """Shard hash and audit responses of one shard, in one pass over its bytes.

    Args:
        challenges (Sequence[str]): 64 hex digits each; none if only the hash is wanted.
        generation (str): the formulas that the shard's farmer will use, see the module.

    Raises:
        ValueError: If a challenge is malformed or the generation unknown.

    Attributes:
        size (int): bytes so far.
        generation (str): as given.
    """

    def __init__(self, challenges: Sequence[str] = (), generation: Generation = 'C') -> None:
        if generation not in ('A', 'B', 'C'):
            raise ValueError(f'unknown generation of audits: {generation!r}')
        self.size = 0
        self.generation: Generation = generation
        self._hash = hashlib.sha256()
        self._audits = []
        for challenge in challenges:
            if not is_hex(challenge, 64, any_case=True):
                raise ValueError('a challenge is 64 hex digits')
            text = challenge.encode()
            self._audits.append(
                hashlib.sha256(bytes.fromhex(challenge) if generation == 'C' else text)
            )

    def update(self, data: Buffer) -> None:
        """Take the next bytes of the shard; the interpreter's lock is free meanwhile."""
        view = memoryview(data).cast('B')
        self.size += len(view)
        for start in range(0, len(view), _PIECE):
            piece: Buffer = view[start : start + _PIECE]
            self._hash.update(piece)
            # Generations A and B hash two hex digits for each byte of the shard. The borders of
            # pieces do not matter: each byte has two digits of its own.
            if self._audits and self.generation != 'C':
                piece = hexlify(piece)
            for audit in self._audits:
                audit.update(piece)

    def hexdigest(self) -> str:
        """Return the shard hash of the bytes so far, 40 hex digits."""
        if self.generation == 'A':
            return ripemd160(self._hash.hexdigest().encode()).hex()
        return ripemd160(self._hash.digest()).hex()

    def responses(self) -> list[str]:
        """Return what a farmer must answer to each challenge: 40 hex digits, in their order."""
        if self.generation == 'C':
            return [ripemd160(audit.digest()).hex() for audit in self._audits]
        # The quirk of A and B: RIPEMD-160 over the hex text of SHA-256, here and nowhere else in B
        # (protocol reference, section 5.3).
        return [ripemd160(audit.hexdigest().encode()).hex() for audit in self._audits]

    def leaves(self) -> list[str]:
        """Return the bottom row of the audit tree, as the bridge wants it in ``tree``.

        Returns:
            list[str]: a leaf per challenge, then padding leaves up to the next power of two.
        """
        return _padded([leaf(text, self.generation) for text in self.responses()], self.generation)


def _node(texts: Sequence[str], generation: Generation) -> str:
    """Return the hash of hex texts joined, in the way of a generation."""
    # Left before right. B joins hex texts, C their bytes.
    text = ''.join(texts)
    if generation == 'A':
        return _text_between(text.encode()).hex()
    return rmd160sha256(text.encode() if generation == 'B' else bytes.fromhex(text)).hex()


def leaf(response: str, generation: Generation = 'C') -> str:
    """Return the leaf of a response, both 40 hex digits.

    Raises:
        ValueError: If the response is malformed.
    """
    if not is_hash(response):
        raise ValueError('a response is 40 hex digits')
    return _node([response], generation)


def padding_leaf(generation: Generation = 'C') -> str:
    """Return the leaf that fills a bottom row up to a power of two: the hash of nothing."""
    return _node([], generation)


def _padded(leaves: Sequence[str], generation: Generation) -> list[str]:
    missing = (1 << (len(leaves) - 1).bit_length()) - len(leaves) if leaves else 0
    return [*leaves, *[padding_leaf(generation)] * missing]


def merkle_rows(leaves: Sequence[str], generation: Generation = 'C') -> list[list[str]]:
    """Return every row of an audit tree (protocol reference, section 5.4).

    Args:
        leaves (Sequence[str]): the bottom row, 40 hex digits each; padded if need be.
        generation (str): see the module.

    Returns:
        list[list[str]]: the row of the root first, the padded leaves last; their number is the
        ``depth`` of audit records.

    Raises:
        ValueError: If there is no leaf, or a malformed one.
    """
    if not leaves:
        raise ValueError('a tree needs at least one leaf')
    if not all(map(is_hash, leaves)):
        raise ValueError('a leaf is 40 hex digits')
    rows = [_padded(leaves, generation)]
    while len(rows[0]) > 1:
        below = rows[0]
        rows.insert(0, [_node(below[i : i + 2], generation) for i in range(0, len(below), 2)])
    return rows


def make_proof(leaves: Sequence[str], response: str, generation: Generation = 'C') -> Proof:
    """Return a farmer's answer to an audit: the response, and the siblings on its way to the root.

    Args:
        leaves (Sequence[str]): the bottom row that came with the shard's contract.
        response (str): to the challenge, 40 hex digits.
        generation (str): see the module.

    Returns:
        Proof: nested lists as in section 5.5 of the protocol reference.

    Raises:
        ValueError: If the response belongs to none of the leaves.
    """
    rows = merkle_rows(leaves, generation)
    own = leaf(response, generation)
    if own not in rows[-1]:
        raise ValueError('Failed to generate proof')
    # The proof of the third of four leaves, siblings in brackets, is [n01, [[r2], l3]]:
    #
    #                 root
    #               /      \
    #          [n01]        n23
    #          /   \       /   \
    #        l0     l1   l2    [l3]
    #                    |
    #                    r2
    position = rows[-1].index(own)
    proof: Proof = [response]
    for row in rows[:0:-1]:
        left = position % 2 == 0
        proof = [proof, row[position + 1]] if left else [row[position - 1], proof]
        position //= 2
    return proof


def _descend(proof: object) -> Iterator[tuple[str, str]]:
    """Yield ('left' or 'right', sibling) from the root down, at last ('response', response)."""
    while True:
        match proof:
            case [str(response)]:
                yield 'response', response
                return
            case [list() as deeper, str(sibling)]:
                yield 'right', sibling
            case [str(sibling), list() as deeper]:
                yield 'left', sibling
            case _:
                yield 'malformed', ''
                return
        proof = deeper


def verify_proof(proof: object, root: str, depth: int, generation: Generation = 'C') -> bool:
    """Return whether a farmer's answer to an audit shows that it has the shard.

    Args:
        proof (object): the farmer's answer; any other object gives False.
        root (str): of the tree whose leaves the client sent, 40 hex digits.
        depth (int): number of rows of that tree.
        generation (str): see the module.
    """
    way: list[tuple[str, str]] = []
    for step in _descend(proof):
        # A hostile proof may be deeper than the tree: it is read no further than it can be right.
        if len(way) == depth or not is_hash(step[1]):
            return False
        way.append(step)
    if len(way) != depth:
        return False
    node = leaf(way.pop()[1], generation)
    for side, sibling in reversed(way):
        node = _node([sibling, node] if side == 'left' else [node, sibling], generation)
    return hmac.compare_digest(node.encode(), root.encode())
