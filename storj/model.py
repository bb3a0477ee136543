"""Storj model module: the records that travel between the bridge and a program.

Field names are those of the wire (``nodeID``, ``lastSeen``). Every class takes and keeps fields
that it does not document, because bridges gained fields with every release; see
:class:`storj.object.Object` for what all records can do. Numbers and times are brought into one
form on the way in; what cannot be read becomes None, so one damaged entry never ends a listing.
Knows no client: a record that acts (:meth:`Bucket.delete`, :meth:`File.download`) does so through
the client that made it.

Transfers do not pass :class:`ShardManager`; they hash while they read. It cuts a file as
documented, reads it once, and keeps none of it.

Names that only releases 0.2 and 0.3 had are here as well, for programs that import them; what
stands behind them lies in :mod:`storj.crypto` and :mod:`storj.sharding`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from os import PathLike, fspath
from pathlib import Path
from types import GeneratorType
from typing import Any, BinaryIO, ClassVar

from storj import digest, sharding
from storj.crypto import secret_file
from storj.crypto.id_ecdsa import IdecdsaCipher, KeyPair
from storj.crypto.key_file import is_key_file
from storj.crypto.keyring import KeyEntry
from storj.crypto.keyring import Keyring as CoreKeyring
from storj.crypto.keys import ContentKey
from storj.digest import Generation, ShardDigest, merkle_rows, new_challenges
from storj.exception import ConfigurationError, IntegrityError, ShardingException
from storj.object import (
    Field,
    Identifier,
    Integer,
    Object,
    Record,
    Text,
    Time,
    parse_integer,
    parse_text,
)
from storj.system import atomic_file

__all__ = (
    'Bucket',
    'BucketId',
    'Contact',
    'ExchangeReport',
    'File',
    'FileMirrors',
    'FilePointer',
    'Frame',
    'IdecdsaCipher',
    'Key',
    'KeyPair',
    'Keyring',
    'MerkleTree',
    'Mirror',
    'Object',
    'Shard',
    'ShardManager',
    'ShardingException',
    'StorjParametrs',
    'Token',
    'User',
)

# Read at a time; more does not hash faster.
_PIECE = 1024 * 1024


def _given_list(value: Any) -> Any:
    """Return a list of the caller's, copied; what is no list stays as it is."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple | set | GeneratorType) else value


def _entries(value: object) -> list[Any]:
    """Return a field that is a list; anything else that a bridge sends gives an empty one."""
    if not isinstance(value, Iterable) or isinstance(value, str | Mapping):
        return []
    return list(value)


class MerkleTree(Object):
    """Simple Merkle hash tree, its nodes kept as text in rows.

    Row 0 is the root, row 1 its children, and so on. A parent is the hash of its children's two
    texts joined, as in audits of generation B (protocol reference, section 5.3).

    Args:
        leaves (list[str] | generator[str]): leaves of the tree, as hex digests; they are padded
            with the hash of nothing up to a power of two.
        prehashed (bool): False if the leaves are texts that have yet to be hashed.

    Raises:
        ValueError: If there is no leaf, or one that is no text.

    Attributes:
        leaves (list[str]): the bottom row.
        rows (list[list[str]]): all rows, the root's first.
        depth (int): the number of the bottom row; 3 for 8 leaves.
        count (int): the number of nodes that were hashed: those above the leaves, and the leaves
            too unless they were hashed already.
    """

    _identifier = ''

    def __init__(self, leaves: Sequence[str] | Iterator[str], prehashed: bool = True) -> None:
        super().__init__()
        self.prehashed = prehashed
        self.count = 0
        self._rows: list[list[str]] = []
        self.leaves = leaves

    @property
    def leaves(self) -> list[str]:
        """The bottom row; setting it builds the tree again."""
        return self._leaves

    @leaves.setter
    def leaves(self, value: object) -> None:
        if not isinstance(value, list | tuple | GeneratorType):
            raise ValueError('leaves are a list or a generator')
        row = list(value)
        if not row:
            raise ValueError('a tree needs at least one leaf')
        if not all(isinstance(leaf, str) for leaf in row):
            raise ValueError('leaves are texts')
        self._leaves = row if self.prehashed else [ShardManager.hash(leaf) for leaf in row]
        self._generate()

    def _generate(self) -> None:
        """Pad the leaves and build all rows above them."""
        depth = self.depth
        # Padding is the hash of no bytes, up to a power of two (protocol reference, section 5.4).
        self._leaves += [ShardManager.hash('')] * ((1 << depth) - len(self._leaves))
        self._rows = [*([] for _ in range(depth)), self._leaves]
        for level in reversed(range(depth)):
            self._rows[level] = self._make_row(level)
        # As documented: 7 for 8 leaves that were hashed before, 15 for 8 texts.
        self.count = sum(map(len, self._rows[: depth if self.prehashed else depth + 1]))

    def _make_row(self, depth: int) -> list[str]:
        """Return the row above row ``depth + 1``."""
        # Not digest.merkle_rows: this documented class takes any texts, not hashes only.
        below = self._rows[depth + 1]
        return [
            ShardManager.hash(f'{left}{right}')
            for left, right in zip(below[::2], below[1::2], strict=True)
        ]

    @property
    def rows(self) -> list[list[str]]:
        """The levels of the tree, the root's first."""
        return self._rows

    @property
    def depth(self) -> int:
        """The number of levels above the leaves, which is the number of their row."""
        return (len(self._leaves) - 1).bit_length()

    def get_root(self) -> str:
        """Return the root of the tree."""
        return self._rows[0][0]

    def get_level(self, depth: int) -> list[str]:
        """Return the row at the specified depth; the root's is 0.

        Raises:
            IndexError: If the tree has no such row.
        """
        if not 0 <= depth < len(self._rows):
            raise IndexError(f'no row {depth} in a tree of {len(self._rows)}')
        return self._rows[depth]


