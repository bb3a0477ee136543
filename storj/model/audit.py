"""Shards as a program of the 0.1.5 era makes them: with challenges and an audit tree.

The transfers of this package do not pass here; they hash while they read. :class:`ShardManager`
cuts a file as documented, reads it once, and keeps none of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike, fspath
from pathlib import Path
from types import GeneratorType
from typing import Any, BinaryIO

from storj.digest import Generation, ShardDigest, merkle_rows, new_challenges, rmd160sha256
from storj.exception import IntegrityError
from storj.object import Integer, Object

# Read at a time; more does not hash faster.
_PIECE = 1024 * 1024


def _hash_text(text: str) -> str:
    return rmd160sha256(text.encode('utf-8')).hex()


class MerkleTree(Object):
    """Simple Merkle hash tree, its nodes kept as text in rows.

    Row 0 is the root, row 1 its children, and so on. A parent is the hash of its children's two
    texts joined, as in audits of generation B (protocol reference, section 5.3).

    Args:
        leaves (list[str] | generator[str]): leaves of the tree, as hex digests; they are padded
            with the hash of nothing up to a power of two.
        prehashed (bool): False if the leaves are texts that have yet to be hashed.

    Raises:
        ValueError: if there is no leaf, or one that is no text.

    Attributes:
        leaves (list[str]): the bottom row.
        rows (list[list[str]]): all rows, the root's first.
        depth (int): the number of rows.
        count (int): the number of nodes.
    """

    def __init__(self, leaves: Sequence[str] | Iterator[str], prehashed: bool = True) -> None:
        super().__init__()
        self.prehashed = prehashed
        self.leaves = leaves

    @property
    def leaves(self) -> list[str]:
        """The bottom row; setting it builds the tree anew."""
        return self.rows[-1]

    @leaves.setter
    def leaves(self, value: object) -> None:
        if not isinstance(value, list | tuple | GeneratorType):
            raise ValueError('leaves are a list or a generator')
        row = list(value)
        if not row:
            raise ValueError('a tree needs at least one leaf')
        if not all(isinstance(leaf, str) for leaf in row):
            raise ValueError('leaves are texts')
        if not self.prehashed:
            row = [_hash_text(leaf) for leaf in row]
        row += [_hash_text('')] * ((1 << (len(row) - 1).bit_length()) - len(row))
        # Not digest.merkle_rows: this documented class takes any texts, not hashes only.
        rows = [row]
        while len(row) > 1:
            row = [
                _hash_text(left + right) for left, right in zip(row[::2], row[1::2], strict=True)
            ]
            rows.insert(0, row)
        self.rows: list[list[str]] = rows

    @property
    def depth(self) -> int:
        """The number of levels in the tree."""
        return len(self.rows)

    @property
    def count(self) -> int:
        """The number of nodes in the tree."""
        return sum(map(len, self.rows))

    def get_root(self) -> str:
        """Return the root of the tree."""
        return self.rows[0][0]

    def get_level(self, depth: int) -> list[str]:
        """Return the row at the specified depth; the root's is 0.

        Raises:
            IndexError: if the tree has no such row.
        """
        if not 0 <= depth < self.depth:
            raise IndexError(f'no row {depth} in a tree of {self.depth}')
        return self.rows[depth]


class Shard(Object):
    """Shard of a file, with what its audits need.

    Attributes:
        id (str | None): unique identifier.
        hash (str | None): of the data, 40 hex digits.
        size (int | None): bytes.
        index (int | None): number of the shard in the frame, from zero.
        challenges (list[str]): 64 hex digits each.
        tree (list[str]): leaves of the audit tree, 40 hex digits each; a :class:`MerkleTree` will
            do as well.
        exclude (list[str]): nodeIDs of farmers that shall not get it.
        parity (bool | None): whether it is computed and no part of the file.
        generation (str): formulas of the tree, see :mod:`storj.digest`.
    """

    size = Integer()
    index = Integer()

    def __init__(
        self,
        /,
        id: str | None = None,
        hash: str | None = None,
        size: int | None = None,
        index: int | None = None,
        challenges: Iterable[str] | None = None,
        tree: Iterable[str] | MerkleTree | None = None,
        exclude: Iterable[str] | None = None,
        parity: bool | None = None,
        generation: Generation = 'B',
        **extra: Any,
    ) -> None:
        super().__init__(extra)
        self.id = id
        self.hash = hash
        self.size = size
        self.index = index
        self.challenges = list(challenges or ())
        self.tree: list[str] | MerkleTree = (
            tree if isinstance(tree, MerkleTree) else list(tree or ())
        )
        self.exclude = list(exclude or ())
        self.parity = parity
        self.generation: Generation = generation

    def add_challenge(self, challenge: str) -> None:
        """Append a challenge, 64 hex digits."""
        self.challenges.append(challenge)

    def add_tree(self, tree: str) -> None:
        """Append a leaf of the audit tree, 40 hex digits.

        Raises:
            TypeError: if the shard holds a whole :class:`MerkleTree`.
        """
        if isinstance(self.tree, MerkleTree):
            raise TypeError('this shard holds a whole tree; a leaf cannot be added')
        self.tree.append(tree)

    @property
    def leaves(self) -> list[str]:
        """Bottom row of the audit tree, as ``PUT /frames/{id}`` wants it."""
        return self.tree.leaves if isinstance(self.tree, MerkleTree) else self.tree

    def all(self) -> str:
        """Return the shard with both of its audit records, as JSON text."""
        return json.dumps(
            {
                'hash': self.hash,
                'size': self.size,
                'index': self.index,
                'public': self.get_public_record(),
                'private': self.get_private_record(),
            }
        )

    def get_public_record(self) -> dict[str, Any]:
        """Return what the farmer may know: ``hash``, ``size`` and the leaves as ``tree``."""
        return {'hash': self.hash, 'size': self.size, 'tree': list(self.leaves)}

    def get_private_record(self) -> dict[str, Any]:
        """Return what only the auditor may know: ``challenges``, ``root`` and ``depth``.

        Raises:
            ValueError: if the shard has no leaves, or malformed ones.
        """
        rows = (
            self.tree.rows
            if isinstance(self.tree, MerkleTree)
            else merkle_rows(self.tree, self.generation)
        )
        return {'challenges': list(self.challenges), 'root': rows[0][0], 'depth': len(rows)}


class ShardManager(Object):
    """Cuts a file into shards, as documented: sizes, hashes, challenges and audit trees.

    The file is read when ``shards`` is first asked for, in pieces of 1 MiB, whatever its size.

    Args:
        filepath (str | PathLike): path to the file.
        shard_size (int): bytes of every shard but the last.
        nchallenges (int): audits that each shard can have.
        generation (str): formulas of the audit tree, ``B`` (farmers of November 2016) or ``C``.

    Raises:
        ValueError: if a number is not positive.
        OSError: if there is no such file.

    Attributes:
        filepath (str): path to the file; setting it starts anew.
        shard_size (int): as given.
        nchallenges (int): as given.
        index (int): number of shards; none for an empty file.
        shards (list[Shard]): in the order of the file.
    """

    def __init__(
        self,
        filepath: str | PathLike[str],
        shard_size: int,
        nchallenges: int = 12,
        generation: Generation = 'B',
    ) -> None:
        super().__init__()
        for name, number in (('shard_size', shard_size), ('nchallenges', nchallenges)):
            if not isinstance(number, int) or isinstance(number, bool):
                raise TypeError(f'{name} is a whole number')
            if number < 1:
                raise ValueError(f'{name} is at least 1')
        if generation not in ('A', 'B', 'C'):
            raise ValueError(f'unknown generation of audits: {generation!r}')
        self.shard_size = shard_size
        self.nchallenges = nchallenges
        self.generation: Generation = generation
        self.filepath = fspath(filepath)

    @property
    def filepath(self) -> str:
        """Path to the file."""
        return self._filepath

    @filepath.setter
    def filepath(self, value: str | PathLike[str]) -> None:
        self._filepath = fspath(value)
        self._size = Path(self._filepath).stat().st_size
        self._shards: list[Shard] | None = None

    @property
    def index(self) -> int:
        """Number of shards for the given file."""
        return -(-self._size // self.shard_size)

    @property
    def shards(self) -> list[Shard]:
        """The shards, hashed on first use.

        Raises:
            IntegrityError: if the file has changed its size meanwhile.
        """
        if self._shards is None:
            with Path(self._filepath).open('rb') as file:
                shards = [self._shard(file, index) for index in range(self.index)]
                if file.read(1) or sum(shard.size or 0 for shard in shards) != self._size:
                    raise IntegrityError(f'{self._filepath} changed its size while it was read')
            self._shards = shards
        return self._shards

    def _shard(self, file: BinaryIO, index: int) -> Shard:
        """Hash the next shard of the open file."""
        challenges = new_challenges(self.nchallenges)
        digest = ShardDigest(challenges, self.generation)
        while missing := self.shard_size - digest.size:
            piece = file.read(min(_PIECE, missing))
            if not piece:
                break
            digest.update(piece)
        return Shard(
            hash=digest.hexdigest(),
            size=digest.size,
            index=index,
            challenges=challenges,
            tree=digest.leaves(),
            generation=self.generation,
        )

    @staticmethod
    def hash(data: str | bytes) -> str:
        """Return RIPEMD-160 of SHA-256 of data, 40 hex digits.

        Args:
            data (str | bytes): text is taken as UTF-8.
        """
        return rmd160sha256(data.encode('utf-8') if isinstance(data, str) else data).hex()
