"""The database of a farmer: what it knows about its shards, in an SQLite file.

Contracts with their audit leaves, shards that it has accepted, those in quarantine, counters. The
shards themselves are in the store; tokens are in memory.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from storj.network.farmer.shard_store import Kind
from storj.network.farmer.store import NoSpaceLeftError, StoreError
from storj.network.node.contract import Contract, ContractError
from storj.network.node.group_sync import GroupSync
from storj.network.node.state_files import unusable
from storj.system import atomic_file

logger = logging.getLogger(__name__)

#: Contracts that are looked at in one go.
PAGE = 256

# Steps of a statement after which it is asked whether to go on.
_STEPS = 100_000
# Pages that are copied in one go, and seconds to wait while a transaction is open.
_STEP_PAGES = 256
_STEP_PAUSE = 0.01
# 1: knows which shards there are.
_VERSION = 1
#: In the words of SQLite.
SCHEMA = """
CREATE TABLE IF NOT EXISTS contracts (
    data_hash TEXT NOT NULL,
    owner TEXT NOT NULL,
    data_size INTEGER NOT NULL,
    store_end INTEGER NOT NULL,
    contract TEXT NOT NULL,
    tree TEXT,
    PRIMARY KEY (data_hash, owner)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS contracts_by_end ON contracts (store_end);
-- What was taken and is to be found in the store.
CREATE TABLE IF NOT EXISTS shards (
    data_hash TEXT PRIMARY KEY,
    size INTEGER NOT NULL
) WITHOUT ROWID;
-- What was moved out of the store; `waits` are seconds of running until it is removed.
CREATE TABLE IF NOT EXISTS quarantine (
    data_hash TEXT NOT NULL,
    kind TEXT NOT NULL,
    waits REAL NOT NULL,
    PRIMARY KEY (data_hash, kind)
) WITHOUT ROWID;
-- Shards that were found bad or missing, until the bridge knows.
CREATE TABLE IF NOT EXISTS bad (
    data_hash TEXT PRIMARY KEY,
    reason TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notes (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
"""

# In the words that SQLite and PostgreSQL share.
_PUT_SHARD = (
    'INSERT INTO shards VALUES (?, ?) ON CONFLICT (data_hash) DO UPDATE SET size = excluded.size'
)
_PUT_BAD = (
    'INSERT INTO bad VALUES (?, ?) ON CONFLICT (data_hash) DO UPDATE SET reason = excluded.reason'
)
_PUT_QUARANTINE = (
    'INSERT INTO quarantine VALUES (?, ?, ?)'
    ' ON CONFLICT (data_hash, kind) DO UPDATE SET waits = excluded.waits'
)
_PUT_NOTE = (
    'INSERT INTO notes VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value'
)

#: End in milliseconds and hash of a contract.
Place = tuple[int, str]

_FIRST: Place = (-1, '')


@dataclass(frozen=True)
class Ended:
    """A shard of which every contract has ended, by the clock of the caller.

    Attributes:
        data_hash (str): the shard.
        owners (tuple[str, ...]): of its contracts.
        end (int): of the last of them, milliseconds since 1970.
        held (bool): whether the farmer has it; a contract may have come to nothing.
    """

    data_hash: str
    owners: tuple[str, ...]
    end: int
    held: bool


@dataclass(frozen=True)
class Quarantined:
    """A shard that was moved out of the store.

    Attributes:
        data_hash (str): 40 hex characters.
        kind (Kind): ``ended`` if nobody needs it, ``bad`` if its bytes are wrong.
    """

    data_hash: str
    kind: Kind


class FarmerIndex:
    """The index of one farmer; used from one thread.

    Each change is committed at once; :meth:`synced` waits until it would survive a power failure.
    Where the file cannot be read or takes nothing more, any method raises :class:`StoreError`.

    Args:
        path (Path): the SQLite file.
        durable (bool): whether :meth:`synced` waits for the disk.
        workers (Executor | None): threads that wait for the disk.
        stopped (Callable[[], bool]): asked now and then whether to give the opening up.

    Raises:
        LostStateError: If the file is damaged, or none of ours.
        BarredStateError: If it cannot be opened now.
    """

    def __init__(
        self,
        path: Path,
        *,
        durable: bool = True,
        workers: Executor | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._start_counting(GroupSync(path, workers) if durable else None)
        self._copying = threading.Lock()
        try:
            # Contracts lie in it, so it is readable by its owner only.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._db.set_progress_handler(stopped, _STEPS)
                self._prepare()
                self._db.set_progress_handler(None, 0)
            except BaseException:
                self._db.close()
                raise
            if durable:
                atomic_file.sync_folder(path.parent)
        except (sqlite3.Error, OSError) as error:
            raise unusable(path, error) from error

    def _start_counting(self, sync: GroupSync | None = None) -> None:
        self._counted: Counter[str] = Counter()
        self._saved: Counter[str] | None = None
        # Makes commits survive a power failure, if they do not by themselves.
        self._sync = sync

    def _prepare(self) -> None:
        # One process has it, so that no memory of several is needed, which is a file on the disk.
        self._db.execute('PRAGMA locking_mode=EXCLUSIVE')
        self._db.execute('PRAGMA journal_mode=WAL')
        self._db.execute('PRAGMA synchronous=NORMAL')
        tables = {name for (name,) in self._db.execute('SELECT name FROM sqlite_master')}
        if not {'contracts', 'shards', 'quarantine', 'bad', 'counters', 'notes'} <= tables:
            # In one transaction: seven would take longer, and a kill would leave some of it.
            self._db.executescript(f'BEGIN; {SCHEMA} COMMIT;')
        if 'tokens' in tables:
            # Of earlier versions; they live in memory now.
            self._db.execute('DROP TABLE tokens')
        (verdict,) = self._db.execute('PRAGMA quick_check(1)').fetchone()
        if verdict != 'ok':
            raise sqlite3.DatabaseError(verdict)

    def close(self) -> None:
        """Write down what was counted, and close the file."""
        self.save_counters()
        with self._copying:
            self._db.close()

    def copy_to(self, target: Path) -> None:
        """Copy the file as it is at one moment, in any thread; the index may be used meanwhile.

        Args:
            target (Path): an empty database.

        Raises:
            StoreError: If it cannot be written.
        """
        try:
            with self._copying, closing(sqlite3.connect(target)) as copy:
                # Some pages at a time. What this connection commits in between is changed in the
                # copy as well, and no step is taken within a transaction.
                self._db.backup(copy, pages=_STEP_PAGES, sleep=_STEP_PAUSE)
        except sqlite3.Error as error:
            raise _out_of_order(error) from error

    async def synced(self) -> None:
        """Return when all changes so far are on the disk; at once if the index is not durable.

        Raises:
            StoreError: If the disk refuses.
        """
        if self._sync is None:
            return
        try:
            await self._sync.wait()
        except OSError as error:
            raise StoreError(f'The index cannot be written: {error.strerror}') from error

    def _run(self, statement: str, values: Sequence[object] = ()) -> object:
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise _out_of_order(error) from error

    def _rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise _out_of_order(error) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run('BEGIN IMMEDIATE')
        try:
            yield
            self._run('COMMIT')
        except BaseException:
            if self._db.in_transaction:
                self._db.rollback()
            raise

    # ------------------------------------------------------------- contracts

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
            ' tree = coalesce(excluded.tree, contracts.tree)',
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
        row = self._of_contract('contract', data_hash, owner)
        if row is None:
            return None
        try:
            return Contract.from_mapping(json.loads(_text(row[0])))
        except (ValueError, RecursionError, ContractError) as error:
            raise StoreError('The contract record is damaged') from error

    def contract_size(self, data_hash: str, owner: str) -> int | None:
        """Return the bytes that an owner's contract about a shard speaks of, if there is one."""
        row = self._of_contract('data_size', data_hash, owner)
        return None if row is None else _count(row[0])

    def set_tree(self, data_hash: str, owner: str, tree: Sequence[str]) -> None:
        """Keep the audit leaves that came after the contract."""
        self._run(
            'UPDATE contracts SET tree = ? WHERE data_hash = ? AND owner = ?',
            (json.dumps(list(tree)), data_hash, owner),
        )

    def tree(self, data_hash: str, owner: str) -> list[str] | None:
        """Return an owner's audit leaves of a shard, if it gave any."""
        row = self._of_contract('tree', data_hash, owner)
        if row is None or row[0] is None:
            return None
        try:
            leaves = json.loads(_text(row[0]))
        except (ValueError, RecursionError) as error:
            raise StoreError('The contract record is damaged') from error
        if not isinstance(leaves, list) or not all(isinstance(leaf, str) for leaf in leaves):
            raise StoreError('The contract record is damaged')
        return leaves

    def _of_contract(self, column: str, data_hash: str, owner: str) -> tuple[object, ...] | None:
        rows = self._rows(
            f'SELECT {column} FROM contracts WHERE data_hash = ? AND owner = ?',  # noqa: S608
            (data_hash, owner),
        )
        return rows[0] if rows else None

    def ended(self, now: float, after: Place = _FIRST) -> tuple[list[Ended], Place | None]:
        """Return shards without a contract that lasts, among the next :data:`PAGE` contracts.

        Args:
            now (float): seconds since 1970.
            after (Place): where the page before ended.

        Returns:
            tuple[list[Ended], Place | None]: the shards, and where this page ends; None if it is
            the last one.
        """
        rows = self._rows(
            'SELECT store_end, data_hash FROM contracts'
            ' WHERE store_end < ? AND (store_end, data_hash) > (?, ?)'
            ' ORDER BY store_end, data_hash LIMIT ?',
            (int(now * 1000), *after, PAGE),
        )
        # Several owners may have a contract for one shard: the last one to end decides.
        names = dict.fromkeys(_text(name) for _, name in rows)
        found = [shard for shard in map(self.state, names) if shard.end < now * 1000]
        last = (_count(rows[-1][0]), _text(rows[-1][1])) if len(rows) == PAGE else None
        return [shard for shard in found if not self._is_quarantined(shard.data_hash)], last

    def state(self, data_hash: str) -> Ended:
        """Return what is known of a shard and of its contracts, ended or not."""
        contracts = self._rows(
            'SELECT owner, store_end FROM contracts WHERE data_hash = ?', (data_hash,)
        )
        return Ended(
            data_hash,
            tuple(_text(owner) for owner, _ in contracts),
            max((_count(end) for _, end in contracts), default=0),
            bool(self._rows('SELECT 1 FROM shards WHERE data_hash = ?', (data_hash,))),
        )

    def _is_quarantined(self, data_hash: str) -> bool:
        return bool(
            self._rows(
                "SELECT 1 FROM quarantine WHERE data_hash = ? AND kind = 'ended'", (data_hash,)
            )
        )

    def uncovered(self) -> list[Ended]:
        """Return the shards that no contract speaks of; they come of a crash or a backup."""
        rows = self._rows(
            'SELECT data_hash FROM shards WHERE NOT EXISTS'
            ' (SELECT 1 FROM contracts WHERE contracts.data_hash = shards.data_hash)'
        )
        return [Ended(_text(name), (), 0, held=True) for (name,) in rows]

    def forget_contracts(self, data_hash: str) -> None:
        """Forget all contracts about a shard that is not held."""
        self._run('DELETE FROM contracts WHERE data_hash = ?', (data_hash,))

    # ------------------------------------------------------------- shards

    def shards(self) -> dict[str, int] | None:
        """Return bytes by hash of what is to be found in the store; None if that is not known yet.

        It is not in a folder that an earlier version made, until :meth:`adopt`.
        """
        if not self._knows_shards():
            return None
        return {
            _text(name): _count(size)
            for name, size in self._rows('SELECT data_hash, size FROM shards')
        }

    def _knows_shards(self) -> bool:
        ((version,),) = self._rows('PRAGMA user_version')
        return version == _VERSION

    def _know_shards(self) -> None:
        self._run(f'PRAGMA user_version = {_VERSION}')

    def adopt(self, shards: Mapping[str, int]) -> None:
        """Take note of shards that are in the store."""
        with self._transaction():
            for item in shards.items():
                self._run(_PUT_SHARD, item)
            self._know_shards()

    def stored(self, data_hash: str, size: int) -> None:
        """Take note of a shard that is in the store from now on."""
        with self._transaction():
            self._run(_PUT_SHARD, (data_hash, size))
            self._run('DELETE FROM bad WHERE data_hash = ?', (data_hash,))

    def lost(self, data_hash: str, reason: str, *, waits: float | None) -> None:
        """Take note of a shard that is missing or wrong, until the bridge knows.

        Args:
            data_hash (str): 40 hex characters.
            reason (str): what is wrong.
            waits (float | None): seconds until what is left of it is removed; None if nothing is.
        """
        with self._transaction():
            self._run('DELETE FROM shards WHERE data_hash = ?', (data_hash,))
            self._run(_PUT_BAD, (data_hash, reason))
            if waits is not None:
                self._quarantine(data_hash, 'bad', waits)

    def bad(self) -> list[tuple[str, str]]:
        """Return some of the shards that the bridge is to be told of, with what is wrong."""
        rows = self._rows('SELECT data_hash, reason FROM bad LIMIT ?', (PAGE,))
        return [(_text(name), _text(reason)) for name, reason in rows]

    def told(self, names: Iterable[str]) -> None:
        """Forget which shards were bad: the bridge knows."""
        with self._transaction():
            for name in names:
                self._run('DELETE FROM bad WHERE data_hash = ?', (name,))

    # ------------------------------------------------------------- the quarantine

    def dropped(self, data_hash: str, waits: float) -> None:
        """Take note of a shard that was moved out of the store because nobody needs it.

        Args:
            data_hash (str): 40 hex characters.
            waits (float): seconds until it is removed.
        """
        with self._transaction():
            self._run('DELETE FROM shards WHERE data_hash = ?', (data_hash,))
            self._quarantine(data_hash, 'ended', waits)

    def _quarantine(self, data_hash: str, kind: Kind, waits: float) -> None:
        self._run(_PUT_QUARANTINE, (data_hash, kind, waits))

    def taken_back(self, data_hash: str, size: int) -> None:
        """Take note of a shard that is back in the store."""
        with self._transaction():
            self._run("DELETE FROM quarantine WHERE data_hash = ? AND kind = 'ended'", (data_hash,))
            self._run(_PUT_SHARD, (data_hash, size))

    def wait(self, seconds: float) -> list[Quarantined]:
        """Let the quarantine wait for some seconds less; return what waits no longer.

        Args:
            seconds (float): for which the farmer has been running, by a clock that nobody sets.
        """
        # Nothing is written, and the disk may sleep, while the quarantine is empty.
        if self._rows('SELECT 1 FROM quarantine LIMIT 1'):
            self._run('UPDATE quarantine SET waits = waits - ?', (seconds,))
        rows = self._rows(
            'SELECT data_hash, kind FROM quarantine WHERE waits <= 0 LIMIT ?', (PAGE,)
        )
        return [_quarantined(name, kind) for name, kind in rows]

    def removed(self, shard: Quarantined, *, contracts: bool) -> None:
        """Take note that what was in quarantine is gone, and its contracts with it if they are."""
        with self._transaction():
            self._run(
                'DELETE FROM quarantine WHERE data_hash = ? AND kind = ?',
                (shard.data_hash, shard.kind),
            )
            if contracts:
                self.forget_contracts(shard.data_hash)

    def quarantined(self) -> list[tuple[Quarantined, int]]:
        """Return what is in quarantine, with the bytes that its contracts speak of."""
        rows = self._rows(
            'SELECT data_hash, kind, coalesce((SELECT max(data_size) FROM contracts'
            ' WHERE contracts.data_hash = quarantine.data_hash), 0) FROM quarantine'
        )
        return [(_quarantined(name, kind), _count(size)) for name, kind, size in rows]

    def agree_quarantine(self, there: Collection[tuple[str, Kind]], waits: float) -> None:
        """Know of what is in quarantine, and of nothing else.

        Args:
            there (Collection[tuple[str, Kind]]): hash and kind of each.
            waits (float): seconds until those are removed that were not known.
        """
        known = {
            (_text(name), _text(kind))
            for name, kind in self._rows('SELECT data_hash, kind FROM quarantine')
        }
        with self._transaction():
            for key in known - set(there):
                self._run('DELETE FROM quarantine WHERE data_hash = ? AND kind = ?', key)
            for key in set(there) - known:
                self._run('INSERT INTO quarantine VALUES (?, ?, ?)', (*key, waits))

    # ------------------------------------------------------------- the rest

    def note(self, name: str) -> str | None:
        """Return what was kept by :meth:`set_note`."""
        rows = self._rows('SELECT value FROM notes WHERE name = ?', (name,))
        return _text(rows[0][0]) if rows else None

    def set_note(self, name: str, value: str) -> None:
        """Keep a short text by a name."""
        self._run(_PUT_NOTE, (name, value))

    def probe(self) -> None:
        """Write something, to find out whether that is possible.

        Raises:
            StoreError: If it is not.
        """
        if self._sync is not None and self._sync.failure is not None:
            raise StoreError('The index cannot be written') from self._sync.failure
        self.set_note('probe', '')

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter; :meth:`save_counters` writes it down."""
        self._counted[name] += amount

    def save_counters(self) -> None:
        """Write the counters down; that this fails is logged only, and tried again."""
        if not self._counted:
            return
        try:
            with self._transaction():
                for item in self._counted.items():
                    self._run(
                        'INSERT INTO counters VALUES (?, ?)'
                        ' ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value',
                        item,
                    )
        except StoreError as error:
            logger.warning('the counters are not written down: %s', error)
        else:
            self._saved = None
            self._counted.clear()

    def counters(self) -> dict[str, int]:
        """Return all counters by name, as far as they can be read."""
        return dict(self._read_counters() + self._counted)

    def _read_counters(self) -> Counter[str]:
        """Return what is written down; nobody else writes it."""
        if self._saved is None:
            try:
                rows = self._rows('SELECT name, value FROM counters')
            except StoreError as error:
                logger.warning('the counters cannot be read: %s', error)
                return Counter()
            self._saved = Counter({_text(name): _count(value) for name, value in rows})
        return self._saved


def _quarantined(name: object, kind: object) -> Quarantined:
    return Quarantined(_text(name), 'bad' if kind == 'bad' else 'ended')


def _text(value: object) -> str:
    """Return a text of the file; damage may have made it anything."""
    if not isinstance(value, str):
        raise StoreError('A record of the index is damaged')
    return value


def _count(value: object) -> int:
    if not isinstance(value, int):
        raise StoreError('A record of the index is damaged')
    return value


def _out_of_order(error: sqlite3.Error) -> StoreError:
    if getattr(error, 'sqlite_errorname', '') == 'SQLITE_FULL' or 'is full' in str(error):
        return NoSpaceLeftError('No space left for the index')
    return StoreError(f'The index is out of order: {error}')