class Shard(Record):
    """Shard of a file, with what its audits need.

    Programs make it, not the bridge: it keeps what it is given as it is.

    Attributes:
        id (str | None): unique identifier.
        hash (str | None): of the data, 40 hex digits.
        size (int | None): bytes.
        index (int | None): number of the shard in the frame, from zero.
        challenges (list[str]): 64 hex digits each.
        tree (list[str]): leaves of the audit tree, 40 hex digits each; a :class:`MerkleTree` will
            do as well.
        exclude (list[str]): nodeIDs of farmers that must not get it.
        parity (bool | None): whether it is computed and no part of the file.
        generation (str): formulas of the tree, see :mod:`storj.digest`.
    """

    _identifier = 'hash'

    id: Field[str | None] = Field()
    hash: Field[str | None] = Field()
    size: Field[int | None] = Field()
    index: Field[int | None] = Field()
    challenges: Field[list[str]] = Field(_given_list)
    tree: Field[list[str] | MerkleTree] = Field(_given_list)
    exclude: Field[list[str]] = Field(_given_list)
    parity: Field[bool | None] = Field()
    generation: Field[Generation] = Field(default='B')

    def add_challenge(self, challenge: str) -> None:
        """Append a challenge, 64 hex digits."""
        self.challenges.append(challenge)

    def add_tree(self, tree: str) -> None:
        """Append a leaf of the audit tree, 40 hex digits.

        Raises:
            TypeError: If the shard holds a whole :class:`MerkleTree`.
        """
        if isinstance(self.tree, MerkleTree):
            raise TypeError('this shard holds a whole tree; a leaf cannot be added')
        self.tree.append(tree)

    @property
    def leaves(self) -> list[str]:
        """Bottom row of the audit tree, as ``PUT /frames/{id}`` wants it."""
        return self.tree.leaves if isinstance(self.tree, MerkleTree) else self.tree

    def all(self) -> str:
        """Return the shard as one line of text, the challenges of its audits included."""
        tree, challenges = (
            ', '.join(map(str, values)) for values in (self.leaves, self.challenges)
        )
        return (
            f'Shard{{index={self.index}, hash={self.hash}, size={self.size}, '
            f'tree={{{tree}}}, challenges={{{challenges}}}'
        )

    def get_public_record(self) -> dict[str, Any]:
        """Return what the farmer may know: ``hash``, ``size`` and the leaves as ``tree``."""
        return {'hash': self.hash, 'size': self.size, 'tree': list(self.leaves)}

    def get_private_record(self) -> dict[str, Any]:
        """Return what only the auditor may know: ``challenges``, ``root`` and ``depth``.

        Raises:
            ValueError: If the shard has no leaves, or malformed ones.
        """
        rows = (
            self.tree.rows
            if isinstance(self.tree, MerkleTree)
            else merkle_rows(self.tree, self.generation)
        )
        # The depth of an audit record counts rows, that of a tree counts steps (section 5.4).
        return {'challenges': list(self.challenges), 'root': rows[0][0], 'depth': len(rows)}


