"""Where a farmer keeps its shards, and what it knows about them.

::

    PATH/
      shards/ab/abcdef...          one file per shard, named by its hash
      incoming/abcdef....<random>  a shard that is still arriving; removed at the next start
      farmer.db                    contracts, audit leaves and tokens (SQLite)

A shard exists if and only if its file stands under its final name: it is written under a temporary
one and renamed once its hash is right. The store knows bytes, sizes and hashes; who may bring and
fetch them is decided elsewhere.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from storj import atomic_file
from storj.digest import ripemd160
from storj.exception import NetworkSetupError, StorjError
from storj.network.node.contract import Contract, ContractError
from storj.network.node.identity import is_node_id

__all__ = (
    'FREE_SPACE_KEPT',
    'FarmerIndex',
    'FarmerToken',
    'NoSpaceLeftError',
    'NullStore',
    'ShardStore',
    'ShardWriter',
    'StoreError',
)

logger = logging.getLogger(__name__)

#: Bytes of the file system that a farmer leaves to others (protocol reference, section 8.1).
FREE_SPACE_KEPT = 262144000
#: Contracts that are forgotten in one go.
SWEPT = 256


class StoreError(StorjError):
    """A shard cannot be read or written.

    Check the disk under the farmer's path.
    """


class NoSpaceLeftError(StoreError):
    """The farmer's size, or the disk under it, is used up.

    Give the farmer a larger size, or start another one.
    """


class ShardStore:
    """Shards as files in a folder, up to a size.

    Methods are called from one thread, except those of the writers and readers it hands out.

    Args:
        path (Path): folder of the farmer; made when missing.
        capacity (int | None): bytes that may be stored; None for as much as the disk holds.
        durable (bool): flush each shard to the disk before it counts as stored, so that it
            survives a power failure and not only the end of the process.
        keep_free (int): bytes to leave free on the file system.

    Attributes:
        used (int): bytes stored.
        checks_hashes (bool): whether a shard must have the hash that it is named by.

    Raises:
        NetworkSetupError: the folder cannot be made or read.
    """

    checks_hashes = True

    def __init__(
        self,
        path: Path,
        capacity: int | None = None,
        *,
        durable: bool = False,
        keep_free: int = FREE_SPACE_KEPT,
    ) -> None:
        self.capacity = capacity
        self.used = 0
        self._arriving = 0
        self._durable = durable
        self._keep_free = keep_free
        self._shards = path / 'shards'
        self._incoming = path / 'incoming'
        self._sizes: dict[str, int] = {}
        try:
            for folder in (path, self._shards, self._incoming):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for leftover in self._incoming.iterdir():
                leftover.unlink()
            for file in self._shards.glob('[0-9a-f][0-9a-f]/*'):
                if is_node_id(file.name):
                    self._add(file.name, file.stat().st_size)
        except OSError as error:
            raise NetworkSetupError(f'{path}: cannot store shards here: {error}') from error

    def __contains__(self, data_hash: object) -> bool:
        return data_hash in self._sizes

    def __len__(self) -> int:
        return len(self._sizes)

    def size_of(self, data_hash: str) -> int:
        """Return the bytes of a stored shard."""
        return self._sizes[data_hash]

    def hashes(self) -> list[str]:
        """Return the hashes of all stored shards."""
        return list(self._sizes)

    def has_room(self, size: int, *, promised: int = 0) -> bool:
        """Tell whether `size` bytes more can be stored.

        Args:
            size (int): bytes.
            promised (int): bytes that contracts speak of and that have not begun to arrive.
        """
        taken = self.used + self._arriving + promised
        if self.capacity is not None and taken + size > self.capacity:
            return False
        return self._disk_free() - self._arriving - size > self._keep_free

    def writer(self, data_hash: str, size: int) -> ShardWriter:
        """Begin to store a shard.

        Args:
            data_hash (str): 40 hex characters.
            size (int): bytes it will have.

        Raises:
            NoSpaceLeftError: it does not fit.
            StoreError: the disk refuses.
        """
        _check_hash(data_hash)
        if not self.has_room(size):
            raise NoSpaceLeftError('No space left')
        try:
            file = self._create(data_hash)
        except OSError as error:
            raise StoreError(f'Cannot write: {error.strerror}') from error
        self._arriving += size
        return ShardWriter(self, file, data_hash, size)

    def reader(self, data_hash: str) -> BinaryIO:
        """Open a stored shard.

        Raises:
            StoreError: it is not there, or the disk refuses.
        """
        _check_hash(data_hash)
        try:
            return self._file(data_hash).open('rb', buffering=0)
        except OSError as error:
            raise StoreError(f'Cannot read: {error.strerror}') from error

    def delete(self, data_hash: str) -> None:
        """Remove a shard; nothing happens if it is not there.

        Raises:
            StoreError: the disk refuses.
        """
        _check_hash(data_hash)
        try:
            self._remove(data_hash)
        except OSError as error:
            raise StoreError(f'Cannot remove: {error.strerror}') from error
        self.used -= self._sizes.pop(data_hash, 0)

    # What differs between a store of files and one that keeps nothing.

    def _disk_free(self) -> int:
        try:
            return shutil.disk_usage(self._shards).free
        except OSError as error:
            raise StoreError('Unable to determine free space') from error

    def _create(self, data_hash: str) -> tuple[BinaryIO, Path | None]:
        path = self._incoming / f'{data_hash}.{secrets.token_hex(8)}'
        return path.open('xb', buffering=0), path

    def _keep(self, file: BinaryIO, path: Path | None, data_hash: str) -> None:
        """Make a written file the shard of its hash; called in a worker thread."""
        if path is None:
            raise StoreError('a shard without a file')
        if self._durable:
            os.fsync(file.fileno())
        file.close()
        final = self._file(data_hash)
        final.parent.mkdir(mode=0o700, exist_ok=True)
        atomic_file.replace(path, final, sync=self._durable)
        if self._durable:
            # The folder of the first digits may be new.
            atomic_file.sync_folder(self._shards)

    def _remove(self, data_hash: str) -> None:
        self._file(data_hash).unlink(missing_ok=True)

    def _file(self, data_hash: str) -> Path:
        return self._shards / data_hash[:2] / data_hash

    # Called back by writers, in the thread of the store.

    def _add(self, data_hash: str, size: int) -> None:
        self.used += size - self._sizes.get(data_hash, 0)
        self._sizes[data_hash] = size

    def _release(self, size: int) -> None:
        self._arriving -= size


class NullStore(ShardStore):
    """A store that counts bytes and throws them away, without a look at them.

    For benchmarks of uploads: what is measured is the way to the farmer without what the farmer
    does. A shard counts as stored, so that a second upload of it is refused as one; reading it is
    an error. It is empty again after a restart.
    """

    checks_hashes = False

    def reader(self, data_hash: str) -> BinaryIO:
        """Refuse: there is nothing to read."""
        raise StoreError('This farmer keeps no data')

    def _disk_free(self) -> int:
        return 1 << 62

    def _create(self, data_hash: str) -> tuple[BinaryIO, Path | None]:
        return _Void(), None

    def _keep(self, file: BinaryIO, path: Path | None, data_hash: str) -> None:
        file.close()

    def _remove(self, data_hash: str) -> None:
        pass


class _Void(io.BytesIO):
    """A file that takes everything and keeps nothing."""

    def write(self, data: object, /) -> int:
        return len(memoryview(data))  # type: ignore[arg-type]


class ShardWriter:
    """A shard that is arriving.

    :meth:`write` and :meth:`finish` block and may be called in a worker thread, one after the
    other; :meth:`close` belongs to the thread of the store. A lock makes it wait for a write that
    is still under way when its transfer is cancelled.

    Attributes:
        received (int): bytes written so far.
    """

    def __init__(
        self,
        store: ShardStore,
        opened: tuple[BinaryIO, Path | None],
        data_hash: str,
        size: int,
    ) -> None:
        self._store = store
        self._file, self._path = opened
        self._hash = data_hash
        self._size = size
        self._sha256 = hashlib.sha256()
        self._lock = threading.Lock()
        self._done = False
        self._kept = False
        self.received = 0

    def write(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        """Append pieces of the shard.

        Raises:
            StoreError: the disk refuses, or the writer was closed meanwhile.
        """
        with self._lock:
            if self._done:
                raise StoreError('The shard is no longer being written')
            try:
                for piece in pieces:
                    if self._store.checks_hashes:
                        self._sha256.update(piece)
                    view = memoryview(piece)
                    while view:
                        view = view[self._file.write(view) :]
                    self.received += len(piece)
            except OSError as error:
                raise StoreError(f'Cannot write: {error.strerror}') from error

    def finish(self, pieces: Sequence[bytes | bytearray | memoryview] = ()) -> bool:
        """Append the last pieces, and keep the shard if its hash is the one expected.

        Returns:
            bool: whether the hash was right; or the size, in a store that does not look.

        Raises:
            StoreError: the disk refuses.
        """
        self.write(pieces)
        with self._lock:
            if self._done or not self._is_right():
                return False
            try:
                self._store._keep(self._file, self._path, self._hash)
            except OSError as error:
                raise StoreError(f'Cannot write: {error.strerror}') from error
            self._kept = True
            return True

    def _is_right(self) -> bool:
        if not self._store.checks_hashes:
            return self.received == self._size
        return ripemd160(self._sha256.digest()).hex() == self._hash

    def close(self) -> None:
        """Count a finished shard as stored, throw away any other; may be called twice."""
        with self._lock:
            if self._done:
                return
            self._done = True
        self._file.close()
        self._store._release(self._size)
        if self._kept:
            self._store._add(self._hash, self.received)
        elif self._path is not None:
            self._path.unlink(missing_ok=True)


@dataclass
class FarmerToken:
    """A token that a farmer issued for one shard and one transfer.

    Attributes:
        token (str): 40 hex characters.
        data_hash (str): the shard it is for.
        owner (str): of the contract that it belongs to.
        expires (float): seconds since 1970.
        busy (bool): a WebSocket transfer has begun with it.
    """

    token: str
    data_hash: str
    owner: str
    expires: float
    busy: bool = False

    def __repr__(self) -> str:
        return f'FarmerToken(data_hash={self.data_hash!r}, busy={self.busy!r})'


_SCHEMA = """
CREATE TABLE IF NOT EXISTS contracts (
    data_hash TEXT NOT NULL,
    owner TEXT NOT NULL,
    data_size INTEGER NOT NULL,
    store_end INTEGER NOT NULL,
    contract TEXT NOT NULL,
    tree TEXT,
    PRIMARY KEY (data_hash, owner)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tokens (
    token TEXT PRIMARY KEY,
    data_hash TEXT NOT NULL,
    owner TEXT NOT NULL,
    expires REAL NOT NULL,
    busy INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS contracts_by_end ON contracts (store_end);
CREATE INDEX IF NOT EXISTS tokens_by_end ON tokens (expires);
CREATE TABLE IF NOT EXISTS counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
"""


class FarmerIndex:
    """What a farmer has promised: contracts, audit leaves, tokens; and what it has counted.

    Used from one thread. Each change is committed at once. A full disk makes any method raise
    :class:`StoreError`.

    Args:
        path (Path): the SQLite file.
        clock (Callable[[], float]): seconds since 1970.

    Raises:
        NetworkSetupError: the file cannot be opened or is none of ours.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._clock = clock
        try:
            # Tokens lie in it, so it is readable by its owner only.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                # A commit must survive the process, not a power failure: bridges ask again.
                self._db.execute('PRAGMA journal_mode=WAL')
                self._db.execute('PRAGMA synchronous=NORMAL')
                self._db.executescript(_SCHEMA)
            except sqlite3.Error:
                self._db.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise NetworkSetupError(f'{path}: cannot open the farmer index: {error}') from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _run(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise StoreError(f'The index is out of order: {error}') from error

    def put_contract(self, contract: Contract, owner: str, tree: Sequence[str] | None) -> None:
        """Keep a contract and, if given, the audit leaves that belong to it.

        Args:
            contract (Contract): signed by both sides; an older one of the owner is replaced.
            owner (str): node id of the renter node, or the extended public key of its bridge.
            tree (Sequence[str] | None): bottom row of the audit tree.
        """
        self._run(
            'INSERT INTO contracts VALUES (?, ?, ?, ?, ?, ?)'
            ' ON CONFLICT (data_hash, owner) DO UPDATE SET data_size = excluded.data_size,'
            ' store_end = excluded.store_end, contract = excluded.contract,'
            ' tree = coalesce(excluded.tree, tree)',
            (
                contract.data_hash,
                owner,
                contract.data_size,
                contract.store_end,
                json.dumps(contract.to_json()),
                None if tree is None else json.dumps(list(tree)),
            ),
        )

    def contract(self, data_hash: str, owner: str) -> Contract | None:
        """Return an owner's contract about a shard, if there is one."""
        row = self._run(
            'SELECT contract FROM contracts WHERE data_hash = ? AND owner = ?',
            (data_hash, owner),
        ).fetchone()
        if row is None:
            return None
        try:
            return Contract.from_mapping(json.loads(row[0]))
        except (ValueError, ContractError) as error:
            raise StoreError('The contract record is damaged') from error

    def contract_size(self, data_hash: str, owner: str) -> int | None:
        """Return the bytes that an owner's contract about a shard speaks of, if there is one."""
        row = self._run(
            'SELECT data_size FROM contracts WHERE data_hash = ? AND owner = ?',
            (data_hash, owner),
        ).fetchone()
        return None if row is None else row[0]

    def set_tree(self, data_hash: str, owner: str, tree: Sequence[str]) -> None:
        """Keep the audit leaves that came after the contract."""
        self._run(
            'UPDATE contracts SET tree = ? WHERE data_hash = ? AND owner = ?',
            (json.dumps(list(tree)), data_hash, owner),
        )

    def tree(self, data_hash: str, owner: str) -> list[str] | None:
        """Return an owner's audit leaves of a shard, if it gave any."""
        row = self._run(
            'SELECT tree FROM contracts WHERE data_hash = ? AND owner = ?',
            (data_hash, owner),
        ).fetchone()
        if row is None or row[0] is None:
            return None
        leaves: list[str] = json.loads(row[0])
        return leaves

    def issue(self, data_hash: str, owner: str, lifetime: float) -> str:
        """Make a token for one transfer of a shard.

        Args:
            data_hash (str): the shard.
            owner (str): of the contract.
            lifetime (float): seconds.
        """
        token = secrets.token_hex(20)
        self._run(
            'INSERT INTO tokens VALUES (?, ?, ?, ?, 0)',
            (token, data_hash, owner, self._clock() + lifetime),
        )
        return token

    def token(self, token: str) -> FarmerToken | None:
        """Return a token that was issued and not deleted, expired or not."""
        row = self._run(
            'SELECT token, data_hash, owner, expires, busy FROM tokens WHERE token = ?',
            (token,),
        ).fetchone()
        return None if row is None else FarmerToken(row[0], row[1], row[2], row[3], bool(row[4]))

    def set_busy(self, token: str) -> None:
        """Mark a token as in use."""
        self._run('UPDATE tokens SET busy = 1 WHERE token = ?', (token,))

    def reject(self, token: str) -> None:
        """Delete a token."""
        self._run('DELETE FROM tokens WHERE token = ?', (token,))

    def promised(self, store: ShardStore, *, besides: str | None = None) -> int:
        """Return the bytes of shards that live tokens allow to be brought still.

        Args:
            store (ShardStore): what is there already is not promised any more.
            besides (str | None): hash of a shard to leave out.
        """
        rows = self._run(
            'SELECT DISTINCT contracts.data_hash, data_size FROM contracts'
            ' JOIN tokens ON tokens.data_hash = contracts.data_hash WHERE expires > ?',
            (self._clock(),),
        )
        return sum(
            size for data_hash, size in rows if data_hash != besides and data_hash not in store
        )

    def sweep(self, *, contracts: bool = True) -> Iterator[list[str]]:
        """Forget tokens and contracts that have expired, some at a time.

        Args:
            contracts (bool): whether contracts are forgotten too.

        Yields:
            list[str]: hashes of shards that no contract covers any more.
        """
        now = self._clock()
        self._run('DELETE FROM tokens WHERE expires < ?', (now,))
        end = int(now * 1000)
        while contracts and (
            ended := self._run(
                'SELECT data_hash, owner FROM contracts WHERE store_end < ? LIMIT ?', (end, SWEPT)
            ).fetchall()
        ):
            for key in ended:
                self._run('DELETE FROM contracts WHERE data_hash = ? AND owner = ?', key)
            yield [name for name in dict.fromkeys(row[0] for row in ended) if self._is_free(name)]

    def _is_free(self, data_hash: str) -> bool:
        """Tell whether no contract covers a shard."""
        covered = self._run('SELECT 1 FROM contracts WHERE data_hash = ? LIMIT 1', (data_hash,))
        return covered.fetchone() is None

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter that survives restarts; that it cannot be written is logged only."""
        try:
            self._run(
                'INSERT INTO counters VALUES (?, ?)'
                ' ON CONFLICT (name) DO UPDATE SET value = value + excluded.value',
                (name, amount),
            )
        except StoreError as error:
            logger.warning('%s is not counted: %s', name, error)

    def counters(self) -> dict[str, int]:
        """Return all counters by name."""
        return dict(self._run('SELECT name, value FROM counters'))


def _check_hash(data_hash: str) -> None:
    """Names of shards become names of files, so nothing else than a hash gets this far."""
    if not is_node_id(data_hash):
        raise ValueError('a shard hash has 40 hex characters')