class ShardManager(Object):
    """Cuts a file into shards, as documented: sizes, hashes, challenges and audit trees.

    The file is read once, in pieces of 1 MiB, whatever its size: when ``shards`` is first asked
    for, or at once where ``tmp_path`` is given.

    Args:
        filepath (str | PathLike): path to the file.
        shard_size (int | None): bytes of every shard but the last; chosen as releases 0.2 and 0.3
            did if None.
        nchallenges (int): audits that each shard can have.
        generation (str): formulas of the audit tree, ``B`` (farmers of November 2016) or ``C``.
        num_chunks (int): into how many shards of one size the file is cut, where no size is given;
            0 leaves the choice to :meth:`determine_shard_size`.
        tmp_path (str | PathLike | None): folder that gets a file for each shard: the name of the
            file with ``-1``, ``-2`` and so on. A file of such a name is replaced. The
            caller removes them.
        suffix (str): what the names of these files end with.
        max_shard_size (int | None): bytes of a shard that is chosen, at most; 4 GiB if None.

    Raises:
        ValueError: If the path is no text or there is no such file, if a number is not positive, or
            the suffix names a folder.
        ShardingException: If the files of the shards cannot be written.
        IntegrityError: If the file changes its size while they are.

    Attributes:
        filepath (str): path to the file; setting it starts again.
        filesize (int): bytes of the file.
        shard_size (int): as given or chosen.
        nchallenges (int): as given.
        index (int): number of shards; none for an empty file.
        num_chunks (int): the same number.
        shards (list[Shard]): in the order of the file.
        tmp_path (str): folder for shards; the platform's for temporary files if none was given.
        suffix (str): as given.
    """

    #: Bytes of the smallest shard that is chosen.
    SHARD_SIZE: ClassVar[int] = sharding.SDK_SHARD_SIZE

    #: Bytes of the largest shard.
    MAX_SHARD_SIZE: ClassVar[int] = sharding.MAX_SHARD_SIZE

    #: Doublings that a shard stays behind its file.
    SHARD_MULTIPLES_BACK: ClassVar[int] = sharding.SDK_BACK

    _identifier = 'filepath'

    def __init__(
        self,
        filepath: str | PathLike[str],
        shard_size: int | None = None,
        nchallenges: int = 12,
        generation: Generation = 'B',
        *,
        num_chunks: int = 0,
        tmp_path: str | PathLike[str] | None = None,
        suffix: str = '',
        max_shard_size: int | None = None,
    ) -> None:
        super().__init__()
        _check_count('nchallenges', nchallenges)
        _check_count('num_chunks', num_chunks, least=0)
        for name, size in (('shard_size', shard_size), ('max_shard_size', max_shard_size)):
            if size is not None:
                _check_count(name, size)
        if generation not in ('A', 'B', 'C'):
            raise ValueError(f'unknown generation of audits: {generation!r}')
        if Path(f'-1{suffix}').name != f'-1{suffix}':
            raise ValueError(f'a suffix is part of a file name, which {suffix!r} cannot be')
        self.nchallenges = nchallenges
        self.generation: Generation = generation
        self.suffix = suffix
        self.max_shard_size = self.MAX_SHARD_SIZE if max_shard_size is None else max_shard_size
        self._given = shard_size, num_chunks
        self.tmp_path = tmp_path
        # Last: setting it reads the file.
        self.filepath = fspath(filepath) if isinstance(filepath, PathLike) else filepath

    @property
    def filepath(self) -> str:
        """Path to the file."""
        return self._filepath

    @filepath.setter
    def filepath(self, value: str) -> None:
        if not isinstance(value, str):
            raise ValueError(f'a path is text, not {type(value).__name__}')
        if not os.path.exists(value):  # noqa: PTH110 - Path raises for some texts
            raise ValueError(f'{value!r} does not exist')
        if not os.path.isfile(value):  # noqa: PTH113
            raise ValueError(f'{value!r} is no file')
        self._filepath = value
        self._filesize = os.path.getsize(value)  # noqa: PTH202
        self._shards: list[Shard] | None = None
        if self._folder is not None:
            self._make_shards()

    @property
    def filesize(self) -> int:
        """Bytes of the file."""
        return self._filesize

    @property
    def tmp_path(self) -> str:
        """Folder for the files of shards; another one counts from the next ``filepath`` on."""
        return tempfile.gettempdir() if self._folder is None else self._folder

    @tmp_path.setter
    def tmp_path(self, value: str | PathLike[str] | None) -> None:
        self._folder = None if value is None else fspath(value)

    @property
    def shard_size(self) -> int:
        """Bytes of every shard but the last; setting it cuts the file again."""
        size, count = self._given
        if size is None:
            # Bytes of the largest of so many equal parts, the last one as much shorter.
            size = -(-self.filesize // count) if count else self.determine_shard_size()
        return size

    @shard_size.setter
    def shard_size(self, value: int) -> None:
        _check_count('shard_size', value)
        self._given = value, 0
        self._shards = None

    @property
    def index(self) -> int:
        """Number of shards for the given file."""
        return -(-self.filesize // self.shard_size) if self.filesize else 0

    @property
    def num_chunks(self) -> int:
        """Number of shards, under the name of release 0.3."""
        return self.index

    def determine_shard_size(self, accumulator: int = 0) -> int:
        """Return the size of shards that releases 0.2 and 0.3 choose for the file, in bytes.

        Args:
            accumulator (int): doublings of 8 MiB up to the size of the file, counted at least.
        """
        # The rule of section 8.2 with base 8 MiB, of the core library up to 6.0.8.
        chosen = sharding.shard_size_for(self.filesize, 'sdk', doublings=accumulator)
        return min(chosen, self.max_shard_size)

    def get_optimal_shard_number(self) -> int:
        """Return into how many shards releases 0.2 and 0.3 cut the file."""
        return int(self.get_optimal_shard_parameters()['shard_count'])

    def get_optimal_shard_parameters(self) -> dict[str, Any]:
        """Return the choice of releases 0.2 and 0.3.

        Returns:
            dict[str, Any]: ``shard_size`` as text, ``shard_count`` and ``file_size`` as numbers.
        """
        return sharding.sdk_parameters(self.filesize, self.determine_shard_size())

    @property
    def shards(self) -> list[Shard]:
        """The shards, hashed on first use.

        Raises:
            IntegrityError: If the file has changed its size meanwhile.
            ShardingException: If the file cannot be read.
        """
        if self._shards is None:
            self._make_shards()
        return self._shards or []

    def _make_shards(self) -> None:
        """Read the file, hash its shards, and write each to its file if there is a folder."""
        try:
            with Path(self._filepath).open('rb') as file:
                shards = [self._shard(file, index) for index in range(self.index)]
                # A file that grows or shrinks meanwhile would give shards that no audit and no
                # reader accepts.
                if file.read(1) or sum(shard.size or 0 for shard in shards) != self.filesize:
                    raise IntegrityError(f'{self._filepath} changed its size while it was read')
        except OSError as error:
            raise ShardingException(
                f'cannot cut {self._filepath} into shards: {error.strerror or error}'
            ) from error
        self._shards = shards

    def _shard(self, file: BinaryIO, index: int) -> Shard:
        """Hash the next shard of the open file, and write it."""
        challenges = self._make_challenges(self.nchallenges)
        made = ShardDigest(challenges, self.generation)
        with self._target(index) as target:
            # Memory is bounded by a piece, not by a shard, which may have 4 GiB.
            while missing := self.shard_size - made.size:
                piece = file.read(min(_PIECE, missing))
                if not piece:
                    break
                made.update(piece)
                if target is not None:
                    target.write(piece)
        return Shard(
            hash=made.hexdigest(),
            size=made.size,
            index=index,
            challenges=challenges,
            tree=made.leaves(),
            generation=self.generation,
        )

    def _target(self, index: int) -> AbstractContextManager[BinaryIO | None]:
        """Return the file that a shard is written to, opened, or None in its place."""
        if self._folder is None:
            return nullcontext()
        name = f'{Path(self._filepath).name}-{index + 1}{self.suffix}'
        # It can be cut again: no need to wait for the disk.
        return atomic_file.opened(Path(self._folder, name), sync=False)

    def _make_challenges(self, challenges: int = 12) -> list[str]:
        """Return new challenges, 64 hex digits each."""
        return new_challenges(challenges)

    @staticmethod
    def hash(data: str | bytes) -> str:
        """Return RIPEMD-160 of SHA-256 of data, 40 hex digits.

        Args:
            data (str | bytes): text is taken as UTF-8.
        """
        raw = data.encode('utf-8') if isinstance(data, str) else data
        return ShardManager._ripemd160(ShardManager._sha256(raw)).hex()

    @staticmethod
    def _sha256(data: str | bytes) -> bytes:
        return _digest('sha256', data)

    @staticmethod
    def _ripemd160(data: str | bytes) -> bytes:
        try:
            return _digest('ripemd160', data)
        except ValueError:
            # OpenSSL 3 may keep it in its legacy provider.
            return digest.ripemd160(data.encode('utf-8') if isinstance(data, str) else data)


def _digest(name: str, data: Any) -> bytes:
    """Return a digest by this module's ``hashlib``, which programs replace in their tests."""
    try:
        made = hashlib.new(name, data)
    except TypeError:
        # Text; one that is replaced has taken it as it was given.
        made = hashlib.new(name, data.encode('utf-8'))
    return made.digest()


def _check_count(name: str, number: object, least: int = 1) -> None:
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f'{name} is a whole number')
    if number < least:
        raise ValueError(f'{name} is at least {least}')


class StorjParametrs(Object):
    """Settings of an upload, under the names of releases 0.2 and 0.3.

    Attributes:
        tmpPath (str | None): folder for temporary files.
    """

    _identifier = ''

    def __init__(self, tmpPath: str | None = None) -> None:
        super().__init__()
        self.tmpPath = tmpPath


# The id under which a single key is stored in its keyring; any would do.
_ID = '0' * 24

# An encrypted key has 2,300 hex digits.
_FILE_LIMIT = 64 * 1024


class Keyring(Object):
    """Random key of one file, as the core client made them (protocol reference, section 6.1).

    Attributes:
        password (str | None): 512 random bytes in hex.
        salt (str | None): 32 random bytes in hex.
    """

    _identifier = ''

    def __init__(self, password: str | None = None, salt: str | None = None) -> None:
        super().__init__()
        self.password = password
        self.salt = salt

    def generate(self) -> None:
        """Make a new key, from the system's secure source, and keep it in this keyring."""
        entry = KeyEntry.generate()
        self.password, self.salt = entry.password, entry.salt

    def get_encryption_key(self, user_pass: str | None = None) -> str:
        """Make a new key, as :meth:`generate`, and return it (releases 0.2 and 0.3).

        Args:
            user_pass (str | None): not used, as in those releases.

        Returns:
            str: the key of AES-256, 64 hex digits.
        """
        self.generate()
        return self.content_key().key.hex()

    def content_key(self) -> ContentKey:
        """Return what a file is encrypted with.

        Raises:
            ValueError: If the keyring holds no key, or a malformed one.
        """
        return self._entry(self.password, self.salt).content_key()

    def export_keyring(
        self, password: str, salt: str, user_pass: str, filepath: str | PathLike[str] = 'storj.key'
    ) -> Path:
        """Write a key into a file that only its owner can read, encrypted with a passphrase.

        The file is a key file (:mod:`storj.crypto.key_file`): scrypt and AES-256-GCM. Releases up
        to 0.3 wrote one of a core client's folder ``key.ring``, which has neither salt nor rounds.

        Args:
            password (str): hex digits, as in ``Keyring.password``.
            salt (str): hex digits, as in ``Keyring.salt``.
            user_pass (str): passphrase.
            filepath (str | PathLike): where to; a file of that name is replaced.

        Returns:
            pathlib.Path: of the file.

        Raises:
            ValueError: If the key is not hex.
            ConfigurationError: If the file cannot be written.
        """
        ring = CoreKeyring(user_pass)
        ring.entries[_ID] = self._entry(password, salt)
        path = Path(filepath)
        ring.save(path)
        return path

    def import_keyring(self, filepath: str | PathLike[str], user_pass: str = '') -> None:
        """Read a key that :meth:`export_keyring`, or the core client, wrote.

        Args:
            filepath (str | PathLike): of the file.
            user_pass (str): passphrase.

        Raises:
            ConfigurationError: If the file cannot be read, or holds something else.
            DecryptionError: If the passphrase is not the right one.
        """
        text = secret_file.read(Path(filepath), _FILE_LIMIT).strip()
        if is_key_file(text):
            ring = CoreKeyring.from_text(text, user_pass)
        else:
            ring = CoreKeyring.from_files({_ID: text}, user_pass)
        entry = ring.entries.get(_ID)
        if entry is None:
            raise ConfigurationError(f'{filepath} does not hold the key of a single file')
        self.password, self.salt = entry.password, entry.salt

    @staticmethod
    def _entry(password: str | None, salt: str | None) -> KeyEntry:
        try:
            if not bytes.fromhex(password or '') or not bytes.fromhex(salt or ''):
                raise ValueError
        except ValueError:
            # Without the cause, which may quote the secret.
            raise ValueError('a key is a password and a salt, each in hex digits') from None
        return KeyEntry(password or '', salt or '')


class BucketId(str):
    """Unique identifier of a bucket: text that equals the record of which only this is known.

    Releases 0.1.5 to 0.3 document :attr:`File.bucket` as the identifier and gave a
    :class:`Bucket`; programs compare it with either, and ask for its ``id``.
    """

    __slots__ = ()

    @property
    def id(self) -> str:
        """The identifier as plain text."""
        return str(self)

    def __eq__(self, other: object) -> bool:
        return Bucket(id=str(self)) == other if isinstance(other, Bucket) else str(self) == other

    def __ne__(self, other: object) -> bool:
        return not self == other

    # Equals that of the text, and of the record.
    __hash__ = str.__hash__


def _bucket_id(value: object) -> BucketId | None:
    """Return the identifier of a bucket, given as text or by the bucket.

    Any other value counts as unknown: bridges may send null, or an object of a later release.
    """
    identifier = value.id if isinstance(value, Bucket) else value
    return BucketId(identifier) if isinstance(identifier, str) else None


def _bucket(value: object) -> Bucket | None:
    """Return a bucket, of which bridges send the id alone."""
    bucket = Bucket(id=value) if isinstance(value, str) else value
    return bucket if isinstance(bucket, Bucket) else None


def _frame(value: Frame | Mapping[str, Any] | str | None) -> Frame | None:
    """Return a file's frame; bridges send its id only."""
    if value is None or isinstance(value, Frame):
        return value
    if isinstance(value, Mapping):
        return Frame(**value)
    return Frame(id=value)


def _file_name(value: Any) -> str | None:
    text: str | None = parse_text(fspath(value) if isinstance(value, PathLike) else value)
    return text


class User(Record):
    """Account at a bridge (protocol reference, section 3.2).

    Attributes:
        email (str | None): the account's name.
        id (str | None): the same again.
        created (datetime.datetime | None): in UTC.
        activated (bool | None): whether the account can be used yet.
    """

    _identifier = 'email'

    email: Text = Text()
    id: Text = Text()
    created: Time = Time()
    activated: Field[bool | None] = Field()


class Key(Record):
    """Public key registered with an account (protocol reference, section 3.3).

    Attributes:
        key (str | None): hex text, compressed (66 digits) or uncompressed (130).
        label (str | None): the user's name for it.
        user (str | None): e-mail of the account.
        id (str | None): the key again.
    """

    _identifier = 'key'

    key: Text = Text()
    label: Text = Text()
    user: Text = Text()
    id: Text = Text()


class _ClearName(Text):
    """Descriptor of a bucket's name: the clear one, where the record's client can read it."""

    def __get__(self, instance: Any, owner: type) -> Any:
        stored = super().__get__(instance, owner)
        if instance is None or not stored or instance._client is None:
            return stored
        return instance._client.bucket_name(stored)


class Bucket(Record):
    """Storage bucket: files grouped under one name, owner and set of permissions.

    Attributes:
        id (str | None): unique identifier, 24 hex digits.
        name (str | None): in the clear, where the client that made this record can read it;
            ``bucket['name']`` is as stored.
        stored_name (str | None): as stored; libstorj and this package encrypt names.
        status (str | None): ``Active`` or ``Inactive``.
        user (str | None): the owner's e-mail.
        created (datetime.datetime | None): in UTC.
        storage (int | None): limit in GB; 0 on every bridge since 1.0.
        transfer (int | None): limit in GB; 0 on every bridge since 1.0.
        pubkeys (list[str] | None): keys that may create tokens without an account.
        publicPermissions (list[str] | None): of ``PUSH`` and ``PULL``, what anybody may do.
        encryptionKey (str | None): the published key of a public bucket.
        index (str | None): as release 0.3 had it; no bridge that is known sends one.
    """

    id: Identifier = Identifier()
    name: _ClearName = _ClearName()
    status: Text = Text()
    user: Text = Text()
    created: Time = Time()
    storage: Integer = Integer()
    transfer: Integer = Integer()
    pubkeys: Field[list[str] | None] = Field()
    publicPermissions: Field[list[str] | None] = Field()
    encryptionKey: Text = Text()
    index: Field[str | None] = Field()

    @property
    def stored_name(self) -> str | None:
        """The name as the bridge has it."""
        name: str | None = vars(self)['name']
        return name

    def delete(self) -> None:
        """Destroy this bucket (``DELETE /buckets/{id}``).

        Raises:
            StorjBridgeApiError: If the bridge refuses.
        """
        self._acting_client().bucket_delete(self.id)


class Contact(Record):
    """Address card of a farmer (protocol reference, section 7.2).

    Attributes:
        address (str | None): hostname or IP address.
        port (int | None): of its data channel.
        nodeID (str | None): unique identifier, 40 hex digits.
        lastSeen (datetime.datetime | None): in UTC.
        protocol (str | None): SemVer protocol tag; major 0 moves shards over WebSocket.
        userAgent (str | None): version of the farmer's program.
        responseTime (float | None): milliseconds.
        timeoutRate (float | None): 0 to 1.
        lastTimeout (datetime.datetime | None): when it last failed to answer, in UTC.
        spaceAvailable (bool | None): whether it takes new shards.
        reputation (float | None): 0 to 5000.
        lastContractSent (datetime.datetime | None): in UTC.
    """

    _identifier = 'nodeID'

    address: Text = Text()
    port: Integer = Integer()
    nodeID: Text = Text()
    lastSeen: Time = Time()
    protocol: Text = Text()
    userAgent: Text = Text()
    responseTime: Field[float | None] = Field()
    timeoutRate: Field[float | None] = Field()
    lastTimeout: Time = Time()
    spaceAvailable: Field[bool | None] = Field()
    reputation: Field[float | None] = Field()
    lastContractSent: Time = Time()


class Frame(Record):
    """File staging frame: the shards of a file while it is uploaded.

    Attributes:
        id (str | None): unique identifier, 24 hex digits.
        created (datetime.datetime | None): in UTC.
        shards (list): pointer ids as bridges since 0.10 send them, or objects of earlier ones.
        locked (bool | None): whether a file uses it.
        user (str | None): the owner's e-mail.
        size (int | None): bytes of its data shards.
        storageSize (int | None): bytes of all its shards.
    """

    id: Identifier = Identifier()
    created: Time = Time()
    shards: Field[list[Any]] = Field(_entries)
    locked: Field[bool | None] = Field()
    user: Text = Text()
    size: Integer = Integer()
    storageSize: Integer = Integer()


class File(Record):
    """File stored in a bucket, or one to be uploaded.

    Attributes:
        bucket (storj.model.BucketId | None): bucket unique identifier.
        hash (str | None): only bridges below 0.7 gave files one.
        mimetype (str | None): ``application/octet-stream`` by default.
        filename (str | None): as stored, often encrypted; of a file to upload, its path.
        size (int | None): bytes of the encrypted file, which is as long as the file.
        id (str | None): unique identifier, 24 hex digits.
        frame (storj.model.Frame | None): made from the text that the bridge sends.
        created (datetime.datetime | None): in UTC.
        hmac (dict[str, str] | None): ``type`` and ``value`` over the shards' hashes.
        erasure (dict[str, str] | None): ``type`` ``reedsolomon`` when there are parity shards.
        index (str | None): 64 hex digits from which the file's key is made.
        shard_manager (storj.model.ShardManager | None): of a file to upload, its shards.
    """

    bucket: Field[BucketId | None] = Field(_bucket_id)
    hash: Text = Text()
    mimetype: Text = Text()
    filename: Field[str | None] = Field(_file_name)
    size: Integer = Integer()
    id: Identifier = Identifier()
    frame: Field[Frame | None] = Field(_frame)
    created: Time = Time()
    hmac: Field[dict[str, str] | None] = Field()
    erasure: Field[dict[str, str] | None] = Field()
    index: Text = Text()
    shard_manager: Field[ShardManager | None] = Field()

    @property
    def content_type(self) -> str | None:
        """The mimetype under its HTTP name."""
        return self.mimetype

    @content_type.setter
    def content_type(self, value: str | None) -> None:
        self.mimetype = value

    @property
    def name(self) -> str | None:
        """The name in the clear, where the client that made this record can read it.

        Otherwise, and for names that are stored in the clear, it is the filename as it stands.
        """
        if self._client is None or not self.bucket or not self.filename:
            return self.filename
        try:
            clear: str = self._client.file_name(self.bucket, self.filename)
        except (TypeError, ValueError):
            # The bridge sent an invalid id of the bucket.
            return self.filename
        return clear

    @name.setter
    def name(self, value: str | None) -> None:
        self.filename = value

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON has it, with the frame as its id and without the shards."""
        fields = super().to_dict()
        fields.pop('shard_manager', None)
        _name_only(fields, 'frame', self.frame)
        return fields

    def download(self, destination: Any = None, **options: Any) -> Any:
        """Fetch and decrypt this file; see :meth:`storj.http.Client.file_download`.

        Args:
            destination (str | PathLike | BinaryIO | None): where to, memory if None.
            **options: of ``Client.file_download``.

        Returns:
            io.BytesIO: when there is no destination.
        """
        return self._acting_client().file_download(self.bucket, self.id, destination, **options)

    def delete(self) -> None:
        """Remove this file (``DELETE /buckets/{id}/files/{file}``)."""
        self._acting_client().file_remove(self.bucket, self.id)


class Token(Record):
    """Right to do one operation on one bucket, once (protocol reference, section 3.5).

    Attributes:
        token (str | None): 64 hex digits, the value of ``x-token``.
        id (str | None): the same value.
        bucket (storj.model.Bucket | None): the bucket, of which the bridge sends the id;
            ``token['bucket']`` is the id.
        operation (str | None): ``PUSH`` or ``PULL``.
        expires (datetime.datetime | None): in UTC.
        encryptionKey (str | None): the published key of a public bucket.
    """

    _identifier = 'token'

    token: Text = Text()
    bucket: Field[Bucket | None] = Field(_bucket)
    operation: Text = Text()
    expires: Time = Time()
    encryptionKey: Text = Text()

    def __init__(
        self,
        /,
        token: str | None = None,
        bucket: Bucket | str | None = None,
        operation: str | None = None,
        expires: object = None,
        encryptionKey: str | None = None,
        id: str | None = None,
        **extra: Any,
    ) -> None:
        # Bridges send the value under both names (protocol reference, section 3.5).
        value = id if token is None else token
        super().__init__(value, bucket, operation, expires, encryptionKey, **extra)

    @property
    def id(self) -> str | None:
        """The token's value, under the name that the documentation gives it."""
        return self.token

    @id.setter
    def id(self, value: str | None) -> None:
        self.token = value

    @property
    def bucket_id(self) -> str | None:
        """Unique identifier of the bucket."""
        return None if self.bucket is None else self.bucket.id

    @bucket_id.setter
    def bucket_id(self, value: str | None) -> None:
        self.bucket = value

    def to_dict(self) -> dict[str, Any]:
        """Return the token as the bridge sent it, its value twice."""
        fields = super().to_dict()
        _name_only(fields, 'bucket', self.bucket)
        return fields if self.token is None else {**fields, 'id': self.token}


def _name_only(fields: dict[str, Any], name: str, record: Frame | Bucket | None) -> None:
    """Replace a record in what is made into JSON by its id; leave it out if it has none."""
    if record is None or record.id is None:
        fields.pop(name, None)
    else:
        fields[name] = record.id


class _Entry(Field[Any]):
    """Field that is an entry of a dict; where there is none, it is None."""

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else instance.get(self._name)

    def __set__(self, instance: Any, value: Any) -> None:
        parsed = self.parse(value)
        if parsed is None:
            instance.pop(self._name, None)
        else:
            instance[self._name] = parsed


def _token_text(value: object) -> str | None:
    text = value.id if isinstance(value, Token) else value
    return text if isinstance(text, str) else None


class _TokenEntry(_Entry):
    """Entry that is text, and as an attribute a :class:`Token` around it."""

    def __init__(self) -> None:
        super().__init__(_token_text)

    def __get__(self, instance: Any, owner: type) -> Any:
        text = super().__get__(instance, owner)
        return text if instance is None or text is None else Token(text)


class FilePointer(dict[str, Any], Object):  # type: ignore[misc]
    """Where one shard of a file is, and what its farmer has to be sent.

    A dict as the bridge sent it, as in 0.3, whose entries are attributes as well, as in 0.1.5. But
    ``pointer['token']`` is the text that the farmer wants, ``pointer.token`` a record around it.

    Attributes:
        hash (str | None): shard hash, 40 hex digits.
        token (storj.model.Token | None): of the farmer; None when no farmer has the shard now.
        operation (str | None): ``PULL`` or ``PUSH``.
        channel (str | None): ``ws://host:port``; bridges below 0.7 only.
        farmer (dict[str, Any] | None): ``address``, ``port``, ``nodeID``, ``protocol``, ...
        size (int | None): bytes of the shard.
        index (int | None): number of the shard in its file; bridges since 5.11.
        parity (bool | None): whether the shard is computed and no part of the file.
    """

    _identifier = 'hash'

    hash: _Entry = _Entry(parse_text)
    token: _TokenEntry = _TokenEntry()
    operation: _Entry = _Entry(parse_text)
    channel: _Entry = _Entry(parse_text)
    farmer: _Entry = _Entry()
    size: _Entry = _Entry(parse_integer)
    index: _Entry = _Entry(parse_integer)
    parity: _Entry = _Entry()

    def __getattr__(self, name: str) -> Any:
        # As in storj.object.Record: what bridges send besides.
        if not name.startswith('_') and name in self:
            return self[name]
        raise AttributeError(f'{type(self).__name__!r} object has no attribute {name!r}')

    def _values(self) -> dict[str, Any]:
        return self

    def _keep(self, fields: dict[str, Any], extra: dict[str, Any]) -> None:
        self.update({name: value for name, value in fields.items() if value is not None}, **extra)

    # Equality is that of a dict; the rest is that of all records.
    __init__ = Object.__init__
    __hash__ = Object.__hash__  # type: ignore[assignment]
    __repr__ = Object.__repr__


class Mirror(Record):
    """Replicas of a file or of one of its shards (protocol reference, section 3.7).

    Attributes:
        hash (str | None): shard hash.
        mirrors (int | None): number of replicas; of a whole file, of its worst shard.
        status (str | None): ``pending`` or ``established``.
        shards (list[storj.model.Mirror]): of a whole file, one per shard.
        contacts (list[storj.model.Contact]): the farmers that took a replica, where the bridge
            says so.
    """

    _identifier = 'hash'

    hash: Text = Text()
    mirrors: Integer = Integer()
    status: Text = Text()
    shards: Field[list[Mirror]] = Field(_entries)
    contacts: Field[list[Contact]] = Field(_entries)

    @classmethod
    def from_answer(cls, answer: object) -> Mirror:
        """Read any of the answers that bridges 0.10 to 3.2 gave, and the documented one.

        Args:
            answer (object): one object, or per shard an object or a list of contacts.

        Raises:
            TypeError: If it is none of these.
        """
        if isinstance(answer, Mapping):
            # Bridges 0.10 and 0.11 list the contacts where later ones say how many.
            if isinstance(answer.get('mirrors'), list):
                rest = {name: v for name, v in answer.items() if name != 'mirrors'}
                return cls._of_contacts(answer['mirrors'], **rest)
            return cls(**answer)
        if isinstance(answer, list):
            shards = [
                cls._of_contacts(shard) if isinstance(shard, list) else cls.from_answer(shard)
                for shard in answer
            ]
            return cls(
                mirrors=min((shard.mirrors or 0 for shard in shards), default=0),
                status=shards[0].status if shards else None,
                shards=shards,
            )
        raise TypeError(f'not an answer about mirrors: {type(answer).__name__}')

    @classmethod
    def _of_contacts(cls, contacts: list[Any], **fields: Any) -> Mirror:
        known = [Contact(**contact) for contact in contacts if isinstance(contact, Mapping)]
        return cls(**{'status': 'established', **fields, 'mirrors': len(known), 'contacts': known})


class FileMirrors(Record):
    """Replicas of one shard (``GET /buckets/{id}/files/{file}/mirrors``).

    Attributes:
        available (list[dict[str, Any]]): farmers that offered to hold the shard; empty since
            bridge 5.23.
        established (list[dict[str, Any]]): farmers that do: ``shardHash``, ``contact`` and
            ``contract``, or since bridge 5.23 the contract alone.
    """

    _identifier = ''

    available: Field[list[dict[str, Any]]] = Field(_entries)
    established: Field[list[dict[str, Any]]] = Field(_entries)


class ExchangeReport(Record):
    """Note to the bridge about one transfer (``POST /reports/exchanges``).

    Attributes:
        dataHash (str | None): shard hash, 40 hex digits.
        reporterId (str | None): who reports; the client's e-mail if left out.
        farmerId (str | None): ``nodeID`` of the farmer.
        clientId (str | None): the client's e-mail or public key.
        exchangeStart (datetime.datetime | None): in UTC; set it as milliseconds if that is easier.
        exchangeEnd (datetime.datetime | None): likewise.
        exchangeResultCode (int | None): ``SUCCESS`` or ``FAILURE``.
        exchangeResultMessage (str | None): one of the texts below.
        token (str | None): of the farmer, as the transfer used it. The bridges of this package
            take a client's report for true only with it; others overlook it.
    """

    SUCCESS: ClassVar[int] = 1000
    FAILURE: ClassVar[int] = 1100

    SHARD_UPLOADED: ClassVar[str] = 'SHARD_UPLOADED'
    SHARD_DOWNLOADED: ClassVar[str] = 'SHARD_DOWNLOADED'
    TRANSFER_FAILED: ClassVar[str] = 'TRANSFER_FAILED'
    DOWNLOAD_ERROR: ClassVar[str] = 'DOWNLOAD_ERROR'
    FAILED_INTEGRITY: ClassVar[str] = 'FAILED_INTEGRITY'

    # The same texts, under the names of releases 0.2 and 0.3.
    STORJ_REPORT_UPLOAD_ERROR: ClassVar[str] = TRANSFER_FAILED
    STORJ_REPORT_SHARD_UPLOADED: ClassVar[str] = SHARD_UPLOADED
    STORJ_REPORT_DOWNLOAD_ERROR: ClassVar[str] = DOWNLOAD_ERROR
    STORJ_REPORT_SHARD_DOWNLOADED: ClassVar[str] = SHARD_DOWNLOADED

    _identifier = 'dataHash'

    dataHash: Field[str | None] = Field()
    reporterId: Field[str | None] = Field()
    farmerId: Field[str | None] = Field()
    clientId: Field[str | None] = Field()
    exchangeStart: Time = Time()
    exchangeEnd: Time = Time()
    exchangeResultCode: Integer = Integer()
    exchangeResultMessage: Field[str | None] = Field()
    token: Field[str | None] = Field()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as the bridge wants it, with times in milliseconds."""
        fields = super().to_dict()
        for name in ('exchangeStart', 'exchangeEnd'):
            moment = getattr(self, name)
            if moment is not None:
                # Bridges take either form; the clients of the time sent milliseconds (section 9).
                fields[name] = round(moment.timestamp() * 1000)
        return fields
